//! Clients that come back and say where they have been.

use moda_core::gateway::{Kind, Route};
use moda_core::hub::{Delivery, Policy};
use moda_core::log::Limits;

use crate::talk::{Asked, Speech, Talk, EMPTY};

const LOG: Limits = Limits {
    size: 1000,
    ttl_ms: 60_000,
    bytes: 1 << 20,
};

/// Topics `log:*` keep a log of so many messages; `secret` is intercepted on `shy:*`.
fn talk(speech: Speech, size: usize) -> Talk {
    let mut talk = Talk::new(speech);
    let policy = Policy {
        delivery: Delivery::Every,
        history: Some(Limits { size, ..LOG }),
        ..Policy::default()
    };
    for (pattern, intercepts) in [("log:*", None), ("shy:*", Some("secret"))] {
        let intercepts = intercepts.map(|event| std::sync::Arc::new([event.into()].into()));
        let route = talk.gateway.add_route(Route {
            kind: Kind::Channel,
            policy: policy.clone(),
            intercepts,
        });
        talk.gateway.expose(0, pattern, route).unwrap();
    }
    talk
}

fn says(talk: &mut Talk, topic: &str, numbers: std::ops::RangeInclusive<u64>) {
    for n in numbers {
        talk.broadcast(topic, "said", &format!("{{\"n\":{n}}}"));
    }
}

