//! How a stream is answered, and how it ends.

use moda_core::hub::Config;

use crate::reader::{world, World};

fn plain() -> World {
    world(Config::default())
}

const HEAD: &str =
    "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-store\r\n\
     x-accel-buffering: no\r\nconnection: close\r\nx-line: 1\r\n\r\n:\n\n";

#[test]
fn the_answer_begins_with_the_first_subscription_and_a_comment() {
    let mut world = plain();
    let (conn, joins) = world.asks(&["plain:a"], None);
    assert_eq!(world.text(conn), "");
    world.accepts(joins[0]);
    let told = r#"{"type":"subscribed","topic":"plain:a","response":{}}"#;
    let expected = format!("{HEAD}event: subscribed\ndata: {told}\n\n");
    assert_eq!(world.text(conn), expected);
}

#[test]
fn a_stream_of_one_topic_that_is_refused_is_an_http_answer_with_the_reason() {
    let mut world = plain();
    let (conn, joins) = world.asks(&["plain:a"], None);
    world.refuses(joins[0], "not you");
    let body = r#"{"type":"error","topic":"plain:a","code":"refused","message":"the subscription was refused","response":{"reason":"not you"}}"#;
    let head = format!(
        "HTTP/1.1 403 Forbidden\r\ncache-control: no-store\r\nx-line: 1\r\n\
         content-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    assert_eq!(world.text(conn), head + body);
    assert_eq!(world.closed, [conn]);
}

#[test]
fn the_status_says_what_all_topics_came_to() {
    let mut world = plain();
    let (conn, joins) = world.asks(&["nowhere"], None);
    assert!(joins.is_empty());
    assert!(world.text(conn).starts_with("HTTP/1.1 404 Not Found\r\n"));
    let (conn, joins) = world.asks(&["plain:a"], None);
    world.refuses(joins[0], "join crashed");
    assert!(world.text(conn).starts_with("HTTP/1.1 500 "));
    let (conn, joins) = world.asks(&["plain:a"], None);
    world.gateway.end(joins[0], false);
    let text = world.text(conn);
    assert!(text.starts_with("HTTP/1.1 204 No Content\r\n"));
    assert!(text.ends_with("connection: close\r\n\r\n") && !text.contains("content-length"));
    let (conn, joins) = world.asks(&["nowhere", "plain:a", "plain:b"], None);
    world.refuses(joins[1], "no");
    assert_eq!(world.text(conn), "", "one topic may still come");
    world.refuses(joins[0], "no");
    let text = world.text(conn);
    assert!(text.starts_with("HTTP/1.1 403 "), "{text}");
    let body: serde_json::Value =
        serde_json::from_str(text.split_once("\r\n\r\n").unwrap().1).unwrap();
    let codes: Vec<_> = body["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|e| e["code"].clone())
        .collect();
    assert_eq!(codes, ["unmatched_topic", "refused", "refused"]);
}

#[test]
fn a_refused_topic_is_an_event_where_others_live() {
    let mut world = plain();
    let (conn, joins) = world.asks(&["plain:a", "nowhere", "plain:b", "plain:c"], None);
    world.refuses(joins[0], "early");
    world.accepts(joins[1]);
    world.refuses(joins[2], "late");
    let blocks = world.blocks(conn);
    let told: Vec<_> = blocks
        .iter()
        .map(|block| (&*block.event, block.json()))
        .collect();
    let names: Vec<_> = told.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, ["error", "error", "subscribed", "error"]);
    assert_eq!(told[0].1["code"], "unmatched_topic");
    assert_eq!(told[1].1["response"]["reason"], "early");
    assert_eq!(told[2].1["topic"], "plain:b");
    assert_eq!(told[3].1["response"]["reason"], "late");
    world.says("plain:b", "[1]");
    assert_eq!(world.blocks(conn).len(), 5);
    assert_eq!(world.closed, []);
}

#[test]
fn more_topics_than_the_mount_allows_are_refused_one_by_one() {
    let mut world = plain();
    let topics: Vec<String> = (0..7).map(|n| format!("plain:{n}")).collect();
    let topics: Vec<&str> = topics.iter().map(String::as_str).collect();
    let conn = world.opens(&topics, None);
    let blocks = world.blocks(conn);
    let refused = blocks
        .iter()
        .filter(|block| block.json()["code"] == "too_many_subscriptions");
    assert_eq!((blocks.len(), refused.count()), (7, 2));
}

#[test]
fn a_stream_whose_topics_close_in_good_order_tells_its_reader_not_to_come_back() {
    let mut world = plain();
    let (conn, joins) = world.asks(&["log:a", "plain:b"], None);
    for sub in &joins {
        world.accepts(*sub);
    }
    world.gateway.end(joins[0], false);
    assert_eq!(world.blocks(conn).last().unwrap().event, "unsubscribed");
    assert_ne!(world.blocks(conn).last().unwrap().last_id, "closed");
    world.gateway.end(joins[1], false);
    let last = world.blocks(conn).pop().unwrap();
    assert_eq!((&*last.event, &*last.last_id), ("unsubscribed", "closed"));
    assert_eq!(last.json()["reason"], "closed");
    assert_eq!(world.closed, [conn]);
}

#[test]
fn a_reader_comes_back_to_a_topic_that_crashed() {
    let mut world = plain();
    let (conn, joins) = world.asks(&["log:a"], None);
    world.accepts(joins[0]);
    world.says("log:a", "[1]");
    world.gateway.end(joins[0], true);
    let last = world.blocks(conn).pop().unwrap();
    assert_eq!((&*last.event, &*last.last_id), ("unsubscribed", "7.1"));
    assert_eq!(last.json()["reason"], "crashed");
    assert_eq!(world.closed, [conn]);
}

#[test]
fn a_close_is_said_in_the_stream_or_as_a_status_before_it_began() {
    let mut world = plain();
    let conn = world.opens(&["plain:a"], None);
    let (waiting, _) = world.asks(&["plain:a"], None);
    for conn in [conn, waiting] {
        world
            .gateway
            .close(conn, 1012, "restart", "shutdown", false);
    }
    let last = world.blocks(conn).pop().unwrap();
    assert_eq!(last.event, "close");
    assert_eq!(
        last.data,
        r#"{"type":"close","code":1012,"reason":"restart"}"#
    );
    let text = world.text(waiting);
    assert!(
        text.starts_with("HTTP/1.1 503 Service Unavailable\r\n"),
        "{text}"
    );
    assert!(text.contains("\r\nretry-after: 5\r\n"));
    assert_eq!(world.closed, [conn, waiting]);
}

#[test]
fn a_comment_goes_to_those_who_are_silent_and_have_an_answer() {
    let mut world = plain();
    world.gateway.send_signs(0, 15_000);
    let conn = world.opens(&["plain:a"], None);
    let (waiting, _) = world.asks(&["plain:a"], None);
    let before = world.text(conn);
    let mut comments = Vec::new();
    for now in (0..60_000).step_by(5_000) {
        world.gateway.hub.set_now(now);
        world.gateway.sweep();
        let text = world.text(conn);
        comments.push(text[before.len()..].matches(":\n\n").count());
    }
    // No silence is longer than fifteen seconds, whatever the sweeps' pace.
    assert_eq!(comments, [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]);
    assert_eq!(world.text(waiting), "");
}

#[test]
fn a_request_that_is_none_closes_its_connection_alone() {
    for request in ["", "[]", "{}", r#"{"topics":1}"#, r#"{"topics":[1]}"#] {
        let mut world = plain();
        let other = world.opens(&["plain:a"], None);
        let codec = world.gateway.codec("sse").unwrap();
        let conn = world
            .gateway
            .open(codec, 0, moda_core::hub::Sink::Transport, None);
        world.gateway.message(conn, true, request.as_bytes());
        world.turn();
        assert_eq!(world.closed, [conn], "{request}");
        world.says("plain:a", "[1]");
        assert_eq!(world.blocks(other).len(), 2);
    }
}

#[test]
fn a_connection_has_one_message_and_no_more() {
    let mut world = plain();
    let conn = world.opens(&["plain:a"], None);
    for message in [r#"{"topics":["plain:b"]}"#, "0", ""] {
        world.gateway.message(conn, true, message.as_bytes());
    }
    assert_eq!(world.blocks(conn).len(), 1);
    assert!(world.gateway.next_join().is_none());
}

#[test]
fn a_join_that_too_much_waits_before_is_refused_for_now() {
    let mut world = plain();
    world.gateway.inward.limits.connection = 20;
    let (conn, joins) = world.asks(&["plain:a", "plain:b"], None);
    assert_eq!(joins.len(), 1);
    world.accepts(joins[0]);
    let codes: Vec<_> = world
        .blocks(conn)
        .iter()
        .map(|b| b.json()["code"].clone())
        .collect();
    assert_eq!(codes, ["busy".into(), serde_json::Value::Null]);
}
