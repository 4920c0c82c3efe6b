//! Clients that speak one dialect, and a driver that decides what the test tells it to.
//!
//! Every row is written once, as V2 text: `[join_ref, ref, topic, event, payload]`. A client of
//! another dialect sends the same message its own way, and what it must hear is the same answer as
//! its dialect writes it: V2 binary hears text from the engine itself, V1 hears objects.

use std::collections::BTreeMap;

use moda_core::dialect::{self, websocket};
use moda_core::gateway::{Body, Content, Gateway, Kind, Route, Verdict};
use moda_core::hub::{Action, Config, ConnKey, Delivery, Hub, Policy, Sink, SubKey};
use moda_core::ws::Opcode;
use serde_json::value::RawValue;

use crate::frames::{self, text, Frame};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speech {
    V2Text,
    V2Binary,
    V1,
}

/// Makes of each row one test per dialect.
macro_rules! in_every_dialect {
    ($($row:ident),* $(,)?) => {
        $(mod $row {
            use crate::talk::{Speech, Talk};

            #[test]
            fn in_v2_text() {
                super::$row(&mut Talk::new(Speech::V2Text));
            }

            #[test]
            fn in_v2_binary() {
                super::$row(&mut Talk::new(Speech::V2Binary));
            }

            #[test]
            fn in_v1() {
                super::$row(&mut Talk::new(Speech::V1));
            }
        })*
    };
}

/// As `in_every_dialect`, for rows that speak of null, which a binary frame cannot say.
macro_rules! in_both_text_dialects {
    ($($row:ident),* $(,)?) => {
        $(mod $row {
            use crate::talk::{Speech, Talk};

            #[test]
            fn in_v2_text() {
                super::$row(&mut Talk::new(Speech::V2Text));
            }

            #[test]
            fn in_v1() {
                super::$row(&mut Talk::new(Speech::V1));
            }
        })*
    };
}

pub(crate) use {in_both_text_dialects, in_every_dialect};

/// A verdict that owns what it says.
#[derive(Debug, PartialEq, Eq)]
pub enum Asked {
    Nothing,
    Join {
        sub: SubKey,
        route: usize,
        topic: String,
        params: Vec<(String, String)>,
        payload: Vec<u8>,
        binary: bool,
    },
    Message {
        sub: SubKey,
        event: String,
        payload: Vec<u8>,
        binary: bool,
        reference: String,
    },
    Leave {
        sub: SubKey,
        reference: String,
    },
}

impl Asked {
    pub fn of(verdict: Verdict<'_>) -> Self {
        let take = |content: Content<'_>| (content.bytes.into_owned(), content.binary);
        match verdict {
            Verdict::Done => Self::Nothing,
            Verdict::Join {
                sub,
                route,
                topic,
                params,
                payload,
            } => {
                let (payload, binary) = take(payload);
                Self::Join {
                    sub,
                    route,
                    topic: topic.into_owned(),
                    params,
                    payload,
                    binary,
                }
            }
            Verdict::Message {
                sub,
                event,
                payload,
                reference,
                size: _,
            } => {
                let (payload, binary) = take(payload);
                Self::Message {
                    sub,
                    event: event.into_owned(),
                    payload,
                    binary,
                    reference: reference.into_owned(),
                }
            }
            Verdict::Leave { sub, reference } => Self::Leave {
                sub,
                reference: reference.into_owned(),
            },
        }
    }

    /// The channel that is asked.
    pub fn sub(&self) -> SubKey {
        match self {
            Self::Nothing => panic!("nothing was asked"),
            Self::Join { sub, .. } | Self::Message { sub, .. } | Self::Leave { sub, .. } => *sub,
        }
    }
}

pub struct Talk {
    pub gateway: Gateway<u32>,
    pub speech: Speech,
    pub actions: Vec<Action>,
    clients: Vec<ConnKey>,
    received: BTreeMap<ConnKey, Vec<u8>>,
    /// Clients that do not read: their transports keep what they are given.
    stalled: Vec<ConnKey>,
}

pub const CAP: usize = 100;
pub const MAX_MESSAGE: usize = 100_000;
pub const IDLE_MS: u64 = 60_000;

/// The refs and payload of an ok reply with nothing to say.
pub const EMPTY: Body<'static> = Body::Json(b"{}");

