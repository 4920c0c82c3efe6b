//! What time alone brings about: silence, readers that have stopped, history past its age.

use super::batch::ConnKey;
use super::{Hub, Phase};
use crate::ws;

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
    /// that take longer than that, and than a minute, over a frame or a message begun. Sends the
    /// pings that are due, gives up readers that have stopped, and forgets topics of which only an
    /// outdated history is left. One pass over all of them; call it every few seconds.
    pub fn sweep(&mut self, silence: &dyn Fn(u16) -> Silence) -> Vec<(ConnKey, Overdue)> {
        let now = self.now_ms;
        let (mut overdue, mut to_ping) = (Vec::new(), Vec::new());
        for (key, conn) in &mut self.conns {
            if conn.phase != Phase::Open {
                continue;
            }
            let rules = silence(conn.mount);
            let limit = rules.limit();
            let begun = [conn.reader.begun_by(now), conn.assembler.begun_by(now)];
            if let Some(begun) = begun.into_iter().flatten().min() {
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
        for key in to_ping {
            self.stats.pings += 1;
            self.direct(key, |out| ws::frame_into(out, ws::Opcode::Ping, |_| {}));
        }
        self.give_up_stalled();
        self.expire_histories();
        overdue
    }
}
