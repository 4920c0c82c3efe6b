//! Frames in: what they say, and whatever can be answered without asking anybody.

use std::borrow::Cow;

use super::inward::size_of;
use super::join::{too_long, MAX_NAME};
use super::write::{because, frame_reply, ERROR, NOTHING, OK};
use super::{Content, Kind, Seat, Sessions, State, Verdict};
use crate::hub::{Codec, ConnKey, SubKey};
use crate::phoenix::{self, Inbound};
use crate::ws::{self, Opcode};

/// The reason for a payload that nests deeper than [`phoenix::MAX_DEPTH`].
pub(super) const TOO_DEEP: &str = "payload nested deeper than 128 levels";
const _: () = assert!(phoenix::MAX_DEPTH == 128);

impl<H> Sessions<H> {
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
        let op = Opcode::from_wire(op);
        if !state.is_open() {
            if op == Some(Opcode::Close) {
                self.hub.hang_up(conn);
            }
            return Verdict::Done;
        }
        let Some(op) = op else {
            self.violate(conn, 1002, "unknown opcode");
            return Verdict::Done;
        };
        let codec = state.codec;
        let mount = self.mounts.get(usize::from(state.mount));
        let max = mount.map_or(0, |mount| mount.max_message);
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
                Ok(message) => self.dispatch(conn, message).own(),
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

    pub(super) fn dispatch<'f>(&mut self, conn: ConnKey, message: Inbound<'f>) -> Verdict<'f> {
        // A leave is answered for any topic, even one that is no string: nobody is on it.
        if message.event == "phx_leave" {
            return self.leave(conn, message);
        }
        let Some(topic) = &message.topic else {
            self.unmatched(conn, &message);
            return Verdict::Done;
        };
        if topic == "phoenix" {
            if message.event == "heartbeat" {
                self.counts.heartbeats += 1;
                self.heartbeat(conn, &message);
                return Verdict::Done;
            }
            self.unmatched(conn, &message);
            return Verdict::Done;
        }
        if message.event == "phx_join" {
            self.join(conn, &message);
            return Verdict::Done;
        }
        self.event(conn, message)
    }

    fn leave<'f>(&mut self, conn: ConnKey, message: Inbound<'f>) -> Verdict<'f> {
        let found = message.topic.as_ref().and_then(|t| self.hub.find(conn, t));
        let Some(key) = found else {
            self.answer(conn, &message.join_ref, &message, OK, NOTHING);
            return Verdict::Done;
        };
        let waits = self.must_wait(key, &message.join_ref);
        let Some(sub) = self.hub.sub_mut(key) else {
            return Verdict::Done;
        };
        let seat = &mut sub.seat;
        if !waits && !seat.speaks(&message.join_ref) || too_long(&message.join_ref) {
            self.counts.stale += 1;
            return Verdict::Done;
        }
        match seat.state {
            State::Leaving => return Verdict::Done,
            State::Joining(_) => {
                if too_long(&message.reference) {
                    return self.oversized(conn, key, &message);
                }
                self.hold(conn, key, &message);
                return Verdict::Done;
            }
            State::Joined if seat.handle.is_some() => {
                if too_long(&message.reference) {
                    return self.oversized(conn, key, &message);
                }
                seat.state = State::Leaving;
                return Verdict::Leave {
                    sub: key,
                    reference: message.reference,
                };
            }
            State::Joined => {}
        }
        if let Some(handle) = self.finish_leave(key, &message.reference) {
            self.ended.push_back((handle, "left"));
        }
        Verdict::Done
    }

    fn event<'f>(&mut self, conn: ConnKey, message: Inbound<'f>) -> Verdict<'f> {
        let found = message.topic.as_ref().and_then(|t| self.hub.find(conn, t));
        let Some(key) = found else {
            self.unmatched(conn, &message);
            return Verdict::Done;
        };
        let waits = self.must_wait(key, &message.join_ref);
        let Some(sub) = self.hub.sub_mut(key) else {
            return Verdict::Done;
        };
        let seat = &mut sub.seat;
        if !waits && !seat.speaks(&message.join_ref) || too_long(&message.join_ref) {
            self.counts.stale += 1;
            return Verdict::Done;
        }
        if matches!(seat.state, State::Leaving) {
            return Verdict::Done;
        }
        if !waits && self.routes[seat.route].kind == Kind::Stream {
            self.counts.to_stream += 1;
            self.decline(conn, key, &message, "push-only topic");
            return Verdict::Done;
        }
        if message.event.len() > MAX_NAME || too_long(&message.reference) {
            return self.oversized(conn, key, &message);
        }
        if waits {
            if !self.hold(conn, key, &message) {
                self.decline(conn, key, &message, "busy");
            }
            return Verdict::Done;
        }
        let Some(payload) = Content::of(&message.payload) else {
            self.counts.too_deep += 1;
            self.decline(conn, key, &message, TOO_DEEP);
            return Verdict::Done;
        };
        let size = size_of(&message.event, payload.bytes.len(), &message.reference);
        let admitted = self.inward.admit(conn, &mut seat.waiting, size);
        if admitted.is_err() {
            self.decline(conn, key, &message, "busy");
            return Verdict::Done;
        }
        Verdict::Message {
            sub: key,
            event: message.event,
            payload,
            reference: message.reference,
            size,
        }
    }

    /// Tells the client that its message to a channel is not taken; if it asked for an answer.
    fn decline(&mut self, conn: ConnKey, key: SubKey, message: &Inbound<'_>, why: &str) {
        if message.reference != "null" {
            let seat = self.hub.sub(key).map(|sub| &sub.seat);
            let join_ref: Box<str> = seat.map_or("null", Seat::push_ref).into();
            self.refuse(conn, &join_ref, message, why);
        }
    }

    // -- answers that need no decision

    /// Not behind broadcasts: a client takes a late answer for a dead connection.
    fn heartbeat(&mut self, conn: ConnKey, message: &Inbound<'_>) {
        if let Some(codec) = self.hub.conn(conn).map(|c| c.codec) {
            let (reference, topic) = (&message.reference, &message.topic_json);
            self.hub.direct(conn, |out| {
                frame_reply(out, codec, "null", reference, topic, OK, NOTHING);
            });
        }
    }

    pub(super) fn unmatched(&mut self, conn: ConnKey, message: &Inbound<'_>) {
        self.counts.unmatched += 1;
        self.refuse(conn, "null", message, "unmatched topic");
    }

    /// What would wait for its channel, and so be kept.
    fn oversized<'f>(&mut self, conn: ConnKey, key: SubKey, message: &Inbound<'_>) -> Verdict<'f> {
        self.counts.oversized += 1;
        let seat = self.hub.sub(key).map(|sub| &sub.seat);
        let join_ref: Box<str> = seat.map_or("null", Seat::push_ref).into();
        self.refuse(conn, &join_ref, message, "event or ref too long");
        Verdict::Done
    }

    pub(super) fn refuse(
        &mut self,
        conn: ConnKey,
        join_ref: &str,
        message: &Inbound<'_>,
        reason: &str,
    ) {
        let response = because(reason);
        self.answer(conn, join_ref, message, ERROR, response.as_bytes());
    }

    fn answer(
        &mut self,
        conn: ConnKey,
        join_ref: &str,
        to: &Inbound<'_>,
        status: &str,
        response: &[u8],
    ) {
        if let Some(codec) = self.hub.conn(conn).map(|c| c.codec) {
            let (reference, topic) = (&to.reference, &to.topic_json);
            self.hub.ordered(conn, |out| {
                frame_reply(out, codec, join_ref, reference, topic, status, response);
            });
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
