//! The last messages of a topic, numbered, for clients that come back.
//!
//! An `offset` counts a topic's messages, from 1 and without holes; an `epoch` names one life of the
//! topic. A client that shows an old epoch, or an offset that has left the ring, has a gap and is told
//! so; anything else is recovered exactly. Bounded by count, age and bytes, whichever is reached
//! first; `hub/keeping` bounds the histories of all topics together.
//!
//! A *durable* topic's log lies in the driver's store, which gives its messages their numbers; what is
//! here is the newest part of it ([`History::open`], [`History::push_at`]). Where that does not reach
//! back far enough, the driver is asked for older pieces, down to [`History::floor`].

mod record;

use std::collections::VecDeque;
use std::sync::Arc;

pub use record::Record;

/// What a kept message costs beside its event and payload: its place in the ring, two shared
/// allocations and their rounding. Without it a million empty messages would count as nothing.
pub const MESSAGE_BYTES: usize = 128;

/// A message's place in its topic: the same numbers on every transport.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Position {
    /// Names one life of the topic: at most 2^53, so that every JSON reader holds it exactly.
    pub epoch: u64,
    /// Counts the topic's messages from 1; 0 is before the first.
    pub offset: u64,
}

/// One kept message: what recovery encodes again for whoever asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    pub offset: u64,
    pub at_ms: u64,
    pub event: Arc<str>,
    pub payload: Arc<[u8]>,
    pub binary: bool,
}

impl Kept {
    fn bytes(&self) -> usize {
        self.event.len() + self.payload.len() + MESSAGE_BYTES
    }
}

/// Bounds of a ring; `size` 0 keeps nothing. `bytes` counts events, payloads and
/// [`MESSAGE_BYTES`] per message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    pub size: usize,
    pub ttl_ms: u64,
    pub bytes: usize,
}

#[derive(Debug)]
pub struct History {
    epoch: u64,
    next: u64,
    limits: Limits,
    bytes: usize,
    ring: VecDeque<Kept>,
    /// The first offset the driver's store still has; 0 where there is no store.
    floor: u64,
}

/// Why a client cannot be given what it missed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gap {
    /// It speaks of another life of the topic.
    Epoch,
    /// Some of what it missed is not kept any more.
    Expired,
    /// It has seen more than there was.
    Ahead,
}

impl Gap {
    /// A stable word, for clients and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Epoch => "epoch",
            Self::Expired => "expired",
            Self::Ahead => "ahead",
        }
    }
}

/// What a client that has seen everything up to an offset still misses.
#[derive(Debug, PartialEq, Eq)]
pub enum Recovery<'a> {
    /// Every missed message, oldest first; empty when none was missed.
    Complete(Vec<&'a Kept>),
    /// Some are gone: the client must start afresh.
    Gap,
}

impl History {
    pub fn new(epoch: u64, limits: Limits) -> Self {
        Self {
            epoch,
            next: 1,
            limits,
            bytes: 0,
            ring: VecDeque::new(),
            floor: 0,
        }
    }

    /// Says where the log stands in the driver's store, which has the offsets from `floor` on. What
    /// is here already is newer than any such word, and stays.
    pub fn open(&mut self, position: Position, floor: u64) {
        self.go_to(position);
        self.floor = floor.max(1);
    }

    /// Leaves out whatever stands between the newest message here and a position.
    fn go_to(&mut self, position: Position) {
        if self.epoch != position.epoch || self.next <= position.offset {
            self.ring.clear();
            self.bytes = 0;
            self.epoch = position.epoch;
            self.next = position.offset + 1;
        }
    }

    /// The first offset that is in the driver's store; 0 where there is none.
    pub fn floor(&self) -> u64 {
        self.floor
    }

    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Where the topic stands: the position of its newest message.
    pub fn position(&self) -> Position {
        Position {
            epoch: self.epoch,
            offset: self.offset(),
        }
    }

    /// The offset of the newest message; 0 before the first.
    pub fn offset(&self) -> u64 {
        self.next - 1
    }

