//! What waits for one connection's socket: a short queue, bounded in bytes by its owner.
//!
//! In the usual turn the queue holds one piece and lives for microseconds. It grows only while the
//! peer does not read; what happens then is the topic's delivery policy, decided in `flush`.

use std::collections::VecDeque;

use super::batch::Piece;

/// A buffer of own frames past this size is left alone and the next frame starts another, so that a
/// short write never has to hand a transport more than this and one frame.
const PIECE_BYTES: usize = 64 * 1024;

/// Queued pieces, first in first out.
#[derive(Debug, Default)]
pub struct Outbox {
    pieces: VecDeque<Piece>,
    bytes: usize,
}

impl Outbox {
    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Bytes queued, counting shared bytes once per connection: an upper bound of the memory held.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn push(&mut self, piece: Piece) {
        self.bytes += piece.bytes().len();
        self.pieces.push_back(piece);
    }

    /// Appends frames of this connection alone; consecutive ones share one buffer and so one `send`.
    pub fn append(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let last = self.pieces.back_mut();
        if let Some(Piece::Own(bytes)) = last.filter(|piece| piece.bytes().len() < PIECE_BYTES) {
            let before = bytes.len();
            write(bytes);
            self.bytes += bytes.len() - before;
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

    /// Drops everything; returns the bytes dropped.
    pub fn clear(&mut self) -> usize {
        self.pieces = VecDeque::new();
        std::mem::take(&mut self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn consecutive_own_frames_share_a_buffer() {
        let mut outbox = Outbox::default();
        outbox.append(|b| b.extend_from_slice(b"one"));
        outbox.append(|b| b.extend_from_slice(b"two"));
        assert_eq!((outbox.len(), outbox.bytes()), (1, 6));
        assert_eq!(outbox.pop().unwrap().bytes(), b"onetwo");
        assert_eq!(outbox.bytes(), 0);
    }
}
