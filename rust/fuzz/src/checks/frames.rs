//! Phoenix frames of a client: V2 text and V1 (one target, since both are JSON), and V2 binary.

use moda_core::dialect::phoenix::{
    decode_binary, decode_text, decode_v1, encode, DecodeError, Inbound, Payload, MAX_DEPTH,
};

use super::grammar::{depth, parse, unquote, Top};

/// The JSON text of join ref, ref, topic, event and payload.
type Parts<'a> = [&'a str; 5];

/// Any bytes as a V2 text frame and as a V1 frame.
pub fn frame_text(data: &[u8]) {
    compare(decode_text(data), v2_parts(data));
    compare(decode_v1(data), v1_parts(data));
}

fn v2_parts(data: &[u8]) -> Result<Parts<'_>, &'static str> {
    let Top::Array(items) = parse(data)? else {
        return Err("not_an_array");
    };
    let parts = *items.first_chunk::<5>().ok_or("too_short")?;
    with_a_named_event(parts)
}

fn v1_parts(data: &[u8]) -> Result<Parts<'_>, &'static str> {
    let Top::Object(members) = parse(data)? else {
        return Err("not_an_object");
    };
    let last = |name: &str| {
        let named = members.iter().rev().find(|(key, _)| unquote(key) == name);
        named.map(|(_, value)| *value)
    };
    let needed = |name| last(name).ok_or("missing_key");
    let [topic, event] = [needed("topic")?, needed("event")?];
    let [payload, reference] = [needed("payload")?, needed("ref")?];
    let join_ref = last("join_ref").unwrap_or("null");
    with_a_named_event([join_ref, reference, topic, event, payload])
}

fn with_a_named_event(parts: Parts<'_>) -> Result<Parts<'_>, &'static str> {
    if parts[3].starts_with('"') {
        Ok(parts)
    } else {
        Err("event_not_string")
    }
}

fn compare(decoded: Result<Inbound<'_>, DecodeError>, expected: Result<Parts<'_>, &'static str>) {
    match (decoded, expected) {
        (Ok(message), Ok([join_ref, reference, topic, event, payload])) => {
            assert_eq!(message.join_ref, canonical(join_ref));
            assert_eq!(message.reference, canonical(reference));
            assert_eq!(message.topic_json, canonical(topic));
            let topic = topic.starts_with('"').then(|| unquote(topic));
            assert_eq!(message.topic.as_deref(), topic.as_deref());
            assert_eq!(message.event, unquote(event));
            if depth(payload.as_bytes()) > MAX_DEPTH {
                assert_eq!(message.payload, Payload::TooDeep);
                return;
            }
            assert_eq!(message.payload, Payload::Json(payload));
            written_again_it_is_the_same(&message, payload);
        }
        (Err(error), Err(label)) => assert_eq!(error.as_str(), label),
        (decoded, expected) => panic!("decoded {decoded:?}, expected {expected:?}"),
    }
}

fn canonical(raw: &str) -> String {
    if raw.starts_with('"') {
        serde_json::to_string(&unquote(raw)).expect("a string is JSON")
    } else {
        raw.to_owned()
    }
}

fn written_again_it_is_the_same(message: &Inbound<'_>, payload: &str) {
    // A push is a client's frame but for its ref, which a reply has.
    if let Some(topic) = &message.topic {
        let mut out = Vec::new();
        let (join_ref, event) = (&*message.join_ref, &*message.event);
        encode::text_push(&mut out, join_ref, topic, event, payload.as_bytes());
        let mut expected = message.clone();
        expected.reference = "null".into();
        assert_eq!(decode_text(&out), Ok(expected.clone()));

        out.clear();
        encode::v1_push(&mut out, join_ref, topic, event, payload.as_bytes());
        expected.join_ref = "null".into();
        assert_eq!(decode_v1(&out), Ok(expected));
    }
    let mut out = Vec::new();
    let (join_ref, reference) = (&*message.join_ref, &*message.reference);
    let (topic, status) = (&*message.topic_json, &*message.event);
    encode::text_reply(&mut out, join_ref, reference, topic, status, b"{}");
    let reply = decode_text(&out).expect("a reply is a frame");
    assert_eq!(reply.join_ref, message.join_ref);
    assert_eq!(reply.reference, message.reference);
    assert_eq!(reply.topic, message.topic);
    assert_eq!(reply.topic_json, message.topic_json);
}

/// Any bytes as a V2 binary frame.
pub fn frame_binary(data: &[u8]) {
    match (decode_binary(data), binary_parts(data)) {
        (Ok(message), Ok(([join_ref, reference, topic, event], rest))) => {
            assert_eq!(unquote(&message.join_ref), join_ref);
            assert_eq!(unquote(&message.reference), reference);
            assert_eq!(unquote(&message.topic_json), topic);
            assert_eq!(message.topic.as_deref(), Some(topic));
            assert_eq!(message.event, event);
            assert_eq!(message.payload, Payload::Binary(rest));
            written_again_it_has_the_same_bytes(&message, data, rest);
        }
        (Err(error), Err(label)) => assert_eq!(error.as_str(), label),
        (decoded, expected) => panic!("decoded {decoded:?}, expected {expected:?}"),
    }
}

fn binary_parts(data: &[u8]) -> Result<([&str; 4], &[u8]), &'static str> {
    match data.first() {
        None => return Err("binary_truncated"),
        Some(0) => {}
        Some(_) => return Err("binary_kind"),
    }
    if data.len() < 5 {
        return Err("binary_truncated");
    }
    let mut bounds = [5; 5];
    for part in 0..4 {
        bounds[part + 1] = bounds[part] + usize::from(data[part + 1]);
    }
    if data.len() < bounds[4] {
        return Err("binary_truncated");
    }
    let mut parts = [""; 4];
    for (part, text) in parts.iter_mut().enumerate() {
        let bytes = &data[bounds[part]..bounds[part + 1]];
        *text = std::str::from_utf8(bytes).map_err(|_| "not_utf8")?;
    }
    Ok((parts, &data[bounds[4]..]))
}

fn written_again_it_has_the_same_bytes(message: &Inbound<'_>, data: &[u8], rest: &[u8]) {
    let topic = message.topic.as_deref().expect("always a string here");
    let (join_ref, event) = (&*message.join_ref, &*message.event);
    let mut out = Vec::new();
    encode::binary_reply(&mut out, join_ref, &message.reference, topic, event, rest)
        .expect("parts that came in a frame fit one");
    // Kind aside, a reply has the layout of a client's push.
    assert_eq!((out[0], &out[1..]), (1, &data[1..]));

    out.clear();
    encode::binary_push(&mut out, join_ref, topic, event, rest).expect("fits");
    let join_ref = unquote(join_ref);
    assert_eq!(out[..4], [0, data[1], data[3], data[4]]);
    assert_eq!(
        out[4..],
        [
            join_ref.as_bytes(),
            topic.as_bytes(),
            event.as_bytes(),
            rest
        ]
        .concat()
    );

    out.clear();
    encode::binary_broadcast(&mut out, topic, event, rest).expect("fits");
    assert_eq!(out[..3], [2, data[3], data[4]]);
    assert_eq!(
        out[3..],
        [topic.as_bytes(), event.as_bytes(), rest].concat()
    );
}
