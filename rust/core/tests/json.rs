//! The plain JSON dialect: what a client says, what it hears, and every way to get it wrong.

#[allow(dead_code)] // each test binary uses its part of them
#[path = "support/frames.rs"]
mod frames;

use moda_core::dialect::{self, websocket};
use moda_core::gateway::{Body, Gateway, Kind, Route, Verdict};
use moda_core::hub::{Config, ConnKey, Delivery, Hub, Policy, Sink, SubKey};
use moda_core::log::Limits;
use moda_core::ws::Opcode;

const WELCOME: &str = r#"{"type":"welcome","protocol":"moda","version":1}"#;

struct Client {
    gateway: Gateway<u32>,
    conn: ConnKey,
    received: Vec<u8>,
}

impl Client {
    /// Channels at `room:*`, which keep nothing, and `log:*`, which keep nine; a stream at `news`.
    fn new() -> Self {
        let mut gateway = dialect::gateway(Hub::new(Config::default(), 1));
        let mount = gateway.add_mount(3, 100_000, 60_000);
        for (pattern, kind, size) in [
            ("room:*", Kind::Channel, 0),
            ("log:*", Kind::Channel, 9),
            ("news", Kind::Stream, 0),
        ] {
            let limits = Limits {
                size,
                ttl_ms: 60_000,
                bytes: 1 << 20,
            };
            let policy = Policy {
                delivery: Delivery::Every,
                history: (size > 0).then_some(limits),
                ..Policy::default()
            };
            let route = gateway.add_route(Route {
                kind,
                policy,
                intercepts: None,
            });
            gateway.expose(mount, pattern, route).unwrap();
        }
        let codec = gateway.codec("json").unwrap();
        let conn = gateway.open(codec, mount, Sink::Transport, None);
        let mut client = Self {
            gateway,
            conn,
            received: Vec::new(),
        };
        assert_eq!(client.hears(), [WELCOME]);
        client
    }

    fn says<'f>(&mut self, message: &'f str) -> Verdict<'f> {
        let op = Opcode::Text as u8;
        let message = message.as_bytes();
        let verdict = websocket::receive(&mut self.gateway, self.conn, op, true, false, message);
        let join = self.gateway.next_join();
        join.unwrap_or(verdict)
    }

    /// A message that the dialect answers alone; its answers.
    fn asks(&mut self, message: &str) -> Vec<String> {
        assert!(matches!(self.says(message), Verdict::Done), "{message}");
        self.hears()
    }

    fn wants(&mut self, topic: &str, more: &str) -> SubKey {
        let message = format!(r#"{{"type":"subscribe","id":1,"topic":"{topic}"{more}}}"#);
        match self.says(&message) {
            Verdict::Join { sub, .. } => sub,
            other => panic!("{other:?}"),
        }
    }

    fn subscribed(&mut self, topic: &str) -> SubKey {
        let sub = self.wants(topic, "");
        assert_eq!(self.gateway.set_handle(sub, 1), None);
        self.gateway.join_ok(sub, Body::Json(b"{}")).unwrap();
        self.hears();
        sub
    }

    fn publishes(&mut self, topic: &str, json: &str) {
        let body = Body::Json(json.as_bytes());
        self.gateway
            .publish(topic, "said", body, None, SubKey::default());
    }

    fn hears(&mut self) -> Vec<String> {
        while self.gateway.flush() || self.gateway.needs_flush() {}
        while let Some((conn, bytes)) = self.gateway.hub.next_write() {
            self.received.extend(bytes);
            self.gateway.resume(conn);
            self.gateway.flush();
        }
        let frames = frames::take(&mut self.received);
        frames.into_iter().map(frames::into_text).collect()
    }
}

