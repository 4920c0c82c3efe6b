//! What may wait for one reader, and for all of them together.

use moda_core::hub::{Action, Config, ConnKey, Policy, Silence};

use crate::frames::{text, Frame};
use crate::slow::LAST;
use crate::world::{World, WHOLE};

const STALL_MS: u64 = 10_000;

fn blocked_in(config: Config) -> (World, ConnKey) {
    let mut world = World::new(config);
    let conn = world.subscriber("a");
    world.block(conn);
    (world, conn)
}

// -- one reader

const BURSTS: Config = Config {
    outbox_bytes: 4096,
    outbox_burst: 100_000,
    stall_ms: STALL_MS,
    ..WHOLE
};

#[test]
fn a_reader_that_reads_has_all_of_a_burst_many_times_its_budget() {
    let (mut world, conn) = blocked_in(BURSTS);
    let said: Vec<String> = (0..90).map(|n| format!("{n:01000}")).collect();
    for text in &said {
        world.say("a", text);
        world.turn();
    }
    assert!(world.slow.is_empty());
    let mut expected = vec![LAST.to_owned()];
    expected.extend(said);
    assert_eq!(world.texts_to_the_end(conn), expected);
}

#[test]
fn a_burst_past_the_ceiling_closes_even_one_that_reads() {
    let (mut world, conn) = blocked_in(BURSTS);
    let long = "x".repeat(1000);
    while world.slow.is_empty() {
        world.say("a", &long);
        world.turn();
        assert!(world.hub.stats.outbox_bytes <= 100_000 + 1004);
    }
    assert_eq!(world.slow, [conn]);
}

#[test]
fn one_that_has_taken_nothing_for_the_time_of_a_stall_has_the_least_budget() {
    let (mut world, conn) = blocked_in(BURSTS);
    let long = "x".repeat(5000);
    world.say("a", &long);
    world.turn();
    world.hub.set_now(STALL_MS - 1);
    world.say("a", "one more");
    world.turn();
    assert!(world.slow.is_empty());
    world.hub.set_now(STALL_MS);
    world.say("a", "one too many");
    world.turn();
    assert_eq!(world.slow, [conn]);
    assert_eq!(
        world.frames_to_the_end(conn),
        [text(LAST), Frame::Close(1013, "slow reader".to_owned())]
    );
}

#[test]
fn a_stall_is_found_although_nothing_more_comes_for_the_reader() {
    let (mut world, conn) = blocked_in(BURSTS);
    let patient = world.subscriber("b");
    world.block(patient);
    let long = "x".repeat(5000);
    world.say("a", &long);
    world.say("b", "within the budget");
    world.turn();
    world.hub.set_now(STALL_MS);
    world.sweep(Silence::default());
    world.turn();
    assert_eq!(world.slow, [conn]);
}

#[test]
fn whatever_is_taken_starts_the_time_of_a_stall_again() {
    let (mut world, conn) = blocked_in(BURSTS);
    let long = "x".repeat(5000);
    for round in 1..5 {
        world.say("a", &long);
        world.say("a", &long);
        world.turn();
        world.hub.set_now(round * (STALL_MS - 1));
        world.sweep(Silence::default());
        world.turn();
        world.read_again(conn);
        world.stall(conn);
        world.turn();
    }
    assert!(world.slow.is_empty());
}

// -- all of them

fn crowd(config: Config, count: usize) -> (World, Vec<ConnKey>) {
    let mut world = World::new(config);
    let conns: Vec<_> = (0..count).map(|_| world.subscriber("a")).collect();
    for conn in &conns {
        world.block(*conn);
    }
    (world, conns)
}

const TOTAL: Config = Config {
    outboxes_bytes: 80_000,
    ..WHOLE
};

