//! Readers that do not read: what each delivery policy gives them, and what it costs.

use moda_core::hub::{Codec, Config, ConnKey, Delivery, Policy};

use crate::frames::{text, Frame};
use crate::world::{intercepting, message, World, WHOLE};

const LAST: &str = "last before the block";

const LATEST: Policy = policy(Delivery::Latest);
const DROP: Policy = policy(Delivery::Drop);

const fn policy(delivery: Delivery) -> Policy {
    Policy {
        delivery,
        history: None,
    }
}

/// A world with one blocked subscriber of "a" and one that reads.
fn blocked(policy: Policy) -> (World, ConnKey, ConnKey) {
    blocked_in(WHOLE, policy)
}

fn blocked_in(config: Config, policy: Policy) -> (World, ConnKey, ConnKey) {
    let mut world = World::new(config);
    let (slow, quick) = (world.connect(), world.connect());
    world.join_with(slow, "a", policy, None);
    world.join_with(quick, "a", policy, None);
    world.block(slow);
    (world, slow, quick)
}

fn price(world: &mut World, key: &str, text: &str) {
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
    world.hub.close(slow, 1012, "restart, come back", false);
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

// -- latest

#[test]
fn latest_gives_a_reader_that_comes_back_the_newest_of_each_key_in_their_order() {
    let (mut world, slow, quick) = blocked(LATEST);
    for n in 1..=3 {
        for key in ["x", "y", "z"] {
            price(&mut world, key, &format!("{key}{n}"));
            world.turn();
        }
    }
    price(&mut world, "x", "x4");
    world.turn();
    assert!(world.frames(slow).is_empty());
    world.read_again(slow);
    assert_eq!(world.texts_to_the_end(slow), [LAST, "y3", "z3", "x4"]);
    assert_eq!(world.texts(quick).len(), 10);
    let stats = &world.hub.stats;
    assert_eq!((stats.conflated, stats.deliveries), (7, 10 + 3));
    assert_eq!((stats.dropped, stats.outbox_bytes), (0, 0));
}

#[test]
fn latest_goes_by_the_event_where_a_message_has_no_key() {
    let (mut world, slow, _) = blocked(LATEST);
    for n in 1..=3 {
        world.publish(&message("a", &format!("up{n}")).event("up"));
        world.publish(&message("a", &format!("down{n}")).event("down"));
    }
    world.turn();
    assert_eq!(world.texts_to_the_end(slow), [LAST, "up3", "down3"]);
    assert_eq!(world.hub.stats.conflated, 4);
}

#[test]
fn latest_never_gives_an_older_message_after_a_newer_one() {
    let mut world = World::new(WHOLE);
    let slow = world.connect_socket();
    world.join_with(slow, "a", LATEST, None);
    let mut last = [0; 3];
    for n in 1..=3000 {
        let key = ["x", "y", "z"][n % 3];
        price(&mut world, key, &format!("{key} {n:0100}"));
        last[n % 3] = n;
        world.turn();
        if n % 700 == 0 {
            // Some of what is under way arrives; the reader stays behind.
            world.texts(slow);
            world.read_again(slow);
        }
        assert!(world.hub.stats.outbox_bytes < 1000);
    }
    let mut newest = [0; 3];
    for text in world.texts_to_the_end(slow) {
        let (key, n) = text.split_once(' ').unwrap();
        let n: usize = n.trim_start_matches('0').parse().unwrap();
        let slot = &mut newest[n % 3];
        assert_eq!(["x", "y", "z"][n % 3], key);
        assert!(n > *slot, "{n} of {key} after {slot}");
        *slot = n;
    }
    assert_eq!(newest, last);
    let stats = &world.hub.stats;
    assert_eq!(stats.deliveries + stats.conflated, 3000);
    assert!(stats.conflated > 0);
}

#[test]
fn latest_keeps_one_message_per_key_however_many_there_were() {
    let (mut world, slow, quick) = blocked(LATEST);
    for n in 0..10_000 {
        price(&mut world, ["x", "y"][n % 2], &format!("{n:0100}"));
        if n % 10 == 0 {
            world.turn();
            assert_eq!(world.hub.stats.outbox_bytes, 0);
        }
        world.texts(quick);
    }
    world.turn();
    let got = world.texts_to_the_end(slow);
    assert_eq!(got.len(), 3);
    assert_eq!(world.hub.stats.conflated, 10_000 - 2);
    assert_eq!(world.hub.stats.outbox_bytes, 0);
}

#[test]
fn latest_counts_what_a_reader_never_got_only_when_that_is_certain() {
    let (mut world, slow, _) = blocked(LATEST);
    for n in 1..=5 {
        price(&mut world, "x", &format!("x{n}"));
    }
    world.turn();
    assert_eq!(world.hub.stats.conflated, 0, "it may still read");
    world.hub.remove(slow);
    assert_eq!(world.hub.stats.conflated, 5);
}

#[test]
fn latest_goes_on_as_usual_once_the_reader_has_caught_up() {
    let (mut world, slow, _) = blocked(LATEST);
    price(&mut world, "x", "x1");
    price(&mut world, "x", "x2");
    world.turn();
    price(&mut world, "x", "x3");
    // Published but not yet fanned out when the reader returns.
    world.read_again(slow);
    price(&mut world, "x", "x4");
    price(&mut world, "x", "x5");
    world.turn();
    assert_eq!(world.texts_to_the_end(slow), [LAST, "x3", "x4", "x5"]);
    assert_eq!(world.hub.stats.conflated, 2);
}

#[test]
fn latest_mixes_with_topics_that_give_everything() {
    let (mut world, slow, _) = blocked(LATEST);
    world.join(slow, "b");
    for n in 1..=3 {
        price(&mut world, "x", &format!("x{n}"));
        world.say("b", &format!("b{n}"));
    }
    world.turn();
    assert_eq!(world.texts_to_the_end(slow), [LAST, "b1", "b2", "b3", "x3"]);
}

#[test]
fn a_laggard_on_two_topics_catches_up_on_both() {
    let (mut world, slow, _) = blocked(LATEST);
    world.join_with(slow, "b", LATEST, None);
    for n in 1..=3 {
        price(&mut world, "x", &format!("a{n}"));
        world.publish(&message("b", &format!("b{n}")).key("x"));
    }
    world.turn();
    let mut got = world.texts_to_the_end(slow);
    got.sort();
    assert_eq!(got, ["a3", "b3", LAST]);
    assert_eq!(world.hub.stats.conflated, 4);
}

#[test]
fn one_who_leaves_while_behind_gets_the_newest_before_its_goodbye_and_nothing_after() {
    let mut world = World::new(WHOLE);
    let slow = world.connect();
    let sub = world.join_with(slow, "a", LATEST, None);
    let other = world.connect();
    world.join_with(other, "a", LATEST, None);
    world.block(slow);
    price(&mut world, "x", "x1");
    price(&mut world, "x", "x2");
    world.turn();
    world.hub.release(sub);
    world.tell(slow, "closed");
    price(&mut world, "x", "x3");
    world.turn();
    assert_eq!(world.texts_to_the_end(slow), [LAST, "x2", "closed"]);
    assert_eq!(world.hub.stats.conflated, 1);
    assert_eq!(world.hub.stats.outbox_bytes, 0);
}

#[test]
fn one_who_leaves_and_returns_while_behind_gets_nothing_from_before_its_return_twice() {
    let mut world = World::new(WHOLE);
    let slow = world.connect();
    let sub = world.join_with(slow, "a", LATEST, None);
    let other = world.connect();
    world.join_with(other, "a", LATEST, None);
    world.block(slow);
    price(&mut world, "x", "x1");
    world.turn();
    world.hub.release(sub);
    price(&mut world, "y", "between");
    world.tell(slow, "joined again");
    world.join_with(slow, "a", LATEST, None);
    price(&mut world, "z", "z1");
    world.turn();
    assert_eq!(
        world.texts_to_the_end(slow),
        [LAST, "x1", "joined again", "z1"]
    );
}

#[test]
fn latest_does_not_bring_a_sender_its_own_broadcast_from_later() {
    let mut world = World::new(WHOLE);
    let slow = world.connect();
    let sub = world.join_with(slow, "a", LATEST, None);
    world.block(slow);
    price(&mut world, "x", "x1");
    world.publish(&message("a", "mine").key("y").from(sub));
    price(&mut world, "z", "z1");
    world.turn();
    assert_eq!(world.texts_to_the_end(slow), [LAST, "x1", "z1"]);
    assert_eq!(world.hub.stats.conflated, 0);
}

#[test]
fn latest_does_not_bring_later_what_the_channel_intercepts() {
    let mut world = World::new(WHOLE);
    let slow = world.connect();
    world.join_with(slow, "a", LATEST, intercepting(&["secret"]));
    world.block(slow);
    price(&mut world, "x", "x1");
    world.publish(&message("a", "hidden").event("secret").key("y"));
    world.turn();
    assert_eq!(world.texts_to_the_end(slow), [LAST, "x1"]);
}

#[test]
fn latest_speaks_each_laggards_codec() {
    let mut world = World::new(WHOLE);
    let old = world.connect_as(Codec::PhoenixV1);
    let new = world.connect();
    for conn in [old, new] {
        world.join_with(conn, "a", LATEST, None);
        world.block(conn);
    }
    price(&mut world, "x", "x1");
    world.publish(&message("a", "y1").key("y").v2_only());
    world.turn();
    assert_eq!(world.texts_to_the_end(old), [LAST, "v1 x1"]);
    assert_eq!(world.texts_to_the_end(new), [LAST, "x1", "y1"]);
}

#[test]
fn a_reader_far_behind_on_many_keys_is_given_them_in_bufferfuls_and_not_closed() {
    let config = Config {
        outbox_bytes: 100_000,
        ..WHOLE
    };
    let (mut world, slow, _) = blocked_in(config, LATEST);
    for n in 0..1000 {
        price(&mut world, &format!("key {n}"), &format!("{n:01000}"));
        world.turn();
    }
    // It reads a first bufferful and stops again, over and over, while prices move.
    let mut got = Vec::new();
    world.read_again(slow);
    for round in 0..100 {
        world.stall(slow);
        price(&mut world, "key 999", &format!("{:01000}", 1000 + round));
        world.turn();
        world.beat(slow, "beat");
        assert!(world.hub.stats.outbox_bytes <= 80_000);
        world.read_again(slow);
        world.turn();
        got.extend(world.texts(slow));
    }
    got.extend(world.texts_to_the_end(slow));
    assert!(world.slow.is_empty());
    got.retain(|text| text != "beat" && text != LAST);
    let numbers: Vec<usize> = got.iter().map(|text| text.parse().unwrap()).collect();
    assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]), "in order");
    assert!((0..999).all(|n| numbers.contains(&n)), "every key");
    assert_eq!(numbers.last(), Some(&1099));
    let stats = &world.hub.stats;
    assert_eq!(stats.outbox_bytes, 0);
    assert_eq!(stats.conflated + numbers.len() as u64, 1100);
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
        world.join_with(conn, "a", policy, None);
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

