//! V2 binary, as a client sends it: kind 0, a push.
//!
//! | byte | 0 | 1 | 2 | 3 | 4 | 5.. |
//! |---|---|---|---|---|---|---|
//! | | `00` | `join_ref` length | `ref` length | `topic` length | `event` length | these four, then data |
//!
//! Lengths are in bytes; data is whatever remains and may be empty. The server's own push has no
//! ref and so one length less (see [`super::encode`]): the two layouts of kind 0 differ by
//! direction.
//!
//! Refs on this road are always strings. An empty one is `""` and not null, as in the reference:
//! a client that joined with a null or numeric ref cannot speak for that join in binary.

use std::borrow::Cow;

use crate::json;

use super::{DecodeError, Inbound, Payload};

/// Reads one binary frame of a client.
///
/// # Errors
/// [`DecodeError`]: `BinaryTruncated`, `BinaryKind`, or `NotUtf8` when a ref, the topic or the
/// event is no text.
pub fn decode_binary(frame: &[u8]) -> Result<Inbound<'_>, DecodeError> {
    let [kind, rest @ ..] = frame else {
        return Err(DecodeError::BinaryTruncated);
    };
    if *kind != 0 {
        return Err(DecodeError::BinaryKind(*kind));
    }
    let [join_ref, reference, topic, event, parts @ ..] = rest else {
        return Err(DecodeError::BinaryTruncated);
    };
    let mut rest = parts;
    let join_ref = take(&mut rest, *join_ref)?;
    let reference = take(&mut rest, *reference)?;
    let topic = take(&mut rest, *topic)?;
    let event = take(&mut rest, *event)?;
    Ok(Inbound {
        join_ref: Cow::Owned(json::quote(text(join_ref)?)),
        reference: Cow::Owned(json::quote(text(reference)?)),
        topic_json: Cow::Owned(json::quote(text(topic)?)),
        topic: Some(Cow::Borrowed(text(topic)?)),
        event: Cow::Borrowed(text(event)?),
        payload: Payload::Binary(rest),
    })
}

fn take<'a>(rest: &mut &'a [u8], len: u8) -> Result<&'a [u8], DecodeError> {
    let (head, tail) = rest
        .split_at_checked(usize::from(len))
        .ok_or(DecodeError::BinaryTruncated)?;
    *rest = tail;
    Ok(head)
}

fn text(bytes: &[u8]) -> Result<&str, DecodeError> {
    std::str::from_utf8(bytes).map_err(|_| DecodeError::NotUtf8)
}
