//! A gateway with topics, and readers that take a stream apart as an `EventSource` does.

use std::collections::HashMap;

use moda_core::dialect;
use moda_core::gateway::{Body, Gateway, Kind, Route, Verdict};
use moda_core::hub::{Action, Config, ConnKey, Delivery, Hub, Policy, Sink, SubKey};
use moda_core::log::Limits;
use serde_json::Value;

/// One dispatched event: its name (`message` without one), its data, the id it left behind.
#[derive(Debug, Clone, PartialEq)]
pub struct Block {
    pub event: String,
    pub data: String,
    pub last_id: String,
}

impl Block {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.data).expect("JSON data")
    }

    /// Topic and offset of a message; None for what is no message.
    pub fn place(&self) -> Option<(String, u64)> {
        let json = self.json();
        let topic = json["topic"].as_str()?.to_owned();
        (self.event == "message").then_some((topic, json["offset"].as_u64()?))
    }
}

/// What an answer's bytes are: its head, and the events of its body (HTML Standard, "Interpreting an
/// event stream"). A block that has not ended is not dispatched.
pub fn parse(bytes: &[u8], last_id: &str) -> (String, Vec<Block>) {
    let text = std::str::from_utf8(bytes).expect("UTF-8");
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return (text.to_owned(), Vec::new());
    };
    let mut id = last_id.to_owned();
    let mut blocks = Vec::new();
    let whole = body.rfind("\n\n").map_or("", |at| &body[..at + 2]);
    for block in whole.split_terminator("\n\n") {
        let (mut event, mut data) = ("message".to_owned(), Vec::new());
        for line in block.split('\n') {
            assert!(!line.contains('\r'), "{line:?}");
            let (field, value) = line.split_once(':').unwrap_or((line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "id" => value.clone_into(&mut id),
                "event" => value.clone_into(&mut event),
                "data" => data.push(value),
                "" => {}
                other => panic!("no field of an event stream: {other:?}"),
            }
        }
        if !data.is_empty() {
            blocks.push(Block {
                event,
                data: data.join("\n"),
                last_id: id.clone(),
            });
        }
    }
    (head.to_owned(), blocks)
}

pub struct World {
    pub gateway: Gateway<u32>,
    mount: u16,
    received: HashMap<ConnKey, Vec<u8>>,
    /// Connections whose transport keeps what it is given.
    pub stalled: Vec<ConnKey>,
    pub closed: Vec<ConnKey>,
}

/// `log:*` keeps many messages, `short:*` three, `plain:*` none; `newest:*` is conflated and logged.
pub fn world(config: Config) -> World {
    let mut gateway = dialect::gateway(Hub::new(config, 7));
    let mount = gateway.add_mount(5, 1 << 20, 0);
    let limits = |size| {
        Some(Limits {
            size,
            ttl_ms: 3_600_000,
            bytes: 1 << 24,
        })
    };
    for (pattern, delivery, history) in [
        ("log:*", Delivery::Every, limits(100_000)),
        ("short:*", Delivery::Every, limits(3)),
        ("plain:*", Delivery::Every, None),
        ("newest:*", Delivery::Latest, limits(1000)),
    ] {
        let route = gateway.add_route(Route {
            kind: Kind::Channel,
            policy: Policy {
                delivery,
                history,
                ..Policy::default()
            },
            intercepts: None,
        });
        gateway.expose(mount, pattern, route).unwrap();
    }
    World {
        gateway,
        mount,
        received: HashMap::new(),
        stalled: Vec::new(),
        closed: Vec::new(),
    }
}

impl World {
    /// A stream whose joins are not decided yet: those that have to be.
    pub fn asks(&mut self, topics: &[&str], last_id: Option<&str>) -> (ConnKey, Vec<SubKey>) {
        let name = if topics.len() == 1 { "sse" } else { "sse/many" };
        let codec = self.gateway.codec(name).unwrap();
        let conn = self.gateway.open(codec, self.mount, Sink::Transport, None);
        let mut request = serde_json::json!({
            "topics": topics, "params": {"name": "ann"}, "lines": "x-line: 1\r\n",
        });
        if let Some(id) = last_id {
            request["since"] = id.into();
        }
        let request = request.to_string();
        let opened = self.gateway.message(conn, true, request.as_bytes());
        assert!(matches!(opened, Verdict::Done));
        let mut joins = Vec::new();
        while let Some(join) = self.gateway.next_join() {
            let Verdict::Join {
                sub,
                topic,
                payload,
                ..
            } = join
            else {
                panic!("{join:?}");
            };
            assert!(topics.contains(&&*topic));
            assert_eq!(&*payload.bytes, br#"{"name":"ann"}"#);
            joins.push(sub);
        }
        (conn, joins)
    }

    /// A stream whose joins are all accepted.
    pub fn opens(&mut self, topics: &[&str], last_id: Option<&str>) -> ConnKey {
        let (conn, joins) = self.asks(topics, last_id);
        for sub in joins {
            self.accepts(sub);
        }
        conn
    }

    pub fn accepts(&mut self, sub: SubKey) {
        self.gateway.join_ok(sub, Body::Json(b"{}")).unwrap();
    }

    pub fn refuses(&mut self, sub: SubKey, reason: &str) {
        let response = format!("{{\"reason\":\"{reason}\"}}");
        self.gateway.join_error(sub, response.as_bytes()).unwrap();
    }

    pub fn says(&mut self, topic: &str, json: &str) {
        let body = Body::Json(json.as_bytes());
        let key = json.get(2..3);
        self.gateway
            .publish(topic, "said", body, key, SubKey::default());
    }

    /// One slice of sending, and what the transports are given by it.
    pub fn slice(&mut self) -> bool {
        let more = self.gateway.flush();
        self.gateway.close_slow();
        while let Some((conn, bytes)) = self.gateway.hub.next_write() {
            self.received.entry(conn).or_default().extend(bytes);
            if !self.stalled.contains(&conn) {
                self.gateway.resume(conn);
            }
        }
        while let Some(action) = self.gateway.hub.next_action() {
            let (Action::Close(conn) | Action::Abort(conn)) = action;
            self.closed.push(conn);
        }
        more
    }

    pub fn turn(&mut self) {
        while self.slice() || self.gateway.needs_flush() {}
    }

    /// A stalled transport gets rid of what it has.
    pub fn reads(&mut self, conn: ConnKey) {
        self.stalled.retain(|stalled| *stalled != conn);
        self.gateway.resume(conn);
        self.turn();
    }

    pub fn bytes(&self, conn: ConnKey) -> &[u8] {
        self.received.get(&conn).map_or(&[], Vec::as_slice)
    }

    pub fn text(&mut self, conn: ConnKey) -> String {
        self.turn();
        String::from_utf8(self.bytes(conn).to_vec()).unwrap()
    }

    pub fn blocks(&mut self, conn: ConnKey) -> Vec<Block> {
        self.turn();
        parse(self.bytes(conn), "").1
    }

    /// Topic and offset of each message a stream has brought.
    pub fn heard(&mut self, conn: ConnKey) -> Vec<(String, u64)> {
        let blocks = self.blocks(conn);
        blocks.iter().filter_map(Block::place).collect()
    }
}