#[test]
fn keys_without_end_are_not_kept_for_nobody() {
    let mut world = World::new(WHOLE);
    let conn = world.connect();
    world.join_with(conn, "a", LATEST, None);
    for n in 0..10_000 {
        price(&mut world, &format!("key {n}"), "x");
        world.turn();
        assert!(world.hub.topic_by_name("a").unwrap().keys_kept() <= 1025);
    }
    assert_eq!(world.texts(conn).len(), 10_000);
}

#[test]
fn a_laggard_for_whom_too_many_keys_would_have_to_be_kept_is_too_slow() {
    let config = Config {
        log_bytes: 50_000,
        ..WHOLE
    };
    let (mut world, slow, quick) = blocked_in(config, LATEST);
    let mut most = 0;
    for n in 0..1000 {
        price(&mut world, &format!("key {n}"), &format!("{n:0100}"));
        world.turn();
        most = most.max(world.hub.topic_by_name("a").unwrap().keys_kept());
    }
    assert_eq!(world.slow, [slow]);
    assert!(most <= 50_000 / 102 + 1);
    assert_eq!(world.texts(quick).len(), 1000);
    assert_eq!(
        world.frames_to_the_end(slow),
        [text(LAST), Frame::Close(1013, "slow reader".to_owned())]
    );
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
        world.join_with(conn, "a", policy, None);
        world.join_with(conn, "b", policy, None);
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
    let sub = world.join_with(slow, "a", DROP, intercepting(&["secret"]));
    world.block(slow);
    world.publish(&message("a", "mine").from(sub));
    world.publish(&message("a", "hidden").event("secret"));
    world.turn();
    assert_eq!(world.hub.stats.dropped, 0);
}
