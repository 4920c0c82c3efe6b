//! The server's side of each codec: appends one message to a buffer, without a WebSocket header.
//!
//! Arguments ending in `_json` are JSON text and are copied as they are; the rest are plain
//! strings and are escaped here. `text_*` and `v1_*` functions of one name take the same arguments
//! so that a caller holding a connection's codec picks a function, not a code path; V1 has no
//! place for some of them and says so.
//!
//! `phx_close`, `phx_error` and the replies the engine gives by itself are text even to a client
//! that pushes binary.

use std::borrow::Cow;
use std::fmt;

use crate::json::{is_string, unquote, write_string};

/// A part of a binary frame that does not fit its one-byte length. Nothing was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong {
    /// Which part: `join_ref`, `ref`, `topic`, `event` or `status`.
    pub field: &'static str,
    /// Its length in bytes.
    pub len: usize,
}

impl fmt::Display for TooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} of {} bytes in a binary frame; it takes at most 255",
            self.field, self.len
        )
    }
}

impl std::error::Error for TooLong {}

/// `[join_ref, null, topic, event, payload]`: to one client, of its own join.
pub fn text_push(
    out: &mut Vec<u8>,
    join_ref_json: &str,
    topic: &str,
    event: &str,
    payload_json: &[u8],
) {
    text_message(out, join_ref_json, "null", topic, event, payload_json);
}

fn text_message(
    out: &mut Vec<u8>,
    join_ref_json: &str,
    ref_json: &str,
    topic: &str,
    event: &str,
    payload_json: &[u8],
) {
    let refs = join_ref_json.len() + ref_json.len();
    out.reserve(refs + topic.len() + event.len() + payload_json.len() + 12);
    out.push(b'[');
    out.extend_from_slice(join_ref_json.as_bytes());
    out.push(b',');
    out.extend_from_slice(ref_json.as_bytes());
    out.push(b',');
    write_string(out, topic);
    out.push(b',');
    write_string(out, event);
    out.push(b',');
    out.extend_from_slice(payload_json);
    out.push(b']');
}

/// `[join_ref, ref, topic, "phx_reply", {"status": .., "response": ..}]`.
pub fn text_reply(
    out: &mut Vec<u8>,
    join_ref_json: &str,
    ref_json: &str,
    topic_json: &str,
    status: &str,
    response_json: &[u8],
) {
    out.reserve(join_ref_json.len() + ref_json.len() + topic_json.len() + response_json.len() + 64);
    out.push(b'[');
    out.extend_from_slice(join_ref_json.as_bytes());
    out.push(b',');
    out.extend_from_slice(ref_json.as_bytes());
    out.push(b',');
    out.extend_from_slice(topic_json.as_bytes());
    out.extend_from_slice(b",\"phx_reply\",");
    write_answer(out, status, response_json);
    out.push(b']');
}

/// `[null, null, topic, event, payload]`: one encoding for every subscriber.
///
/// With the message's `offset`, on a topic that keeps a log, the ref is `"@offset"`; no ref of a
/// client's begins with `@`, so none is answered by it.
pub fn text_broadcast(
    out: &mut Vec<u8>,
    topic: &str,
    event: &str,
    payload_json: &[u8],
    offset: Option<u64>,
) {
    let ref_json = offset_ref(offset);
    text_message(out, "null", &ref_json, topic, event, payload_json);
}

fn offset_ref(offset: Option<u64>) -> Cow<'static, str> {
    offset.map_or(Cow::Borrowed("null"), |offset| {
        format!("\"@{offset}\"").into()
    })
}

/// `[join_ref, join_ref, topic, "phx_close", {}]`: the channel ended as it should.
pub fn text_close(out: &mut Vec<u8>, join_ref_json: &str, topic: &str) {
    text_end(out, join_ref_json, topic, b",\"phx_close\",{}]");
}

/// `[join_ref, join_ref, topic, "phx_error", {"reason": "channel_crash"}]`: it did not.
pub fn text_error(out: &mut Vec<u8>, join_ref_json: &str, topic: &str) {
    text_end(
        out,
        join_ref_json,
        topic,
        b",\"phx_error\",{\"reason\":\"channel_crash\"}]",
    );
}

fn text_end(out: &mut Vec<u8>, join_ref_json: &str, topic: &str, tail: &[u8]) {
    out.push(b'[');
    out.extend_from_slice(join_ref_json.as_bytes());
    out.push(b',');
    out.extend_from_slice(join_ref_json.as_bytes());
    out.push(b',');
    write_string(out, topic);
    out.extend_from_slice(tail);
}

/// `{"status": .., "response": ..}`.
fn write_answer(out: &mut Vec<u8>, status: &str, response_json: &[u8]) {
    out.extend_from_slice(b"{\"status\":");
    write_string(out, status);
    out.extend_from_slice(b",\"response\":");
    out.extend_from_slice(response_json);
    out.push(b'}');
}

/// `{"topic", "event", "payload", "ref": null}`. V1 carries no join ref.
pub fn v1_push(
    out: &mut Vec<u8>,
    _join_ref_json: &str,
    topic: &str,
    event: &str,
    payload_json: &[u8],
) {
    v1_broadcast(out, topic, event, payload_json, None);
}

