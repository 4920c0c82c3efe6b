//! Bytes to sockets: the end of a loop turn.
//!
//! The hub writes plain sockets itself. When the kernel takes less than was offered, the rest of
//! that one piece goes to the driver's transport (`next_write`), which tells us through `resume`
//! when it has got rid of it; until then the connection is blocked and its topics' delivery
//! policies apply. Bytes therefore have one order: transport first, outbox after.

use std::sync::Arc;
use std::time::Instant;

use super::batch::{Batch, ConnKey, SubKey, CODECS};
use super::outbox::Outbox;
use super::run::Audience;
use super::send::{send, Sent};
use super::topic::Member;
use super::{Action, Conn, Hub, Phase, Sink};

/// Pieces up to this many bytes are copied together for one `send`; larger ones go alone.
const GATHER_BYTES: usize = 64 * 1024;
/// How many sockets are written between two looks at the clock.
const CLOCK_EVERY: usize = 16;
/// Bytes after which a transport is given no more at a time: it says when it has got rid of all of
/// them, and that is the sign that its reader reads.
pub(super) const HAND_OVER_BYTES: usize = 256 * 1024;

impl<S> Hub<S> {
    /// True when frames are queued that [`Hub::flush`] would send, or let go.
    pub fn needs_flush(&self) -> bool {
        !self.dirty.is_empty() || !self.log.is_empty() || !self.discarded.is_empty()
    }

    /// Sends what is queued, for about one slice. Returns true when more is left: call it again
    /// after the loop has had a turn.
    pub fn flush(&mut self) -> bool {
        let deadline = Instant::now() + self.config.slice;
        self.flush_dirty(deadline);
        self.fan_out(Some(deadline));
        // A part per eight of them at least: they must not pile up when fan-out takes every slice.
        let mut least = self.discarded.len() / 8;
        while self.discarded.drop_some() && (least > 0 || Instant::now() < deadline) {
            least = least.saturating_sub(1);
        }
        self.needs_flush()
    }

    /// Bytes the driver must write to a connection's transport, oldest first. It then calls
    /// [`Hub::resume`] as soon as the transport's buffer is empty, which may be at once.
    pub fn next_write(&mut self) -> Option<(ConnKey, Vec<u8>)> {
        loop {
            let (key, bytes) = self.writes.pop_front()?;
            let Some(conn) = self.conns.get_mut(key) else {
                continue;
            };
            if bytes.is_none() {
                conn.promised = false;
            }
            if let Some(bytes) = bytes.or_else(|| self.hand_over(key)) {
                return Some((key, bytes));
            }
        }
    }

    /// What the driver must do to transports.
    pub fn next_action(&mut self) -> Option<Action> {
        loop {
            let action = self.actions.pop_front()?;
            let (Action::Close(key) | Action::Abort(key)) = action;
            if self.conns.contains_key(key) {
                return Some(action);
            }
        }
    }

    /// Whether a reader is to be closed, or a transport to be given something.
    pub fn has_news(&self) -> bool {
        !(self.slow.is_empty() && self.writes.is_empty() && self.actions.is_empty())
    }

    /// Connections that outgrew their budget since the last call; the caller closes them. Until
    /// then they get nothing.
    pub fn take_slow(&mut self) -> Vec<ConnKey> {
        let mut slow = std::mem::take(&mut self.slow);
        slow.retain(|key| self.conns.get(*key).is_some_and(|c| c.phase == Phase::Slow));
        slow
    }

    /// The transport holds bytes that must go first: nothing is written until [`Hub::resume`].
    pub fn block(&mut self, key: ConnKey) {
        let now = self.now_ms;
        if let Some(conn) = self.conns.get_mut(key) {
            conn.blocked = true;
            conn.progress_ms = now;
        }
    }

    /// The transport's buffer is empty again. May write, so the driver looks at
    /// [`Hub::next_write`] and [`Hub::next_action`] afterwards.
    pub fn resume(&mut self, key: ConnKey) {
        let waiting = |conn: &Conn| conn.blocked && conn.phase != Phase::Cut;
        if !self.conns.get(key).is_some_and(waiting) {
            return;
        }
        // While still blocked: what is queued of a topic it lags behind on must not come before
        // what it missed.
        self.catch_up(key);
        let Some(conn) = self.conns.get_mut(key) else {
            return;
        };
        conn.blocked = false;
        self.ledger.handed -= std::mem::take(&mut conn.handed);
        if !conn.lagging.is_empty() {
            self.catch_newest(key);
        } else if !conn.outbox.is_empty() || conn.phase != Phase::Open {
            self.mark_dirty(key);
        }
    }

