//! Answers and broadcasts as whole websocket frames, in the codec of who gets them.

use crate::hub::{Codec, Encode};
use crate::phoenix::encode;
use crate::ws::{self, Opcode};

pub(super) const OK: &str = "ok";
pub(super) const ERROR: &str = "error";
pub(super) const NOTHING: &[u8] = b"{}";

/// An error's response; `reason` is a word of ours that needs no escapes.
pub(super) fn because(reason: &str) -> String {
    format!("{{\"reason\":\"{reason}\"}}")
}

/// A payload on its way out.
#[derive(Debug, Clone, Copy)]
pub enum Body<'a> {
    Json(&'a [u8]),
    Binary(&'a [u8]),
}

/// A broadcast in every Phoenix codec.
pub(super) struct Broadcast<'a> {
    pub topic: &'a str,
    pub event: &'a str,
    pub body: Body<'a>,
}

impl Encode for Broadcast<'_> {
    fn encode(&self, codec: Codec, out: &mut Vec<u8>) -> bool {
        match (codec, self.body) {
            (Codec::PhoenixV2, Body::Json(json)) => {
                let size = self.topic.len() + self.event.len() + json.len() + 18;
                ws::frame_sized(out, Opcode::Text, size, |out| {
                    encode::text_broadcast(out, self.topic, self.event, json);
                });
                true
            }
            (Codec::PhoenixV2, Body::Binary(data)) => {
                let size = self.topic.len() + self.event.len() + data.len() + 3;
                ws::try_frame_sized(out, Opcode::Binary, size, |out| {
                    encode::binary_broadcast(out, self.topic, self.event, data)
                })
                .is_ok()
            }
            (Codec::PhoenixV1, Body::Json(json)) => {
                let size = self.topic.len() + self.event.len() + json.len() + 45;
                ws::frame_sized(out, Opcode::Text, size, |out| {
                    encode::v1_broadcast(out, self.topic, self.event, json);
                });
                true
            }
            (Codec::PhoenixV1, Body::Binary(_)) => false,
        }
    }
}

pub(super) fn json_string(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

pub(super) fn frame_reply(
    out: &mut Vec<u8>,
    codec: Codec,
    join_ref: &str,
    reference: &str,
    topic_json: &str,
    status: &str,
    response: &[u8],
) {
    ws::frame_sized(out, Opcode::Text, response.len() + 64, |out| match codec {
        Codec::PhoenixV2 => {
            encode::text_reply(out, join_ref, reference, topic_json, status, response);
        }
        Codec::PhoenixV1 => {
            encode::v1_reply(out, join_ref, reference, topic_json, status, response);
        }
    });
}

/// `phx_error` for a crash, `phx_close` otherwise: text in every codec.
pub(super) fn frame_end(out: &mut Vec<u8>, codec: Codec, join_ref: &str, topic: &str, crash: bool) {
    ws::frame_into(out, Opcode::Text, |out| match (codec, crash) {
        (Codec::PhoenixV2, false) => encode::text_close(out, join_ref, topic),
        (Codec::PhoenixV2, true) => encode::text_error(out, join_ref, topic),
        (Codec::PhoenixV1, false) => encode::v1_close(out, join_ref, topic),
        (Codec::PhoenixV1, true) => encode::v1_error(out, join_ref, topic),
    });
}

pub(super) fn frame_push(
    out: &mut Vec<u8>,
    codec: Codec,
    join_ref: &str,
    topic: &str,
    event: &str,
    json: &[u8],
) {
    let size = join_ref.len() + topic.len() + event.len() + json.len() + 14;
    ws::frame_sized(out, Opcode::Text, size, |out| match codec {
        Codec::PhoenixV2 => encode::text_push(out, join_ref, topic, event, json),
        Codec::PhoenixV1 => encode::v1_push(out, join_ref, topic, event, json),
    });
}
