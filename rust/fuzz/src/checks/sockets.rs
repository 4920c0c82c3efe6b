//! Sequences of WebSocket frames through the assembler, beside a model that keeps everything.

use moda_core::ws::{
    close_payload, close_reply, frame_into, Assembler, Message, Opcode, MAX_CONTROL,
};

/// Small, so that a fuzzer reaches it; not a multiple of anything.
const MAX: usize = 201;

/// Any bytes as frames: flags and opcode as on the wire, a length byte, the payload.
///
/// A violation ends the connection, as it does in service.
pub fn websocket(data: &[u8]) {
    let mut assembler = Assembler::new();
    let mut pieces: Vec<Vec<u8>> = Vec::new();
    let mut begun = None;
    let mut rest = data;
    while let [flags, len, tail @ ..] = rest {
        let (payload, next) = tail.split_at(usize::from(*len).min(tail.len()));
        rest = next;
        let Some(op) = Opcode::from_wire(flags & 0x0f) else {
            continue;
        };
        let (fin, rsv) = (flags & 0x80 != 0, flags & 0x70 != 0);
        let outcome = assembler.push(op, fin, rsv, payload, MAX);
        let held: usize = pieces.iter().map(Vec::len).sum();
        match violation(op, fin, rsv, payload, begun, &pieces) {
            Some(code) => {
                assert_eq!(outcome.map_err(|violation| violation.code), Err(code));
                assert_eq!(assembler.pending(), 0);
                return;
            }
            None if op.is_control() => {
                let message = outcome.expect("allowed").expect("whole");
                assert_eq!((message.op, &*message.payload), (op, payload));
                assert_eq!(assembler.pending(), held);
                answer(&message);
            }
            None => {
                pieces.push(payload.to_vec());
                let first = *begun.get_or_insert(op);
                if fin {
                    let message = outcome.expect("allowed").expect("complete");
                    assert_eq!((message.op, &*message.payload), (first, &*pieces.concat()));
                    assert_eq!(assembler.pending(), 0);
                    framed_again_it_is_the_same(&message);
                    pieces.clear();
                    begun = None;
                } else {
                    assert_eq!(outcome, Ok(None));
                    assert_eq!(assembler.pending(), held + payload.len());
                    assert!(assembler.pending() <= MAX);
                }
            }
        }
    }
}

/// The close code the frame earns by the rules of RFC 6455 and the limits of this server.
fn violation(
    op: Opcode,
    fin: bool,
    rsv: bool,
    payload: &[u8],
    begun: Option<Opcode>,
    pieces: &[Vec<u8>],
) -> Option<u16> {
    let continues = op == Opcode::Continuation;
    if rsv {
        return Some(1002);
    }
    if op.is_control() {
        return (!fin || payload.len() > MAX_CONTROL).then_some(1002);
    }
    if continues != begun.is_some() {
        return Some(1002);
    }
    let whole = [&pieces.concat(), payload].concat();
    if whole.len() > MAX {
        return Some(1009);
    }
    let is_text = begun.unwrap_or(op) == Opcode::Text;
    let bad = match std::str::from_utf8(&whole) {
        Ok(_) => false,
        // The rest of a character may come, unless this was all.
        Err(error) => fin || error.error_len().is_some(),
    };
    (is_text && bad).then_some(1007)
}

fn answer(message: &Message<'_>) {
    if message.op != Opcode::Close {
        return;
    }
    let code = close_reply(&message.payload);
    assert!([1000, 1002, 1007].contains(&code), "{code}");
    let reason = String::from_utf8_lossy(&message.payload);
    let payload = close_payload(code, &reason);
    assert!(payload.len() <= MAX_CONTROL);
    assert_eq!(payload[..2], code.to_be_bytes());
    let sent = std::str::from_utf8(&payload[2..]).expect("cut between characters");
    assert!(reason.starts_with(sent));
    assert!(sent.len() + 4 > reason.len().min(MAX_CONTROL - 2));
}

fn framed_again_it_is_the_same(message: &Message<'_>) {
    let mut out = b"before".to_vec();
    frame_into(&mut out, message.op, |out| {
        out.extend_from_slice(&message.payload);
    });
    let frame = &out[6..];
    assert_eq!(frame[0], 0x80 | message.op as u8);
    let (len, header) = match frame[1] {
        126 => (u16::from_be_bytes([frame[2], frame[3]]).into(), 4),
        short => (usize::from(short), 2),
    };
    assert_eq!(len, message.payload.len());
    assert_eq!(header == 2, len <= 125);
    assert_eq!(frame[header..], *message.payload);
}