impl Talk {
    /// One mount with channels at `room:*` and `user:{name}` and a stream at `news:*`; one client.
    pub fn new(speech: Speech) -> Self {
        let mut gateway = dialect::gateway(Hub::new(Config::default(), 1));
        let mount = gateway.add_mount(CAP, MAX_MESSAGE, IDLE_MS);
        let policy = Policy {
            delivery: Delivery::Every,
            key: None,
            history: None,
            ..Policy::default()
        };
        let route = |kind| Route {
            kind,
            policy: policy.clone(),
            intercepts: None,
        };
        let rooms = gateway.add_route(route(Kind::Channel));
        let news = gateway.add_route(route(Kind::Stream));
        for (pattern, route) in [("room:*", rooms), ("news:*", news), ("user:{name}", rooms)] {
            gateway.expose(mount, pattern, route).expect("a pattern");
        }
        let mut talk = Self {
            gateway,
            speech,
            actions: Vec::new(),
            clients: Vec::new(),
            received: BTreeMap::new(),
            stalled: Vec::new(),
        };
        talk.connect();
        talk
    }

    /// Another client of the same dialect; returns its number. The first is 0.
    pub fn connect(&mut self) -> usize {
        let variant = match self.speech {
            Speech::V2Text | Speech::V2Binary => "phoenix/2",
            Speech::V1 => "phoenix/1",
        };
        let client = self.connect_as(variant, 0);
        self.clients.push(client);
        self.clients.len() - 1
    }

    /// A client of any variant and mount, which is none of the numbered ones.
    pub fn connect_as(&mut self, variant: &str, mount: u16) -> ConnKey {
        let codec = self.gateway.codec(variant).expect("a variant");
        self.gateway.open(codec, mount, Sink::Transport, None)
    }

