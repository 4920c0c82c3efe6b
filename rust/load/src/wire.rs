//! The client's half of the wire: handshake, masked frames out, frames in, Phoenix V2 text.
//!
//! Written apart from `moda-core` on purpose: a generator that measured the server with the
//! server's own codec would agree with its mistakes. It reads only what a bench needs, and it
//! reads it by slicing: no JSON tree is built for the hundreds of thousands of messages a second
//! that a broadcast brings.

/// The nonce of every handshake and the answer RFC 6455 (section 1.3) prescribes for it.
const NONCE: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// Text, close, ping, pong: the opcodes a bench meets.
pub const TEXT: u8 = 1;
pub const CLOSE: u8 = 8;
pub const PING: u8 = 9;
pub const PONG: u8 = 10;

/// Bits of the first and the second byte, and the lengths that announce 2 or 8 bytes of length.
const FINAL: u8 = 0x80;
const MASKED: u8 = 0x80;
const MEDIUM: u8 = 126;
const LONG: u8 = 127;

/// The upgrade request for `path` (with its query) on `host` (with its port).
pub fn handshake(host: &str, path: &str) -> Vec<u8> {
    format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: {NONCE}\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    .into_bytes()
}

/// The answer to it, as short as one may be.
pub fn switching() -> Vec<u8> {
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {ACCEPT}\r\n\r\n"
    )
    .into_bytes()
}

/// What a server answered to the handshake.
#[derive(Debug, PartialEq, Eq)]
pub enum Upgrade {
    /// The head is not complete yet.
    Partial,
    /// 101 and the right accept key; the head took this many bytes.
    Accepted(usize),
    /// Another status, or 101 with a wrong key (given as 0).
    Refused(u16),
}

/// Reads the head of the server's answer.
pub fn upgrade(bytes: &[u8]) -> Upgrade {
    let Some(end) = find(bytes, b"\r\n\r\n") else {
        return Upgrade::Partial;
    };
    let status = bytes
        .get(9..12)
        .and_then(|digits| std::str::from_utf8(digits).ok())
        .and_then(|digits| digits.parse().ok())
        .unwrap_or(0);
    match status {
        101 if find(&bytes[..end], ACCEPT.as_bytes()).is_some() => Upgrade::Accepted(end + 4),
        101 => Upgrade::Refused(0),
        status => Upgrade::Refused(status),
    }
}

