//! The golden frames of `tests/vectors.json`, read by the Rust, Python and TypeScript tests alike.
//!
//! Each is `{name, codec, direction, encoding, frame, meaning}`:
//!
//! - `codec` is `v2-text`, `v2-binary` or `v1`; `direction` is `in` (a client's) or `out` (the
//!   server's); `frame` is the message itself when `encoding` is `text`, its bytes when `hex`.
//! - The meaning of an inbound frame is `{join_ref, ref, topic, event, payload}` as JSON values, or
//!   `{error}` with the decoder's label (and `key` or `kind` where the error names one).
//! - That of an outbound frame has `kind` push, reply, broadcast, close or error; a reply has
//!   `status` and `response` in place of `event` and `payload`. The frame is exact, byte for byte.
//! - Binary payloads and responses are `data`, in hex.

use moda_core::dialect::phoenix::{self, encode, DecodeError, Inbound, Payload};
use serde_json::Value;

struct Vector {
    name: String,
    codec: String,
    outbound: bool,
    frame: Vec<u8>,
    meaning: Value,
}

fn vectors() -> Vec<Vector> {
    let text = include_str!("../../../tests/vectors.json");
    let list: Vec<Value> = serde_json::from_str(text).expect("vectors.json is a JSON list");
    list.iter().map(vector).collect()
}

fn vector(entry: &Value) -> Vector {
    let string = |key: &str| {
        let value = entry[key].as_str();
        value
            .unwrap_or_else(|| panic!("{key} of {entry}"))
            .to_owned()
    };
    let frame = string("frame");
    let direction = string("direction");
    assert!(["in", "out"].contains(&&*direction), "direction of {entry}");
    Vector {
        name: string("name"),
        codec: string("codec"),
        outbound: direction == "out",
        frame: match &*string("encoding") {
            "text" => frame.into_bytes(),
            "hex" => unhex(&frame),
            other => panic!("encoding {other:?}"),
        },
        meaning: entry["meaning"].clone(),
    }
}

fn unhex(text: &str) -> Vec<u8> {
    assert_eq!(text.len() % 2, 0, "{text}");
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).expect("hex"))
        .collect()
}

fn value(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn decode<'a>(codec: &str, frame: &'a [u8]) -> Result<Inbound<'a>, DecodeError> {
    match codec {
        "v2-text" => phoenix::decode_text(frame),
        "v2-binary" => phoenix::decode_binary(frame),
        "v1" => phoenix::decode_v1(frame),
        other => panic!("codec {other:?}"),
    }
}

fn assert_means(name: &str, decoded: &Inbound<'_>, meaning: &Value) {
    for (text, key) in [
        (&decoded.join_ref, "join_ref"),
        (&decoded.reference, "ref"),
        (&decoded.topic_json, "topic"),
    ] {
        assert_eq!(value(text), meaning[key], "{key} of {name}");
        if meaning[key].is_string() {
            assert_eq!(
                **text,
                meaning[key].to_string(),
                "canonical {key} of {name}"
            );
        }
    }
    assert_eq!(
        decoded.topic.as_deref(),
        meaning["topic"].as_str(),
        "{name}"
    );
    assert_eq!(Some(&*decoded.event), meaning["event"].as_str(), "{name}");
    match decoded.payload {
        Payload::Json(text) => assert_eq!(value(text), meaning["payload"], "{name}"),
        Payload::Binary(data) => {
            let expected = meaning["data"].as_str().expect("data");
            assert_eq!(data, unhex(expected), "{name}");
        }
        Payload::TooDeep => panic!("{name}"),
    }
}

