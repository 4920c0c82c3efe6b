//! Lanes: several fan-outs behind one topic on the wire.

use moda_core::dialect::{self, websocket};
use moda_core::gateway::{Body, Gateway, Kind, Route, Verdict};
use moda_core::hub::{Config, ConnKey, Delivery, Hub, Policy, Sink, SubKey, Topic};

const LANE: &str = "telemetry:metrics\u{0}250";
const TOPIC: &str = "telemetry:metrics";

struct Wire {
    gateway: Gateway<()>,
    mount: u16,
}

impl Wire {
    fn new() -> Self {
        let mut gateway = dialect::gateway(Hub::new(Config::default(), 1));
        let mount = gateway.add_mount(100, 1 << 20, 60_000);
        let route = gateway.add_route(Route {
            kind: Kind::Stream,
            policy: Policy {
                delivery: Delivery::Latest,
                key: None,
                history: None,
                ..Policy::default()
            },
            intercepts: None,
        });
        for pattern in [TOPIC, "room:{n}", "any*"] {
            gateway.expose(mount, pattern, route).expect("a pattern");
        }
        Self { gateway, mount }
    }

    fn connect(&mut self) -> ConnKey {
        let codec = self.gateway.codec("phoenix/2").expect("a variant");
        self.gateway.open(codec, self.mount, Sink::Transport, None)
    }

    fn send(&mut self, conn: ConnKey, frame: &str) -> Option<SubKey> {
        websocket::receive(&mut self.gateway, conn, 1, true, false, frame.as_bytes());
        match self.gateway.next_join() {
            Some(Verdict::Join { sub, .. }) => Some(sub),
            _ => None,
        }
    }

