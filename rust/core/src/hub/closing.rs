//! The end of a connection from our side: the close frame, what still comes in, the deadline.
//!
//! Whatever a client sends after our close counts for nothing. Its protocol looks for the client's
//! answer in it and at nothing else, and of a client that floods no more than `PATIENCE` is read: then
//! the driver stops reading, the kernel's buffer fills, and the flood ends with the connection. Each
//! close has a deadline of its own. They are all equally long, so the queue of them is in order and a
//! driver needs one timer.

use super::batch::ConnKey;
use super::{Action, Conn, Hub, Phase};

/// Bytes read of a client that was told goodbye: what may be under way on a fast, long line, and
/// a few milliseconds of reading at most.
const PATIENCE: u32 = 8 << 20;

impl<S> Hub<S> {
    /// Queues the last bytes of a connection, ends its subscriptions, sends nothing after them.
    /// `code` is for the statistics. With `hang_up` the transport is closed once the bytes have left
    /// (the peer has said its close already, or its protocol has none); otherwise the peer's answer
    /// is awaited for `close_grace_ms`.
    pub fn close(
        &mut self,
        key: ConnKey,
        code: u16,
        hang_up: bool,
        last: impl FnOnce(&mut Vec<u8>),
    ) -> Vec<S> {
        self.catch_up(key);
        let closable = |conn: &Conn| matches!(conn.phase, Phase::Open | Phase::Slow);
        if !self.conns.get(key).is_some_and(closable) {
            return Vec::new();
        }
        let ended = self.drop_subs(key);
        self.queue(key, last);
        let deadline_ms = self.now_ms + self.config.close_grace_ms;
        if let Some(conn) = self.conns.get_mut(key) {
            conn.phase = Phase::Closing {
                deadline_ms,
                hang_up,
                patience: PATIENCE,
            };
        }
        self.closing.push_back((deadline_ms, key));
        self.stats.count_close(code);
        ended
    }

    /// The peer has answered our close: hang up once everything queued has left.
    pub fn hang_up(&mut self, key: ConnKey) {
        if let Some(conn) = self.conns.get_mut(key) {
            if let Phase::Closing { hang_up, .. } = &mut conn.phase {
                *hang_up = true;
                self.mark_dirty(key);
            }
        }
    }

    /// So many bytes came after our close and were thrown away.
    pub fn discard_input(&mut self, key: ConnKey, came: usize) {
        if let Some(conn) = self.conns.get_mut(key) {
            if let Phase::Closing { patience, .. } = &mut conn.phase {
                let came = u32::try_from(came).unwrap_or(u32::MAX);
                *patience = patience.saturating_sub(came);
            }
        }
    }

    /// Whether the driver is to read on from a connection.
    pub fn is_read(&self, key: ConnKey) -> bool {
        let conn = self.conns.get(key);
        conn.is_some_and(|conn| {
            !matches!(conn.phase, Phase::Cut | Phase::Closing { patience: 0, .. })
        })
    }

    /// When the next close has had its time, milliseconds of the hub's clock.
    pub fn next_deadline(&self) -> Option<u64> {
        self.closing.front().map(|(deadline_ms, _)| *deadline_ms)
    }

    /// Cuts those whose close was not answered in time. To be called at [`Self::next_deadline`].
    pub fn cut_overdue(&mut self) {
        while let Some((deadline_ms, key)) = self.closing.front().copied() {
            if deadline_ms > self.now_ms {
                return;
            }
            self.closing.pop_front();
            if self.conns.contains_key(key) {
                self.actions.push_back(Action::Abort(key));
            }
        }
    }

    /// Takes closes off the front of the queue whose connections are gone.
    pub(super) fn forget_closed(&mut self) {
        while let Some((_, key)) = self.closing.front() {
            if self.conns.contains_key(*key) {
                return;
            }
            self.closing.pop_front();
        }
    }
}