#[test]
fn a_subscription_is_decided_by_its_channel_and_answered_with_its_id() {
    let mut client = Client::new();
    let message = r#"{"type":"subscribe","id":"a","topic":"room:1","params":{"name":"x"}}"#;
    let Verdict::Join {
        sub,
        topic,
        payload,
        ..
    } = client.says(message)
    else {
        panic!("no join")
    };
    assert_eq!(
        (&*topic, &*payload.bytes),
        ("room:1", &br#"{"name":"x"}"#[..])
    );
    client
        .gateway
        .join_ok(sub, Body::Json(br#"{"hello":1}"#))
        .unwrap();
    let told = r#"{"type":"subscribed","id":"a","topic":"room:1","response":{"hello":1}}"#;
    assert_eq!(client.hears(), [told]);
    client.publishes("room:1", r#"{"n":1}"#);
    let event = r#"{"type":"event","topic":"room:1","event":"said","payload":{"n":1}}"#;
    assert_eq!(client.hears(), [event]);
}

#[test]
fn a_topic_with_a_log_tells_its_place_and_gives_what_was_missed() {
    let mut client = Client::new();
    for n in 1..=4 {
        client.publishes("log:1", &format!("{n}"));
    }
    let sub = client.wants("log:1", r#","since":{"epoch":1,"offset":2}"#);
    client.gateway.join_ok(sub, Body::Json(b"{}")).unwrap();
    client.publishes("log:1", "5");
    let event = |n: u32| {
        format!(r#"{{"type":"event","topic":"log:1","event":"said","offset":{n},"payload":{n}}}"#)
    };
    let told = r#"{"type":"subscribed","id":1,"topic":"log:1","epoch":1,"offset":4,"recovered":true,"missed":2,"response":{}}"#;
    assert_eq!(
        client.hears(),
        [told.to_owned(), event(3), event(4), event(5)]
    );
}

#[test]
fn a_place_that_is_gone_is_told_with_its_reason() {
    let mut client = Client::new();
    client.publishes("log:1", "1");
    let sub = client.wants("log:1", r#","since":{"epoch":9,"offset":1}"#);
    client.gateway.join_ok(sub, Body::Json(b"{}")).unwrap();
    let told = r#"{"type":"subscribed","id":1,"topic":"log:1","epoch":1,"offset":1,"recovered":false,"why":"epoch","response":{}}"#;
    assert_eq!(client.hears(), [told]);
}

#[test]
fn what_is_published_goes_to_the_channel_and_its_reply_comes_back() {
    let mut client = Client::new();
    let sub = client.subscribed("room:1");
    let said = r#"{"type":"publish","id":7,"topic":"room:1","event":"say","payload":{"a":1}}"#;
    let Verdict::Message {
        event,
        payload,
        reference,
        ..
    } = client.says(said)
    else {
        panic!("no message")
    };
    assert_eq!(
        (&*event, &*payload.bytes, &*reference),
        ("say", &br#"{"a":1}"#[..], "7")
    );
    let body = Body::Json(b"[2]");
    client.gateway.reply(sub, "7", "ok", body).unwrap();
    client
        .gateway
        .push(sub, "told", Body::Binary(b"\xff"))
        .unwrap();
    assert_eq!(
        client.hears(),
        [
            r#"{"type":"reply","id":7,"topic":"room:1","status":"ok","response":[2]}"#,
            r#"{"type":"event","topic":"room:1","event":"told","encoding":"base64","payload":"/w=="}"#,
        ]
    );
}

#[test]
fn a_refused_subscription_is_an_error_and_so_is_what_waited_for_it() {
    let mut client = Client::new();
    let sub = client.wants("room:1", "");
    let message = r#"{"type":"publish","id":2,"topic":"room:1","event":"say"}"#;
    assert!(matches!(client.says(message), Verdict::Done), "it waits");
    client
        .gateway
        .join_error(sub, br#"{"reason":"no"}"#)
        .unwrap();
    assert!(client.gateway.next_deferred().is_none());
    let heard = client.hears();
    let refused = r#"{"type":"error","id":1,"topic":"room:1","code":"refused","message":"the subscription was refused","response":{"reason":"no"}}"#;
    assert_eq!(heard[0], refused);
    assert!(heard[1].starts_with(r#"{"type":"error","id":2,"code":"not_subscribed""#));
    assert_eq!(heard.len(), 2);
    assert_eq!(client.gateway.counts.channels, 0);
}

#[test]
fn what_comes_while_a_subscription_is_decided_is_taken_behind_the_decision() {
    let mut client = Client::new();
    let sub = client.wants("room:1", "");
    client.says(r#"{"type":"publish","id":2,"topic":"room:1","event":"say","payload":[1]}"#);
    client.says(r#"{"type":"unsubscribe","id":3,"topic":"room:1"}"#);
    assert_eq!(client.gateway.set_handle(sub, 1), None);
    client.gateway.join_ok(sub, Body::Json(b"{}")).unwrap();
    let freed: Vec<Verdict<'_>> = std::iter::from_fn(|| client.gateway.next_deferred()).collect();
    let [Verdict::Message { reference, .. }, Verdict::Leave { .. }] = &freed[..] else {
        panic!("{freed:?}")
    };
    assert_eq!(reference, "2");
}

#[test]
fn unsubscribing_is_answered_behind_what_the_channel_still_handles() {
    let mut client = Client::new();
    let sub = client.subscribed("room:1");
    let leave = r#"{"type":"unsubscribe","id":3,"topic":"room:1"}"#;
    let Verdict::Leave { reference, .. } = client.says(leave) else {
        panic!("no leave")
    };
    assert_eq!(reference, "3");
    assert_eq!(client.gateway.finish_leave(sub, &reference), Some(1));
    let told = r#"{"type":"unsubscribed","id":3,"topic":"room:1","reason":"left"}"#;
    assert_eq!(client.hears(), [told]);
    let news = client.wants("news", "");
    client.gateway.join_ok(news, Body::Json(b"{}")).unwrap();
    client.hears();
    let told = r#"{"type":"unsubscribed","id":null,"topic":"news","reason":"left"}"#;
    assert_eq!(
        client.asks(r#"{"type":"unsubscribe","topic":"news"}"#),
        [told]
    );
}

#[test]
fn a_channel_that_ends_says_how() {
    for (crash, reason) in [(false, "closed"), (true, "crashed")] {
        let mut client = Client::new();
        let sub = client.subscribed("room:1");
        assert_eq!(client.gateway.end(sub, crash), Some(1));
        let told =
            format!(r#"{{"type":"unsubscribed","id":null,"topic":"room:1","reason":"{reason}"}}"#);
        assert_eq!(client.hears(), [told]);
    }
}

#[test]
fn whatever_is_wrong_is_answered_and_the_connection_goes_on() {
    let mut client = Client::new();
    client.subscribed("room:1");
    let news = client.wants("news", "");
    client.gateway.join_ok(news, Body::Json(b"{}")).unwrap();
    client.subscribed("room:3");
    client.hears();
    for (message, code) in [
        ("not json", "invalid_json"),
        ("[]", "invalid_json"),
        (r#"{"type":"shout"}"#, "unknown_type"),
        (r#"{"type":"subscribe"}"#, "invalid_topic"),
        (
            r#"{"type":"subscribe","topic":"elsewhere"}"#,
            "unmatched_topic",
        ),
        (
            r#"{"type":"subscribe","topic":"room:1"}"#,
            "already_subscribed",
        ),
        (
            r#"{"type":"subscribe","topic":"room:4"}"#,
            "too_many_subscriptions",
        ),
        (
            r#"{"type":"unsubscribe","topic":"room:2"}"#,
            "not_subscribed",
        ),
        (
            r#"{"type":"publish","topic":"room:2","event":"e"}"#,
            "not_subscribed",
        ),
        (
            r#"{"type":"publish","topic":"news","event":"e"}"#,
            "push_only",
        ),
    ] {
        let heard = client.asks(message);
        let answer: serde_json::Value = serde_json::from_str(&heard[0]).expect("JSON");
        assert_eq!(heard.len(), 1, "{message}");
        assert_eq!(
            (&answer["type"], &answer["code"]),
            (&"error".into(), &code.into())
        );
        assert!(answer["message"].is_string() && answer["accepted"].is_array());
        assert!(answer["received"].is_string());
    }
    let binary = websocket::receive(&mut client.gateway, client.conn, 2, true, false, b"\xff");
    assert!(matches!(binary, Verdict::Done));
    assert!(client.hears()[0].contains(r#""code":"not_text""#));
    assert_eq!(
        client.asks(r#"{"type":"ping","id":9}"#),
        [r#"{"type":"pong","id":9}"#]
    );
}

#[test]
fn an_error_repeats_no_more_than_its_share_of_what_was_sent() {
    let mut client = Client::new();
    let heard = client.asks(&"é".repeat(10_000));
    let answer: serde_json::Value = serde_json::from_str(&heard[0]).expect("JSON");
    assert_eq!(
        answer["received"].as_str().map(|text| text.chars().count()),
        Some(200)
    );
}
