//! What the histories of all topics may cost, and who gives when they cost more.

use moda_core::hub::{Config, Delivery, Policy, Silence, TOPIC_BYTES};
use moda_core::log::{History, Limits as HistoryLimits, Position, Recovery, MESSAGE_BYTES};

use crate::world::{message, World, WHOLE};

const KEEPING: Policy = Policy {
    delivery: Delivery::Every,
    key: None,
    history: Some(HistoryLimits {
        size: 1000,
        ttl_ms: 1000,
        bytes: 1 << 20,
    }),
    durable: false,
};

fn world(history_bytes: usize) -> World {
    World::new(Config {
        history_bytes,
        ..WHOLE
    })
}

fn keep(world: &mut World, topic: &str, text: &str) {
    world.publish(&message(topic, text).policy(KEEPING));
}

/// Messages kept of a topic.
fn kept(world: &mut World, topic: &str) -> usize {
    world.hub.history(topic).map_or(0, History::len)
}

#[test]
fn a_client_that_visits_topic_after_topic_does_not_leave_a_full_history_in_each() {
    let mut world = world(1 << 20);
    let text = "x".repeat(10_000);
    for n in 0..100 {
        let topic = format!("room:{n}");
        let conn = world.connect();
        world.join_with(conn, &topic, KEEPING, None);
        for _ in 0..10 {
            keep(&mut world, &topic, &text);
        }
        world.turn();
        world.remove(conn);
        assert!(world.hub.stats.history_bytes <= 1 << 20);
    }
    assert!(world.hub.topics() <= 11, "what keeps nothing is forgotten");
    let stats = &world.hub.stats;
    assert!(
        stats.history_bytes > (1 << 20) - 12_000,
        "no more than needed"
    );
    assert_eq!(stats.published, 1000);
    assert!(stats.history_shed > 890);
}

#[test]
fn topics_that_keep_one_small_message_each_are_bounded_too() {
    let mut world = world(100 * (TOPIC_BYTES + MESSAGE_BYTES));
    for n in 0..1000 {
        keep(&mut world, &format!("room:{n}"), "");
    }
    assert!(world.hub.topics() < 100);
}

#[test]
fn the_topics_published_to_longest_ago_give_first_and_their_oldest_messages_before_others() {
    let each = MESSAGE_BYTES + "said".len() + 1000;
    let mut world = world(3 * (TOPIC_BYTES + 1) + 6 * each);
    let text = "x".repeat(1000);
    for topic in ["a", "b", "c", "a", "b", "c"] {
        keep(&mut world, topic, &text);
    }
    assert_eq!(world.hub.stats.history_shed, 0);
    keep(&mut world, "a", &text);
    assert_eq!(
        kept(&mut world, "b"),
        1,
        "its last message is older than c's"
    );
    match world.hub.history("b").unwrap().since(Position {
        epoch: 1,
        offset: 1,
    }) {
        Recovery::Complete(kept) => assert_eq!(kept[0].offset, 2),
        Recovery::Gap => panic!("the second is there"),
    }
    keep(&mut world, "a", &text);
    assert!(world.hub.topic_by_name("b").is_none());
    assert_eq!((kept(&mut world, "a"), kept(&mut world, "c")), (4, 2));
    assert_eq!(world.hub.stats.history_shed, 2);
}

#[test]
fn a_topic_that_had_to_give_all_begins_anew_where_it_is_published_to_again() {
    let mut world = world(TOPIC_BYTES + 10 + 3 * (MESSAGE_BYTES + 10));
    for _ in 0..3 {
        keep(&mut world, "a", "old");
    }
    keep(&mut world, "b", "b");
    assert!(world.hub.topic_by_name("a").is_none());
    keep(&mut world, "a", "new");
    let history = world.hub.history("a").unwrap();
    assert_eq!(
        history.position(),
        Position {
            epoch: 2,
            offset: 1
        }
    );
    for offset in 0..=3 {
        assert_eq!(history.since(Position { epoch: 1, offset }), Recovery::Gap);
    }
    let from_birth = Position {
        epoch: 2,
        offset: 0,
    };
    assert!(matches!(history.since(from_birth), Recovery::Complete(kept) if kept.len() == 1));
}

#[test]
fn a_topic_with_subscribers_that_had_to_give_all_serves_them_on() {
    let mut world = world(TOPIC_BYTES);
    let conn = world.connect();
    world.join_with(conn, "a", KEEPING, None);
    keep(&mut world, "a", "1");
    keep(&mut world, "a", "2");
    world.turn();
    assert_eq!(world.texts(conn), ["1", "2"]);
    assert_eq!(kept(&mut world, "a"), 0);
    assert_eq!(world.hub.history("a").unwrap().offset(), 2);
    assert_eq!(world.hub.stats.history_bytes, 0);
}

#[test]
fn what_age_ends_is_no_longer_counted_nor_given_to_who_asks_before_the_next_sweep() {
    let mut world = world(1 << 20);
    keep(&mut world, "a", "1");
    world.hub.set_now(600);
    keep(&mut world, "a", "2");
    keep(&mut world, "b", "b");
    world.hub.set_now(1001);
    assert_eq!(kept(&mut world, "a"), 1);
    let all = world.hub.stats.history_bytes;
    world.hub.set_now(1601);
    assert!(world.hub.history("a").is_none(), "nobody is on it");
    assert!(world.hub.stats.history_bytes < all);
    world.sweep(Silence::default());
    assert_eq!((world.hub.stats.history_bytes, world.hub.topics()), (0, 0));
}
