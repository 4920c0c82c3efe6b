//! One topic: who subscribes, what the slow ones get, what is kept.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::batch::{ConnKey, SubKey, CODECS};
use super::history::{History, Limits};

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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Policy {
    pub delivery: Delivery,
    pub history: Option<Limits>,
}

/// A subscriber's place in a topic; `SubKey::default()` marks a hole.
#[derive(Debug, Clone, Copy)]
pub struct Member {
    pub sub: SubKey,
    pub conn: ConnKey,
}

/// The newest message of one key, encoded for every codec in use when it was published.
#[derive(Debug)]
pub struct Newest {
    pub seq: u64,
    pub frames: [Option<Arc<[u8]>>; CODECS],
}

#[derive(Debug)]
pub struct Topic {
    pub name: Arc<str>,
    pub policy: Policy,
    /// Subscribers in joining order. While a fan-out is under way nothing moves: one who leaves
    /// becomes a hole, so that nobody is skipped and nobody served twice.
    pub members: Vec<Member>,
    pub holes: usize,
    /// Fan-outs queued or under way.
    pub runs: u32,
    /// Channels that are joining and hold the topic alive without being served yet.
    pub joining: u32,
    /// Members per codec: a codec nobody speaks is not encoded.
    pub codecs: [u32; CODECS],
    /// Members whose channel intercepts some events.
    pub intercepting: u32,
    /// Messages published, for `Latest`.
    pub seq: u64,
    pub newest: HashMap<Arc<str>, Newest>,
    pub history: Option<History>,
}

impl Topic {
    pub fn new(name: Arc<str>, policy: Policy, epoch: u64) -> Self {
        Self {
            name,
            policy,
            members: Vec::new(),
            holes: 0,
            runs: 0,
            joining: 0,
            codecs: [0; CODECS],
            intercepting: 0,
            seq: 0,
            newest: HashMap::new(),
            history: policy.history.map(|limits| History::new(epoch, limits)),
        }
    }

    /// Subscribers being served.
    pub fn subscribers(&self) -> usize {
        self.members.len() - self.holes
    }

    /// True when nothing holds the topic: it can be forgotten.
    pub fn is_idle(&self) -> bool {
        self.subscribers() == 0
            && self.runs == 0
            && self.joining == 0
            && self.history.as_ref().is_none_or(|h| h.offset() == 0)
    }
}

/// Events a channel wants to see before its client.
pub type Intercepts = Arc<HashSet<Box<str>>>;

/// One connection's place on one topic. `S` is what the protocol above keeps with it.
#[derive(Debug)]
pub struct Sub<S> {
    pub conn: ConnKey,
    pub topic: super::batch::TopicKey,
    /// Position in `Topic::members`; None until served.
    pub place: Option<u32>,
    pub intercepts: Option<Intercepts>,
    pub seat: S,
}
