//! Presence on topics of a gateway: who is sent what, and when.

use std::collections::BTreeMap;

use moda_core::dialect::{self, websocket};
use moda_core::gateway::{Body, Gateway, Kind, Route, Verdict};
use moda_core::handler::{
    presence::{Ask, Denied, Read, Wish, BATCH_MS},
    service,
};
use moda_core::hub::{Config, ConnKey, Delivery, Hub, Policy, Sink, SubKey};
use moda_core::log::Limits;
use moda_core::ws::Opcode;
use serde_json::{json, Value};

use super::client::{copy_of, Client};
use super::frames;

struct House {
    gateway: Gateway<u32>,
    mount: u16,
    received: BTreeMap<ConnKey, Vec<u8>>,
    refs: u32,
    now: u64,
}

impl House {
    fn new(delivery: Delivery, history: usize, mode: &str) -> Self {
        let mut gateway = dialect::gateway(Hub::new(Config::default(), 1));
        let mount = gateway.add_mount(10, 100_000, 0);
        let limits = Limits {
            size: history,
            ttl_ms: 60_000,
            bytes: 1 << 20,
        };
        let route = gateway.add_route(Route {
            kind: Kind::Stream,
            policy: Policy {
                delivery,
                history: (history > 0).then_some(limits),
                ..Policy::default()
            },
            intercepts: None,
        });
        gateway.serve(route, service("presence", mode).unwrap());
        gateway.expose(mount, "room:*", route).unwrap();
        Self {
            gateway,
            mount,
            received: BTreeMap::new(),
            refs: 0,
            now: 1,
        }
    }

    fn connect(&mut self, variant: &str) -> ConnKey {
        let codec = self.gateway.codec(variant).unwrap();
        let conn = self.gateway.open(codec, self.mount, Sink::Transport, None);
        self.hears(conn);
        conn
    }

    /// What a message leaves for the driver to decide.
    fn says(&mut self, conn: ConnKey, message: &str) -> Verdict<'static> {
        let op = Opcode::Text as u8;
        let message = message.as_bytes();
        let verdict = websocket::receive(&mut self.gateway, conn, op, true, false, message);
        assert!(matches!(verdict, Verdict::Done), "{verdict:?}");
        self.gateway.next_join().unwrap_or(Verdict::Done)
    }

    fn join(&mut self, conn: ConnKey, params: &str) -> SubKey {
        self.refs += 1;
        let n = self.refs;
        let message = format!(r#"["{n}","{n}","room:a","phx_join",{params}]"#);
        let Verdict::Join { sub, .. } = self.says(conn, &message) else {
            panic!("no join")
        };
        self.gateway.join_ok(sub, Body::Json(b"{}")).unwrap();
        sub
    }

    fn ask(&mut self, sub: SubKey, key: &str, wish: Wish) -> Option<Result<(), Denied>> {
        let mut ask = Ask {
            sub,
            key: key.into(),
            wish,
            answer: None,
        };
        self.gateway.tell(sub, &mut ask);
        ask.answer
    }

    fn track(&mut self, sub: SubKey, key: &str) {
        let wish = Wish::Track((*b"{}").into());
        assert_eq!(self.ask(sub, key, wish), Some(Ok(())));
    }

    fn read(&mut self) -> Option<Value> {
        let mut read = Read::default();
        self.gateway.tell_topic("room:a", &mut read);
        read.answer
            .map(|json| serde_json::from_slice(&json).unwrap())
    }

    /// Time passes; what is due is done.
    fn pass(&mut self, ms: u64) {
        self.now += ms;
        self.gateway.hub.set_now(self.now);
        self.gateway.wake();
    }

    /// The text frames a connection has been sent since the last time.
    fn hears(&mut self, conn: ConnKey) -> Vec<Value> {
        while self.gateway.needs_flush() {
            self.gateway.flush();
            while let Some((to, bytes)) = self.gateway.hub.next_write() {
                self.received.entry(to).or_default().extend(bytes);
                self.gateway.resume(to);
            }
        }
        let frames = frames::take(self.received.entry(conn).or_default());
        let text = frames.into_iter().map(frames::into_text);
        text.map(|text| serde_json::from_str(&text).unwrap())
            .collect()
    }

    fn hears_presence(&mut self, conn: ConnKey, client: &mut Client) -> usize {
        let frames = self.hears(conn);
        let presence = frames.iter().filter(|frame| frame[3] != "phx_reply");
        presence
            .map(|frame| client.hears(frame[3].as_str().unwrap(), &frame[4]))
            .count()
    }
}

