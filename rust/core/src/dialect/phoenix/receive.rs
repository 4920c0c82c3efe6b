//! Messages in: what they ask, and whatever can be answered without asking anybody.

use std::borrow::Cow;

use crate::gateway::{Content, Gateway, Kind, Stage, Verdict, MAX_NAME};
use crate::hub::{ConnKey, SubKey};

use super::codec::{self, DecodeError};
use super::join::{join, too_long};
use super::write::{because, frame_reply, ERROR, NOTHING, OK};
use super::{variant, Inbound, Payload, Refs, V2};

impl<'f> From<Payload<'f>> for Content<'f> {
    fn from(payload: Payload<'f>) -> Self {
        let (binary, bytes) = match payload {
            Payload::Json(json) => (false, json.as_bytes()),
            Payload::Binary(data) => (true, data),
        };
        Self {
            binary,
            bytes: Cow::Borrowed(bytes),
        }
    }
}

/// One whole message of a client. One that cannot be read closes its connection.
pub(super) fn message<'f, H>(
    gateway: &mut Gateway<H>,
    conn: ConnKey,
    text: bool,
    message: &'f [u8],
) -> Verdict<'f> {
    let decoded = match (variant(gateway, conn), text) {
        (Ok(V2), true) => codec::decode_text(message),
        (Ok(V2), false) => codec::decode_binary(message),
        (Ok(_), true) => codec::decode_v1(message),
        (Ok(_), false) => {
            gateway.undecodable(conn, "binary_in_v1");
            return Verdict::Done;
        }
        (Err(_), _) => return Verdict::Done,
    };
    match decoded.map_err(DecodeError::as_str) {
        Ok(message) => dispatch(gateway, conn, message),
        Err(error) => {
            gateway.undecodable(conn, error);
            Verdict::Done
        }
    }
}

fn dispatch<'f, H>(gateway: &mut Gateway<H>, conn: ConnKey, message: Inbound<'f>) -> Verdict<'f> {
    // A leave is answered for any topic, even one that is no string: nobody is on it.
    if message.event == "phx_leave" {
        return leave(gateway, conn, message);
    }
    let Some(topic) = &message.topic else {
        return unmatched(gateway, conn, &message);
    };
    if topic == "phoenix" {
        if message.event == "heartbeat" {
            gateway.counts.heartbeats += 1;
            heartbeat(gateway, conn, &message);
            return Verdict::Done;
        }
        return unmatched(gateway, conn, &message);
    }
    if message.event == "phx_join" {
        return join(gateway, conn, &message);
    }
    event(gateway, conn, message)
}

/// The client's subscription to the message's topic.
fn addressed<H>(gateway: &Gateway<H>, conn: ConnKey, message: &Inbound<'_>) -> Option<SubKey> {
    gateway.hub.find(conn, message.topic.as_ref()?)
}

fn leave<'f, H>(gateway: &mut Gateway<H>, conn: ConnKey, message: Inbound<'f>) -> Verdict<'f> {
    let Some(key) = addressed(gateway, conn, &message) else {
        answer(gateway, conn, &message.join_ref, &message, OK, NOTHING);
        return Verdict::Done;
    };
    let speaks = Refs::of(gateway, key).is_ok_and(|refs| refs.speaks(&message.join_ref));
    if !speaks {
        gateway.counts.stale += 1;
        return Verdict::Done;
    }
    let Some(sub) = gateway.hub.sub_mut(key) else {
        return Verdict::Done;
    };
    match sub.seat.stage {
        Stage::Leaving => return Verdict::Done,
        Stage::Joined if sub.seat.handle.is_some() => {
            if too_long(&message.reference) {
                return oversized(gateway, conn, key, &message);
            }
            sub.seat.stage = Stage::Leaving;
            return Verdict::Leave {
                sub: key,
                reference: message.reference,
            };
        }
        Stage::Joined | Stage::Joining => {}
    }
    let handle = gateway.finish_leave(key, &message.reference);
    gateway.tell_ended(handle, "left");
    Verdict::Done
}

fn event<'f, H>(gateway: &mut Gateway<H>, conn: ConnKey, message: Inbound<'f>) -> Verdict<'f> {
    let Some(key) = addressed(gateway, conn, &message) else {
        return unmatched(gateway, conn, &message);
    };
    let Some(held) = gateway.hub.sub(key).map(|sub| &sub.seat) else {
        return Verdict::Done;
    };
    let (stage, kind) = (held.stage, gateway.kind(held));
    let Ok(refs) = Refs::of_mut(gateway, key) else {
        return Verdict::Done;
    };
    if !refs.speaks(&message.join_ref) {
        gateway.counts.stale += 1;
        return Verdict::Done;
    }
    if stage == Stage::Leaving {
        return Verdict::Done;
    }
    if kind == Kind::Stream {
        let join_ref: Box<str> = refs.push_ref().into();
        gateway.counts.to_stream += 1;
        if message.reference != "null" {
            refuse(gateway, conn, &join_ref, &message, "push-only topic");
        }
        return Verdict::Done;
    }
    if message.event.len() > MAX_NAME || too_long(&message.reference) {
        return oversized(gateway, conn, key, &message);
    }
    if let Some(joining) = &mut refs.joining {
        joining.waiting.expect(&message.reference);
    }
    Verdict::Message {
        sub: key,
        event: message.event,
        payload: message.payload.into(),
        reference: message.reference,
    }
}

// -- answers that need no decision

/// Not behind broadcasts: a client takes a late answer for a dead connection.
fn heartbeat<H>(gateway: &mut Gateway<H>, conn: ConnKey, message: &Inbound<'_>) {
    if let Ok(variant) = variant(gateway, conn) {
        let (reference, topic) = (&message.reference, &message.topic_json);
        gateway.hub.direct(conn, |out| {
            frame_reply(out, variant, "null", reference, topic, OK, NOTHING);
        });
    }
}

pub(super) fn unmatched<'f, H>(
    gateway: &mut Gateway<H>,
    conn: ConnKey,
    message: &Inbound<'_>,
) -> Verdict<'f> {
    gateway.counts.unmatched += 1;
    refuse(gateway, conn, "null", message, "unmatched topic");
    Verdict::Done
}

/// What would wait for its channel, and so be kept.
fn oversized<'f, H>(
    gateway: &mut Gateway<H>,
    conn: ConnKey,
    key: SubKey,
    message: &Inbound<'_>,
) -> Verdict<'f> {
    gateway.counts.oversized += 1;
    let join_ref: Box<str> = Refs::of(gateway, key).map_or("null", Refs::push_ref).into();
    refuse(gateway, conn, &join_ref, message, "event or ref too long");
    Verdict::Done
}

pub(super) fn refuse<H>(
    gateway: &mut Gateway<H>,
    conn: ConnKey,
    join_ref: &str,
    message: &Inbound<'_>,
    reason: &str,
) {
    let response = because(reason);
    answer(gateway, conn, join_ref, message, ERROR, response.as_bytes());
}

fn answer<H>(
    gateway: &mut Gateway<H>,
    conn: ConnKey,
    join_ref: &str,
    to: &Inbound<'_>,
    status: &str,
    response: &[u8],
) {
    if let Ok(variant) = variant(gateway, conn) {
        let (reference, topic) = (&to.reference, &to.topic_json);
        gateway.hub.ordered(conn, |out| {
            frame_reply(out, variant, join_ref, reference, topic, status, response);
        });
    }
}
