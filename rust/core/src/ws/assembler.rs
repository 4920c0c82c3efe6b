//! Fragments back into messages, bounded, and the rules a frame may break.
//!
//! The bound holds for the sum of the pieces and is checked before a piece is kept: what a client
//! can make the server remember is `max` bytes, however it cuts them.

use std::borrow::Cow;

use super::{Opcode, MAX_CONTROL};

/// A message, its fragments put together, or a control frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// [`Opcode::Text`] or [`Opcode::Binary`], or that of a control frame; never a continuation.
    pub op: Opcode,
    /// Borrowed from the frame unless there was more than one. UTF-8 when `op` is text.
    pub payload: Cow<'a, [u8]>,
}

/// Why the connection has to be closed, and with which code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Violation {
    pub code: u16,
    /// For the log, the metrics label and the close frame: short, constant.
    pub reason: &'static str,
}

impl Violation {
    pub(super) const RSV: Self = Self::new(1002, "reserved bits set");
    pub(super) const OPCODE: Self = Self::new(1002, "unknown opcode");
    pub(super) const UNMASKED: Self = Self::new(1002, "frame without a mask");
    pub(super) const LENGTH: Self = Self::new(1002, "length not in its shortest form");
    pub(super) const CONTROL: Self = Self::new(1002, "control frame fragmented or over 125 bytes");
    const STRAY: Self = Self::new(1002, "continuation without a message");
    const INTERRUPTED: Self = Self::new(1002, "new message inside a fragmented one");
    const NOT_UTF8: Self = Self::new(1007, "text is not UTF-8");
    pub(super) const TOO_BIG: Self = Self::new(1009, "message too big");

    const fn new(code: u16, reason: &'static str) -> Self {
        Self { code, reason }
    }
}

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.reason, self.code)
    }
}

impl std::error::Error for Violation {}

/// Puts the fragments of one connection's messages together.
///
/// One pointer wide while no message is in pieces, which is nearly always and on nearly every one
/// of a hundred thousand connections.
#[derive(Debug, Default)]
pub struct Assembler {
    partial: Option<Box<Partial>>,
}

#[derive(Debug)]
struct Partial {
    op: Opcode,
    /// When somebody first looked at it.
    seen_ms: Option<u64>,
    bytes: Vec<u8>,
    /// So many of the bytes of a text are known to be whole characters.
    checked: usize,
}

impl Partial {
    /// Keeps a piece. Text is judged as it comes: a bad byte ends the connection when it is there,
    /// and not when its message is whole.
    fn add(&mut self, payload: &[u8]) -> Result<(), Violation> {
        self.bytes.extend_from_slice(payload);
        if self.op != Opcode::Text {
            return Ok(());
        }
        match std::str::from_utf8(&self.bytes[self.checked..]) {
            Ok(text) => self.checked += text.len(),
            // The beginning of a character, whose rest may come.
            Err(error) if error.error_len().is_none() => self.checked += error.valid_up_to(),
            Err(_) => return Err(Violation::NOT_UTF8),
        }
        Ok(())
    }

    fn complete(self) -> Result<Option<Message<'static>>, Violation> {
        if self.op == Opcode::Text && self.checked != self.bytes.len() {
            return Err(Violation::NOT_UTF8);
        }
        Ok(Some(Message {
            op: self.op,
            payload: Cow::Owned(self.bytes),
        }))
    }
}

impl Assembler {
    pub const fn new() -> Self {
        Self { partial: None }
    }

    /// Bytes held for an unfinished message: what this connection costs beyond its share.
    pub fn pending(&self) -> usize {
        self.partial.as_ref().map_or(0, |part| part.bytes.len())
    }

    /// A time, in the caller's milliseconds, by which the unfinished message had begun: that of the
    /// first call that found it, so that frames need no clock. None when there is none.
    pub fn begun_by(&mut self, now_ms: u64) -> Option<u64> {
        let partial = self.partial.as_mut()?;
        Some(*partial.seen_ms.get_or_insert(now_ms))
    }