#[test]
fn past_the_budget_of_all_those_go_that_are_owed_most_and_no_more_than_needed() {
    let (mut world, conns) = crowd(TOTAL, 10);
    for (n, conn) in conns.iter().enumerate() {
        let owed = "x".repeat(2_000 * (n + 1));
        world.tell(*conn, &owed);
        world.turn();
        assert!(world.hub.outboxes_bytes() <= 80_000 + 22_000);
    }
    // 2, 4, ... kilobytes: the ninth makes it 90, and an eighth is free again at 70: two must go,
    // of 18 and of 16. Then the tenth fits.
    let mut slow = world.slow.clone();
    slow.sort_unstable();
    assert_eq!(slow, [conns[7], conns[8]]);
    assert_eq!(world.hub.stats.budget_closed, 2);
    assert_eq!(world.hub.stats.slow_closed, 2);
    assert!(world.hub.outboxes_bytes() <= 80_000);
    for conn in conns {
        let frames = world.frames_to_the_end(conn);
        assert_eq!(frames.len(), 2);
    }
    assert!(world.hub.outboxes_bytes() < 100, "what stays is nobody's");
}

#[test]
fn a_broadcast_that_waits_for_a_crowd_costs_what_one_copy_of_it_costs() {
    let (mut world, conns) = crowd(TOTAL, 100);
    for n in 0..20 {
        world.say("a", &format!("{n:01000}"));
        world.turn();
    }
    assert_eq!(world.hub.stats.slow_closed, 0);
    assert!(
        world.hub.stats.outbox_bytes > 2_000_000,
        "a hundred times twenty"
    );
    assert!(world.hub.outboxes_bytes() > 20_000);
    assert!(world.hub.outboxes_bytes() < 80_000 + 20_000);
    for conn in conns {
        world.remove(conn);
    }
    world.turn();
    assert_eq!(world.hub.outboxes_bytes(), 0);
}

#[test]
fn places_in_outboxes_count_too_and_closing_those_who_hold_them_frees_them() {
    let (mut world, conns) = crowd(TOTAL, 100);
    let mut said = 0;
    while world.slow.is_empty() {
        world.say("a", "small");
        world.turn();
        said += 1;
        assert!(said < 1000);
    }
    assert!(world.slow.len() < conns.len() / 2);
    assert!(world.hub.outboxes_bytes() <= 80_000);
}

#[test]
fn bytes_that_a_transport_holds_are_owed_until_it_is_rid_of_them() {
    let mut world = World::new(TOTAL);
    let conn = world.connect();
    world.join_with(conn, "a", Policy::default(), None);
    world.stall(conn);
    let long = "x".repeat(50_000);
    world.tell(conn, &long);
    world.turn();
    assert_eq!(world.hub.stats.outbox_bytes, 0);
    assert_eq!(world.hub.outboxes_bytes(), 50_004);
    world.read_again(conn);
    assert_eq!(world.hub.outboxes_bytes(), 0);
    world.stall(conn);
    world.tell(conn, &long);
    world.turn();
    world.remove(conn);
    assert_eq!(world.hub.outboxes_bytes(), 0);
}

#[test]
fn what_transports_hold_of_readers_that_only_miss_messages_is_bounded_too() {
    let mut world = World::new(TOTAL);
    let conns: Vec<_> = (0..20).map(|_| world.connect()).collect();
    for conn in &conns {
        world.join_with(*conn, "a", Policy::default(), None);
        world.stall(*conn);
    }
    let long = "x".repeat(10_000);
    for conn in &conns {
        world.tell(*conn, &long);
        world.turn();
        assert!(world.hub.outboxes_bytes() <= 80_000);
    }
    let closed = world.slow.len();
    assert!((5..=14).contains(&closed), "{closed}: no more than needed");
    assert_eq!(world.hub.stats.budget_closed, closed as u64);
}

#[test]
fn a_reader_whose_transport_holds_much_is_cut_and_not_waited_for() {
    let mut world = World::new(Config {
        outboxes_bytes: 1_000_000,
        ..WHOLE
    });
    let (conn, other) = (world.connect(), world.connect());
    world.stall(conn);
    let long = "x".repeat(600_000);
    world.tell(conn, &long);
    world.turn();
    assert!(world.actions.is_empty());
    world.block(other);
    world.tell(other, &long[..500_000]);
    world.turn();
    assert_eq!(world.slow, [conn]);
    assert_eq!(world.actions, [Action::Abort(conn)]);
    assert!(world.hub.outboxes_bytes() < 501_000);
}
