//! Bytes into frames: headers read, payloads unmasked in place, however the bytes are cut.
//!
//! The driver reads into a buffer that all connections share and hands over what came. A frame that
//! lies whole in it, which is nearly every frame, is passed on from where it lies. Of one that does
//! not, each part of the payload is passed on as it comes, as a fragment of its own: fragments and
//! parts of frames are the same to [`super::Assembler`], so a text is judged at its first bad byte
//! and a connection between two frames keeps nothing.
//!
//! Header rules are RFC 6455 section 5.2 and 5.5. They are judged when the header is there, before
//! any of the payload has come.

// What is read is taken off the front of a slice that somebody else owns.
#![allow(clippy::mut_mut)]

use std::borrow::Cow;

use super::assembler::Violation;
use super::{Opcode, MAX_CONTROL};

/// Two bytes, a 64-bit length, a mask.
const LONGEST_HEADER: usize = 14;

/// A frame, or a part of one.
#[derive(Debug, PartialEq, Eq)]
pub struct Piece<'a> {
    /// [`Opcode::Continuation`] for all parts of a frame but the first.
    pub op: Opcode,
    /// Set on the last part of a frame that had it set.
    pub fin: bool,
    /// Borrowed from the input but for a control frame that came in parts.
    pub payload: Cow<'a, [u8]>,
}

/// What bytes that are not to be read any more had in them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Skimmed {
    /// No close frame.
    Nothing,
    /// A close frame, the answer to ours.
    Close,
}

/// Finds the frames in one connection's bytes. One pointer wide between frames.
#[derive(Debug, Default)]
pub struct FrameReader {
    partial: Option<Box<Partial>>,
}

#[derive(Debug)]
struct Partial {
    /// When somebody first looked at it.
    seen_ms: Option<u64>,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    Header {
        bytes: [u8; LONGEST_HEADER],
        len: usize,
    },
    Payload(Payload),
    /// The header was beyond understanding: nothing that follows has a meaning.
    Lost,
}

/// The rest of a payload.
#[derive(Debug)]
struct Payload {
    op: Opcode,
    fin: bool,
    mask: [u8; 4],
    left: u64,
    /// What is there of a control frame: those are passed on whole.
    control: Vec<u8>,
}

/// A header as it stands on the wire.
struct Header {
    first: u8,
    mask: Option<[u8; 4]>,
    len: u64,
    minimal: bool,
    size: usize,
}

impl FrameReader {
    pub const fn new() -> Self {
        Self { partial: None }
    }

    /// Bytes of the frame begun that are still to come; 0 between frames and inside a header.
    pub fn wants(&self) -> u64 {
        match self.partial.as_deref() {
            Some(Partial {
                stage: Stage::Payload(payload),
                ..
            }) => payload.left,
            _ => 0,
        }
    }

    /// A time, in the caller's milliseconds, by which the unfinished frame had begun: that of the
    /// first call that found it. None between frames.
    pub fn begun_by(&mut self, now_ms: u64) -> Option<u64> {
        let partial = self.partial.as_mut()?;
        Some(*partial.seen_ms.get_or_insert(now_ms))
    }

