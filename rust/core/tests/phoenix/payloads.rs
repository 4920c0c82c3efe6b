//! Frames a client may not send, and binary ones in both directions, byte for byte.

use moda_core::gateway::{Body, Unsent};
use moda_core::hub::SubKey;
use moda_core::ws::Opcode;

use crate::frames::{text, Frame};
use crate::talk::{Asked, Speech, Talk, EMPTY};

/// Every one of these ends its connection with 1011, counted under the label.
fn undecodable(speech: Speech, op: Opcode, frames: &[(&[u8], &str)]) {
    for (frame, label) in frames {
        let mut talk = Talk::new(speech);
        let other = talk.connect();
        talk.joined(1, "room:1");
        talk.joined(2, "room:2");
        talk.client_joined(other, 3, "room:1");
        assert_eq!(talk.sends(0, op, frame), Asked::Nothing);
        let close = Frame::Close(1011, (*label).to_owned());
        assert_eq!(talk.frames(0), [close], "{frame:?}");
        assert_eq!(talk.gateway.counts.undecodable[label], 1);
        let complaints = talk.complaints();
        assert!(matches!(complaints[..], [(conn, 1011, why)]
            if conn == talk.conn(0) && why == *label));
        assert_eq!(talk.ended(), [(1, "closed"), (2, "closed")]);
        // Nothing that comes behind it counts, and the neighbour goes on.
        assert_eq!(talk.sends(0, op, frame), Asked::Nothing);
        assert!(talk.complaints().is_empty());
        assert_eq!(talk.gateway.counts.undecodable[label], 1);
        let asked = talk.client_says(other, r#"["3","4","room:1","ask",{}]"#);
        assert!(matches!(asked, Asked::Message { .. }));
    }
}

#[test]
fn v2_text_that_is_no_message_ends_the_connection_with_1011() {
    undecodable(
        Speech::V2Text,
        Opcode::Text,
        &[
            (b"", "not_json"),
            (b"[", "not_json"),
            (br#"["1","2","room:1","ask",{}"#, "not_json"),
            (br#"["1","2","room:1","ask",{}]]"#, "not_json"),
            (br#"["1","2","room:1","ask",nan]"#, "not_json"),
            (br#"{"topic":"room:1"}"#, "not_an_array"),
            (b"null", "not_an_array"),
            (b"[]", "too_short"),
            (br#"["1","2","room:1","ask"]"#, "too_short"),
            (br#"["1","2","room:1",7,{}]"#, "event_not_string"),
        ],
    );
}

/// A payload of so many levels.
fn nested(levels: usize) -> String {
    format!("{}{}", "[".repeat(levels), "]".repeat(levels))
}

#[test]
fn a_payload_past_the_bound_of_nesting_is_refused_and_the_connection_stays() {
    for speech in [Speech::V2Text, Speech::V1] {
        let mut talk = Talk::new(speech);
        let sub = talk.joined(1, "room:1");
        let (fits, deep) = (nested(128), nested(129));
        let asked = talk.says(&format!(r#"["1","2","room:1","ask",{fits}]"#));
        assert_eq!(asked.sub(), sub);
        for (reference, levels) in [
            ("\"3\"", &*deep),
            ("null", &*deep),
            ("\"4\"", &nested(40_000)),
        ] {
            let asked = talk.says(&format!(r#"["1",{reference},"room:1","ask",{levels}]"#));
            assert_eq!(asked, Asked::Nothing);
        }
        let refused = |reference: &str| {
            format!(
                r#"["1","{reference}","room:1","phx_reply",{{"status":"error","response":{{"reason":"payload nested deeper than 128 levels"}}}}]"#
            )
        };
        talk.hears(&[&refused("3"), &refused("4")]);
        assert_eq!(talk.gateway.counts.too_deep, 3);
        assert!(talk.complaints().is_empty());
    }
}

#[test]
fn a_join_past_the_bound_of_nesting_is_refused_and_a_heartbeat_or_leave_is_not() {
    let mut talk = Talk::new(Speech::V2Text);
    talk.joined(1, "room:1");
    let deep = nested(200);
    let asked = talk.says(&format!(r#"["2","2","room:2","phx_join",{deep}]"#));
    assert_eq!(asked, Asked::Nothing);
    talk.says(&format!(r#"[null,"3","phoenix","heartbeat",{deep}]"#));
    let asked = talk.says(&format!(r#"["1","4","room:1","phx_leave",{deep}]"#));
    assert!(matches!(asked, Asked::Leave { .. }));
    talk.says(&format!(r#"["1","5","room:9","ask",{deep}]"#));
    talk.hears(&[
        r#"["2","2","room:2","phx_reply",{"status":"error","response":{"reason":"payload nested deeper than 128 levels"}}]"#,
        r#"[null,"3","phoenix","phx_reply",{"status":"ok","response":{}}]"#,
        r#"[null,"5","room:9","phx_reply",{"status":"error","response":{"reason":"unmatched topic"}}]"#,
    ]);
}

#[test]
fn a_payload_past_the_bound_that_waits_for_a_join_is_refused_behind_its_answer() {
    let mut talk = Talk::new(Speech::V2Text);
    let sub = talk.says(r#"["1","1","room:1","phx_join",{}]"#).sub();
    talk.says(&format!(r#"["1","2","room:1","ask",{}]"#, nested(200)));
    talk.gateway.join_ok(sub, EMPTY).unwrap();
    assert!(talk.freed().is_empty());
    talk.hears(&[
        r#"["1","1","room:1","phx_reply",{"status":"ok","response":{}}]"#,
        r#"["1","2","room:1","phx_reply",{"status":"error","response":{"reason":"payload nested deeper than 128 levels"}}]"#,
    ]);
}

#[test]
fn a_binary_frame_that_is_no_push_ends_the_connection_with_1011() {
    undecodable(
        Speech::V2Binary,
        Opcode::Binary,
        &[
            (b"", "binary_truncated"),
            (b"\x00\x01\x01", "binary_truncated"),
            (b"\x00\x01\x01\x06\x0312room:1as", "binary_truncated"),
            (b"\x01\x01\x01\x06\x0212room:1ok", "binary_kind"),
            (b"\x02\x06\x03room:1ask", "binary_kind"),
            (b"[\"1\",\"2\",\"room:1\",\"ask\",{}]", "binary_kind"),
            (b"\x00\x01\x01\x01\x0112\xff!", "not_utf8"),
        ],
    );
}

#[test]
fn a_v1_message_that_lacks_a_key_or_is_none_ends_the_connection_with_1011() {
    undecodable(
        Speech::V1,
        Opcode::Text,
        &[
            (br#"["1","2","room:1","ask",{}]"#, "not_an_object"),
            (b"{", "not_json"),
            (
                br#"{"topic":"room:1","event":"ask","payload":{}}"#,
                "missing_key",
            ),
            (
                br#"{"topic":"room:1","event":"ask","ref":"1"}"#,
                "missing_key",
            ),
            (
                br#"{"topic":"room:1","payload":{},"ref":"1"}"#,
                "missing_key",
            ),
            (br#"{"event":"ask","payload":{},"ref":"1"}"#, "missing_key"),
            (
                br#"{"topic":"room:1","event":null,"payload":{},"ref":"1"}"#,
                "event_not_string",
            ),
        ],
    );
}

#[test]
fn v1_has_no_binary_frames() {
    let push = b"\x00\x01\x01\x06\x0312room:1ask";
    undecodable(Speech::V1, Opcode::Binary, &[(push, "binary_in_v1")]);
}

#[test]
fn text_that_is_not_utf_8_ends_the_connection_with_1007() {
    let mut talk = Talk::new(Speech::V2Text);
    talk.sends(0, Opcode::Text, b"[\"\xff\"]");
    let close = Frame::Close(1007, "text is not UTF-8".to_owned());
    assert_eq!(talk.frames(0), [close]);
    assert_eq!(talk.gateway.counts.violations["text is not UTF-8"], 1);
}

#[test]
fn a_binary_push_is_the_golden_frame_with_raw_data() {
    let mut talk = Talk::new(Speech::V2Text);
    talk.gateway.expose(0, "topic", 0).unwrap();
    let sub = talk.says(r#"["12","1","topic","phx_join",{}]"#).sub();
    talk.gateway.join_ok(sub, EMPTY).unwrap();
    talk.frames(0);
    let push =
        b"\x00\x02\x03\x05\x05\x31\x32\x31\x32\x33\x74\x6f\x70\x69\x63\x65\x76\x65\x6e\x74fef";
    assert_eq!(
        talk.sends(0, Opcode::Binary, push),
        Asked::Message {
            sub,
            event: "event".to_owned(),
            payload: b"fef".to_vec(),
            binary: true,
            reference: "\"123\"".to_owned(),
        }
    );
    talk.gateway
        .reply(sub, "\"123\"", "ok", Body::Binary(&[0, 255]))
        .unwrap();
    talk.gateway.push(sub, "event", Body::Binary(b"")).unwrap();
    talk.gateway.publish(
        "topic",
        "event",
        Body::Binary(b"x"),
        None,
        SubKey::default(),
    );
    assert_eq!(
        talk.frames(0),
        [
            Frame::Binary(b"\x01\x02\x03\x05\x0212123topicok\x00\xff".to_vec()),
            Frame::Binary(b"\x00\x02\x05\x0512topicevent".to_vec()),
            Frame::Binary(b"\x02\x05\x05topiceventx".to_vec()),
        ]
    );
}

#[test]
fn lengths_in_binary_frames_count_bytes() {
    let mut talk = Talk::new(Speech::V2Text);
    talk.gateway.expose(0, "ü", 0).unwrap();
    let sub = talk.says(r#"["1","1","ü","phx_join",{}]"#).sub();
    talk.gateway.join_ok(sub, EMPTY).unwrap();
    talk.frames(0);
    let asked = talk.sends(0, Opcode::Binary, "\0\u{1}\u{1}\u{2}\u{2}12üé!".as_bytes());
    assert!(matches!(asked, Asked::Message { event, payload, .. }
        if event == "é" && payload == b"!"));
    talk.gateway.push(sub, "é", Body::Binary(b"!")).unwrap();
    let push = "\0\u{1}\u{2}\u{2}1üé!".as_bytes().to_vec();
    assert_eq!(talk.frames(0), [Frame::Binary(push)]);
}

#[test]
fn null_refs_are_nothing_in_binary_and_numbers_are_digits() {
    let mut talk = Talk::new(Speech::V2Text);
    let sub = talk.says(r#"[null,17,"room:1","phx_join",{}]"#).sub();
    talk.gateway.join_ok(sub, Body::Binary(b"!")).unwrap();
    talk.gateway.push(sub, "e", Body::Binary(b"!")).unwrap();
    talk.gateway
        .reply(sub, "null", "ok", Body::Binary(b"!"))
        .unwrap();
    assert_eq!(
        talk.frames(0),
        [
            Frame::Binary(b"\x01\x00\x02\x06\x0217room:1ok!".to_vec()),
            Frame::Binary(b"\x00\x02\x06\x0117room:1e!".to_vec()),
            Frame::Binary(b"\x01\x02\x00\x06\x0217room:1ok!".to_vec()),
        ]
    );
}

#[test]
fn an_empty_ref_in_binary_is_not_null_and_so_it_is_stale() {
    let mut talk = Talk::new(Speech::V2Text);
    talk.joined(1, "room:1");
    let push = b"\x00\x00\x01\x06\x032room:1ask";
    assert_eq!(talk.sends(0, Opcode::Binary, push), Asked::Nothing);
    let null = b"\x00\x04\x01\x06\x03null2room:1ask";
    assert_eq!(talk.sends(0, Opcode::Binary, null), Asked::Nothing);
    talk.hears(&[]);
    assert_eq!(talk.gateway.counts.stale, 2);
}

#[test]
fn who_joined_with_a_number_cannot_speak_for_that_join_in_binary() {
    let mut talk = Talk::new(Speech::V2Text);
    let sub = talk.says(r#"[1,1,"room:1","phx_join",{}]"#).sub();
    talk.gateway.join_ok(sub, EMPTY).unwrap();
    talk.frames(0);
    let push = b"\x00\x01\x01\x06\x0312room:1ask";
    assert_eq!(talk.sends(0, Opcode::Binary, push), Asked::Nothing);
    talk.hears(&[]);
    assert_eq!(talk.gateway.counts.stale, 1);
}

#[test]
fn names_over_255_bytes_do_not_fit_a_binary_frame_and_do_fit_text() {
    let mut talk = Talk::new(Speech::V2Text);
    let long = "e".repeat(256);
    let sub = talk.joined(1, "room:1");
    let binary = Body::Binary(b"!");
    let push = talk.gateway.push(sub, &long, binary);
    assert_eq!(push, Err(Unsent::Unencodable));
    let reply = talk.gateway.reply(sub, "\"2\"", &long, binary);
    assert_eq!(reply, Err(Unsent::Unencodable));
    let reference = format!("\"{long}\"");
    let reply = talk.gateway.reply(sub, &reference, "ok", binary);
    assert_eq!(reply, Err(Unsent::Unencodable));
    talk.gateway
        .publish("room:1", &long, binary, None, SubKey::default());
    talk.hears(&[]);
    assert_eq!(talk.gateway.hub.stats.unencodable, 1);
    talk.gateway.push(sub, &long, EMPTY).unwrap();
    talk.hears(&[&format!(r#"["1",null,"room:1","{long}",{{}}]"#)]);
}

#[test]
fn v1_can_be_pushed_and_answered_no_binary() {
    let mut talk = Talk::new(Speech::V1);
    let sub = talk.joined(1, "room:1");
    let binary = Body::Binary(b"!");
    assert_eq!(
        talk.gateway.push(sub, "e", binary),
        Err(Unsent::Unencodable)
    );
    let reply = talk.gateway.reply(sub, "\"2\"", "ok", binary);
    assert_eq!(reply, Err(Unsent::Unencodable));
    talk.hears(&[]);
}

#[test]
fn v1_writes_its_objects_as_documented() {
    let mut talk = Talk::new(Speech::V1);
    let join =
        br#"{"topic":"room:1","event":"phx_join","payload":{"a":1},"ref":"1","join_ref":"1"}"#;
    let sub = talk.sends(0, Opcode::Text, join).sub();
    talk.gateway.join_ok(sub, EMPTY).unwrap();
    talk.gateway.push(sub, "hello", Body::Json(b"[]")).unwrap();
    talk.gateway.end(sub, true);
    assert_eq!(
        talk.frames(0),
        [
            text(
                r#"{"topic":"room:1","event":"phx_reply","payload":{"status":"ok","response":{}},"ref":"1"}"#
            ),
            text(r#"{"topic":"room:1","event":"hello","payload":[],"ref":null}"#),
            text(
                r#"{"topic":"room:1","event":"phx_error","payload":{"reason":"channel_crash"},"ref":"1"}"#
            ),
        ]
    );
}

#[test]
fn v1_drops_messages_of_an_earlier_join_too() {
    let mut talk = Talk::new(Speech::V1);
    talk.joined(5, "room:1");
    let stale = br#"{"topic":"room:1","event":"ask","payload":{},"ref":"6","join_ref":"4"}"#;
    assert_eq!(talk.sends(0, Opcode::Text, stale), Asked::Nothing);
    let plain = br#"{"topic":"room:1","event":"ask","payload":{},"ref":"6"}"#;
    assert!(matches!(
        talk.sends(0, Opcode::Text, plain),
        Asked::Message { .. }
    ));
    assert_eq!(talk.gateway.counts.stale, 1);
}
