//! From a client's wish to join to the answer, which may be long in coming.
//!
//! A join under way holds a place on its topic that is not served yet, so that the socket goes on:
//! the client may send messages (the driver keeps them), leave, or join again. When the join comes
//! to nothing, those messages are unmatched, as they would be behind a join decided at once. A
//! predecessor on the topic gets its `phx_close` behind the new join's answer, as the reference
//! sends it.

use crate::hub::{ConnKey, SubKey};
use crate::phoenix::Inbound;

use super::write::{because, frame_end, Body, ERROR, OK};
use super::{Kind, Route, Seat, Sessions, State, Unsent, Verdict};

/// A topic, event or ref longer than this is refused: they are kept, per channel and per message
/// that waits. Of a ref its bytes as they came, without the quotes around them.
pub const MAX_NAME: usize = 1024;

/// Whether a ref, as JSON text, is longer than is kept.
pub(super) fn too_long(json: &str) -> bool {
    let text = json.strip_prefix('"').and_then(|j| j.strip_suffix('"'));
    text.unwrap_or(json).len() > MAX_NAME
}

/// What refs of messages to an undecided join may take.
const WAITING_BYTES: usize = 16 * 1024;

/// What is known of a join until it is decided.
#[derive(Debug)]
pub(super) struct Joining {
    reference: Box<str>,
    /// The join ref of a predecessor that is owed its `phx_close`.
    owed: Option<Box<str>>,
    /// Refs of messages that came meanwhile: if there will be no channel, nobody else answers them.
    waiting: Vec<Box<str>>,
    waiting_bytes: usize,
}

impl Joining {
    pub fn expect_answer(&mut self, reference: &str) {
        let bytes = reference.len() + std::mem::size_of::<Box<str>>();
        if self.waiting_bytes + bytes <= WAITING_BYTES {
            self.waiting_bytes += bytes;
            self.waiting.push(reference.into());
        }
    }
}

