//! What waits for one connection's socket: a short queue, bounded in bytes by its owner.
//!
//! In the usual turn the queue holds one piece and lives for microseconds. It grows only while the
//! peer does not read; what happens then is the topic's delivery policy, decided in `flush`.

use std::collections::VecDeque;

use super::batch::Piece;

/// A buffer of own frames past this size is left alone and the next frame starts another, so that a
/// short write never has to hand a transport more than this and one frame.
const PIECE_BYTES: usize = 64 * 1024;

/// What a place in the queue costs beside the bytes it leads to.
const PLACE_BYTES: usize = std::mem::size_of::<Piece>();

/// Queued pieces, first in first out.
#[derive(Debug, Default)]
pub struct Outbox {
    pieces: VecDeque<Piece>,
    bytes: usize,
    /// Those of its own.
    own: usize,
}

impl Outbox {
    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Bytes queued, counting shared bytes once per connection: an upper bound of the memory held.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Memory that nobody else holds: bytes of its own and the queue itself. Shared bytes are
    /// counted where they are shared.
    pub fn cost(&self) -> usize {
        self.own + self.pieces.len() * PLACE_BYTES
    }

    pub fn push(&mut self, piece: Piece) {
        self.bytes += piece.bytes().len();
        self.own += piece.own_bytes();
        self.pieces.push_back(piece);
    }

    /// Appends frames of this connection alone; consecutive ones share one buffer and so one `send`.
    pub fn append(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let last = self.pieces.back_mut();
        if let Some(Piece::Own(bytes)) = last.filter(|piece| piece.bytes().len() < PIECE_BYTES) {
            let before = bytes.len();
            write(bytes);
            self.bytes += bytes.len() - before;
            self.own += bytes.len() - before;
            return;
        }
        let mut bytes = Vec::with_capacity(128);
        write(&mut bytes);
        if !bytes.is_empty() {
            self.push(Piece::Own(bytes));
        }
    }

    pub fn pop(&mut self) -> Option<Piece> {
        let piece = self.pieces.pop_front()?;
        self.bytes -= piece.bytes().len();
        self.own -= piece.own_bytes();
        if self.pieces.is_empty() && self.pieces.capacity() > 4 {
            // A reader that once lagged must not keep its queue's memory for ever.
            self.pieces = VecDeque::new();
        }
        Some(piece)
    }

    /// The next pieces to send, oldest first.
    pub fn front(&self) -> impl Iterator<Item = &[u8]> {
        self.pieces.iter().map(Piece::bytes)
    }

    pub fn len(&self) -> usize {
        self.pieces.len()
    }
}

/// Outboxes that nobody will send, let go a little at a time.
///
/// A reader that falls behind by a megabyte of small messages holds thousands of pieces, each of
/// them shared with others and cold by then: 0.4 ms to drop. A hundred of them that go over budget
/// on the same message would keep the loop for many slices' time.
#[derive(Debug, Default)]
pub struct Discarded(Vec<VecDeque<Piece>>);

impl Discarded {
    /// Pieces dropped between two looks at the clock; fewer are not worth keeping for later.
    const AT_ONCE: usize = 256;

    /// Empties an outbox; returns the bytes that were queued in it.
    pub fn take(&mut self, outbox: &mut Outbox) -> usize {
        let Outbox { pieces, bytes, .. } = std::mem::take(outbox);
        if pieces.len() > Self::AT_ONCE {
            self.0.push(pieces);
        }
        bytes
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Drops some; false when nothing is left.
    pub fn drop_some(&mut self) -> bool {
        if let Some(pieces) = self.0.last_mut() {
            pieces.truncate(pieces.len().saturating_sub(Self::AT_ONCE));
            if pieces.is_empty() {
                self.0.pop();
            }
        }
        !self.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::hub::Batch;

    #[test]
    fn consecutive_own_frames_share_a_buffer() {
        let mut outbox = Outbox::default();
        outbox.append(|b| b.extend_from_slice(b"one"));
        outbox.append(|b| b.extend_from_slice(b"two"));
        assert_eq!((outbox.len(), outbox.bytes()), (1, 6));
        assert_eq!(outbox.pop().unwrap().bytes(), b"onetwo");
        assert_eq!(outbox.bytes(), 0);
    }

    #[test]
    fn a_long_outbox_is_let_go_in_parts_and_its_bytes_are_counted_off_at_once() {
        let mut batch = Batch::default();
        batch.bytes.resize(10, 0);
        let batch = Arc::new(batch);
        let (mut outbox, mut discarded) = (Outbox::default(), Discarded::default());
        for _ in 0..1000 {
            outbox.push(Piece::Shared(batch.clone()));
        }
        assert_eq!(discarded.take(&mut outbox), 10_000);
        assert_eq!((outbox.len(), outbox.bytes()), (0, 0));
        let mut held = vec![Arc::strong_count(&batch)];
        while discarded.drop_some() {
            held.push(Arc::strong_count(&batch));
        }
        assert_eq!(held, [1001, 745, 489, 233]);
        assert_eq!(Arc::strong_count(&batch), 1);
    }
}
