//! The hub: connections, topics, and the order in which bytes reach sockets.
//!
//! # Theory
//!
//! A publish does not touch its subscribers. It appends to a *run*: the messages of one topic
//! published one after the other in this loop turn, encoded once per codec. The queue of runs is
//! the one order of the whole hub. At the end of the turn `flush` walks each run's members and
//! gives every connection all runs it has not had, in one `send`. Ten messages on a topic cost a
//! subscriber one system call.
//!
//! Fan-out is sliced: after about two milliseconds `flush` returns and asks to be called again, so
//! a heartbeat waits for a slice and not for ten thousand sockets. Between slices anything may
//! happen; three rules keep the order right:
//!
//! 1. every connection remembers the next run it must look at (`log_pos`); a run it is past is not
//!    for it, so nobody is served twice and a newcomer gets nothing published before its join;
//! 2. a frame for one connection that must follow earlier broadcasts first lets that connection
//!    catch up with all queued runs (`catch_up`); heartbeat replies skip this on purpose;
//! 3. members do not move while a run of their topic is under way (`Topic::holes`).
//!
//! The driver must call [`Hub::flush`] at the end of a turn when [`Hub::needs_flush`], then carry
//! out [`Hub::next_write`] and [`Hub::next_action`] until both are empty. It must call
//! [`Hub::remove`] before a connection's descriptor is closed: that is what keeps a frame from
//! reaching the descriptor's next owner.

mod batch;
mod budget;
mod closing;
mod flush;
mod keeping;
mod latest;
mod listing;
mod members;
mod newests;
mod outbox;
mod publish;
mod run;
mod send;
mod stamp;
mod stats;
mod sub;
mod sweep;
mod topic;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::Duration;

use slotmap::SlotMap;

pub use batch::{Batch, Codec, ConnKey, Encode, Piece, SubKey, TopicKey, CODECS};
pub use keeping::TOPIC_BYTES;
pub use listing::Facts;
pub use outbox::{Discarded, Outbox};
pub use publish::{Publish, Published};
pub use send::{send, Sent};
pub use stamp::{Frame, Line};
pub use stats::{Histogram, Stats, FANOUT_BOUNDS};
pub use sub::{Intercepts, Sub};
pub use sweep::{Overdue, Silence, Swept};
pub use topic::{Delivery, Policy, Topic};

/// Where a connection's bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sink {
    /// Straight to a plain TCP (or Unix) socket.
    Socket(RawFd),
    /// Through the driver's transport (TLS): the hub hands out bytes, see [`Hub::next_write`].
    Transport,
}

/// Bounds of the hub; every one may be set by the operator.
#[derive(Debug, Clone, Copy)]
pub struct Config {
    /// Bytes that may wait for one connection under `Delivery::Every`, whatever it does.
    pub outbox_bytes: usize,
    /// As many may wait for one that takes bytes; below `outbox_bytes` it adds nothing.
    pub outbox_burst: usize,
    /// How long a connection may take no byte before `outbox_burst` is nothing to it.
    pub stall_ms: u64,
    /// Memory that what waits for all connections may take; past it those go that owe most.
    pub outboxes_bytes: usize,
    /// Bytes of queued runs before a publish serves them on the spot.
    pub log_bytes: usize,
    /// What the histories of all topics may cost; past it those not published to for longest give.
    pub history_bytes: usize,
    /// How long one slice of fan-out may keep the loop.
    pub slice: Duration,
    /// How long a closed connection may take to answer the close before it is cut.
    pub close_grace_ms: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            outbox_bytes: 1 << 20,
            outbox_burst: 0,
            stall_ms: 10_000,
            outboxes_bytes: 256 << 20,
            log_bytes: 64 << 20,
            history_bytes: 256 << 20,
            slice: Duration::from_millis(2),
            close_grace_ms: 5_000,
        }
    }
}

