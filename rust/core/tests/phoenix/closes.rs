//! The end of a connection: who says which code, and what it takes along.

use moda_core::dialect::websocket;
use moda_core::gateway::{Body, Unsent, Verdict};
use moda_core::hub::Action;
use moda_core::ws::Opcode;

use crate::frames::Frame;
use crate::talk::{in_every_dialect, Asked, Speech, Talk, EMPTY, IDLE_MS, MAX_MESSAGE};

fn close(code: u16, reason: &str) -> Frame {
    Frame::Close(code, reason.to_owned())
}

fn a_clients_close_is_answered_and_ends_its_channels_without_a_word_on_them(talk: &mut Talk) {
    let sub = talk.joined(1, "room:1");
    talk.says(r#"["2","2","room:2","phx_join",{}]"#);
    talk.sends(0, Opcode::Close, b"\x03\xe8bye");
    assert_eq!(talk.frames(0), [close(1000, "")]);
    assert_eq!(talk.actions, [Action::Close(talk.conn(0))]);
    assert_eq!(talk.ended(), [(1, "closed")]);
    assert_eq!(talk.gateway.counts.channels, 0);
    assert_eq!(talk.gateway.push(sub, "late", EMPTY), Err(Unsent::Ended));
    assert!(talk.complaints().is_empty());
    assert_eq!(
        talk.says(r#"["9","9","phoenix","heartbeat",{}]"#),
        Asked::Nothing
    );
    assert!(talk.frames(0).is_empty());
    talk.vanishes(0);
    assert!(talk.ended().is_empty(), "once");
}

fn a_lost_connection_ends_its_channels(talk: &mut Talk) {
    talk.joined(1, "room:1");
    talk.joined(2, "room:2");
    talk.vanishes(0);
    assert_eq!(talk.ended(), [(1, "closed"), (2, "closed")]);
    assert_eq!(talk.gateway.counts.channels, 0);
    assert_eq!(talk.gateway.hub.topics(), 0);
    assert_eq!(talk.says(r#"["1","3","room:1","ask",{}]"#), Asked::Nothing);
}

fn a_close_of_ours_says_nothing_on_the_channels_and_ends_them(talk: &mut Talk) {
    talk.joined(1, "room:1");
    let conn = talk.conn(0);
    talk.broadcast("room:1", "shout", "1");
    talk.gateway
        .close(conn, 1001, "disconnected", "closed", false);
    talk.broadcast("room:1", "shout", "2");
    let frames = talk.frames(0);
    assert_eq!(frames.len(), 2, "the broadcast before it, then the close");
    assert_eq!(frames[1], close(1001, "disconnected"));
    assert_eq!(talk.ended(), [(1, "closed")]);
    assert!(talk.actions.is_empty(), "the client's close is awaited");
    assert_eq!(talk.sends(0, Opcode::Close, b"\x03\xe9"), Asked::Nothing);
    assert!(talk.frames(0).is_empty(), "one close is enough");
    assert_eq!(talk.actions, [Action::Close(conn)]);
}

fn silence_for_the_mounts_time_is_1002(talk: &mut Talk) {
    talk.joined(1, "room:1");
    let sweep = |talk: &mut Talk, now| {
        talk.gateway.hub.set_now(now);
        talk.gateway.sweep();
        talk.frames(0)
    };
    assert!(sweep(talk, IDLE_MS - 1).is_empty());
    talk.sends(0, Opcode::Pong, b"any frame counts");
    assert!(sweep(talk, IDLE_MS).is_empty());
    talk.broadcast("room:1", "shout", "{}");
    assert_eq!(
        sweep(talk, 2 * IDLE_MS - 2).len(),
        1,
        "what we send does not"
    );
    assert_eq!(sweep(talk, 2 * IDLE_MS - 1), [close(1002, "idle")]);
    assert_eq!(talk.ended(), [(1, "closed")]);
}

fn a_message_in_pieces_may_take_a_minute_whatever_comes_in_between(talk: &mut Talk) {
    let conn = talk.conn(0);
    let _ = talk.receive(conn, 1, false, false, b"[");
    for now in (0..60_000).step_by(10_000) {
        talk.gateway.hub.set_now(now);
        talk.sends(0, Opcode::Pong, b"");
        talk.gateway.sweep();
        assert!(talk.frames(0).is_empty(), "{now} ms");
    }
    talk.gateway.hub.set_now(60_000);
    talk.gateway.sweep();
    assert_eq!(talk.frames(0), [close(1008, "message unfinished")]);
}

fn after_our_close_only_the_clients_answer_is_looked_for(talk: &mut Talk) {
    let conn = talk.conn(0);
    talk.gateway.close(conn, 1008, "enough", "closed", false);
    talk.turn();
    let mut came = |bytes: &[u8]| {
        let mut bytes = bytes.to_vec();
        let mut input = &mut bytes[..];
        let verdict = websocket::read(&mut talk.gateway, conn, &mut input);
        assert!(matches!(verdict, Verdict::Done));
        websocket::wants(&mut talk.gateway, conn)
    };
    let mut frame = vec![0x82, 0xfe, 0x10, 0x00, 1, 2, 3, 4];
    frame.resize(100, 7);
    assert_eq!(came(&frame), Some(4096 - 92));
    assert_eq!(came(&vec![9; 4096 - 92]), Some(0));
    came(&[0x88, 0x82, 1, 2, 3]);
    came(&[4, 5, 6]);
    talk.turn();
    assert_eq!(talk.actions, [Action::Close(conn)]);
}

fn half_a_frame_is_a_sign_of_life_until_it_takes_too_long(talk: &mut Talk) {
    let conn = talk.conn(0);
    for now in (0..60_000).step_by(10_000) {
        talk.gateway.hub.set_now(now);
        let mut byte = if now == 0 { vec![0x81, 0xff] } else { vec![0] };
        let mut input = &mut byte[..];
        let _ = websocket::read(&mut talk.gateway, conn, &mut input);
        talk.gateway.sweep();
        assert!(talk.frames(0).is_empty(), "{now} ms");
    }
    talk.gateway.hub.set_now(60_000);
    talk.gateway.sweep();
    assert_eq!(talk.frames(0), [close(1008, "message unfinished")]);
}

fn a_ping_is_answered_with_its_own_payload(talk: &mut Talk) {
    for payload in [&b""[..], b"hello", &[0xff; 125]] {
        assert_eq!(talk.sends(0, Opcode::Ping, payload), Asked::Nothing);
        assert_eq!(talk.frames(0), [Frame::Pong(payload.to_vec())]);
    }
    talk.sends(0, Opcode::Pong, b"unasked");
    assert!(talk.frames(0).is_empty());
}

in_every_dialect! {
    a_clients_close_is_answered_and_ends_its_channels_without_a_word_on_them,
    a_lost_connection_ends_its_channels,
    a_close_of_ours_says_nothing_on_the_channels_and_ends_them,
    silence_for_the_mounts_time_is_1002,
    after_our_close_only_the_clients_answer_is_looked_for,
    half_a_frame_is_a_sign_of_life_until_it_takes_too_long,
    a_message_in_pieces_may_take_a_minute_whatever_comes_in_between,
    a_ping_is_answered_with_its_own_payload,
}

#[test]
fn the_answer_to_a_close_is_1000_or_1002_by_the_clients_code() {
    for (payload, code) in [
        (&b""[..], 1000),
        (b"\x03\xe8", 1000),
        (b"\x03\xe9", 1000),
        (b"\x03\xeb", 1000),
        (b"\x03\xef", 1000),
        (b"\x03\xf3", 1000),
        (b"\x0b\xb8", 1000),
        (b"\x13\x87", 1000),
        (b"\x03\xf4", 1000),
        (b"\x03\xf5", 1000),
        (b"\x03\xf6", 1000),
        (b"\x13\x88", 1002),
        (b"\xff\xff", 1002),
        (b"\x03\xe7", 1002),
        (b"\x03\xec", 1002),
        (b"\x03\xed", 1002),
        (b"\x03\xee", 1002),
        (b"\x03\xf7", 1002),
        (b"\x0b\xb7", 1002),
        (b"\x03", 1002),
        (b"\x03\xe8\xff", 1007),
    ] {
        let mut talk = Talk::new(Speech::V2Text);
        talk.sends(0, Opcode::Close, payload);
        assert_eq!(talk.frames(0), [close(code, "")], "{payload:?}");
    }
}

/// Frames as opcode, fin, rsv and payload; the last of them is one too many.
fn violates(frames: &[(u8, bool, bool, &[u8])], code: u16, reason: &'static str) {
    let mut talk = Talk::new(Speech::V2Text);
    talk.joined(1, "room:1");
    let conn = talk.conn(0);
    for (op, fin, rsv, payload) in frames {
        assert!(talk.frames(0).is_empty(), "too early: {reason}");
        let verdict = talk.receive(conn, *op, *fin, *rsv, payload);
        assert_eq!(Asked::of(verdict), Asked::Nothing);
    }
    assert_eq!(talk.frames(0), [close(code, reason)]);
    assert_eq!(talk.complaints(), [(conn, code, reason)]);
    assert_eq!(talk.gateway.counts.violations[reason], 1);
    assert_eq!(talk.ended(), [(1, "closed")]);
    // What else it sends is neither answered nor counted.
    for (op, fin, rsv, payload) in frames {
        let _ = talk.receive(conn, *op, *fin, *rsv, payload);
    }
    assert!(talk.frames(0).is_empty());
    assert!(talk.complaints().is_empty());
    assert_eq!(talk.gateway.counts.violations[reason], 1);
}

#[test]
fn reserved_bits_are_1002() {
    violates(&[(1, true, true, b"{}")], 1002, "reserved bits set");
}

#[test]
fn an_unknown_opcode_is_1002() {
    for op in [3, 7, 11, 15] {
        violates(&[(op, true, false, b"")], 1002, "unknown opcode");
    }
}

#[test]
fn a_continuation_of_nothing_is_1002() {
    violates(
        &[(0, true, false, b"x")],
        1002,
        "continuation without a message",
    );
}

#[test]
fn a_message_inside_another_is_1002() {
    violates(
        &[(1, false, false, b"x"), (1, true, false, b"y")],
        1002,
        "new message inside a fragmented one",
    );
}

#[test]
fn a_fragmented_or_long_control_frame_is_1002() {
    let reason = "control frame fragmented or over 125 bytes";
    violates(&[(9, false, false, b"x")], 1002, reason);
    violates(&[(8, true, false, &[b'x'; 126])], 1002, reason);
}

#[test]
fn text_is_refused_at_its_first_bad_byte() {
    let reason = "text is not UTF-8";
    violates(&[(1, false, false, b"[\"\xc3\x28")], 1007, reason);
    violates(
        &[(1, false, false, b"\xf4"), (0, false, false, b"\x90")],
        1007,
        reason,
    );
    violates(
        &[(1, false, false, b"\xe2\x98"), (0, true, false, b"")],
        1007,
        reason,
    );
}

#[test]
fn a_message_past_the_mounts_limit_is_1009_whole_or_in_pieces() {
    let big = vec![b' '; MAX_MESSAGE + 1];
    violates(&[(1, true, false, &big)], 1009, "message too big");
    let (head, tail) = big.split_at(MAX_MESSAGE / 2);
    violates(
        &[(1, false, false, head), (0, true, false, tail)],
        1009,
        "message too big",
    );
}

#[test]
fn a_message_of_exactly_the_limit_is_taken() {
    let mut talk = Talk::new(Speech::V2Text);
    let mut beat = br#"["1","2","phoenix","heartbeat",{}]"#.to_vec();
    beat.resize(MAX_MESSAGE, b' ');
    talk.sends(0, Opcode::Text, &beat);
    talk.hears(&[r#"[null,"2","phoenix","phx_reply",{"status":"ok","response":{}}]"#]);
}

#[test]
fn a_reader_over_budget_is_closed_with_1013_and_complained_of() {
    let mut talk = Talk::new(Speech::V2Text);
    let sub = talk.joined(1, "room:1");
    let conn = talk.conn(0);
    talk.stalls(0);
    let big = format!("\"{}\"", "x".repeat(300_000));
    let mut ended = false;
    for _ in 0..10 {
        ended |= talk
            .gateway
            .push(sub, "big", Body::Json(big.as_bytes()))
            .is_err();
        talk.turn();
    }
    assert!(ended);
    assert_eq!(talk.complaints(), [(conn, 1013, "slow reader")]);
    assert_eq!(talk.ended(), [(1, "closed")]);
    assert_eq!(talk.gateway.hub.stats.closes(), [(1013, 1)]);
    assert_eq!(talk.gateway.close_slow(), 0);
}

#[test]
fn an_unknown_connection_is_nobody() {
    let mut talk = Talk::new(Speech::V2Text);
    talk.vanishes(0);
    talk.vanishes(0);
    assert_eq!(
        talk.says(r#"["1","1","room:1","phx_join",{}]"#),
        Asked::Nothing
    );
    let conn = talk.conn(0);
    talk.gateway.close(conn, 1000, "", "closed", true);
    assert!(talk.frames(0).is_empty());
    assert!(talk.ended().is_empty());
    assert!(talk.gateway.hub.stats.closes().is_empty());
}
