//! What holds for every message: encode and decode are inverse, refs compare by value, nothing is
//! written when something does not fit, and a plain text message is read without allocating.

use std::borrow::Cow;

use moda_core::dialect::phoenix::{
    decode_binary, decode_text, decode_v1, encode, Payload, TooLong,
};
use proptest::prelude::*;
use serde_json::{json, Value};

/// JSON values a few levels deep, with every kind of character in strings and keys.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any_text().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(any_text(), inner, 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

fn any_text() -> impl Strategy<Value = String> {
    prop::collection::vec(any::<char>(), 0..12).prop_map(|chars| chars.into_iter().collect())
}

/// `text` as a JSON string in which every character is an escape.
fn escaped(text: &str) -> String {
    let units: Vec<String> = text
        .encode_utf16()
        .map(|unit| format!("\\u{unit:04X}"))
        .collect();
    format!("\"{}\"", units.concat())
}

fn value(text: &[u8]) -> Value {
    serde_json::from_slice(text).expect("valid JSON")
}

proptest! {
    #[test]
    fn a_text_frame_is_read_as_it_was_written(
        join_ref in any_json(), reference in any_json(), topic in any_json(),
        event in any_text(), payload in any_json(),
    ) {
        let frame = json!([join_ref, reference, topic, event, payload]).to_string();
        let read = decode_text(frame.as_bytes()).unwrap();
        prop_assert_eq!(value(read.join_ref.as_bytes()), join_ref);
        prop_assert_eq!(value(read.reference.as_bytes()), reference);
        prop_assert_eq!(read.topic.as_deref(), topic.as_str());
        prop_assert_eq!(value(read.topic_json.as_bytes()), topic);
        prop_assert_eq!(&*read.event, event);
        let Payload::Json(text) = read.payload else { panic!("binary payload") };
        prop_assert_eq!(value(text.as_bytes()), payload);
    }

    #[test]
    fn a_v1_frame_means_what_its_v2_twin_means(
        join_ref in any_json(), reference in any_json(), topic in any_json(),
        event in any_text(), payload in any_json(),
    ) {
        let v2 = json!([join_ref, reference, topic, event, payload]).to_string();
        let v1 = json!({
            "topic": topic, "event": event, "payload": payload, "ref": reference,
            "join_ref": join_ref, "other": payload,
        })
        .to_string();
        prop_assert_eq!(decode_v1(v1.as_bytes()).unwrap(), decode_text(v2.as_bytes()).unwrap());
    }

    #[test]
    fn strings_are_equal_however_they_are_escaped(join_ref in any_text(), topic in any_text()) {
        let plain = json!([join_ref, join_ref, topic, topic, 1]).to_string();
        let (j, t) = (escaped(&join_ref), escaped(&topic));
        let other = format!("[{j},{j},{t},{t},1]");
        prop_assert_eq!(
            decode_text(plain.as_bytes()).unwrap(),
            decode_text(other.as_bytes()).unwrap()
        );
    }

    #[test]
    fn what_the_server_writes_in_text_is_the_documented_array(
        join_ref in any_json(), reference in any_json(), topic in any_text(),
        event in any_text(), payload in any_json(),
    ) {
        let (j, r) = (join_ref.to_string(), reference.to_string());
        let (t, p) = (json!(topic).to_string(), payload.to_string());
        let mut out = Vec::new();
        encode::text_push(&mut out, &j, &topic, &event, p.as_bytes());
        prop_assert_eq!(value(&out), json!([join_ref, null, topic, event, payload]));
        out.clear();
        encode::text_reply(&mut out, &j, &r, &t, &event, p.as_bytes());
        let answer = json!({"status": event, "response": payload});
        prop_assert_eq!(value(&out), json!([join_ref, reference, topic, "phx_reply", answer]));
        out.clear();
        encode::v1_reply(&mut out, &j, &r, &t, &event, p.as_bytes());
        prop_assert_eq!(
            value(&out),
            json!({"topic": topic, "event": "phx_reply", "payload": answer, "ref": reference})
        );
    }

    #[test]
    fn a_binary_frame_is_read_as_it_was_written(
        join_ref in "\\PC{0,60}", reference in "\\PC{0,60}", topic in "\\PC{0,60}",
        event in "\\PC{0,60}", data in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        // A reply has the layout of a client's push, but for its kind.
        let (j, r) = (json!(join_ref).to_string(), json!(reference).to_string());
        let mut out = Vec::new();
        encode::binary_reply(&mut out, &j, &r, &topic, &event, &data).unwrap();
        prop_assert_eq!(out[0], 1);
        out[0] = 0;
        let read = decode_binary(&out).unwrap();
        prop_assert_eq!(&*read.join_ref, j);
        prop_assert_eq!(&*read.reference, r);
        prop_assert_eq!(read.topic.as_deref(), Some(&*topic));
        prop_assert_eq!(value(read.topic_json.as_bytes()), json!(topic));
        prop_assert_eq!(&*read.event, event);
        prop_assert_eq!(read.payload, Payload::Binary(&data));
    }

    #[test]
    fn no_bytes_make_a_decoder_panic(frame in prop::collection::vec(any::<u8>(), 0..200)) {
        for decode in [decode_text, decode_v1, decode_binary] {
            if let Err(error) = decode(&frame) {
                prop_assert!(!error.as_str().is_empty());
            }
        }
    }
}

