//! Joining: accepted, refused, crashed, unrouted, one too many, twice, slowly.

use moda_core::gateway::{Body, Full, Unsent, Verdict, MAX_JOINS, MAX_NAME};

use crate::frames::Frame;
use crate::talk::{in_both_text_dialects, in_every_dialect, Asked, Speech, Talk, CAP, EMPTY};

const CRASHED: &[u8] = br#"{"reason":"join crashed"}"#;

fn row_3_an_accepted_join_is_answered_with_its_own_two_refs(talk: &mut Talk) {
    let asked = talk.says(r#"["11","1","room:1","phx_join",{"token":"x"}]"#);
    let sub = asked.sub();
    let (payload, binary) = talk.content(r#"{"token":"x"}"#);
    assert_eq!(
        asked,
        Asked::Join {
            sub,
            route: 0,
            topic: "room:1".to_owned(),
            params: vec![],
            payload,
            binary,
        }
    );
    talk.hears(&[]);
    talk.gateway.join_ok(sub, EMPTY).unwrap();
    talk.hears(&[r#"["11","1","room:1","phx_reply",{"status":"ok","response":{}}]"#]);
    assert_eq!(
        (talk.gateway.counts.joins, talk.gateway.counts.channels),
        (1, 1)
    );
}

fn row_3_the_applications_answer_is_the_response(talk: &mut Talk) {
    for (n, response) in ["null", "[1,2]", r#""text""#, "3", r#"{"a":{"b":"ü"}}"#]
        .into_iter()
        .enumerate()
    {
        let sub = talk
            .says(&format!(r#"["1","2","room:{n}","phx_join",{{}}]"#))
            .sub();
        talk.gateway
            .join_ok(sub, Body::Json(response.as_bytes()))
            .unwrap();
        talk.hears(&[&format!(
            r#"["1","2","room:{n}","phx_reply",{{"status":"ok","response":{response}}}]"#
        )]);
    }
}

fn row_3_the_reply_precedes_every_push_and_broadcast_of_that_join(talk: &mut Talk) {
    let sub = talk.says(r#"["1","1","room:1","phx_join",{}]"#).sub();
    talk.broadcast("room:1", "shout", "1");
    assert_eq!(talk.gateway.push(sub, "early", EMPTY), Err(Unsent::Ended));
    assert_eq!(
        talk.gateway.reply(sub, "\"9\"", "ok", EMPTY),
        Err(Unsent::Ended)
    );
    talk.gateway.join_ok(sub, EMPTY).unwrap();
    talk.gateway.push(sub, "first", EMPTY).unwrap();
    talk.broadcast("room:1", "shout", "2");
    talk.hears(&[
        r#"["1","1","room:1","phx_reply",{"status":"ok","response":{}}]"#,
        r#"["1",null,"room:1","first",{}]"#,
        r#"[null,null,"room:1","shout",2]"#,
    ]);
}

fn row_4_a_refused_join_is_answered_and_the_socket_stays(talk: &mut Talk) {
    let sub = talk.says(r#"["1","2","room:1","phx_join",{}]"#).sub();
    talk.gateway
        .join_error(sub, br#"{"reason":"unauthorized"}"#)
        .unwrap();
    talk.hears(&[
        r#"["1","2","room:1","phx_reply",{"status":"error","response":{"reason":"unauthorized"}}]"#,
    ]);
    let counts = &talk.gateway.counts;
    assert_eq!(
        (counts.joins, counts.joins_refused, counts.channels),
        (0, 1, 0)
    );
    assert_eq!(talk.gateway.hub.topics(), 0);
    assert_eq!(talk.gateway.join_ok(sub, EMPTY), Err(Unsent::Ended));
    assert_eq!(talk.gateway.join_error(sub, b"{}"), Err(Unsent::Ended));
    talk.joined(3, "room:1");
}

fn row_5_a_crashed_join_is_answered_by_no_more_than_its_reply(talk: &mut Talk) {
    let sub = talk.says(r#"["1","2","room:1","phx_join",{}]"#).sub();
    talk.gateway.join_error(sub, CRASHED).unwrap();
    talk.hears(&[
        r#"["1","2","room:1","phx_reply",{"status":"error","response":{"reason":"join crashed"}}]"#,
    ]);
    talk.joined(3, "room:1");
}

fn row_6_a_join_of_an_unrouted_topic_is_unmatched_and_loses_its_join_ref(talk: &mut Talk) {
    for topic in ["nowhere", "room", "phoenix", "", "user:"] {
        let asked = talk.says(&format!(r#"["1","2","{topic}","phx_join",{{}}]"#));
        assert_eq!(asked, Asked::Nothing);
        talk.hears(&[&format!(
            r#"[null,"2","{topic}","phx_reply",{{"status":"error","response":{{"reason":"unmatched topic"}}}}]"#
        )]);
    }
    assert_eq!(talk.gateway.counts.unmatched, 5);
}

fn row_7_a_join_past_the_cap_is_refused_and_one_that_makes_room_is_not(talk: &mut Talk) {
    let first = talk.joined(0, "room:0");
    for n in 1..CAP {
        talk.joined(u32::try_from(n).unwrap(), &format!("room:{n}"));
    }
    let asked = talk.says(r#"["200","201","room:200","phx_join",{}]"#);
    assert_eq!(asked, Asked::Nothing);
    talk.hears(&[
        r#"["200","201","room:200","phx_reply",{"status":"error","response":{"reason":"too many channels joined"}}]"#,
    ]);
    assert_eq!(talk.gateway.counts.channels, CAP as u64);
    talk.gateway.end(first, false);
    talk.frames(0);
    talk.joined(202, "room:200");
}

fn row_7_a_duplicate_join_at_the_cap_frees_its_own_slot_first(talk: &mut Talk) {
    for n in 0..CAP {
        talk.joined(u32::try_from(n).unwrap(), &format!("room:{n}"));
    }
    let sub = talk.says(r#"["300","301","room:5","phx_join",{}]"#).sub();
    talk.gateway.join_ok(sub, EMPTY).unwrap();
    talk.hears(&[
        r#"["300","301","room:5","phx_reply",{"status":"ok","response":{}}]"#,
        r#"["5","5","room:5","phx_close",{}]"#,
    ]);
    assert_eq!(talk.gateway.counts.channels, CAP as u64);
}

fn row_7_joins_under_way_count_too(talk: &mut Talk) {
    for n in 0..CAP {
        talk.says(&format!(r#"["{n}","{n}","room:{n}","phx_join",{{}}]"#));
    }
    assert_eq!(
        talk.says(r#"["200","201","room:200","phx_join",{}]"#),
        Asked::Nothing
    );
    talk.hears(&[
        r#"["200","201","room:200","phx_reply",{"status":"error","response":{"reason":"too many channels joined"}}]"#,
    ]);
}

fn row_8_a_join_without_join_ref_is_answered_with_null_and_pushes_carry_its_ref(talk: &mut Talk) {
    let sub = talk.says(r#"[null,"7","room:1","phx_join",{}]"#).sub();
    talk.gateway.join_ok(sub, EMPTY).unwrap();
    talk.gateway.push(sub, "hello", EMPTY).unwrap();
    let asked = talk.says(r#"[null,"8","room:1","ask",{}]"#);
    assert_eq!(asked.sub(), sub);
    talk.gateway.reply(sub, "\"8\"", "ok", EMPTY).unwrap();
    talk.hears(&[
        r#"[null,"7","room:1","phx_reply",{"status":"ok","response":{}}]"#,
        r#"["7",null,"room:1","hello",{}]"#,
        r#"["7","8","room:1","phx_reply",{"status":"ok","response":{}}]"#,
    ]);
}

fn row_8_a_join_without_join_ref_takes_no_message_that_has_one(talk: &mut Talk) {
    let sub = talk.says(r#"[null,"7","room:1","phx_join",{}]"#).sub();
    talk.gateway.join_ok(sub, EMPTY).unwrap();
    talk.frames(0);
    assert_eq!(talk.says(r#"["7","8","room:1","ask",{}]"#), Asked::Nothing);
    assert_eq!(
        talk.says(r#"["7","9","room:1","phx_leave",{}]"#),
        Asked::Nothing
    );
    talk.hears(&[]);
    assert_eq!(talk.gateway.counts.stale, 2);
}

fn row_8_a_join_without_join_ref_ends_with_null(talk: &mut Talk) {
    for crash in [false, true] {
        let sub = talk.says(r#"[null,"7","room:1","phx_join",{}]"#).sub();
        talk.gateway.join_ok(sub, EMPTY).unwrap();
        talk.frames(0);
        talk.gateway.end(sub, crash);
        talk.hears(&[if crash {
            r#"[null,null,"room:1","phx_error",{"reason":"channel_crash"}]"#
        } else {
            r#"[null,null,"room:1","phx_close",{}]"#
        }]);
    }
}

fn row_8_a_join_without_join_ref_is_left_with_its_ref_and_closed_with_null(talk: &mut Talk) {
    let sub = talk.says(r#"[null,"7","room:1","phx_join",{}]"#).sub();
    talk.gateway.join_ok(sub, EMPTY).unwrap();
    talk.frames(0);
    talk.says(r#"[null,"8","room:1","phx_leave",{}]"#);
    talk.hears(&[
        r#"["7","8","room:1","phx_reply",{"status":"ok","response":{}}]"#,
        r#"[null,null,"room:1","phx_close",{}]"#,
    ]);
}

fn row_9_a_slow_join_blocks_neither_heartbeats_nor_other_channels_nor_pushes(talk: &mut Talk) {
    let other = talk.joined(1, "room:other");
    let slow = talk.says(r#"["2","2","room:slow","phx_join",{}]"#).sub();
    talk.says(r#"["9","3","phoenix","heartbeat",{}]"#);
    assert_eq!(talk.says(r#"["1","4","room:other","ask",{}]"#).sub(), other);
    talk.gateway.reply(other, "\"4\"", "ok", EMPTY).unwrap();
    talk.gateway.push(other, "news", EMPTY).unwrap();
    talk.hears(&[
        r#"[null,"3","phoenix","phx_reply",{"status":"ok","response":{}}]"#,
        r#"["1","4","room:other","phx_reply",{"status":"ok","response":{}}]"#,
        r#"["1",null,"room:other","news",{}]"#,
    ]);
    talk.gateway.join_ok(slow, EMPTY).unwrap();
    talk.hears(&[r#"["2","2","room:slow","phx_reply",{"status":"ok","response":{}}]"#]);
}

fn row_9_messages_to_a_joining_channel_are_handed_over_in_order(talk: &mut Talk) {
    let sub = talk.says(r#"["1","1","room:1","phx_join",{}]"#).sub();
    let mut messages = Vec::new();
    for n in 2..5 {
        let asked = talk.says(&format!(r#"["1","{n}","room:1","ask {n}",{n}]"#));
        assert_eq!(asked, Asked::Nothing);
        let (payload, binary) = talk.content(&n.to_string());
        messages.push(Asked::Message {
            sub,
            event: format!("ask {n}"),
            payload,
            binary,
            reference: format!("\"{n}\""),
        });
    }
    assert_eq!(
        talk.says(r#"["0","5","room:1","stale",{}]"#),
        Asked::Nothing
    );
    talk.hears(&[]);
    talk.gateway.join_ok(sub, EMPTY).unwrap();
    assert_eq!(talk.freed(), messages);
    talk.gateway.reply(sub, "\"3\"", "ok", EMPTY).unwrap();
    talk.hears(&[
        r#"["1","1","room:1","phx_reply",{"status":"ok","response":{}}]"#,
        r#"["1","3","room:1","phx_reply",{"status":"ok","response":{}}]"#,
    ]);
}

fn row_17_messages_to_a_join_that_is_refused_are_unmatched_behind_the_refusal(talk: &mut Talk) {
    let sub = talk.says(r#"["1","1","room:1","phx_join",{}]"#).sub();
    talk.says(r#"["1","2","room:1","ask",{}]"#);
    talk.says(r#"["1","3","room:1","ask",{}]"#);
    talk.gateway.join_error(sub, br#"{"reason":"no"}"#).unwrap();
    talk.hears(&[
        r#"["1","1","room:1","phx_reply",{"status":"error","response":{"reason":"no"}}]"#,
        r#"[null,"2","room:1","phx_reply",{"status":"error","response":{"reason":"unmatched topic"}}]"#,
        r#"[null,"3","room:1","phx_reply",{"status":"error","response":{"reason":"unmatched topic"}}]"#,
    ]);
    assert_eq!(talk.gateway.counts.unmatched, 2);
}

fn row_17_a_message_without_ref_to_a_join_that_is_refused_is_unmatched_too(talk: &mut Talk) {
    let sub = talk.says(r#"["1","1","room:1","phx_join",{}]"#).sub();
    talk.says(r#"["1",null,"room:1","tell",{}]"#);
    talk.gateway.join_error(sub, b"{}").unwrap();
    talk.hears(&[
        r#"["1","1","room:1","phx_reply",{"status":"error","response":{}}]"#,
        r#"[null,null,"room:1","phx_reply",{"status":"error","response":{"reason":"unmatched topic"}}]"#,
    ]);
}

fn row_10_a_duplicate_join_is_answered_before_the_old_channels_close(talk: &mut Talk) {
    let old = talk.joined(1, "room:1");
    talk.broadcast("room:1", "shout", "1");
    let new = talk.says(r#"["2","3","room:1","phx_join",{}]"#).sub();
    assert_ne!(old, new);
    assert_eq!(talk.ended(), [(1, "replaced")]);
    talk.broadcast("room:1", "shout", "2");
    assert_eq!(talk.gateway.push(old, "late", EMPTY), Err(Unsent::Ended));
    assert_eq!(
        talk.gateway.reply(old, "\"1\"", "ok", EMPTY),
        Err(Unsent::Ended)
    );
    talk.gateway.join_ok(new, EMPTY).unwrap();
    talk.gateway.push(new, "hello", EMPTY).unwrap();
    talk.hears(&[
        r#"[null,null,"room:1","shout",1]"#,
        r#"["2","3","room:1","phx_reply",{"status":"ok","response":{}}]"#,
        r#"["1","1","room:1","phx_close",{}]"#,
        r#"["2",null,"room:1","hello",{}]"#,
    ]);
    assert_eq!(talk.gateway.counts.channels, 1);
    assert_eq!(talk.says(r#"["1","4","room:1","ask",{}]"#), Asked::Nothing);
    assert_eq!(talk.says(r#"["2","5","room:1","ask",{}]"#).sub(), new);
    talk.hears(&[]);
}

fn row_11_a_duplicate_join_that_is_refused_leaves_the_topic_not_joined(talk: &mut Talk) {
    talk.joined(1, "room:1");
    let new = talk.says(r#"["2","3","room:1","phx_join",{}]"#).sub();
    talk.gateway.join_error(new, br#"{"reason":"no"}"#).unwrap();
    talk.says(r#"["1","4","room:1","ask",{}]"#);
    talk.hears(&[
        r#"["2","3","room:1","phx_reply",{"status":"error","response":{"reason":"no"}}]"#,
        r#"["1","1","room:1","phx_close",{}]"#,
        r#"[null,"4","room:1","phx_reply",{"status":"error","response":{"reason":"unmatched topic"}}]"#,
    ]);
    assert_eq!(talk.gateway.counts.channels, 0);
    assert_eq!(talk.gateway.hub.topics(), 0);
}

fn a_join_repeated_while_it_is_under_way_waits_for_the_answer_of_the_first(talk: &mut Talk) {
    let first = talk.says(r#"["1","1","room:1","phx_join",{}]"#).sub();
    talk.gateway.set_handle(first, 7);
    talk.says(r#"["1","2","room:1","ask",{}]"#);
    let second = talk.says(r#"["3","3","room:1","phx_join",{"second":1}]"#);
    assert_eq!(second, Asked::Nothing);
    talk.says(r#"["3","4","room:1","ask",{}]"#);
    assert!(talk.ended().is_empty());
    talk.hears(&[]);
    talk.gateway.join_ok(first, EMPTY).unwrap();
    assert_eq!(talk.ended(), [(7, "replaced")]);
    let freed = talk.freed();
    let [Asked::Message { reference, .. }, Asked::Join {
        sub: second,
        payload,
        ..
    }] = &freed[..]
    else {
        panic!("{freed:?}");
    };
    assert_eq!(reference, "\"2\"");
    assert_eq!(payload, br#"{"second":1}"#);
    talk.gateway.join_ok(*second, EMPTY).unwrap();
    talk.hears(&[
        r#"["1","1","room:1","phx_reply",{"status":"ok","response":{}}]"#,
        r#"["3","3","room:1","phx_reply",{"status":"ok","response":{}}]"#,
        r#"["1","1","room:1","phx_close",{}]"#,
    ]);
    let [Asked::Message { sub, .. }] = &talk.freed()[..] else {
        panic!("the message to the second join");
    };
    assert_eq!(sub, second);
    assert_eq!(
        (talk.gateway.counts.joins, talk.gateway.counts.channels),
        (2, 1)
    );
}

fn a_join_behind_one_that_is_refused_is_decided_after_it(talk: &mut Talk) {
    let first = talk.says(r#"["1","1","room:1","phx_join",{}]"#).sub();
    talk.says(r#"["2","2","room:1","phx_join",{}]"#);
    talk.gateway
        .join_error(first, br#"{"reason":"no"}"#)
        .unwrap();
    let second = talk.freed().pop().expect("the second join").sub();
    talk.gateway.join_ok(second, EMPTY).unwrap();
    talk.hears(&[
        r#"["1","1","room:1","phx_reply",{"status":"error","response":{"reason":"no"}}]"#,
        r#"["2","2","room:1","phx_reply",{"status":"ok","response":{}}]"#,
    ]);
}

fn joins_that_wait_on_one_topic_are_decided_one_by_one(talk: &mut Talk) {
    talk.joined(1, "room:1");
    let second = talk.says(r#"["2","2","room:1","phx_join",{}]"#).sub();
    talk.says(r#"["3","3","room:1","phx_join",{}]"#);
    talk.says(r#"["3","4","room:1","phx_leave",{}]"#);
    talk.says(r#"["5","5","room:1","phx_join",{}]"#);
    talk.gateway.join_ok(second, EMPTY).unwrap();
    let third = talk.freed().pop().expect("the third join").sub();
    talk.gateway.join_ok(third, EMPTY).unwrap();
    let fifth = talk.freed().pop().expect("the fifth join").sub();
    talk.gateway.join_ok(fifth, EMPTY).unwrap();
    assert!(talk.freed().is_empty());
    talk.hears(&[
        r#"["2","2","room:1","phx_reply",{"status":"ok","response":{}}]"#,
        r#"["1","1","room:1","phx_close",{}]"#,
        r#"["3","3","room:1","phx_reply",{"status":"ok","response":{}}]"#,
        r#"["2","2","room:1","phx_close",{}]"#,
        r#"["3","4","room:1","phx_reply",{"status":"ok","response":{}}]"#,
        r#"["3","3","room:1","phx_close",{}]"#,
        r#"["5","5","room:1","phx_reply",{"status":"ok","response":{}}]"#,
    ]);
}

fn a_client_that_joins_in_a_loop_is_refused_past_a_bound(talk: &mut Talk) {
    talk.joined(0, "room:1");
    let first = talk.says(r#"["1","1","room:1","phx_join",{}]"#).sub();
    for n in 0..1000 {
        talk.says(&format!(r#"["j{n}","{n}","room:1","phx_join",{{}}]"#));
        assert_eq!(talk.frames(0).len(), usize::from(n >= MAX_JOINS));
    }
    let refused = 1000 - MAX_JOINS as u64;
    assert_eq!(talk.gateway.inward.refused(Full::Joins), refused);
    talk.gateway.join_ok(first, EMPTY).unwrap();
    for _ in 0..MAX_JOINS {
        let next = talk.freed().pop().expect("a join").sub();
        talk.gateway.join_ok(next, EMPTY).unwrap();
    }
    assert!(talk.freed().is_empty());
    assert_eq!(talk.gateway.counts.channels, 1);
    assert_eq!(talk.gateway.inward.bytes(), 0);
}

fn joins_are_taken_from_one_connection_after_the_other(talk: &mut Talk) {
    let other = talk.connect();
    for n in 0..3 {
        let join = format!(r#"["{n}","{n}","room:{n}","phx_join",{{}}]"#);
        talk.client_queues(0, &join);
    }
    talk.client_queues(other, r#"["9","9","room:9","phx_join",{}]"#);
    let topics: Vec<_> = std::iter::from_fn(|| talk.gateway.next_join())
        .map(|join| match join {
            Verdict::Join { topic, .. } => topic.into_owned(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(topics, ["room:0", "room:9", "room:1", "room:2"]);
}

fn a_join_under_way_when_the_client_goes_ends_with_the_connection(talk: &mut Talk) {
    let sub = talk.says(r#"["1","1","room:1","phx_join",{}]"#).sub();
    talk.gateway.set_handle(sub, 7);
    talk.vanishes(0);
    assert_eq!(talk.ended(), [(7, "closed")]);
    assert_eq!(talk.gateway.join_ok(sub, EMPTY), Err(Unsent::Ended));
    assert_eq!(talk.gateway.counts.channels, 0);
    assert_eq!(talk.gateway.hub.topics(), 0);
}

fn parameters_of_the_topic_are_told_with_the_join(talk: &mut Talk) {
    let asked = talk.says(r#"["1","1","user:zoë:x","phx_join",{}]"#);
    let Asked::Join { params, topic, .. } = asked else {
        panic!("{asked:?}");
    };
    assert_eq!(topic, "user:zoë:x");
    assert_eq!(params, [("name".to_owned(), "zoë:x".to_owned())]);
}

in_every_dialect! {
    row_3_an_accepted_join_is_answered_with_its_own_two_refs,
    row_3_the_applications_answer_is_the_response,
    row_3_the_reply_precedes_every_push_and_broadcast_of_that_join,
    row_4_a_refused_join_is_answered_and_the_socket_stays,
    row_5_a_crashed_join_is_answered_by_no_more_than_its_reply,
    row_6_a_join_of_an_unrouted_topic_is_unmatched_and_loses_its_join_ref,
    row_7_a_join_past_the_cap_is_refused_and_one_that_makes_room_is_not,
    row_7_a_duplicate_join_at_the_cap_frees_its_own_slot_first,
    row_7_joins_under_way_count_too,
    row_9_a_slow_join_blocks_neither_heartbeats_nor_other_channels_nor_pushes,
    row_9_messages_to_a_joining_channel_are_handed_over_in_order,
    row_17_messages_to_a_join_that_is_refused_are_unmatched_behind_the_refusal,
    row_10_a_duplicate_join_is_answered_before_the_old_channels_close,
    row_11_a_duplicate_join_that_is_refused_leaves_the_topic_not_joined,
    a_join_repeated_while_it_is_under_way_waits_for_the_answer_of_the_first,
    a_join_behind_one_that_is_refused_is_decided_after_it,
    joins_that_wait_on_one_topic_are_decided_one_by_one,
    a_client_that_joins_in_a_loop_is_refused_past_a_bound,
    joins_are_taken_from_one_connection_after_the_other,
    a_join_under_way_when_the_client_goes_ends_with_the_connection,
    parameters_of_the_topic_are_told_with_the_join,
}

in_both_text_dialects! {
    row_17_a_message_without_ref_to_a_join_that_is_refused_is_unmatched_too,
    row_8_a_join_without_join_ref_is_answered_with_null_and_pushes_carry_its_ref,
    row_8_a_join_without_join_ref_takes_no_message_that_has_one,
    row_8_a_join_without_join_ref_ends_with_null,
    row_8_a_join_without_join_ref_is_left_with_its_ref_and_closed_with_null,
}

#[test]
fn each_mount_has_its_own_cap_and_routes() {
    let mut talk = Talk::new(Speech::V2Text);
    let mount = talk.gateway.add_mount(1, 1000, 0);
    talk.gateway.expose(mount, "room:*", 0).unwrap();
    let conn = talk.connect_as("phoenix/2", mount);
    let mut says = |frame: &[u8]| {
        talk.receive(conn, 1, true, false, frame);
        talk.gateway.next_join().map_or(Asked::Nothing, Asked::of)
    };
    assert_eq!(says(br#"["1","1","user:1","phx_join",{}]"#), Asked::Nothing);
    says(br#"["2","2","room:1","phx_join",{}]"#).sub();
    assert_eq!(says(br#"["3","3","room:2","phx_join",{}]"#), Asked::Nothing);
    let counts = &talk.gateway.counts;
    assert_eq!((counts.unmatched, counts.joins_refused), (1, 1));
}

#[test]
fn a_binary_join_reply_is_a_binary_reply() {
    let mut talk = Talk::new(Speech::V2Text);
    let sub = talk.says(r#"["1","2","room:1","phx_join",{}]"#).sub();
    talk.gateway
        .join_ok(sub, Body::Binary(b"\x00\xff"))
        .unwrap();
    let reply = b"\x01\x01\x01\x06\x0212room:1ok\x00\xff".to_vec();
    assert_eq!(talk.frames(0), [Frame::Binary(reply)]);
}

#[test]
fn a_binary_join_reply_that_v1_cannot_take_is_a_crashed_join() {
    let mut talk = Talk::new(Speech::V1);
    let sub = talk.says(r#"["1","2","room:1","phx_join",{}]"#).sub();
    let sent = talk.gateway.join_ok(sub, Body::Binary(b"\x00"));
    assert_eq!(sent, Err(Unsent::Unencodable));
    talk.hears(&[
        r#"["1","2","room:1","phx_reply",{"status":"error","response":{"reason":"join crashed"}}]"#,
    ]);
    assert_eq!(
        (talk.gateway.counts.joins, talk.gateway.counts.channels),
        (0, 0)
    );
}

#[test]
fn names_that_would_be_kept_are_bounded() {
    let mut talk = Talk::new(Speech::V2Text);
    let long = "x".repeat(MAX_NAME + 1);
    for join in [
        format!(r#"["1","2","room:{long}","phx_join",{{}}]"#),
        format!(r#"["{long}","2","room:1","phx_join",{{}}]"#),
        format!(r#"[null,"{long}","room:1","phx_join",{{}}]"#),
    ] {
        assert_eq!(talk.says(&join), Asked::Nothing);
        let [Frame::Text(reply)] = &talk.frames(0)[..] else {
            panic!("one reply");
        };
        assert!(reply.starts_with("[null,"), "{reply}");
        assert!(reply.ends_with(
            r#""phx_reply",{"status":"error","response":{"reason":"topic, join_ref or ref too long"}}]"#
        ));
    }
    assert_eq!(talk.gateway.counts.channels, 0);
    assert_eq!(talk.gateway.counts.joins_refused, 3);
    let fits = "x".repeat(MAX_NAME - 5);
    talk.joined(1, &format!("room:{fits}"));
    // The quotes around a ref are the wire's and no part of it.
    let fits = "x".repeat(MAX_NAME);
    talk.says(&format!(r#"["{fits}","{fits}","room:1","phx_join",{{}}]"#))
        .sub();
}

#[test]
fn a_streams_handle_is_told_of_the_joins_end_and_given_back_with_its_answer() {
    let mut talk = Talk::new(Speech::V2Text);
    let join = |talk: &mut Talk, n: u32| {
        let sub = talk
            .says(&format!(r#"["{n}","{n}","news:1","phx_join",{{}}]"#))
            .sub();
        assert_eq!(talk.gateway.set_handle(sub, n), None);
        sub
    };
    let decided = join(&mut talk, 4);
    assert_eq!(talk.gateway.join_ok(decided, EMPTY), Ok(Some(4)));
    // Decided before it could be kept: nobody would ever take it back.
    assert_eq!(talk.gateway.set_handle(decided, 5), Some(5));
    join(&mut talk, 6);
    talk.vanishes(0);
    assert_eq!(talk.ended(), [(6, "closed")]);
}

#[test]
fn a_leave_of_a_stream_that_came_before_the_decision_follows_it() {
    let mut talk = Talk::new(Speech::V2Text);
    let sub = talk.says(r#"["1","1","news:1","phx_join",{}]"#).sub();
    talk.gateway.set_handle(sub, 1);
    talk.says(r#"["1","2","news:1","ask",{}]"#);
    talk.says(r#"["1","3","news:1","phx_leave",{}]"#);
    assert_eq!(talk.gateway.join_ok(sub, EMPTY), Ok(Some(1)));
    assert!(talk.freed().is_empty());
    talk.hears(&[
        r#"["1","1","news:1","phx_reply",{"status":"ok","response":{}}]"#,
        r#"["1","2","news:1","phx_reply",{"status":"error","response":{"reason":"push-only topic"}}]"#,
        r#"["1","3","news:1","phx_reply",{"status":"ok","response":{}}]"#,
        r#"["1","1","news:1","phx_close",{}]"#,
    ]);
    assert_eq!(talk.gateway.hub.topics(), 0);
}
