//! What a stream brings, and where its reader stands.

use moda_core::dialect::sse::id;
use moda_core::hub::Config;
use moda_core::log::Position;

use crate::reader::{world, Block, World};

fn plain() -> World {
    world(Config::default())
}

fn place(topic: &str, offset: u64) -> (String, u64) {
    (topic.to_owned(), offset)
}

fn says(world: &mut World, topic: &str, count: u64) {
    for n in 0..count {
        world.says(topic, &format!("[{n}]"));
    }
}

/// The id of a stream of `topics` that stands at `offsets` (None: no position), all of epoch 7.
fn at(topics: &[&str], offsets: &[Option<u64>]) -> String {
    let position = |offset| Position { epoch: 7, offset };
    let positions: Vec<_> = offsets.iter().map(|offset| offset.map(position)).collect();
    let mut out = Vec::new();
    id::write(&mut out, id::check(topics.iter().copied()), &positions);
    String::from_utf8(out).unwrap()
}

#[test]
fn a_message_of_the_only_topic_carries_its_place_and_comes_back_from_there() {
    let mut world = plain();
    says(&mut world, "log:a", 2);
    let conn = world.opens(&["log:a"], None);
    says(&mut world, "log:a", 2);
    let ids: Vec<_> = world.blocks(conn).into_iter().map(|b| b.last_id).collect();
    assert_eq!(ids, ["7.2", "7.3", "7.4"]);
    let back = world.opens(&["log:a"], Some("7.3"));
    let told = world.blocks(back).remove(0);
    assert_eq!(told.last_id, "7.3", "never ahead of the data");
    assert_eq!(told.json()["recovered"], true);
    assert_eq!(world.heard(back), [place("log:a", 4)]);
}

#[test]
fn a_reader_of_several_topics_is_told_its_place_on_all_of_them() {
    let topics = ["log:a", "plain:b", "log:c"];
    let mut world = plain();
    let conn = world.opens(&topics, None);
    says(&mut world, "log:a", 1);
    says(&mut world, "plain:b", 1);
    says(&mut world, "log:c", 2);
    says(&mut world, "log:a", 1);
    let blocks = world.blocks(conn);
    let ids: Vec<_> = blocks[3..].iter().map(|block| &*block.last_id).collect();
    let expected = [(1, 0), (1, 0), (1, 1), (1, 2), (2, 2)];
    let expected = expected.map(|(a, c)| at(&topics, &[Some(a), None, Some(c)]));
    assert_eq!(ids, expected);
}

#[test]
fn readers_of_one_and_of_several_topics_share_what_is_published() {
    let mut world = plain();
    let one = world.opens(&["log:a"], None);
    let many = world.opens(&["log:a", "log:b"], None);
    says(&mut world, "log:a", 5);
    let (a, b) = (world.blocks(one), world.blocks(many));
    let data = |blocks: &[crate::reader::Block]| -> Vec<String> {
        blocks
            .iter()
            .filter(|b| b.place().is_some())
            .map(|b| b.data.clone())
            .collect()
    };
    assert_eq!(data(&a), data(&b));
    assert_eq!(data(&a).len(), 5);
}

#[test]
fn a_reader_that_comes_back_to_several_topics_gets_what_it_missed_of_each() {
    let topics = ["log:a", "short:b", "log:c"];
    let mut world = plain();
    says(&mut world, "log:a", 5);
    says(&mut world, "short:b", 5);
    says(&mut world, "log:c", 1);
    let since = at(&topics, &[Some(3), Some(1), Some(1)]);
    let conn = world.opens(&topics, Some(&since));
    says(&mut world, "log:c", 1);
    let blocks = world.blocks(conn);
    let told: Vec<_> = blocks
        .iter()
        .filter(|b| b.event == "subscribed")
        .map(Block::json)
        .collect();
    let recovered: Vec<_> = told.iter().map(|json| &json["recovered"]).collect();
    assert_eq!(recovered, [true, false, true]);
    assert_eq!(told[1]["why"], "expired");
    let mut heard = world.heard(conn);
    heard.sort();
    assert_eq!(
        heard,
        [place("log:a", 4), place("log:a", 5), place("log:c", 2)]
    );
    let last = world.blocks(conn).pop().unwrap().last_id;
    assert_eq!(last, at(&topics, &[Some(5), Some(5), Some(2)]));
}

