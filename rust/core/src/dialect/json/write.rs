//! Everything a client is told, as whole WebSocket frames.

use crate::gateway::{Began, Body, Event};
use crate::json::write_string;
use crate::log::Position;
use crate::ws::{self, Opcode};

use super::decode::Trouble;
use super::object;

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

pub(super) fn event(out: &mut Vec<u8>, event: &Event<'_>) {
    let size = event.topic.len() + event.event.len() + event.body.bytes().len() + 80;
    frame(out, size, |out| object::event(out, event));
}

pub(super) fn subscribed(
    out: &mut Vec<u8>,
    id: &str,
    topic: &str,
    response: Body<'_>,
    began: Option<Began>,
) {
    frame(out, topic.len() + response.bytes().len() + 160, |out| {
        object::subscribed(out, Some(id), topic, response, began);
    });
}

pub(super) fn unsubscribed(out: &mut Vec<u8>, id: &str, topic: &str, reason: &str) {
    frame(out, topic.len() + 96, |out| {
        object::unsubscribed(out, Some(id), topic, reason);
    });
}

pub(super) fn reply(out: &mut Vec<u8>, id: &str, topic: &str, status: &str, body: Body<'_>) {
    frame(out, topic.len() + body.bytes().len() + 96, |out| {
        object::answer(out, "reply", Some(id), topic);
        out.extend_from_slice(br#","status":"#);
        write_string(out, status);
        object::payload(out, "response", body);
        out.push(b'}');
    });
}

/// A message that has been published, and where, if the topic keeps a log.
pub(super) fn published(out: &mut Vec<u8>, id: &str, topic: &str, position: Option<Position>) {
    frame(out, id.len() + topic.len() + 96, |out| {
        object::answer(out, "published", Some(id), topic);
        if let Some(Position { epoch, offset }) = position {
            out.extend_from_slice(format!(",\"epoch\":{epoch},\"offset\":{offset}").as_bytes());
        }
        out.push(b'}');
    });
}

/// A subscription that was refused; `response` is what its channel says of it.
pub(super) fn refused(out: &mut Vec<u8>, id: &str, topic: &str, response: &[u8]) {
    frame(out, topic.len() + response.len() + 160, |out| {
        object::refused(out, Some(id), topic, response);
    });
}

pub(super) fn error(out: &mut Vec<u8>, id: &str, why: Trouble, received: Option<&[u8]>) {
    frame(out, 400, |out| object::error(out, Some(id), why, received));
}
