//! WebSocket framing, the server's half: headers out, fragments together, close codes.
//!
//! In: [`FrameReader`] finds frames in bytes, [`Assembler`] makes messages of frames. What RFC 6455
//! leaves to judgement, what to refuse and with which code, follows Bandit, the server under
//! Phoenix, so that a client's reconnect policy meets the numbers it knows.

mod assembler;
mod reader;

pub use assembler::{Assembler, Message, Violation};
pub use reader::{FrameReader, Piece, Skimmed};

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Opcode {
    Continuation = 0x0,
    Text = 0x1,
    Binary = 0x2,
    Close = 0x8,
    Ping = 0x9,
    Pong = 0xa,
}

impl Opcode {
    /// The opcode of a header's low four bits; `None` for the reserved ones, which are a 1002.
    pub fn from_wire(bits: u8) -> Option<Self> {
        Some(match bits {
            0x0 => Self::Continuation,
            0x1 => Self::Text,
            0x2 => Self::Binary,
            0x8 => Self::Close,
            0x9 => Self::Ping,
            0xa => Self::Pong,
            _ => return None,
        })
    }

    /// Close, ping or pong: never fragmented, and allowed between the fragments of a message.
    pub fn is_control(self) -> bool {
        matches!(self, Self::Close | Self::Ping | Self::Pong)
    }
}

/// Longest header a server writes: two bytes and a 64-bit length. Servers do not mask.
pub const MAX_HEADER: usize = 10;

/// Longest payload of a control frame.
pub const MAX_CONTROL: usize = 125;

/// Longest reason in a close frame: a control payload less the code.
const MAX_REASON: usize = MAX_CONTROL - 2;

/// Writes the header of a whole, unmasked frame of `len` payload bytes; returns its length.
// The arms convert what the match has just bounded.
#[allow(clippy::cast_possible_truncation)]
pub fn header(op: Opcode, len: usize, buf: &mut [u8; MAX_HEADER]) -> usize {
    buf[0] = 0x80 | op as u8;
    match len {
        0..=125 => {
            buf[1] = len as u8;
            2
        }
        126..=0xffff => {
            buf[1] = 126;
            buf[2..4].copy_from_slice(&(len as u16).to_be_bytes());
            4
        }
        _ => {
            buf[1] = 127;
            buf[2..10].copy_from_slice(&(len as u64).to_be_bytes());
            10
        }
    }
}

fn header_len(payload_len: usize) -> usize {
    match payload_len {
        0..=125 => 2,
        126..=0xffff => 4,
        _ => 10,
    }
}

/// Appends a whole frame whose payload `write_payload` appends.
///
/// Room for a four-byte header is kept: a payload of 126 to 65,535 bytes stays where it was
/// written, a shorter one moves by two bytes (at most 125 of them). For a bigger one say so in
/// advance with [`frame_sized`], or it moves once.
///
/// `write_payload` must append only.
pub fn frame_into(out: &mut Vec<u8>, op: Opcode, write_payload: impl FnOnce(&mut Vec<u8>)) {
    frame_sized(out, op, MAX_CONTROL + 1, write_payload);
}

/// As [`frame_into`], with an estimate of the payload's length. A wrong one costs a move, no more.
pub fn frame_sized(
    out: &mut Vec<u8>,
    op: Opcode,
    estimate: usize,
    write_payload: impl FnOnce(&mut Vec<u8>),
) {
    let done: Result<(), std::convert::Infallible> = try_frame_sized(out, op, estimate, |out| {
        write_payload(out);
        Ok(())
    });
    match done {
        Ok(()) => {}
        Err(never) => match never {},
    }
}

/// As [`frame_sized`], for a payload that may turn out not to be encodable.
///
/// # Errors
/// Those of `write_payload`; `out` is then as it was.
pub fn try_frame_sized<E>(
    out: &mut Vec<u8>,
    op: Opcode,
    estimate: usize,
    write_payload: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
) -> Result<(), E> {
    let start = out.len();
    let reserved = header_len(estimate);
    out.resize(start + reserved, 0);
    if let Err(error) = write_payload(out) {
        out.truncate(start);
        return Err(error);
    }
    let len = out.len() - start - reserved;
    let mut buf = [0u8; MAX_HEADER];
    let needed = header(op, len, &mut buf);
    let payload = start + reserved..out.len();
    if needed > reserved {
        out.resize(start + needed + len, 0);
    }
    if needed != reserved {
        out.copy_within(payload, start + needed);
        out.truncate(start + needed + len);
    }
    out[start..start + needed].copy_from_slice(&buf[..needed]);
    Ok(())
}

/// The payload of a close frame: code, then the reason, cut at 123 bytes between characters.
pub fn close_payload(code: u16, reason: &str) -> Vec<u8> {
    let mut end = reason.len().min(MAX_REASON);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    let mut payload = Vec::with_capacity(2 + end);
    payload.extend_from_slice(&code.to_be_bytes());
    payload.extend_from_slice(&reason.as_bytes()[..end]);
    payload
}

