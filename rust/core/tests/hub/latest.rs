//! `Delivery::Latest` for readers that lag: newest per key, in order, at a bounded price.

use std::sync::Arc;

use moda_core::hub::{Config, Policy};
use moda_core::pointer::Pointer;

use crate::frames::{text, Frame};
use crate::slow::{blocked, blocked_in, price, LAST, LATEST};
use crate::world::{intercepting, message, World, OLD, SLICED, WHOLE};

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

/// A topic whose document names the key by a pointer.
fn keyed(pointer: &str) -> Policy {
    Policy {
        key: Some(Arc::new(Pointer::parse(pointer).unwrap())),
        ..LATEST
    }
}

/// What a laggard of such a topic is given of some payloads.
fn left_of(pointer: &str, payloads: &[&str]) -> Vec<String> {
    let (mut world, slow, quick) = blocked(keyed(pointer));
    for payload in payloads {
        world.say("a", payload);
        world.turn();
    }
    assert_eq!(world.texts(quick), payloads);
    world.texts_to_the_end(slow).split_off(1)
}

#[test]
fn the_key_is_found_in_any_payload_by_its_topics_pointer() {
    let given = left_of(
        "/s",
        &[
            r#"{"s":"x","p":1}"#,
            r#"{"p":1,"s":"y"}"#,
            r#" { "s" : "\u0078" , "p" : 2 } "#,
        ],
    );
    assert_eq!(
        given,
        [r#"{"p":1,"s":"y"}"#, r#" { "s" : "\u0078" , "p" : 2 } "#]
    );
    let given = left_of("/0", &[r#"["x",1]"#, r#"["y",1]"#, r#"["x",2]"#]);
    assert_eq!(given, [r#"["y",1]"#, r#"["x",2]"#]);
    let given = left_of(
        "/d/s",
        &[r#"{"d":{"s":"x"},"n":1}"#, r#"{"d":{"s":"x"},"n":2}"#],
    );
    assert_eq!(given, [r#"{"d":{"s":"x"},"n":2}"#]);
}

#[test]
fn a_payload_without_the_key_of_its_topic_replaces_nothing_and_is_never_replaced() {
    let without = [
        "{}",
        "{}",
        r#"{"t":"x"}"#,
        r#"{"s":null}"#,
        r#"{"s":null}"#,
        "[]",
        "5",
        "not json",
    ];
    assert_eq!(left_of("/s", &without), without);
    let mixed = [r#"{"s":"x","n":1}"#, "{}", r#"{"s":"x","n":2}"#, "{}"];
    assert_eq!(left_of("/s", &mixed), mixed[1..]);
}

#[test]
fn a_key_that_is_a_number_is_not_the_text_that_looks_like_it() {
    let payloads = [
        r#"{"s":1}"#,
        r#"{"s":"1"}"#,
        r#"{"s":true}"#,
        r#"{"s":"true"}"#,
        r#"{"s":[1]}"#,
    ];
    assert_eq!(left_of("/s", &payloads), payloads);
    assert_eq!(
        left_of("/s", &[r#"{"s":1,"n":1}"#, r#"{"s":1,"n":2}"#]),
        [r#"{"s":1,"n":2}"#]
    );
}

#[test]
fn a_key_the_publisher_names_outranks_the_one_in_the_payload() {
    let (mut world, slow, _) = blocked(keyed("/s"));
    for text in [r#"{"s":"x"}"#, r#"{"s":"y"}"#] {
        price(&mut world, "z", text);
        world.turn();
    }
    world.say("a", r#"{"s":"z"}"#);
    world.turn();
    assert_eq!(world.texts_to_the_end(slow), [LAST, r#"{"s":"z"}"#]);
}

#[test]
fn messages_without_a_key_are_bounded_like_all_that_is_kept_for_laggards() {
    let config = Config {
        log_bytes: 50_000,
        ..WHOLE
    };
    let (mut world, slow, quick) = blocked_in(config, keyed("/s"));
    for n in 0..1000 {
        world.say("a", &format!("{n:0100}"));
        world.turn();
        assert!(world.hub.stats.latest_bytes <= 50_000);
    }
    assert_eq!(world.slow, [slow]);
    assert_eq!(world.texts(quick).len(), 1000);
}

#[test]
fn latest_never_gives_an_older_message_after_a_newer_one() {
    let mut world = World::new(WHOLE);
    let slow = world.connect_socket();
    world.join_with(slow, "a", LATEST, None);
    let mut published = [0; 3];
    for n in 1..=3000 {
        let key = ["x", "y", "z"][n % 3];
        price(&mut world, key, &format!("{key} {n:0100}"));
        published[n % 3] = n;
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
        let before = &mut newest[n % 3];
        assert_eq!(["x", "y", "z"][n % 3], key);
        assert!(n > *before, "{n} of {key} after {before}");
        *before = n;
    }
    assert_eq!(newest, published);
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
    world.join_with(slow, "a", LATEST, Some(intercepting(&["secret"])));
    world.block(slow);
    price(&mut world, "x", "x1");
    world.publish(&message("a", "hidden").event("secret").key("y"));
    world.turn();
    assert_eq!(world.texts_to_the_end(slow), [LAST, "x1"]);
}

#[test]
fn latest_speaks_each_laggards_codec() {
    let mut world = World::new(WHOLE);
    let old = world.connect_as(OLD);
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
    let mut world = World::new(Config {
        outbox_bytes: 100_000,
        ..WHOLE
    });
    let slow = world.connect_socket();
    world.join_with(slow, "a", LATEST, None);
    for n in 0..1000 {
        price(&mut world, &format!("key {n}"), &format!("{n:01000}"));
        world.turn();
    }
    assert!(world.hub.conn(slow).unwrap().is_blocked());
    // It reads a little and stops again, over and over, while prices move.
    let mut got = Vec::new();
    for round in 0..50 {
        price(&mut world, "key 999", &format!("{:01000}", 1000 + round));
        world.turn();
        world.beat(slow, "beat");
        got.extend(world.texts(slow));
        world.read_again(slow);
        assert!(world.hub.stats.outbox_bytes <= 80_000);
    }
    assert!(world.hub.conn(slow).unwrap().is_blocked());
    got.extend(world.texts_to_the_end(slow));
    assert!(world.slow.is_empty());
    got.retain(|text| text != "beat");
    let numbers: Vec<usize> = got.iter().map(|text| text.parse().unwrap()).collect();
    assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]), "in order");
    assert!((0..999).all(|n| numbers.contains(&n)), "every key");
    assert_eq!(numbers.last(), Some(&1049));
    let stats = &world.hub.stats;
    assert_eq!(stats.outbox_bytes, 0);
    assert_eq!(stats.conflated + numbers.len() as u64, 1050);
}

#[test]
fn what_was_kept_for_laggards_is_let_go_when_they_have_it_or_are_gone() {
    for gone in [false, true] {
        let (mut world, slow, _) = blocked(LATEST);
        for n in 0..2000 {
            price(&mut world, &format!("key {n}"), "x");
        }
        world.turn();
        let kept = |world: &World| world.hub.topic_by_name("a").unwrap().keys_kept();
        assert_eq!(kept(&world), 2000);
        if gone {
            world.remove(slow);
        } else {
            assert_eq!(world.texts_to_the_end(slow).len(), 2001);
        }
        assert_eq!(kept(&world), 0, "gone: {gone}");
        assert_eq!(world.hub.stats.latest_bytes, 0);
    }
}

#[test]
fn what_is_kept_is_not_let_go_before_all_of_it_has_been_offered() {
    let mut world = World::new(WHOLE);
    let (slow, other) = (world.connect(), world.connect());
    world.join_with(other, "a", LATEST, None);
    world.block(slow);
    for n in 0..2000 {
        price(&mut world, &format!("key {n}"), "before its join");
    }
    world.join_with(slow, "a", LATEST, None);
    // A run of its own, behind those that are not for the newcomer.
    price(&mut world, "x", "for all");
    world.turn();
    assert_eq!(world.texts_to_the_end(slow), [LAST, "for all"]);
}

#[test]
fn keys_without_end_are_not_kept_for_nobody() {
    let mut world = World::new(WHOLE);
    let conn = world.connect();
    world.join_with(conn, "a", LATEST, None);
    for n in 0..10_000 {
        price(&mut world, &format!("key {n}"), "x");
        world.turn();
        assert_eq!(world.hub.topic_by_name("a").unwrap().keys_kept(), 0);
    }
    assert_eq!(world.texts(conn).len(), 10_000);
}

#[test]
fn nothing_is_kept_for_readers_who_keep_up_while_a_fan_out_never_ends() {
    let mut world = World::new(SLICED);
    for _ in 0..40 {
        let conn = world.connect();
        world.join_with(conn, "a", LATEST, None);
    }
    for n in 0..500 {
        price(&mut world, &format!("key {n}"), "x");
        world.slice();
        assert_eq!(world.hub.stats.latest_bytes, 0);
    }
}

#[test]
fn one_who_blocks_when_the_last_laggard_has_caught_up_half_way_misses_nothing() {
    let mut world = World::new(SLICED);
    let conns: Vec<_> = (0..40).map(|_| world.connect()).collect();
    for conn in &conns {
        world.join_with(*conn, "a", LATEST, None);
    }
    let (first, last) = (conns[0], conns[39]);
    world.block(first);
    world.block(last);
    price(&mut world, "x", "x1");
    price(&mut world, "y", "y1");
    // The first has been served and lags; the last has not been reached yet.
    world.slice();
    world.read_again(first);
    assert_eq!(world.hub.stats.latest_bytes, 0, "nobody lags now");
    assert_eq!(world.texts_to_the_end(first), [LAST, "x1", "y1"]);
    assert_eq!(world.texts_to_the_end(last), [LAST, "x1", "y1"]);
    assert_eq!(world.hub.stats.conflated, 0);
}

#[test]
fn one_that_catches_up_before_the_fan_out_ends_gets_what_is_still_queued() {
    let mut world = World::new(SLICED);
    let conns: Vec<_> = (0..40).map(|_| world.connect()).collect();
    for conn in &conns {
        world.join_with(*conn, "a", LATEST, None);
    }
    let last = conns[39];
    world.block(last);
    price(&mut world, "x", "x1");
    world.slice();
    price(&mut world, "x", "x2");
    price(&mut world, "y", "y2");
    world.read_again(last);
    price(&mut world, "z", "z3");
    assert_eq!(world.texts_to_the_end(last), [LAST, "x2", "y2", "z3"]);
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

#[test]
fn what_is_kept_for_laggards_is_bounded_over_all_topics_and_the_one_that_needs_most_gives() {
    let config = Config {
        log_bytes: 50_000,
        ..WHOLE
    };
    let mut world = World::new(config);
    let mut slow = Vec::new();
    for topic in 0..10 {
        let conn = world.connect();
        world.join_with(conn, &format!("t{topic}"), LATEST, None);
        world.block(conn);
        slow.push(conn);
    }
    // Each topic stays far below the bound; the last of them says little.
    for n in 0..100 {
        for topic in 0..10 {
            let key = if topic == 9 { 0 } else { n };
            let (topic, key) = (format!("t{topic}"), format!("key {key}"));
            world.publish(&message(&topic, &format!("{n:0100}")).key(&key));
            world.turn();
            assert!(world.hub.stats.latest_bytes <= 50_000);
        }
    }
    assert!(!world.slow.is_empty());
    assert!(!world.slow.contains(&slow[9]));
    let got = world.texts_to_the_end(slow[9]);
    assert_eq!(got[1..], [format!("{:0100}", 99)]);
    for conn in slow {
        world.remove(conn);
    }
    assert_eq!(world.hub.stats.latest_bytes, 0);
}
