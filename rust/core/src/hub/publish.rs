//! Publishing: messages to runs, runs to the outboxes of those who must have them in order.

use std::sync::Arc;
use std::time::Instant;

use crate::log::Position;

use super::batch::{Codec, ConnKey, Encode, Piece, SubKey, TopicKey, CODECS};
use super::latest;
use super::run::{Audience, Key, Mark, Run, RUN_BYTES};
use super::topic::{Delivery, Policy, Topic};
use super::{Conn, Hub};
use crate::pointer::Found;

/// One message to publish.
pub struct Publish<'a, E> {
    pub topic: &'a str,
    pub event: &'a str,
    pub payload: &'a [u8],
    pub binary: bool,
    /// What `Delivery::Latest` conflates by. When absent: what the topic's pointer leads to in the
    /// payload; on a topic without a pointer the event's name.
    pub key: Option<&'a str>,
    /// The sender's own channel, left out.
    pub exclude: SubKey,
    pub encode: E,
    /// The policy of the topic's route, for a topic that nobody has joined yet.
    pub policy: Policy,
    /// Where the driver's store has put it, on a durable topic.
    pub at: Option<Position>,
}

/// What became of a message.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Published {
    /// Its place in the topic's log; None where the topic keeps none.
    pub position: Option<Position>,
    /// The channels that intercept it; the caller hands it to them.
    pub interceptors: Vec<SubKey>,
}

impl<E> Publish<'_, E> {
    /// A payload without the key its topic asks for has none: nothing may take its place. Neither
    /// `null` names anything, nor can a binary payload.
    fn conflated_by(&self, topic: &Topic) -> Option<Key> {
        let Some(pointer) = topic.policy.key.as_deref().filter(|_| self.key.is_none()) else {
            return Some(Key::Text(self.key.unwrap_or(self.event).into()));
        };
        let found = (!self.binary).then(|| pointer.find(self.payload)).flatten();
        match found {
            Some(Found::Text(text)) => Some(Key::Text(text.into())),
            Some(Found::Value(value)) if value != "null" => Some(Key::Value(value.into())),
            _ => None,
        }
    }
}

impl<S> Hub<S> {
    pub(super) fn log_end(&self) -> u64 {
        self.log_start + self.log.len() as u64
    }

    /// Numbers a message where its topic keeps a log, and queues it for every subscriber.
    ///
    /// Costs one encoding per codec in use and nothing per subscriber, unless more than
    /// `Config::log_bytes` are queued already: then queued runs are served on the spot.
    pub fn publish<E: Encode>(&mut self, message: &Publish<'_, E>) -> Published {
        self.publish_as(message, true)
    }

    /// The same without a place in the topic's log.
    pub fn publish_unlogged<E: Encode>(&mut self, message: &Publish<'_, E>) -> Published {
        self.publish_as(message, false)
    }

    fn publish_as<E: Encode>(&mut self, message: &Publish<'_, E>, logged: bool) -> Published {
        self.stats.published += 1;
        let Some(key) = self.topic_for(message) else {
            return Published::default();
        };
        let topic = &mut self.topics[key];
        let heard = topic.subscribers() > 0;
        let position = match message.at {
            _ if !logged => None,
            None => self.keep(key, message),
            // Known already: told by the store before its commit was told to us.
            Some(at) if !self.keep_at(key, message, at) => return Published::default(),
            at => at,
        };
        if let Some(topic) = self.topics.get_mut(key) {
            topic.seq += 1;
        }
        if !heard {
            return Published {
                position,
                interceptors: Vec::new(),
            };
        }
        let interceptors = self.interceptors(key, message.event, message.exclude);
        let intercepted = (!interceptors.is_empty()).then_some(message.event);
        self.append(key, message, position, intercepted);
        if self.log_bytes > self.config.log_bytes {
            self.serve_all();
        }
        Published {
            position,
            interceptors,
        }
    }

    fn topic_for<E>(&mut self, message: &Publish<'_, E>) -> Option<TopicKey> {
        match self.addressed(message.topic) {
            Some(key) => Some(key),
            None if message.policy.history.is_some() && !message.policy.durable => {
                Some(self.topic_entry(message.topic, message.policy.clone()))
            }
            None => None,
        }
    }

    fn interceptors(&self, topic: TopicKey, event: &str, exclude: SubKey) -> Vec<SubKey> {
        let topic = &self.topics[topic];
        if topic.intercepting == 0 {
            return Vec::new();
        }
        topic
            .members
            .iter()
            .map(|m| m.sub)
            .filter(|key| *key != exclude)
            .filter(|key| self.subs.get(*key).is_some_and(|s| s.intercepts(event)))
            .collect()
    }

