//! Publishing: messages to runs, runs to the outboxes of those who must have them in order.

use std::sync::Arc;
use std::time::Instant;

use super::batch::{Batch, Codec, ConnKey, Encode, Piece, SubKey, TopicKey, CODECS};
use super::topic::{Delivery, Newest, Policy};
use super::{Conn, Hub};

/// Frames in one run before the next message starts another: bounds what one reader is handed at once.
const RUN_BYTES: usize = 64 * 1024;

/// Messages of one topic published one after the other.
#[derive(Debug)]
pub(super) struct Run {
    pub topic: TopicKey,
    /// The channel that must not get it (`broadcast_from`).
    pub exclude: SubKey,
    /// Set when somebody intercepts this event: such members are skipped.
    pub intercepted: Option<Box<str>>,
    pub open: Option<[Batch; CODECS]>,
    pub sealed: [Option<Arc<Batch>>; CODECS],
    /// The topic's sequence number before the first message.
    pub seq: u64,
    pub messages: u32,
    pub bytes: usize,
    /// The next member to serve.
    pub cursor: usize,
    pub since: Instant,
}

impl Run {
    fn seal(&mut self) {
        if let Some(open) = self.open.take() {
            self.sealed = open.map(|batch| (batch.frames > 0).then(|| Arc::new(batch)));
        }
    }

    fn takes(&self, topic: TopicKey, exclude: SubKey, intercepted: Option<&str>) -> bool {
        self.open.is_some()
            && self.topic == topic
            && self.exclude == exclude
            && self.intercepted.as_deref() == intercepted
            && self.bytes < RUN_BYTES
    }
}

/// One message to publish.
pub struct Publish<'a, E> {
    pub topic: &'a str,
    pub event: &'a str,
    pub payload: &'a [u8],
    pub binary: bool,
    /// What `Delivery::Latest` conflates by; the event's name when absent.
    pub key: Option<&'a str>,
    /// The sender's own channel, left out.
    pub exclude: SubKey,
    pub encode: E,
    /// The policy of the topic's route, for a topic that nobody has joined yet.
    pub policy: Policy,
}

impl<S> Hub<S> {
    pub(super) fn log_end(&self) -> u64 {
        self.log_start + self.log.len() as u64
    }

    /// Queues a message for every subscriber. Returns the channels that intercept it; the caller
    /// hands it to them.
    ///
    /// Costs one encoding per codec in use and nothing per subscriber, unless more than
    /// `Config::log_bytes` are queued already: then queued runs are served on the spot.
    pub fn publish<E: Encode>(&mut self, message: &Publish<'_, E>) -> Vec<SubKey> {
        self.stats.published += 1;
        let Some(key) = self.topic_for(message) else {
            return Vec::new();
        };
        let now = self.now_ms;
        let topic = &mut self.topics[key];
        topic.seq += 1;
        if let Some(history) = &mut topic.history {
            history.push(message.event, message.payload, message.binary, now);
        }
        if topic.subscribers() == 0 {
            return Vec::new();
        }
        let interceptors = self.interceptors(key, message.event, message.exclude);
        let intercepted = (!interceptors.is_empty()).then_some(message.event);
        self.append(key, message, intercepted);
        if self.log_bytes > self.config.log_bytes {
            self.serve_all();
        }
        interceptors
    }

