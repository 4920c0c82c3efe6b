//! The Phoenix conversation of every connection: heartbeat, join, leave, stale and unmatched
//! messages, and the refs each answer must carry (`docs/wire.md` has the table of rules).
//!
//! Fed with frames, it answers by itself what needs no decision and returns a [`Verdict`] for what
//! does. The driver decides and says so through [`Sessions::join_ok`], [`Sessions::reply`] and the
//! others, now or later: a slow join blocks nothing. `H` is whatever the driver wants to find again
//! with a channel.
//!
//! After any call the driver should look at [`Sessions::next_ended`], [`Sessions::next_complaint`]
//! and, through `hub`, at flushes, writes and actions.

use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crate::hub::{Codec, ConnKey, Encode, Hub, Intercepts, Policy, Publish, SubKey};
use crate::phoenix::{self, encode, Inbound, Payload};
use crate::router::{PatternError, Router};
use crate::ws::{self, Opcode};

const OK: &str = "ok";
const ERROR: &str = "error";
const NOTHING: &[u8] = b"{}";

/// A topic, event or join ref longer than this is refused: they are kept per connection.
pub const MAX_NAME: usize = 1024;

/// What serves a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The driver has something per subscriber, which gets every message.
    Channel,
    /// Push-only: nothing per subscriber once joined; messages are answered here.
    Stream,
}

/// What a topic pattern leads to.
#[derive(Debug, Clone)]
pub struct Route {
    pub kind: Kind,
    pub policy: Policy,
    pub intercepts: Option<Intercepts>,
}

/// One socket mount's rules.
#[derive(Debug)]
pub struct Mount {
    router: Router,
    routes: Vec<usize>,
    pub max_channels: usize,
    pub max_message: usize,
    pub idle_ms: u64,
}

#[derive(Debug)]
enum State {
    Joining { reference: Box<str> },
    Joined,
    Leaving,
}

/// What an ended predecessor on the same topic is still owed, behind the new join's reply.
#[derive(Debug)]
enum Owed {
    Close { join_ref: Box<str> },
    JoinError { join_ref: Box<str>, reference: Box<str> },
}

/// A channel's place in the conversation.
#[derive(Debug)]
pub struct Seat<H> {
    /// As the client sent it; what later messages are compared with.
    join_ref: Box<str>,
    /// What pushes carry when the client joined with null: the ref of its join.
    push_ref: Option<Box<str>>,
    state: State,
    route: usize,
    owed: Vec<Owed>,
    pub handle: Option<H>,
}

impl<H> Seat<H> {
    fn push_ref(&self) -> &str {
        self.push_ref.as_deref().unwrap_or(&self.join_ref)
    }
}

/// What a message carries: JSON text or raw bytes, borrowed from its frame when it came in one.
#[derive(Debug)]
pub struct Content<'f> {
    pub binary: bool,
    pub bytes: Cow<'f, [u8]>,
}

impl<'f> From<Payload<'f>> for Content<'f> {
    fn from(payload: Payload<'f>) -> Self {
        let (binary, bytes) = match payload {
            Payload::Json(json) => (false, json.as_bytes()),
            Payload::Binary(data) => (true, data),
        };
        Self {
            binary,
            bytes: Cow::Borrowed(bytes),
        }
    }
}

impl Content<'_> {
    fn own<'f>(self) -> Content<'f> {
        Content {
            binary: self.binary,
            bytes: Cow::Owned(self.bytes.into_owned()),
        }
    }
}

/// What a frame asks the driver to decide.
#[derive(Debug)]
pub enum Verdict<'f> {
    /// Nothing: it has been answered, or needs no answer.
    Done,
    Join {
        sub: SubKey,
        route: usize,
        topic: Cow<'f, str>,
        params: Vec<(String, String)>,
        payload: Content<'f>,
    },
    Message {
        sub: SubKey,
        event: Cow<'f, str>,
        payload: Content<'f>,
        reference: Cow<'f, str>,
    },
    /// The client leaves; answer with [`Sessions::finish_leave`] once earlier messages are handled.
    Leave {
        sub: SubKey,
        reference: Cow<'f, str>,
    },
}