/// What the driver must do to a connection's transport.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// All is said: close once the transport's own buffer is empty.
    Close(ConnKey),
    /// Cut it: the peer is gone, does not read, or does not answer the close.
    Abort(ConnKey),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Open,
    /// Over budget: what it cannot have leaves a gap, so nothing follows but the close that the
    /// protocol above owes it.
    Slow,
    /// A close frame is queued or sent; nothing else goes out, nothing that comes in counts.
    Closing {
        deadline_ms: u64,
        /// Close the transport as soon as the close frame has left.
        hang_up: bool,
        /// Bytes that are still read and thrown away, see `closing`.
        patience: u32,
    },
    /// The peer is gone: nothing is sent or queued until the driver removes it.
    Cut,
}

/// One connection.
#[derive(Debug)]
#[allow(clippy::struct_excessive_bools)] // facts that are independent of each other
pub struct Conn {
    pub codec: Codec,
    pub mount: u16,
    sink: Sink,
    phase: Phase,
    /// The transport holds bytes of ours that the peer has not read.
    blocked: bool,
    /// A ping of ours has gone out since anything came in.
    pinged: bool,
    dirty: bool,
    /// The driver will be given the outbox by `next_write`.
    promised: bool,
    log_pos: u64,
    seen_ms: u64,
    /// When the kernel last took what was given to it, for a connection that is blocked.
    progress_ms: u64,
    /// Bytes the transport was given when it blocked; it may hold as many.
    handed: usize,
    outbox: Outbox,
    /// Topics of `Delivery::Latest` it could not follow.
    lagging: Vec<latest::Lag>,
    subs: Vec<SubKey>,
    /// Where it stands on its topics, for a connection whose frames all say so.
    stamp: Option<Box<stamp::Stamp>>,
    id: Option<Arc<str>>,
}

impl Conn {
    pub fn is_open(&self) -> bool {
        self.phase == Phase::Open
    }

    pub fn subs(&self) -> &[SubKey] {
        &self.subs
    }

    pub fn is_blocked(&self) -> bool {
        self.blocked
    }
}

/// See the module's text.
#[derive(Debug)]
pub struct Hub<S> {
    pub config: Config,
    pub stats: Stats,
    conns: SlotMap<ConnKey, Conn>,
    subs: SlotMap<SubKey, Sub<S>>,
    topics: SlotMap<TopicKey, Topic>,
    by_name: HashMap<Arc<str>, TopicKey>,
    /// The lanes of a topic, by its name; a topic without any is not in it.
    lanes: HashMap<Arc<str>, Vec<TopicKey>>,
    /// The lanes by their addresses, apart from the names that clients may choose.
    lane_at: HashMap<Arc<str>, TopicKey>,
    by_id: HashMap<Arc<str>, Vec<ConnKey>>,
    /// Topics whose history holds anything, by when they were last published to.
    kept: BTreeMap<u64, TopicKey>,
    log: VecDeque<run::Run>,
    log_start: u64,
    log_bytes: usize,
    dirty: VecDeque<ConnKey>,
    /// Connections over budget, to be closed by the protocol above (it owns the goodbye).
    slow: Vec<ConnKey>,
    /// For transports: what a socket did not take, or whatever the outbox holds when asked for.
    writes: VecDeque<(ConnKey, Option<Vec<u8>>)>,
    actions: VecDeque<Action>,
    discarded: Discarded,
    ledger: budget::Ledger,
    /// Closes that are waited for, by when they end: all have the same time.
    closing: VecDeque<(u64, ConnKey)>,
    scratch: Vec<u8>,
    /// Scratch of `collect`: runs that one connection is to be given, and through which place.
    due: Vec<(u64, SubKey)>,
    now_ms: u64,
    /// When [`Hub::due_for_a_sign`] last looked.
    signed_ms: u64,
    /// The epoch of topics that begin now. It grows whenever a topic with a history is forgotten, so
    /// that an offset of a topic's earlier life is never taken for one of its present life.
    epoch: u64,
}

