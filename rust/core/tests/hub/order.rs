//! Who gets what, in which order: no descriptor anywhere.

use std::cell::Cell;

use moda_core::hub::Policy;

use crate::frames::{text, Frame};
use crate::world::{closing, intercepting, message, World, OLD, SLICED, WHOLE};

#[test]
fn a_message_reaches_every_subscriber_of_its_topic_and_nobody_else() {
    let mut world = World::new(WHOLE);
    let (ann, bob) = (world.subscriber("a"), world.subscriber("a"));
    let cal = world.subscriber("b");
    world.say("a", "hello");
    world.turn();
    assert_eq!(world.texts(ann), ["hello"]);
    assert_eq!(world.texts(bob), ["hello"]);
    assert!(world.texts(cal).is_empty());
    assert_eq!(world.hub.stats.deliveries, 2);
    assert_eq!(world.hub.stats.published, 1);
}

#[test]
fn ten_messages_of_a_topic_cost_a_subscriber_one_send() {
    let mut world = World::new(WHOLE);
    let conn = world.connect_socket();
    world.join(conn, "a");
    let said: Vec<String> = (0..10).map(|n| format!("message {n}")).collect();
    for text in &said {
        world.say("a", text);
    }
    world.turn();
    assert_eq!(world.texts(conn), said);
    assert_eq!(world.hub.stats.sends, 1);
    assert_eq!(world.hub.stats.fanout.count, 1, "one run");
    assert_eq!(world.hub.stats.deliveries, 10);
}

#[test]
fn messages_of_several_topics_cost_a_subscriber_one_send_too() {
    let mut world = World::new(WHOLE);
    let conn = world.connect_socket();
    for topic in ["a", "b", "c"] {
        world.join(conn, topic);
    }
    for topic in ["a", "b", "c", "a"] {
        world.say(topic, topic);
    }
    world.beat(conn, "beat");
    world.turn();
    assert_eq!(world.hub.stats.sends, 2, "the beat alone, then all four");
    assert_eq!(world.texts(conn), ["beat", "a", "b", "c", "a"]);
}

#[test]
fn one_senders_interleaved_topics_arrive_in_the_order_they_were_published() {
    let mut world = World::new(WHOLE);
    let conn = world.connect();
    world.join(conn, "a");
    world.join(conn, "b");
    let said: Vec<String> = (0..20).map(|n| format!("{n}")).collect();
    for (n, text) in said.iter().enumerate() {
        world.say(["a", "b", "b"][n % 3], text);
    }
    world.turn();
    assert_eq!(world.texts(conn), said);
}

#[test]
fn a_frame_for_one_connection_follows_the_broadcasts_published_before_it() {
    let mut world = World::new(WHOLE);
    let conn = world.subscriber("a");
    let other = world.subscriber("a");
    world.say("a", "1");
    world.tell(conn, "2");
    world.say("a", "3");
    world.turn();
    assert_eq!(world.texts(conn), ["1", "2", "3"]);
    assert_eq!(world.texts(other), ["1", "3"]);
}

#[test]
fn a_heartbeats_answer_does_not_wait_for_broadcasts() {
    let mut world = World::new(WHOLE);
    let conn = world.subscriber("a");
    world.say("a", "broadcast");
    world.beat(conn, "beat");
    world.turn();
    assert_eq!(world.texts(conn), ["beat", "broadcast"]);
}

#[test]
fn a_join_reply_comes_before_any_broadcast_of_the_topic() {
    let mut world = World::new(WHOLE);
    let conn = world.connect();
    let sub = world.hub.reserve(conn, "a", Policy::default(), None, 7);
    world.say("a", "before the reply");
    world.tell(conn, "reply");
    world.hub.activate(sub);
    world.say("a", "after");
    world.turn();
    assert_eq!(world.texts(conn), ["reply", "after"]);
}

#[test]
fn a_newcomer_gets_nothing_published_before_its_join_though_it_was_not_sent_yet() {
    let mut world = World::new(WHOLE);
    let old = world.subscriber("a");
    let new = world.connect();
    world.say("a", "1");
    world.join(new, "a");
    world.say("a", "2");
    world.turn();
    assert_eq!(world.texts(old), ["1", "2"]);
    assert_eq!(world.texts(new), ["2"]);
}

#[test]
fn a_connection_opened_and_joined_between_two_messages_of_a_turn_gets_the_second() {
    let mut world = World::new(WHOLE);
    let old = world.subscriber("a");
    world.say("a", "1");
    let new = world.subscriber("a");
    world.say("a", "2");
    world.turn();
    assert_eq!(world.texts(old), ["1", "2"]);
    assert_eq!(world.texts(new), ["2"]);
}

