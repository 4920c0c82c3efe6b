//! A topic's newest messages by key, kept for those who lag behind (see `latest`).

use std::collections::HashMap;
use std::sync::Arc;

use super::batch::Codec;
use super::run::{Audience, Run};

/// What one kept key costs beside its text and frames.
const KEY_BYTES: usize = 128;

/// The newest message of one key, encoded for every codec in use when it was published.
#[derive(Debug)]
pub(super) struct Newest {
    pub seq: u64,
    pub audience: Audience,
    pub frames: Vec<(Codec, Arc<[u8]>)>,
}

impl Newest {
    fn bytes(&self, key: &str) -> usize {
        let frames: usize = self.frames.iter().map(|(_, frame)| frame.len()).sum();
        key.len() + KEY_BYTES + frames
    }

    pub fn frame(&self, codec: Codec) -> Option<&Arc<[u8]>> {
        let mut frames = self.frames.iter();
        frames.find_map(|(its, frame)| (*its == codec).then_some(frame))
    }
}

/// A topic's newest messages by key, while somebody lags behind on it.
#[derive(Debug, Default)]
pub(super) struct Newests {
    pub by_key: HashMap<Box<str>, Newest>,
    pub bytes: usize,
}

impl Newests {
    pub fn len(&self) -> usize {
        self.by_key.len()
    }

    /// Keeps a run's messages, but for those whose key has a newer one. Twice is as good as once.
    pub fn keep(&mut self, run: &Run) {
        if run.open.is_some() {
            return; // nobody has been offered it yet
        }
        // From the back: of many messages with one key only the last is copied.
        for mark in run.marks.iter().rev() {
            let before = match self.by_key.get(&mark.key) {
                Some(newest) if newest.seq >= mark.seq => continue,
                Some(newest) => newest.bytes(&mark.key),
                None => 0,
            };
            let frame = |(codec, range): &(Codec, std::ops::Range<usize>)| {
                let batch = run.sealed[codec.index()].as_ref()?;
                Some((*codec, batch.bytes[range.clone()].into()))
            };
            let newest = Newest {
                seq: mark.seq,
                audience: run.audience.clone(),
                frames: mark.frames.iter().filter_map(frame).collect(),
            };
            self.bytes = self.bytes - before + newest.bytes(&mark.key);
            self.by_key.insert(mark.key.clone(), newest);
        }
    }
}
