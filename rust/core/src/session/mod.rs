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

mod channel;
mod join;
mod receive;
mod verdict;
mod write;

use std::collections::{BTreeMap, VecDeque};

use crate::hub::{Conn, ConnKey, Hub, Intercepts, Overdue, Policy, Publish, Recovery, SubKey};
use crate::router::{PatternError, Router};

pub use join::MAX_NAME;
pub use verdict::{Content, Verdict};
pub use write::Body;

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
    Joining(Box<join::Joining>),
    Joined,
    Leaving,
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
    pub handle: Option<H>,
}

impl<H> Seat<H> {
    fn push_ref(&self) -> &str {
        self.push_ref.as_deref().unwrap_or(&self.join_ref)
    }

    /// Whether a message with this join ref is for this join and not for an earlier one.
    fn speaks(&self, join_ref: &str) -> bool {
        join_ref == "null" || *join_ref == *self.join_ref
    }
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
    /// Messages whose event or ref is longer than is kept.
    pub oversized: u64,
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

    /// Makes a mount's routes unreachable for joins to come, so that others can be exposed in their
    /// place. Who is joined stays: a seat knows its route by number.
    pub fn withdraw(&mut self, mount: u16) {
        if let Some(mount) = self.mounts.get_mut(usize::from(mount)) {
            mount.router = Router::default();
            mount.routes.clear();
        }
    }

    /// A channel that ended without the driver asking, and why.
    pub fn next_ended(&mut self) -> Option<(H, &'static str)> {
        self.ended.pop_front()
    }

    /// A connection closed for what its client sent: close code and reason, for the log.
    pub fn next_complaint(&mut self) -> Option<(ConnKey, u16, &'static str)> {
        self.complaints.pop_front()
    }

    /// Everything of the driver's that is kept here, for a collector of garbage to see.
    pub fn handles(&self) -> impl Iterator<Item = &H> {
        let seated = self.hub.seats().filter_map(|seat| seat.handle.as_ref());
        seated.chain(self.ended.iter().map(|(handle, _)| handle))
    }

    /// Takes away what [`Sessions::handles`] shows; the channels stay, without a driver.
    pub fn take_handles(&mut self) -> Vec<H> {
        let ended = self.ended.drain(..).map(|(handle, _)| handle);
        let seated = self.hub.seats_mut().filter_map(|seat| seat.handle.take());
        seated.chain(ended).collect()
    }

    // -- histories

    /// Epoch and newest offset of a topic that keeps history; None for one that does not.
    pub fn position(&mut self, topic: &str) -> Option<(u64, u64)> {
        if let Some(history) = self.hub.history(topic) {
            return Some((history.epoch(), history.offset()));
        }
        let begins = self.hub.topic_by_name(topic).is_none() && self.keeps_history(topic);
        begins.then(|| (self.hub.epoch(), self.hub.retired()))
    }

    /// What was published to a topic after an offset.
    pub fn missed(&mut self, topic: &str, epoch: u64, offset: u64) -> Recovery<'_> {
        let here = self.position(topic);
        match self.hub.history(topic) {
            Some(history) => history.since(epoch, offset),
            None if here == Some((epoch, offset)) => Recovery::Complete(Vec::new()),
            None => Recovery::Gap,
        }
    }

    fn keeps_history(&self, topic: &str) -> bool {
        self.policy_of(topic).history.is_some()
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
        let known = self.hub.topic_by_name(topic);
        let known = known.map(|topic| topic.name.clone());
        let policy = match known {
            Some(_) => Policy::default(),
            None => self.policy_of(topic),
        };
        // A lane is published to by its address; its frames carry its topic's name.
        let name = known.as_deref().unwrap_or(topic);
        self.hub.publish(&Publish {
            topic,
            event,
            payload,
            binary,
            key,
            exclude,
            encode: write::Broadcast {
                topic: name,
                event,
                body,
            },
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
            .map(|route| self.routes[route].policy.clone())
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

    /// The driver's parser met bytes that are no frame and answers them with a close of its own.
    pub fn unparsed(&mut self, conn: ConnKey, code: u16) {
        if !self.hub.conn(conn).is_some_and(Conn::is_open) {
            return;
        }
        let reason = match code {
            1002 => "malformed frame",
            1007 => "close reason is not UTF-8",
            1009 => "frame too big",
            _ => "internal error",
        };
        self.complaints.push_back((conn, code, reason));
        let seats = self.hub.mute(conn, code);
        self.end_all(seats, "closed");
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

    /// Closes what has been silent too long (1002, as Phoenix on Bandit) or takes too long over one
    /// message (1008), and cuts unanswered closes.
    pub fn sweep(&mut self) {
        let mounts = &self.mounts;
        let overdue = self.hub.sweep(&|mount| {
            mounts
                .get(usize::from(mount))
                .map_or(0, |mount| mount.idle_ms)
        });
        for (conn, why) in overdue {
            match why {
                Overdue::Idle => self.close(conn, 1002, "idle", "closed", false),
                Overdue::Unfinished => {
                    self.complaints
                        .push_back((conn, 1008, "message unfinished"));
                    self.close(conn, 1008, "message unfinished", "closed", false);
                }
            }
        }
    }
}
