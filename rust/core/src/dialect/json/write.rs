//! Everything a client is told, as whole WebSocket frames.

use base64::engine::general_purpose::STANDARD;
use base64::Engine as _;

use crate::gateway::{Began, Body, Event};
use crate::json::{quote, write_string};
use crate::log::Position;
use crate::ws::{self, Opcode};

use super::decode::Trouble;

/// Characters of a message that an error repeats.
const REPEATED: usize = 200;

fn frame(out: &mut Vec<u8>, size: usize, write: impl FnOnce(&mut Vec<u8>)) {
    ws::frame_sized(out, Opcode::Text, size, write);
}

pub(super) fn welcome(out: &mut Vec<u8>) {
    frame(out, 126, |out| {
        out.extend_from_slice(br#"{"type":"welcome","protocol":"moda","version":1}"#);
    });
}

pub(super) fn pong(out: &mut Vec<u8>, id: &str) {
    frame(out, 64, |out| {
        out.extend_from_slice(br#"{"type":"pong","id":"#);
        out.extend_from_slice(id.as_bytes());
        out.push(b'}');
    });
}

/// `{"type": "event", "topic", "event", "offset", "payload"}`, the offset where the topic keeps a log.
pub(super) fn event(out: &mut Vec<u8>, event: &Event<'_>) {
    let size = event.topic.len() + event.event.len() + event.body.bytes().len() + 80;
    frame(out, size, |out| {
        out.extend_from_slice(br#"{"type":"event","topic":"#);
        write_string(out, event.topic);
        out.extend_from_slice(br#","event":"#);
        write_string(out, event.event);
        if let Some(position) = event.position {
            out.extend_from_slice(format!(",\"offset\":{}", position.offset).as_bytes());
        }
        payload(out, "payload", event.body);
        out.push(b'}');
    });
}

pub(super) fn subscribed(
    out: &mut Vec<u8>,
    id: &str,
    topic: &str,
    response: Body<'_>,
    began: Option<Began>,
) {
    frame(out, topic.len() + response.bytes().len() + 160, |out| {
        answer(out, "subscribed", id, topic);
        if let Some(began) = began {
            out.push(b',');
            out.extend_from_slice(began.members().as_bytes());
        }
        payload(out, "response", response);
        out.push(b'}');
    });
}

pub(super) fn unsubscribed(out: &mut Vec<u8>, id: &str, topic: &str, reason: &str) {
    frame(out, topic.len() + 96, |out| {
        answer(out, "unsubscribed", id, topic);
        out.extend_from_slice(br#","reason":"#);
        write_string(out, reason);
        out.push(b'}');
    });
}

pub(super) fn reply(out: &mut Vec<u8>, id: &str, topic: &str, status: &str, body: Body<'_>) {
    frame(out, topic.len() + body.bytes().len() + 96, |out| {
        answer(out, "reply", id, topic);
        out.extend_from_slice(br#","status":"#);
        write_string(out, status);
        payload(out, "response", body);
        out.push(b'}');
    });
}

/// A message that has been published, and where, if the topic keeps a log.
pub(super) fn published(out: &mut Vec<u8>, id: &str, topic: &str, position: Option<Position>) {
    frame(out, id.len() + topic.len() + 96, |out| {
        answer(out, "published", id, topic);
        if let Some(Position { epoch, offset }) = position {
            out.extend_from_slice(format!(",\"epoch\":{epoch},\"offset\":{offset}").as_bytes());
        }
        out.push(b'}');
    });
}

/// A subscription that was refused; `response` is what its channel says of it.
pub(super) fn refused(out: &mut Vec<u8>, id: &str, topic: &str, response: &[u8]) {
    frame(out, topic.len() + response.len() + 160, |out| {
        answer(out, "error", id, topic);
        let text = r#","code":"refused","message":"the subscription was refused","response":"#;
        out.extend_from_slice(text.as_bytes());
        out.extend_from_slice(response);
        out.push(b'}');
    });
}

/// `{"type": "error", "id", "code", "message", "received", "accepted"}`.
pub(super) fn error(out: &mut Vec<u8>, id: &str, why: Trouble, received: Option<&[u8]>) {
    frame(out, 400, |out| {
        out.extend_from_slice(br#"{"type":"error","id":"#);
        out.extend_from_slice(id.as_bytes());
        out.extend_from_slice(br#","code":"#);
        write_string(out, why.code);
        out.extend_from_slice(br#","message":"#);
        write_string(out, why.message);
        if let Some(received) = received {
            let text = String::from_utf8_lossy(received);
            let most = text.char_indices().nth(REPEATED).map(|(at, _)| at);
            out.extend_from_slice(br#","received":"#);
            write_string(out, &text[..most.unwrap_or(text.len())]);
        }
        out.extend_from_slice(br#","accepted":"#);
        out.extend_from_slice(why.accepted.as_bytes());
        out.push(b'}');
    });
}

/// `{"type": .., "id": .., "topic": ..`, without the brace behind it.
fn answer(out: &mut Vec<u8>, kind: &str, id: &str, topic: &str) {
    let head = format!("{{\"type\":\"{kind}\",\"id\":{id},\"topic\":");
    out.extend_from_slice(head.as_bytes());
    out.extend_from_slice(quote(topic).as_bytes());
}

/// A member with a payload. Bytes travel in base64 and say so.
fn payload(out: &mut Vec<u8>, name: &str, body: Body<'_>) {
    if body.is_binary() {
        out.extend_from_slice(br#","encoding":"base64""#);
    }
    out.extend_from_slice(format!(",\"{name}\":").as_bytes());
    match body {
        Body::Json(json) => out.extend_from_slice(json),
        Body::Binary(data) => {
            out.push(b'"');
            out.extend_from_slice(STANDARD.encode(data).as_bytes());
            out.push(b'"');
        }
    }
}