#[test]
fn an_id_that_is_none_is_told_and_the_stream_goes_on() {
    let mut world = plain();
    says(&mut world, "log:a", 3);
    let swapped = at(&["log:b", "log:a"], &[Some(1), Some(1)]);
    let one = |id: &'static str| (&["log:a"][..], id.to_owned());
    for (topics, id) in [
        one("x"),
        one("7"),
        one("-1.2"),
        one("99999999999999999999.1"),
        (&["log:a", "log:b"], "7.1".to_owned()),
        (&["log:a", "log:b"], swapped),
    ] {
        let conn = world.opens(topics, Some(&id));
        let told = world.blocks(conn).remove(0).json();
        assert_eq!(
            (&told["recovered"], &told["why"]),
            (&false.into(), &"invalid_id".into()),
            "{id}"
        );
        assert_eq!(world.heard(conn), []);
    }
}

#[test]
fn a_position_of_another_life_or_of_the_future_is_told_too() {
    let mut world = plain();
    says(&mut world, "log:a", 3);
    for (id, why) in [("6.1", "epoch"), ("7.4", "ahead")] {
        let conn = world.opens(&["log:a"], Some(id));
        let told = world.blocks(conn).remove(0);
        assert_eq!(told.json()["why"], why);
        assert_eq!(told.last_id, "7.3");
    }
}

#[test]
fn a_topic_that_is_not_decided_yet_keeps_its_place_in_the_id() {
    let topics = ["log:a", "log:b"];
    let mut world = plain();
    says(&mut world, "log:a", 2);
    says(&mut world, "log:b", 2);
    let since = at(&topics, &[Some(1), Some(1)]);
    let (conn, joins) = world.asks(&topics, Some(&since));
    world.accepts(joins[0]);
    says(&mut world, "log:b", 1);
    let last = world.blocks(conn).pop().unwrap().last_id;
    assert_eq!(last, at(&topics, &[Some(2), Some(1)]));
    world.accepts(joins[1]);
    let heard = world.heard(conn);
    assert_eq!(
        heard,
        [place("log:a", 2), place("log:b", 2), place("log:b", 3)]
    );
}

#[test]
fn a_reader_that_lags_on_a_conflated_topic_gets_the_newest_with_its_place() {
    let topics = ["newest:a", "log:b"];
    let mut world = plain();
    let conn = world.opens(&topics, None);
    world.turn();
    world.stalled.push(conn);
    says(&mut world, "log:b", 1);
    world.turn();
    for n in 1..=9 {
        world.says("newest:a", &format!("{{\"{}\":{n}}}", n % 2));
    }
    world.turn();
    let before = world.heard(conn).len();
    world.reads(conn);
    let heard = world.heard(conn).split_off(before);
    assert_eq!(heard, [place("newest:a", 8), place("newest:a", 9)]);
    let last = world.blocks(conn).pop().unwrap().last_id;
    assert_eq!(last, at(&topics, &[Some(9), Some(1)]));
}

#[test]
fn what_a_channel_sends_to_one_reader_moves_no_place() {
    let mut world = plain();
    let (conn, joins) = world.asks(&["log:a"], None);
    world.accepts(joins[0]);
    says(&mut world, "log:a", 1);
    let body = moda_core::gateway::Body::Binary(&[0, 255]);
    world.gateway.push(joins[0], "hello", body).unwrap();
    let last = world.blocks(conn).pop().unwrap();
    assert_eq!(last.last_id, "7.1");
    assert_eq!(
        last.data,
        r#"{"type":"event","topic":"log:a","event":"hello","encoding":"base64","payload":"AP8="}"#
    );
}

#[test]
fn a_slow_reader_of_several_topics_is_closed_at_its_budget_with_whole_blocks() {
    let mut world = world(Config {
        outbox_bytes: 20_000,
        ..Config::default()
    });
    let conn = world.opens(&["log:a", "log:b"], None);
    world.turn();
    world.stalled.push(conn);
    for n in 0..100 {
        let json = format!("[{n},\"{}\"]", "x".repeat(500));
        world.says("log:a", &json);
        world.turn();
    }
    world.reads(conn);
    let last = world.blocks(conn).pop().unwrap();
    assert_eq!(last.json()["code"], 1013);
    assert_eq!(world.closed, [conn]);
    assert!(world.bytes(conn).ends_with(b"\n\n"));
    assert_eq!(world.gateway.hub.stats.outbox_bytes, 0);
}

#[test]
fn nothing_is_left_of_streams_that_are_gone() {
    let mut world = plain();
    for _ in 0..3 {
        let conn = world.opens(&["log:a", "plain:b"], None);
        says(&mut world, "log:a", 2);
        world.slice();
        says(&mut world, "plain:b", 2);
        world.gateway.lost(conn);
    }
    world.turn();
    assert_eq!(world.gateway.hub.connections(), 0);
    assert_eq!(world.gateway.hub.stats.outbox_bytes, 0);
    assert_eq!(world.gateway.counts.channels, 0);
}
