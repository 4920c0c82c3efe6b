//! One topic: who subscribes, what the slow ones get, what is kept.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::log::{History, Limits};

use super::batch::{ConnKey, SubKey, CODECS};
use super::newests::Newests;
use crate::pointer::Pointer;

/// What a subscriber who cannot keep up gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Delivery {
    /// Everything in order; over budget the connection is closed and told to come back.
    #[default]
    Every,
    /// The newest message per key once it reads again.
    Latest,
    /// What fits; the rest is counted and gone.
    Drop,
}

/// A topic's rules, taken from its route when the topic comes into being.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Policy {
    pub delivery: Delivery,
    /// Where a payload holds what `Delivery::Latest` conflates by, unless the publisher says.
    pub key: Option<Arc<Pointer>>,
    pub history: Option<Limits>,
    /// The history is the newest part of a log in the driver's store.
    pub durable: bool,
}

/// A subscriber's place in a topic; `SubKey::default()` marks a hole.
#[derive(Debug, Clone, Copy)]
pub struct Member {
    pub sub: SubKey,
    pub conn: ConnKey,
}

#[derive(Debug)]
pub struct Topic {
    /// What its frames say.
    pub name: Arc<str>,
    /// What it is published to: the name, but for a lane (`Hub::reseat`).
    pub address: Arc<str>,
    pub policy: Policy,
    /// Subscribers, in whatever order. While a fan-out is under way nothing moves: one who leaves
    /// becomes a hole, so that nobody is skipped and nobody served twice.
    pub members: Vec<Member>,
    pub holes: usize,
    /// Numbers of the runs that are queued or under way.
    pub runs: VecDeque<u64>,
    /// Channels that are joining and hold the topic alive without being served yet.
    pub joining: u32,
    /// Members per codec: a codec nobody speaks is not encoded.
    pub codecs: [u32; CODECS],
    /// Members whose connection is stamped, see `stamp`.
    pub(super) stamped: u32,
    /// Members whose channel intercepts some events.
    pub intercepting: u32,
    /// Messages published, for `Latest`.
    pub seq: u64,
    /// What laggards may have to be given; see `latest`.
    pub(super) newest: Newests,
    /// Connections that lag behind on this topic.
    pub(super) laggards: u32,
    pub history: Option<History>,
    /// Its key in `Hub::kept`, while its history holds anything.
    pub(super) kept_at: Option<u64>,
}

impl Topic {
    pub fn new(name: Arc<str>, address: Arc<str>, policy: Policy, epoch: u64) -> Self {
        Self {
            name,
            address,
            history: policy.history.map(|limits| History::new(epoch, limits)),
            policy,
            members: Vec::new(),
            holes: 0,
            runs: VecDeque::new(),
            joining: 0,
            codecs: [0; CODECS],
            stamped: 0,
            intercepting: 0,
            seq: 0,
            newest: Newests::default(),
            laggards: 0,
            kept_at: None,
        }
    }

    /// Subscribers being served.
    pub fn subscribers(&self) -> usize {
        self.members.len() - self.holes
    }

    /// Keys whose newest message is kept for those who lag behind.
    pub fn keys_kept(&self) -> usize {
        self.newest.len()
    }

    /// True when nothing holds the topic: it can be forgotten.
    pub fn is_idle(&self) -> bool {
        self.subscribers() == 0
            && self.runs.is_empty()
            && self.joining == 0
            && self.history.as_ref().is_none_or(History::is_empty)
    }
}
