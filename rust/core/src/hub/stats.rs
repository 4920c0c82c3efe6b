//! Counters the hub keeps as it goes; a scrape reads them, nothing is computed per message.

use std::time::Duration;

/// Upper bounds, in seconds, of the fan-out histogram's buckets.
pub const FANOUT_BOUNDS: [f64; 12] = [
    0.000_1, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0,
];

/// Cumulative buckets as Prometheus wants them are made at scrape time; here each is on its own.
#[derive(Debug, Default, Clone)]
pub struct Histogram {
    pub buckets: [u64; FANOUT_BOUNDS.len() + 1],
    pub sum: f64,
    pub count: u64,
}

impl Histogram {
    pub fn observe(&mut self, duration: Duration) {
        let seconds = duration.as_secs_f64();
        let bucket = FANOUT_BOUNDS
            .iter()
            .position(|bound| seconds <= *bound)
            .unwrap_or(FANOUT_BOUNDS.len());
        self.buckets[bucket] += 1;
        self.sum += seconds;
        self.count += 1;
    }
}

/// Totals since the start, but for `mounts`, `outbox_bytes`, `history_bytes` and `latest_bytes`, which are now.
#[derive(Debug, Default, Clone)]
pub struct Stats {
    pub opened: u64,
    pub closed: u64,
    /// Connections open now, by the number of their mount, up to the last that ever had one.
    pub mounts: Vec<u64>,
    pub messages_in: u64,
    pub bytes_in: u64,
    /// Frames for one connection plus deliveries of broadcasts.
    pub messages_out: u64,
    pub bytes_out: u64,
    pub published: u64,
    pub deliveries: u64,
    pub sends: u64,
    pub short_sends: u64,
    pub outbox_bytes: usize,
    /// What the histories of all topics cost.
    pub history_bytes: usize,
    /// What is kept for those who lag behind on topics of `Delivery::Latest`.
    pub latest_bytes: usize,
    /// Messages forgotten before their time for the bound on all histories.
    pub history_shed: u64,
    /// Connections closed because they did not read under `Delivery::Every`.
    pub slow_closed: u64,
    /// Those of them closed because all outboxes together were over their budget.
    pub budget_closed: u64,
    /// Pings sent to silent connections.
    pub pings: u64,
    /// Messages a lagging reader never got: newer ones of their key replaced them, or it is gone.
    pub conflated: u64,
    /// Messages not sent to a blocked reader under `Delivery::Drop`.
    pub dropped: u64,
    /// Binary messages that a V1 connection cannot be sent.
    pub unencodable: u64,
    pub fanout: Histogram,
    closes: Vec<(u16, u64)>,
}

impl Stats {
    pub fn count_open(&mut self, mount: u16) {
        let mount = usize::from(mount);
        if self.mounts.len() <= mount {
            self.mounts.resize(mount + 1, 0);
        }
        self.mounts[mount] += 1;
        self.opened += 1;
    }

    /// The end of a connection that [`Self::count_open`] has counted.
    pub fn count_end(&mut self, mount: u16) {
        self.mounts[usize::from(mount)] -= 1;
        self.closed += 1;
    }

    pub fn count_close(&mut self, code: u16) {
        match self.closes.iter_mut().find(|(c, _)| *c == code) {
            Some((_, n)) => *n += 1,
            None => self.closes.push((code, 1)),
        }
    }

    /// Close frames sent, by code; the answers to clients' own closes are among them.
    pub fn closes(&self) -> &[(u16, u64)] {
        &self.closes
    }
}