/// A payload on its way out.
#[derive(Debug, Clone, Copy)]
pub enum Body<'a> {
    Json(&'a [u8]),
    Binary(&'a [u8]),
}

/// Counters of the conversation, totals since the start.
#[derive(Debug, Default, Clone)]
pub struct Counts {
    pub joins: u64,
    pub joins_refused: u64,
    pub leaves: u64,
    pub heartbeats: u64,
    pub stale: u64,
    pub unmatched: u64,
    /// Messages to push-only topics.
    pub to_stream: u64,
    pub channels: u64,
    pub undecodable: BTreeMap<&'static str, u64>,
    pub violations: BTreeMap<&'static str, u64>,
}

/// All conversations of one gateway.
#[derive(Debug)]
pub struct Sessions<H> {
    pub hub: Hub<Seat<H>>,
    pub counts: Counts,
    mounts: Vec<Mount>,
    routes: Vec<Route>,
    ended: VecDeque<(H, &'static str)>,
    complaints: VecDeque<(ConnKey, u16, &'static str)>,
}

/// A broadcast in every Phoenix codec.
struct Broadcast<'a> {
    topic: &'a str,
    event: &'a str,
    body: Body<'a>,
}

impl Encode for Broadcast<'_> {
    fn encode(&self, codec: Codec, out: &mut Vec<u8>) -> bool {
        match (codec, self.body) {
            (Codec::PhoenixV2, Body::Json(json)) => {
                let size = self.topic.len() + self.event.len() + json.len() + 18;
                ws::frame_sized(out, Opcode::Text, size, |out| {
                    encode::text_broadcast(out, self.topic, self.event, json);
                });
                true
            }
            (Codec::PhoenixV2, Body::Binary(data)) => {
                let size = self.topic.len() + self.event.len() + data.len() + 3;
                ws::try_frame_sized(out, Opcode::Binary, size, |out| {
                    encode::binary_broadcast(out, self.topic, self.event, data)
                })
                .is_ok()
            }
            (Codec::PhoenixV1, Body::Json(json)) => {
                ws::frame_into(out, Opcode::Text, |out| {
                    encode::v1_broadcast(out, self.topic, self.event, json);
                });
                true
            }
            (Codec::PhoenixV1, Body::Binary(_)) => false,
        }
    }
}

/// Why an outgoing frame was not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unsent {
    /// The channel has ended; nobody is there.
    Ended,
    /// A name does not fit a binary frame (255 bytes), or V1 was asked to carry binary.
    Unencodable,
}

impl<H> Sessions<H> {
    pub fn new(hub: Hub<Seat<H>>) -> Self {
        Self {
            hub,
            counts: Counts::default(),
            mounts: Vec::new(),
            routes: Vec::new(),
            ended: VecDeque::new(),
            complaints: VecDeque::new(),
        }
    }

    pub fn add_mount(&mut self, max_channels: usize, max_message: usize, idle_ms: u64) -> u16 {
        self.mounts.push(Mount {
            router: Router::default(),
            routes: Vec::new(),
            max_channels,
            max_message,
            idle_ms,
        });
        u16::try_from(self.mounts.len() - 1).unwrap_or(u16::MAX)
    }

    pub fn add_route(&mut self, route: Route) -> usize {
        self.routes.push(route);
        self.routes.len() - 1
    }

    /// Makes a route reachable under `pattern` on a mount, after those added before.
    ///
    /// # Errors
    /// [`PatternError`] when the text is no pattern.
    pub fn expose(&mut self, mount: u16, pattern: &str, route: usize) -> Result<(), PatternError> {
        if let Some(mount) = self.mounts.get_mut(usize::from(mount)) {
            mount.router.add(pattern)?;
            mount.routes.push(route);
        }
        Ok(())
    }