    fn flush_dirty(&mut self, deadline: Instant) {
        let mut written = 0;
        while let Some(key) = self.dirty.pop_front() {
            if let Some(conn) = self.conns.get_mut(key) {
                conn.dirty = false;
            }
            self.write(key);
            written += 1;
            if written % CLOCK_EVERY == 0 && Instant::now() >= deadline {
                return;
            }
        }
    }

    /// Serves every queued run now, however long it takes.
    pub(super) fn serve_all(&mut self) {
        self.fan_out(None);
    }

    fn fan_out(&mut self, deadline: Option<Instant>) {
        self.seal_log();
        let mut served = 0;
        while let Some(run) = self.log.front_mut() {
            let number = self.log_start;
            let (topic, audience, sealed) = (run.topic, run.audience.clone(), run.sealed.clone());
            let mut cursor = run.cursor;
            let mut out_of_time = false;
            while let Some(member) = self.topics[topic].members.get(cursor).copied() {
                cursor += 1;
                self.serve(number, member, &audience, &sealed);
                served += 1;
                if served % CLOCK_EVERY == 0 && deadline.is_some_and(|d| Instant::now() >= d) {
                    out_of_time = true;
                    break;
                }
            }
            if let Some(run) = self.log.front_mut() {
                run.cursor = cursor;
            }
            if out_of_time {
                return;
            }
            self.finish_run();
        }
    }

    fn serve(
        &mut self,
        number: u64,
        member: Member,
        audience: &Audience,
        sealed: &[Option<Arc<Batch>>; CODECS],
    ) {
        let key = member.conn;
        let Some(conn) = self.conns.get_mut(key) else {
            return;
        };
        if conn.log_pos > number {
            return;
        }
        let alone =
            self.log.len() == 1 && conn.outbox.is_empty() && !conn.blocked && !conn.is_stamped();
        let (true, Sink::Socket(fd), Phase::Open) = (alone, conn.sink, conn.phase) else {
            self.collect(key);
            self.write(key);
            self.enforce_budget(key);
            return;
        };
        conn.log_pos = number + 1;
        let Some(batch) = &sealed[conn.codec.index()] else {
            return;
        };
        if !audience.includes(member.sub, &self.subs) {
            return;
        }
        let frames = u64::from(batch.frames);
        self.stats.deliveries += frames;
        self.stats.messages_out += frames;
        self.stats.sends += 1;
        match send(fd, &batch.bytes) {
            Sent::Bytes(n) => {
                self.stats.bytes_out += n as u64;
                if n < batch.bytes.len() {
                    self.spill(key, batch.bytes[n..].to_vec());
                }
            }
            Sent::Closed => self.cut(key),
        }
    }

    fn finish_run(&mut self) {
        let Some(run) = self.log.pop_front() else {
            return;
        };
        self.log_start += 1;
        self.log_bytes -= run.bytes;
        self.ledger.queued -= run.sealed_bytes();
        self.stats.fanout.observe(run.since.elapsed());
        if let Some(topic) = self.topics.get_mut(run.topic) {
            topic.runs.pop_front();
            // Runs of this topic that are still queued have not begun: places may change.
            if topic.holes > 0 {
                topic.holes = 0;
                topic.members.retain(|m| m.sub != SubKey::default());
                for (place, member) in topic.members.iter().enumerate() {
                    if let Some(sub) = self.subs.get_mut(member.sub) {
                        sub.place = u32::try_from(place).ok();
                    }
                }
            }
        }
        self.keep_missed(&run);
        self.forget_if_idle(run.topic);
    }

    /// As [`Hub::write`], and a transport is given its bytes at once.
    pub(super) fn write_now(&mut self, key: ConnKey) {
        let transport = |conn: &Conn| conn.sink == Sink::Transport;
        if !self.conns.get(key).is_some_and(transport) {
            self.write(key);
        } else if let Some(bytes) = self.hand_over(key) {
            self.writes.push_back((key, Some(bytes)));
        }
    }

