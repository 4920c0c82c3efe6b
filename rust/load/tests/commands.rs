//! The binary against a server small enough to be seen through, one that can also misbehave.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::{json, Value};

/// What the small server does wrong.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    /// Answers the handshake with 403.
    RefusesHandshakes,
    /// Answers every join with an error.
    RefusesJoins,
    /// Leaves the second broadcast out.
    LosesTheSecond,
    /// Sends the first broadcast twice.
    RepeatsTheFirst,
    /// Closes with 1013 instead of answering a join.
    ClosesOnJoin,
}

type Streams = Arc<Mutex<Vec<TcpStream>>>;

fn serve(fault: Fault) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("an address").port();
    let subscribers = Streams::default();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let subscribers = Arc::clone(&subscribers);
            thread::spawn(move || client(stream, fault, &subscribers));
        }
    });
    format!("ws://127.0.0.1:{port}/socket/websocket?vsn=2.0.0")
}

fn frame(text: &str) -> Vec<u8> {
    let length = u16::try_from(text.len()).expect("a short text");
    let mut bytes = vec![0x81, 126];
    bytes.extend(length.to_be_bytes());
    bytes.extend(text.as_bytes());
    bytes
}

/// Reads one masked frame of fewer than 65,536 bytes; None at the end of the stream.
fn receive(stream: &mut TcpStream) -> Option<Value> {
    let mut head = [0; 2];
    stream.read_exact(&mut head).ok()?;
    let mut length = usize::from(head[1] & 0x7f);
    if length == 126 {
        let mut long = [0; 2];
        stream.read_exact(&mut long).ok()?;
        length = usize::from(u16::from_be_bytes(long));
    }
    assert_eq!(head, [0x81, head[1] | 0x80], "a whole, masked text frame");
    let mut mask = [0; 4];
    stream.read_exact(&mut mask).ok()?;
    let mut text = vec![0; length];
    stream.read_exact(&mut text).ok()?;
    for (byte, mask) in text.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
    Some(serde_json::from_slice(&text).expect("JSON"))
}

fn client(mut stream: TcpStream, fault: Fault, subscribers: &Streams) {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read_exact(&mut byte).is_err() {
            return;
        }
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).expect("a text head");
    assert!(
        head.starts_with("GET /socket/websocket?vsn=2.0.0 HTTP/1.1\r\n"),
        "{head}"
    );
    let answer = if fault == Fault::RefusesHandshakes {
        "HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n"
    } else {
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\
         sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
    };
    stream
        .write_all(answer.as_bytes())
        .expect("room for a head");
    while let Some(message) = receive(&mut stream) {
        let event = message[3].as_str().expect("an event");
        let control = message[2] == "bench:control";
        let mut status = "ok";
        if event == "phx_join" && !control {
            match fault {
                Fault::RefusesJoins => status = "error",
                Fault::ClosesOnJoin => {
                    stream
                        .write_all(&[0x88, 2, 0x03, 0xf5])
                        .expect("room for a close");
                    return;
                }
                _ => {
                    let copy = stream.try_clone().expect("a second handle");
                    subscribers.lock().expect("no panic").push(copy);
                }
            }
        }
        if event == "publish" {
            publish(&message[4], fault, subscribers);
        }
        let reply = json!([
            message[0], message[1], message[2], "phx_reply", {"status": status, "response": {}}
        ]);
        if stream.write_all(&frame(&reply.to_string())).is_err() {
            return;
        }
    }
}

fn publish(order: &Value, fault: Fault, subscribers: &Streams) {
    for sequence in 1..=order["count"].as_u64().expect("a count") {
        let tick = json!([null, null, order["topic"], "tick", {"seq": sequence, "at": 1}]);
        let copies = match (fault, sequence) {
            (Fault::LosesTheSecond, 2) => 0,
            (Fault::RepeatsTheFirst, 1) => 2,
            _ => 1,
        };
        let bytes = frame(&tick.to_string()).repeat(copies);
        let mut subscribers = subscribers.lock().expect("no panic");
        // A client that has gone is no subscriber any more.
        subscribers.retain_mut(|stream| stream.write_all(&bytes).is_ok());
    }
}

fn run(words: &[&str]) -> Output {
    let binary = env!("CARGO_BIN_EXE_moda-load");
    Command::new(binary)
        .args(words)
        .args(["--core", "none"])
        .output()
        .expect("a run")
}

fn result(words: &[&str]) -> Value {
    let output = run(words);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).expect("one JSON object")
}

#[test]
fn the_echo_limit_answers_every_request() {
    let limit = result(&[
        "limit-echo",
        "--connections",
        "5",
        "--depth",
        "4",
        "--seconds",
        "0.1",
        "--server-core",
        "none",
    ]);
    assert!(limit["answers"].as_u64() > Some(0));
    assert_eq!(limit["unanswered"], 0);
}

#[test]
fn heartbeats_and_pings_are_answered_in_the_order_they_were_sent() {
    let url = serve(Fault::None);
    for command in ["heartbeat", "ping"] {
        let found = result(&[
            command,
            "--url",
            &url,
            "--connections",
            "3",
            "--depth",
            "4",
            "--seconds",
            "0.1",
        ]);
        assert!(found["answers"].as_u64() > Some(0), "{found}");
        for wrong in ["unanswered", "misordered", "refused"] {
            assert_eq!(found[wrong], 0, "{wrong}");
        }
    }
}