impl<S> Hub<S> {
    /// `epoch` is the first topics' epoch: give a number that no earlier hub came to, such as
    /// microseconds of the wall clock.
    pub fn new(config: Config, epoch: u64) -> Self {
        Self {
            config,
            stats: Stats::default(),
            conns: SlotMap::with_key(),
            subs: SlotMap::with_key(),
            topics: SlotMap::with_key(),
            by_name: HashMap::new(),
            lanes: HashMap::new(),
            lane_at: HashMap::new(),
            by_id: HashMap::new(),
            kept: BTreeMap::new(),
            log: VecDeque::new(),
            log_start: 0,
            log_bytes: 0,
            dirty: VecDeque::new(),
            slow: Vec::new(),
            writes: VecDeque::new(),
            actions: VecDeque::new(),
            discarded: Discarded::default(),
            ledger: budget::Ledger::default(),
            closing: VecDeque::new(),
            scratch: Vec::new(),
            due: Vec::new(),
            now_ms: 0,
            signed_ms: 0,
            epoch,
        }
    }

    /// Tells the hub the time, milliseconds of any steady clock. Call it before other calls when it moved.
    pub fn set_now(&mut self, now_ms: u64) {
        self.now_ms = now_ms;
    }

    pub fn now_ms(&self) -> u64 {
        self.now_ms
    }

    // -- connections

    pub fn open(&mut self, codec: Codec, mount: u16, sink: Sink, id: Option<&str>) -> ConnKey {
        let id: Option<Arc<str>> = id.map(Into::into);
        // Rule 1: a message published from now on must not be appended to a run it is past.
        self.seal_log();
        let key = self.conns.insert(Conn {
            codec,
            mount,
            sink,
            phase: Phase::Open,
            blocked: false,
            pinged: false,
            dirty: false,
            promised: false,
            log_pos: self.log_end(),
            seen_ms: self.now_ms,
            progress_ms: self.now_ms,
            handed: 0,
            outbox: Outbox::default(),
            lagging: Vec::new(),
            subs: Vec::new(),
            stamp: None,
            id: id.clone(),
        });
        if let Some(id) = id {
            self.by_id.entry(id).or_default().push(key);
        }
        self.stats.count_open(mount);
        key
    }

    /// Forgets a connection and returns what its subscriptions held. After this call no byte goes
    /// to its descriptor.
    pub fn remove(&mut self, key: ConnKey) -> Vec<S> {
        let ended = self.drop_subs(key);
        if let Some(mut conn) = self.conns.remove(key) {
            self.stats.count_end(conn.mount);
            self.let_go(&mut conn.outbox);
            self.ledger.handed -= conn.handed;
            if let Some(id) = conn.id {
                if let Some(keys) = self.by_id.get_mut(&id) {
                    keys.retain(|k| *k != key);
                    if keys.is_empty() {
                        self.by_id.remove(&id);
                    }
                }
            }
        }
        self.forget_closed();
        ended
    }

    pub fn conn(&self, key: ConnKey) -> Option<&Conn> {
        self.conns.get(key)
    }

    pub fn conn_mut(&mut self, key: ConnKey) -> Option<&mut Conn> {
        self.conns.get_mut(key)
    }

    pub fn connections(&self) -> usize {
        self.conns.len()
    }

