//! What waits for readers: a budget for each connection and one for all of them.
//!
//! A connection that is over `Config::outbox_bytes` and does not read is given up. One that reads,
//! only slower than a burst comes, may owe up to `Config::outbox_burst` as long as the kernel takes
//! some of it every `Config::stall_ms`: the burst is not its fault. Both are bounded together by
//! `Config::outboxes_bytes`; past it those who owe most go first.
//!
//! The bound on all is a bound on memory. A broadcast that waits for ten thousand readers lies in
//! memory once, so it counts once (`Ledger::shared`), plus what a place in each outbox costs. Were
//! it counted ten thousand times, one second without a network would close everybody.
//!
//! Nothing is searched per frame. The search for those who owe most walks all connections, at most
//! once for each eighth of the budget that comes in, and takes enough of them to be an eighth below.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;

use super::batch::ConnKey;
use super::flush::HAND_OVER_BYTES;
use super::{Action, Conn, Hub, Phase};

/// Parts of long outboxes let go when those who owe most are given up: about a millisecond.
const AT_ONCE: usize = 64;

/// What outboxes cost, kept as it changes.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// Frames of one connection alone and places in queues.
    pub own: usize,
    /// Bytes given to transports that have not said they are rid of them.
    pub handed: usize,
    /// Bytes of all batches that somebody holds.
    pub batches: Arc<AtomicUsize>,
    /// Of these, bytes of queued runs, which have a bound of their own (`Config::log_bytes`).
    pub queued: usize,
    /// Past the budget, when to look for those who owe most again.
    again_at: usize,
}

impl Ledger {
    pub fn total(&self) -> usize {
        let shared = self.batches.load(Ordering::Relaxed);
        self.own + self.handed + shared.saturating_sub(self.queued)
    }
}

impl<S> Hub<S> {
    /// Memory that everything takes which waits for connections.
    pub fn outboxes_bytes(&self) -> usize {
        self.ledger.total()
    }

    /// Gives up a connection whose outbox has outgrown its budget, and others when all together have.
    pub(super) fn enforce_budget(&mut self, key: ConnKey) {
        let over = self.config.outbox_bytes;
        if self.over_budget(key, over) {
            self.write_now(key);
            if self.over_budget(key, self.budget_of(key)) {
                self.give_up(key);
            }
        }
        self.enforce_total();
    }

    /// Closes those who are owed most when all together are over their budget.
    pub(super) fn enforce_total(&mut self) {
        if self.ledger.total() > self.config.outboxes_bytes.max(self.ledger.again_at) {
            self.relieve_all();
        }
    }

    fn over_budget(&self, key: ConnKey, budget: usize) -> bool {
        let over = |conn: &Conn| conn.is_open() && conn.outbox.bytes() > budget;
        self.conns.get(key).is_some_and(over)
    }

    /// What may wait for a connection now.
    fn budget_of(&self, key: ConnKey) -> usize {
        let reads = |conn: &Conn| !self.stalls(conn);
        let least = self.config.outbox_bytes;
        if self.conns.get(key).is_some_and(reads) {
            least.max(self.config.outbox_burst)
        } else {
            least
        }
    }

    fn stalls(&self, conn: &Conn) -> bool {
        conn.blocked && self.now_ms.saturating_sub(conn.progress_ms) >= self.config.stall_ms
    }

    /// Gives up those over the least budget that have stopped reading, though nothing more came for
    /// them that would have shown it.
    pub(super) fn give_up_stalled(&mut self) {
        let over = self.config.outbox_bytes;
        let stalled = |conn: &Conn| conn.is_open() && conn.outbox.bytes() > over;
        let keys: Vec<ConnKey> = self
            .conns
            .iter()
            .filter(|(_, conn)| stalled(conn) && self.stalls(conn))
            .map(|(key, _)| key)
            .collect();
        for key in keys {
            self.give_up(key);
        }
    }

    /// It cannot have everything, so it must not believe it has: nothing more goes to this
    /// connection but the close that the protocol above says (`take_slow`).
    pub(super) fn give_up(&mut self, key: ConnKey) {
        self.forget_lags(key);
        if let Some(conn) = self.conns.get_mut(key) {
            conn.phase = Phase::Slow;
            let mut outbox = std::mem::take(&mut conn.outbox);
            self.let_go(&mut outbox);
            self.stats.slow_closed += 1;
            self.slow.push(key);
        }
    }

    /// Gives up those who owe most until an eighth of the budget is free again.
    ///
    /// Shared bytes are free when the last who waits for them has been given up, and long outboxes
    /// are let go bit by bit. This does `AT_ONCE` bits of it; where that is not enough, `flush` goes
    /// on with it and the next one is given up a little later.
    fn relieve_all(&mut self) {
        let budget = self.config.outboxes_bytes;
        let aim = budget - budget / 8;
        let owes = |(key, conn): (ConnKey, &Conn)| (conn.outbox.bytes() + conn.handed, key);
        let open = self.conns.iter().filter(|(_, conn)| conn.is_open());
        let mut most: Vec<(usize, ConnKey)> = open.map(owes).collect();
        most.retain(|(owed, _)| *owed > 0);
        most.sort_unstable_by(|a, b| b.cmp(a));
        let mut bits = AT_ONCE;
        let mut step = budget / 8;
        for (_, key) in most {
            if self.ledger.total() <= aim {
                break;
            }
            if bits == 0 {
                step = budget / 64;
                break;
            }
            self.give_up(key);
            self.stats.budget_closed += 1;
            // What its transport holds goes with it: at the deadline of its close, or at once when
            // it is much.
            if let Some(conn) = self.conns.get_mut(key) {
                let handed = std::mem::take(&mut conn.handed);
                self.ledger.handed -= handed;
                if handed > HAND_OVER_BYTES {
                    self.actions.push_back(Action::Abort(key));
                }
            }
            while bits > 0 && self.discarded.drop_some() {
                bits -= 1;
            }
        }
        // Not at every frame again: what is left may be with transports, or on its way out.
        self.ledger.again_at = self.ledger.total() + step;
        if self.ledger.total() <= budget {
            self.ledger.again_at = 0;
        }
    }
}
