//! A topic's newest messages by key, kept for those who lag behind (see `latest`).

use std::collections::HashMap;
use std::sync::Arc;

use super::batch::CODECS;
use super::run::{Audience, Run};

/// What one kept key costs beside its text and frames.
const KEY_BYTES: usize = 128;

/// The newest message of one key, encoded for every codec in use when it was published.
#[derive(Debug)]
pub(super) struct Newest {
    pub seq: u64,
    pub audience: Audience,
    pub frames: [Option<Arc<[u8]>>; CODECS],
}

impl Newest {
    fn bytes(&self, key: &str) -> usize {
        let frames: usize = self.frames.iter().flatten().map(|frame| frame.len()).sum();
        key.len() + KEY_BYTES + frames
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
            let frame = |codec: usize| {
                let batch = run.sealed[codec].as_ref()?;
                let bytes = &batch.bytes[mark.frames[codec].clone()];
                (!bytes.is_empty()).then(|| bytes.into())
            };
            let newest = Newest {
                seq: mark.seq,
                audience: run.audience.clone(),
                frames: std::array::from_fn(frame),
            };
            self.bytes = self.bytes - before + newest.bytes(&mark.key);
            self.by_key.insert(mark.key.clone(), newest);
        }
    }
}