    pub fn len(&self) -> usize {
        self.ring.len()
    }

    pub fn is_empty(&self) -> bool {
        self.ring.is_empty()
    }

    /// What the kept messages cost, as [`Limits`] counts it.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Every kept message, oldest first.
    pub fn all(&self) -> impl Iterator<Item = &Kept> {
        self.ring.iter()
    }

    /// Keeps a message that the driver's store has numbered; false for one that is here already.
    pub fn push_at(
        &mut self,
        position: Position,
        event: &str,
        payload: &[u8],
        binary: bool,
        now_ms: u64,
    ) -> bool {
        if position.epoch == self.epoch && position.offset < self.next {
            return false;
        }
        let before = Position {
            offset: position.offset - 1,
            ..position
        };
        self.go_to(before);
        self.push(event, payload, binary, now_ms);
        true
    }

    /// Numbers a message and keeps it within the limits; returns its offset.
    pub fn push(&mut self, event: &str, payload: &[u8], binary: bool, now_ms: u64) -> u64 {
        let offset = self.next;
        self.next += 1;
        if self.limits.size > 0 {
            let kept = Kept {
                offset,
                at_ms: now_ms,
                event: event.into(),
                payload: payload.into(),
                binary,
            };
            self.bytes += kept.bytes();
            self.ring.push_back(kept);
        }
        self.expire(now_ms);
        offset
    }

    /// Drops what is too many, too old or too large.
    pub fn expire(&mut self, now_ms: u64) {
        while let Some(oldest) = self.ring.front() {
            let old = now_ms.saturating_sub(oldest.at_ms) > self.limits.ttl_ms;
            if self.ring.len() <= self.limits.size && self.bytes <= self.limits.bytes && !old {
                break;
            }
            self.forget_oldest();
        }
    }

    /// Forgets the oldest message; false when there is none.
    pub fn forget_oldest(&mut self) -> bool {
        let Some(oldest) = self.ring.pop_front() else {
            return false;
        };
        self.bytes -= oldest.bytes();
        if self.ring.is_empty() {
            self.ring = VecDeque::new();
        }
        true
    }

