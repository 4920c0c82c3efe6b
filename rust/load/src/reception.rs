//! Counting what a broadcast brings, and proving that nothing of it is missing or out of order.
//!
//! Every tick carries its number and the time it was made. All subscribers receive the same bytes,
//! so a tick is parsed once and each further copy is only compared with the first: a memory
//! comparison of 120 bytes is what checking costs at a million deliveries a second.

use std::io;

use serde_json::{json, Value};

use crate::client::Connection;
use crate::histogram::Histogram;
use crate::sys;
use crate::wire;

const REMEMBERED: u64 = 1024;

#[derive(Default, Clone)]
struct Tick {
    text: Vec<u8>,
    sequence: u64,
    at: u64,
}

/// What the subscribers have received since `begin`.
pub struct Reception {
    ticks: Vec<Tick>,
    pub received: u64,
    /// Numbers that were skipped, numbers that came again or late.
    pub skipped: u64,
    pub disordered: u64,
    /// When the first tick was made and when the last delivery was read, both in nanoseconds.
    pub made: u64,
    pub last: u64,
    /// From the making of a tick to the reading of each copy.
    pub latency: Histogram,
}

impl Default for Reception {
    fn default() -> Self {
        Self {
            ticks: vec![Tick::default(); usize::try_from(REMEMBERED).unwrap_or_default()],
            received: 0,
            skipped: 0,
            disordered: 0,
            made: 0,
            last: 0,
            latency: Histogram::default(),
        }
    }
}

impl Reception {
    fn slot(sequence: u64) -> usize {
        usize::try_from(sequence % REMEMBERED).unwrap_or_default()
    }

    /// Forgets the past. Publishers number from 1 again, so set each `connection.sequence` to 0.
    pub fn begin(&mut self) {
        *self = Self::default();
    }

    /// Takes one frame; replies and other events are none of its business.
    pub fn message(&mut self, connection: &mut Connection, text: &[u8], now: u64) {
        let expected = connection.sequence + 1;
        let tick = &self.ticks[Self::slot(expected)];
        let (sequence, at) = if tick.sequence == expected && tick.text == text {
            (expected, tick.at)
        } else {
            let Some(message) = wire::message(text).filter(|message| message.event == b"tick")
            else {
                return;
            };
            let sequence = wire::integer(message.payload, "seq").unwrap_or(0);
            let at = wire::integer(message.payload, "at").unwrap_or(now);
            self.ticks[Self::slot(sequence)] = Tick {
                text: text.to_vec(),
                sequence,
                at,
            };
            (sequence, at)
        };
        if sequence >= expected {
            self.skipped += sequence - expected;
            connection.sequence = sequence;
        } else {
            self.disordered += 1;
        }
        if self.received == 0 {
            self.made = at;
        }
        self.received += 1;
        self.last = now;
        self.latency.record(now.saturating_sub(at));
    }

    /// From the making of the first tick to the last delivery, in nanoseconds.
    pub fn span(&self) -> u64 {
        self.last.saturating_sub(self.made)
    }

    /// Deliveries, their rate, and what was wrong with them.
    pub fn summary(&self, expected: u64) -> Value {
        json!({
            "deliveries": self.received,
            "missing": expected.saturating_sub(self.received),
            "skipped": self.skipped,
            "disordered": self.disordered,
            "seconds": seconds(self.span()),
            "per_s": rate(self.received, self.span()),
        })
    }
}

/// CPU time of a process, or nothing for process 0.
pub struct Account {
    pid: i32,
    begun: u64,
}

impl Account {
    pub fn begin(pid: i32) -> io::Result<Self> {
        let begun = if pid == 0 {
            0
        } else {
            sys::process_cpu_time(pid)?
        };
        Ok(Self { pid, begun })
    }

    /// Nanoseconds of CPU per thing since `begin`; null when no process was named.
    pub fn per(&self, count: u64) -> io::Result<Value> {
        if self.pid == 0 {
            return Ok(Value::Null);
        }
        let used = sys::process_cpu_time(self.pid)? - self.begun;
        Ok(json!(used / count.max(1)))
    }
}

/// Nanoseconds as seconds.
pub fn seconds(nanoseconds: u64) -> f64 {
    std::time::Duration::from_nanos(nanoseconds).as_secs_f64()
}

/// `count` things in so many nanoseconds, per second, rounded.
pub fn rate(count: u64, nanoseconds: u64) -> u64 {
    let per_second = u128::from(count) * 1_000_000_000 / u128::from(nanoseconds.max(1));
    u64::try_from(per_second).unwrap_or(u64::MAX)
}
