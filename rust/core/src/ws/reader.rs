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
mod tests {
    use super::*;
    use crate::ws::Assembler;
    use proptest::prelude::*;

    const MASK: [u8; 4] = [0x11, 0x22, 0x33, 0x44];

    /// A client's frame.
    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![first];
        match payload.len() {
            short @ 0..=125 => bytes.push(0x80 | u8::try_from(short).unwrap()),
            middle @ 126..=0xffff => {
                bytes.push(0xfe);
                bytes.extend(u16::try_from(middle).unwrap().to_be_bytes());
            }
            long => {
                bytes.push(0xff);
                bytes.extend((long as u64).to_be_bytes());
            }
        }
        bytes.extend(MASK);
        bytes.extend(payload.iter().zip(MASK.iter().cycle()).map(|(b, k)| b ^ k));
        bytes
    }

    type Told = Vec<(Opcode, Vec<u8>)>;

    /// The messages in bytes that come in chunks, up to the first violation.
    fn told(chunks: &[&[u8]], max: usize) -> (Told, Result<(), Violation>) {
        let (mut reader, mut assembler) = (FrameReader::new(), Assembler::new());
        let mut messages = Vec::new();
        for chunk in chunks {
            let mut chunk = chunk.to_vec();
            let mut input = &mut chunk[..];
            loop {
                let room = max - assembler.pending();
                let piece = match reader.next(&mut input, room) {
                    Ok(Some(piece)) => piece,
                    Ok(None) => break,
                    Err(violation) => return (messages, Err(violation)),
                };
                match assembler.push(piece.op, piece.fin, false, &piece.payload, max) {
                    Ok(Some(message)) => messages.push((message.op, message.payload.to_vec())),
                    Ok(None) => {}
                    Err(violation) => return (messages, Err(violation)),
                }
            }
            assert!(input.is_empty(), "all that came is taken");
        }
        (messages, Ok(()))
    }

    #[test]
    fn a_whole_frame_is_passed_on_from_where_it_lies() {
        let mut bytes = frame(0x81, b"hello, whole frame");
        let there = bytes.as_ptr_range();
        let mut reader = FrameReader::new();
        let piece = reader.next(&mut &mut bytes[..], 100).unwrap().unwrap();
        assert_eq!((piece.op, piece.fin), (Opcode::Text, true));
        assert_eq!(&*piece.payload, b"hello, whole frame");
        assert!(
            matches!(piece.payload, Cow::Borrowed(payload) if there.contains(&payload.as_ptr()))
        );
        assert!(reader.partial.is_none());
    }

    #[test]
    fn a_header_is_judged_when_it_is_there_and_before_its_payload() {
        let long = 70_000_u64.to_be_bytes();
        let table: &[(&[u8], &[u8], Violation)] = &[
            (&[0xc1, 0x80], &MASK, Violation::RSV),
            (&[0xa1, 0x80], &MASK, Violation::RSV),
            (&[0x91, 0x80], &MASK, Violation::RSV),
            (&[0x83, 0x80], &MASK, Violation::OPCODE),
            (&[0x8f, 0x80], &MASK, Violation::OPCODE),
            (&[0x81, 0x05], &[], Violation::UNMASKED),
            (&[0x09, 0x80], &MASK, Violation::CONTROL),
            (&[0x89, 0xfe, 0, 126], &MASK, Violation::CONTROL),
            (&[0x89, 0xfe, 0, 5], &MASK, Violation::CONTROL),
            (&[0x82, 0xfe, 0, 125], &MASK, Violation::LENGTH),
            (
                &[0x82, 0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff],
                &MASK,
                Violation::LENGTH,
            ),
            (
                &[0x82, 0xff, 0x80, 0, 0, 0, 0, 1, 0, 0],
                &MASK,
                Violation::LENGTH,
            ),
            (&[0x82, 0xfe, 0x75, 0x31], &MASK, Violation::TOO_BIG),
            (
                &[&[0x02, 0xff], &long[..]].concat(),
                &MASK,
                Violation::TOO_BIG,
            ),
        ];
        for (head, mask, violation) in table {
            let bytes = [*head, *mask].concat();
            assert_eq!(told(&[&bytes], 30_000).1, Err(*violation), "{bytes:?}");
            let single: Vec<&[u8]> = bytes.chunks(1).collect();
            assert_eq!(
                told(&single, 30_000).1,
                Err(*violation),
                "{bytes:?} by bytes"
            );
        }
    }

    #[test]
    fn a_good_frame_in_front_of_a_bad_one_is_told() {
        let bytes = [
            frame(0x81, b"good"),
            frame(0x83, b"bad"),
            frame(0x81, b"late"),
        ]
        .concat();
        let good = vec![(Opcode::Text, b"good".to_vec())];
        assert_eq!(told(&[&bytes], 100), (good, Err(Violation::OPCODE)));
    }

    #[test]
    fn bad_text_is_refused_inside_a_frame_that_is_not_whole() {
        let bytes = frame(0x81, b"0123456789\xffand much that never comes");
        assert_eq!(told(&[&bytes[..6 + 10]], 100), (vec![], Ok(())));
        let (_, outcome) = told(&[&bytes[..6 + 10], &bytes[16..17]], 100);
        assert_eq!(outcome.unwrap_err().code, 1007);
    }

    #[test]
    fn what_a_frame_still_takes_is_known() {
        let mut bytes = frame(0x82, &vec![7; 50_000]);
        let mut reader = FrameReader::new();
        assert_eq!(reader.wants(), 0);
        let (mut first, mut second) = bytes.split_at_mut(1_008);
        assert!(reader.next(&mut first, 50_000).unwrap().is_some());
        assert_eq!(reader.wants(), 49_000);
        assert!(reader.next(&mut second, 50_000).unwrap().unwrap().fin);
        assert_eq!(reader.wants(), 0);
    }

    #[test]
    fn a_close_is_found_behind_whatever_came_before_it() {
        let before = [
            frame(0x81, b"late"),
            frame(0x83, b"no opcode"),
            frame(0xf2, &[8; 300]),
            vec![0x82, 3, b'n', b'o', b'n'], // unmasked
            frame(0x89, b"ping"),
        ];
        let mut bytes = before.concat();
        bytes.extend(frame(0x88, b"\x03\xe8"));
        for size in 1..bytes.len() {
            let mut reader = FrameReader::new();
            let found: Vec<Skimmed> = bytes.chunks(size).map(|c| reader.skim(c)).collect();
            let (last, others) = found.split_last().unwrap();
            assert_eq!(*last, Skimmed::Close, "in chunks of {size}");
            assert!(others.iter().all(|skimmed| *skimmed == Skimmed::Nothing));
        }
        let mut lost = FrameReader::new();
        assert_eq!(
            lost.skim(&[0x82, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4]),
            Skimmed::Nothing
        );
        assert_eq!(lost.skim(&frame(0x88, b"")), Skimmed::Nothing);
    }

    #[test]
    fn a_reader_between_frames_is_one_pointer() {
        assert_eq!(
            std::mem::size_of::<FrameReader>(),
            std::mem::size_of::<usize>()
        );
    }

    fn frames() -> impl Strategy<Value = Vec<(u8, Vec<u8>)>> {
        let first = prop_oneof![
            8 => proptest::sample::select(vec![0x81_u8, 0x01, 0x82, 0x02, 0x80, 0x00, 0x89, 0x8a]),
            1 => any::<u8>(),
        ];
        let payload = prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..140),
            "[a-zé☃🚪]{0,40}".prop_map(String::into_bytes),
        ];
        proptest::collection::vec((first, payload), 0..8)
    }

    proptest! {
        #[test]
        fn however_bytes_are_cut_they_say_the_same(
            frames in frames(),
            sizes in proptest::collection::vec(1_usize..50, 1..20),
        ) {
            let bytes: Vec<u8> = frames.iter().flat_map(|(first, data)| frame(*first, data)).collect();
            let mut rest = &bytes[..];
            let mut chunks = Vec::new();
            for size in sizes.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (chunk, others) = rest.split_at((*size).min(rest.len()));
                chunks.push(chunk);
                rest = others;
            }
            let (whole, cut) = (told(&[&bytes], 300), told(&chunks, 300));
            prop_assert_eq!(whole.0, cut.0);
            prop_assert_eq!(whole.1.map_err(|v| v.code), cut.1.map_err(|v| v.code));
        }
    }
}
