//! Push-only topics: nothing of the driver's is kept per subscriber, and clients are told so.

use crate::talk::{in_both_text_dialects, in_every_dialect, Asked, Talk, EMPTY};

fn subscribed(talk: &mut Talk) {
    let asked = talk.says(r#"["1","1","news:1","phx_join",{}]"#);
    assert!(matches!(asked, Asked::Join { route: 1, .. }));
    talk.gateway.join_ok(asked.sub(), EMPTY).unwrap();
    talk.hears(&[r#"["1","1","news:1","phx_reply",{"status":"ok","response":{}}]"#]);
}

fn a_subscriber_of_a_stream_hears_its_broadcasts(talk: &mut Talk) {
    subscribed(talk);
    talk.broadcast("news:1", "item", "1");
    talk.hears(&[r#"[null,null,"news:1","item",1]"#]);
}

fn a_message_to_a_stream_is_refused_and_counted(talk: &mut Talk) {
    subscribed(talk);
    assert_eq!(talk.says(r#"["1","2","news:1","ask",{}]"#), Asked::Nothing);
    talk.hears(&[
        r#"["1","2","news:1","phx_reply",{"status":"error","response":{"reason":"push-only topic"}}]"#,
    ]);
    assert_eq!(talk.says(r#"["0","3","news:1","ask",{}]"#), Asked::Nothing);
    talk.hears(&[]);
    let counts = &talk.gateway.counts;
    assert_eq!((counts.to_stream, counts.stale), (1, 1));
}

fn a_message_to_a_stream_that_asks_for_no_answer_gets_none(talk: &mut Talk) {
    subscribed(talk);
    assert_eq!(
        talk.says(r#"["1",null,"news:1","tell",{}]"#),
        Asked::Nothing
    );
    talk.hears(&[]);
    assert_eq!(talk.gateway.counts.to_stream, 1);
}

fn a_stream_is_left_without_asking_anybody(talk: &mut Talk) {
    subscribed(talk);
    assert_eq!(
        talk.says(r#"["1","2","news:1","phx_leave",{}]"#),
        Asked::Nothing
    );
    talk.hears(&[
        r#"["1","2","news:1","phx_reply",{"status":"ok","response":{}}]"#,
        r#"["1","1","news:1","phx_close",{}]"#,
    ]);
    assert!(talk.ended().is_empty());
    assert_eq!(talk.gateway.hub.topics(), 0);
}

fn a_stream_joined_again_replaces_itself(talk: &mut Talk) {
    subscribed(talk);
    let sub = talk.says(r#"["2","2","news:1","phx_join",{}]"#).sub();
    talk.gateway.join_ok(sub, EMPTY).unwrap();
    talk.hears(&[
        r#"["2","2","news:1","phx_reply",{"status":"ok","response":{}}]"#,
        r#"["1","1","news:1","phx_close",{}]"#,
    ]);
    assert!(talk.ended().is_empty(), "nothing was kept");
}

in_every_dialect! {
    a_subscriber_of_a_stream_hears_its_broadcasts,
    a_message_to_a_stream_is_refused_and_counted,
    a_stream_is_left_without_asking_anybody,
    a_stream_joined_again_replaces_itself,
}

in_both_text_dialects! {
    a_message_to_a_stream_that_asks_for_no_answer_gets_none,
}
