//! A run: messages of one topic for one audience, published one after the other.

use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use slotmap::SlotMap;

use crate::log::Position;

use super::batch::{Batch, Codec, SubKey, TopicKey, CODECS};
use super::budget::Ledger;
use super::stamp::Frame;
use super::sub::Sub;

/// Bytes in one run before the next message starts another: bounds what one reader is handed at once.
pub(super) const RUN_BYTES: usize = 64 * 1024;

/// Who of a topic's members a message is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Audience {
    /// The channel that must not get it (`broadcast_from`).
    pub exclude: SubKey,
    /// Set when somebody intercepts this event: such members are skipped.
    pub intercepted: Option<Arc<str>>,
}

impl Audience {
    pub fn includes<S>(&self, key: SubKey, subs: &SlotMap<SubKey, Sub<S>>) -> bool {
        if key == self.exclude {
            return false;
        }
        let Some(event) = &self.intercepted else {
            return true;
        };
        !subs.get(key).is_some_and(|sub| sub.intercepts(event))
    }

    fn is(&self, exclude: SubKey, intercepted: Option<&str>) -> bool {
        self.exclude == exclude && self.intercepted.as_deref() == intercepted
    }
}

/// What one message of a `latest` topic replaces and is replaced by.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Key {
    /// What the publisher said, the string its topic's pointer leads to, or the event's name.
    Text(Box<str>),
    /// The JSON text its topic's pointer leads to, where that is no string: `1` is not `"1"`.
    Value(Box<str>),
}

impl Key {
    pub fn len(&self) -> usize {
        match self {
            Self::Text(text) | Self::Value(text) => text.len(),
        }
    }
}

/// Where one message lies in its run, for each codec it was encoded for.
#[derive(Debug)]
pub(super) struct Mark {
    /// What a `latest` topic conflates by. None replaces nothing.
    pub key: Option<Key>,
    pub seq: u64,
    pub position: Option<Position>,
    pub frames: Vec<(Codec, Range<usize>)>,
}

/// Messages of one topic published one after the other.
#[derive(Debug)]
pub(super) struct Run {
    pub topic: TopicKey,
    pub audience: Audience,
    pub open: Option<Box<[Batch; CODECS]>>,
    pub sealed: [Option<Arc<Batch>>; CODECS],
    /// The topic's sequence number before the first message.
    pub seq: u64,
    /// Where the messages lie, on a topic of `Delivery::Latest` or with a stamped subscriber.
    pub marks: Vec<Mark>,
    pub bytes: usize,
    /// The next member to serve.
    pub cursor: usize,
    pub since: Instant,
}

impl Mark {
    pub fn frame(&self, codec: Codec) -> Option<Frame> {
        let mut frames = self.frames.iter();
        let (_, range) = frames.find(|(its, _)| *its == codec)?;
        Some((self.position, range.clone()))
    }
}

impl Run {
    pub fn seal(&mut self, ledger: &mut Ledger) {
        if let Some(open) = self.open.take() {
            self.sealed = open.map(|mut batch| {
                (batch.frames > 0).then(|| {
                    batch.count_in(&ledger.batches);
                    Arc::new(batch)
                })
            });
            ledger.queued += self.sealed_bytes();
        }
    }

    /// Bytes of its frames, once it is sealed.
    pub fn sealed_bytes(&self) -> usize {
        let batches = self.sealed.iter().flatten();
        batches.map(|batch| batch.bytes.len()).sum()
    }

    pub fn takes(&self, topic: TopicKey, exclude: SubKey, intercepted: Option<&str>) -> bool {
        self.open.is_some()
            && self.topic == topic
            && self.audience.is(exclude, intercepted)
            && self.bytes < RUN_BYTES
    }
}
