//! What time alone brings about: silence, unanswered closes, history past its age.

use super::batch::ConnKey;
use super::send::ms_since_data;
use super::{Action, Hub, Phase, Sink};

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

impl<S> Hub<S> {
    /// Connections silent for longer than `idle_ms` of their mount (0: for ever), for the caller to
    /// close, and those that take longer than that, and than a minute, over a message begun. Half a
    /// frame is a sign of life for as long again as silence is allowed. `begun_by` says since when,
    /// at the latest, a connection has been at the message it has begun (None: at none). Cuts those whose close was not answered in time, and forgets topics of which only an
    /// outdated history is left. One pass over all of them; call it every few seconds.
    pub fn sweep(
        &mut self,
        idle_ms: &dyn Fn(u16) -> u64,
        begun_by: &mut dyn FnMut(ConnKey, u64) -> Option<u64>,
    ) -> Vec<(ConnKey, Overdue)> {
        let now = self.now_ms;
        let mut overdue = Vec::new();
        for (key, conn) in &mut self.conns {
            match conn.phase {
                Phase::Closing { deadline_ms, .. } if deadline_ms <= now => {
                    self.actions.push_back(Action::Abort(key));
                }
                Phase::Closing { .. } | Phase::Slow | Phase::Cut => {}
                Phase::Open => {
                    let limit = idle_ms(conn.mount);
                    if let Some(begun) = begun_by(key, now) {
                        if now.saturating_sub(begun) >= limit.max(MESSAGE_MS) {
                            overdue.push((key, Overdue::Unfinished));
                            continue;
                        }
                    }
                    let silent = now.saturating_sub(conn.seen_ms);
                    if limit == 0 || silent < limit {
                        continue;
                    }
                    // Half a frame is a sign of life that no frame has told of.
                    let fd = match conn.sink {
                        Sink::Socket(fd) => Some(fd),
                        Sink::Transport => conn.eye,
                    };
                    match fd.and_then(ms_since_data) {
                        Some(ms) if ms < limit && silent < 2 * limit => {}
                        Some(ms) if ms < limit => overdue.push((key, Overdue::Unfinished)),
                        _ => overdue.push((key, Overdue::Idle)),
                    }
                }
            }
        }
        self.expire_histories();
        overdue
    }
}