#[test]
fn a_part_over_255_bytes_is_named_and_nothing_is_written() {
    let long = "x".repeat(256);
    let long_ref = format!("\"{long}\"");
    let mut out = b"before".to_vec();
    let too_long = |field| Err(TooLong { field, len: 256 });
    let table = [
        (
            encode::binary_push(&mut out, &long_ref, "t", "e", b""),
            too_long("join_ref"),
        ),
        (
            encode::binary_push(&mut out, "null", &long, "e", b""),
            too_long("topic"),
        ),
        (
            encode::binary_push(&mut out, "null", "t", &long, b""),
            too_long("event"),
        ),
        (
            encode::binary_reply(&mut out, "1", &long_ref, "t", "ok", b""),
            too_long("ref"),
        ),
        (
            encode::binary_reply(&mut out, "1", "2", "t", &long, b""),
            too_long("status"),
        ),
        (
            encode::binary_broadcast(&mut out, &long, "e", b""),
            too_long("topic"),
        ),
    ];
    for (outcome, expected) in table {
        assert_eq!(outcome, expected);
    }
    assert_eq!(out, b"before");
    assert_eq!(
        too_long("topic").map_err(|error| error.to_string()),
        Err::<(), _>("topic of 256 bytes in a binary frame; it takes at most 255".to_owned())
    );
}

#[test]
fn a_length_counts_the_bytes_of_a_ref_without_its_escapes() {
    let long = format!("\"{}\"", "\\n".repeat(255));
    let mut out = Vec::new();
    assert_eq!(encode::binary_push(&mut out, &long, "t", "e", b""), Ok(()));
    assert_eq!(out[1], 255);
}

#[test]
fn a_text_message_without_escapes_borrows_everything() {
    let frame = br#"["12","345","room:lobby","new_msg",{"body":"an \"escaped\" payload"}]"#;
    let read = decode_text(frame).unwrap();
    for part in [
        &read.join_ref,
        &read.reference,
        &read.topic_json,
        &read.event,
    ] {
        assert!(matches!(part, Cow::Borrowed(_)), "{part}");
    }
    assert!(matches!(read.topic, Some(Cow::Borrowed("room:lobby"))));
}

#[test]
fn a_message_names_what_is_wrong_with_it() {
    let table: &[(&[u8], &str)] = &[
        (b"[]", "frame has fewer than 5 elements"),
        (&[b'['; 200], "frame is not valid JSON"),
        (
            b"{}",
            "frame is not a JSON array [join_ref, ref, topic, event, payload]",
        ),
    ];
    for (frame, message) in table {
        assert_eq!(decode_text(frame).unwrap_err().to_string(), *message);
    }
    assert_eq!(
        decode_v1(b"{}").unwrap_err().to_string(),
        "frame has no key \"topic\""
    );
    assert_eq!(
        decode_binary(b"\x05").unwrap_err().to_string(),
        "binary frame of kind 5; clients send kind 0 only"
    );
}