    /// The next piece, taken off the front of `input`, or `None` when `input` is used up.
    ///
    /// `room` bounds the payload of a data frame.
    ///
    /// # Errors
    /// [`Violation`] with 1002 for reserved bits or opcodes, a missing mask, a length not in its
    /// shortest form and a malformed control frame; 1009 for a payload past `room`. Close the
    /// connection; what follows may still be given to [`Self::skim`].
    pub fn next<'a>(
        &mut self,
        input: &mut &'a mut [u8],
        room: usize,
    ) -> Result<Option<Piece<'a>>, Violation> {
        if self.partial.is_some() {
            return self.go_on(input, room);
        }
        let Some(header) = Header::read(input) else {
            self.keep_header(input);
            take(input, input.len());
            return Ok(None);
        };
        let size = header.size;
        take(input, size);
        self.begin(&header, input, room)
    }

    /// As [`Self::next`] once a close has been sent: looks for the client's, reads nothing else.
    pub fn skim(&mut self, mut input: &[u8]) -> Skimmed {
        loop {
            let rest = match self
                .partial
                .as_deref_mut()
                .map(|partial| &mut partial.stage)
            {
                Some(Stage::Lost) => return Skimmed::Nothing,
                Some(Stage::Payload(payload)) => {
                    let there = shorter(payload.left, input.len());
                    payload.left -= there as u64;
                    if payload.left > 0 {
                        return Skimmed::Nothing;
                    }
                    let closes = payload.op == Opcode::Close;
                    self.partial = None;
                    if closes {
                        return Skimmed::Close;
                    }
                    &input[there..]
                }
                Some(Stage::Header { bytes, len }) => {
                    let Some(header) = Header::complete(bytes, len, &mut input) else {
                        return Skimmed::Nothing;
                    };
                    self.pass_over(&header);
                    input
                }
                None => {
                    if input.is_empty() {
                        return Skimmed::Nothing;
                    }
                    let Some(header) = Header::read(input) else {
                        self.keep_header(input);
                        return Skimmed::Nothing;
                    };
                    self.pass_over(&header);
                    &input[header.size..]
                }
            };
            input = rest;
        }
    }

    fn go_on<'a>(
        &mut self,
        input: &mut &'a mut [u8],
        room: usize,
    ) -> Result<Option<Piece<'a>>, Violation> {
        let Some(partial) = self.partial.as_deref_mut() else {
            return Ok(None);
        };
        match &mut partial.stage {
            Stage::Lost => {
                take(input, input.len());
                Ok(None)
            }
            Stage::Header { bytes, len } => {
                let mut rest: &[u8] = input;
                let before = rest.len();
                let header = Header::complete(bytes, len, &mut rest);
                let used = before - rest.len();
                take(input, used);
                match header {
                    Some(header) => self.begin(&header, input, room),
                    None => Ok(None),
                }
            }
            Stage::Payload(payload) => {
                if input.is_empty() {
                    return Ok(None);
                }
                let there = shorter(payload.left, input.len());
                let part = take(input, there);
                unmask(part, payload.mask);
                payload.mask.rotate_left(there % 4);
                payload.left -= there as u64;
                let (op, over) = (payload.op, payload.left == 0);
                if op.is_control() {
                    payload.control.extend_from_slice(part);
                    if !over {
                        return Ok(None);
                    }
                    let whole = std::mem::take(&mut payload.control);
                    self.partial = None;
                    return Ok(Some(Piece {
                        op,
                        fin: true,
                        payload: Cow::Owned(whole),
                    }));
                }
                let fin = over && payload.fin;
                if over {
                    self.partial = None;
                }
                Ok(Some(Piece {
                    op: Opcode::Continuation,
                    fin,
                    payload: Cow::Borrowed(part),
                }))
            }
        }
    }

    /// A header is there; passes on what is there of its payload.
    fn begin<'a>(
        &mut self,
        header: &Header,
        input: &mut &'a mut [u8],
        room: usize,
    ) -> Result<Option<Piece<'a>>, Violation> {
        let (op, mask) = match header.judge(room) {
            Ok(judged) => judged,
            Err(violation) => {
                self.pass_over(header);
                return Err(violation);
            }
        };
        let fin = header.first & 0x80 != 0;
        let there = shorter(header.len, input.len());
        let part = take(input, there);
        unmask(part, mask);
        let left = header.len - there as u64;
        if left == 0 {
            self.partial = None;
            return Ok(Some(Piece {
                op,
                fin,
                payload: Cow::Borrowed(part),
            }));
        }
        let mut rest = mask;
        rest.rotate_left(there % 4);
        let control = op.is_control();
        self.set(Stage::Payload(Payload {
            op,
            fin,
            mask: rest,
            left,
            control: if control { part.to_vec() } else { Vec::new() },
        }));
        if control {
            return Ok(None);
        }
        Ok(Some(Piece {
            op,
            fin: false,
            payload: Cow::Borrowed(part),
        }))
    }

    /// Expects a header's payload without caring what it is.
    fn pass_over(&mut self, header: &Header) {
        if header.len >> 63 != 0 {
            self.set(Stage::Lost);
            return;
        }
        self.set(Stage::Payload(Payload {
            // One of the reserved opcodes is passed over like any other but a close.
            op: Opcode::from_wire(header.first & 0x0f).unwrap_or(Opcode::Continuation),
            fin: true,
            mask: [0; 4],
            left: header.len,
            control: Vec::new(),
        }));
    }

    fn keep_header(&mut self, input: &[u8]) {
        if input.is_empty() {
            return;
        }
        let mut bytes = [0; LONGEST_HEADER];
        bytes[..input.len()].copy_from_slice(input);
        self.set(Stage::Header {
            bytes,
            len: input.len(),
        });
    }

    fn set(&mut self, stage: Stage) {
        match self.partial.as_deref_mut() {
            Some(partial) => partial.stage = stage,
            None => {
                self.partial = Some(Box::new(Partial {
                    seen_ms: None,
                    stage,
                }));
            }
        }
    }
}