#[test]
fn every_inbound_vector_is_decoded_to_its_meaning_or_refused_for_its_reason() {
    let mut seen = 0;
    for vector in vectors().iter().filter(|vector| !vector.outbound) {
        let Vector {
            name,
            codec,
            frame,
            meaning,
            ..
        } = vector;
        match (decode(codec, frame), meaning["error"].as_str()) {
            (Ok(decoded), None) => assert_means(name, &decoded, meaning),
            (Ok(decoded), Some("too_deep")) => {
                assert_eq!(decoded.payload, Payload::TooDeep, "{name}");
            }
            (Err(error), Some(label)) => {
                assert_eq!(error.as_str(), label, "{name}");
                match error {
                    DecodeError::MissingKey(key) => assert_eq!(meaning["key"], key, "{name}"),
                    DecodeError::BinaryKind(kind) => assert_eq!(meaning["kind"], kind, "{name}"),
                    _ => {}
                }
            }
            (outcome, expected) => panic!("{name}: {outcome:?}, expected error {expected:?}"),
        }
        seen += 1;
    }
    assert!(seen > 50, "only {seen} inbound vectors");
}

#[test]
fn every_outbound_vector_is_what_the_encoder_writes() {
    let mut seen = 0;
    for vector in vectors().iter().filter(|vector| vector.outbound) {
        let mut out = b"before".to_vec();
        if vector.codec == "v2-binary" {
            encode_binary(&mut out, &vector.meaning);
        } else {
            encode_text(&mut out, &vector.meaning, vector.codec == "v1");
        }
        assert_eq!(
            String::from_utf8_lossy(&out[6..]),
            String::from_utf8_lossy(&vector.frame),
            "{}",
            vector.name
        );
        assert_eq!(&out[6..], vector.frame, "{}", vector.name);
        seen += 1;
    }
    assert!(seen > 20, "only {seen} outbound vectors");
}

fn encode_text(out: &mut Vec<u8>, meaning: &Value, v1: bool) {
    let join_ref = meaning["join_ref"].to_string();
    let reference = meaning["ref"].to_string();
    let topic_json = meaning["topic"].to_string();
    let topic = meaning["topic"].as_str().unwrap_or_default();
    let event = meaning["event"].as_str().unwrap_or_default();
    let status = meaning["status"].as_str().unwrap_or_default();
    let payload = meaning["payload"].to_string();
    let response = meaning["response"].to_string();
    let (payload, response) = (payload.as_bytes(), response.as_bytes());
    let kind = meaning["kind"].as_str().unwrap_or_default();
    match (kind, v1) {
        ("push", false) => encode::text_push(out, &join_ref, topic, event, payload),
        ("push", true) => encode::v1_push(out, &join_ref, topic, event, payload),
        ("reply", false) => {
            encode::text_reply(out, &join_ref, &reference, &topic_json, status, response);
        }
        ("reply", true) => {
            encode::v1_reply(out, &join_ref, &reference, &topic_json, status, response);
        }
        ("broadcast", false) => encode::text_broadcast(out, topic, event, payload, None),
        ("broadcast", true) => encode::v1_broadcast(out, topic, event, payload, None),
        ("close", false) => encode::text_close(out, &join_ref, topic),
        ("close", true) => encode::v1_close(out, &join_ref, topic),
        ("error", false) => encode::text_error(out, &join_ref, topic),
        ("error", true) => encode::v1_error(out, &join_ref, topic),
        _ => panic!("kind of {meaning}"),
    }
}

fn encode_binary(out: &mut Vec<u8>, meaning: &Value) {
    let join_ref = meaning["join_ref"].to_string();
    let reference = meaning["ref"].to_string();
    let topic = meaning["topic"].as_str().expect("topic");
    let event = meaning["event"].as_str().unwrap_or_default();
    let status = meaning["status"].as_str().unwrap_or_default();
    let data = unhex(meaning["data"].as_str().expect("data"));
    let written = match meaning["kind"].as_str() {
        Some("push") => encode::binary_push(out, &join_ref, topic, event, &data),
        Some("reply") => encode::binary_reply(out, &join_ref, &reference, topic, status, &data),
        Some("broadcast") => encode::binary_broadcast(out, topic, event, &data),
        _ => panic!("kind of {meaning}"),
    };
    assert_eq!(written, Ok(()), "{meaning}");
}