/// `{"topic", "event": "phx_reply", "payload": {"status", "response"}, "ref"}`. No join ref.
pub fn v1_reply(
    out: &mut Vec<u8>,
    _join_ref_json: &str,
    ref_json: &str,
    topic_json: &str,
    status: &str,
    response_json: &[u8],
) {
    out.reserve(ref_json.len() + topic_json.len() + response_json.len() + 96);
    out.extend_from_slice(b"{\"topic\":");
    out.extend_from_slice(topic_json.as_bytes());
    out.extend_from_slice(b",\"event\":\"phx_reply\",\"payload\":");
    write_answer(out, status, response_json);
    v1_tail(out, ref_json);
}

/// `{"topic", "event", "payload", "ref": null}`, the ref as [`text_broadcast`] has it.
pub fn v1_broadcast(
    out: &mut Vec<u8>,
    topic: &str,
    event: &str,
    payload_json: &[u8],
    offset: Option<u64>,
) {
    v1_message(out, topic, event, payload_json, &offset_ref(offset));
}

/// `{"topic", "event": "phx_close", "payload": {}, "ref": join_ref}`: the one place where V1 tells
/// the join ref, under the name of `ref`.
pub fn v1_close(out: &mut Vec<u8>, join_ref_json: &str, topic: &str) {
    v1_message(out, topic, "phx_close", b"{}", join_ref_json);
}

/// `{"topic", "event": "phx_error", "payload": {"reason": "channel_crash"}, "ref": join_ref}`.
pub fn v1_error(out: &mut Vec<u8>, join_ref_json: &str, topic: &str) {
    let reason = b"{\"reason\":\"channel_crash\"}";
    v1_message(out, topic, "phx_error", reason, join_ref_json);
}

fn v1_message(out: &mut Vec<u8>, topic: &str, event: &str, payload_json: &[u8], ref_json: &str) {
    out.reserve(topic.len() + event.len() + payload_json.len() + ref_json.len() + 64);
    out.extend_from_slice(b"{\"topic\":");
    write_string(out, topic);
    out.extend_from_slice(b",\"event\":");
    write_string(out, event);
    out.extend_from_slice(b",\"payload\":");
    out.extend_from_slice(payload_json);
    v1_tail(out, ref_json);
}

fn v1_tail(out: &mut Vec<u8>, ref_json: &str) {
    out.extend_from_slice(b",\"ref\":");
    out.extend_from_slice(ref_json.as_bytes());
    out.push(b'}');
}

/// Kind 0, server to client: `00`, lengths of `join_ref`, `topic`, `event`; then these and the data.
///
/// # Errors
/// [`TooLong`] when one of them is over 255 bytes.
pub fn binary_push(
    out: &mut Vec<u8>,
    join_ref_json: &str,
    topic: &str,
    event: &str,
    data: &[u8],
) -> Result<(), TooLong> {
    let join_ref = ref_text(join_ref_json);
    let parts = [("join_ref", &*join_ref), ("topic", topic), ("event", event)];
    write_binary(out, 0, parts, data)
}

/// Kind 1: `01`, lengths of `join_ref`, `ref`, `topic`, `status`; then these and the data.
///
/// # Errors
/// [`TooLong`] when one of them is over 255 bytes.
pub fn binary_reply(
    out: &mut Vec<u8>,
    join_ref_json: &str,
    ref_json: &str,
    topic: &str,
    status: &str,
    data: &[u8],
) -> Result<(), TooLong> {
    let join_ref = ref_text(join_ref_json);
    let reference = ref_text(ref_json);
    let parts = [
        ("join_ref", &*join_ref),
        ("ref", &*reference),
        ("topic", topic),
        ("status", status),
    ];
    write_binary(out, 1, parts, data)
}

/// Kind 2: `02`, lengths of `topic`, `event`; then these and the data. No refs at all.
///
/// # Errors
/// [`TooLong`] when one of them is over 255 bytes.
pub fn binary_broadcast(
    out: &mut Vec<u8>,
    topic: &str,
    event: &str,
    data: &[u8],
) -> Result<(), TooLong> {
    write_binary(out, 2, [("topic", topic), ("event", event)], data)
}

fn write_binary<const N: usize>(
    out: &mut Vec<u8>,
    kind: u8,
    parts: [(&'static str, &str); N],
    data: &[u8],
) -> Result<(), TooLong> {
    let mut lengths = [0u8; N];
    let mut total = 1 + N + data.len();
    for (length, (field, part)) in lengths.iter_mut().zip(parts) {
        let len = part.len();
        *length = u8::try_from(len).map_err(|_| TooLong { field, len })?;
        total += len;
    }
    out.reserve(total);
    out.push(kind);
    out.extend_from_slice(&lengths);
    for (_, part) in parts {
        out.extend_from_slice(part.as_bytes());
    }
    out.extend_from_slice(data);
    Ok(())
}

/// A ref as a binary header holds it: strings without quotes, null as nothing, numbers in digits.
fn ref_text(ref_json: &str) -> Cow<'_, str> {
    if ref_json == "null" {
        return Cow::Borrowed("");
    }
    if is_string(ref_json) {
        // Refs come from a decoder of this crate; other text has no meaning to keep.
        return unquote(ref_json).unwrap_or(Cow::Borrowed(ref_json));
    }
    Cow::Borrowed(ref_json)
}
