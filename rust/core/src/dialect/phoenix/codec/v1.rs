//! V1: the JSON object `{"topic", "event", "payload", "ref"}`, with an optional `join_ref`.
//!
//! What a client that names no version speaks. A key given twice counts with its last value, as in
//! the decoders of the reference and of Python; other keys are ignored.

use crate::json;

use super::text::message;
use super::{refusal, DecodeError, Inbound};

/// Reads one V1 frame.
///
/// # Errors
/// [`DecodeError`]: `NotUtf8`, `NotJson`, `NotAnObject`, `MissingKey` (topic, event,
/// payload, ref, the first missing in this order) or `EventNotString`.
pub fn decode_v1(frame: &[u8]) -> Result<Inbound<'_>, DecodeError> {
    let text = json::text(frame)?;
    if json::first_byte(text) != Some(b'{') {
        return Err(refusal(text, DecodeError::NotAnObject));
    }
    let names = ["topic", "event", "payload", "ref", "join_ref"];
    let [topic, event, payload, reference, join_ref] = json::members(text, names)?;
    let topic = topic.ok_or(DecodeError::MissingKey("topic"))?;
    let event = event.ok_or(DecodeError::MissingKey("event"))?;
    let payload = payload.ok_or(DecodeError::MissingKey("payload"))?;
    let reference = reference.ok_or(DecodeError::MissingKey("ref"))?;
    message(join_ref.unwrap_or("null"), reference, topic, event, payload)
}
