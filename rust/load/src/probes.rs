//! A neighbour's heartbeats: what a client that does nothing notices of a busy server.
//!
//! Probes send by the clock and not after the answer, so a server that pauses for 100 ms is charged
//! with every heartbeat of that pause and not with one.

use std::time::Duration;

use serde_json::Value;

use crate::histogram::Histogram;
use crate::swarm::{nanoseconds, Swarm};
use crate::sys;
use crate::wire;

const OUTSTANDING: usize = 8192;

/// Heartbeats of one group of connections.
pub struct Probes {
    group: usize,
    first: usize,
    count: usize,
    every: u64,
    next: u64,
    sent: u64,
    answered: u64,
    /// By number: when it left and in which phase.
    times: Vec<(u64, usize)>,
    phases: Vec<Histogram>,
    /// Sends no more.
    pub stopped: bool,
    /// Where heartbeats that leave now are counted.
    pub phase: usize,
}

impl Probes {
    /// `count` connections of `group`, the first being number `first`, each sending one heartbeat
    /// per `period`, evenly spread.
    pub fn new(group: usize, first: usize, count: usize, period: Duration, phases: usize) -> Self {
        Self {
            group,
            first,
            count,
            every: nanoseconds(period) / (count.max(1) as u64),
            next: 0,
            sent: 0,
            answered: 0,
            times: vec![(0, 0); OUTSTANDING],
            phases: vec![Histogram::default(); phases],
            stopped: false,
            phase: 0,
        }
    }

    pub fn group(&self) -> usize {
        self.group
    }

    /// Sends what is due; returns the time until the next.
    pub fn tick(&mut self, swarm: &mut Swarm) -> Duration {
        if self.count == 0 || self.stopped {
            return Duration::MAX;
        }
        let mut now = sys::now();
        if self.next == 0 {
            self.next = now;
        }
        while self.next <= now {
            let number = usize::try_from(self.sent).unwrap_or_default();
            let text = format!(r#"[null,"{:08}","phoenix","heartbeat",{{}}]"#, self.sent);
            self.times[number % OUTSTANDING] = (now, self.phase);
            swarm.send(self.first + number % self.count, text.as_bytes());
            self.sent += 1;
            self.next += self.every.max(1);
            now = sys::now();
            // After a pause of our own, go on from here: a burst of late heartbeats is no neighbour.
            if now.saturating_sub(self.next) > 10_000_000 {
                self.next = now;
            }
        }
        Duration::from_nanos(self.next - now)
    }

    pub fn message(&mut self, text: &[u8], now: u64) {
        let Some(number) = wire::message(text).and_then(|reply| wire::number(reply.reference))
        else {
            return;
        };
        let slot = usize::try_from(number).unwrap_or_default() % OUTSTANDING;
        let (at, phase) = self.times[slot];
        self.answered += 1;
        self.phases[phase].record(now.saturating_sub(at));
    }

    /// Heartbeats sent and not answered yet.
    pub fn unanswered(&self) -> u64 {
        self.sent - self.answered
    }

    pub fn summary(&self, phase: usize) -> Value {
        self.phases[phase].summary()
    }
}
