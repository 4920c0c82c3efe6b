//! `Delivery::Latest` for readers that cannot keep up: the newest message of each key, later.
//!
//! A blocked reader is given nothing of such a topic; the hub notes what it had last (`Lag`). The
//! topic keeps the newest frame of each key, so that any number of laggards and of messages costs
//! one frame per key. When the reader reads again it gets, in sequence, what is newer than what it
//! had: never a message older than one it has, and at most one per key. They are handed over a
//! bufferful at a time; whoever stops reading half-way lags again, from where it came to.
//!
//! Nothing is kept for readers who keep up. Whoever blocks misses at the earliest a run that is
//! still queued, so a run only has to know where its messages lie (`Mark`) until it has been
//! offered to everybody; its frames are copied out if somebody lags by then, and not otherwise.
//! What is kept for the laggards of all topics is bounded by `Config::log_bytes`.

use std::sync::Arc;

use super::batch::{ConnKey, Piece, TopicKey};
use super::run::{Run, RUN_BYTES};
use super::topic::Topic;
use super::{Conn, Hub};

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
    /// One laggard less; after the last nothing is kept. Returns the bytes let go.
    fn caught_up(&mut self) -> usize {
        self.laggards -= 1;
        if self.laggards > 0 {
            return 0;
        }
        std::mem::take(&mut self.newest).bytes
    }
}

impl<S> Hub<S> {
    /// Brings a connection that reads again up to date: until it has everything or blocks.
    pub(super) fn catch_newest(&mut self, key: ConnKey) {
        let lagging = self.conns.get(key).map(|conn| &conn.lagging);
        let topics: Vec<TopicKey> = lagging.into_iter().flatten().map(|lag| lag.topic).collect();
        for topic in topics {
            self.keep_queued(topic);
        }
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
            self.keep_queued(topic);
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
        let codec = conn.codec;
        let missed = topic
            .newest
            .after(lag.seen)
            .filter(|(_, newest)| sub.is_some_and(|sub| newest.audience.includes(sub, &self.subs)))
            .filter_map(|(seq, newest)| Some((seq, newest.position, newest.frame(codec)?)));
        let (mut given, mut all) = (0, true);
        let (before, cost) = (conn.outbox.bytes(), conn.outbox.cost());
        for (seq, position, frame) in missed {
            if conn.outbox.bytes() - before >= most {
                all = false;
                break;
            }
            given += 1;
            lag.seen = seq;
            match (&mut conn.stamp, sub) {
                (Some(stamp), Some(sub)) => conn.outbox.append(|out| {
                    stamp.copy(sub, frame, [(position, 0..frame.len())].into_iter(), out);
                }),
                _ => conn.outbox.push(Piece::Newest(Arc::clone(frame))),
            }
        }
        let bytes = conn.outbox.bytes() - before;
        self.ledger.own += conn.outbox.cost() - cost;
        lag.missed = lag.missed.saturating_sub(given);
        self.stats.deliveries += given;
        self.stats.messages_out += given;
        self.stats.outbox_bytes += bytes;
        if all {
            self.stats.latest_bytes -= topic.caught_up();
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
                self.stats.latest_bytes -= topic.caught_up();
            }
        }
    }

    /// Keeps what is queued of a topic, for one who has been offered it and is given it before the
    /// runs are done.
    fn keep_queued(&mut self, key: TopicKey) {
        let Some(topic) = self.topics.get_mut(key) else {
            return;
        };
        let before = topic.newest.bytes;
        for number in &topic.runs {
            let index = usize::try_from(number - self.log_start).unwrap_or(usize::MAX);
            if let Some(run) = self.log.get(index) {
                topic.newest.keep(run);
            }
        }
        self.stats.latest_bytes = self.stats.latest_bytes - before + topic.newest.bytes;
    }

    /// Keeps what those who lag behind have missed of a run that is done.
    pub(super) fn keep_missed(&mut self, run: &Run) {
        let lags = |topic: &&mut Topic| topic.laggards > 0;
        let Some(topic) = self.topics.get_mut(run.topic).filter(lags) else {
            return;
        };
        let before = topic.newest.bytes;
        topic.newest.keep(run);
        self.stats.latest_bytes = self.stats.latest_bytes - before + topic.newest.bytes;
        if self.stats.latest_bytes > self.config.log_bytes {
            self.relieve();
        }
    }

    /// Too much is kept for laggards: those who need the most are too slow. Goes down to three
    /// quarters of the bound, so that at the bound not every message pays for the search.
    fn relieve(&mut self) {
        let kept = |(key, topic): (TopicKey, &Topic)| (topic.newest.bytes, key);
        let mut most: Vec<(usize, TopicKey)> = self.topics.iter().map(kept).collect();
        most.retain(|(bytes, _)| *bytes > 0);
        most.sort_unstable_by(|a, b| b.cmp(a));
        for (_, key) in most {
            if self.stats.latest_bytes <= self.config.log_bytes / 4 * 3 {
                return;
            }
            let members = self.topics[key].members.iter();
            let conns: Vec<ConnKey> = members.map(|member| member.conn).collect();
            for conn in conns {
                let lags = |conn: &Conn| conn.lagging.iter().any(|lag| lag.topic == key);
                if self.conns.get(conn).is_some_and(lags) {
                    self.give_up(conn);
                }
            }
        }
    }
}
