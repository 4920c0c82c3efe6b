//! What all dialects on a `WebSocket` share: frames to messages, pings, the closing handshake.

use std::borrow::Cow;

use crate::gateway::{Gateway, Verdict};
use crate::hub::{Conn, ConnKey};
use crate::ws::{self, Opcode};

/// Takes one WebSocket frame, unmasked. Anything wrong with it closes this connection only.
pub fn receive<'f, H>(
    gateway: &mut Gateway<H>,
    conn: ConnKey,
    op: u8,
    fin: bool,
    rsv: bool,
    payload: &'f [u8],
) -> Verdict<'f> {
    gateway.hub.stats.bytes_in += payload.len() as u64;
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
            return match message.payload {
                Cow::Borrowed(message) => dialect.message(gateway, conn, text, message),
                // A reassembled message lives no longer than this call, so what it says is copied.
                Cow::Owned(message) => dialect.message(gateway, conn, text, &message).own(),
            };
        }
    }
    Verdict::Done
}

/// Appends a close frame; see [`crate::gateway::Dialect::close`].
pub fn close(code: u16, reason: &str, out: &mut Vec<u8>) -> bool {
    ws::frame_into(out, Opcode::Close, |out| {
        out.extend_from_slice(&ws::close_payload(code, reason));
    });
    true
}