    /// A channel that ended without the driver asking, and why.
    pub fn next_ended(&mut self) -> Option<(H, &'static str)> {
        self.ended.pop_front()
    }

    /// A connection closed for what its client sent: close code and reason, for the log.
    pub fn next_complaint(&mut self) -> Option<(ConnKey, u16, &'static str)> {
        self.complaints.pop_front()
    }

    // -- in

    /// Takes one websocket frame, unmasked. Anything wrong with it closes this connection only.
    pub fn receive<'f>(
        &mut self,
        conn: ConnKey,
        op: u8,
        fin: bool,
        rsv: bool,
        payload: &'f [u8],
    ) -> Verdict<'f> {
        self.hub.stats.bytes_in += payload.len() as u64;
        self.hub.touch(conn);
        let Some(state) = self.hub.conn_mut(conn) else {
            return Verdict::Done;
        };
        let codec = state.codec;
        let max = self
            .mounts
            .get(usize::from(state.mount))
            .map_or(0, |mount| mount.max_message);
        let open = state.is_open();
        let Some(op) = Opcode::from_wire(op) else {
            self.violate(conn, 1002, "unknown opcode");
            return Verdict::Done;
        };
        if !open {
            if op == Opcode::Close {
                self.hub.hang_up(conn);
            }
            return Verdict::Done;
        }
        match state.assembler.push(op, fin, rsv, payload, max) {
            Err(violation) => {
                self.violate(conn, violation.code, violation.reason);
                Verdict::Done
            }
            Ok(None) => Verdict::Done,
            Ok(Some(message)) => match message.op {
                Opcode::Close => {
                    let code = ws::close_reply(&message.payload);
                    self.close(conn, code, "", "closed", true);
                    Verdict::Done
                }
                Opcode::Ping => {
                    self.hub.direct(conn, |out| {
                        ws::frame_into(out, Opcode::Pong, |out| {
                            out.extend_from_slice(&message.payload);
                        });
                    });
                    Verdict::Done
                }
                Opcode::Pong | Opcode::Continuation => Verdict::Done,
                Opcode::Text | Opcode::Binary => {
                    self.hub.stats.messages_in += 1;
                    let text = message.op == Opcode::Text;
                    self.message(conn, codec, text, message.payload)
                }
            },
        }
    }

    fn message<'f>(
        &mut self,
        conn: ConnKey,
        codec: Codec,
        text: bool,
        frame: Cow<'f, [u8]>,
    ) -> Verdict<'f> {
        match frame {
            Cow::Borrowed(frame) => match decode(codec, text, frame) {
                Ok(message) => self.dispatch(conn, message),
                Err(error) => self.undecodable(conn, error),
            },
            // A reassembled message lives no longer than this call, so what it says is copied.
            Cow::Owned(frame) => match decode(codec, text, &frame) {
                Ok(message) => own(self.dispatch(conn, message)),
                Err(error) => self.undecodable(conn, error),
            },
        }
    }

    fn undecodable<'f>(&mut self, conn: ConnKey, error: &'static str) -> Verdict<'f> {
        *self.counts.undecodable.entry(error).or_default() += 1;
        self.complaints.push_back((conn, 1011, error));
        self.close(conn, 1011, error, "closed", false);
        Verdict::Done
    }

    fn violate(&mut self, conn: ConnKey, code: u16, reason: &'static str) {
        *self.counts.violations.entry(reason).or_default() += 1;
        self.complaints.push_back((conn, code, reason));
        self.close(conn, code, reason, "closed", false);
    }

    fn dispatch<'f>(&mut self, conn: ConnKey, message: Inbound<'f>) -> Verdict<'f> {
        let Some(topic) = &message.topic else {
            return self.unmatched(conn, &message);
        };
        if topic == "phoenix" {
            if message.event == "heartbeat" {
                self.counts.heartbeats += 1;
                self.answer(conn, false, "null", &message, OK, NOTHING);
                return Verdict::Done;
            }
            return self.unmatched(conn, &message);
        }
        match &*message.event {
            "phx_join" => self.join(conn, message),
            "phx_leave" => self.leave(conn, message),
            _ => self.event(conn, message),
        }
    }

    fn unmatched<'f>(&mut self, conn: ConnKey, message: &Inbound<'_>) -> Verdict<'f> {
        self.counts.unmatched += 1;
        self.refuse(conn, "null", message, "unmatched topic");
        Verdict::Done
    }

    fn refuse(&mut self, conn: ConnKey, join_ref: &str, message: &Inbound<'_>, reason: &str) {
        let response = format!("{{\"reason\":\"{reason}\"}}");
        self.answer(conn, true, join_ref, message, ERROR, response.as_bytes());
    }

    fn answer(
        &mut self,
        conn: ConnKey,
        ordered: bool,
        join_ref: &str,
        to: &Inbound<'_>,
        status: &str,
        response: &[u8],
    ) {
        let Some(codec) = self.hub.conn(conn).map(|c| c.codec) else {
            return;
        };
        let write = |out: &mut Vec<u8>| {
            frame_reply(
                out,
                codec,
                join_ref,
                &to.reference,
                &to.topic_json,
                status,
                response,
            );
        };
        if ordered {
            self.hub.ordered(conn, write);
        } else {
            self.hub.direct(conn, write);
        }
    }

    fn join<'f>(&mut self, conn: ConnKey, message: Inbound<'f>) -> Verdict<'f> {
        let Some(topic) = message.topic.clone() else {
            return Verdict::Done;
        };
        let Some(mount) = self.hub.conn(conn).map(|c| usize::from(c.mount)) else {
            return Verdict::Done;
        };
        if topic.len() > MAX_NAME || message.join_ref.len() > MAX_NAME {
            self.counts.joins_refused += 1;
            self.refuse(conn, "null", &message, "topic or join_ref too long");
            return Verdict::Done;
        }
        let mount = &self.mounts[mount];
        let max_channels = mount.max_channels;
        let Some(found) = mount.router.find(&topic) else {
            return self.unmatched(conn, &message);
        };
        let route = mount.routes[found.route];
        let params = found
            .params
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();

        let mut owed = Vec::new();
        if let Some(old) = self.hub.find(conn, &topic) {
            if let Some(seat) = self.hub.release(old) {
                owed = seat.owed;
                owed.push(match seat.state {
                    State::Joining { reference } => Owed::JoinError {
                        join_ref: seat.join_ref,
                        reference,
                    },
                    State::Joined | State::Leaving => Owed::Close {
                        join_ref: seat.join_ref,
                    },
                });
                self.counts.channels -= 1;
                if let Some(handle) = seat.handle {
                    self.ended.push_back((handle, "replaced"));
                }
            }
        }
        let joined = self.hub.conn(conn).map_or(0, |c| c.subs().len());
        if joined >= max_channels {
            self.counts.joins_refused += 1;
            self.refuse(
                conn,
                &message.join_ref,
                &message,
                "too many channels joined",
            );
            self.pay(conn, &topic, owed);
            return Verdict::Done;
        }
        let null = message.join_ref == "null";
        let seat = Seat {
            join_ref: (&*message.join_ref).into(),
            push_ref: null.then(|| (&*message.reference).into()),
            state: State::Joining {
                reference: (&*message.reference).into(),
            },
            route,
            owed,
            handle: None,
        };
        self.counts.channels += 1;
        let Route {
            policy, intercepts, ..
        } = self.routes[route].clone();
        let sub = self.hub.reserve(conn, &topic, policy, intercepts, seat);
        Verdict::Join {
            sub,
            route,
            topic,
            params,
            payload: message.payload.into(),
        }
    }

    /// Sends an ended predecessor what it is owed, always behind the new join's answer.
    fn pay(&mut self, conn: ConnKey, topic: &str, owed: Vec<Owed>) {
        let Some(codec) = self.hub.conn(conn).map(|c| c.codec) else {
            return;
        };
        for debt in owed {
            self.hub.ordered(conn, |out| match &debt {
                Owed::Close { join_ref } => frame_end(out, codec, join_ref, topic, false),
                Owed::JoinError {
                    join_ref,
                    reference,
                } => frame_reply(
                    out,
                    codec,
                    join_ref,
                    reference,
                    &json_string(topic),
                    ERROR,
                    b"{\"reason\":\"joined again\"}",
                ),
            });
        }
    }

    fn leave<'f>(&mut self, conn: ConnKey, message: Inbound<'f>) -> Verdict<'f> {
        let found = message.topic.as_ref().and_then(|t| self.hub.find(conn, t));
        let Some(key) = found else {
            self.answer(conn, true, &message.join_ref, &message, OK, NOTHING);
            return Verdict::Done;
        };
        let Some(sub) = self.hub.sub_mut(key) else {
            return Verdict::Done;
        };
        let seat = &mut sub.seat;
        if message.join_ref != "null" && *message.join_ref != *seat.join_ref {
            self.counts.stale += 1;
            return Verdict::Done;
        }
        match seat.state {
            State::Leaving => return Verdict::Done,
            State::Joined if seat.handle.is_some() => {
                seat.state = State::Leaving;
                return Verdict::Leave {
                    sub: key,
                    reference: message.reference,
                };
            }
            State::Joined | State::Joining { .. } => {}
        }
        if let Some(handle) = self.finish_leave(key, &message.reference) {
            self.ended.push_back((handle, "left"));
        }
        Verdict::Done
    }

    fn event<'f>(&mut self, conn: ConnKey, message: Inbound<'f>) -> Verdict<'f> {
        let found = message.topic.as_ref().and_then(|t| self.hub.find(conn, t));
        let Some(key) = found else {
            return self.unmatched(conn, &message);
        };
        let Some(sub) = self.hub.sub(key) else {
            return Verdict::Done;
        };
        let seat = &sub.seat;
        if message.join_ref != "null" && *message.join_ref != *seat.join_ref {
            self.counts.stale += 1;
            return Verdict::Done;
        }
        if matches!(seat.state, State::Leaving) {
            return Verdict::Done;
        }
        if self.routes[seat.route].kind == Kind::Stream {
            self.counts.to_stream += 1;
            if message.reference != "null" {
                let join_ref = seat.push_ref().to_owned();
                self.refuse(conn, &join_ref, &message, "push-only topic");
            }
            return Verdict::Done;
        }
        Verdict::Message {
            sub: key,
            event: message.event,
            payload: message.payload.into(),
            reference: message.reference,
        }
    }

    // -- decisions

    /// Keeps what the driver wants to find again with a channel.
    pub fn set_handle(&mut self, sub: SubKey, handle: H) -> Option<H> {
        match self.hub.sub_mut(sub) {
            Some(sub) => sub.seat.handle.replace(handle),
            None => Some(handle),
        }
    }

    /// Accepts a join: its reply goes out, then what a predecessor is owed, then broadcasts.
    ///
    /// # Errors
    /// [`Unsent::Ended`] when the client has gone, left or joined again meanwhile;
    /// [`Unsent::Unencodable`] for a binary response that its frame cannot carry, in which case the
    /// client gets the answer of a crashed join.
    pub fn join_ok(&mut self, sub: SubKey, response: Body<'_>) -> Result<(), Unsent> {
        let sent = self.answer_join(sub, OK, response);
        if sent == Err(Unsent::Unencodable) {
            self.join_error(sub, b"{\"reason\":\"join crashed\"}")?;
            return sent;
        }
        sent?;
        self.counts.joins += 1;
        self.hub.activate(sub);
        Ok(())
    }

    /// Refuses a join; the place is free again.
    ///
    /// # Errors
    /// [`Unsent::Ended`] when nobody waits any more.
    pub fn join_error(&mut self, sub: SubKey, response: &[u8]) -> Result<(), Unsent> {
        self.answer_join(sub, ERROR, Body::Json(response))?;
        self.counts.joins_refused += 1;
        if self.hub.release(sub).is_some() {
            self.counts.channels -= 1;
        }
        Ok(())
    }

    fn answer_join(&mut self, key: SubKey, status: &str, body: Body<'_>) -> Result<(), Unsent> {
        let topic = self.hub.topic_name(key).ok_or(Unsent::Ended)?;
        let sub = self.hub.sub_mut(key).ok_or(Unsent::Ended)?;
        let conn = sub.conn;
        let State::Joining { reference } = &sub.seat.state else {
            return Err(Unsent::Ended);
        };
        let (reference, join_ref) = (reference.clone(), sub.seat.join_ref.clone());
        self.send_reply(conn, &join_ref, &reference, &topic, status, body)?;
        let mut owed = Vec::new();
        if let Some(sub) = self.hub.sub_mut(key) {
            sub.seat.state = State::Joined;
            owed = std::mem::take(&mut sub.seat.owed);
        }
        self.pay(conn, &topic, owed);
        Ok(())
    }

    /// Answers one message of a joined channel; may be called again for the same ref.
    ///
    /// # Errors
    /// [`Unsent`].
    pub fn reply(
        &mut self,
        key: SubKey,
        reference: &str,
        status: &str,
        body: Body<'_>,
    ) -> Result<(), Unsent> {
        let (conn, join_ref, topic) = self.joined(key)?;
        self.send_reply(conn, &join_ref, reference, &topic, status, body)
    }

    /// Sends one event to one client.
    ///
    /// # Errors
    /// [`Unsent`].
    pub fn push(&mut self, key: SubKey, event: &str, body: Body<'_>) -> Result<(), Unsent> {
        let (conn, join_ref, topic) = self.joined(key)?;
        let codec = self.codec(conn)?;
        let mut frame = Vec::new();
        match (codec, body) {
            (Codec::PhoenixV2, Body::Json(json)) => {
                ws::frame_sized(&mut frame, Opcode::Text, json.len(), |out| {
                    encode::text_push(out, &join_ref, &topic, event, json);
                });
            }
            (Codec::PhoenixV2, Body::Binary(data)) => {
                ws::try_frame_sized(&mut frame, Opcode::Binary, data.len(), |out| {
                    encode::binary_push(out, &join_ref, &topic, event, data)
                })
                .map_err(|_| Unsent::Unencodable)?;
            }
            (Codec::PhoenixV1, Body::Json(json)) => {
                ws::frame_sized(&mut frame, Opcode::Text, json.len(), |out| {
                    encode::v1_push(out, &join_ref, &topic, event, json);
                });
            }
            (Codec::PhoenixV1, Body::Binary(_)) => return Err(Unsent::Unencodable),
        }
        self.hub.ordered(conn, |out| out.extend_from_slice(&frame));
        Ok(())
    }

    fn joined(&self, key: SubKey) -> Result<(ConnKey, Box<str>, Arc<str>), Unsent> {
        let sub = self.hub.sub(key).ok_or(Unsent::Ended)?;
        if matches!(sub.seat.state, State::Joining { .. }) {
            return Err(Unsent::Ended);
        }
        let topic = self.hub.topic_name(key).ok_or(Unsent::Ended)?;
        Ok((sub.conn, sub.seat.push_ref().into(), topic))
    }

    fn codec(&self, conn: ConnKey) -> Result<Codec, Unsent> {
        let conn = self.hub.conn(conn).ok_or(Unsent::Ended)?;
        Ok(conn.codec)
    }

    fn send_reply(
        &mut self,
        conn: ConnKey,
        join_ref: &str,
        reference: &str,
        topic: &str,
        status: &str,
        body: Body<'_>,
    ) -> Result<(), Unsent> {
        let codec = self.codec(conn)?;
        match (codec, body) {
            (_, Body::Json(json)) => {
                let topic = json_string(topic);
                self.hub.ordered(conn, |out| {
                    frame_reply(out, codec, join_ref, reference, &topic, status, json);
                });
                Ok(())
            }
            (Codec::PhoenixV2, Body::Binary(data)) => {
                let mut frame = Vec::new();
                ws::try_frame_sized(&mut frame, Opcode::Binary, data.len(), |out| {
                    encode::binary_reply(out, join_ref, reference, topic, status, data)
                })
                .map_err(|_| Unsent::Unencodable)?;
                self.hub.ordered(conn, |out| out.extend_from_slice(&frame));
                Ok(())
            }
            (Codec::PhoenixV1, Body::Binary(_)) => Err(Unsent::Unencodable),
        }
    }

    /// Ends a channel that its client leaves: the ok reply, then `phx_close`. Returns the handle.
    pub fn finish_leave(&mut self, key: SubKey, reference: &str) -> Option<H> {
        let topic = self.hub.topic_name(key)?;
        let sub = self.hub.sub(key)?;
        let (conn, join_ref) = (sub.conn, sub.seat.join_ref.clone());
        let push_ref: Box<str> = sub.seat.push_ref().into();
        let codec = self.codec(conn).ok()?;
        let seat = self.hub.release(key)?;
        self.counts.channels -= 1;
        self.counts.leaves += 1;
        let topic_json = json_string(&topic);
        self.hub.ordered(conn, |out| {
            frame_reply(out, codec, &push_ref, reference, &topic_json, OK, NOTHING);
            frame_end(out, codec, &join_ref, &topic, false);
        });
        self.pay(conn, &topic, seat.owed);
        seat.handle
    }

    /// Ends a joined channel from the server's side: `phx_close`, or `phx_error` for a crash.
    /// Returns its handle.
    pub fn end(&mut self, key: SubKey, crash: bool) -> Option<H> {
        let topic = self.hub.topic_name(key)?;
        let conn = self.hub.sub(key)?.conn;
        let codec = self.codec(conn).ok()?;
        let seat = self.hub.release(key)?;
        self.counts.channels -= 1;
        self.hub.ordered(conn, |out| {
            frame_end(out, codec, &seat.join_ref, &topic, crash);
        });
        self.pay(conn, &topic, seat.owed);
        seat.handle
    }

    // -- broadcasts and closings

    /// Publishes to a topic. Returns the channels that intercept the event.
    pub fn publish(
        &mut self,
        topic: &str,
        event: &str,
        body: Body<'_>,
        key: Option<&str>,
        exclude: SubKey,
    ) -> Vec<SubKey> {
        let (payload, binary) = match body {
            Body::Json(json) => (json, false),
            Body::Binary(data) => (data, true),
        };
        let policy = if self.hub.topic_by_name(topic).is_some() {
            Policy::default()
        } else {
            self.policy_of(topic)
        };
        self.hub.publish(&Publish {
            topic,
            event,
            payload,
            binary,
            key,
            exclude,
            encode: Broadcast { topic, event, body },
            policy,
        })
    }

    /// The policy of the first mount's route that matches a topic nobody has joined.
    fn policy_of(&self, topic: &str) -> Policy {
        if self.routes.iter().all(|r| r.policy.history.is_none()) {
            return Policy::default();
        }
        self.mounts
            .iter()
            .find_map(|mount| Some(mount.routes[mount.router.find(topic)?.route]))
            .map(|route| self.routes[route].policy)
            .unwrap_or_default()
    }

    /// Closes a connection from our side; every channel on it ends with `why`.
    pub fn close(
        &mut self,
        conn: ConnKey,
        code: u16,
        reason: &str,
        why: &'static str,
        hang_up: bool,
    ) {
        let seats = self.hub.close(conn, code, reason, hang_up);
        self.end_all(seats, why);
    }

    /// The connection is gone. To be called before its descriptor is closed.
    pub fn lost(&mut self, conn: ConnKey) {
        let seats = self.hub.remove(conn);
        self.end_all(seats, "closed");
    }

    fn end_all(&mut self, seats: Vec<Seat<H>>, why: &'static str) {
        for seat in seats {
            self.counts.channels -= 1;
            if let Some(handle) = seat.handle {
                self.ended.push_back((handle, why));
            }
        }
    }

    /// Closes readers over budget (1013, come back later) and returns how many.
    pub fn close_slow(&mut self) -> usize {
        let slow = self.hub.take_slow();
        for conn in &slow {
            self.complaints.push_back((*conn, 1013, "slow reader"));
            self.close(*conn, 1013, "slow reader", "closed", false);
        }
        slow.len()
    }

    /// Closes what has been silent too long (1002, as Phoenix on Bandit) and cuts unanswered closes.
    pub fn sweep(&mut self) {
        let mounts = &self.mounts;
        let idle = self.hub.sweep(&|mount| {
            mounts
                .get(usize::from(mount))
                .map_or(0, |mount| mount.idle_ms)
        });
        for conn in idle {
            self.close(conn, 1002, "idle", "closed", false);
        }
    }
}

