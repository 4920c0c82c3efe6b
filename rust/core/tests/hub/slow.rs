//! Readers that do not read: what each delivery policy gives them, and what it costs. What
//! `Delivery::Latest` gives is told in `latest`.

use moda_core::hub::{Config, ConnKey, Delivery, Policy};

use crate::frames::{text, Frame};
use crate::world::{closing, intercepting, message, World, SLICED, WHOLE};

pub const LAST: &str = "last before the block";

pub const LATEST: Policy = policy(Delivery::Latest);
const DROP: Policy = policy(Delivery::Drop);

const fn policy(delivery: Delivery) -> Policy {
    Policy {
        delivery,
        key: None,
        history: None,
        durable: false,
    }
}

/// A world with one blocked subscriber of "a" and one that reads.
pub fn blocked(policy: Policy) -> (World, ConnKey, ConnKey) {
    blocked_in(WHOLE, policy)
}

pub fn blocked_in(config: Config, policy: Policy) -> (World, ConnKey, ConnKey) {
    let mut world = World::new(config);
    let (slow, quick) = (world.connect(), world.connect());
    world.join_with(slow, "a", policy.clone(), None);
    world.join_with(quick, "a", policy, None);
    world.block(slow);
    (world, slow, quick)
}

pub fn price(world: &mut World, key: &str, text: &str) {
    world.publish(&message("a", text).key(key));
}

// -- every

#[test]
fn every_message_waits_for_a_reader_within_its_budget() {
    let (mut world, slow, quick) = blocked(Policy::default());
    let said: Vec<String> = (0..500).map(|n| format!("{n}")).collect();
    for text in &said {
        world.say("a", text);
        world.turn();
    }
    world.tell(slow, "and this");
    assert!(world.frames(slow).is_empty());
    assert_eq!(world.texts(quick), said);
    let mut expected = vec![LAST.to_owned()];
    expected.extend(said);
    expected.push("and this".to_owned());
    assert_eq!(world.texts_to_the_end(slow), expected);
    assert_eq!(world.hub.stats.outbox_bytes, 0);
    assert_eq!(world.hub.stats.slow_closed, 0);
}

#[test]
fn a_reader_over_budget_is_closed_to_come_back_and_its_memory_is_freed() {
    let config = Config {
        outbox_bytes: 4096,
        ..WHOLE
    };
    let (mut world, slow, quick) = blocked_in(config, Policy::default());
    let said: Vec<String> = (0..20).map(|n| format!("{n:0500}")).collect();
    for text in &said {
        world.say("a", text);
        world.turn();
        assert!(world.hub.stats.outbox_bytes <= 4096 + 504);
    }
    assert_eq!(world.slow, [slow]);
    assert_eq!(world.hub.stats.slow_closed, 1);
    assert_eq!(world.hub.stats.closes(), [(1013, 1)]);
    assert!(world.hub.stats.outbox_bytes < 20, "the close frame alone");
    assert_eq!(world.texts(quick), said);
    assert_eq!(
        world.frames_to_the_end(slow),
        [text(LAST), Frame::Close(1013, "slow reader".to_owned())]
    );
    assert_eq!(world.hub.stats.outbox_bytes, 0);
    world.remove(slow);
    assert_eq!(world.hub.topic_by_name("a").unwrap().subscribers(), 1);
}

#[test]
fn a_reader_over_budget_is_sent_nothing_behind_the_gap() {
    let config = Config {
        outbox_bytes: 1000,
        ..WHOLE
    };
    let (mut world, slow, _) = blocked_in(config, Policy::default());
    let long = "x".repeat(1000);
    world.tell(slow, "too much for one");
    world.tell(slow, &long);
    // The driver has not come to closing it yet, and more happens meanwhile.
    world.tell(slow, "behind the gap");
    world.beat(slow, "behind the gap");
    world.say("a", "behind the gap");
    world.hub.flush();
    assert!(!world.hub.conn(slow).unwrap().is_open());
    world.carry_out();
    assert_eq!(world.hub.stats.outbox_bytes, 2 + 2 + "slow reader".len());
    assert_eq!(world.slow, [slow], "given up once");
    assert_eq!(
        world.frames_to_the_end(slow),
        [text(LAST), Frame::Close(1013, "slow reader".to_owned())]
    );
}

#[test]
fn frames_for_one_count_against_the_budget_as_broadcasts_do() {
    let config = Config {
        outbox_bytes: 1000,
        ..WHOLE
    };
    let (mut world, slow, _) = blocked_in(config, DROP);
    for _ in 0..200 {
        world.beat(slow, "unread");
    }
    world.turn();
    assert_eq!(world.slow, [slow]);
}

#[test]
fn a_close_said_to_a_slow_reader_goes_out_whatever_its_budget() {
    let config = Config {
        outbox_bytes: 1000,
        ..WHOLE
    };
    let (mut world, slow, _) = blocked_in(config, Policy::default());
    let almost = "x".repeat(980);
    world.tell(slow, &almost);
    world
        .hub
        .close(slow, 1012, false, closing(1012, "restart, come back"));
    world.turn();
    assert!(world.slow.is_empty());
    assert_eq!(
        world.frames_to_the_end(slow),
        [
            text(LAST),
            text(almost),
            Frame::Close(1012, "restart, come back".to_owned())
        ]
    );
}