    pub fn connection_keys(&self) -> impl Iterator<Item = ConnKey> + '_ {
        self.conns.keys()
    }

    pub fn topics(&self) -> usize {
        self.topics.len()
    }

    /// Connections that share an application's socket id.
    pub fn by_id(&self, id: &str) -> Vec<ConnKey> {
        self.by_id.get(id).cloned().unwrap_or_default()
    }

    /// Something arrived: the idle clock starts again.
    pub fn touch(&mut self, key: ConnKey) {
        let now = self.now_ms;
        if let Some(conn) = self.conns.get_mut(key) {
            conn.seen_ms = now;
            conn.pinged = false;
        }
    }

    // -- frames for one connection

    /// True when a connection could be given more at once: it is open and has taken all it was given.
    pub fn has_room(&self, key: ConnKey) -> bool {
        let conn = self.conns.get(key);
        conn.is_some_and(|conn| conn.is_open() && !conn.blocked && conn.outbox.is_empty())
    }

    /// Sends shared frames to the connection of one subscription, ahead of what is queued for its
    /// topics. For a subscription that is not served on its topic yet. `frames` says where in the
    /// batch each of them lies.
    pub fn give(&mut self, key: ConnKey, sub: SubKey, batch: &Arc<Batch>, frames: &[Frame]) {
        let Some(conn) = self.conns.get_mut(key).filter(|conn| conn.is_open()) else {
            return;
        };
        let (before, cost) = (conn.outbox.bytes(), conn.outbox.cost());
        match &mut conn.stamp {
            Some(stamp) => conn.outbox.append(|out| {
                stamp.copy(sub, &batch.bytes, frames.iter().cloned(), out);
            }),
            None => conn.outbox.push(Piece::Shared(Arc::clone(batch))),
        }
        self.ledger.own += conn.outbox.cost() - cost;
        let count = u64::from(batch.frames);
        self.stats.deliveries += count;
        self.stats.messages_out += count;
        self.stats.outbox_bytes += conn.outbox.bytes() - before;
        self.write(key);
    }

    /// Makes a batch shareable, counted as memory that waits for connections until it is gone.
    pub fn share(&self, mut batch: Batch) -> Arc<Batch> {
        batch.count_in(&self.ledger.batches);
        Arc::new(batch)
    }

    /// Gives up a reader that came too late for what it must have; see [`Hub::take_slow`].
    pub fn overrun(&mut self, key: ConnKey) {
        if self.conns.get(key).is_some_and(Conn::is_open) {
            self.give_up(key);
        }
    }

    /// Queues one frame that need not wait for earlier broadcasts (a heartbeat's reply).
    pub fn direct(&mut self, key: ConnKey, write: impl FnOnce(&mut Vec<u8>)) {
        if self.conns.get(key).is_some_and(Conn::is_open) {
            self.queue(key, write);
            self.enforce_budget(key);
        }
    }

    /// Queues one frame behind every broadcast published so far.
    pub fn ordered(&mut self, key: ConnKey, write: impl FnOnce(&mut Vec<u8>)) {
        self.catch_up(key);
        self.direct(key, write);
    }

    fn queue(&mut self, key: ConnKey, write: impl FnOnce(&mut Vec<u8>)) {
        if let Some(conn) = self.conns.get_mut(key) {
            let before = (conn.outbox.bytes(), conn.outbox.cost());
            conn.outbox.append(write);
            self.stats.outbox_bytes += conn.outbox.bytes() - before.0;
            self.ledger.own += conn.outbox.cost() - before.1;
            self.stats.messages_out += 1;
            self.mark_dirty(key);
        }
    }

    fn mark_dirty(&mut self, key: ConnKey) {
        if let Some(conn) = self.conns.get_mut(key) {
            if !conn.dirty {
                conn.dirty = true;
                self.dirty.push_back(key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CODEC: Codec = Codec::new(0).unwrap();

    #[test]
    fn nothing_is_left_of_connections_and_topics_that_are_gone() {
        let mut hub: Hub<()> = Hub::new(Config::default(), 1);
        for n in 0..100 {
            let id = format!("user:{n}");
            let conn = hub.open(CODEC, 0, Sink::Transport, Some(&id));
            for topic in ["a", id.as_str()] {
                let sub = hub.reserve(conn, topic, Policy::default(), None, ());
                hub.activate(sub);
            }
            hub.direct(conn, |out| out.extend_from_slice(&[0x81, 0]));
            hub.flush();
            hub.close(conn, 1000, false, |_| {});
            hub.remove(conn);
        }
        while hub.flush() || hub.next_write().is_some() || hub.next_action().is_some() {}
        assert!(hub.by_id.is_empty() && hub.by_name.is_empty() && hub.lanes.is_empty());
        assert!(hub.lane_at.is_empty());
        assert!(hub.subs.is_empty() && hub.topics.is_empty() && hub.conns.is_empty());
        assert!(hub.log.is_empty() && hub.dirty.is_empty() && hub.slow.is_empty());
        assert!(hub.discarded.is_empty());
        assert_eq!(hub.stats.outbox_bytes, 0);
    }
}
