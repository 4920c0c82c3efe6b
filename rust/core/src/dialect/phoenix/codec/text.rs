//! V2 text: the JSON array `[join_ref, ref, topic, event, payload]`.
//!
//! Elements past the fifth are ignored as the reference ignores them, though the frame as a whole
//! must be JSON. Every element is taken as text and only what routing needs is looked into: the
//! payload is never decoded here.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserializer, IgnoredAny, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::json;

use super::{refusal, DecodeError, Inbound, Payload};

/// Reads one V2 text frame.
///
/// # Errors
/// [`DecodeError`]: `NotUtf8`, `NotJson`, `NotAnArray`, `TooShort` or `EventNotString`,
/// the first that applies in this order.
pub fn decode_text(frame: &[u8]) -> Result<Inbound<'_>, DecodeError> {
    let text = json::text(frame)?;
    if json::first_byte(text) != Some(b'[') {
        return Err(refusal(text, DecodeError::NotAnArray));
    }
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let elements = deserializer
        .deserialize_seq(FirstFive)
        .and_then(|elements| deserializer.end().map(|()| elements))
        .map_err(|_| DecodeError::NotJson)?;
    if !json::surrogates_are_paired(text) {
        return Err(DecodeError::NotJson);
    }
    let [join_ref, reference, topic, event, payload] = elements.ok_or(DecodeError::TooShort)?;
    message(join_ref, reference, topic, event, payload)
}

/// A message from the JSON text of its five parts, as V2 text and V1 share it.
pub(super) fn message<'a>(
    join_ref: &'a str,
    reference: &'a str,
    topic: &'a str,
    event: &'a str,
    payload: &'a str,
) -> Result<Inbound<'a>, DecodeError> {
    if !json::is_string(event) {
        return Err(DecodeError::EventNotString);
    }
    let (topic, topic_json) = if json::is_string(topic) {
        (Some(json::unquote(topic)?), json::canonical(topic)?)
    } else {
        (None, Cow::Borrowed(topic))
    };
    Ok(Inbound {
        join_ref: json::canonical(join_ref)?,
        reference: json::canonical(reference)?,
        topic,
        topic_json,
        event: json::unquote(event)?,
        payload: if json::nests_too_deep(payload.as_bytes()) {
            Payload::TooDeep
        } else {
            Payload::Json(payload)
        },
    })
}

/// Collects the text of the first five elements; `None` when there are fewer.
struct FirstFive;

impl<'de> Visitor<'de> for FirstFive {
    type Value = Option<[&'de str; 5]>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of at least five elements")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut elements = [""; 5];
        for element in &mut elements {
            match seq.next_element::<&'de RawValue>()? {
                Some(raw) => *element = raw.get(),
                None => return Ok(None),
            }
        }
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Some(elements))
    }
}