#[test]
fn a_joiner_of_a_second_topic_keeps_its_place_on_the_first() {
    let mut world = World::new(WHOLE);
    let conn = world.subscriber("a");
    world.subscriber("b");
    world.say("a", "a1");
    world.say("b", "b1");
    world.join(conn, "b");
    world.say("b", "b2");
    world.say("a", "a2");
    world.turn();
    assert_eq!(world.texts(conn), ["a1", "b2", "a2"]);
}

#[test]
fn a_leaver_gets_what_was_published_before_its_goodbye_and_nothing_after() {
    let mut world = World::new(WHOLE);
    let conn = world.connect();
    let sub = world.join(conn, "a");
    world.subscriber("a");
    world.say("a", "1");
    assert_eq!(world.hub.release(sub), Some(0));
    world.tell(conn, "closed");
    world.say("a", "2");
    world.turn();
    assert_eq!(world.texts(conn), ["1", "closed"]);
}

#[test]
fn a_closed_connection_gets_what_was_published_before_then_the_close_and_nothing_more() {
    let mut world = World::new(WHOLE);
    let conn = world.connect();
    world.join(conn, "a");
    world.join(conn, "b");
    world.say("a", "1");
    world.say("b", "2");
    assert_eq!(
        world.hub.close(conn, 1001, false, closing(1001, "bye")),
        [0, 0]
    );
    world.say("a", "3");
    world.tell(conn, "4");
    world.beat(conn, "5");
    assert!(world
        .hub
        .close(conn, 1002, true, closing(1002, "again"))
        .is_empty());
    world.turn();
    let close = Frame::Close(1001, "bye".to_owned());
    assert_eq!(world.frames(conn), [text("1"), text("2"), close]);
    assert_eq!(world.hub.stats.closes(), [(1001, 1)]);
    assert_eq!(world.hub.topics(), 0);
}

#[test]
fn a_broadcast_from_a_channel_reaches_all_but_that_channel() {
    let mut world = World::new(WHOLE);
    let (ann, bob) = (world.connect(), world.connect());
    let sub = world.join(ann, "a");
    world.join(bob, "a");
    world.say("a", "all");
    world.publish(&message("a", "others").from(sub));
    world.say("a", "all again");
    world.turn();
    assert_eq!(world.texts(ann), ["all", "all again"]);
    assert_eq!(world.texts(bob), ["all", "others", "all again"]);
    assert_eq!(world.hub.stats.deliveries, 5);
}

#[test]
fn the_exclusion_is_of_one_channel_and_not_of_its_clients_next_one() {
    let mut world = World::new(WHOLE);
    let conn = world.connect();
    let sub = world.join(conn, "a");
    world.publish(&message("a", "from the first").from(sub));
    world.hub.release(sub);
    world.join(conn, "a");
    world.publish(&message("a", "late words of the first").from(sub));
    world.turn();
    assert_eq!(world.texts(conn), ["late words of the first"]);
}

#[test]
fn an_intercepted_event_goes_to_the_channel_and_not_to_its_client() {
    let mut world = World::new(WHOLE);
    let (ann, bob) = (world.connect_socket(), world.connect_socket());
    let watching = world.join_with(ann, "a", Policy::default(), Some(intercepting(&["secret"])));
    world.join(bob, "a");
    assert!(world.publish(&message("a", "open")).is_empty());
    let asked = world.publish(&message("a", "hidden").event("secret"));
    assert_eq!(asked, [watching]);
    world.tell(ann, "instead");
    world.turn();
    assert_eq!(world.texts(ann), ["open", "instead"]);
    assert_eq!(world.texts(bob), ["open", "hidden"]);
    world.hub.release(watching);
    let topic = world.hub.topic_by_name("a").unwrap();
    assert_eq!(topic.intercepting, 0, "nobody is looked for any more");
}

#[test]
fn an_interception_holds_when_the_run_is_served_through_the_outbox() {
    let mut world = World::new(WHOLE);
    let (ann, bob) = (world.connect(), world.connect());
    world.join_with(ann, "a", Policy::default(), Some(intercepting(&["secret"])));
    world.join(bob, "a");
    world.publish(&message("a", "hidden").event("secret"));
    world.turn();
    assert!(world.texts(ann).is_empty());
    assert_eq!(world.texts(bob), ["hidden"]);
}

#[test]
fn an_interception_holds_when_several_runs_are_queued() {
    let mut world = World::new(WHOLE);
    let (ann, bob) = (world.connect_socket(), world.connect_socket());
    world.join_with(ann, "a", Policy::default(), Some(intercepting(&["secret"])));
    world.join(bob, "a");
    world.publish(&message("a", "hidden").event("secret"));
    world.say("a", "open");
    world.publish(&message("a", "hidden too").event("secret"));
    world.turn();
    assert_eq!(world.texts(ann), ["open"]);
    assert_eq!(world.texts(bob), ["hidden", "open", "hidden too"]);
}