    /// One frame, unmasked.
    pub fn receive<'f>(
        &mut self,
        conn: ConnKey,
        op: u8,
        fin: bool,
        rsv: bool,
        payload: &'f [u8],
    ) -> Verdict<'f> {
        websocket::receive(&mut self.gateway, conn, op, fin, rsv, payload)
    }

    pub fn conn(&self, client: usize) -> ConnKey {
        self.clients[client]
    }

    // -- what clients do

    /// The first client sends a message, given as V2 text.
    pub fn says(&mut self, message: &str) -> Asked {
        self.client_says(0, message)
    }

    pub fn client_says(&mut self, client: usize, message: &str) -> Asked {
        match self.speech {
            Speech::V2Text => self.sends(client, Opcode::Text, message.as_bytes()),
            Speech::V2Binary => {
                let frame = as_binary(message);
                self.sends(client, Opcode::Binary, &frame)
            }
            Speech::V1 => {
                let frame = as_v1(message, true);
                self.sends(client, Opcode::Text, frame.as_bytes())
            }
        }
    }

    /// As `client_says`, and no join is taken.
    pub fn client_queues(&mut self, client: usize, message: &str) {
        let (op, frame) = match self.speech {
            Speech::V2Text => (Opcode::Text, message.as_bytes().to_vec()),
            Speech::V2Binary => (Opcode::Binary, as_binary(message)),
            Speech::V1 => (Opcode::Text, as_v1(message, true).into_bytes()),
        };
        let conn = self.clients[client];
        let verdict = self.receive(conn, op as u8, true, false, &frame);
        assert_eq!(Asked::of(verdict), Asked::Nothing);
    }

    /// A whole frame, as it is.
    pub fn sends(&mut self, client: usize, op: Opcode, payload: &[u8]) -> Asked {
        let conn = self.clients[client];
        let verdict = self.receive(conn, op as u8, true, false, payload);
        let asked = Asked::of(verdict);
        match self.gateway.next_join() {
            Some(join) => {
                assert_eq!(asked, Asked::Nothing);
                Asked::of(join)
            }
            None => asked,
        }
    }

    /// What decisions have set free, and the joins that came with it.
    pub fn freed(&mut self) -> Vec<Asked> {
        let deferred = std::iter::from_fn(|| self.gateway.next_deferred());
        let mut freed: Vec<_> = deferred.map(Asked::of).collect();
        let joins = std::iter::from_fn(|| self.gateway.next_join());
        freed.extend(joins.map(Asked::of));
        freed
    }

    /// Joins with the refs both `n` and takes the reply off the wire.
    pub fn joined(&mut self, n: u32, topic: &str) -> SubKey {
        self.client_joined(0, n, topic)
    }

    pub fn client_joined(&mut self, client: usize, n: u32, topic: &str) -> SubKey {
        let join = format!(r#"["{n}","{n}","{topic}","phx_join",{{}}]"#);
        let sub = self.client_says(client, &join).sub();
        assert_eq!(self.gateway.set_handle(sub, n), None);
        self.gateway.join_ok(sub, EMPTY).expect("a join under way");
        let reply =
            format!(r#"["{n}","{n}","{topic}","phx_reply",{{"status":"ok","response":{{}}}}]"#);
        self.client_hears(client, &[&reply]);
        sub
    }

    /// Broadcasts JSON to all of a topic.
    pub fn broadcast(&mut self, topic: &str, event: &str, json: &str) {
        let body = Body::Json(json.as_bytes());
        let nobody = SubKey::default();
        self.gateway.publish(topic, event, body, None, nobody);
    }

    /// The client is gone without a word.
    pub fn vanishes(&mut self, client: usize) {
        self.gateway.lost(self.clients[client]);
    }

    pub fn stalls(&mut self, client: usize) {
        self.stalled.push(self.clients[client]);
    }

    // -- what clients hear

    /// The first client has heard exactly this since the last time, given as V2 text.
    pub fn hears(&mut self, expected: &[&str]) {
        self.client_hears(0, expected);
    }

    pub fn client_hears(&mut self, client: usize, expected: &[&str]) {
        let expected: Vec<Frame> = expected
            .iter()
            .map(|message| match self.speech {
                Speech::V2Text | Speech::V2Binary => text(*message),
                Speech::V1 => text(as_v1(message, false)),
            })
            .collect();
        assert_eq!(self.frames(client), expected);
    }

    /// What a client got, as it came.
    pub fn frames(&mut self, client: usize) -> Vec<Frame> {
        self.turn();
        let received = self.received.entry(self.clients[client]).or_default();
        let frames = frames::take(received);
        assert!(received.is_empty(), "half a frame");
        frames
    }

    /// What a client got, all of it text.
    pub fn texts(&mut self, client: usize) -> Vec<String> {
        let frames = self.frames(client).into_iter();
        frames.map(frames::into_text).collect()
    }

    /// A client that stalls takes what waits for it, and stalls again.
    pub fn reads(&mut self, client: usize) {
        self.gateway.resume(self.clients[client]);
        self.turn();
    }

    /// The channels that ended without the driver asking, and why.
    pub fn ended(&mut self) -> Vec<(u32, &'static str)> {
        std::iter::from_fn(|| self.gateway.next_ended()).collect()
    }

    pub fn complaints(&mut self) -> Vec<(ConnKey, u16, &'static str)> {
        std::iter::from_fn(|| self.gateway.next_complaint()).collect()
    }

    /// Turns of the loop until nothing is left to do.
    pub fn turn(&mut self) {
        loop {
            self.gateway.close_slow();
            self.gateway.flush();
            let mut quiet = true;
            while let Some((conn, bytes)) = self.gateway.hub.next_write() {
                quiet = false;
                self.received.entry(conn).or_default().extend(bytes);
                if !self.stalled.contains(&conn) {
                    self.gateway.resume(conn);
                }
            }
            while let Some(action) = self.gateway.hub.next_action() {
                quiet = false;
                self.actions.push(action);
            }
            if quiet && !self.gateway.needs_flush() {
                return;
            }
        }
    }

    /// A payload as the application is given it, by a client of this dialect.
    pub fn content(&self, json: &str) -> (Vec<u8>, bool) {
        (json.into(), self.speech == Speech::V2Binary)
    }
}

fn parts(message: &str) -> Vec<String> {
    let parts: Vec<&RawValue> = serde_json::from_str(message).expect("V2 text");
    assert_eq!(parts.len(), 5, "{message}");
    parts
        .into_iter()
        .map(|part| part.get().to_owned())
        .collect()
}

/// A binary push with the payload's text as its data.
fn as_binary(message: &str) -> Vec<u8> {
    let mut parts = parts(message);
    let data = parts.pop().expect("a payload");
    let mut frame = vec![0];
    let mut names = Vec::new();
    for part in parts {
        let name: String = serde_json::from_str(&part)
            .unwrap_or_else(|_| panic!("{part} is no string: no binary frame can say it"));
        frame.push(u8::try_from(name.len()).expect("at most 255"));
        names.extend(name.into_bytes());
    }
    frame.extend(names);
    frame.extend(data.into_bytes());
    frame
}

/// The V1 object for a V2 message. A client's tells its join ref if it has one; the server's tells
/// it nowhere but as the `ref` of an end.
fn as_v1(message: &str, inbound: bool) -> String {
    let parts = parts(message);
    let [join_ref, reference, topic, event, payload] = &parts[..] else {
        unreachable!("five parts");
    };
    let end = event == "\"phx_close\"" || event == "\"phx_error\"";
    let reference = if end && !inbound { join_ref } else { reference };
    let join_ref = if inbound && join_ref != "null" {
        format!(r#","join_ref":{join_ref}"#)
    } else {
        String::new()
    };
    format!(
        r#"{{"topic":{topic},"event":{event},"payload":{payload},"ref":{reference}{join_ref}}}"#
    )
}
