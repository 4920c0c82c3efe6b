//! Messages in: what they ask, and whatever can be answered without asking anybody.

use std::borrow::Cow;

use crate::gateway::{message_size, Content, Gateway, Stage, Verdict, Wish, MAX_NAME};
use crate::hub::{ConnKey, SubKey};

use super::codec::{self, DecodeError};
use super::join::{join, too_long};
use super::write::{because, frame_reply, ERROR, NOTHING, OK};
use super::{variant, Inbound, Payload, Refs, MAX_DEPTH, V2};

/// The reason for a payload that nests deeper than [`MAX_DEPTH`].
pub(super) const TOO_DEEP: &str = "payload nested deeper than 128 levels";
const _: () = assert!(MAX_DEPTH == 128);

/// A frame as it came: whether it is text, and its bytes.
pub(super) type Frame<'f> = (bool, &'f [u8]);

/// None for a payload that is not to be handed on.
pub(super) fn content<'f>(payload: &Payload<'f>) -> Option<Content<'f>> {
    let (binary, bytes) = match payload {
        Payload::Json(json) => (false, json.as_bytes()),
        Payload::Binary(data) => (true, *data),
        Payload::TooDeep => return None,
    };
    Some(Content {
        binary,
        bytes: Cow::Borrowed(bytes),
    })
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
        Ok(decoded) => dispatch(gateway, conn, (text, message), decoded),
        Err(error) => {
            gateway.undecodable(conn, error);
            Verdict::Done
        }
    }
}

fn dispatch<'f, H>(
    gateway: &mut Gateway<H>,
    conn: ConnKey,
    frame: Frame<'_>,
    message: Inbound<'f>,
) -> Verdict<'f> {
    // A leave is answered for any topic, even one that is no string: nobody is on it.
    if message.event == "phx_leave" {
        return leave(gateway, conn, frame, message);
    }
    let Some(topic) = &message.topic else {
        unmatched(gateway, conn, &message);
        return Verdict::Done;
    };
    if topic == "phoenix" {
        if message.event == "heartbeat" {
            gateway.counts.heartbeats += 1;
            heartbeat(gateway, conn, &message);
        } else {
            unmatched(gateway, conn, &message);
        }
        return Verdict::Done;
    }
    if message.event == "phx_join" {
        join(gateway, conn, frame, &message);
        return Verdict::Done;
    }
    event(gateway, conn, frame, message)
}

/// The client's subscription to the message's topic.
fn addressed<H>(gateway: &Gateway<H>, conn: ConnKey, message: &Inbound<'_>) -> Option<SubKey> {
    gateway.hub.find(conn, message.topic.as_ref()?)
}

/// Whether a message is for this subscription, now or once its join is decided, and whether it waits
/// for that. Messages for an earlier join do not, unless another join waits that may be theirs.
enum Aim {
    Now,
    Waits,
    Stale,
}

fn aim<H>(gateway: &Gateway<H>, key: SubKey, join_ref: &str) -> Aim {
    let stage = gateway.hub.sub(key).map(|sub| sub.seat.stage);
    let speaks = Refs::of(gateway, key).is_ok_and(|refs| refs.speaks(join_ref));
    if too_long(join_ref) {
        return Aim::Stale;
    }
    match stage {
        Some(Stage::Joining) if speaks || gateway.joins_behind(key) > 0 => Aim::Waits,
        Some(Stage::Joined | Stage::Leaving) if speaks => Aim::Now,
        _ => Aim::Stale,
    }
}

fn leave<'f, H>(
    gateway: &mut Gateway<H>,
    conn: ConnKey,
    frame: Frame<'_>,
    message: Inbound<'f>,
) -> Verdict<'f> {
    let Some(key) = addressed(gateway, conn, &message) else {
        answer(gateway, conn, &message.join_ref, &message, OK, NOTHING);
        return Verdict::Done;
    };
    match aim(gateway, key, &message.join_ref) {
        Aim::Stale => {
            gateway.counts.stale += 1;
            return Verdict::Done;
        }
        Aim::Waits => {
            if too_long(&message.reference) {
                return oversized(gateway, conn, key, &message);
            }
            if !gateway.hold(conn, key, frame, Wish::Leave) {
                decline(gateway, conn, key, &message, "busy");
            }
            return Verdict::Done;
        }
        Aim::Now => {}
    }
    let Some(sub) = gateway.hub.sub_mut(key) else {
        return Verdict::Done;
    };
    if sub.seat.stage == Stage::Leaving {
        return Verdict::Done;
    }
    if sub.seat.handle.is_some() {
        if too_long(&message.reference) {
            return oversized(gateway, conn, key, &message);
        }
        sub.seat.stage = Stage::Leaving;
        return Verdict::Leave {
            sub: key,
            reference: message.reference,
        };
    }
    let handle = gateway.finish_leave(key, &message.reference);
    gateway.tell_ended(handle, "left");
    Verdict::Done
}

fn event<'f, H>(
    gateway: &mut Gateway<H>,
    conn: ConnKey,
    frame: Frame<'_>,
    message: Inbound<'f>,
) -> Verdict<'f> {
    let Some(key) = addressed(gateway, conn, &message) else {
        unmatched(gateway, conn, &message);
        return Verdict::Done;
    };
    let aim = aim(gateway, key, &message.join_ref);
    let Some(held) = gateway.hub.sub(key).map(|sub| &sub.seat) else {
        return Verdict::Done;
    };
    let (leaving, push_only) = (held.stage == Stage::Leaving, gateway.is_push_only(held));
    match aim {
        Aim::Stale => {
            gateway.counts.stale += 1;
            return Verdict::Done;
        }
        Aim::Now if leaving => return Verdict::Done,
        Aim::Now if push_only => {
            gateway.counts.to_stream += 1;
            decline(gateway, conn, key, &message, "push-only topic");
            return Verdict::Done;
        }
        Aim::Now | Aim::Waits => {}
    }
    if message.event.len() > MAX_NAME || too_long(&message.reference) {
        return oversized(gateway, conn, key, &message);
    }
    if matches!(aim, Aim::Waits) {
        if !gateway.hold(conn, key, frame, Wish::Other) {
            decline(gateway, conn, key, &message, "busy");
        }
        return Verdict::Done;
    }
    let Some(payload) = content(&message.payload) else {
        gateway.counts.too_deep += 1;
        decline(gateway, conn, key, &message, TOO_DEEP);
        return Verdict::Done;
    };
    let size = message_size(&message.event, payload.bytes.len(), &message.reference);
    if !gateway.admit(conn, key, size) {
        decline(gateway, conn, key, &message, "busy");
        return Verdict::Done;
    }
    Verdict::Message {
        sub: key,
        event: message.event,
        payload,
        reference: message.reference,
        size,
    }
}

/// Tells the client that its message to a channel is not taken; if it asked for an answer.
fn decline<H>(
    gateway: &mut Gateway<H>,
    conn: ConnKey,
    key: SubKey,
    message: &Inbound<'_>,
    why: &str,
) {
    if message.reference != "null" {
        let join_ref: Box<str> = Refs::of(gateway, key).map_or("null", Refs::push_ref).into();
        refuse(gateway, conn, &join_ref, message, why);
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

pub(super) fn unmatched<H>(gateway: &mut Gateway<H>, conn: ConnKey, message: &Inbound<'_>) {
    gateway.counts.unmatched += 1;
    refuse(gateway, conn, "null", message, "unmatched topic");
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
