//! Relays: what one client publishes reaches the others, without a driver.

#[allow(dead_code)] // each test binary uses its part of them
#[path = "support/frames.rs"]
mod frames;

use std::collections::BTreeMap;

use moda_core::dialect::{self, websocket};
use moda_core::gateway::{Body, Gateway, Kind, Route, Verdict};
use moda_core::handler::{relay::Permit, service};
use moda_core::hub::{Config, ConnKey, Hub, Policy, Sink, SubKey};
use moda_core::log::Limits;
use moda_core::ws::Opcode;

struct House {
    gateway: Gateway<u32>,
    mount: u16,
    received: BTreeMap<ConnKey, Vec<u8>>,
}

impl House {
    fn new(options: &str, history: usize) -> Self {
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
                history: (history > 0).then_some(limits),
                ..Policy::default()
            },
            intercepts: None,
        });
        gateway.serve(route, service("relay", options).unwrap());
        gateway.expose(mount, "chat:*", route).unwrap();
        Self {
            gateway,
            mount,
            received: BTreeMap::new(),
        }
    }

    /// A connection that has joined `chat:a`.
    fn joined(&mut self, variant: &str) -> ConnKey {
        let codec = self.gateway.codec(variant).unwrap();
        let conn = self.gateway.open(codec, self.mount, Sink::Transport, None);
        let join = match variant {
            "json" => r#"{"type":"subscribe","id":1,"topic":"chat:a"}"#,
            _ => r#"["1","1","chat:a","phx_join",{}]"#,
        };
        let sub = match self.says(conn, join) {
            Verdict::Join { sub, .. } => sub,
            other => panic!("{other:?}"),
        };
        self.gateway.join_ok(sub, Body::Json(b"{}")).unwrap();
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

    /// A message that needs no driver.
    fn sends(&mut self, conn: ConnKey, message: &str) {
        let verdict = self.says(conn, message);
        assert!(matches!(verdict, Verdict::Done), "{verdict:?}");
    }

    fn hears(&mut self, conn: ConnKey) -> Vec<String> {
        while self.gateway.needs_flush() {
            self.gateway.flush();
            while let Some((to, bytes)) = self.gateway.hub.next_write() {
                self.received.entry(to).or_default().extend(bytes);
                self.gateway.resume(to);
            }
        }
        let frames = frames::take(self.received.entry(conn).or_default());
        frames.iter().map(|frame| format!("{frame:?}")).collect()
    }
}

fn refused(reference: u32, response: &str) -> String {
    format!(
        r#"["1","{reference}","chat:a","phx_reply",{{"status":"error","response":{response}}}]"#
    )
}

