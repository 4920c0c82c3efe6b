//! Bytes of one topic, ready for the wire, shared by every subscriber that speaks the same codec.
//!
//! All messages published to one topic within a loop turn lie in one buffer, frame after frame,
//! so that a connection with nothing else pending takes them in a single `send`.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;

use slotmap::new_key_type;

use crate::log::Position;

new_key_type! {
    /// A connection; never reused, so a late answer for a gone connection finds nobody.
    pub struct ConnKey;
    /// A topic with its subscribers.
    pub struct TopicKey;
    /// One connection's channel on one topic, from its join to its end.
    pub struct SubKey;
}

/// How a connection wants its frames. The hub knows no more of a codec than its number, which
/// indexes every per-codec array; whoever gives the numbers away knows how to encode for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Codec(u8);

/// How many codecs there may be. A run holds room for all of them, so this is not generous.
pub const CODECS: usize = 16;

impl Codec {
    /// The codec of a number below [`CODECS`]; None for others.
    pub const fn new(number: u8) -> Option<Self> {
        if (number as usize) < CODECS {
            Some(Self(number))
        } else {
            None
        }
    }

    /// Its number, below [`CODECS`].
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    pub(super) fn all() -> impl Iterator<Item = Self> {
        (0..CODECS).filter_map(|number| Self::new(u8::try_from(number).ok()?))
    }
}

/// Turns one message into frames. The hub asks once per codec in use, never per subscriber.
pub trait Encode {
    /// Appends the whole frame (header and payload) to `out`; false when this codec cannot carry
    /// the message, in which case nothing may be appended. `position` is the message's place in
    /// the log of a topic that keeps one.
    fn encode(&self, codec: Codec, position: Option<Position>, out: &mut Vec<u8>) -> bool;
}

/// Several frames of one topic back to back.
#[derive(Debug, Default)]
pub struct Batch {
    pub bytes: Vec<u8>,
    pub frames: u32,
    /// Where its bytes are counted while anybody holds it.
    pub(super) counted: Option<Arc<AtomicUsize>>,
}

impl Batch {
    /// Counts its bytes in `total` from now until it is gone.
    pub(super) fn count_in(&mut self, total: &Arc<AtomicUsize>) {
        total.fetch_add(self.bytes.len(), Ordering::Relaxed);
        self.counted = Some(Arc::clone(total));
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        if let Some(total) = &self.counted {
            total.fetch_sub(self.bytes.len(), Ordering::Relaxed);
        }
    }
}

/// Something to send: bytes of one connection alone, or a shared batch.
#[derive(Debug)]
pub enum Piece {
    Own(Vec<u8>),
    Shared(Arc<Batch>),
    Newest(Arc<[u8]>),
}

impl Piece {
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Own(bytes) => bytes,
            Self::Shared(batch) => &batch.bytes,
            Self::Newest(frame) => frame,
        }
    }

    /// Bytes that are there for this piece alone. Those of a newest message are bounded with the
    /// topic that keeps it.
    pub fn own_bytes(&self) -> usize {
        match self {
            Self::Own(bytes) => bytes.len(),
            Self::Shared(_) | Self::Newest(_) => 0,
        }
    }
}
