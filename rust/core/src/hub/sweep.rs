//! What time alone brings about: silence, unanswered closes, history past its age.

use super::batch::ConnKey;
use super::send::ms_since_data;
use super::{Action, Hub, Phase, Sink};

impl<S> Hub<S> {
    /// Connections silent for longer than `idle_ms` of their mount (0: for ever), for the caller to
    /// close. Cuts those whose close was not answered in time, and forgets topics of which only an
    /// outdated history is left. One pass over all of them; call it every few seconds.
    pub fn sweep(&mut self, idle_ms: &dyn Fn(u16) -> u64) -> Vec<ConnKey> {
        let now = self.now_ms;
        let mut idle = Vec::new();
        for (key, conn) in &mut self.conns {
            match conn.phase {
                Phase::Closing { deadline_ms, .. } if deadline_ms <= now => {
                    self.actions.push_back(Action::Abort(key));
                }
                Phase::Closing { .. } | Phase::Slow | Phase::Cut => {}
                Phase::Open => {
                    let limit = idle_ms(conn.mount);
                    let silent = now.saturating_sub(conn.seen_ms);
                    if limit == 0 || silent < limit {
                        continue;
                    }
                    // Half a frame is a sign of life that no frame has told of.
                    let since = match conn.sink {
                        Sink::Socket(fd) => ms_since_data(fd),
                        Sink::Transport => None,
                    };
                    match since {
                        Some(ms) if ms < limit => conn.seen_ms = now - ms,
                        _ => idle.push(key),
                    }
                }
            }
        }
        self.expire_histories();
        idle
    }
}