fn live(topic: &str, n: u64) -> String {
    format!(r#"[null,"@{n}","{topic}","said",{{"n":{n}}}]"#)
}

/// Joins with a position; gives back what the client hears up to now.
fn comes_back(talk: &mut Talk, client: usize, topic: &str, recover: &str) -> Vec<String> {
    let join = format!(r#"["9","9","{topic}","phx_join",{{"recover":{recover}}}]"#);
    let sub = talk.client_says(client, &join).sub();
    talk.gateway.join_ok(sub, EMPTY).unwrap();
    talk.turn();
    talk.texts(client)
}

fn answer(topic: &str, response: &str) -> String {
    format!(r#"["9","9","{topic}","phx_reply",{{"status":"ok","response":{{{response}}}}}]"#)
}

#[test]
fn the_answer_of_a_join_says_where_the_log_stands_and_broadcasts_say_their_offset() {
    let mut talk = talk(Speech::V2Text, 9);
    says(&mut talk, "log:1", 1..=3);
    let sub = talk.says(r#"["9","9","log:1","phx_join",{}]"#).sub();
    talk.gateway.join_ok(sub, EMPTY).unwrap();
    says(&mut talk, "log:1", 4..=4);
    talk.turn();
    let heard = [answer("log:1", r#""epoch":1,"offset":3"#), live("log:1", 4)];
    assert_eq!(talk.texts(0), heard);
}

#[test]
fn a_client_that_comes_back_gets_what_it_missed_and_then_what_is_new() {
    let mut talk = talk(Speech::V2Text, 9);
    says(&mut talk, "log:1", 1..=5);
    let heard = comes_back(&mut talk, 0, "log:1", r#"{"epoch":1,"offset":2}"#);
    let told = answer(
        "log:1",
        r#""epoch":1,"offset":5,"recovered":true,"missed":3"#,
    );
    let expected = [told, live("log:1", 3), live("log:1", 4), live("log:1", 5)];
    assert_eq!(heard, expected);
    says(&mut talk, "log:1", 6..=6);
    talk.turn();
    assert_eq!(talk.texts(0), [live("log:1", 6)]);
}

#[test]
fn v1_is_told_in_its_own_form() {
    let mut talk = talk(Speech::V1, 9);
    says(&mut talk, "log:1", 1..=2);
    let heard = comes_back(&mut talk, 0, "log:1", r#"{"epoch":1,"offset":1}"#);
    assert_eq!(
        heard[1],
        r#"{"topic":"log:1","event":"said","payload":{"n":2},"ref":"@2"}"#
    );
}

#[test]
fn one_that_missed_nothing_is_told_so_and_joins_the_live_order_at_once() {
    let mut talk = talk(Speech::V2Text, 9);
    says(&mut talk, "log:1", 1..=5);
    let heard = comes_back(&mut talk, 0, "log:1", r#"{"epoch":1,"offset":5}"#);
    let told = answer(
        "log:1",
        r#""epoch":1,"offset":5,"recovered":true,"missed":0"#,
    );
    assert_eq!(heard, [told]);
    says(&mut talk, "log:1", 6..=6);
    talk.turn();
    assert_eq!(talk.texts(0), [live("log:1", 6)]);
}

#[test]
fn a_place_the_log_does_not_know_is_never_called_recovered() {
    for (recover, why) in [
        (r#"{"epoch":2,"offset":4}"#, "epoch"),
        (r#"{"epoch":1,"offset":1}"#, "expired"),
        (r#"{"epoch":1,"offset":6}"#, "ahead"),
        (r#"{"epoch":1,"offset":18446744073709551615}"#, "ahead"),
        (r#"{"epoch":"1","offset":4}"#, "epoch"),
        (r#"{"epoch":1,"offset":-4}"#, "expired"),
        ("{}", "epoch"),
        ("null", "epoch"),
        ("[1,4]", "epoch"),
    ] {
        let mut talk = talk(Speech::V2Text, 3);
        says(&mut talk, "log:1", 1..=5);
        let heard = comes_back(&mut talk, 0, "log:1", recover);
        let told = format!(r#""epoch":1,"offset":5,"recovered":false,"why":"{why}""#);
        assert_eq!(heard, [answer("log:1", &told)], "{recover}");
        says(&mut talk, "log:1", 6..=6);
        talk.turn();
        assert_eq!(talk.texts(0), [live("log:1", 6)], "it is live all the same");
    }
}

#[test]
fn what_a_channel_looks_at_first_is_not_given_behind_its_back() {
    let mut talk = talk(Speech::V2Text, 9);
    says(&mut talk, "shy:1", 1..=2);
    talk.broadcast("shy:1", "secret", "3");
    let heard = comes_back(&mut talk, 0, "shy:1", r#"{"epoch":1,"offset":2}"#);
    let told = r#""epoch":1,"offset":3,"recovered":false,"why":"intercepted""#;
    assert_eq!(heard, [answer("shy:1", told)]);
    let other = talk.connect();
    says(&mut talk, "shy:1", 4..=4);
    let heard = comes_back(&mut talk, other, "shy:1", r#"{"epoch":1,"offset":3}"#);
    assert_eq!(heard[1], live("shy:1", 4));
}

#[test]
fn a_topic_without_a_log_says_nothing_of_one() {
    let mut talk = talk(Speech::V2Text, 9);
    let heard = comes_back(&mut talk, 0, "room:1", r#"{"epoch":1,"offset":2}"#);
    assert_eq!(heard, [answer("room:1", "")]);
}

#[test]
fn the_applications_own_answer_stays_beside_the_place() {
    let mut talk = talk(Speech::V2Text, 9);
    let sub = talk.says(r#"["9","9","log:1","phx_join",{}]"#).sub();
    let body = moda_core::gateway::Body::Json(br#"{"name":"x"}"#);
    talk.gateway.join_ok(sub, body).unwrap();
    talk.turn();
    let told = answer("log:1", r#""name":"x","epoch":1,"offset":0"#);
    assert_eq!(talk.texts(0), [told]);
}

#[test]
fn a_reader_that_pauses_while_it_catches_up_gets_every_message_once_and_in_order() {
    let mut talk = talk(Speech::V2Text, 1000);
    let filler = "x".repeat(1000);
    for n in 1..=300 {
        talk.broadcast(
            "log:1",
            "said",
            &format!("{{\"n\":{n},\"f\":\"{filler}\"}}"),
        );
    }
    talk.stalls(0);
    let mut heard = comes_back(&mut talk, 0, "log:1", r#"{"epoch":1,"offset":0}"#);
    assert!(heard.len() < 100, "a piece at a time: {}", heard.len());
    let mut published = 300;
    for _ in 0..20 {
        published += 1;
        talk.broadcast("log:1", "said", &format!("{{\"n\":{published}}}"));
        talk.reads(0);
        heard.extend(talk.texts(0));
    }
    let offsets: Vec<String> = heard[1..]
        .iter()
        .map(|frame| frame.split('"').nth(1).unwrap_or_default().to_owned())
        .collect();
    let expected: Vec<String> = (1..=published).map(|n| format!("@{n}")).collect();
    assert_eq!(offsets, expected);
}

#[test]
fn a_reader_whose_log_is_forgotten_while_it_pauses_is_a_slow_one() {
    let mut talk = talk(Speech::V2Text, 100);
    let filler = "x".repeat(1000);
    for n in 1..=100 {
        talk.broadcast(
            "log:1",
            "said",
            &format!("{{\"n\":{n},\"f\":\"{filler}\"}}"),
        );
    }
    talk.stalls(0);
    comes_back(&mut talk, 0, "log:1", r#"{"epoch":1,"offset":0}"#);
    for _ in 0..200 {
        talk.broadcast("log:1", "said", "{}");
    }
    talk.reads(0);
    talk.reads(0);
    let conn = talk.conn(0);
    assert_eq!(talk.complaints(), [(conn, 1013, "slow reader")]);
}

#[test]
fn one_that_leaves_or_vanishes_while_it_catches_up_is_forgotten() {
    let mut talk = talk(Speech::V2Text, 1000);
    let filler = "x".repeat(1000);
    for n in 1..=300 {
        talk.broadcast(
            "log:1",
            "said",
            &format!("{{\"n\":{n},\"f\":\"{filler}\"}}"),
        );
    }
    let other = talk.connect();
    talk.stalls(0);
    talk.stalls(other);
    comes_back(&mut talk, 0, "log:1", r#"{"epoch":1,"offset":0}"#);
    comes_back(&mut talk, other, "log:1", r#"{"epoch":1,"offset":0}"#);
    assert_eq!(
        talk.says(r#"["9","10","log:1","phx_leave",{}]"#),
        Asked::Nothing
    );
    talk.vanishes(other);
    talk.reads(0);
    talk.turn();
    assert!(!talk.gateway.needs_flush());
    assert_eq!(talk.gateway.counts.channels, 0);
}

#[test]
fn many_who_come_back_together_share_what_is_encoded() {
    let mut talk = talk(Speech::V2Text, 100);
    says(&mut talk, "log:1", 1..=50);
    let clients: Vec<usize> = (0..20).map(|_| talk.connect()).collect();
    for client in clients {
        let heard = comes_back(&mut talk, client, "log:1", r#"{"epoch":1,"offset":10}"#);
        assert_eq!(heard.len(), 41);
        assert_eq!(heard[40], live("log:1", 50));
    }
}
