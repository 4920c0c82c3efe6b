//! From a client's wish to join to the answer, which may be long in coming.
//!
//! What comes for the topic meanwhile waits (`gateway/undecided`), so a join is always answered by its
//! own handler, and messages to one that was refused are unmatched. A predecessor on the topic gets its
//! `phx_close` behind the new join's answer, as the reference sends it.

use crate::gateway::{Body, Gateway, Join, Refusal, Stage, Unsent, Wish, MAX_NAME};
use crate::hub::{ConnKey, SubKey};
use crate::log::Position;

use super::answer::send_reply;
use super::receive::{content, refuse, unmatched, Frame, TOO_DEEP};
use super::write::{because, frame_end, ERROR};
use super::{variant, Inbound, Payload, Refs};

/// Whether a ref, as JSON text, is longer than is kept: its bytes as they came, without the quotes.
pub(super) fn too_long(json: &str) -> bool {
    let text = json.strip_prefix('"').and_then(|j| j.strip_suffix('"'));
    text.unwrap_or(json).len() > MAX_NAME
}

/// What is known of a join until it is decided.
#[derive(Debug)]
pub(super) struct Joining {
    reference: Box<str>,
    /// The join ref of a predecessor that is owed its `phx_close`.
    owed: Option<Box<str>>,
}

/// Takes a join to the queue of joins, behind what waits on its topic.
pub(super) fn join<H>(
    gateway: &mut Gateway<H>,
    conn: ConnKey,
    frame: Frame<'_>,
    message: &Inbound<'_>,
) {
    let Some(topic) = message.topic.clone() else {
        return;
    };
    let refs = [&message.join_ref, &message.reference];
    if topic.len() > MAX_NAME || refs.into_iter().any(|json| too_long(json)) {
        let reason = "topic, join_ref or ref too long";
        return refuse_now(gateway, conn, "null", message, reason);
    }
    let join_ref = &message.join_ref;
    let target = gateway.target(conn, &topic);
    if matches!(target, Err(Refusal::Unmatched)) {
        return unmatched(gateway, conn, message);
    }
    let Some(payload) = content(&message.payload) else {
        return refuse_now(gateway, conn, join_ref, message, TOO_DEEP);
    };
    let old = gateway.hub.find(conn, &topic);
    if let Some(old) = old.filter(|old| is_joining(gateway, *old)) {
        if !gateway.hold(conn, old, frame, Wish::Join) {
            refuse_now(gateway, conn, join_ref, message, "busy");
        }
        return;
    }
    let Ok(target) = target else {
        return refuse_now(gateway, conn, join_ref, message, "too many channels joined");
    };
    // It takes the place of the one it replaces, even when no other is left.
    let owed = old.and_then(|old| replace(gateway, old));
    let null = message.join_ref == "null";
    let refs = Refs {
        join_ref: (&**join_ref).into(),
        push_ref: null.then(|| (&*message.reference).into()),
        joining: Some(Box::new(Joining {
            reference: (&*message.reference).into(),
            owed: owed.clone(),
        })),
    };
    let since = match message.payload {
        Payload::Json(payload) if gateway.keeps_log(target.route) => recover(payload),
        _ => None,
    };
    let join = Join {
        payload,
        since,
        notes: Box::new(refs),
    };
    if gateway.subscribe(conn, &topic, target, join).is_err() {
        refuse_now(gateway, conn, join_ref, message, "busy");
        pay(gateway, conn, &topic, owed.as_deref());
    }
}

fn refuse_now<H>(
    gateway: &mut Gateway<H>,
    conn: ConnKey,
    join_ref: &str,
    message: &Inbound<'_>,
    why: &str,
) {
    gateway.counts.joins_refused += 1;
    refuse(gateway, conn, join_ref, message, why);
}

fn is_joining<H>(gateway: &Gateway<H>, sub: SubKey) -> bool {
    let sub = gateway.hub.sub(sub);
    sub.is_some_and(|sub| sub.seat.stage == Stage::Joining)
}

/// What a client says in its join's params of where it has been: `{"recover": {"epoch", "offset"}}`.
/// Anything else under that name asks for a place nobody has been to, and gets the answer of one.
fn recover(payload: &str) -> Option<Position> {
    // Most joins say nothing of it: they need no parser.
    if !payload.contains("\"recover\"") {
        return None;
    }
    let params: serde_json::Value = serde_json::from_str(payload).ok()?;
    let recover = params.get("recover")?;
    let number = |name: &str| recover.get(name).and_then(serde_json::Value::as_u64);
    let (epoch, offset) = (number("epoch"), number("offset"));
    Some(Position {
        epoch: epoch.unwrap_or(0),
        offset: offset.unwrap_or(0),
    })
}

/// Ends a channel whose client joins its topic again; returns the join ref that is owed a
/// `phx_close` behind the new join's answer.
fn replace<H>(gateway: &mut Gateway<H>, old: SubKey) -> Option<Box<str>> {
    let held = gateway.release(old)?;
    gateway.tell_ended(held.handle, "replaced");
    Some(Refs::from_notes(held.notes)?.join_ref)
}

/// Sends the answer of a join, and what a predecessor is owed.
///
/// # Errors
/// [`Unsent`]; the join is undecided then, as before.
pub(super) fn answer_join<H>(
    gateway: &mut Gateway<H>,
    sub: SubKey,
    status: &str,
    body: Body<'_>,
) -> Result<(), Unsent> {
    let (conn, topic) = gateway.addressee(sub)?;
    let refs = Refs::of_mut(gateway, sub)?;
    let joining = refs.joining.take().ok_or(Unsent::Ended)?;
    let join_ref = refs.join_ref.clone();
    let sent = send_reply(
        gateway,
        conn,
        &join_ref,
        &joining.reference,
        &topic,
        status,
        body,
    );
    if let Err(unsent) = sent {
        Refs::of_mut(gateway, sub)?.joining = Some(joining);
        return Err(unsent);
    }
    pay(gateway, conn, &topic, joining.owed.as_deref());
    Ok(())
}

/// Sends a predecessor the `phx_close` it is owed.
fn pay<H>(gateway: &mut Gateway<H>, conn: ConnKey, topic: &str, owed: Option<&str>) {
    if let (Some(join_ref), Ok(variant)) = (owed, variant(gateway, conn)) {
        gateway.hub.ordered(conn, |out| {
            frame_end(out, variant, join_ref, topic, false);
        });
    }
}

/// Answers a join under way that ends otherwise than by its decision.
pub(super) fn abandon<H>(
    gateway: &mut Gateway<H>,
    conn: ConnKey,
    topic: &str,
    refs: &Refs,
    why: &str,
) {
    if let Some(joining) = &refs.joining {
        let response = because(why);
        let body = Body::Json(response.as_bytes());
        // JSON is encodable always, and a connection that is gone needs no answer.
        let _ = send_reply(
            gateway,
            conn,
            &refs.join_ref,
            &joining.reference,
            topic,
            ERROR,
            body,
        );
        pay(gateway, conn, topic, joining.owed.as_deref());
    }
}
