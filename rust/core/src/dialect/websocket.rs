//! What all dialects on a `WebSocket` share: bytes to messages, pings, the closing handshake.

use std::borrow::Cow;

use crate::gateway::{Gateway, Verdict};
use crate::hub::{Conn, ConnKey};
use crate::ws::{self, Opcode, Piece, Skimmed};

/// Reads bytes of a connection up to the next message that asks something of the driver, takes them
/// off the front of `input` and unmasks them in place. To be called until `input` is empty; the driver
/// answers and looks at what else has happened in between. Anything wrong with a frame closes this
/// connection only, and nothing behind it is read.
#[allow(clippy::mut_mut)] // what is read is taken off a borrowed slice
pub fn read<'f, H>(
    gateway: &mut Gateway<H>,
    conn: ConnKey,
    input: &mut &'f mut [u8],
) -> Verdict<'f> {
    gateway.hub.touch(conn);
    loop {
        if !gateway.hub.conn(conn).is_some_and(Conn::is_open) {
            let rest = std::mem::take(input);
            discard(gateway, conn, rest);
            return Verdict::Done;
        }
        let max = gateway.mount(conn).map_or(0, |mount| mount.max_message);
        let Some(link) = gateway.link(conn) else {
            return Verdict::Done;
        };
        let room = max.saturating_sub(link.assembler.pending());
        let verdict = match link.reader.next(input, room) {
            Ok(None) => return Verdict::Done,
            Ok(Some(Piece { op, fin, payload })) => match payload {
                Cow::Borrowed(payload) => frame(gateway, conn, op, fin, false, payload, max),
                // Nobody else has it: a verdict must not point into it.
                Cow::Owned(payload) => frame(gateway, conn, op, fin, false, &payload, max).own(),
            },
            Err(violation) => {
                gateway.violate(conn, violation.code, violation.reason);
                Verdict::Done
            }
        };
        if !matches!(verdict, Verdict::Done) || gateway.has_news() {
            return verdict;
        }
    }
}

/// Bytes that came after our close, thrown away but for the close among them.
fn discard<H>(gateway: &mut Gateway<H>, conn: ConnKey, bytes: &[u8]) {
    gateway.hub.discard_input(conn, bytes.len());
    let link = gateway.link(conn);
    if link.is_some_and(|link| link.reader.skim(bytes) == Skimmed::Close) {
        gateway.hub.hang_up(conn);
    }
}

/// Bytes that are still to come of the frame a connection has begun, 0 between frames; None when the
/// driver is to read nothing of it any more.
pub fn wants<H>(gateway: &mut Gateway<H>, conn: ConnKey) -> Option<u64> {
    if !gateway.hub.is_read(conn) {
        return None;
    }
    Some(gateway.link(conn)?.reader.wants())
}

/// Takes one whole frame, unmasked.
pub fn receive<'f, H>(
    gateway: &mut Gateway<H>,
    conn: ConnKey,
    op: u8,
    fin: bool,
    rsv: bool,
    payload: &'f [u8],
) -> Verdict<'f> {
    gateway.hub.touch(conn);
    let op = Opcode::from_wire(op);
    if !gateway.hub.conn(conn).is_some_and(Conn::is_open) {
        if op == Some(Opcode::Close) {
            gateway.hub.hang_up(conn);
        }
        return Verdict::Done;
    }
    let Some(op) = op else {
        gateway.violate(conn, 1002, "unknown opcode");
        return Verdict::Done;
    };
    let max = gateway.mount(conn).map_or(0, |mount| mount.max_message);
    frame(gateway, conn, op, fin, rsv, payload, max)
}

/// A frame or a part of one, of a connection that is open.
fn frame<'f, H>(
    gateway: &mut Gateway<H>,
    conn: ConnKey,
    op: Opcode,
    fin: bool,
    rsv: bool,
    payload: &'f [u8],
    max: usize,
) -> Verdict<'f> {
    gateway.hub.stats.bytes_in += payload.len() as u64;
    let Some(link) = gateway.link(conn) else {
        return Verdict::Done;
    };
    let message = match link.assembler.push(op, fin, rsv, payload, max) {
        Ok(Some(message)) => message,
        Ok(None) => return Verdict::Done,
        Err(violation) => {
            gateway.violate(conn, violation.code, violation.reason);
            return Verdict::Done;
        }
    };
    match message.op {
        Opcode::Close => {
            let code = ws::close_reply(&message.payload);
            gateway.close(conn, code, "", "closed", true);
        }
        Opcode::Ping => gateway.hub.direct(conn, |out| {
            ws::frame_into(out, Opcode::Pong, |out| {
                out.extend_from_slice(&message.payload);
            });
        }),
        Opcode::Pong | Opcode::Continuation => {}
        Opcode::Text | Opcode::Binary => {
            gateway.hub.stats.messages_in += 1;
            let text = message.op == Opcode::Text;
            let Some(dialect) = gateway.dialect(conn) else {
                return Verdict::Done;
            };
            let verdict = match message.payload {
                Cow::Borrowed(message) => dialect.message(gateway, conn, text, message),
                // A reassembled message lives no longer than this call, so what it says is copied.
                Cow::Owned(message) => dialect.message(gateway, conn, text, &message).own(),
            };
            return gateway.offer(verdict);
        }
    }
    Verdict::Done
}

/// Appends a ping.
pub fn ping(out: &mut Vec<u8>) {
    ws::frame_into(out, Opcode::Ping, |_| {});
}

/// Appends a close frame; see [`crate::gateway::Dialect::close`].
pub fn close(code: u16, reason: &str, out: &mut Vec<u8>) -> bool {
    ws::frame_into(out, Opcode::Close, |out| {
        out.extend_from_slice(&ws::close_payload(code, reason));
    });
    true
}
