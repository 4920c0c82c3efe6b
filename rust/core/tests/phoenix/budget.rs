//! What waits inward is bounded, per connection and for all together.

use moda_core::gateway::{Full, InwardLimits};

use crate::frames::text;
use crate::talk::{Asked, Speech, Talk, EMPTY};

const KB: usize = 1024;

fn tight() -> Talk {
    let mut talk = Talk::new(Speech::V2Text);
    talk.gateway.inward.limits = InwardLimits {
        messages: 1000,
        connection: 40 * KB,
        process: 400 * KB,
    };
    talk
}

fn ask(n: usize, topic: &str, bytes: usize) -> String {
    let payload = "x".repeat(bytes);
    format!(r#"["1","{n}","{topic}","ask","{payload}"]"#)
}

#[test]
fn messages_to_many_undecided_joins_of_one_connection_share_one_budget() {
    let mut talk = tight();
    let mut subs = Vec::new();
    for n in 0..50 {
        let join = format!(r#"["1","{n}","room:{n}","phx_join",{{}}]"#);
        subs.push(talk.says(&join).sub());
    }
    for n in 0..50 {
        talk.says(&ask(n, &format!("room:{n}"), 10 * KB));
    }
    assert!(talk.gateway.inward.bytes() <= 40 * KB);
    assert_eq!(talk.gateway.inward.refused(Full::Connection), 48);
    let frames = talk.frames(0);
    assert_eq!(frames.len(), 48, "each that asked is told");
    for sub in subs {
        talk.gateway.join_ok(sub, EMPTY).unwrap();
    }
    assert_eq!(talk.freed().len(), 2);
    talk.vanishes(0);
    assert_eq!(talk.gateway.inward.bytes(), 0);
}

#[test]
fn a_joins_own_payload_waits_on_the_same_budget_until_it_is_decided() {
    let mut talk = tight();
    let join = |n: usize| {
        let payload = "x".repeat(15 * KB);
        format!(r#"["{n}","{n}","room:{n}","phx_join","{payload}"]"#)
    };
    let first = talk.says(&join(1)).sub();
    talk.says(&join(2));
    assert_eq!(talk.says(&join(3)), Asked::Nothing);
    talk.hears(&[
        r#"["3","3","room:3","phx_reply",{"status":"error","response":{"reason":"busy"}}]"#,
    ]);
    talk.gateway.join_error(first, b"{}").unwrap();
    talk.frames(0);
    assert!(matches!(talk.says(&join(3)), Asked::Join { .. }));
}

#[test]
fn a_join_again_that_is_refused_as_busy_ends_the_old_channel_as_any_refused_one_does() {
    let mut talk = tight();
    talk.joined(1, "room:1");
    talk.says(&format!(
        r#"["2","2","room:2","phx_join","{}"]"#,
        "x".repeat(30 * KB)
    ));
    talk.says(&format!(
        r#"["3","3","room:1","phx_join","{}"]"#,
        "x".repeat(30 * KB)
    ));
    talk.hears(&[
        r#"["3","3","room:1","phx_reply",{"status":"error","response":{"reason":"busy"}}]"#,
        r#"["1","1","room:1","phx_close",{}]"#,
    ]);
    assert_eq!(talk.ended(), [(1, "replaced")]);
}

#[test]
fn a_message_waits_until_the_driver_has_taken_it() {
    let mut talk = tight();
    let sub = talk.joined(1, "room:1");
    let mut taken = Vec::new();
    for n in 0..10 {
        match talk.says(&ask(n, "room:1", 10 * KB)) {
            Asked::Message { .. } => taken.push(n),
            other => assert_eq!(other, Asked::Nothing),
        }
    }
    assert_eq!(taken, [0, 1, 2]);
    let waiting = talk.gateway.inward.bytes();
    talk.gateway.taken(sub, waiting / 3);
    assert!(matches!(
        talk.says(&ask(11, "room:1", 10 * KB)),
        Asked::Message { .. }
    ));
    talk.gateway.end(sub, true);
    assert_eq!(talk.gateway.inward.bytes(), 0);
    talk.gateway.taken(sub, waiting);
    assert_eq!(talk.gateway.inward.bytes(), 0);
}

#[test]
fn many_connections_that_fill_their_budgets_leave_room_for_a_newcomer() {
    let mut talk = tight();
    for client in 0..60 {
        if client > 0 {
            talk.connect();
        }
        talk.client_joined(client, 1, "room:1");
        for n in 0..10 {
            talk.client_says(client, &ask(n, "room:1", 10 * KB));
        }
    }
    assert!(talk.gateway.inward.bytes() <= 400 * KB);
    assert!(talk.gateway.inward.refused(Full::Process) > 0);
    let late = talk.connect();
    talk.client_joined(late, 1, "room:1");
    let asked = talk.client_says(late, &ask(1, "room:1", KB));
    assert!(matches!(asked, Asked::Message { .. }));
    for client in 0..=late {
        talk.vanishes(client);
    }
    assert_eq!(talk.gateway.inward.bytes(), 0);
}

#[test]
fn messages_that_wait_for_a_join_are_bounded() {
    let mut talk = Talk::new(Speech::V2Text);
    let sub = talk.says(r#"["1","1","room:1","phx_join",{}]"#).sub();
    for n in 0..10_000 {
        talk.says(&format!(r#"["1","{n}","room:1","ask",{{}}]"#));
    }
    assert_eq!(
        talk.frames(0)[0],
        text(
            r#"["1","1000","room:1","phx_reply",{"status":"error","response":{"reason":"busy"}}]"#
        )
    );
    assert_eq!(talk.gateway.inward.refused(Full::Channel), 9000);
    talk.gateway.join_error(sub, b"{}").unwrap();
    let frames = talk.frames(0);
    assert_eq!(talk.gateway.inward.bytes(), 0);
    assert_eq!(
        frames[1],
        text(
            r#"[null,"0","room:1","phx_reply",{"status":"error","response":{"reason":"unmatched topic"}}]"#
        )
    );
    assert_eq!(frames.len(), 1001);
}
