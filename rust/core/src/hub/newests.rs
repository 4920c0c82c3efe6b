//! A topic's newest messages by key, kept for those who lag behind (see `latest`).
//!
//! By sequence number, so that a laggard is given the next bufferful of a hundred thousand without
//! a look at the others; by key only to find the one that a newer one replaces. A message without
//! a key replaces nothing and is not looked for.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::log::Position;

use super::batch::Codec;
use super::run::{Audience, Key, Run};

/// What one kept message costs beside its key's text and its frames: its places in both maps.
const KEPT_BYTES: usize = 192;

/// The newest message of one key, encoded for every codec in use when it was published.
#[derive(Debug)]
pub(super) struct Newest {
    pub position: Option<Position>,
    pub audience: Audience,
    pub frames: Vec<(Codec, Arc<[u8]>)>,
    bytes: usize,
}

impl Newest {
    pub fn frame(&self, codec: Codec) -> Option<&Arc<[u8]>> {
        let mut frames = self.frames.iter();
        frames.find_map(|(its, frame)| (*its == codec).then_some(frame))
    }
}

/// A topic's newest messages by key, while somebody lags behind on it.
#[derive(Debug, Default)]
pub(super) struct Newests {
    by_seq: BTreeMap<u64, Newest>,
    by_key: HashMap<Key, u64>,
    pub bytes: usize,
}

impl Newests {
    pub fn len(&self) -> usize {
        self.by_seq.len()
    }

    /// What is newer than a sequence number, in order.
    pub fn after(&self, seen: u64) -> impl Iterator<Item = (u64, &Newest)> {
        let newer = self.by_seq.range(seen.saturating_add(1)..);
        newer.map(|(seq, newest)| (*seq, newest))
    }

    /// Keeps a run's messages, but for those whose key has a newer one. Twice is as good as once.
    pub fn keep(&mut self, run: &Run) {
        if run.open.is_some() {
            return; // nobody has been offered it yet
        }
        // From the back: of many messages with one key only the last is copied.
        for mark in run.marks.iter().rev() {
            let replaced = mark.key.as_ref().and_then(|key| self.by_key.get(key));
            if replaced.is_some_and(|seq| *seq >= mark.seq) || self.by_seq.contains_key(&mark.seq) {
                continue;
            }
            if let Some(old) = replaced.and_then(|seq| self.by_seq.remove(seq)) {
                self.bytes -= old.bytes;
            }
            let frame = |(codec, range): &(Codec, std::ops::Range<usize>)| {
                let batch = run.sealed[codec.index()].as_ref()?;
                Some((*codec, batch.bytes[range.clone()].into()))
            };
            let frames: Vec<(Codec, Arc<[u8]>)> = mark.frames.iter().filter_map(frame).collect();
            let bytes = frames.iter().map(|(_, frame)| frame.len()).sum::<usize>()
                + mark.key.as_ref().map_or(0, Key::len)
                + KEPT_BYTES;
            self.bytes += bytes;
            let audience = run.audience.clone();
            self.by_seq.insert(
                mark.seq,
                Newest {
                    position: mark.position,
                    audience,
                    frames,
                    bytes,
                },
            );
            if let Some(key) = &mark.key {
                self.by_key.insert(key.clone(), mark.seq);
            }
        }
    }
}
