//! Heartbeats, events, replies, and what happens to those for nobody.

use moda_core::gateway::{Body, Unsent, MAX_NAME};

use crate::frames::text;
use crate::talk::{in_both_text_dialects, in_every_dialect, Asked, Speech, Talk, EMPTY};

fn row_1_a_heartbeat_is_answered_without_a_join_and_with_a_null_join_ref(talk: &mut Talk) {
    for payload in ["{}", "null", r#"{"n":1}"#] {
        let beat = format!(r#"["9","1","phoenix","heartbeat",{payload}]"#);
        assert_eq!(talk.says(&beat), Asked::Nothing);
        talk.hears(&[r#"[null,"1","phoenix","phx_reply",{"status":"ok","response":{}}]"#]);
    }
    assert_eq!(talk.gateway.counts.heartbeats, 3);
}

fn row_1_a_heartbeats_answer_does_not_wait_for_broadcasts(talk: &mut Talk) {
    talk.joined(1, "room:1");
    talk.broadcast("room:1", "shout", "{}");
    talk.says(r#"["1","2","phoenix","heartbeat",{}]"#);
    talk.hears(&[
        r#"[null,"2","phoenix","phx_reply",{"status":"ok","response":{}}]"#,
        r#"[null,null,"room:1","shout",{}]"#,
    ]);
}

fn row_2_any_other_event_on_phoenix_is_unmatched(talk: &mut Talk) {
    for event in ["phx_join", "ping", "heartbeats", "phx_reply"] {
        let message = format!(r#"["1","2","phoenix","{event}",{{}}]"#);
        assert_eq!(talk.says(&message), Asked::Nothing);
        talk.hears(&[
            r#"[null,"2","phoenix","phx_reply",{"status":"error","response":{"reason":"unmatched topic"}}]"#,
        ]);
    }
}

fn a_heartbeat_on_another_topic_is_an_event_like_any_other(talk: &mut Talk) {
    let sub = talk.joined(1, "room:1");
    assert_eq!(talk.says(r#"["1","2","room:1","heartbeat",{}]"#).sub(), sub);
    talk.hears(&[]);
}

fn row_12_an_event_of_this_join_is_delivered(talk: &mut Talk) {
    let sub = talk.joined(1, "room:1");
    let asked = talk.says(r#"["1","2","room:1","ask",{"a":[1,"ü",null]}]"#);
    let (payload, binary) = talk.content(r#"{"a":[1,"ü",null]}"#);
    assert_eq!(
        asked,
        Asked::Message {
            sub,
            event: "ask".to_owned(),
            payload,
            binary,
            reference: "\"2\"".to_owned(),
        }
    );
    talk.hears(&[]);
}

#[test]
fn an_event_or_ref_too_long_to_be_kept_is_refused_and_counted() {
    let mut talk = Talk::new(Speech::V2Text);
    let sub = talk.joined(1, "room:1");
    let joining = talk.says(r#"["2","2","room:2","phx_join",{}]"#).sub();
    let (fits, long) = ("x".repeat(MAX_NAME), "x".repeat(MAX_NAME + 1));
    let refused = |join_ref: &str, reference: &str, topic: &str| {
        format!(
            r#"["{join_ref}",{reference},"{topic}","phx_reply",{{"status":"error","response":{{"reason":"event or ref too long"}}}}]"#
        )
    };
    for (join_ref, topic) in [("1", "room:1"), ("2", "room:2")] {
        talk.says(&format!(r#"["{join_ref}","3","{topic}","{long}",{{}}]"#));
        talk.hears(&[&refused(join_ref, r#""3""#, topic)]);
        talk.says(&format!(r#"["{join_ref}","{long}","{topic}","ask",{{}}]"#));
        talk.hears(&[&refused(join_ref, &format!(r#""{long}""#), topic)]);
    }
    talk.says(&format!(r#"["1","{long}","room:1","phx_leave",{{}}]"#));
    talk.hears(&[&refused("1", &format!(r#""{long}""#), "room:1")]);
    assert_eq!(talk.gateway.counts.oversized, 5);
    let message = |n: u32| format!(r#"["{n}","{fits}","room:{n}","{fits}",{{}}]"#);
    assert_eq!(talk.says(&message(1)).sub(), sub);
    assert_eq!(talk.says(&message(2)), Asked::Nothing);
    talk.gateway.join_ok(joining, EMPTY).unwrap();
    assert_eq!(talk.freed()[0].sub(), joining);
}

fn row_12_an_event_without_join_ref_is_delivered_too(talk: &mut Talk) {
    let sub = talk.joined(1, "room:1");
    assert_eq!(talk.says(r#"[null,"2","room:1","ask",{}]"#).sub(), sub);
    talk.hears(&[]);
}

fn row_13_an_event_of_an_earlier_join_is_dropped_silently_and_counted(talk: &mut Talk) {
    talk.joined(5, "room:1");
    for join_ref in ["4", "", "55", "null"] {
        let message = format!(r#"["{join_ref}","6","room:1","ask",{{}}]"#);
        assert_eq!(talk.says(&message), Asked::Nothing);
    }
    talk.hears(&[]);
    assert_eq!(talk.gateway.counts.stale, 4);
}

fn row_14_a_reply_carries_both_refs_and_any_status_and_response(talk: &mut Talk) {
    let sub = talk.joined(1, "room:1");
    talk.says(r#"["1","2","room:1","ask",{}]"#);
    for (status, response) in [("ok", "{}"), ("later", "[1]"), ("ü \"", "null")] {
        talk.gateway
            .reply(sub, "\"2\"", status, Body::Json(response.as_bytes()))
            .unwrap();
    }
    talk.hears(&[
        r#"["1","2","room:1","phx_reply",{"status":"ok","response":{}}]"#,
        r#"["1","2","room:1","phx_reply",{"status":"later","response":[1]}]"#,
        r#"["1","2","room:1","phx_reply",{"status":"ü \"","response":null}]"#,
    ]);
}

fn row_14_a_reply_to_a_null_ref_is_sent_with_null(talk: &mut Talk) {
    let sub = talk.joined(1, "room:1");
    let Asked::Message { reference, .. } = talk.says(r#"["1",null,"room:1","ask",{}]"#) else {
        panic!("no message");
    };
    assert_eq!(reference, "null");
    talk.gateway.reply(sub, &reference, "ok", EMPTY).unwrap();
    talk.hears(&[r#"["1",null,"room:1","phx_reply",{"status":"ok","response":{}}]"#]);
}

fn row_15_an_event_that_is_not_answered_is_not_answered(talk: &mut Talk) {
    talk.joined(1, "room:1");
    talk.says(r#"["1","2","room:1","tell",{}]"#);
    talk.hears(&[]);
}

fn row_16_replies_are_sent_as_they_come_and_not_after_the_channels_end(talk: &mut Talk) {
    let sub = talk.joined(1, "room:1");
    talk.says(r#"["1","2","room:1","ask",{}]"#);
    talk.says(r#"["1","3","room:1","ask",{}]"#);
    talk.gateway
        .reply(sub, "\"3\"", "ok", Body::Json(b"3"))
        .unwrap();
    talk.gateway
        .reply(sub, "\"2\"", "ok", Body::Json(b"2"))
        .unwrap();
    talk.gateway
        .reply(sub, "\"3\"", "ok", Body::Json(b"33"))
        .unwrap();
    talk.gateway.end(sub, false);
    assert_eq!(
        talk.gateway.reply(sub, "\"2\"", "ok", EMPTY),
        Err(Unsent::Ended)
    );
    talk.hears(&[
        r#"["1","3","room:1","phx_reply",{"status":"ok","response":3}]"#,
        r#"["1","2","room:1","phx_reply",{"status":"ok","response":2}]"#,
        r#"["1","3","room:1","phx_reply",{"status":"ok","response":33}]"#,
        r#"["1","1","room:1","phx_close",{}]"#,
    ]);
}

fn row_17_an_event_on_a_topic_never_joined_is_unmatched(talk: &mut Talk) {
    assert_eq!(talk.says(r#"["1","2","room:1","ask",{}]"#), Asked::Nothing);
    talk.hears(&[
        r#"[null,"2","room:1","phx_reply",{"status":"error","response":{"reason":"unmatched topic"}}]"#,
    ]);
}

fn row_17_an_event_on_a_topic_left_crashed_or_refused_is_unmatched(talk: &mut Talk) {
    let unmatched = r#"[null,"9","room:1","phx_reply",{"status":"error","response":{"reason":"unmatched topic"}}]"#;
    let sub = talk.joined(1, "room:1");
    talk.gateway.finish_leave(sub, "\"2\"");
    talk.frames(0);
    talk.says(r#"["1","9","room:1","ask",{}]"#);
    talk.hears(&[unmatched]);
    let sub = talk.joined(2, "room:1");
    talk.gateway.end(sub, true);
    talk.frames(0);
    talk.says(r#"["2","9","room:1","ask",{}]"#);
    talk.hears(&[unmatched]);
    let sub = talk.says(r#"["3","3","room:1","phx_join",{}]"#).sub();
    talk.gateway.join_error(sub, b"{}").unwrap();
    talk.frames(0);
    talk.says(r#"["3","9","room:1","ask",{}]"#);
    talk.hears(&[unmatched]);
}

fn events_of_the_protocols_own_name_go_to_the_application(talk: &mut Talk) {
    let sub = talk.joined(1, "room:1");
    for name in ["phx_reply", "phx_close", "phx_error", "phx_anything", ""] {
        let asked = talk.says(&format!(r#"["1","2","room:1","{name}",{{}}]"#));
        let Asked::Message {
            sub: asked, event, ..
        } = asked
        else {
            panic!("{name}: {asked:?}");
        };
        assert_eq!((asked, event.as_str()), (sub, name));
    }
    talk.hears(&[]);
}

fn a_push_carries_the_join_ref_and_no_ref(talk: &mut Talk) {
    let sub = talk.joined(1, "room:1");
    talk.gateway
        .push(sub, "ev\"ent", Body::Json(br#"{"n":1}"#))
        .unwrap();
    talk.hears(&[r#"["1",null,"room:1","ev\"ent",{"n":1}]"#]);
}

fn clients_on_one_topic_do_not_hear_each_others_replies(talk: &mut Talk) {
    let other = talk.connect();
    let sub = talk.joined(1, "room:1");
    talk.client_joined(other, 2, "room:1");
    talk.says(r#"["1","3","room:1","ask",{}]"#);
    talk.gateway.reply(sub, "\"3\"", "ok", EMPTY).unwrap();
    talk.gateway.push(sub, "hello", EMPTY).unwrap();
    talk.client_hears(other, &[]);
    assert_eq!(talk.frames(0).len(), 2);
}

in_every_dialect! {
    row_1_a_heartbeat_is_answered_without_a_join_and_with_a_null_join_ref,
    row_1_a_heartbeats_answer_does_not_wait_for_broadcasts,
    row_2_any_other_event_on_phoenix_is_unmatched,
    a_heartbeat_on_another_topic_is_an_event_like_any_other,
    row_12_an_event_of_this_join_is_delivered,
    row_13_an_event_of_an_earlier_join_is_dropped_silently_and_counted,
    row_14_a_reply_carries_both_refs_and_any_status_and_response,
    row_15_an_event_that_is_not_answered_is_not_answered,
    row_16_replies_are_sent_as_they_come_and_not_after_the_channels_end,
    row_17_an_event_on_a_topic_never_joined_is_unmatched,
    row_17_an_event_on_a_topic_left_crashed_or_refused_is_unmatched,
    events_of_the_protocols_own_name_go_to_the_application,
    a_push_carries_the_join_ref_and_no_ref,
    clients_on_one_topic_do_not_hear_each_others_replies,
}

in_both_text_dialects! {
    row_12_an_event_without_join_ref_is_delivered_too,
    row_14_a_reply_to_a_null_ref_is_sent_with_null,
}

#[test]
fn refs_are_echoed_as_the_terms_they_are_and_compared_strictly() {
    let mut talk = Talk::new(Speech::V2Text);
    let sub = talk.says(r#"[1,2,"room:1","phx_join",{}]"#).sub();
    talk.gateway.join_ok(sub, EMPTY).unwrap();
    talk.hears(&[r#"[1,2,"room:1","phx_reply",{"status":"ok","response":{}}]"#]);
    assert_eq!(talk.says(r#"["1",3,"room:1","ask",{}]"#), Asked::Nothing);
    let asked = talk.says(r#"[1,"\u0033","room:1","ask",{}]"#);
    let Asked::Message { reference, .. } = asked else {
        panic!("{asked:?}");
    };
    talk.gateway.reply(sub, &reference, "ok", EMPTY).unwrap();
    talk.hears(&[r#"[1,"3","room:1","phx_reply",{"status":"ok","response":{}}]"#]);
    talk.says(r#"[null,{"a":1},"phoenix","heartbeat",{}]"#);
    talk.hears(&[r#"[null,{"a":1},"phoenix","phx_reply",{"status":"ok","response":{}}]"#]);
}

#[test]
fn an_escaped_string_is_the_string_it_spells() {
    let mut talk = Talk::new(Speech::V2Text);
    let sub = talk.joined(1, "room:1");
    let asked = talk.says(r#"["\u0031","2","room\u003a1","\u0061sk",{}]"#);
    assert_eq!(asked.sub(), sub);
    assert!(matches!(asked, Asked::Message { event, .. } if event == "ask"));
}

#[test]
fn a_topic_that_is_no_string_is_unmatched_and_echoed() {
    let mut talk = Talk::new(Speech::V2Text);
    for topic in ["null", "7", r#"{"a":1}"#, "[]", "true"] {
        for event in ["ask", "phx_join", "heartbeat"] {
            talk.says(&format!(r#"["1","2",{topic},"{event}",{{}}]"#));
            talk.hears(&[&format!(
                r#"[null,"2",{topic},"phx_reply",{{"status":"error","response":{{"reason":"unmatched topic"}}}}]"#
            )]);
        }
    }
}

#[test]
fn a_fragmented_message_is_the_message_it_makes() {
    let mut talk = Talk::new(Speech::V2Text);
    let sub = talk.joined(1, "room:1");
    let frame = br#"["1","2","room:1","ask",{"a":"\u00fc"}]"#;
    let conn = talk.conn(0);
    let (head, tail) = frame.split_at(20);
    let verdict = talk.receive(conn, 1, false, false, head);
    assert_eq!(Asked::of(verdict), Asked::Nothing);
    let asked = Asked::of(talk.receive(conn, 0, true, false, tail));
    assert_eq!(
        asked,
        Asked::Message {
            sub,
            event: "ask".to_owned(),
            payload: br#"{"a":"\u00fc"}"#.to_vec(),
            binary: false,
            reference: "\"2\"".to_owned(),
        }
    );
    assert_eq!(talk.gateway.hub.stats.messages_in, 2);
    // A join, a leave and a heartbeat in pieces say the same as whole.
    for (frame, heard) in [
        (r#"["3","3","phoenix","heartbeat",{}]"#, 1),
        (r#"["1","4","room:1","phx_leave",{}]"#, 0),
    ] {
        let (head, tail) = frame.as_bytes().split_at(9);
        let _ = talk.receive(conn, 1, false, false, head);
        let _ = Asked::of(talk.receive(conn, 0, true, false, tail));
        assert_eq!(talk.frames(0).len(), heard, "{frame}");
    }
    let (head, tail) = br#"["5","5","room:2","phx_join",[1]]"#.split_at(9);
    let _ = talk.receive(conn, 1, false, false, head);
    let _ = talk.receive(conn, 0, true, false, tail);
    let asked = Asked::of(talk.gateway.next_join().expect("a join"));
    assert!(matches!(&asked, Asked::Join { topic, payload, .. }
        if topic == "room:2" && payload == b"[1]"));
}

#[test]
fn elements_past_the_fifth_are_ignored() {
    let mut talk = Talk::new(Speech::V2Text);
    let frame = br#"["1","2","phoenix","heartbeat",{},6,{"seven":7}]"#;
    talk.sends(0, moda_core::ws::Opcode::Text, frame);
    assert_eq!(
        talk.frames(0),
        [text(
            r#"[null,"2","phoenix","phx_reply",{"status":"ok","response":{}}]"#
        )]
    );
}
