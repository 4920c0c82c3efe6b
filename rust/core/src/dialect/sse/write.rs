//! The bytes of an event stream: the head of its answer, blocks, comments.
//!
//! `text/event-stream` is the HTML Standard's ("Server-sent events"): a block of `field: value` lines
//! ends with an empty line, and the lines of `data` are joined by a line feed.

use crate::gateway::{Body, Event};

use super::super::json::object;
use super::id;

/// Tells the server that its peer is there, and a proxy that the answer goes on.
pub(super) const COMMENT: &[u8] = b":\n\n";

/// The head of a stream and its first comment. `lines` are header lines of the mount's, each with its
/// end. The body has no length: it ends with the connection, so nothing needs to be framed in it.
pub(super) fn begin(out: &mut Vec<u8>, lines: &str) {
    out.extend_from_slice(
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-store\r\n\
          x-accel-buffering: no\r\nconnection: close\r\n",
    );
    out.extend_from_slice(lines.as_bytes());
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(COMMENT);
}

/// A whole answer in place of a stream.
pub(super) fn refusal(out: &mut Vec<u8>, status: u16, lines: &str, body: &[u8]) {
    let phrase = match status {
        204 => "No Content",
        403 => "Forbidden",
        404 => "Not Found",
        503 => "Service Unavailable",
        _ => "Internal Server Error",
    };
    let head = format!("HTTP/1.1 {status} {phrase}\r\ncache-control: no-store\r\n{lines}");
    out.extend_from_slice(head.as_bytes());
    if status != 204 {
        let length = body.len();
        let head = format!("content-type: application/json\r\ncontent-length: {length}\r\n");
        out.extend_from_slice(head.as_bytes());
    }
    out.extend_from_slice(b"connection: close\r\n\r\n");
    if status != 204 {
        out.extend_from_slice(body);
    }
}

/// A topic's message. Its `id` is part of it in a stream of one topic; in one of several it is the
/// line that the hub writes before it.
pub(super) fn event(out: &mut Vec<u8>, event: &Event<'_>, alone: bool) {
    if let Some(position) = event.position.filter(|_| alone) {
        out.extend_from_slice(b"id: ");
        id::write_one(out, position);
        out.push(b'\n');
    }
    data(out, |out| object::event(out, event));
}

/// What a channel sends to one client, which has no place in the topic.
pub(super) fn push(out: &mut Vec<u8>, topic: &str, name: &str, body: Body<'_>) {
    let event = Event {
        topic,
        event: name,
        body,
        position: None,
    };
    data(out, |out| object::event(out, &event));
}

/// A block of a kind of its own, which `onmessage` does not hear.
pub(super) fn named(out: &mut Vec<u8>, kind: &str, write: impl FnOnce(&mut Vec<u8>)) {
    out.extend_from_slice(format!("event: {kind}\n").as_bytes());
    data(out, write);
}

/// The `data` lines of a block and its end. JSON may have line ends between its tokens.
fn data(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    out.extend_from_slice(b"data: ");
    let start = out.len();
    write(out);
    if out[start..]
        .iter()
        .any(|byte| matches!(byte, b'\n' | b'\r'))
    {
        let text = out.split_off(start);
        let mut rest = &text[..];
        while let Some(at) = rest.iter().position(|byte| matches!(byte, b'\n' | b'\r')) {
            out.extend_from_slice(&rest[..at]);
            out.extend_from_slice(b"\ndata: ");
            let end = if rest[at..].starts_with(b"\r\n") {
                2
            } else {
                1
            };
            rest = &rest[at + end..];
        }
        out.extend_from_slice(rest);
    }
    out.extend_from_slice(b"\n\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::Position;

    fn block(json: &[u8], position: Option<Position>, alone: bool) -> String {
        let message = Event {
            topic: "t",
            event: "e",
            body: Body::Json(json),
            position,
        };
        let mut out = Vec::new();
        event(&mut out, &message, alone);
        String::from_utf8(out).unwrap()
    }

    const HEAD: &str = r#"data: {"type":"event","topic":"t","event":"e""#;

    #[test]
    fn a_message_is_one_block_that_the_default_listener_hears() {
        let expected = format!("{HEAD},\"payload\":[1]}}\n\n");
        assert_eq!(block(b"[1]", None, true), expected);
    }

    #[test]
    fn the_id_is_the_place_in_the_log_where_there_is_one_topic() {
        let place = Some(Position {
            epoch: 7,
            offset: 3,
        });
        let told = format!("{HEAD},\"offset\":3,\"payload\":[1]}}\n\n");
        assert_eq!(block(b"[1]", place, true), format!("id: 7.3\n{told}"));
        assert_eq!(block(b"[1]", place, false), told);
    }

    #[test]
    fn every_line_of_a_payload_is_a_line_of_data() {
        let expected = format!("{HEAD},\"payload\":[\ndata: 1,\ndata: 2,\ndata: \ndata: 3]}}\n\n");
        assert_eq!(block(b"[\n1,\r\n2,\r\n\r3]", None, true), expected);
    }

    #[test]
    fn line_ends_inside_a_string_are_escapes_and_stay() {
        let expected = format!("{HEAD},\"payload\":\"\\n\\r\"}}\n\n");
        assert_eq!(block(br#""\n\r""#, None, true), expected);
    }
}