/// The code to answer a client's close with: 1000 to one it may send, 1002 to one it may not.
///
/// May: those of RFC 6455 section 7.4.1 that are not reserved, 1012 to 1014 of IANA's registry of
/// close codes, and the ranges for libraries (3000) and applications (4000).
pub fn close_reply_code(received: Option<u16>) -> u16 {
    match received {
        None | Some(1000..=1003 | 1007..=1014 | 3000..=4999) => 1000,
        Some(_) => 1002,
    }
}

/// The code to answer a client's close frame with, from its payload as it came.
///
/// One byte is half a code: 1002. A reason that is no text is 1007, under a code that may be sent.
pub fn close_reply(payload: &[u8]) -> u16 {
    match payload {
        [] => close_reply_code(None),
        [_] => 1002,
        [high, low, reason @ ..] => {
            match close_reply_code(Some(u16::from_be_bytes([*high, *low]))) {
                1000 if std::str::from_utf8(reason).is_err() => 1007,
                code => code,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filler(len: usize) -> impl Iterator<Item = u8> {
        (0..=250).cycle().take(len)
    }

    fn framed(len: usize, estimate: usize) -> Vec<u8> {
        let mut out = b"before".to_vec();
        frame_sized(&mut out, Opcode::Binary, estimate, |out| {
            out.extend(filler(len));
        });
        out
    }

    #[test]
    fn the_header_takes_the_shortest_length_form() {
        let table: &[(usize, &[u8])] = &[
            (0, &[0x81, 0]),
            (125, &[0x81, 125]),
            (126, &[0x81, 126, 0, 126]),
            (65_535, &[0x81, 126, 0xff, 0xff]),
            (65_536, &[0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
        ];
        for &(len, expected) in table {
            let mut buf = [0; MAX_HEADER];
            let used = header(Opcode::Text, len, &mut buf);
            assert_eq!(&buf[..used], expected, "{len}");
        }
    }

    #[test]
    fn a_frame_is_the_same_whatever_length_was_expected() {
        for len in [0, 1, 125, 126, 65_535, 65_536, 70_000] {
            let mut expected = b"before".to_vec();
            let mut buf = [0; MAX_HEADER];
            let used = header(Opcode::Binary, len, &mut buf);
            expected.extend_from_slice(&buf[..used]);
            expected.extend(filler(len));
            for estimate in [0, 126, 65_536] {
                assert_eq!(framed(len, estimate), expected, "{len} expected {estimate}");
            }
            let mut out = b"before".to_vec();
            frame_into(&mut out, Opcode::Binary, |out| {
                out.extend_from_slice(&expected[6 + used..]);
            });
            assert_eq!(out, expected, "{len}");
        }
    }

    #[test]
    fn a_payload_that_cannot_be_written_leaves_the_buffer_as_it_was() {
        let mut out = b"before".to_vec();
        let failed = try_frame_sized(&mut out, Opcode::Text, 10, |out| {
            out.extend_from_slice(b"half");
            Err("no")
        });
        assert_eq!((failed, out), (Err("no"), b"before".to_vec()));
    }

    #[test]
    fn a_close_reason_is_cut_between_characters() {
        assert_eq!(close_payload(1000, ""), [0x03, 0xe8]);
        assert_eq!(close_payload(1011, "crash"), b"\x03\xf3crash");
        let cut = close_payload(1001, &"é".repeat(100));
        assert_eq!(cut.len(), 2 + 122);
        assert!(std::str::from_utf8(&cut[2..]).is_ok());
        assert_eq!(close_payload(1001, &"x".repeat(500)).len(), MAX_CONTROL);
    }

    #[test]
    fn a_close_is_answered_with_1000_unless_its_code_may_not_be_sent() {
        assert_eq!(close_reply_code(None), 1000);
        for code in [1000, 1001, 1003, 1007, 1011, 1012, 1013, 1014, 3000, 4999] {
            assert_eq!(close_reply_code(Some(code)), 1000, "{code}");
        }
        for code in [
            0, 999, 1004, 1005, 1006, 1015, 1016, 2000, 2999, 5000, 65_535,
        ] {
            assert_eq!(close_reply_code(Some(code)), 1002, "{code}");
        }
        assert_eq!(close_reply(b""), 1000);
        assert_eq!(close_reply(b"\x03\xe8bye"), 1000);
        assert_eq!(close_reply(b"\x03"), 1002);
        assert_eq!(close_reply(b"\x03\xe8\xff"), 1007);
        assert_eq!(close_reply(b"\x03\xe7\xff"), 1002);
    }

    #[test]
    fn every_opcode_survives_its_wire_form_and_the_rest_are_none() {
        let known: Vec<u8> = (0..=15)
            .filter_map(Opcode::from_wire)
            .map(|op| op as u8)
            .collect();
        assert_eq!(known, [0x0, 0x1, 0x2, 0x8, 0x9, 0xa]);
    }
}
