//! Broadcasts: to all, to all but one channel, intercepted, in order, kept.

use std::sync::Arc;

use moda_core::dialect;
use moda_core::gateway::{Body, Gateway, Kind, Route};
use moda_core::hub::{Config, Hub, Policy, SubKey};
use moda_core::log::Limits;

use crate::frames::{text, Frame};
use crate::talk::{in_every_dialect, Speech, Talk};

fn shout(talk: &mut Talk, payload: &str, exclude: SubKey) -> Vec<SubKey> {
    let body = Body::Json(payload.as_bytes());
    let published = talk.gateway.publish("room:1", "shout", body, None, exclude);
    published.interceptors
}

fn a_broadcast_reaches_every_channel_of_the_topic_the_senders_too(talk: &mut Talk) {
    let other = talk.connect();
    let stranger = talk.connect();
    talk.joined(1, "room:1");
    talk.client_joined(other, 2, "room:1");
    talk.client_joined(stranger, 3, "room:2");
    shout(talk, r#"{"n":1}"#, SubKey::default());
    let heard = [r#"[null,null,"room:1","shout",{"n":1}]"#];
    talk.hears(&heard);
    talk.client_hears(other, &heard);
    talk.client_hears(stranger, &[]);
}

fn a_broadcast_from_excludes_the_channel_and_not_the_users_other_tabs(talk: &mut Talk) {
    let tab = talk.connect();
    let sub = talk.joined(1, "room:1");
    talk.client_joined(tab, 1, "room:1");
    shout(talk, "{}", sub);
    talk.hears(&[]);
    talk.client_hears(tab, &[r#"[null,null,"room:1","shout",{}]"#]);
}

fn broadcasts_of_one_sender_arrive_in_order_with_its_pushes(talk: &mut Talk) {
    let sub = talk.joined(1, "room:1");
    shout(talk, "1", SubKey::default());
    talk.gateway.push(sub, "push", Body::Json(b"2")).unwrap();
    shout(talk, "3", SubKey::default());
    talk.hears(&[
        r#"[null,null,"room:1","shout",1]"#,
        r#"["1",null,"room:1","push",2]"#,
        r#"[null,null,"room:1","shout",3]"#,
    ]);
}

fn a_broadcast_to_a_topic_nobody_joined_is_nothing(talk: &mut Talk) {
    talk.says(r#"["1","1","room:1","phx_join",{}]"#);
    assert!(shout(talk, "{}", SubKey::default()).is_empty());
    talk.hears(&[]);
}

fn an_intercepted_broadcast_is_pushed_on_by_its_channel_or_not(talk: &mut Talk) {
    let events: [Box<str>; 1] = ["shout".into()];
    let route = talk.gateway.add_route(Route {
        kind: Kind::Channel,
        policy: Policy::default(),
        intercepts: Some(Arc::new(events.into_iter().collect())),
    });
    talk.gateway.expose(0, "guarded:*", route).unwrap();
    let other = talk.connect();
    let first = talk.joined(1, "guarded:1");
    let second = talk.client_joined(other, 2, "guarded:1");
    let asked = talk.gateway.publish(
        "guarded:1",
        "shout",
        Body::Json(b"{}"),
        None,
        SubKey::default(),
    );
    assert_eq!(asked.interceptors, [first, second]);
    talk.gateway
        .push(first, "shout", Body::Json(br#"{"seen":true}"#))
        .unwrap();
    talk.hears(&[r#"["1",null,"guarded:1","shout",{"seen":true}]"#]);
    talk.client_hears(other, &[]);
    let asked = talk.gateway.publish(
        "guarded:1",
        "whisper",
        Body::Json(b"{}"),
        None,
        SubKey::default(),
    );
    assert!(asked.interceptors.is_empty());
    talk.hears(&[r#"[null,null,"guarded:1","whisper",{}]"#]);
}

in_every_dialect! {
    a_broadcast_reaches_every_channel_of_the_topic_the_senders_too,
    a_broadcast_from_excludes_the_channel_and_not_the_users_other_tabs,
    broadcasts_of_one_sender_arrive_in_order_with_its_pushes,
    a_broadcast_to_a_topic_nobody_joined_is_nothing,
    an_intercepted_broadcast_is_pushed_on_by_its_channel_or_not,
}

#[test]
fn each_client_hears_a_broadcast_in_its_own_dialect() {
    let mut talk = Talk::new(Speech::V2Text);
    let new = talk.conn(0);
    let old = talk.connect_as("phoenix/1", 0);
    talk.joined(1, "room:1");
    let join = br#"{"topic":"room:1","event":"phx_join","payload":{},"ref":"1"}"#;
    talk.receive(old, 1, true, false, join);
    let verdict = talk.gateway.next_join().expect("a join");
    let sub = crate::talk::Asked::of(verdict).sub();
    talk.gateway.join_ok(sub, crate::talk::EMPTY).unwrap();
    talk.turn();
    shout(&mut talk, "[1]", SubKey::default());
    talk.gateway.publish(
        "room:1",
        "raw",
        Body::Binary(b"\xff"),
        None,
        SubKey::default(),
    );
    talk.gateway.hub.flush();
    let mut got = std::collections::BTreeMap::new();
    while let Some((conn, mut bytes)) = talk.gateway.hub.next_write() {
        got.insert(conn, crate::frames::take(&mut bytes));
    }
    assert_eq!(
        got[&old],
        [text(
            r#"{"topic":"room:1","event":"shout","payload":[1],"ref":null}"#
        )]
    );
    assert_eq!(
        got[&new],
        [
            text(r#"[null,null,"room:1","shout",[1]]"#),
            Frame::Binary(b"\x02\x06\x03room:1raw\xff".to_vec()),
        ]
    );
    assert_eq!(talk.gateway.hub.stats.unencodable, 1);
}

#[test]
fn names_of_a_broadcast_are_escaped_once_for_all() {
    let mut talk = Talk::new(Speech::V2Text);
    talk.says(r#"["1","1","room:\"q\"\n","phx_join",{}]"#);
    let sub = talk.gateway.hub.find(talk.conn(0), "room:\"q\"\n").unwrap();
    talk.gateway.join_ok(sub, crate::talk::EMPTY).unwrap();
    talk.frames(0);
    let body = Body::Json(b"{}");
    talk.gateway
        .publish("room:\"q\"\n", "e\\v", body, None, SubKey::default());
    talk.hears(&[r#"[null,null,"room:\"q\"\n","e\\v",{}]"#]);
}

#[test]
fn the_history_of_a_route_is_kept_from_the_first_broadcast_on() {
    let mut gateway: Gateway<u32> = dialect::gateway(Hub::new(Config::default(), 1));
    let policy = Policy {
        history: Some(Limits {
            size: 10,
            ttl_ms: 1000,
            bytes: 1000,
        }),
        ..Policy::default()
    };
    let route = |policy| Route {
        kind: Kind::Channel,
        policy,
        intercepts: None,
    };
    let plain = gateway.add_route(route(Policy::default()));
    let kept = gateway.add_route(route(policy));
    let (first, second) = (gateway.add_mount(1, 1, 0), gateway.add_mount(1, 1, 0));
    gateway.expose(first, "room:*", plain).unwrap();
    gateway.expose(second, "kept:{name}", kept).unwrap();
    let mut publish = |topic: &str| {
        let body = Body::Json(b"{}");
        gateway.publish(topic, "said", body, None, SubKey::default());
    };
    for topic in ["kept:1", "kept:1", "room:1", "nowhere"] {
        publish(topic);
    }
    assert_eq!(gateway.hub.topics(), 1);
    let topic = gateway.hub.topic_by_name("kept:1").unwrap();
    assert_eq!(topic.history.as_ref().unwrap().offset(), 2);
}