#[test]
fn one_who_was_given_up_and_is_gone_is_not_reported_any_more() {
    let config = Config {
        outbox_bytes: 1000,
        ..WHOLE
    };
    let (mut world, slow, quick) = blocked_in(config, Policy::default());
    world.block(quick);
    let long = "x".repeat(1001);
    world.tell(slow, &long);
    world.tell(quick, &long);
    world.hub.remove(slow);
    assert_eq!(world.hub.take_slow(), [quick]);
    assert!(world.hub.take_slow().is_empty());
}

#[test]
fn what_readers_over_budget_had_waiting_is_let_go_over_several_slices() {
    let mut world = World::new(Config {
        outbox_bytes: 50_000,
        ..SLICED
    });
    let slow: Vec<_> = (0..10).map(|_| world.subscriber("a")).collect();
    for conn in &slow {
        world.block(*conn);
    }
    let mut said = 0;
    while world.slow.is_empty() {
        said += 1;
        world.say("a", &format!("{said:040}"));
        world.slice();
    }
    assert_eq!(world.slow, slow);
    let mut slices = 0;
    while world.slice() {
        slices += 1;
    }
    let parts = said / 256 * slow.len();
    assert!(slices >= parts / 2, "{slices} slices for {parts} parts");
}

#[test]
fn a_burst_over_budget_is_no_fault_of_a_reader_that_takes_it() {
    let config = Config {
        outbox_bytes: 4096,
        ..WHOLE
    };
    let mut world = World::new(config);
    let conn = world.subscriber("a");
    world.join(conn, "b");
    let said: Vec<String> = (0..40).map(|n| format!("{n:0500}")).collect();
    for (n, text) in said.iter().enumerate() {
        world.say(["a", "b"][n % 2], text);
    }
    world.turn();
    assert!(world.slow.is_empty());
    assert_eq!(world.texts(conn), said);
}

#[test]
fn a_burst_over_budget_on_a_latest_or_drop_topic_closes_nobody() {
    for policy in [LATEST, DROP] {
        let config = Config {
            outbox_bytes: 100_000,
            ..WHOLE
        };
        let mut world = World::new(config);
        let conn = world.connect_socket();
        world.join_with(conn, "a", policy.clone(), None);
        world.join(conn, "b");
        for n in 0..500 {
            price(&mut world, "x", &format!("{n:01000}"));
            if n % 50 == 0 {
                world.say("b", "between");
            }
        }
        world.turn();
        assert!(world.slow.is_empty(), "{policy:?}");
        let got = world.texts_to_the_end(conn);
        assert_eq!(got.iter().filter(|text| *text == "between").count(), 10);
        let stats = &world.hub.stats;
        let unheard = stats.conflated + stats.dropped;
        assert!(unheard > 0, "{policy:?}");
        assert_eq!(got.len() as u64 + unheard, 510);
        assert_eq!(stats.deliveries, got.len() as u64);
    }
}

// -- a healthy reader behind a transport (TLS) is not taken for a slow one

#[test]
fn all_that_a_turn_brings_goes_to_a_transport_in_one_write() {
    let mut world = World::new(WHOLE);
    let conn = world.subscriber("a");
    world.beat(conn, "beat");
    world.say("a", "1");
    world.say("a", "2");
    world.hub.flush();
    let (key, bytes) = world.hub.next_write().unwrap();
    assert_eq!(key, conn);
    assert_eq!(bytes, b"\x81\x04beat\x81\x011\x81\x012");
    assert_eq!(world.hub.next_write(), None);
    assert_eq!(world.hub.stats.sends, 1);
}

#[test]
fn a_heartbeat_in_the_same_turn_costs_a_reader_no_message_of_a_drop_or_latest_topic() {
    for policy in [DROP, LATEST] {
        let mut world = World::new(WHOLE);
        let conn = world.connect();
        world.join_with(conn, "a", policy.clone(), None);
        world.join_with(conn, "b", policy.clone(), None);
        world.beat(conn, "beat");
        for topic in ["a", "b", "a"] {
            world.say(topic, topic);
        }
        world.turn();
        assert_eq!(world.texts(conn), ["beat", "a", "b", "a"], "{policy:?}");
        assert_eq!(world.hub.stats.dropped + world.hub.stats.conflated, 0);
    }
}

// -- drop

#[test]
fn drop_leaves_out_what_a_blocked_reader_cannot_take_and_counts_it() {
    let (mut world, slow, quick) = blocked(DROP);
    for n in 1..=5 {
        world.say("a", &format!("{n}"));
        world.turn();
    }
    world.tell(slow, "for you alone");
    world.say("a", "6");
    world.turn();
    assert_eq!(world.hub.stats.dropped, 6);
    world.read_again(slow);
    world.say("a", "7");
    world.turn();
    assert_eq!(world.texts_to_the_end(slow), [LAST, "for you alone", "7"]);
    assert_eq!(world.texts(quick).len(), 7);
    let stats = &world.hub.stats;
    assert_eq!((stats.dropped, stats.conflated), (6, 0));
    assert_eq!((stats.deliveries, stats.outbox_bytes), (7 + 1, 0));
}

#[test]
fn drop_counts_nothing_that_was_not_for_the_reader() {
    let mut world = World::new(WHOLE);
    let slow = world.connect();
    let sub = world.join_with(slow, "a", DROP, Some(intercepting(&["secret"])));
    world.block(slow);
    world.publish(&message("a", "mine").from(sub));
    world.publish(&message("a", "hidden").event("secret"));
    world.turn();
    assert_eq!(world.hub.stats.dropped, 0);
}