    /// Everything after a position.
    pub fn since(&self, position: Position) -> Recovery<'_> {
        match self.missed(position) {
            Ok(_) => Recovery::Complete(self.after(position.offset).collect()),
            Err(_) => Recovery::Gap,
        }
    }

    /// How many messages came after a position, all of them kept here or in the driver's store.
    ///
    /// # Errors
    /// [`Gap`].
    pub fn missed(&self, position: Position) -> Result<u64, Gap> {
        if position.epoch != self.epoch {
            return Err(Gap::Epoch);
        }
        let missed = self.offset().checked_sub(position.offset);
        let missed = missed.ok_or(Gap::Ahead)?;
        if !self.holds(position.offset + 1) && (self.floor == 0 || position.offset + 1 < self.floor)
        {
            return Err(Gap::Expired);
        }
        Ok(missed)
    }

    /// Whether everything from an offset on is kept here.
    pub fn holds(&self, offset: u64) -> bool {
        offset + self.ring.len() as u64 >= self.next
    }

    /// The offset after which the kept messages of the last `age_ms` stand.
    pub fn since_age(&self, age_ms: u64, now_ms: u64) -> u64 {
        let older = |kept: &Kept| now_ms.saturating_sub(kept.at_ms) > age_ms;
        let first = self.next - self.ring.len() as u64;
        first + self.ring.partition_point(older) as u64 - 1
    }

    /// The kept messages behind an offset, oldest first: at most `count` of at most `bytes` of
    /// payload together, one at least where there is one.
    pub fn page(&self, offset: u64, count: usize, bytes: usize) -> impl Iterator<Item = &Kept> {
        let mut taken = None::<usize>;
        self.after(offset).take(count).take_while(move |kept| {
            let sum = taken.map_or(kept.payload.len(), |sum| sum + kept.payload.len());
            let fits = taken.is_none() || sum <= bytes;
            taken = Some(sum);
            fits
        })
    }

    /// The kept messages behind an offset, oldest first.
    pub fn after(&self, offset: u64) -> impl Iterator<Item = &Kept> {
        let behind = self.offset().saturating_sub(offset);
        let behind = usize::try_from(behind).unwrap_or(usize::MAX);
        self.ring
            .iter()
            .skip(self.ring.len().saturating_sub(behind))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        size: 3,
        ttl_ms: 1000,
        bytes: 100 + 3 * MESSAGE_BYTES,
    };

    fn offsets(recovery: &Recovery<'_>) -> Option<Vec<u64>> {
        match recovery {
            Recovery::Complete(kept) => Some(kept.iter().map(|k| k.offset).collect()),
            Recovery::Gap => None,
        }
    }

    fn at(epoch: u64, offset: u64) -> Position {
        Position { epoch, offset }
    }

    #[test]
    fn what_was_missed_comes_back_in_order_and_nothing_else() {
        let mut h = History::new(7, LIMITS);
        for n in 0..5u8 {
            h.push("e", &[n], false, 0);
        }
        assert_eq!(offsets(&h.since(at(7, 3))), Some(vec![4, 5]));
        assert_eq!(offsets(&h.since(at(7, 2))), Some(vec![3, 4, 5]));
        assert_eq!(offsets(&h.since(at(7, 5))), Some(vec![]));
    }

    #[test]
    fn an_old_epoch_a_lost_offset_and_a_future_offset_are_gaps() {
        let mut h = History::new(7, LIMITS);
        for n in 0..5u8 {
            h.push("e", &[n], false, 0);
        }
        assert_eq!(offsets(&h.since(at(6, 4))), None);
        assert_eq!(offsets(&h.since(at(7, 1))), None);
        assert_eq!(offsets(&h.since(at(7, 6))), None);
    }

    #[test]
    fn age_and_bytes_bound_the_ring_too() {
        let mut h = History::new(1, LIMITS);
        h.push("e", &[0; 300], false, 0);
        h.push("e", &[0; 300], false, 0);
        assert_eq!((h.len(), h.bytes()), (1, 301 + MESSAGE_BYTES));
        h.expire(1001);
        assert!(h.is_empty());
        assert_eq!(h.bytes(), 0);
        assert_eq!(h.offset(), 2);
        assert_eq!(offsets(&h.since(at(1, 2))), Some(vec![]));
    }

    #[test]
    fn a_page_holds_what_fits_its_bounds_and_one_message_at_least() {
        let mut h = History::new(1, LIMITS);
        for n in 1..=3u8 {
            h.push("e", &[0; 10], false, u64::from(n) * 100);
        }
        let page = |after, count, bytes| {
            let page = h.page(after, count, bytes);
            page.map(|kept| kept.offset).collect::<Vec<_>>()
        };
        assert_eq!(page(0, 9, 100), [1, 2, 3]);
        assert_eq!(page(0, 2, 100), [1, 2]);
        assert_eq!(page(1, 9, 20), [2, 3]);
        assert_eq!(page(0, 9, 29), [1, 2]);
        assert_eq!(page(1, 9, 1), [2]);
        assert!(page(3, 9, 100).is_empty());
        assert_eq!((h.since_age(400, 500), h.since_age(399, 500)), (0, 1));
        assert_eq!((h.since_age(200, 500), h.since_age(0, 500)), (2, 3));
    }

    #[test]
    fn a_long_event_counts_as_a_long_payload_does_and_an_empty_message_as_something() {
        let limits = Limits {
            bytes: 2 * MESSAGE_BYTES + 100,
            ..LIMITS
        };
        let mut h = History::new(1, limits);
        h.push(&"e".repeat(60), b"", false, 0);
        h.push(&"e".repeat(60), b"", false, 0);
        assert_eq!(h.len(), 1);
        for _ in 0..3 {
            h.push("", b"", false, 0);
        }
        assert_eq!(h.len(), 2);
    }
}