fn fanout(fault: Fault, more: &[&str]) -> Value {
    let url = serve(fault);
    let words = "--connections 5 --deliveries 50 --pairs 2 --singles 1 --probes 2 --patience 0.5";
    let mut all = vec!["fanout", "--url", &url];
    all.extend(words.split(' '));
    all.extend(more);
    result(&all)
}

fn complete(found: &Value, deliveries: u64) {
    assert_eq!(found["deliveries"], deliveries);
    for wrong in ["missing", "skipped", "disordered"] {
        assert_eq!(found[wrong], 0, "{wrong}");
    }
}

#[test]
fn a_complete_fanout_has_nothing_missing_skipped_or_disordered() {
    let found = fanout(Fault::None, &[]);
    let (gateway, bare) = (&found["burst"]["gateway"], &found["burst"]["bare"]);
    assert_eq!(gateway.as_array().map(Vec::len), Some(2));
    for one in gateway.as_array().expect("measurements") {
        complete(one, 50);
    }
    assert_eq!(bare, &json!([]), "nobody's sockets to borrow");
    assert_eq!(found["single_incomplete"], 0);
    assert_eq!(found["heartbeats_unanswered"], 0);
}

#[test]
fn a_bare_sender_takes_turns_with_the_gateway_on_its_sockets_one_and_ten_frames_per_call() {
    let me = std::process::id().to_string();
    for per_turn in ["1", "10"] {
        let words = [
            "--pid",
            &me,
            "--server-core",
            "none",
            "--per-turn",
            per_turn,
        ];
        let found = fanout(Fault::None, &words);
        for (side, times) in [("gateway", 2), ("bare", 3)] {
            let measured = found["burst"][side].as_array().expect("measurements");
            assert_eq!(measured.len(), times, "{side}");
            for one in measured {
                complete(one, 50);
            }
            assert!(measured.iter().all(|one| one["cpu_ns"].as_u64().is_some()));
        }
        let single = &found["single_last_us"];
        assert_eq!(single["gateway"].as_array().map(Vec::len), Some(1));
        assert_eq!(single["bare"].as_array().map(Vec::len), Some(2));
        assert_eq!(found["errors"], json!({}));
    }
}

#[test]
fn a_process_that_does_not_hold_the_clients_lends_no_sockets_and_is_named() {
    let url = serve(Fault::None);
    let mut other = Command::new("sleep").arg("30").spawn().expect("a process");
    let pid = other.id().to_string();
    let output = run(&["fanout", "--url", &url, "--connections", "2", "--pid", &pid]);
    other.kill().and_then(|()| other.wait()).expect("its end");
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        text.contains(&format!("process {pid} holds only 0 of 2")),
        "{text}"
    );
}

#[test]
fn a_lost_broadcast_is_reported_as_missing_and_skipped_for_every_subscriber() {
    let found = fanout(Fault::LosesTheSecond, &[]);
    assert_eq!(found["burst"]["gateway"][0]["missing"], 5);
    assert_eq!(found["burst"]["gateway"][0]["skipped"], 5);
}

#[test]
fn a_repeated_broadcast_is_reported_as_disordered_for_every_subscriber() {
    let found = fanout(Fault::RepeatsTheFirst, &[]);
    assert_eq!(found["burst"]["gateway"][0]["disordered"], 5);
}

#[test]
fn refusals_are_counted_by_their_reason() {
    for (fault, reason) in [
        (
            Fault::RefusesJoins,
            r#"join answered {"response":{},"status":"error"}"#,
        ),
        (Fault::ClosesOnJoin, "closed by the server with 1013"),
    ] {
        let url = serve(fault);
        let found = result(&["join", "--url", &url, "--connections", "4", "--probes", "1"]);
        assert_eq!(found["joined"], 0);
        assert_eq!(found["errors"], json!({ reason: 4 }));
    }
}

#[test]
fn a_refused_handshake_ends_the_run_with_the_status_in_the_message() {
    let url = serve(Fault::RefusesHandshakes);
    let output = run(&["heartbeat", "--url", &url, "--connections", "2"]);
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains("handshake answered 403"), "{text}");
}

#[test]
fn a_crowd_joins_and_is_held_and_its_stalled_part_keeps_nothing_from_the_readers() {
    let url = serve(Fault::None);
    let joined = result(&[
        "join",
        "--url",
        &url,
        "--connections",
        "30",
        "--probes",
        "1",
    ]);
    assert_eq!(
        (&joined["joined"], &joined["errors"]),
        (&json!(30), &json!({}))
    );
    let held = result(&[
        "hold",
        "--url",
        &url,
        "--connections",
        "10",
        "--seconds",
        "0.2",
    ]);
    assert_eq!(held["alive"], 10);
    let url = serve(Fault::None);
    let words = "--readers 3 --stalled 2 --seconds 1 --calm 1 --interval-us 10000 --probes 1";
    let mut all = vec!["stall", "--url", &url];
    all.extend(words.split(' '));
    let stalled = result(&all);
    complete(&stalled["disturbed"], 300);
    for calm in stalled["calm"].as_array().expect("two spells") {
        complete(calm, 300);
    }
    assert_eq!(stalled["readers_alive"], 3);
    assert_eq!(stalled["stalled_alive"], 2);
}

#[test]
fn a_wrong_command_line_ends_with_2_and_says_what_is_accepted() {
    let unknown = run(&["fly"]);
    assert_eq!(unknown.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("limit-echo"));
}
