//! From a client's wish to join to the answer, which may be long in coming.
//!
//! A join under way holds a place on its topic that is not served yet, so that the socket goes on.
//! Whatever the client sends to the topic meanwhile (messages, a leave, another join) waits for the
//! decision and is then taken in its order, as if it had come after it: the reference decides one
//! join at a time and reads nothing from the socket until then. So a join is always answered by
//! its own handler, and messages to one that was refused are unmatched.
//!
//! A predecessor on the topic gets its `phx_close` behind the new join's answer, as the reference
//! sends it.
//!
//! Joins wait in a queue until the driver takes them, connection by connection in turn: joining is
//! what costs most, and a client that joins in a loop must not have its neighbours wait.

use std::borrow::Cow;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use crate::hub::{ConnKey, SubKey};
use crate::phoenix::{Inbound, Payload};

use super::held::Held;
use super::inward::{size_of, Full};
use super::write::{because, frame_end, Body, ERROR, OK};
use super::{Content, Kind, Route, Seat, Sessions, State, Unsent, Verdict};

/// A topic, event or ref longer than this is refused: they are kept, per channel and per message
/// that waits. Of a ref its bytes as they came, without the quotes around them.
pub const MAX_NAME: usize = 1024;

/// Joins of one topic that may wait behind the one that is being decided. A stock client that
/// hears nothing leaves and joins again every ten seconds or so.
pub const MAX_JOINS: usize = 16;

/// Whether a ref, as JSON text, is longer than is kept.
pub(super) fn too_long(json: &str) -> bool {
    let text = json.strip_prefix('"').and_then(|j| j.strip_suffix('"'));
    text.unwrap_or(json).len() > MAX_NAME
}

/// What is known of a join until it is decided.
#[derive(Debug)]
pub(super) struct Joining {
    reference: Box<str>,
    /// The join ref of a predecessor that is owed its `phx_close`.
    owed: Option<Box<str>>,
    /// What the driver is asked; taken when it is.
    request: Option<Request>,
    /// What came meanwhile.
    held: VecDeque<Held>,
    /// Joins among it.
    joins: usize,
}

#[derive(Debug)]
struct Request {
    params: Vec<(String, String)>,
    payload: Box<[u8]>,
    binary: bool,
}

/// Joins the driver has not been asked about.
#[derive(Debug, Default)]
pub(super) struct Requests {
    /// Connections that have any, in the order of their turns; some may be gone.
    turns: VecDeque<ConnKey>,
    waiting: HashMap<ConnKey, VecDeque<SubKey>>,
}

impl Requests {
    fn push(&mut self, conn: ConnKey, sub: SubKey) {
        let waiting = self.waiting.entry(conn).or_default();
        if waiting.is_empty() {
            self.turns.push_back(conn);
        }
        waiting.push_back(sub);
    }

    fn pop(&mut self) -> Option<SubKey> {
        loop {
            let conn = self.turns.pop_front()?;
            let Some(waiting) = self.waiting.get_mut(&conn) else {
                continue;
            };
            let sub = waiting.pop_front();
            if waiting.is_empty() {
                self.waiting.remove(&conn);
            } else {
                self.turns.push_back(conn);
            }
            if sub.is_some() {
                return sub;
            }
        }
    }

    pub fn forget(&mut self, conn: ConnKey) {
        self.waiting.remove(&conn);
    }
}

impl<H> Sessions<H> {
    /// Takes a join to the queue of [`Sessions::next_join`], behind what waits on its topic.
    pub(super) fn join(&mut self, conn: ConnKey, message: &Inbound<'_>) {
        let Some(topic) = message.topic.clone() else {
            return;
        };
        let Some(mount) = self.hub.conn(conn).map(|c| usize::from(c.mount)) else {
            return;
        };
        let refs = [&message.join_ref, &message.reference];
        if topic.len() > MAX_NAME || refs.into_iter().any(|json| too_long(json)) {
            self.refuse_join(conn, "null", message, "topic, join_ref or ref too long");
            return;
        }
        let mount = &self.mounts[mount];
        let max_channels = mount.max_channels;
        let Some(found) = mount.router.find(&topic) else {
            self.unmatched(conn, message);
            return;
        };
        let join_ref = &message.join_ref;
        let payload = match &message.payload {
            Payload::Json(json) => json.as_bytes(),
            Payload::Binary(data) => data,
            Payload::TooDeep => {
                self.refuse_join(conn, join_ref, message, super::receive::TOO_DEEP);
                return;
            }
        };
        let route = mount.routes[found.route];
        let old = self.hub.find(conn, &topic);
        if let Some(old) = old {
            if self.is_joining(old) {
                self.hold_join(conn, old, message);
                return;
            }
        }
        let params = found
            .params
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let joined = self.hub.conn(conn).map_or(0, |c| c.subs().len());
        let owed = match old {
            // It takes the place of the one it replaces, even when no other is left.
            Some(old) => self.replace(conn, old),
            None if joined >= max_channels => {
                self.refuse_join(conn, join_ref, message, "too many channels joined");
                return;
            }
            None => None,
        };
        let size = size_of(&message.event, payload.len(), &message.reference);
        let Ok(waiting) = self.inward.admit_join(conn, size) else {
            self.refuse_join(conn, join_ref, message, "busy");
            self.pay(conn, &topic, owed.as_deref());
            return;
        };
        let null = message.join_ref == "null";
        let seat = Seat {
            join_ref: (&**join_ref).into(),
            push_ref: null.then(|| (&*message.reference).into()),
            state: State::Joining(Box::new(Joining {
                reference: (&*message.reference).into(),
                owed,
                request: Some(Request {
                    params,
                    payload: payload.into(),
                    binary: matches!(message.payload, Payload::Binary(_)),
                }),
                held: VecDeque::new(),
                joins: 0,
            })),
            route,
            waiting,
            handle: None,
        };
        self.counts.channels += 1;
        let Route {
            policy, intercepts, ..
        } = self.routes[route].clone();
        let sub = self.hub.reserve(conn, &topic, policy, intercepts, seat);
        self.requests.push(conn, sub);
    }

