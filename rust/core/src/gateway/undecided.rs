//! Subscriptions that are not decided: what is to be asked, and what waits for the answer.
//!
//! Joins wait in a queue until the driver takes them, connection by connection in turn: joining is
//! what costs most, and a client that joins in a loop must not have its neighbours wait.
//!
//! Whatever a client sends to the topic meanwhile waits for the decision and is then taken in its
//! order, as if it had come after it: the reference decides one join at a time and reads nothing from
//! the socket until then. It is kept as it came, and understood again by its dialect.

use std::borrow::Cow;
use std::collections::{HashMap, VecDeque};

use crate::hub::{ConnKey, SubKey};

use super::inward::{size_of, Full, Waiting};
use super::{Content, Gateway, Stage, Subscription, Verdict};

/// Joins of one topic that may wait behind the one that is being decided. A stock client that hears
/// nothing leaves and joins again every ten seconds or so.
pub const MAX_JOINS: usize = 16;

/// A client's wish to leave is never refused for what waits already, unless it is longer than this.
const LEAVE_BYTES: usize = 4096;

/// What a message that waits asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    Join,
    Leave,
    Other,
}

/// Kept with a subscription until its join is decided.
#[derive(Debug)]
pub(super) struct Undecided {
    /// What the driver is asked; taken when it is.
    request: Option<Request>,
    held: VecDeque<Held>,
    /// Joins among what is held.
    joins: usize,
}

#[derive(Debug)]
struct Request {
    params: Vec<(String, String)>,
    payload: Box<[u8]>,
    binary: bool,
}

/// A message as it came.
#[derive(Debug)]
struct Held {
    text: bool,
    message: Box<[u8]>,
    wish: Wish,
}

impl Undecided {
    pub fn new(params: Vec<(String, String)>, payload: &Content<'_>) -> Self {
        Self {
            request: Some(Request {
                params,
                payload: (&*payload.bytes).into(),
                binary: payload.binary,
            }),
            held: VecDeque::new(),
            joins: 0,
        }
    }
}

/// Joins the driver has not been asked about.
#[derive(Debug, Default)]
pub(super) struct Requests {
    /// Connections that have any, in the order of their turns; some may be gone.
    turns: VecDeque<ConnKey>,
    waiting: HashMap<ConnKey, VecDeque<SubKey>>,
}

impl Requests {
    pub fn push(&mut self, conn: ConnKey, sub: SubKey) {
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

impl<H> Gateway<H> {
    /// Whether [`Gateway::next_join`] may have something.
    pub fn has_joins(&self) -> bool {
        !self.requests.turns.is_empty()
    }

    /// The next join to decide, of the connection whose turn it is: a [`Verdict::Join`].
    pub fn next_join(&mut self) -> Option<Verdict<'static>> {
        loop {
            let sub = self.requests.pop()?;
            let Ok((_, topic)) = self.addressee(sub) else {
                continue;
            };
            let Some(route) = self.hub.sub(sub).map(|sub| sub.seat.route) else {
                continue;
            };
            let undecided = self.undecided(sub);
            let Some(request) = undecided.and_then(|join| join.request.take()) else {
                continue;
            };
            let join = Verdict::Join {
                sub,
                route,
                topic: Cow::Owned(topic.as_ref().to_owned()),
                params: request.params,
                payload: Content {
                    binary: request.binary,
                    bytes: Cow::Owned(request.payload.into_vec()),
                },
            };
            if let join @ Verdict::Join { .. } = self.offer(join) {
                return Some(join);
            }
        }
    }

    /// What a decision has set free: messages and leaves that waited for it, in their order.
    pub fn next_deferred(&mut self) -> Option<Verdict<'static>> {
        while let Some(verdict) = self.deferred.pop_front() {
            // Not sooner: the handler that decided may be in the middle of it.
            match self.offer(verdict) {
                Verdict::Done => {}
                theirs => return Some(theirs),
            }
        }
        None
    }

    /// A connection that joins faster than its joins are decided, to be read no further for a while.
    /// The reference reads nothing from a socket while it decides a join.
    pub fn next_hasty(&mut self) -> Option<ConnKey> {
        self.hasty.pop_front()
    }

    fn undecided(&mut self, sub: SubKey) -> Option<&mut Undecided> {
        self.hub.sub_mut(sub)?.seat.undecided.as_deref_mut()
    }

    /// How many joins wait behind the one that is being decided.
    pub(crate) fn joins_behind(&self, sub: SubKey) -> usize {
        let sub = self.hub.sub(sub);
        let undecided = sub.and_then(|sub| sub.seat.undecided.as_deref());
        undecided.map_or(0, |undecided| undecided.joins)
    }

    /// Keeps a message until the join under way is decided; false when too much waits already.
    pub(crate) fn hold(
        &mut self,
        conn: ConnKey,
        key: SubKey,
        (text, message): (bool, &[u8]),
        wish: Wish,
    ) -> bool {
        let Some(sub) = self.hub.sub_mut(key) else {
            return false;
        };
        let Subscription {
            undecided: Some(undecided),
            waiting,
            stage: Stage::Joining,
            ..
        } = &mut sub.seat
        else {
            return false;
        };
        if wish == Wish::Join && undecided.joins >= MAX_JOINS {
            self.inward.refuse(Full::Joins);
            self.hasty.push_back(conn);
            return false;
        }
        let size = size_of("", message.len(), "");
        if wish == Wish::Leave && message.len() <= LEAVE_BYTES {
            // Where nothing else fits, a second leave says nothing new.
            let again = undecided
                .held
                .back()
                .is_some_and(|last| last.wish == Wish::Leave);
            if again && self.inward.full_for(conn, *waiting, size).is_some() {
                return true;
            }
            self.inward.charge(conn, waiting, size);
        } else if self.inward.admit(conn, waiting, size).is_err() {
            return false;
        }
        undecided.joins += usize::from(wish == Wish::Join);
        undecided.held.push_back(Held {
            text,
            message: message.into(),
            wish,
        });
        true
    }

    /// Takes what waited for a decision, in its order. What comes behind another join waits for that.
    pub(super) fn unblock(&mut self, conn: ConnKey, undecided: Option<Box<Undecided>>) {
        let Some(dialect) = self.dialect(conn) else {
            return;
        };
        let held = undecided.map(|undecided| undecided.held);
        for Held { text, message, .. } in held.into_iter().flatten() {
            let verdict = dialect.message(self, conn, text, &message).own();
            if !matches!(verdict, Verdict::Done) {
                self.deferred.push_back(verdict);
            }
        }
    }

    /// Charges a message to its subscription's connection; false when it does not fit and is to be
    /// answered `busy`. `size` is that of [`message_size`].
    pub(crate) fn admit(&mut self, conn: ConnKey, key: SubKey, size: usize) -> bool {
        let Some(sub) = self.hub.sub_mut(key) else {
            return false;
        };
        self.inward.admit(conn, &mut sub.seat.waiting, size).is_ok()
    }

    /// A message of [`Verdict::Message`] is handled now, or dropped: it waits no longer.
    pub fn taken(&mut self, key: SubKey, size: usize) {
        if let Some(sub) = self.hub.sub_mut(key) {
            let conn = sub.conn;
            self.inward.release(conn, &mut sub.seat.waiting, size);
        }
    }

    pub(super) fn admit_join(&mut self, conn: ConnKey, payload: usize) -> Result<Waiting, Full> {
        self.inward.admit_join(conn, size_of("", payload, ""))
    }
}

/// What a message counts for while it waits.
pub(crate) fn message_size(event: &str, payload: usize, reference: &str) -> usize {
    size_of(event, payload, reference)
}
