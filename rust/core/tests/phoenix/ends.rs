//! The server ends a channel: as it should, or by a crash.

use moda_core::gateway::Body;

use crate::talk::{in_every_dialect, Asked, Talk, EMPTY};

fn a_normal_stop_is_a_close_behind_its_reply(talk: &mut Talk) {
    let sub = talk.joined(1, "room:1");
    talk.says(r#"["1","2","room:1","stop",{}]"#);
    talk.gateway.reply(sub, "\"2\"", "ok", EMPTY).unwrap();
    assert_eq!(talk.gateway.end(sub, false), Some(1));
    talk.hears(&[
        r#"["1","2","room:1","phx_reply",{"status":"ok","response":{}}]"#,
        r#"["1","1","room:1","phx_close",{}]"#,
    ]);
    assert_eq!(talk.gateway.counts.channels, 0);
    assert_eq!(talk.gateway.end(sub, false), None);
    talk.hears(&[]);
}

fn any_other_stop_is_an_error_behind_its_reply(talk: &mut Talk) {
    let sub = talk.joined(1, "room:1");
    talk.says(r#"["1","2","room:1","stop",{}]"#);
    talk.gateway
        .reply(sub, "\"2\"", "error", Body::Json(br#""sorry""#))
        .unwrap();
    talk.gateway.end(sub, true);
    talk.hears(&[
        r#"["1","2","room:1","phx_reply",{"status":"error","response":"sorry"}]"#,
        r#"["1","1","room:1","phx_error",{"reason":"channel_crash"}]"#,
    ]);
}

fn a_crash_is_an_error_and_no_reply_and_nobody_elses_business(talk: &mut Talk) {
    let other = talk.connect();
    let sub = talk.joined(1, "room:1");
    let second = talk.joined(2, "room:2");
    let neighbour = talk.client_joined(other, 3, "room:1");
    talk.says(r#"["1","4","room:1","crash",{}]"#);
    assert_eq!(talk.gateway.end(sub, true), Some(1));
    talk.hears(&[r#"["1","1","room:1","phx_error",{"reason":"channel_crash"}]"#]);
    talk.client_hears(other, &[]);
    assert_eq!(talk.says(r#"["2","5","room:2","ask",{}]"#).sub(), second);
    let asked = talk.client_says(other, r#"["3","6","room:1","ask",{}]"#);
    assert_eq!(asked.sub(), neighbour);
}

fn pushes_of_a_crashing_channel_come_before_its_error(talk: &mut Talk) {
    let sub = talk.joined(1, "room:1");
    talk.gateway.push(sub, "last words", EMPTY).unwrap();
    talk.gateway.end(sub, true);
    talk.hears(&[
        r#"["1",null,"room:1","last words",{}]"#,
        r#"["1","1","room:1","phx_error",{"reason":"channel_crash"}]"#,
    ]);
}

fn the_topic_is_free_after_an_end_and_the_next_push_unmatched(talk: &mut Talk) {
    for crash in [false, true] {
        let sub = talk.joined(1, "room:1");
        talk.gateway.end(sub, crash);
        talk.frames(0);
        assert_eq!(talk.says(r#"["1","2","room:1","ask",{}]"#), Asked::Nothing);
        talk.hears(&[
            r#"[null,"2","room:1","phx_reply",{"status":"error","response":{"reason":"unmatched topic"}}]"#,
        ]);
    }
    talk.joined(3, "room:1");
}

fn an_end_while_a_leave_waits_is_that_end(talk: &mut Talk) {
    let sub = talk.joined(1, "room:1");
    talk.says(r#"["1","2","room:1","phx_leave",{}]"#);
    talk.gateway.end(sub, true);
    assert_eq!(talk.gateway.finish_leave(sub, "\"2\""), None);
    talk.hears(&[r#"["1","1","room:1","phx_error",{"reason":"channel_crash"}]"#]);
}

fn queued_broadcasts_come_before_the_end(talk: &mut Talk) {
    let sub = talk.joined(1, "room:1");
    talk.broadcast("room:1", "shout", "1");
    talk.gateway.end(sub, false);
    talk.broadcast("room:1", "shout", "2");
    talk.hears(&[
        r#"[null,null,"room:1","shout",1]"#,
        r#"["1","1","room:1","phx_close",{}]"#,
    ]);
}

in_every_dialect! {
    a_normal_stop_is_a_close_behind_its_reply,
    any_other_stop_is_an_error_behind_its_reply,
    a_crash_is_an_error_and_no_reply_and_nobody_elses_business,
    pushes_of_a_crashing_channel_come_before_its_error,
    the_topic_is_free_after_an_end_and_the_next_push_unmatched,
    an_end_while_a_leave_waits_is_that_end,
    queued_broadcasts_come_before_the_end,
}
