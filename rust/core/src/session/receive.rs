//! Frames in: what they say, and whatever can be answered without asking anybody.

use std::borrow::Cow;

use super::join::{too_long, MAX_NAME};
use super::write::{because, frame_reply, ERROR, NOTHING, OK};
use super::{Kind, Seat, Sessions, State, Verdict};
use crate::hub::{Codec, ConnKey, SubKey};
use crate::phoenix::{self, Inbound};
use crate::ws::{self, Opcode, Piece};

impl<H> Sessions<H> {
    /// Reads bytes of a connection up to the next message that asks something of the driver, takes
    /// them off the front of `input` and unmasks them in place. To be called until `input` is empty;
    /// the driver answers and looks at what else has happened in between. Anything wrong with a
    /// frame closes this connection only, and nothing behind it is read.
    #[allow(clippy::mut_mut)] // what is read is taken off a borrowed slice
    pub fn read<'f>(&mut self, conn: ConnKey, input: &mut &'f mut [u8]) -> Verdict<'f> {
        self.hub.touch(conn);
        loop {
            let Some(state) = self.hub.conn_mut(conn).filter(|state| state.is_open()) else {
                let rest = std::mem::take(input);
                self.hub.discard_input(conn, rest);
                return Verdict::Done;
            };
            let mount = self.mounts.get(usize::from(state.mount));
            let max = mount.map_or(0, |mount| mount.max_message);
            let room = max.saturating_sub(state.assembler.pending());
            let verdict = match state.reader.next(input, room) {
                Ok(None) => return Verdict::Done,
                Ok(Some(Piece { op, fin, payload })) => match payload {
                    Cow::Borrowed(payload) => self.frame(conn, op, fin, false, payload, max),
                    // Nobody else has it: a verdict must not point into it.
                    Cow::Owned(payload) => self.frame(conn, op, fin, false, &payload, max).own(),
                },
                Err(violation) => {
                    self.violate(conn, violation.code, violation.reason);
                    Verdict::Done
                }
            };
            if !matches!(verdict, Verdict::Done) || self.has_news() {
                return verdict;
            }
        }
    }

    /// Takes one websocket frame, unmasked. Anything wrong with it closes this connection only.
    pub fn receive<'f>(
        &mut self,
        conn: ConnKey,
        op: u8,
        fin: bool,
        rsv: bool,
        payload: &'f [u8],
    ) -> Verdict<'f> {
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
        let mount = self.mounts.get(usize::from(state.mount));
        let max = mount.map_or(0, |mount| mount.max_message);
        self.frame(conn, op, fin, rsv, payload, max)
    }

    /// A frame or a part of one, of a connection that is open.
    fn frame<'f>(
        &mut self,
        conn: ConnKey,
        op: Opcode,
        fin: bool,
        rsv: bool,
        payload: &'f [u8],
        max: usize,
    ) -> Verdict<'f> {
        self.hub.stats.bytes_in += payload.len() as u64;
        let Some(state) = self.hub.conn_mut(conn) else {
            return Verdict::Done;
        };
        let codec = state.codec;
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

    fn dispatch<'f>(&mut self, conn: ConnKey, message: Inbound<'f>) -> Verdict<'f> {
        // A leave is answered for any topic, even one that is no string: nobody is on it.
        if message.event == "phx_leave" {
            return self.leave(conn, message);
        }
        let Some(topic) = &message.topic else {
            return self.unmatched(conn, &message);
        };
        if topic == "phoenix" {
            if message.event == "heartbeat" {
                self.counts.heartbeats += 1;
                self.heartbeat(conn, &message);
                return Verdict::Done;
            }
            return self.unmatched(conn, &message);
        }
        if message.event == "phx_join" {
            return self.join(conn, &message);
        }
        self.event(conn, message)
    }

    fn leave<'f>(&mut self, conn: ConnKey, message: Inbound<'f>) -> Verdict<'f> {
        let found = message.topic.as_ref().and_then(|t| self.hub.find(conn, t));
        let Some(key) = found else {
            self.answer(conn, &message.join_ref, &message, OK, NOTHING);
            return Verdict::Done;
        };
        let Some(sub) = self.hub.sub_mut(key) else {
            return Verdict::Done;
        };
        let seat = &mut sub.seat;
        if !seat.speaks(&message.join_ref) {
            self.counts.stale += 1;
            return Verdict::Done;
        }
        match seat.state {
            State::Leaving => return Verdict::Done,
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
            State::Joined | State::Joining(_) => {}
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
        let Some(sub) = self.hub.sub_mut(key) else {
            return Verdict::Done;
        };
        let seat = &mut sub.seat;
        if !seat.speaks(&message.join_ref) {
            self.counts.stale += 1;
            return Verdict::Done;
        }
        if matches!(seat.state, State::Leaving) {
            return Verdict::Done;
        }
        if self.routes[seat.route].kind == Kind::Stream {
            self.counts.to_stream += 1;
            if message.reference != "null" {
                let join_ref: Box<str> = seat.push_ref().into();
                self.refuse(conn, &join_ref, &message, "push-only topic");
            }
            return Verdict::Done;
        }
        if message.event.len() > MAX_NAME || too_long(&message.reference) {
            return self.oversized(conn, key, &message);
        }
        if let State::Joining(joining) = &mut seat.state {
            joining.expect_answer(&message.reference);
        }
        Verdict::Message {
            sub: key,
            event: message.event,
            payload: message.payload.into(),
            reference: message.reference,
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

    pub(super) fn unmatched<'f>(&mut self, conn: ConnKey, message: &Inbound<'_>) -> Verdict<'f> {
        self.counts.unmatched += 1;
        self.refuse(conn, "null", message, "unmatched topic");
        Verdict::Done
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
