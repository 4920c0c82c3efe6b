//! V1: the JSON object `{"topic", "event", "payload", "ref"}`, with an optional `join_ref`.
//!
//! What a client that names no version speaks. A key given twice counts with its last value, as in
//! the decoders of the reference and of Python; other keys are ignored.

use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::text::message;
use super::{json, DecodeError, Inbound};

/// Reads one V1 frame.
///
/// # Errors
/// [`DecodeError`]: `NotUtf8`, `NotJson`, `NotAnObject`, `MissingKey` (topic, event,
/// payload, ref, the first missing in this order) or `EventNotString`.
pub fn decode_v1(frame: &[u8]) -> Result<Inbound<'_>, DecodeError> {
    let text = json::text(frame)?;
    if json::first_byte(text) != Some(b'{') {
        return Err(json::refusal(text, DecodeError::NotAnObject));
    }
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let fields = deserializer
        .deserialize_map(FieldsVisitor)
        .and_then(|fields| deserializer.end().map(|()| fields))
        .map_err(|_| DecodeError::NotJson)?;
    if !json::surrogates_are_paired(text) {
        return Err(DecodeError::NotJson);
    }
    let topic = fields.topic.ok_or(DecodeError::MissingKey("topic"))?;
    let event = fields.event.ok_or(DecodeError::MissingKey("event"))?;
    let payload = fields.payload.ok_or(DecodeError::MissingKey("payload"))?;
    let reference = fields.reference.ok_or(DecodeError::MissingKey("ref"))?;
    message(
        fields.join_ref.unwrap_or("null"),
        reference,
        topic,
        event,
        payload,
    )
}

#[derive(Default)]
struct Fields<'a> {
    topic: Option<&'a str>,
    event: Option<&'a str>,
    payload: Option<&'a str>,
    reference: Option<&'a str>,
    join_ref: Option<&'a str>,
}

struct FieldsVisitor;

impl<'de> Visitor<'de> for FieldsVisitor {
    type Value = Fields<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with topic, event, payload and ref")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut fields = Fields::default();
        while let Some(key) = map.next_key::<Key>()? {
            let field = match key {
                Key::Topic => &mut fields.topic,
                Key::Event => &mut fields.event,
                Key::Payload => &mut fields.payload,
                Key::Reference => &mut fields.reference,
                Key::JoinRef => &mut fields.join_ref,
                Key::Other => {
                    map.next_value::<IgnoredAny>()?;
                    continue;
                }
            };
            *field = Some(map.next_value::<&'de RawValue>()?.get());
        }
        Ok(fields)
    }
}

/// The keys that mean something, told apart without allocating, escapes included.
enum Key {
    Topic,
    Event,
    Payload,
    Reference,
    JoinRef,
    Other,
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_identifier(KeyVisitor)
    }
}

struct KeyVisitor;

impl Visitor<'_> for KeyVisitor {
    type Value = Key;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<Key, E> {
        Ok(match key {
            "topic" => Key::Topic,
            "event" => Key::Event,
            "payload" => Key::Payload,
            "ref" => Key::Reference,
            "join_ref" => Key::JoinRef,
            _ => Key::Other,
        })
    }
}