impl Header {
    /// Reads a header off the front; None when there is less than one.
    fn read(bytes: &[u8]) -> Option<Self> {
        let [first, second, rest @ ..] = bytes else {
            return None;
        };
        let (len, minimal, width) = match second & 0x7f {
            126 => {
                let (number, _) = rest.split_first_chunk()?;
                let len = u64::from(u16::from_be_bytes(*number));
                (len, len > 125, 2)
            }
            127 => {
                let (number, _) = rest.split_first_chunk()?;
                let len = u64::from_be_bytes(*number);
                (len, len > 0xffff && len >> 63 == 0, 8)
            }
            short => (u64::from(short), true, 0),
        };
        let masked = second & 0x80 != 0;
        let mask = if masked {
            Some(*rest[width..].first_chunk()?)
        } else {
            None
        };
        Some(Self {
            first: *first,
            mask,
            len,
            minimal,
            size: 2 + width + if masked { 4 } else { 0 },
        })
    }

    /// Adds bytes of `input` to a header begun until it is whole.
    fn complete(
        bytes: &mut [u8; LONGEST_HEADER],
        len: &mut usize,
        input: &mut &[u8],
    ) -> Option<Self> {
        loop {
            if let Some(header) = Self::read(&bytes[..*len]) {
                return Some(header);
            }
            let (next, rest) = input.split_first()?;
            bytes[*len] = *next;
            *len += 1;
            *input = rest;
        }
    }

    fn judge(&self, room: usize) -> Result<(Opcode, [u8; 4]), Violation> {
        if self.first & 0x70 != 0 {
            return Err(Violation::RSV);
        }
        let op = Opcode::from_wire(self.first & 0x0f).ok_or(Violation::OPCODE)?;
        let mask = self.mask.ok_or(Violation::UNMASKED)?;
        if op.is_control() {
            if self.first & 0x80 == 0 || self.len > MAX_CONTROL as u64 || !self.minimal {
                return Err(Violation::CONTROL);
            }
        } else if !self.minimal {
            return Err(Violation::LENGTH);
        } else if self.len > room as u64 {
            return Err(Violation::TOO_BIG);
        }
        Ok((op, mask))
    }
}

fn shorter(wanted: u64, there: usize) -> usize {
    usize::try_from(wanted).map_or(there, |wanted| wanted.min(there))
}

fn take<'a>(input: &mut &'a mut [u8], size: usize) -> &'a mut [u8] {
    let (front, rest) = std::mem::take(input).split_at_mut(size);
    *input = rest;
    front
}

/// Undoes the mask in place. Eight bytes at a time, which the compiler makes vectors of.
fn unmask(payload: &mut [u8], mask: [u8; 4]) {
    let wide = u64::from_ne_bytes([
        mask[0], mask[1], mask[2], mask[3], mask[0], mask[1], mask[2], mask[3],
    ]);
    let mut chunks = payload.chunks_exact_mut(8);
    for chunk in &mut chunks {
        let mut eight = [0; 8];
        eight.copy_from_slice(chunk);
        chunk.copy_from_slice(&(u64::from_ne_bytes(eight) ^ wide).to_ne_bytes());
    }
    for (byte, key) in chunks.into_remainder().iter_mut().zip(mask.iter().cycle()) {
        *byte ^= key;
    }
}

#[cfg(test)]
mod tests;