    fn topic_for<E>(&mut self, message: &Publish<'_, E>) -> Option<TopicKey> {
        match self.by_name.get(message.topic) {
            Some(key) => Some(*key),
            None if message.policy.history.is_some() => {
                Some(self.topic_entry(message.topic, message.policy))
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
            .filter(|sub| *sub != exclude && self.intercepts(*sub, event))
            .collect()
    }

    fn intercepts(&self, sub: SubKey, event: &str) -> bool {
        self.subs
            .get(sub)
            .and_then(|s| s.intercepts.as_ref())
            .is_some_and(|events| events.contains(event))
    }

    fn append<E: Encode>(
        &mut self,
        key: TopicKey,
        message: &Publish<'_, E>,
        intercepted: Option<&str>,
    ) {
        let topic = &mut self.topics[key];
        let fits = self
            .log
            .back()
            .is_some_and(|run| run.takes(key, message.exclude, intercepted));
        if !fits {
            if let Some(run) = self.log.back_mut() {
                run.seal();
            }
            topic.runs += 1;
            self.log.push_back(Run {
                topic: key,
                exclude: message.exclude,
                intercepted: intercepted.map(Into::into),
                open: Some(std::array::from_fn(|_| Batch::default())),
                sealed: [None, None],
                seq: topic.seq - 1,
                messages: 0,
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
        run.messages += 1;
        let latest = topic.policy.delivery == Delivery::Latest;
        let mut frames: [Option<Arc<[u8]>>; CODECS] = [None, None];
        for codec in [Codec::PhoenixV1, Codec::PhoenixV2] {
            let speakers = topic.codecs[codec as usize];
            if speakers == 0 {
                continue;
            }
            let batch = &mut open[codec as usize];
            let start = batch.bytes.len();
            if message.encode.encode(codec, &mut batch.bytes) {
                let added = batch.bytes.len() - start;
                batch.frames += 1;
                run.bytes += added;
                self.log_bytes += added;
                if latest {
                    frames[codec as usize] = Some(batch.bytes[start..].into());
                }
            } else {
                self.stats.unencodable += u64::from(speakers);
            }
        }
        if latest {
            let name = message.key.unwrap_or(message.event);
            let newest = Newest {
                seq: topic.seq,
                frames,
            };
            match topic.newest.get_mut(name) {
                Some(slot) => *slot = newest,
                None => {
                    topic.newest.insert(name.into(), newest);
                }
            }
        }
    }

    pub(super) fn seal_log(&mut self) {
        if let Some(run) = self.log.back_mut() {
            run.seal();
        }
    }

    /// Moves every queued run that concerns a connection into its outbox (rule 2 of the module).
    pub(super) fn catch_up(&mut self, key: ConnKey) {
        let end = self.log_end();
        if self.log.is_empty() || self.conns.get(key).is_none_or(|c| c.log_pos >= end) {
            return;
        }
        self.seal_log();
        let Some(conn) = self.conns.get_mut(key) else {
            return;
        };
        let start = conn.log_pos.max(self.log_start);
        conn.log_pos = end;
        if !conn.is_open() {
            return;
        }
        let skip = usize::try_from(start - self.log_start).unwrap_or(usize::MAX);
        let mut got_any = false;
        for run in self.log.iter().skip(skip) {
            let member = conn.subs.iter().copied().find(|s| {
                self.subs
                    .get(*s)
                    .is_some_and(|sub| sub.topic == run.topic && sub.place.is_some())
            });
            let Some(sub) = member else { continue };
            if sub == run.exclude {
                continue;
            }
            if let (Some(event), Some(sub)) = (&run.intercepted, self.subs.get(sub)) {
                if sub.intercepts.as_ref().is_some_and(|i| i.contains(event)) {
                    continue;
                }
            }
            let Some(batch) = &run.sealed[conn.codec as usize] else {
                continue;
            };
            let delivery = self.topics[run.topic].policy.delivery;
            got_any |= offer(conn, run, batch, delivery, &mut self.stats);
        }
        if got_any {
            self.mark_dirty(key);
            self.enforce_budget(key);
        }
    }

    /// Closes a connection whose outbox has outgrown its budget: it cannot have everything, so it
    /// must not believe it has.
    pub(super) fn enforce_budget(&mut self, key: ConnKey) {
        let over = |conn: &Conn| conn.outbox.bytes() > self.config.outbox_bytes && conn.is_open();
        if !self.conns.get(key).is_some_and(over) {
            return;
        }
        // Much for one turn is not yet a slow reader: the socket may take it.
        self.write(key);
        let Some(conn) = self.conns.get_mut(key) else {
            return;
        };
        if !conn.blocked || conn.outbox.bytes() <= self.config.outbox_bytes || !conn.is_open() {
            return;
        }
        self.stats.outbox_bytes -= conn.outbox.clear();
        self.stats.slow_closed += 1;
        self.slow.push(key);
    }
}

/// Gives a connection one run, or remembers what it must be given later. True when bytes were queued.
pub(super) fn offer(
    conn: &mut Conn,
    run: &Run,
    batch: &Arc<Batch>,
    delivery: Delivery,
    stats: &mut super::Stats,
) -> bool {
    if conn.blocked {
        match delivery {
            Delivery::Every => {}
            Delivery::Drop => {
                stats.dropped += u64::from(batch.frames);
                return false;
            }
            Delivery::Latest => {
                stats.conflated += u64::from(batch.frames);
                if !conn.lagging.iter().any(|(topic, _)| *topic == run.topic) {
                    conn.lagging.push((run.topic, run.seq));
                }
                return false;
            }
        }
    }
    stats.deliveries += u64::from(batch.frames);
    stats.messages_out += u64::from(batch.frames);
    stats.outbox_bytes += batch.bytes.len();
    conn.outbox.push(Piece::Shared(batch.clone()));
    true
}