    /// Takes one unmasked frame; gives the message it completes, or `None` if more is to come.
    ///
    /// `max` bounds the payload of a message, whole or in pieces. A whole frame is passed through
    /// without a copy. A control frame is checked and passed through too, wherever it stands.
    ///
    /// # Errors
    /// [`Violation`] with 1002 for reserved bits, a malformed control frame, a continuation of
    /// nothing or a message begun inside another; 1007 for text that is not UTF-8, at its first bad
    /// byte; 1009 past `max`. The message begun is dropped; close the connection.
    pub fn push<'a>(
        &mut self,
        op: Opcode,
        fin: bool,
        rsv: bool,
        payload: &'a [u8],
        max: usize,
    ) -> Result<Option<Message<'a>>, Violation> {
        let outcome = self.step(op, fin, rsv, payload, max);
        if outcome.is_err() {
            self.partial = None;
        }
        outcome
    }

    fn step<'a>(
        &mut self,
        op: Opcode,
        fin: bool,
        rsv: bool,
        payload: &'a [u8],
        max: usize,
    ) -> Result<Option<Message<'a>>, Violation> {
        if rsv {
            return Err(Violation::RSV);
        }
        match (op, self.partial.take()) {
            (Opcode::Close | Opcode::Ping | Opcode::Pong, partial) => {
                self.partial = partial;
                if !fin || payload.len() > MAX_CONTROL {
                    return Err(Violation::CONTROL);
                }
                let payload = Cow::Borrowed(payload);
                Ok(Some(Message { op, payload }))
            }
            (Opcode::Continuation, None) => Err(Violation::STRAY),
            (Opcode::Continuation, Some(mut partial)) => {
                if payload.len() > max.saturating_sub(partial.bytes.len()) {
                    return Err(Violation::TOO_BIG);
                }
                partial.add(payload)?;
                if fin {
                    return partial.complete();
                }
                self.partial = Some(partial);
                Ok(None)
            }
            (Opcode::Text | Opcode::Binary, Some(_)) => Err(Violation::INTERRUPTED),
            (Opcode::Text | Opcode::Binary, None) => {
                if payload.len() > max {
                    return Err(Violation::TOO_BIG);
                }
                if fin {
                    return whole(op, payload);
                }
                let mut partial = Partial {
                    op,
                    seen_ms: None,
                    bytes: Vec::new(),
                    checked: 0,
                };
                partial.add(payload)?;
                self.partial = Some(Box::new(partial));
                Ok(None)
            }
        }
    }
}

