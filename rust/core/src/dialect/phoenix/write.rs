//! Answers and broadcasts as whole websocket frames, in the codec of who gets them.

use crate::gateway::{Body, Event};
use crate::ws::{self, Opcode};

use super::{encode, V2};

pub(super) const OK: &str = "ok";
pub(super) const ERROR: &str = "error";
pub(super) const NOTHING: &[u8] = b"{}";

/// An error's response; `reason` is a word of ours that needs no escapes.
pub(super) fn because(reason: &str) -> String {
    format!("{{\"reason\":\"{reason}\"}}")
}

/// A broadcast; false when the variant cannot carry it.
pub(super) fn frame_broadcast(out: &mut Vec<u8>, variant: u8, event: &Event<'_>) -> bool {
    let names = event.topic.len() + event.event.len();
    let offset = event.position.map(|position| position.offset);
    match (variant, event.body) {
        (V2, Body::Json(json)) => {
            ws::frame_sized(out, Opcode::Text, names + json.len() + 18, |out| {
                encode::text_broadcast(out, event.topic, event.event, json, offset);
            });
            true
        }
        (V2, Body::Binary(data)) => {
            ws::try_frame_sized(out, Opcode::Binary, names + data.len() + 3, |out| {
                encode::binary_broadcast(out, event.topic, event.event, data)
            })
            .is_ok()
        }
        (_, Body::Json(json)) => {
            ws::frame_sized(out, Opcode::Text, names + json.len() + 45, |out| {
                encode::v1_broadcast(out, event.topic, event.event, json, offset);
            });
            true
        }
        (_, Body::Binary(_)) => false,
    }
}

pub(super) fn frame_reply(
    out: &mut Vec<u8>,
    variant: u8,
    join_ref: &str,
    reference: &str,
    topic_json: &str,
    status: &str,
    response: &[u8],
) {
    ws::frame_sized(out, Opcode::Text, response.len() + 64, |out| {
        let reply = if variant == V2 {
            encode::text_reply
        } else {
            encode::v1_reply
        };
        reply(out, join_ref, reference, topic_json, status, response);
    });
}

/// `phx_error` for a crash, `phx_close` otherwise: text in every codec.
pub(super) fn frame_end(out: &mut Vec<u8>, variant: u8, join_ref: &str, topic: &str, crash: bool) {
    ws::frame_into(out, Opcode::Text, |out| {
        let end = match (variant, crash) {
            (V2, false) => encode::text_close,
            (V2, true) => encode::text_error,
            (_, false) => encode::v1_close,
            (_, true) => encode::v1_error,
        };
        end(out, join_ref, topic);
    });
}

pub(super) fn frame_push(
    out: &mut Vec<u8>,
    variant: u8,
    join_ref: &str,
    topic: &str,
    event: &str,
    json: &[u8],
) {
    let size = join_ref.len() + topic.len() + event.len() + json.len() + 14;
    ws::frame_sized(out, Opcode::Text, size, |out| {
        let push = if variant == V2 {
            encode::text_push
        } else {
            encode::v1_push
        };
        push(out, join_ref, topic, event, json);
    });
}