const LIST: &str = r#"{"mode":"list"}"#;
const COUNT: &str = r#"{"mode":"count"}"#;

#[test]
fn every_join_is_sent_the_state_behind_its_answer_with_its_join_ref() {
    let mut house = House::new(Delivery::Every, 0, LIST);
    let conn = house.connect("phoenix/2");
    for join_ref in ["1", "2"] {
        house.join(conn, "{}");
        let frames = house.hears(conn);
        assert_eq!(frames[0][3], "phx_reply");
        let state = json!([join_ref, null, "room:a", "presence_state", {}]);
        assert!(frames.contains(&state), "{frames:?}");
    }
}

#[test]
fn changes_are_told_to_all_in_one_diff_within_a_tenth_of_a_second() {
    let mut house = House::new(Delivery::Every, 0, LIST);
    let (conn, other) = (house.connect("phoenix/2"), house.connect("json"));
    let sub = house.join(conn, "{}");
    let subscribe = r#"{"type":"subscribe","id":1,"topic":"room:a"}"#;
    let Verdict::Join { sub: json_sub, .. } = house.says(other, subscribe) else {
        panic!("no join")
    };
    house.gateway.join_ok(json_sub, Body::Json(b"{}")).unwrap();
    let heard = house.hears(other);
    assert_eq!(
        heard[1],
        json!({"type": "event", "topic": "room:a", "event": "presence_state", "payload": {}})
    );
    house.hears(conn);
    house.track(sub, "ann");
    house.track(json_sub, "bob");
    assert!(house.hears(conn).is_empty());
    let due = house.gateway.next_wake().unwrap();
    assert!(due - house.now <= 100, "{due}");
    house.pass(BATCH_MS);
    let heard = house.hears(conn);
    assert_eq!(heard.len(), 1);
    let diff = &heard[0][4];
    assert_eq!(
        heard[0],
        json!([null, null, "room:a", "presence_diff", diff])
    );
    let names: Vec<_> = heard[0][4]["joins"].as_object().unwrap().keys().collect();
    assert_eq!(names, ["ann", "bob"]);
    assert_eq!(house.hears(other)[0]["payload"], heard[0][4]);
    assert_eq!(house.gateway.next_wake(), None);
}