fn whole(op: Opcode, payload: &[u8]) -> Result<Option<Message<'_>>, Violation> {
    if op == Opcode::Text && std::str::from_utf8(payload).is_err() {
        return Err(Violation::NOT_UTF8);
    }
    let payload = Cow::Borrowed(payload);
    Ok(Some(Message { op, payload }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MAX: usize = 1 << 20;

    #[test]
    fn a_whole_frame_passes_through_without_a_copy() {
        let payload = b"hello".to_vec();
        let message = Assembler::new()
            .push(Opcode::Text, true, false, &payload, MAX)
            .unwrap()
            .unwrap();
        assert_eq!(message.op, Opcode::Text);
        assert!(
            matches!(message.payload, Cow::Borrowed(bytes) if bytes.as_ptr() == payload.as_ptr())
        );
    }

    #[test]
    fn fragments_become_one_message_with_a_ping_between_them() {
        let mut assembler = Assembler::new();
        // The two bytes of "é" come in different fragments: text is judged whole.
        let first = assembler.push(Opcode::Text, false, false, b"caf\xc3", MAX);
        assert_eq!(first, Ok(None));
        assert_eq!(assembler.pending(), 4);
        let ping = assembler
            .push(Opcode::Ping, true, false, b"p", MAX)
            .unwrap()
            .unwrap();
        assert_eq!((ping.op, &*ping.payload), (Opcode::Ping, &b"p"[..]));
        let whole = assembler
            .push(Opcode::Continuation, true, false, b"\xa9", MAX)
            .unwrap()
            .unwrap();
        assert_eq!(
            (whole.op, &*whole.payload),
            (Opcode::Text, "café".as_bytes())
        );
        assert_eq!(assembler.pending(), 0);
    }

    #[test]
    fn a_message_may_have_empty_fragments_anywhere() {
        let mut assembler = Assembler::new();
        for op in [Opcode::Binary, Opcode::Continuation, Opcode::Continuation] {
            assert_eq!(assembler.push(op, false, false, b"", MAX), Ok(None));
        }
        let whole = assembler
            .push(Opcode::Continuation, true, false, b"", MAX)
            .unwrap()
            .unwrap();
        assert_eq!((whole.op, &*whole.payload), (Opcode::Binary, &b""[..]));
    }

    #[test]
    fn each_violation_has_its_code_and_drops_what_was_begun() {
        type Frame = (Opcode, bool, bool, &'static [u8]);
        let table: &[(&[Frame], u16)] = &[
            (&[(Opcode::Text, true, true, b"x")], 1002),
            (&[(Opcode::Ping, true, true, b"x")], 1002),
            (&[(Opcode::Ping, false, false, b"x")], 1002),
            (&[(Opcode::Close, true, false, &[b'x'; 126])], 1002),
            (&[(Opcode::Continuation, true, false, b"x")], 1002),
            (
                &[
                    (Opcode::Text, false, false, b"x"),
                    (Opcode::Text, true, false, b"y"),
                ],
                1002,
            ),
            (
                &[
                    (Opcode::Text, false, false, b"x"),
                    (Opcode::Ping, false, false, b""),
                ],
                1002,
            ),
            (&[(Opcode::Text, true, false, b"\xff")], 1007),
            (
                &[
                    (Opcode::Text, false, false, b"\xc3"),
                    (Opcode::Continuation, true, false, b"("),
                ],
                1007,
            ),
            (&[(Opcode::Text, false, false, b"caf\xc3\x28")], 1007),
            (
                &[
                    (Opcode::Text, false, false, b"\xed"),
                    (Opcode::Continuation, false, false, b"\xa0"),
                ],
                1007,
            ),
            (&[(Opcode::Binary, true, false, b"123456789")], 1009),
            (&[(Opcode::Binary, false, false, b"123456789")], 1009),
            (
                &[
                    (Opcode::Binary, false, false, b"12345678"),
                    (Opcode::Continuation, true, false, b"9"),
                ],
                1009,
            ),
        ];
        for (frames, code) in table {
            let mut assembler = Assembler::new();
            let (last, before) = frames.split_last().unwrap();
            for &(op, fin, rsv, payload) in before {
                assert_eq!(
                    assembler.push(op, fin, rsv, payload, 8),
                    Ok(None),
                    "{frames:?}"
                );
            }
            let &(op, fin, rsv, payload) = last;
            let violation = assembler.push(op, fin, rsv, payload, 8).unwrap_err();
            assert_eq!(violation.code, *code, "{frames:?}: {violation}");
            assert_eq!(assembler.pending(), 0, "{frames:?}");
        }
    }

    #[test]
    fn a_message_of_exactly_the_limit_is_accepted_whole_and_in_pieces() {
        let mut assembler = Assembler::new();
        assert!(assembler
            .push(Opcode::Binary, true, false, b"12345678", 8)
            .is_ok());
        assert!(assembler
            .push(Opcode::Binary, false, false, b"1234", 8)
            .is_ok());
        assert!(assembler
            .push(Opcode::Continuation, true, false, b"5678", 8)
            .is_ok());
    }

    #[test]
    fn an_idle_assembler_is_one_pointer() {
        assert_eq!(
            std::mem::size_of::<Assembler>(),
            std::mem::size_of::<usize>()
        );
    }

    proptest! {
        #[test]
        fn however_a_message_is_cut_it_comes_out_whole(
            message in proptest::collection::vec(any::<u8>(), 1..200),
            cuts in proptest::collection::vec(1usize..40, 0..8),
        ) {
            let mut assembler = Assembler::new();
            let mut rest = &message[..];
            let mut op = Opcode::Binary;
            for cut in cuts {
                if cut >= rest.len() {
                    break;
                }
                let (head, tail) = rest.split_at(cut);
                prop_assert_eq!(assembler.push(op, false, false, head, MAX), Ok(None));
                op = Opcode::Continuation;
                rest = tail;
            }
            let whole = assembler.push(op, true, false, rest, MAX).unwrap().unwrap();
            prop_assert_eq!(whole.op, Opcode::Binary);
            prop_assert_eq!(&*whole.payload, &message[..]);
        }
    }
}
