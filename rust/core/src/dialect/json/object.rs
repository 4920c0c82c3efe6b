//! What a client is told, as JSON objects: the same on every transport that carries JSON.

use base64::engine::general_purpose::STANDARD;
use base64::Engine as _;

use crate::gateway::{Began, Body, Event};
use crate::json::{quote, write_string};

use super::decode::Trouble;

/// Characters of a message that an error repeats.
const REPEATED: usize = 200;

/// `{"type": "event", "topic", "event", "offset", "payload"}`, the offset where the topic keeps a log.
pub fn event(out: &mut Vec<u8>, event: &Event<'_>) {
    out.extend_from_slice(br#"{"type":"event","topic":"#);
    write_string(out, event.topic);
    out.extend_from_slice(br#","event":"#);
    write_string(out, event.event);
    if let Some(position) = event.position {
        out.extend_from_slice(format!(",\"offset\":{}", position.offset).as_bytes());
    }
    payload(out, "payload", event.body);
    out.push(b'}');
}

pub fn subscribed(
    out: &mut Vec<u8>,
    id: Option<&str>,
    topic: &str,
    response: Body<'_>,
    began: Option<Began>,
) {
    answer(out, "subscribed", id, topic);
    if let Some(began) = began {
        out.push(b',');
        out.extend_from_slice(began.members().as_bytes());
    }
    payload(out, "response", response);
    out.push(b'}');
}

pub fn unsubscribed(out: &mut Vec<u8>, id: Option<&str>, topic: &str, reason: &str) {
    answer(out, "unsubscribed", id, topic);
    out.extend_from_slice(br#","reason":"#);
    write_string(out, reason);
    out.push(b'}');
}

/// A subscription that was refused; `response` is what its channel says of it.
pub fn refused(out: &mut Vec<u8>, id: Option<&str>, topic: &str, response: &[u8]) {
    answer(out, "error", id, topic);
    let text = r#","code":"refused","message":"the subscription was refused","response":"#;
    out.extend_from_slice(text.as_bytes());
    out.extend_from_slice(response);
    out.push(b'}');
}

/// `{"type": "error", "id", "code", "message", "received", "accepted"}`.
pub fn error(out: &mut Vec<u8>, id: Option<&str>, why: Trouble, received: Option<&[u8]>) {
    out.extend_from_slice(br#"{"type":"error""#);
    named(out, id);
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
}

/// `{"type": .., "id": .., "topic": ..`, without the brace behind it.
pub(super) fn answer(out: &mut Vec<u8>, kind: &str, id: Option<&str>, topic: &str) {
    out.extend_from_slice(format!("{{\"type\":\"{kind}\"").as_bytes());
    named(out, id);
    out.extend_from_slice(br#","topic":"#);
    out.extend_from_slice(quote(topic).as_bytes());
}

/// The member that repeats what the client called its message, where messages have names.
fn named(out: &mut Vec<u8>, id: Option<&str>) {
    if let Some(id) = id {
        out.extend_from_slice(br#","id":"#);
        out.extend_from_slice(id.as_bytes());
    }
}

/// A member with a payload. Bytes travel in base64 and say so.
pub(super) fn payload(out: &mut Vec<u8>, name: &str, body: Body<'_>) {
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