    fn refuse_join(&mut self, conn: ConnKey, join_ref: &str, message: &Inbound<'_>, why: &str) {
        self.counts.joins_refused += 1;
        self.refuse(conn, join_ref, message, why);
    }

    /// Whether [`Sessions::next_join`] may have something.
    pub fn has_joins(&self) -> bool {
        !self.requests.turns.is_empty()
    }

    /// The next join to decide, of the connection whose turn it is: a [`Verdict::Join`].
    pub fn next_join(&mut self) -> Option<Verdict<'static>> {
        loop {
            let sub = self.requests.pop()?;
            let Some(topic) = self.hub.topic_name(sub) else {
                continue;
            };
            let Some(route) = self.hub.sub(sub).map(|sub| sub.seat.route) else {
                continue;
            };
            let Some(request) = self.joining_mut(sub).and_then(|j| j.request.take()) else {
                continue;
            };
            return Some(Verdict::Join {
                sub,
                route,
                topic: Cow::Owned(topic.as_ref().to_owned()),
                params: request.params,
                payload: Content {
                    binary: request.binary,
                    bytes: Cow::Owned(request.payload.into_vec()),
                },
            });
        }
    }

    // -- what waits for a join

    fn is_joining(&self, key: SubKey) -> bool {
        let sub = self.hub.sub(key);
        sub.is_some_and(|sub| matches!(sub.seat.state, State::Joining(_)))
    }

    fn joining_mut(&mut self, key: SubKey) -> Option<&mut Joining> {
        match &mut self.hub.sub_mut(key)?.seat.state {
            State::Joining(joining) => Some(joining),
            State::Joined | State::Leaving => None,
        }
    }

    /// Whether something for the topic of `key` waits: its join is under way. Messages for an
    /// earlier join do not, unless another join waits that may be theirs.
    pub(super) fn must_wait(&self, key: SubKey, join_ref: &str) -> bool {
        let Some(sub) = self.hub.sub(key) else {
            return false;
        };
        match &sub.seat.state {
            State::Joining(joining) => joining.joins > 0 || sub.seat.speaks(join_ref),
            State::Joined | State::Leaving => false,
        }
    }

    fn hold_join(&mut self, conn: ConnKey, key: SubKey, message: &Inbound<'_>) {
        let full = self.joining_mut(key).is_some_and(|j| j.joins >= MAX_JOINS);
        if full {
            self.inward.refuse(Full::Joins);
            self.hasty.push_back(conn);
        }
        if full || !self.hold(conn, key, message) {
            self.refuse_join(conn, &message.join_ref, message, "busy");
        }
    }

    /// Keeps a message until the join under way is decided; false when too much waits already.
    pub(super) fn hold(&mut self, conn: ConnKey, key: SubKey, message: &Inbound<'_>) -> bool {
        let Some(sub) = self.hub.sub_mut(key) else {
            return false;
        };
        let State::Joining(joining) = &mut sub.seat.state else {
            return false;
        };
        let size = Held::size(message);
        let waiting = &mut sub.seat.waiting;
        if message.event == "phx_leave" {
            // A leave is never refused. Where nothing else fits, a second one says nothing new.
            let again = joining.held.back().is_some_and(Held::is_leave);
            if again && self.inward.full_for(conn, *waiting, size).is_some() {
                return true;
            }
            self.inward.charge(conn, waiting, size);
        } else if self.inward.admit(conn, waiting, size).is_err() {
            return false;
        }
        joining.joins += usize::from(message.event == "phx_join");
        joining.held.push_back(Held::of(message));
        true
    }

    /// Takes what waited for a decision, in its order. What comes behind another join waits on.
    fn replay(&mut self, conn: ConnKey, topic: &str, mut held: VecDeque<Held>) {
        while let Some(message) = held.pop_front() {
            let verdict = self.dispatch(conn, message.inbound(topic)).own();
            if !matches!(verdict, Verdict::Done) {
                self.deferred.push_back(verdict);
            }
            if !message.is_join() || held.is_empty() {
                continue;
            }
            let Some(key) = self.hub.find(conn, topic) else {
                continue;
            };
            let Some(sub) = self.hub.sub_mut(key) else {
                continue;
            };
            if let State::Joining(joining) = &mut sub.seat.state {
                for message in held {
                    let (waiting, size) = (&mut sub.seat.waiting, message.bytes());
                    self.inward.charge(conn, waiting, size);
                    joining.joins += usize::from(message.is_join());
                    joining.held.push_back(message);
                }
                return;
            }
        }
    }

    /// Ends a channel whose client joins its topic again; returns the join ref that is owed a
    /// `phx_close` behind the new join's answer.
    fn replace(&mut self, conn: ConnKey, old: SubKey) -> Option<Box<str>> {
        let seat = self.hub.release(old)?;
        self.counts.channels -= 1;
        self.inward.forget(conn, seat.waiting);
        if let Some(handle) = seat.handle {
            self.ended.push_back((handle, "replaced"));
        }
        Some(seat.join_ref)
    }

    /// Sends a predecessor the `phx_close` it is owed.
    fn pay(&mut self, conn: ConnKey, topic: &str, owed: Option<&str>) {
        if let (Some(join_ref), Ok(codec)) = (owed, self.codec(conn)) {
            self.hub.ordered(conn, |out| {
                frame_end(out, codec, join_ref, topic, false);
            });
        }
    }

    /// Answers a join that ends otherwise than by its decision; gives what waited for it.
    pub(super) fn abandon(
        &mut self,
        conn: ConnKey,
        topic: &str,
        seat: &mut Seat<H>,
        why: &str,
    ) -> VecDeque<Held> {
        let State::Joining(joining) = &mut seat.state else {
            return VecDeque::new();
        };
        let response = because(why);
        let body = Body::Json(response.as_bytes());
        // JSON is encodable always, and a connection that is gone needs no answer.
        let _ = self.send_reply(conn, &seat.join_ref, &joining.reference, topic, ERROR, body);
        self.pay(conn, topic, joining.owed.as_deref());
        std::mem::take(&mut joining.held)
    }

    /// What waited for a channel that has ended.
    pub(super) fn unblock(&mut self, conn: ConnKey, topic: &str, held: VecDeque<Held>) {
        if !held.is_empty() {
            self.replay(conn, topic, held);
        }
    }

    // -- the decision

    /// Accepts a join: its reply goes out, then what a predecessor is owed, then broadcasts.
    /// Gives back a stream's handle: once joined, its subscribers cost the driver nothing.
    ///
    /// # Errors
    /// [`Unsent::Ended`] when the client has gone meanwhile or the join is decided already;
    /// [`Unsent::Unencodable`] for a binary response that its frame cannot carry, in which case the
    /// client gets the answer of a crashed join.
    pub fn join_ok(&mut self, sub: SubKey, response: Body<'_>) -> Result<Option<H>, Unsent> {
        let answered = self.answer_join(sub, OK, response);
        if matches!(answered, Err(Unsent::Unencodable)) {
            self.join_error(sub, because("join crashed").as_bytes())?;
        }
        let (conn, topic, held) = answered?;
        self.counts.joins += 1;
        self.hub.activate(sub);
        let routes = &self.routes;
        let seat = self.hub.sub_mut(sub).map(|sub| &mut sub.seat);
        let stream = seat.filter(|seat| routes[seat.route].kind == Kind::Stream);
        let handle = stream.and_then(|seat| seat.handle.take());
        self.unblock(conn, &topic, held);
        Ok(handle)
    }

    /// Refuses a join; the place is free again, and messages that came meanwhile are unmatched.
    ///
    /// # Errors
    /// [`Unsent::Ended`] when nobody waits any more.
    pub fn join_error(&mut self, sub: SubKey, response: &[u8]) -> Result<(), Unsent> {
        let (conn, topic, held) = self.answer_join(sub, ERROR, Body::Json(response))?;
        self.counts.joins_refused += 1;
        if self.hub.release(sub).is_some() {
            self.counts.channels -= 1;
        }
        self.unblock(conn, &topic, held);
        Ok(())
    }

    /// Sends the reply and what a predecessor is owed; gives what waited.
    fn answer_join(
        &mut self,
        key: SubKey,
        status: &str,
        body: Body<'_>,
    ) -> Result<(ConnKey, Arc<str>, VecDeque<Held>), Unsent> {
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
        let waiting = std::mem::take(&mut sub.seat.waiting);
        self.inward.forget(conn, waiting);
        let State::Joining(joining) = state else {
            return Err(Unsent::Ended);
        };
        self.pay(conn, &topic, joining.owed.as_deref());
        Ok((conn, topic, joining.held))
    }
}
