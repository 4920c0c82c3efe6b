//! What time alone brings about: silence, readers that have stopped, history past its age.

use super::batch::ConnKey;
use super::{Hub, Phase};

/// Least time a client has for one message in pieces, whatever the idle time of its mount.
const MESSAGE_MS: u64 = 60_000;

/// Why the caller is to close a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overdue {
    /// Nothing came.
    Idle,
    /// Bytes came, and no whole message for too long: what is held for one is held no longer.
    Unfinished,
}

/// What a look at all connections has found.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// To be closed.
    pub overdue: Vec<(ConnKey, Overdue)>,
    /// Silent for so long that they are to be asked whether they are there.
    pub to_ping: Vec<ConnKey>,
}

/// What a mount makes of silence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Silence {
    /// Milliseconds without a byte after which a client is closed; 0: never.
    pub idle_ms: u64,
    /// Milliseconds without a byte after which it is sent a ping, once; 0: never. A client that only
    /// listens answers it and is not idle.
    pub ping_ms: u64,
}

impl Silence {
    /// How long silence may last. A ping is to be answered even where silence alone closes nobody.
    fn limit(self) -> u64 {
        match self.idle_ms {
            0 => self.ping_ms * 2,
            limit => limit,
        }
    }
}

impl<S> Hub<S> {
    /// Connections silent for longer than their mount allows, for the caller to close, and those
    /// that take longer than that, and than a minute, over a frame or a message begun; and those that
    /// are to be sent a ping. `begun_by` says since when, at the latest, a connection has been at what
    /// it has begun (None: at nothing). Gives up readers that have stopped, and forgets topics of which
    /// only an outdated history is left. One pass over all of them; call it every few seconds.
    pub fn sweep(
        &mut self,
        silence: &dyn Fn(u16) -> Silence,
        begun_by: &mut dyn FnMut(ConnKey, u64) -> Option<u64>,
    ) -> Swept {
        let now = self.now_ms;
        let (mut overdue, mut to_ping) = (Vec::new(), Vec::new());
        for (key, conn) in &mut self.conns {
            if conn.phase != Phase::Open {
                continue;
            }
            let rules = silence(conn.mount);
            let limit = rules.limit();
            if let Some(begun) = begun_by(key, now) {
                if now.saturating_sub(begun) >= limit.max(MESSAGE_MS) {
                    overdue.push((key, Overdue::Unfinished));
                    continue;
                }
            }
            let silent = now.saturating_sub(conn.seen_ms);
            if limit != 0 && silent >= limit {
                overdue.push((key, Overdue::Idle));
            } else if rules.ping_ms != 0 && silent >= rules.ping_ms && !conn.pinged {
                conn.pinged = true;
                to_ping.push(key);
            }
        }
        self.give_up_stalled();
        self.expire_histories();
        Swept { overdue, to_ping }
    }

    /// Open connections that are to be sent a sign of life, `sign_ms` of their mount after the last one
    /// (0: never), for protocols in which the client says nothing. Call it with every sweep: what would
    /// be late at the next one is due at this one. One that has not taken what it was given is not
    /// due: what waits for it is a sign.
    pub fn due_for_a_sign(&mut self, sign_ms: &dyn Fn(u16) -> u64) -> Vec<ConnKey> {
        let now = self.now_ms;
        let next = now + now.saturating_sub(std::mem::replace(&mut self.signed_ms, now));
        let mut due = Vec::new();
        for (key, conn) in &mut self.conns {
            let every = sign_ms(conn.mount);
            if every == 0 || conn.phase != Phase::Open || next < conn.seen_ms + every {
                continue;
            }
            conn.seen_ms = now;
            if !conn.blocked && conn.outbox.is_empty() {
                due.push(key);
            }
        }
        due
    }
}
