//! Headers, payloads and closes, however their bytes are cut.

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
    assert!(matches!(piece.payload, Cow::Borrowed(payload) if there.contains(&payload.as_ptr())));
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
