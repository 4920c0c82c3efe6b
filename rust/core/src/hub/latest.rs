//! `Delivery::Latest` for readers that cannot keep up: the newest message of each key, later.
//!
//! A blocked reader is given nothing of such a topic; the hub notes what it had last (`Lag`). The
//! topic keeps the newest frame of each key, so that any number of laggards and of messages costs
//! one frame per key. When the reader reads again it gets, in sequence, what is newer than what it
//! had: never a message older than one it has, and at most one per key. They are handed over a
//! bufferful at a time; whoever stops reading half-way lags again, from where it came to.

use std::collections::HashMap;
use std::sync::Arc;

use super::batch::{ConnKey, Piece, TopicKey, CODECS};
use super::publish::{Audience, RUN_BYTES};
use super::topic::Topic;
use super::{Conn, Hub};

/// Keys a topic keeps although nobody lags: cheaper to overwrite than to make again.
const KEPT_KEYS: usize = 1024;

/// The newest message of one key, encoded for every codec in use when it was published.
#[derive(Debug)]
pub(super) struct Newest {
    pub seq: u64,
    pub audience: Audience,
    pub frames: [Option<Arc<[u8]>>; CODECS],
}

impl Newest {
    fn bytes(&self) -> usize {
        self.frames.iter().flatten().map(|frame| frame.len()).sum()
    }
}

/// A topic that a connection could not follow.
#[derive(Debug)]
pub(super) struct Lag {
    topic: TopicKey,
    /// The sequence number of the last message it had.
    seen: u64,
    /// Messages it was not given; those it is given after all are taken off again.
    missed: u64,
}

/// Notes that a blocked connection is not given `frames` messages that follow number `seen`.
pub(super) fn miss(conn: &mut Conn, key: TopicKey, topic: &mut Topic, seen: u64, frames: u64) {
    if let Some(lag) = conn.lagging.iter_mut().find(|lag| lag.topic == key) {
        lag.missed += frames;
    } else {
        topic.laggards += 1;
        conn.lagging.push(Lag {
            topic: key,
            seen,
            missed: frames,
        });
    }
}

impl Topic {
    pub(super) fn keep_newest(&mut self, key: &str, newest: Newest) {
        self.newest_bytes += newest.bytes();
        match self.newest.get_mut(key) {
            Some(slot) => self.newest_bytes -= std::mem::replace(slot, newest).bytes(),
            None => {
                self.newest.insert(key.into(), newest);
            }
        }
    }

    fn forget_newest(&mut self) {
        self.newest = HashMap::new();
        self.newest_bytes = 0;
    }
}

impl<S> Hub<S> {
    /// Brings a connection that reads again up to date: until it has everything or blocks.
    pub(super) fn catch_newest(&mut self, key: ConnKey) {
        loop {
            self.write_now(key);
            let behind = |conn: &Conn| conn.is_open() && !conn.blocked && !conn.lagging.is_empty();
            if !self.conns.get(key).is_some_and(behind) {
                return;
            }
            self.give_newest(key, 0, RUN_BYTES);
        }
    }

    /// Queues what a leaver still misses of the topic it leaves.
    pub(super) fn settle_lag(&mut self, key: ConnKey, topic: TopicKey) {
        let lags = |conn: &Conn| conn.lagging.iter().position(|lag| lag.topic == topic);
        if let Some(at) = self.conns.get(key).and_then(lags) {
            self.give_newest(key, at, usize::MAX);
            self.mark_dirty(key);
            self.enforce_budget(key);
        }
    }

    /// Queues about `most` bytes of what a connection misses by its lag number `at`.
    fn give_newest(&mut self, key: ConnKey, at: usize, most: usize) {
        let Some(conn) = self.conns.get_mut(key) else {
            return;
        };
        let mut lag = conn.lagging.swap_remove(at);
        let Some(topic) = self.topics.get_mut(lag.topic) else {
            return;
        };
        let on_topic = |sub| self.subs.get(sub).is_some_and(|s| s.topic == lag.topic);
        let sub = conn.subs.iter().copied().find(|sub| on_topic(*sub));
        let codec = conn.codec as usize;
        let mut missed: Vec<(u64, &Arc<[u8]>)> = topic
            .newest
            .values()
            .filter(|newest| newest.seq > lag.seen)
            .filter(|newest| sub.is_some_and(|sub| newest.audience.includes(sub, &self.subs)))
            .filter_map(|newest| Some((newest.seq, newest.frames[codec].as_ref()?)))
            .collect();
        missed.sort_unstable_by_key(|(seq, _)| *seq);
        let (mut given, mut bytes) = (0, 0);
        for (seq, frame) in &missed {
            if bytes >= most {
                break;
            }
            given += 1;
            bytes += frame.len();
            lag.seen = *seq;
            conn.outbox.push(Piece::Newest(Arc::clone(frame)));
        }
        lag.missed = lag.missed.saturating_sub(given);
        self.stats.deliveries += given;
        self.stats.messages_out += given;
        self.stats.outbox_bytes += bytes;
        if given == missed.len() as u64 {
            topic.laggards -= 1;
            self.stats.conflated += lag.missed;
        } else {
            conn.lagging.push(lag);
        }
    }

    /// Whatever a connection lags behind on, it will never have.
    pub(super) fn forget_lags(&mut self, key: ConnKey) {
        let Some(conn) = self.conns.get_mut(key) else {
            return;
        };
        for lag in std::mem::take(&mut conn.lagging) {
            self.stats.conflated += lag.missed;
            if let Some(topic) = self.topics.get_mut(lag.topic) {
                topic.laggards -= 1;
            }
        }
    }

    /// Bounds what a topic keeps for laggards, once nothing of it is queued. Keys may be many: when
    /// their newest outgrow the hub's bound, those who still need them are too slow.
    pub(super) fn trim_newest(&mut self, key: TopicKey) {
        let Some(topic) = self.topics.get_mut(key) else {
            return;
        };
        if !topic.runs.is_empty() {
            return;
        }
        if topic.newest_bytes > self.config.log_bytes {
            let members: Vec<ConnKey> = topic.members.iter().map(|m| m.conn).collect();
            topic.forget_newest();
            for conn in members {
                let lags = |conn: &Conn| conn.lagging.iter().any(|lag| lag.topic == key);
                if self.conns.get(conn).is_some_and(lags) {
                    self.give_up(conn);
                }
            }
        } else if topic.laggards == 0 && topic.newest.len() > KEPT_KEYS {
            topic.forget_newest();
        }
    }
}