    fn join(&mut self, conn: ConnKey, topic: &str, lane: Option<&str>) {
        let frame = format!(r#"["1","1","{topic}","phx_join",{{}}]"#);
        let sub = self.send(conn, &frame).expect("a join");
        if let Some(lane) = lane {
            assert!(self.gateway.hub.reseat(sub, lane));
        }
        self.gateway
            .join_ok(sub, Body::Json(b"{}"))
            .expect("a reply");
        self.said(conn);
    }

    fn publish(&mut self, address: &str, payload: &str) {
        let body = Body::Json(payload.as_bytes());
        self.gateway
            .publish(address, "metric", body, None, SubKey::default());
    }

    /// What one connection was sent since the last call.
    fn said(&mut self, to: ConnKey) -> String {
        while self.gateway.hub.needs_flush() {
            self.gateway.hub.flush();
        }
        let mut text = String::new();
        let mut others = Vec::new();
        while let Some((conn, bytes)) = self.gateway.hub.next_write() {
            if conn == to {
                text.push_str(&String::from_utf8_lossy(&bytes));
            } else {
                others.push((conn, bytes));
            }
            self.gateway.hub.resume(conn);
        }
        assert!(others.is_empty(), "somebody else was sent {others:?}");
        text
    }
}

#[test]
fn a_lane_is_reached_by_its_address_alone_and_its_frames_name_the_topic() {
    let mut wire = Wire::new();
    let (slow, fast) = (wire.connect(), wire.connect());
    wire.join(slow, TOPIC, None);
    wire.join(fast, TOPIC, Some(LANE));

    wire.publish(LANE, r#"{"n":1}"#);
    assert!(wire
        .said(fast)
        .ends_with(r#"[null,null,"telemetry:metrics","metric",{"n":1}]"#));

    wire.publish(TOPIC, r#"{"n":2}"#);
    assert!(wire
        .said(slow)
        .ends_with(r#"[null,null,"telemetry:metrics","metric",{"n":2}]"#));
    assert_eq!(
        wire.gateway.hub.topic_by_name(LANE).map(Topic::subscribers),
        Some(1)
    );
    assert_eq!(
        wire.gateway
            .hub
            .topic_by_name(TOPIC)
            .map(Topic::subscribers),
        Some(1)
    );
}

#[test]
fn the_subscribers_of_a_topic_are_those_in_all_its_lanes_and_a_lane_has_its_own() {
    let mut wire = Wire::new();
    let lane = |n: usize| (n > 0).then(|| format!("{TOPIC}\0{n}"));
    let conns: Vec<_> = (0..6).map(|_| wire.connect()).collect();
    for (n, conn) in conns.iter().enumerate() {
        wire.join(*conn, TOPIC, lane(n % 3).as_deref());
        assert_eq!(wire.gateway.hub.subscribers(TOPIC), n + 1);
    }
    let of = |wire: &Wire, n| wire.gateway.hub.subscribers(&lane(n).unwrap());
    assert_eq!((of(&wire, 1), of(&wire, 2), of(&wire, 3)), (2, 2, 0));
    // The default lane may be empty, and its topic is not.
    for (n, conn) in conns.iter().enumerate() {
        wire.gateway.lost(*conn);
        assert_eq!(wire.gateway.hub.subscribers(TOPIC), 5 - n);
    }
    assert_eq!(wire.gateway.hub.topics(), 0);
}

#[test]
fn a_subscriber_in_a_lane_leaves_and_joins_again_under_the_topics_name() {
    let mut wire = Wire::new();
    let conn = wire.connect();
    wire.join(conn, TOPIC, Some(LANE));
    wire.send(conn, r#"["1","2","telemetry:metrics","phx_leave",{}]"#);
    let said = wire.said(conn);
    assert!(
        said.contains(r#"["1","2","telemetry:metrics","phx_reply""#),
        "{said}"
    );
    assert!(
        said.contains(r#"["1","1","telemetry:metrics","phx_close""#),
        "{said}"
    );
    assert!(wire.gateway.hub.topic_by_name(LANE).is_none());

    wire.join(conn, TOPIC, Some(LANE));
    wire.join(conn, TOPIC, None);
    assert!(wire.gateway.hub.topic_by_name(LANE).is_none());
    wire.publish(TOPIC, r#"{"n":3}"#);
    assert!(wire.said(conn).ends_with(r#"{"n":3}]"#));
}

#[test]
fn a_lane_is_found_among_many_channels_of_a_connection() {
    let mut wire = Wire::new();
    let conn = wire.connect();
    for n in 0..20 {
        wire.join(conn, &format!("room:{n}"), None);
    }
    wire.join(conn, TOPIC, Some(LANE));
    wire.send(conn, r#"["1","9","telemetry:metrics","phx_leave",{}]"#);
    assert!(wire.said(conn).contains("phx_close"));
    assert!(wire.gateway.hub.topic_by_name(LANE).is_none());
}

#[test]
fn a_place_that_is_served_already_is_not_moved() {
    let mut wire = Wire::new();
    let conn = wire.connect();
    let sub = wire
        .send(conn, r#"["1","1","telemetry:metrics","phx_join",{}]"#)
        .expect("a join");
    wire.gateway
        .join_ok(sub, Body::Json(b"{}"))
        .expect("a reply");
    wire.said(conn);
    assert!(!wire.gateway.hub.reseat(sub, LANE));
    wire.publish(TOPIC, r#"{"n":4}"#);
    assert!(wire.said(conn).ends_with(r#"{"n":4}]"#));
}

#[test]
fn a_client_that_names_no_pattern_cannot_join_a_lane_by_its_address() {
    let mut wire = Wire::new();
    let conn = wire.connect();
    let refused = wire.send(
        conn,
        "[\"1\",\"1\",\"telemetry:metrics\\u0000250\",\"phx_join\",{}]",
    );
    assert!(refused.is_none());
    assert!(wire.said(conn).contains("unmatched topic"));
}

#[test]
fn a_topic_with_nul_is_routed_and_does_not_lead_into_the_lane_that_is_called_like_it() {
    let mut wire = Wire::new();
    let (laned, other) = (wire.connect(), wire.connect());
    wire.join(laned, "any", Some("any\x00250"));
    wire.join(other, "any\\u0000250", None);
    wire.publish("any\x00250", r#"{"n":1}"#);
    assert!(wire.said(laned).ends_with(r#"{"n":1}]"#));
    assert_eq!(wire.said(other), "");
    assert_eq!(wire.gateway.hub.subscribers("any"), 1);
    // Without the lane the address is the topic's alone.
    wire.gateway.lost(laned);
    wire.publish("any\x00250", r#"{"n":2}"#);
    assert!(wire
        .said(other)
        .ends_with("[null,null,\"any\\u0000250\",\"metric\",{\"n\":2}]"));
    wire.gateway.lost(other);
    assert_eq!(wire.gateway.hub.topics(), 0);
}

#[test]
fn a_topic_with_nul_keeps_its_name_in_every_answer() {
    let mut wire = Wire::new();
    let conn = wire.connect();
    let sub = wire.send(conn, "[\"1\",\"1\",\"any\\u0000\",\"phx_join\",{}]");
    wire.gateway
        .join_ok(sub.expect("a join"), Body::Json(b"{}"))
        .expect("a reply");
    wire.send(conn, "[\"1\",\"2\",\"any\\u0000\",\"phx_leave\",{}]");
    let said = wire.said(conn);
    assert!(
        said.contains("[\"1\",\"1\",\"any\\u0000\",\"phx_reply\""),
        "{said}"
    );
    assert!(
        said.contains("[\"1\",\"1\",\"any\\u0000\",\"phx_close\""),
        "{said}"
    );
}