    /// The outbox as bytes for the transport; nothing more until it has got rid of them.
    fn hand_over(&mut self, key: ConnKey) -> Option<Vec<u8>> {
        let conn = self.conns.get_mut(key)?;
        if conn.blocked || conn.outbox.is_empty() {
            return None;
        }
        let before = conn.outbox.cost();
        let mut bytes = Vec::with_capacity(conn.outbox.bytes().min(HAND_OVER_BYTES));
        while bytes.len() < HAND_OVER_BYTES {
            let Some(piece) = conn.outbox.pop() else {
                break;
            };
            bytes.extend_from_slice(piece.bytes());
        }
        conn.blocked = true;
        conn.progress_ms = self.now_ms;
        conn.handed = bytes.len();
        self.ledger.handed += bytes.len();
        self.ledger.own -= before - conn.outbox.cost();
        self.stats.outbox_bytes -= bytes.len();
        self.stats.bytes_out += bytes.len() as u64;
        self.stats.sends += 1;
        self.enforce_total();
        Some(bytes)
    }

    /// Sends a connection's outbox, as much as the socket takes.
    pub(super) fn write(&mut self, key: ConnKey) {
        loop {
            let Some(conn) = self.conns.get_mut(key) else {
                return;
            };
            if conn.blocked {
                return;
            }
            if conn.outbox.is_empty() {
                if let Phase::Closing { hang_up, .. } = &mut conn.phase {
                    if std::mem::take(hang_up) {
                        self.actions.push_back(Action::Close(key));
                    }
                }
                return;
            }
            match conn.sink {
                Sink::Transport => {
                    // Not yet: what else this turn brings goes into the same write, and no policy
                    // takes a reader for slow that has not been given anything.
                    if !std::mem::replace(&mut conn.promised, true) {
                        self.writes.push_back((key, None));
                    }
                    return;
                }
                Sink::Socket(fd) => {
                    let first = conn.outbox.front().next().unwrap_or_default();
                    let (offered, sent) = if conn.outbox.len() == 1 || first.len() >= GATHER_BYTES {
                        (first.len(), send(fd, first))
                    } else {
                        self.scratch.clear();
                        for bytes in conn.outbox.front() {
                            if !self.scratch.is_empty()
                                && self.scratch.len() + bytes.len() > GATHER_BYTES
                            {
                                break;
                            }
                            self.scratch.extend_from_slice(bytes);
                        }
                        (self.scratch.len(), send(fd, &self.scratch))
                    };
                    self.stats.sends += 1;
                    match sent {
                        Sent::Closed => return self.cut(key),
                        Sent::Bytes(n) => {
                            self.stats.bytes_out += n as u64;
                            if !self.consume(key, n, offered) {
                                return;
                            }
                        }
                    }
                }
            }
        }
    }

    /// Takes `sent` of `offered` bytes off the outbox; false when the socket took less than offered.
    fn consume(&mut self, key: ConnKey, sent: usize, offered: usize) -> bool {
        let Some(conn) = self.conns.get_mut(key) else {
            return false;
        };
        let before = conn.outbox.cost();
        let mut left = sent;
        let full = sent == offered;
        let mut rest = None;
        while left > 0 || !full {
            let Some(piece) = conn.outbox.pop() else {
                break;
            };
            let bytes = piece.bytes();
            self.stats.outbox_bytes -= bytes.len();
            if left >= bytes.len() {
                left -= bytes.len();
                continue;
            }
            // The piece the socket broke off in, or the first one of which it took nothing.
            rest = Some(bytes[left..].to_vec());
            break;
        }
        self.ledger.own -= before - conn.outbox.cost();
        if let Some(rest) = rest {
            self.spill(key, rest);
            return false;
        }
        full
    }

    fn spill(&mut self, key: ConnKey, rest: Vec<u8>) {
        self.stats.short_sends += 1;
        self.stats.bytes_out += rest.len() as u64;
        if let Some(conn) = self.conns.get_mut(key) {
            conn.blocked = true;
            conn.progress_ms = self.now_ms;
            conn.handed = rest.len();
            self.ledger.handed += rest.len();
        }
        self.writes.push_back((key, Some(rest)));
        self.enforce_total();
    }

    /// Empties an outbox whose bytes nobody will send.
    pub(super) fn let_go(&mut self, outbox: &mut Outbox) {
        self.ledger.own -= outbox.cost();
        self.stats.outbox_bytes -= self.discarded.take(outbox);
    }

    /// The peer is gone: nothing more is sent, the transport is cut.
    fn cut(&mut self, key: ConnKey) {
        self.forget_lags(key);
        if let Some(conn) = self.conns.get_mut(key) {
            conn.blocked = true;
            conn.phase = Phase::Cut;
            let mut outbox = std::mem::take(&mut conn.outbox);
            self.let_go(&mut outbox);
            self.actions.push_back(Action::Abort(key));
        }
    }
}