    fn append<E: Encode>(
        &mut self,
        key: TopicKey,
        message: &Publish<'_, E>,
        position: Option<Position>,
        intercepted: Option<&str>,
    ) {
        let topic = &mut self.topics[key];
        let fits = self
            .log
            .back()
            .is_some_and(|run| run.takes(key, message.exclude, intercepted));
        if !fits {
            if let Some(run) = self.log.back_mut() {
                run.seal(&mut self.ledger);
            }
            topic.runs.push_back(self.log_start + self.log.len() as u64);
            self.log.push_back(Run {
                topic: key,
                audience: Audience {
                    exclude: message.exclude,
                    intercepted: intercepted.map(Into::into),
                },
                open: Some(Box::default()),
                sealed: [const { None }; CODECS],
                seq: topic.seq - 1,
                marks: Vec::new(),
                bytes: 0,
                cursor: 0,
                since: Instant::now(),
            });
        }
        let Some(run) = self.log.back_mut() else {
            return;
        };
        let Some(open) = &mut run.open else {
            return;
        };
        let latest = topic.policy.delivery == Delivery::Latest;
        let marked = latest || topic.stamped > 0;
        let mut frames = Vec::new();
        for codec in Codec::all() {
            let speakers = topic.codecs[codec.index()];
            if speakers == 0 {
                continue;
            }
            let batch = &mut open[codec.index()];
            let start = batch.bytes.len();
            if message.encode.encode(codec, position, &mut batch.bytes) {
                let added = batch.bytes.len() - start;
                batch.frames += 1;
                run.bytes += added;
                self.log_bytes += added;
                if marked {
                    frames.push((codec, start..start + added));
                }
            } else {
                self.stats.unencodable += u64::from(speakers);
            }
        }
        if marked {
            let key = latest.then(|| message.conflated_by(topic)).flatten();
            let cost = key.as_ref().map_or(0, Key::len) + std::mem::size_of::<Mark>();
            run.bytes += cost;
            self.log_bytes += cost;
            run.marks.push(Mark {
                key,
                seq: topic.seq,
                position,
                frames,
            });
        }
    }

    pub(super) fn seal_log(&mut self) {
        if let Some(run) = self.log.back_mut() {
            run.seal(&mut self.ledger);
        }
    }

    /// Moves every queued run that concerns a connection into its outbox (rule 2 of the module).
    pub(super) fn catch_up(&mut self, key: ConnKey) {
        if self.collect(key) {
            self.mark_dirty(key);
            self.enforce_budget(key);
        }
    }

    /// As [`Hub::catch_up`], for a caller that writes the outbox next. True when bytes were queued.
    pub(super) fn collect(&mut self, key: ConnKey) -> bool {
        let end = self.log_end();
        if self.log.is_empty() || self.conns.get(key).is_none_or(|c| c.log_pos >= end) {
            return false;
        }
        self.seal_log();
        let Some(conn) = self.conns.get_mut(key) else {
            return false;
        };
        let start = conn.log_pos.max(self.log_start);
        conn.log_pos = end;
        // By the connection's topics, not by the runs: with a topic per instrument there may be
        // a thousand runs in a turn of which one reader wants ten.
        let mut due = std::mem::take(&mut self.due);
        for key in &conn.subs {
            let Some(sub) = self.subs.get(*key).filter(|sub| sub.place.is_some()) else {
                continue;
            };
            if let Some(topic) = self.topics.get(sub.topic) {
                let queued = topic.runs.iter().filter(|number| **number >= start);
                due.extend(queued.map(|number| (*number, *key)));
            }
        }
        due.sort_unstable_by_key(|(number, _)| *number);
        let mut got_any = false;
        for (number, sub) in due.drain(..) {
            got_any |= self.offer(key, sub, number);
            // Much for one turn is not yet a slow reader: the socket may take it.
            let much = |conn: &Conn| conn.outbox.bytes() >= RUN_BYTES && !conn.blocked;
            if self.conns.get(key).is_some_and(much) {
                self.write(key);
            }
        }
        self.due = due;
        got_any
    }

    /// Gives a connection one queued run, or notes what it is not given, by the topic's policy.
    /// True when bytes were queued.
    fn offer(&mut self, key: ConnKey, sub: SubKey, number: u64) -> bool {
        let index = usize::try_from(number - self.log_start).unwrap_or(usize::MAX);
        let (Some(conn), Some(run)) = (self.conns.get_mut(key), self.log.get(index)) else {
            return false;
        };
        let Some(batch) = &run.sealed[conn.codec.index()] else {
            return false;
        };
        if !conn.is_open() || !run.audience.includes(sub, &self.subs) {
            return false;
        }
        let frames = u64::from(batch.frames);
        if conn.blocked {
            let Some(topic) = self.topics.get_mut(run.topic) else {
                return false;
            };
            match topic.policy.delivery {
                Delivery::Every => {}
                Delivery::Drop => {
                    self.stats.dropped += frames;
                    return false;
                }
                Delivery::Latest => {
                    latest::miss(conn, run.topic, topic, run.seq, frames);
                    return false;
                }
            }
        }
        self.stats.deliveries += frames;
        self.stats.messages_out += frames;
        let (before, cost) = (conn.outbox.bytes(), conn.outbox.cost());
        let codec = conn.codec;
        match &mut conn.stamp {
            Some(stamp) => conn.outbox.append(|out| {
                let frames = run.marks.iter().filter_map(|mark| mark.frame(codec));
                stamp.copy(sub, &batch.bytes, frames, out);
            }),
            None => conn.outbox.push(Piece::Shared(Arc::clone(batch))),
        }
        self.stats.outbox_bytes += conn.outbox.bytes() - before;
        self.ledger.own += conn.outbox.cost() - cost;
        true
    }
}
