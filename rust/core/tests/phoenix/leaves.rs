//! Leaving: in order, late, twice, nobody, and back again at once.

use moda_core::gateway::Unsent;

use crate::talk::{in_both_text_dialects, in_every_dialect, Asked, Speech, Talk, EMPTY};

fn row_18_a_leave_is_answered_and_then_the_channel_closed(talk: &mut Talk) {
    let sub = talk.joined(1, "room:1");
    let asked = talk.says(r#"["1","2","room:1","phx_leave",{"any":1}]"#);
    let reference = "\"2\"".to_owned();
    assert_eq!(asked, Asked::Leave { sub, reference });
    talk.hears(&[]);
    assert_eq!(talk.gateway.finish_leave(sub, "\"2\""), Some(1));
    talk.hears(&[
        r#"["1","2","room:1","phx_reply",{"status":"ok","response":{}}]"#,
        r#"["1","1","room:1","phx_close",{}]"#,
    ]);
    assert_eq!(
        (talk.gateway.counts.leaves, talk.gateway.counts.channels),
        (1, 0)
    );
    assert_eq!(talk.gateway.finish_leave(sub, "\"2\""), None);
    assert!(talk.ended().is_empty(), "the driver knows");
}

fn row_18_a_leave_without_join_ref_is_honoured(talk: &mut Talk) {
    let sub = talk.joined(1, "room:1");
    talk.says(r#"[null,"2","room:1","phx_leave",{}]"#);
    talk.gateway.finish_leave(sub, "\"2\"");
    talk.hears(&[
        r#"["1","2","room:1","phx_reply",{"status":"ok","response":{}}]"#,
        r#"["1","1","room:1","phx_close",{}]"#,
    ]);
}

fn row_18_what_was_sent_before_the_leave_is_answered_before_its_close(talk: &mut Talk) {
    let sub = talk.joined(1, "room:1");
    talk.says(r#"["1","2","room:1","ask",{}]"#);
    talk.says(r#"["1","3","room:1","phx_leave",{}]"#);
    talk.broadcast("room:1", "shout", "1");
    talk.gateway.reply(sub, "\"2\"", "ok", EMPTY).unwrap();
    talk.gateway.push(sub, "goodbye", EMPTY).unwrap();
    talk.gateway.finish_leave(sub, "\"3\"");
    talk.broadcast("room:1", "shout", "2");
    assert_eq!(talk.gateway.push(sub, "late", EMPTY), Err(Unsent::Ended));
    talk.hears(&[
        r#"[null,null,"room:1","shout",1]"#,
        r#"["1","2","room:1","phx_reply",{"status":"ok","response":{}}]"#,
        r#"["1",null,"room:1","goodbye",{}]"#,
        r#"["1","3","room:1","phx_reply",{"status":"ok","response":{}}]"#,
        r#"["1","1","room:1","phx_close",{}]"#,
    ]);
}

fn row_19_a_stale_leave_is_ignored_and_the_channel_stays_joined(talk: &mut Talk) {
    let sub = talk.joined(5, "room:1");
    assert_eq!(
        talk.says(r#"["4","6","room:1","phx_leave",{}]"#),
        Asked::Nothing
    );
    talk.hears(&[]);
    assert_eq!(talk.gateway.counts.stale, 1);
    assert_eq!(talk.says(r#"["5","7","room:1","ask",{}]"#).sub(), sub);
}

fn row_20_a_leave_of_what_is_not_joined_is_ok_with_its_own_join_ref_and_no_close(talk: &mut Talk) {
    for topic in ["room:1", "nowhere", "phoenix"] {
        let leave = format!(r#"["7","8","{topic}","phx_leave",{{}}]"#);
        assert_eq!(talk.says(&leave), Asked::Nothing);
        talk.hears(&[&format!(
            r#"["7","8","{topic}","phx_reply",{{"status":"ok","response":{{}}}}]"#
        )]);
    }
    assert_eq!(talk.gateway.counts.leaves, 0);
}

fn row_20_a_leave_of_what_is_not_joined_echoes_a_null_join_ref(talk: &mut Talk) {
    talk.says(r#"[null,"8","room:1","phx_leave",{}]"#);
    talk.hears(&[r#"[null,"8","room:1","phx_reply",{"status":"ok","response":{}}]"#]);
}

fn row_21_events_between_a_leave_and_its_close_are_met_with_silence(talk: &mut Talk) {
    let sub = talk.joined(1, "room:1");
    talk.says(r#"["1","2","room:1","phx_leave",{}]"#);
    assert_eq!(talk.says(r#"["1","3","room:1","ask",{}]"#), Asked::Nothing);
    talk.hears(&[]);
    talk.gateway.finish_leave(sub, "\"2\"");
    talk.frames(0);
    talk.says(r#"["1","4","room:1","ask",{}]"#);
    talk.hears(&[
        r#"[null,"4","room:1","phx_reply",{"status":"error","response":{"reason":"unmatched topic"}}]"#,
    ]);
}

fn row_21_two_leaves_in_a_row_get_one_reply_and_one_close(talk: &mut Talk) {
    let sub = talk.joined(1, "room:1");
    talk.says(r#"["1","2","room:1","phx_leave",{}]"#);
    assert_eq!(
        talk.says(r#"["1","3","room:1","phx_leave",{}]"#),
        Asked::Nothing
    );
    talk.gateway.finish_leave(sub, "\"2\"");
    talk.hears(&[
        r#"["1","2","room:1","phx_reply",{"status":"ok","response":{}}]"#,
        r#"["1","1","room:1","phx_close",{}]"#,
    ]);
}

fn row_22_a_leave_followed_by_a_join_at_once_is_a_duplicate_join(talk: &mut Talk) {
    let old = talk.joined(1, "room:1");
    talk.says(r#"["1","2","room:1","phx_leave",{}]"#);
    let new = talk.says(r#"["3","3","room:1","phx_join",{}]"#).sub();
    assert_eq!(talk.ended(), [(1, "replaced")]);
    assert_eq!(talk.gateway.finish_leave(old, "\"2\""), None);
    talk.gateway.join_ok(new, EMPTY).unwrap();
    talk.hears(&[
        r#"["3","3","room:1","phx_reply",{"status":"ok","response":{}}]"#,
        r#"["1","1","room:1","phx_close",{}]"#,
    ]);
    assert_eq!(talk.says(r#"["3","4","room:1","ask",{}]"#).sub(), new);
}

fn row_22_a_leave_that_was_finished_before_the_join_is_a_leave(talk: &mut Talk) {
    let old = talk.joined(1, "room:1");
    talk.says(r#"["1","2","room:1","phx_leave",{}]"#);
    talk.gateway.finish_leave(old, "\"2\"");
    let new = talk.says(r#"["3","3","room:1","phx_join",{}]"#).sub();
    talk.gateway.join_ok(new, EMPTY).unwrap();
    talk.hears(&[
        r#"["1","2","room:1","phx_reply",{"status":"ok","response":{}}]"#,
        r#"["1","1","room:1","phx_close",{}]"#,
        r#"["3","3","room:1","phx_reply",{"status":"ok","response":{}}]"#,
    ]);
}

fn a_leave_while_the_join_is_under_way_follows_the_joins_own_answer(talk: &mut Talk) {
    let sub = talk.says(r#"["1","1","room:1","phx_join",{}]"#).sub();
    talk.gateway.set_handle(sub, 7);
    talk.says(r#"["1","2","room:1","ask",{}]"#);
    assert_eq!(
        talk.says(r#"["1","3","room:1","phx_leave",{}]"#),
        Asked::Nothing
    );
    talk.hears(&[]);
    assert!(talk.ended().is_empty());
    talk.gateway.join_ok(sub, EMPTY).unwrap();
    let [Asked::Message { .. }, Asked::Leave {
        sub: left,
        reference,
    }] = &talk.freed()[..]
    else {
        panic!("the message, then the leave");
    };
    assert_eq!(*left, sub);
    talk.gateway.reply(sub, "\"2\"", "ok", EMPTY).unwrap();
    talk.gateway.finish_leave(sub, reference);
    talk.hears(&[
        r#"["1","1","room:1","phx_reply",{"status":"ok","response":{}}]"#,
        r#"["1","2","room:1","phx_reply",{"status":"ok","response":{}}]"#,
        r#"["1","3","room:1","phx_reply",{"status":"ok","response":{}}]"#,
        r#"["1","1","room:1","phx_close",{}]"#,
    ]);
    assert_eq!(
        (talk.gateway.counts.joins, talk.gateway.counts.channels),
        (1, 0)
    );
    assert_eq!(talk.gateway.hub.topics(), 0);
}

fn a_leave_while_a_join_is_refused_is_a_leave_of_what_is_not_joined(talk: &mut Talk) {
    let sub = talk.says(r#"["1","1","room:1","phx_join",{}]"#).sub();
    talk.says(r#"["1","2","room:1","ask",{}]"#);
    talk.says(r#"["1","3","room:1","phx_leave",{}]"#);
    talk.gateway.join_error(sub, br#"{"reason":"no"}"#).unwrap();
    assert!(talk.freed().is_empty());
    talk.hears(&[
        r#"["1","1","room:1","phx_reply",{"status":"error","response":{"reason":"no"}}]"#,
        r#"[null,"2","room:1","phx_reply",{"status":"error","response":{"reason":"unmatched topic"}}]"#,
        r#"["1","3","room:1","phx_reply",{"status":"ok","response":{}}]"#,
    ]);
    assert_eq!(talk.gateway.counts.channels, 0);
}

fn a_leave_while_a_duplicate_join_is_under_way_closes_both(talk: &mut Talk) {
    talk.joined(1, "room:1");
    let sub = talk.says(r#"["2","2","room:1","phx_join",{}]"#).sub();
    talk.says(r#"["2","3","room:1","phx_leave",{}]"#);
    talk.gateway.join_ok(sub, EMPTY).unwrap();
    talk.hears(&[
        r#"["2","2","room:1","phx_reply",{"status":"ok","response":{}}]"#,
        r#"["1","1","room:1","phx_close",{}]"#,
        r#"["2","3","room:1","phx_reply",{"status":"ok","response":{}}]"#,
        r#"["2","2","room:1","phx_close",{}]"#,
    ]);
    assert_eq!(talk.gateway.counts.channels, 0);
}

fn leaves_in_a_loop_while_the_join_is_under_way_keep_no_more_than_the_bound(talk: &mut Talk) {
    let sub = talk.says(r#"["1","1","room:1","phx_join",{}]"#).sub();
    for n in 0..5000 {
        talk.says(&format!(r#"["1","{n}","room:1","phx_leave",{{}}]"#));
    }
    talk.hears(&[]);
    assert!(talk.gateway.inward.bytes() < 1001 * 400);
    talk.gateway.join_ok(sub, EMPTY).unwrap();
    assert_eq!(talk.gateway.inward.bytes(), 0);
    let frames = talk.frames(0);
    assert_eq!(
        frames.len(),
        1 + 2 + 999,
        "of leaves that waited each is answered"
    );
}

fn a_channel_the_driver_keeps_nothing_for_is_left_at_once(talk: &mut Talk) {
    let sub = talk.says(r#"["1","1","room:1","phx_join",{}]"#).sub();
    talk.gateway.join_ok(sub, EMPTY).unwrap();
    talk.frames(0);
    assert_eq!(
        talk.says(r#"["1","2","room:1","phx_leave",{}]"#),
        Asked::Nothing
    );
    talk.hears(&[
        r#"["1","2","room:1","phx_reply",{"status":"ok","response":{}}]"#,
        r#"["1","1","room:1","phx_close",{}]"#,
    ]);
}

in_every_dialect! {
    row_18_a_leave_is_answered_and_then_the_channel_closed,
    row_18_what_was_sent_before_the_leave_is_answered_before_its_close,
    row_19_a_stale_leave_is_ignored_and_the_channel_stays_joined,
    row_20_a_leave_of_what_is_not_joined_is_ok_with_its_own_join_ref_and_no_close,
    row_21_events_between_a_leave_and_its_close_are_met_with_silence,
    row_21_two_leaves_in_a_row_get_one_reply_and_one_close,
    row_22_a_leave_followed_by_a_join_at_once_is_a_duplicate_join,
    row_22_a_leave_that_was_finished_before_the_join_is_a_leave,
    a_leave_while_the_join_is_under_way_follows_the_joins_own_answer,
    a_leave_while_a_join_is_refused_is_a_leave_of_what_is_not_joined,
    leaves_in_a_loop_while_the_join_is_under_way_keep_no_more_than_the_bound,
    a_leave_while_a_duplicate_join_is_under_way_closes_both,
    a_channel_the_driver_keeps_nothing_for_is_left_at_once,
}

in_both_text_dialects! {
    row_18_a_leave_without_join_ref_is_honoured,
    row_20_a_leave_of_what_is_not_joined_echoes_a_null_join_ref,
}

#[test]
fn row_20_holds_for_a_topic_that_is_no_string() {
    let mut talk = Talk::new(Speech::V2Text);
    talk.says(r#"["7","8",9,"phx_leave",{}]"#);
    talk.hears(&[r#"["7","8",9,"phx_reply",{"status":"ok","response":{}}]"#]);
}
