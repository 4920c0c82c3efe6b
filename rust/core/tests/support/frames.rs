//! Bytes of the wire back into frames: what a client's own parser would do, and nothing kinder.
//!
//! A frame that is cut, reserved bits, a mask or an opcode no server sends end the test at once:
//! they are how bytes of one frame inside another would show.

use std::fmt;

/// One whole frame as a client receives it.
#[derive(Clone, PartialEq, Eq)]
pub enum Frame {
    Text(String),
    Binary(Vec<u8>),
    Close(u16, String),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Binary(bytes) => write!(f, "binary {bytes:02x?}"),
            Self::Close(code, reason) => write!(f, "close {code} {reason:?}"),
            Self::Ping(bytes) => write!(f, "ping {bytes:?}"),
            Self::Pong(bytes) => write!(f, "pong {bytes:?}"),
        }
    }
}

/// The text of a frame that must be text.
pub fn into_text(frame: Frame) -> String {
    match frame {
        Frame::Text(text) => text,
        other => panic!("{other:?} is no text"),
    }
}

pub fn text(text: impl Into<String>) -> Frame {
    Frame::Text(text.into())
}

/// Takes the whole frames off the front of `bytes`; what is left is the beginning of one more.
pub fn take(bytes: &mut Vec<u8>) -> Vec<Frame> {
    let mut frames = Vec::new();
    let mut at = 0;
    while let Some((frame, len)) = first(&bytes[at..]) {
        frames.push(frame);
        at += len;
    }
    bytes.drain(..at);
    frames
}

fn first(bytes: &[u8]) -> Option<(Frame, usize)> {
    let [head, size, rest @ ..] = bytes else {
        return None;
    };
    assert_eq!(head & 0x70, 0, "reserved bits in {head:#x}");
    assert_eq!(head & 0x80, 0x80, "a server never fragments: {head:#x}");
    assert_eq!(size & 0x80, 0, "a server never masks");
    let (skip, len) = match size {
        126 => (2, be(rest.get(..2)?)),
        127 => (8, be(rest.get(..8)?)),
        small => (0, usize::from(*small)),
    };
    let payload = rest.get(skip..skip + len)?;
    let frame = match head & 0x0f {
        1 => Frame::Text(String::from_utf8(payload.to_vec()).expect("text is UTF-8")),
        2 => Frame::Binary(payload.to_vec()),
        8 => Frame::Close(
            u16::try_from(be(&payload[..2])).expect("two bytes"),
            String::from_utf8(payload[2..].to_vec()).expect("a reason is UTF-8"),
        ),
        9 => Frame::Ping(payload.to_vec()),
        10 => Frame::Pong(payload.to_vec()),
        other => panic!("opcode {other:#x} in the middle of a stream"),
    };
    Some((frame, 2 + skip + len))
}

fn be(bytes: &[u8]) -> usize {
    bytes
        .iter()
        .fold(0, |number, byte| number << 8 | usize::from(*byte))
}
