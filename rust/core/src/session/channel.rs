//! What the driver says for a channel: replies, pushes, its end.

use std::sync::Arc;

use crate::hub::{Codec, ConnKey, SubKey};
use crate::phoenix::encode;
use crate::ws::{self, Opcode};

use super::write::{frame_end, frame_push, frame_reply, json_string, Body, NOTHING, OK};
use super::{Kind, Seat, Sessions, State, Unsent};

impl<H> Sessions<H> {
    /// Keeps what the driver wants to find again with a channel, or with a stream's join until it
    /// is decided. Gives back what was kept before, or `handle` itself when it is too late.
    pub fn set_handle(&mut self, sub: SubKey, handle: H) -> Option<H> {
        let routes = &self.routes;
        let seat = self.hub.sub_mut(sub).map(|sub| &mut sub.seat);
        let stream = |seat: &Seat<H>| routes[seat.route].kind == Kind::Stream;
        match seat {
            Some(seat) if matches!(seat.state, State::Joining(_)) || !stream(seat) => {
                seat.handle.replace(handle)
            }
            _ => Some(handle),
        }
    }

    /// A message of [`Verdict::Message`] is handled now, or dropped: it waits no longer.
    ///
    /// [`Verdict::Message`]: super::Verdict::Message
    pub fn taken(&mut self, key: SubKey, size: usize) {
        if let Some(sub) = self.hub.sub_mut(key) {
            let conn = sub.conn;
            self.inward.release(conn, &mut sub.seat.waiting, size);
        }
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
        match (codec, body) {
            (_, Body::Json(json)) => self.hub.ordered(conn, |out| {
                frame_push(out, codec, &join_ref, &topic, event, json);
            }),
            (Codec::PhoenixV2, Body::Binary(data)) => {
                let mut frame = Vec::new();
                ws::try_frame_sized(&mut frame, Opcode::Binary, data.len(), |out| {
                    encode::binary_push(out, &join_ref, &topic, event, data)
                })
                .map_err(|_| Unsent::Unencodable)?;
                self.hub.ordered(conn, |out| out.extend_from_slice(&frame));
            }
            (Codec::PhoenixV1, Body::Binary(_)) => return Err(Unsent::Unencodable),
        }
        Ok(())
    }

    fn joined(&self, key: SubKey) -> Result<(ConnKey, Box<str>, Arc<str>), Unsent> {
        let sub = self.hub.sub(key).ok_or(Unsent::Ended)?;
        if matches!(sub.seat.state, State::Joining(_)) {
            return Err(Unsent::Ended);
        }
        let topic = self.hub.topic_name(key).ok_or(Unsent::Ended)?;
        Ok((sub.conn, sub.seat.push_ref().into(), topic))
    }

    pub(super) fn codec(&self, conn: ConnKey) -> Result<Codec, Unsent> {
        let conn = self.hub.conn(conn).ok_or(Unsent::Ended)?;
        Ok(conn.codec)
    }

    pub(super) fn send_reply(
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
            }
            (Codec::PhoenixV2, Body::Binary(data)) => {
                let mut frame = Vec::new();
                ws::try_frame_sized(&mut frame, Opcode::Binary, data.len(), |out| {
                    encode::binary_reply(out, join_ref, reference, topic, status, data)
                })
                .map_err(|_| Unsent::Unencodable)?;
                self.hub.ordered(conn, |out| out.extend_from_slice(&frame));
            }
            (Codec::PhoenixV1, Body::Binary(_)) => return Err(Unsent::Unencodable),
        }
        Ok(())
    }

    /// Ends a channel that its client leaves: the ok reply, then `phx_close`. A join that was not
    /// decided yet is answered first, and what was sent to it. Returns the handle.
    pub fn finish_leave(&mut self, key: SubKey, reference: &str) -> Option<H> {
        let topic = self.hub.topic_name(key)?;
        let conn = self.hub.sub(key)?.conn;
        let codec = self.codec(conn).ok()?;
        let mut seat = self.hub.release(key)?;
        self.counts.channels -= 1;
        self.counts.leaves += 1;
        self.inward.forget(conn, seat.waiting);
        let held = self.abandon(conn, &topic, &mut seat, "left");
        let topic_json = json_string(&topic);
        self.hub.ordered(conn, |out| {
            let join_ref = seat.push_ref();
            frame_reply(out, codec, join_ref, reference, &topic_json, OK, NOTHING);
        });
        self.hub.ordered(conn, |out| {
            frame_end(out, codec, &seat.join_ref, &topic, false);
        });
        self.unblock(conn, &topic, held);
        seat.handle
    }

    /// Ends a joined channel from the server's side: `phx_close`, or `phx_error` for a crash.
    /// Returns its handle.
    pub fn end(&mut self, key: SubKey, crash: bool) -> Option<H> {
        let topic = self.hub.topic_name(key)?;
        let conn = self.hub.sub(key)?.conn;
        let codec = self.codec(conn).ok()?;
        let mut seat = self.hub.release(key)?;
        self.counts.channels -= 1;
        self.inward.forget(conn, seat.waiting);
        let held = self.abandon(conn, &topic, &mut seat, "join crashed");
        self.hub.ordered(conn, |out| {
            frame_end(out, codec, &seat.join_ref, &topic, crash);
        });
        self.unblock(conn, &topic, held);
        seat.handle
    }
}