#[test]
fn what_one_says_reaches_the_others_byte_for_byte_and_is_acknowledged_where_asked() {
    let mut house = House::new("{}", 0);
    let (ann, bob, eve) = (
        house.joined("phoenix/2"),
        house.joined("phoenix/2"),
        house.joined("json"),
    );
    let payload = r#"{"n": 12345678901234567890123, "price":1.10, "text":"h\u0069"}"#;
    house.sends(ann, &format!(r#"["1","2","chat:a","said",{payload}]"#));
    house.sends(ann, &format!(r#"["1",null,"chat:a","said",{payload}]"#));
    let ok = r#"["1","2","chat:a","phx_reply",{"status":"ok","response":{}}]"#;
    assert_eq!(house.hears(ann), [ok]);
    let heard = format!(r#"[null,null,"chat:a","said",{payload}]"#);
    assert_eq!(house.hears(bob), [heard.clone(), heard]);
    let event =
        format!(r#"{{"type":"event","topic":"chat:a","event":"said","payload":{payload}}}"#);
    assert_eq!(house.hears(eve), [event.clone(), event]);
}

#[test]
fn bytes_are_relayed_as_bytes() {
    let mut house = House::new("{}", 0);
    let (ann, bob) = (house.joined("phoenix/2"), house.joined("phoenix/2"));
    let frame = b"\0\x01\x01\x06\x0412chat:asaid\x00\xff";
    let op = Opcode::Binary as u8;
    websocket::receive(&mut house.gateway, ann, op, true, false, frame);
    assert_eq!(
        house.hears(bob),
        [format!("binary {:02x?}", b"\x02\x06\x04chat:asaid\x00\xff")]
    );
}

#[test]
fn a_json_client_is_told_where_its_message_is_in_the_log() {
    let mut house = House::new("{}", 9);
    let ann = house.joined("json");
    for (id, offset) in [("7", 1), (r#""x""#, 2)] {
        let publish = format!(
            r#"{{"type":"publish","id":{id},"topic":"chat:a","event":"said","payload":{{}}}}"#
        );
        house.sends(ann, &publish);
        let published = format!(
            r#"{{"type":"published","id":{id},"topic":"chat:a","epoch":1,"offset":{offset}}}"#
        );
        assert_eq!(house.hears(ann), [published]);
    }
    house.sends(
        ann,
        r#"{"type":"publish","topic":"chat:a","event":"said","payload":{}}"#,
    );
    assert!(house.hears(ann).is_empty());
    assert_eq!(house.gateway.position("chat:a").unwrap().offset, 3);
}

#[test]
fn what_is_not_declared_reserved_or_no_object_goes_nowhere_and_says_why() {
    let mut house = House::new(r#"{"events":["said","hum"],"reserved":["phx_close"]}"#, 0);
    let (ann, bob) = (house.joined("phoenix/2"), house.joined("phoenix/2"));
    for (event, payload, response) in [
        (
            "shout",
            "{}",
            r#"{"accepted":["hum","said"],"event":"shout","reason":"unknown event"}"#,
        ),
        (
            "phx_close",
            "{}",
            r#"{"event":"phx_close","reason":"reserved event"}"#,
        ),
        (
            "said",
            "[1]",
            r#"{"reason":"a payload is an object or binary"}"#,
        ),
        (
            "said",
            "null",
            r#"{"reason":"a payload is an object or binary"}"#,
        ),
    ] {
        house.sends(ann, &format!(r#"["1","3","chat:a","{event}",{payload}]"#));
        assert_eq!(house.hears(ann), [refused(3, response)]);
        house.sends(ann, &format!(r#"["1",null,"chat:a","{event}",{payload}]"#));
        assert!(house.hears(ann).is_empty());
    }
    assert!(house.hears(bob).is_empty());
}

#[test]
fn a_subscription_that_may_not_publish_hears_and_is_not_heard() {
    let mut house = House::new("{}", 0);
    let (ann, bob) = (house.joined("phoenix/2"), house.joined("phoenix/2"));
    let sub = house.gateway.hub.find(ann, "chat:a").unwrap();
    let mut permit = Permit {
        sub,
        publish: false,
    };
    assert!(house.gateway.tell(sub, &mut permit));
    house.sends(ann, r#"["1","3","chat:a","said",{}]"#);
    let response = r#"{"reason":"unauthorized","rule":"publish"}"#;
    assert_eq!(house.hears(ann), [refused(3, response)]);
    house.sends(bob, r#"["1",null,"chat:a","said",{}]"#);
    assert_eq!((house.hears(ann).len(), house.hears(bob).len()), (1, 0));
    permit.publish = true;
    house.gateway.tell(sub, &mut permit);
    house.sends(ann, r#"["1",null,"chat:a","said",{}]"#);
    assert_eq!(house.hears(bob).len(), 1);
}

#[test]
fn each_subscription_has_its_own_rate() {
    let mut house = House::new(r#"{"rate":{"count":3,"seconds":1.0}}"#, 0);
    let (ann, bob) = (house.joined("phoenix/2"), house.joined("phoenix/2"));
    house.gateway.hub.set_now(10_000);
    let says = |house: &mut House, conn| {
        for _ in 0..5 {
            house.sends(conn, r#"["1",null,"chat:a","said",{}]"#);
        }
    };
    says(&mut house, ann);
    assert_eq!(house.hears(bob).len(), 3);
    assert_eq!(house.gateway.counts.rate_limited, 2);
    house.sends(ann, r#"["1","9","chat:a","said",{}]"#);
    let limited = refused(9, r#"{"limit":"3 in 1 s","reason":"rate limited"}"#);
    assert_eq!(house.hears(ann), [limited]);
    says(&mut house, bob);
    assert_eq!(house.hears(ann).len(), 3);
    house.gateway.hub.set_now(10_334);
    says(&mut house, ann);
    assert_eq!(house.hears(bob).len(), 1);
}

#[test]
fn what_is_relayed_to_a_watched_topic_is_shown_to_the_driver() {
    let mut house = House::new("{}", 0);
    let ann = house.joined("phoenix/2");
    house.sends(ann, r#"["1",null,"chat:a","said",{"n":1}]"#);
    assert!(house.gateway.next_echo().is_none());
    house.gateway.watch("chat:a", true);
    house.sends(ann, r#"["1",null,"chat:a","said",{"n":2}]"#);
    let echo = house.gateway.next_echo().unwrap();
    assert_eq!(
        (&*echo.topic, &*echo.event, &*echo.payload),
        ("chat:a", "said", &b"{\"n\":2}"[..])
    );
    assert!(echo.watched && !echo.binary && echo.interceptors.is_empty());
    house.gateway.watch("chat:a", false);
    house.sends(ann, r#"["1",null,"chat:a","said",{"n":3}]"#);
    assert!(house.gateway.next_echo().is_none());
}

#[test]
fn a_message_sent_before_the_join_is_decided_is_relayed_behind_it() {
    let mut house = House::new("{}", 0);
    let bob = house.joined("phoenix/2");
    let codec = house.gateway.codec("phoenix/2").unwrap();
    let ann = house
        .gateway
        .open(codec, house.mount, Sink::Transport, None);
    let Verdict::Join { sub, .. } = house.says(ann, r#"["1","1","chat:a","phx_join",{}]"#) else {
        panic!("no join")
    };
    house.sends(ann, r#"["1","2","chat:a","said",{}]"#);
    assert!(house.hears(bob).is_empty() && house.hears(ann).is_empty());
    house.gateway.join_ok(sub, Body::Json(b"{}")).unwrap();
    assert!(house.gateway.next_deferred().is_none());
    assert_eq!(house.hears(bob).len(), 1);
    assert_eq!(house.hears(ann).len(), 2);
    assert_ne!(sub, SubKey::default());
}

#[test]
fn a_relay_says_which_options_it_takes() {
    for options in [
        "[]",
        "nonsense",
        r#"{"rate":{"count":0,"seconds":1}}"#,
        r#"{"rate":{"count":1,"seconds":0}}"#,
        r#"{"rate":5}"#,
        r#"{"events":"said"}"#,
        r#"{"reserved":[1]}"#,
    ] {
        let error = service("relay", options).err().unwrap();
        assert!(
            error.contains("relay takes") && error.contains(options),
            "{error}"
        );
    }
}