/// Appends one masked text frame. The mask is any four bytes; the server has to undo it whatever
/// they are.
pub fn put_frame(out: &mut Vec<u8>, opcode: u8, payload: &[u8], mask: [u8; 4]) {
    out.push(FINAL | opcode);
    match u16::try_from(payload.len()) {
        Ok(short) if short < 126 => out.push(MASKED | short.to_be_bytes()[1]),
        Ok(medium) => {
            out.push(MASKED | MEDIUM);
            out.extend_from_slice(&medium.to_be_bytes());
        }
        Err(_) => {
            out.push(MASKED | LONG);
            out.extend_from_slice(&(payload.len() as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(&mask);
    out.extend(
        payload
            .iter()
            .zip(mask.iter().cycle())
            .map(|(byte, mask)| byte ^ mask),
    );
}

/// Appends one unmasked text frame: what a server sends. The machine's limits are measured with it.
pub fn put_server_frame(out: &mut Vec<u8>, payload: &[u8]) {
    out.push(FINAL | TEXT);
    match u16::try_from(payload.len()) {
        Ok(short) if short < 126 => out.push(short.to_be_bytes()[1]),
        Ok(medium) => {
            out.push(MEDIUM);
            out.extend_from_slice(&medium.to_be_bytes());
        }
        Err(_) => {
            out.push(LONG);
            out.extend_from_slice(&(payload.len() as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(payload);
}

/// A whole frame at the head of a buffer.
#[derive(Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    pub opcode: u8,
    pub payload: &'a [u8],
    /// Bytes of the buffer it took, header included.
    pub size: usize,
}

/// Reads one unmasked frame; `None` until all of it is there.
pub fn frame(bytes: &[u8]) -> Option<Frame<'_>> {
    let (first, second) = (*bytes.first()?, *bytes.get(1)?);
    let (header, length) = match second & !MASKED {
        MEDIUM => (
            4,
            u64::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?)),
        ),
        LONG => (10, u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?)),
        short => (2, u64::from(short)),
    };
    let size = usize::try_from(length).ok()?.checked_add(header)?;
    let payload = bytes.get(header..size)?;
    Some(Frame {
        opcode: first & 0x0f,
        payload,
        size,
    })
}

/// A Phoenix V2 text message, as slices of the frame. Strings are given without their quotes and
/// `null` as an empty slice.
#[derive(Debug, PartialEq, Eq)]
pub struct Message<'a> {
    pub reference: &'a [u8],
    pub topic: &'a [u8],
    pub event: &'a [u8],
    /// JSON, the closing bracket of the message taken off.
    pub payload: &'a [u8],
}

/// Slices `[join_ref, ref, topic, event, payload]`. `None` if it is not that, or if one of the four
/// strings holds an escape: no server has a reason to send one back to us.
pub fn message(text: &[u8]) -> Option<Message<'_>> {
    let rest = text.strip_prefix(b"[")?;
    let (_, rest) = element(rest)?;
    let (reference, rest) = element(rest)?;
    let (topic, rest) = element(rest)?;
    let (event, rest) = element(rest)?;
    let payload = trim(rest).strip_suffix(b"]")?;
    Some(Message {
        reference,
        topic,
        event,
        payload,
    })
}

fn trim(mut bytes: &[u8]) -> &[u8] {
    while let Some(rest) = bytes.strip_prefix(b" ") {
        bytes = rest;
    }
    bytes
}

fn element(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let bytes = trim(bytes);
    let (value, rest) = if let Some(text) = bytes.strip_prefix(b"\"") {
        let end = text
            .iter()
            .position(|&byte| byte == b'"' || byte == b'\\')?;
        (&text[..end], text[end..].strip_prefix(b"\"")?)
    } else {
        (&bytes[..0], bytes.strip_prefix(b"null")?)
    };
    Some((value, trim(rest).strip_prefix(b",")?))
}

/// Whether a reply's payload says `"status":"ok"`.
pub fn is_ok(payload: &[u8]) -> bool {
    payload.starts_with(br#"{"status":"ok""#)
        || find(payload, br#""status":"ok""#).is_some()
        || find(payload, br#""status": "ok""#).is_some()
}

/// The non-negative integer that follows `"name":` in a JSON object.
pub fn integer(payload: &[u8], name: &str) -> Option<u64> {
    let quoted = format!("\"{name}\":");
    let at = find(payload, quoted.as_bytes())? + quoted.len();
    let digits = trim(&payload[at..]);
    let end = digits
        .iter()
        .position(|byte| !byte.is_ascii_digit())
        .unwrap_or(digits.len());
    number(&digits[..end])
}

/// A decimal number of at most 19 digits.
pub fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || digits.len() > 19 {
        return None;
    }
    digits.iter().try_fold(0u64, |value, byte| {
        byte.is_ascii_digit()
            .then(|| value * 10 + u64::from(byte - b'0'))
    })
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes
        .windows(wanted.len())
        .position(|window| window == wanted)
}

/// The event every bench publishes, `bytes` long as text, with its number and the time it was made
/// (`CLOCK_MONOTONIC`, nanoseconds). The bench server builds the same text; see `benches/server.py`.
pub fn tick(sequence: u64, at: u64, bytes: usize) -> Vec<u8> {
    let bare =
        format!(r#"[null,null,"bench:stream","tick",{{"seq":{sequence},"at":{at},"pad":""}}]"#);
    let padding = ".".repeat(bytes.saturating_sub(bare.len()));
    format!(r#"[null,null,"bench:stream","tick",{{"seq":{sequence},"at":{at},"pad":"{padding}"}}]"#)
        .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_sent_and_read_back_is_the_same_for_every_length_form() {
        for length in [0, 1, 125, 126, 65_535, 65_536] {
            let payload = vec![b'x'; length];
            let mut bytes = Vec::new();
            put_server_frame(&mut bytes, &payload);
            let size = bytes.len();
            bytes.push(0x81);
            let read = frame(&bytes);
            assert_eq!(
                read,
                Some(Frame {
                    opcode: TEXT,
                    payload: &payload,
                    size
                })
            );
            assert_eq!(frame(&bytes[..size - 1]), None);
        }
    }

    #[test]
    fn a_masked_frame_carries_the_mask_bit_its_key_and_the_payload_xored_with_it() {
        let mut bytes = Vec::new();
        put_frame(&mut bytes, TEXT, b"Hello", [0x37, 0xfa, 0x21, 0x3d]);
        // The example of RFC 6455, section 5.7.
        let wanted = [
            0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58,
        ];
        assert_eq!(bytes, wanted);
        for (length, header) in [(126, 4 + 4), (65_536, 10 + 4)] {
            bytes.clear();
            put_frame(&mut bytes, TEXT, &vec![0; length], [0; 4]);
            assert_eq!(bytes.len(), length + header);
        }
    }

    #[test]
    fn a_message_is_sliced_with_null_as_empty_and_its_payload_untouched() {
        let text = br#"[null,"7","a:b","phx_reply",{"status":"ok","response":[1]}]"#;
        let read = message(text).expect("a message");
        assert_eq!(read.reference, b"7");
        assert_eq!(read.topic, b"a:b");
        assert_eq!(read.event, b"phx_reply");
        assert_eq!(read.payload, br#"{"status":"ok","response":[1]}"#);
        assert!(is_ok(read.payload));
        let spaced = message(br#"["1", null, "t", "e", {}]"#).expect("a message");
        assert_eq!(
            (spaced.reference, spaced.event, spaced.payload),
            (&b""[..], &b"e"[..], &b"{}"[..])
        );
    }

    #[test]
    fn what_is_no_phoenix_message_is_refused() {
        for text in [
            &b""[..],
            b"{}",
            b"[null,null,\"t\"]",
            b"[null,null,\"t\",\"e\"]",
            b"[null,null,\"t\\\"\",\"e\",{}]",
            b"[1,2,\"t\",\"e\",{}]",
        ] {
            assert_eq!(message(text), None, "{}", String::from_utf8_lossy(text));
        }
    }

    #[test]
    fn an_upgrade_is_accepted_only_with_101_and_the_prescribed_key() {
        let head = format!("HTTP/1.1 101 X\r\nsec-websocket-accept: {ACCEPT}\r\n\r\n");
        assert_eq!(upgrade(head.as_bytes()), Upgrade::Accepted(head.len()));
        assert_eq!(
            upgrade(&head.as_bytes()[..head.len() - 1]),
            Upgrade::Partial
        );
        let wrong = head.replace("s3p", "xxx");
        assert_eq!(upgrade(wrong.as_bytes()), Upgrade::Refused(0));
        assert_eq!(
            upgrade(b"HTTP/1.1 403 Forbidden\r\n\r\n"),
            Upgrade::Refused(403)
        );
        assert_eq!(upgrade(b"\r\n\r\n"), Upgrade::Refused(0));
    }

    #[test]
    fn a_tick_has_the_length_asked_for_and_its_two_numbers_can_be_read() {
        let text = tick(42, 1_234_567_890_123, 120);
        assert_eq!(text.len(), 120);
        let payload = message(&text).expect("a message").payload;
        assert_eq!(integer(payload, "seq"), Some(42));
        assert_eq!(integer(payload, "at"), Some(1_234_567_890_123));
        assert_eq!(integer(payload, "none"), None);
    }

    #[test]
    fn a_number_is_refused_when_empty_too_long_or_not_decimal() {
        assert_eq!(number(b"0012"), Some(12));
        assert_eq!(number(b""), None);
        assert_eq!(number(b"1x"), None);
        assert_eq!(number(&[b'9'; 20]), None);
    }
}
