//! Connections closed and gone, and the subscriptions that end with them.

use crate::hub::{Conn, ConnKey, Overdue};

use super::{Gateway, Subscription};

impl<H> Gateway<H> {
    /// Closes a connection from our side; every subscription on it ends with `why`. With `hang_up`
    /// nobody waits for the client's answer: it has said its close already.
    pub fn close(
        &mut self,
        conn: ConnKey,
        code: u16,
        reason: &str,
        why: &'static str,
        hang_up: bool,
    ) {
        let Some(dialect) = self.dialect(conn) else {
            return;
        };
        let mut last = Vec::new();
        let answered = dialect.close(code, reason, &mut last);
        let over = self.hub.close(conn, code, hang_up || !answered, |out| {
            out.extend_from_slice(&last);
        });
        self.end_all(over, why);
    }

    /// Closes a connection for what its client sent.
    pub fn violate(&mut self, conn: ConnKey, code: u16, reason: &'static str) {
        *self.counts.violations.entry(reason).or_default() += 1;
        self.complaints.push_back((conn, code, reason));
        self.close(conn, code, reason, "closed", false);
    }

    /// Closes a connection whose client sent bytes that are no message of its dialect (1011, as
    /// Phoenix does when a socket crashes on one).
    pub fn undecodable(&mut self, conn: ConnKey, error: &'static str) {
        *self.counts.undecodable.entry(error).or_default() += 1;
        self.complaints.push_back((conn, 1011, error));
        self.close(conn, 1011, error, "closed", false);
    }

    /// The driver's parser met bytes that are no frame and answers them with a close of its own.
    pub fn unparsed(&mut self, conn: ConnKey, code: u16) {
        if !self.hub.conn(conn).is_some_and(Conn::is_open) {
            return;
        }
        let reason = match code {
            1002 => "malformed frame",
            1007 => "close reason is not UTF-8",
            1009 => "frame too big",
            _ => "internal error",
        };
        self.complaints.push_back((conn, code, reason));
        let over = self.hub.mute(conn, code);
        self.end_all(over, "closed");
    }

    /// The connection is gone. To be called before its descriptor is closed.
    pub fn lost(&mut self, conn: ConnKey) {
        let over = self.hub.remove(conn);
        self.links.remove(conn);
        self.end_all(over, "closed");
    }

    fn end_all(&mut self, over: Vec<Subscription<H>>, why: &'static str) {
        for subscription in over {
            self.counts.channels -= 1;
            self.tell_ended(subscription.handle, why);
        }
    }

    /// Closes readers over budget (1013, come back later) and returns how many.
    pub fn close_slow(&mut self) -> usize {
        let slow = self.hub.take_slow();
        for conn in &slow {
            self.complaints.push_back((*conn, 1013, "slow reader"));
            self.close(*conn, 1013, "slow reader", "closed", false);
        }
        slow.len()
    }

    /// Closes what has been silent too long (1002, as Phoenix on Bandit) or takes too long over one
    /// message (1008), and cuts unanswered closes.
    pub fn sweep(&mut self) {
        self.forget_pieces();
        let (mounts, links) = (&self.mounts, &mut self.links);
        let idle_ms = |mount| {
            let mount = mounts.get(usize::from(mount));
            mount.map_or(0, |mount| mount.idle_ms)
        };
        let mut begun_by = |conn, now| links.get_mut(conn)?.assembler.begun_by(now);
        for (conn, why) in self.hub.sweep(&idle_ms, &mut begun_by) {
            match why {
                Overdue::Idle => self.close(conn, 1002, "idle", "closed", false),
                Overdue::Unfinished => {
                    self.complaints
                        .push_back((conn, 1008, "message unfinished"));
                    self.close(conn, 1008, "message unfinished", "closed", false);
                }
            }
        }
    }
}
