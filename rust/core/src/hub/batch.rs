//! Bytes of one topic, ready for the wire, shared by every subscriber that speaks the same codec.
//!
//! All messages published to one topic within a loop turn lie in one buffer, frame after frame,
//! so that a connection with nothing else pending takes them in a single `send`.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;

use slotmap::new_key_type;

new_key_type! {
    /// A connection; never reused, so a late answer for a gone connection finds nobody.
    pub struct ConnKey;
    /// A topic with its subscribers.
    pub struct TopicKey;
    /// One connection's channel on one topic, from its join to its end.
    pub struct SubKey;
}

/// How a connection wants its frames. The number indexes every per-codec array.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Codec {
    /// JSON objects, text only (`vsn` absent or 1.0.N).
    PhoenixV1 = 0,
    /// JSON arrays and binary frames (`vsn=2.0.N`).
    PhoenixV2 = 1,
}

pub const CODECS: usize = 2;

/// Turns one message into frames. The hub asks once per codec in use, never per subscriber.
pub trait Encode {
    /// Appends the whole frame (header and payload) to `out`; false when this codec cannot carry
    /// the message, in which case nothing may be appended.
    fn encode(&self, codec: Codec, out: &mut Vec<u8>) -> bool;
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