#[test]
fn whoever_leaves_joins_again_or_is_cut_is_present_no_more() {
    let mut house = House::new(Delivery::Every, 0, LIST);
    let watcher = house.connect("phoenix/2");
    house.join(watcher, "{}");
    let mut conns = Vec::new();
    for key in ["left", "again", "cut", "closed", "ended"] {
        let conn = house.connect("phoenix/2");
        let sub = house.join(conn, "{}");
        house.track(sub, key);
        conns.push((conn, sub));
    }
    assert_eq!(house.read().unwrap()["count"], 5);
    house.pass(BATCH_MS);
    house.hears(watcher);
    assert!(matches!(
        house.says(conns[0].0, r#"[null,"9","room:a","phx_leave",{}]"#),
        Verdict::Done
    ));
    house.join(conns[1].0, "{}");
    house.gateway.lost(conns[2].0);
    house
        .gateway
        .close(conns[3].0, 1001, "bye", "closed", false);
    house.gateway.end(conns[4].1, true);
    assert_eq!(house.read(), Some(json!({"count": 0, "presences": {}})));
    house.pass(BATCH_MS);
    let heard = house.hears(watcher);
    assert_eq!(heard.len(), 1);
    assert_eq!(heard[0][4]["joins"], json!({}));
    assert_eq!(heard[0][4]["leaves"].as_object().unwrap().len(), 5);
}

#[test]
fn a_topic_forgets_its_presences_with_its_last_subscription() {
    let mut house = House::new(Delivery::Every, 0, LIST);
    let conn = house.connect("phoenix/2");
    let sub = house.join(conn, "{}");
    house.track(sub, "ann");
    house.gateway.lost(conn);
    assert_eq!(house.read(), None);
    assert_eq!(house.gateway.next_wake(), None);
    assert_eq!(house.ask(sub, "ann", Wish::Untrack), None);
}

#[test]
fn a_counted_topic_is_told_a_number_once_per_batch_and_only_when_it_is_another() {
    let mut house = House::new(Delivery::Every, 0, COUNT);
    let conn = house.connect("phoenix/2");
    let sub = house.join(conn, "{}");
    let heard = house.hears(conn);
    assert_eq!(
        heard[1],
        json!(["1", null, "room:a", "presence_count", {"count": 0}])
    );
    house.track(sub, "ann");
    house.track(sub, "bob");
    house.pass(BATCH_MS);
    let told = json!([null, null, "room:a", "presence_count", {"count": 2}]);
    assert_eq!(house.hears(conn), [told]);
    house.ask(sub, "ann", Wish::Untrack);
    house.track(sub, "eve");
    house.pass(BATCH_MS);
    assert!(house.hears(conn).is_empty());
    assert_eq!(
        house.read().unwrap()["presences"]
            .as_object()
            .unwrap()
            .len(),
        2
    );
}

#[test]
fn presence_has_no_place_in_a_topics_log() {
    let mut house = House::new(Delivery::Every, 10, LIST);
    let conn = house.connect("phoenix/2");
    let sub = house.join(conn, "{}");
    house.track(sub, "ann");
    house.pass(BATCH_MS);
    house.hears(conn);
    assert_eq!(house.gateway.position("room:a").unwrap().offset, 0);
}

#[test]
fn who_comes_back_to_a_log_is_given_the_state_once_it_is_in_the_live_order() {
    let mut house = House::new(Delivery::Every, 10, LIST);
    let conn = house.connect("phoenix/2");
    let sub = house.join(conn, "{}");
    for _ in 0..3 {
        let body = Body::Json(b"{}");
        house
            .gateway
            .publish("room:a", "said", body, None, SubKey::default());
    }
    let late = house.connect("phoenix/2");
    house.join(late, r#"{"recover":{"epoch":1,"offset":1}}"#);
    house.track(sub, "ann");
    house.pass(BATCH_MS);
    let mut client = Client::default();
    let heard = house.hears(late);
    let events: Vec<_> = heard
        .iter()
        .map(|frame| frame[3].as_str().unwrap())
        .collect();
    assert_eq!(events, ["phx_reply", "said", "said", "presence_state"]);
    client.hears("presence_state", &heard[3][4]);
    assert_eq!(client.sees(), copy_of(&house.read().unwrap()["presences"]));
}

#[test]
fn readers_of_a_topic_that_conflates_or_drops_are_told_all_of_it() {
    for delivery in [Delivery::Latest, Delivery::Drop] {
        let mut house = House::new(delivery, 0, LIST);
        let reader = house.connect("phoenix/2");
        house.join(reader, "{}");
        let mut client = Client::default();
        house.hears_presence(reader, &mut client);
        let others: Vec<_> = (0..4).map(|_| house.connect("phoenix/2")).collect();
        house.gateway.hub.block(reader);
        for (n, other) in others.iter().enumerate() {
            let sub = house.join(*other, "{}");
            house.track(sub, &format!("user {n}"));
            house.pass(BATCH_MS);
            house.hears(*other);
        }
        house.gateway.resume(reader);
        assert_eq!(house.hears_presence(reader, &mut client), 4);
        assert_eq!(client.sees(), copy_of(&house.read().unwrap()["presences"]));
        assert_eq!(client.sees().len(), 4);
    }
}

#[test]
fn frames_grow_with_the_members_and_not_with_their_square() {
    let mut house = House::new(Delivery::Every, 0, LIST);
    let (members, per_batch) = (200, 20);
    let first = house.connect("phoenix/2");
    house.join(first, "{}");
    let mut client = Client::default();
    let mut frames = house.hears_presence(first, &mut client);
    for n in 1..=members {
        let conn = house.connect("phoenix/2");
        let sub = house.join(conn, "{}");
        house.track(sub, &n.to_string());
        if n % per_batch == 0 {
            house.pass(BATCH_MS);
            frames += house.hears_presence(first, &mut client);
        }
    }
    assert_eq!(frames, 1 + members / per_batch);
    assert_eq!(client.sees().len(), members);
}

#[test]
fn a_service_says_what_it_takes() {
    let wrong = |name, options| service(name, options).err().unwrap();
    assert!(wrong("presents", "{}").contains("there are presence"));
    for options in ["{}", r#"{"mode":"all"}"#, "[", r#"{"mode":1}"#] {
        let error = wrong("presence", options);
        assert!(error.contains("list") && error.contains(options), "{error}");
    }
}
