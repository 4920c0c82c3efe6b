//! Connections closed and gone, and the subscriptions that end with them.

use crate::hub::{Conn, ConnKey, Overdue, Silence, Swept};

use crate::ws::Assembler;

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
        let answered = dialect.close(self, conn, code, reason, &mut last);
        let over = self.hub.close(conn, code, hang_up || !answered, |out| {
            out.extend_from_slice(&last);
        });
        if let Some(link) = self.links.get_mut(conn) {
            // What had begun to come is not waited for any more.
            link.assembler = Assembler::default();
        }
        self.end_all(conn, over, why);
    }

    /// Closes every open connection with this socket id (1001) and returns how many.
    pub fn disconnect(&mut self, id: &str) -> usize {
        let mut conns = self.hub.by_id(id);
        conns.retain(|conn| self.hub.conn(*conn).is_some_and(Conn::is_open));
        for conn in &conns {
            self.close(*conn, 1001, "disconnected", "closed", false);
        }
        conns.len()
    }

    /// Closes at most `most` open connections, whose subscriptions end with `shutdown`; returns how
    /// many.
    pub fn close_some(&mut self, most: usize, code: u16, reason: &str) -> usize {
        let open = |conn: &ConnKey| self.hub.conn(*conn).is_some_and(Conn::is_open);
        let conns: Vec<_> = self.hub.connection_keys().filter(open).take(most).collect();
        for conn in &conns {
            self.close(*conn, code, reason, "shutdown", false);
        }
        conns.len()
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

    /// The connection is gone. To be called before its descriptor is closed.
    pub fn lost(&mut self, conn: ConnKey) {
        let over = self.hub.remove(conn);
        self.links.remove(conn);
        self.end_all(conn, over, "closed");
    }

    fn end_all(&mut self, conn: ConnKey, over: Vec<Subscription<H>>, why: &'static str) {
        self.inward.forget_all(conn);
        self.requests.forget(conn);
        for subscription in over {
            self.counts.channels -= 1;
            self.disowned(&subscription);
            self.tell_ended(subscription.handle, why);
        }
        self.settle_handlers();
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
    /// message (1008), and sends the pings that are due.
    pub fn sweep(&mut self) {
        self.forget_pieces();
        self.wake();
        let (mounts, links) = (&self.mounts, &mut self.links);
        let silence = |mount| {
            let mount = mounts.get(usize::from(mount));
            mount.map_or(Silence::default(), |mount| mount.silence)
        };
        let mut begun_by = |conn, now| {
            let link = links.get_mut(conn)?;
            let begun = [link.reader.begun_by(now), link.assembler.begun_by(now)];
            begun.into_iter().flatten().min()
        };
        let Swept { overdue, to_ping } = self.hub.sweep(&silence, &mut begun_by);
        for conn in to_ping {
            if let Some(dialect) = self.dialect(conn) {
                self.hub.stats.pings += 1;
                self.hub.direct(conn, |out| dialect.ping(out));
            }
        }
        for (conn, why) in overdue {
            match why {
                Overdue::Idle => self.close(conn, 1002, "idle", "closed", false),
                Overdue::Unfinished => {
                    self.complaints
                        .push_back((conn, 1008, "message unfinished"));
                    self.close(conn, 1008, "message unfinished", "closed", false);
                }
            }
        }
        self.send_sign();
    }

    /// Says to clients that only listen that the server is there.
    fn send_sign(&mut self) {
        let mounts = &self.mounts;
        let sign_ms = |mount| {
            let mount = mounts.get(usize::from(mount));
            mount.map_or(0, |mount| mount.sign_ms)
        };
        for conn in self.hub.due_for_a_sign(&sign_ms) {
            let sign = self
                .dialect(conn)
                .and_then(|dialect| dialect.sign(self, conn));
            if let Some(sign) = sign {
                self.hub.direct(conn, |out| out.extend_from_slice(sign));
            }
        }
    }
}
