//! The end of a connection from our side: the close frame, what still comes in, the deadline.
//!
//! Whatever a client sends after our close counts for nothing. It is read only to find the client's
//! answer, without a look at any payload, and of a client that floods no more than `PATIENCE` is
//! read: then the driver stops reading, the kernel's buffer fills, and the flood ends with the
//! connection. Each close has a deadline of its own. They are all equally long, so the queue of
//! them is in order and a driver needs one timer.

use super::batch::ConnKey;
use super::{Action, Conn, Hub, Phase};
use crate::ws::{self, Skimmed};

/// Bytes read of a client that was told goodbye: what may be under way on a fast, long line, and
/// a few milliseconds of reading at most.
const PATIENCE: u32 = 8 << 20;

impl<S> Hub<S> {
    /// Closes a connection: queues a close frame, ends the subscriptions, sends nothing after it.
    /// With `hang_up` the transport is closed once the frame has left (the peer has said its close
    /// already); otherwise the peer's answer is awaited for `close_grace_ms`.
    pub fn close(&mut self, key: ConnKey, code: u16, reason: &str, hang_up: bool) -> Vec<S> {
        self.catch_up(key);
        let closable = |conn: &Conn| matches!(conn.phase, Phase::Open | Phase::Slow);
        if !self.conns.get(key).is_some_and(closable) {
            return Vec::new();
        }
        let ended = self.drop_subs(key);
        self.queue(key, |out| {
            ws::frame_into(out, ws::Opcode::Close, |out| {
                out.extend_from_slice(&ws::close_payload(code, reason));
            });
        });
        let deadline_ms = self.now_ms + self.config.close_grace_ms;
        if let Some(conn) = self.conns.get_mut(key) {
            conn.phase = Phase::Closing {
                deadline_ms,
                hang_up,
                patience: PATIENCE,
            };
            // What had begun to come is not waited for any more.
            conn.assembler = ws::Assembler::default();
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

    /// Bytes that came after our close, thrown away but for the close among them.
    pub fn discard_input(&mut self, key: ConnKey, bytes: &[u8]) {
        let Some(conn) = self.conns.get_mut(key) else {
            return;
        };
        let answered = conn.reader.skim(bytes) == Skimmed::Close;
        if let Phase::Closing { patience, .. } = &mut conn.phase {
            let came = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
            *patience = patience.saturating_sub(came);
        }
        if answered {
            self.hang_up(key);
        }
    }

    /// Bytes that are still to come of the frame a connection has begun, 0 between frames; None when
    /// the driver is to read nothing of it any more.
    pub fn wants(&self, key: ConnKey) -> Option<u64> {
        let conn = self.conns.get(key)?;
        match conn.phase {
            Phase::Cut | Phase::Closing { patience: 0, .. } => None,
            Phase::Open | Phase::Slow | Phase::Closing { .. } => Some(conn.reader.wants()),
        }
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