fn decode(codec: Codec, text: bool, frame: &[u8]) -> Result<Inbound<'_>, &'static str> {
    match (codec, text) {
        (Codec::PhoenixV2, true) => phoenix::decode_text(frame),
        (Codec::PhoenixV2, false) => phoenix::decode_binary(frame),
        (Codec::PhoenixV1, true) => phoenix::decode_v1(frame),
        (Codec::PhoenixV1, false) => return Err("binary_in_v1"),
    }
    .map_err(phoenix::DecodeError::as_str)
}

/// The verdict on a message that does not outlive this call, with everything it says copied.
fn own<'f>(verdict: Verdict<'_>) -> Verdict<'f> {
    fn text<'f>(text: Cow<'_, str>) -> Cow<'f, str> {
        Cow::Owned(text.into_owned())
    }
    match verdict {
        Verdict::Done => Verdict::Done,
        Verdict::Leave { sub, reference } => Verdict::Leave {
            sub,
            reference: text(reference),
        },
        Verdict::Join {
            sub,
            route,
            topic,
            params,
            payload,
        } => Verdict::Join {
            sub,
            route,
            topic: text(topic),
            params,
            payload: payload.own(),
        },
        Verdict::Message {
            sub,
            event,
            payload,
            reference,
        } => Verdict::Message {
            sub,
            event: text(event),
            payload: payload.own(),
            reference: text(reference),
        },
    }
}

fn json_string(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn frame_reply(
    out: &mut Vec<u8>,
    codec: Codec,
    join_ref: &str,
    reference: &str,
    topic_json: &str,
    status: &str,
    response: &[u8],
) {
    ws::frame_sized(out, Opcode::Text, response.len() + 64, |out| match codec {
        Codec::PhoenixV2 => {
            encode::text_reply(out, join_ref, reference, topic_json, status, response);
        }
        Codec::PhoenixV1 => {
            encode::v1_reply(out, join_ref, reference, topic_json, status, response);
        }
    });
}

fn frame_end(out: &mut Vec<u8>, codec: Codec, join_ref: &str, topic: &str, crash: bool) {
    ws::frame_into(out, Opcode::Text, |out| match (codec, crash) {
        (Codec::PhoenixV2, false) => encode::text_close(out, join_ref, topic),
        (Codec::PhoenixV2, true) => encode::text_error(out, join_ref, topic),
        (Codec::PhoenixV1, false) => encode::v1_close(out, join_ref, topic),
        (Codec::PhoenixV1, true) => encode::v1_error(out, join_ref, topic),
    });
}