#[test]
fn a_sender_that_intercepts_its_own_broadcast_from_is_not_asked() {
    let mut world = World::new(WHOLE);
    let conn = world.connect();
    let sub = world.join_with(
        conn,
        "a",
        Policy::default(),
        Some(intercepting(&["secret"])),
    );
    let asked = world.publish(&message("a", "mine").event("secret").from(sub));
    assert!(asked.is_empty());
    world.turn();
    assert!(world.texts(conn).is_empty());
}

#[test]
fn each_codec_is_encoded_once_however_many_speak_it() {
    let mut world = World::new(WHOLE);
    let encoded = Cell::new([0, 0]);
    let old = world.connect_as(OLD);
    world.join(old, "a");
    let new: Vec<_> = (0..5).map(|_| world.subscriber("a")).collect();
    world.publish(&message("a", "hello").counting(&encoded));
    assert_eq!(encoded.get(), [1, 1]);
    world.turn();
    assert_eq!(encoded.get(), [1, 1]);
    assert_eq!(world.texts(old), ["v1 hello"]);
    for conn in new {
        assert_eq!(world.texts(conn), ["hello"]);
    }
}

#[test]
fn a_codec_nobody_speaks_on_the_topic_is_not_encoded() {
    let mut world = World::new(WHOLE);
    let encoded = Cell::new([0, 0]);
    let say = |world: &mut World| {
        world.publish(&message("a", "hello").counting(&encoded));
    };
    say(&mut world);
    assert_eq!(encoded.get(), [0, 0], "an empty topic");
    let old = world.connect_as(OLD);
    let sub = world.join(old, "a");
    say(&mut world);
    assert_eq!(encoded.get(), [1, 0]);
    world.subscriber("a");
    say(&mut world);
    assert_eq!(encoded.get(), [2, 1]);
    world.hub.release(sub);
    say(&mut world);
    assert_eq!(encoded.get(), [2, 2]);
}

#[test]
fn a_codec_that_cannot_carry_a_message_is_counted_and_the_rest_go_on() {
    let mut world = World::new(WHOLE);
    let old = world.connect_as(OLD);
    world.join(old, "a");
    let new = world.subscriber("a");
    world.say("a", "1");
    world.publish(&message("a", "2").v2_only());
    world.say("a", "3");
    world.turn();
    assert_eq!(world.texts(old), ["v1 1", "v1 3"]);
    assert_eq!(world.texts(new), ["1", "2", "3"]);
    assert_eq!(world.hub.stats.unencodable, 1);
    assert_eq!(world.hub.stats.deliveries, 5);
}

#[test]
fn a_long_burst_is_cut_into_runs_and_stays_in_order() {
    let mut world = World::new(WHOLE);
    let conn = world.subscriber("a");
    let said: Vec<String> = (0..100).map(|n| format!("{n:01000}")).collect();
    let longer = "x".repeat(200_000);
    for text in &said {
        world.say("a", text);
    }
    world.say("a", &longer);
    world.say("a", "last");
    world.turn();
    let mut expected = said.clone();
    expected.push(longer);
    expected.push("last".to_owned());
    assert_eq!(world.texts(conn), expected);
    assert!(world.hub.stats.fanout.count >= 2, "more than one run");
}

#[test]
fn too_much_in_one_turn_is_served_on_the_spot() {
    let mut config = SLICED;
    config.log_bytes = 4096;
    let mut world = World::new(config);
    let conns: Vec<_> = (0..40).map(|_| world.subscriber("a")).collect();
    let said: Vec<String> = (0..10).map(|n| format!("{n:01000}")).collect();
    for text in &said[..5] {
        world.say("a", text);
    }
    assert_eq!(
        world.hub.stats.fanout.count, 1,
        "the fifth passed 4096 bytes"
    );
    assert_eq!(world.hub.stats.deliveries, 5 * 40);
    for text in &said[5..] {
        world.say("a", text);
    }
    world.turn();
    for conn in conns {
        assert_eq!(world.texts(conn), said);
    }
}

#[test]
fn there_is_nothing_to_flush_before_something_is_queued_and_after_it_has_gone() {
    let mut world = World::new(WHOLE);
    let conn = world.subscriber("a");
    assert!(!world.hub.needs_flush());
    world.say("nobody is there", "x");
    assert!(!world.hub.needs_flush());
    world.say("a", "x");
    assert!(world.hub.needs_flush());
    world.turn();
    assert!(!world.hub.needs_flush());
    world.beat(conn, "x");
    assert!(world.hub.needs_flush());
    world.turn();
    assert!(!world.hub.needs_flush());
    assert_eq!(world.hub.stats.outbox_bytes, 0);
}