impl<H> Sessions<H> {
    pub(super) fn join<'f>(&mut self, conn: ConnKey, message: &Inbound<'f>) -> Verdict<'f> {
        let Some(topic) = message.topic.clone() else {
            return Verdict::Done;
        };
        let Some(mount) = self.hub.conn(conn).map(|c| usize::from(c.mount)) else {
            return Verdict::Done;
        };
        let refs = [&message.join_ref, &message.reference];
        if topic.len() > MAX_NAME || refs.into_iter().any(|json| too_long(json)) {
            self.counts.joins_refused += 1;
            self.refuse(conn, "null", message, "topic, join_ref or ref too long");
            return Verdict::Done;
        }
        let mount = &self.mounts[mount];
        let max_channels = mount.max_channels;
        // NUL marks the lanes of a topic (`Hub::reseat`); a wildcard route must not lead into one.
        let nameable = !topic.contains('\0');
        let Some(found) = mount.router.find(&topic).filter(|_| nameable) else {
            return self.unmatched(conn, message);
        };
        let route = mount.routes[found.route];
        let params = found
            .params
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();

        let joined = self.hub.conn(conn).map_or(0, |c| c.subs().len());
        let owed = match self.hub.find(conn, &topic) {
            // It takes the place of the one it replaces, even when no other is left.
            Some(old) => self.replace(conn, &topic, old),
            None if joined >= max_channels => {
                self.counts.joins_refused += 1;
                let join_ref = &message.join_ref;
                self.refuse(conn, join_ref, message, "too many channels joined");
                return Verdict::Done;
            }
            None => None,
        };
        let null = message.join_ref == "null";
        let seat = Seat {
            join_ref: (&*message.join_ref).into(),
            push_ref: null.then(|| (&*message.reference).into()),
            state: State::Joining(Box::new(Joining {
                reference: (&*message.reference).into(),
                owed,
                waiting: Vec::new(),
                waiting_bytes: 0,
            })),
            route,
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

    /// Ends a channel whose client joins its topic again; returns the join ref of the one that is
    /// owed a `phx_close` behind the new join's answer.
    fn replace(&mut self, conn: ConnKey, topic: &str, old: SubKey) -> Option<Box<str>> {
        let seat = self.hub.release(old)?;
        self.counts.channels -= 1;
        if let Some(handle) = seat.handle {
            self.ended.push_back((handle, "replaced"));
        }
        match seat.state {
            State::Joined | State::Leaving => Some(seat.join_ref),
            State::Joining(joining) => {
                // At once: whoever joins in a loop must not run up a debt.
                self.reject(
                    conn,
                    &seat.join_ref,
                    &joining.reference,
                    topic,
                    "joined again",
                );
                self.disown(conn, topic, &joining.waiting);
                joining.owed
            }
        }
    }

    /// Sends a predecessor the `phx_close` it is owed.
    fn pay(&mut self, conn: ConnKey, topic: &str, owed: Option<&str>) {
        if let (Some(join_ref), Ok(codec)) = (owed, self.codec(conn)) {
            self.hub.ordered(conn, |out| {
                frame_end(out, codec, join_ref, topic, false);
            });
        }
    }

    /// Answers messages to a channel that will not be.
    pub(super) fn disown(&mut self, conn: ConnKey, topic: &str, waiting: &[Box<str>]) {
        for reference in waiting {
            self.counts.unmatched += 1;
            self.reject(conn, "null", reference, topic, "unmatched topic");
        }
    }

    pub(super) fn reject(
        &mut self,
        conn: ConnKey,
        join_ref: &str,
        reference: &str,
        topic: &str,
        why: &str,
    ) {
        let response = because(why);
        let body = Body::Json(response.as_bytes());
        // JSON is encodable always, and a connection that is gone needs no answer.
        let _ = self.send_reply(conn, join_ref, reference, topic, ERROR, body);
    }

    /// What is due when a join under way ends otherwise than by its decision: every question that
    /// was asked before is answered, in its order.
    pub(super) fn abandon(&mut self, conn: ConnKey, topic: &str, seat: &Seat<H>, why: &str) {
        if let State::Joining(joining) = &seat.state {
            self.reject(conn, &seat.join_ref, &joining.reference, topic, why);
            self.pay(conn, topic, joining.owed.as_deref());
            self.disown(conn, topic, &joining.waiting);
        }
    }

    /// Accepts a join: its reply goes out, then what a predecessor is owed, then broadcasts.
    /// Gives back a stream's handle: once joined, its subscribers cost the driver nothing.
    ///
    /// # Errors
    /// [`Unsent::Ended`] when the client has gone, left or joined again meanwhile;
    /// [`Unsent::Unencodable`] for a binary response that its frame cannot carry, in which case the
    /// client gets the answer of a crashed join.
    pub fn join_ok(&mut self, sub: SubKey, response: Body<'_>) -> Result<Option<H>, Unsent> {
        let answered = self.answer_join(sub, OK, response);
        if answered == Err(Unsent::Unencodable) {
            self.join_error(sub, because("join crashed").as_bytes())?;
        }
        answered?;
        self.counts.joins += 1;
        self.hub.activate(sub);
        let routes = &self.routes;
        let seat = self.hub.sub_mut(sub).map(|sub| &mut sub.seat);
        let stream = seat.filter(|seat| routes[seat.route].kind == Kind::Stream);
        Ok(stream.and_then(|seat| seat.handle.take()))
    }

    /// Refuses a join; the place is free again, and messages that came meanwhile are unmatched.
    ///
    /// # Errors
    /// [`Unsent::Ended`] when nobody waits any more.
    pub fn join_error(&mut self, sub: SubKey, response: &[u8]) -> Result<(), Unsent> {
        let topic = self.hub.topic_name(sub).ok_or(Unsent::Ended)?;
        let conn = self.hub.sub(sub).ok_or(Unsent::Ended)?.conn;
        let waiting = self.answer_join(sub, ERROR, Body::Json(response))?;
        self.counts.joins_refused += 1;
        if self.hub.release(sub).is_some() {
            self.counts.channels -= 1;
        }
        self.disown(conn, &topic, &waiting);
        Ok(())
    }

    /// Sends the reply and what a predecessor is owed; gives the refs of messages that wait.
    fn answer_join(
        &mut self,
        key: SubKey,
        status: &str,
        body: Body<'_>,
    ) -> Result<Vec<Box<str>>, Unsent> {
        let topic = self.hub.topic_name(key).ok_or(Unsent::Ended)?;
        let sub = self.hub.sub(key).ok_or(Unsent::Ended)?;
        let conn = sub.conn;
        let State::Joining(joining) = &sub.seat.state else {
            return Err(Unsent::Ended);
        };
        let (reference, join_ref) = (joining.reference.clone(), sub.seat.join_ref.clone());
        self.send_reply(conn, &join_ref, &reference, &topic, status, body)?;
        let sub = self.hub.sub_mut(key).ok_or(Unsent::Ended)?;
        let state = std::mem::replace(&mut sub.seat.state, State::Joined);
        let State::Joining(joining) = state else {
            return Err(Unsent::Ended);
        };
        self.pay(conn, &topic, joining.owed.as_deref());
        Ok(joining.waiting)
    }
}
