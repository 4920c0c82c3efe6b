//! From a client's wish to join to the answer, which may be long in coming.
//!
//! When the join comes to nothing, messages that came meanwhile are unmatched, as they would be
//! behind a join decided at once. A predecessor on the topic gets its `phx_close` behind the new
//! join's answer, as the reference sends it.

use crate::gateway::{Body, Gateway, Refusal, Target, Unsent, Verdict, Waiting, MAX_NAME};
use crate::hub::{ConnKey, SubKey};
use crate::log::Position;

use super::answer::send_reply;
use super::receive::{refuse, unmatched};
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
    /// Refs of messages that came meanwhile.
    pub waiting: Waiting,
}

pub(super) fn join<'f, H>(
    gateway: &mut Gateway<H>,
    conn: ConnKey,
    message: &Inbound<'f>,
) -> Verdict<'f> {
    let Some(topic) = message.topic.clone() else {
        return Verdict::Done;
    };
    let refs = [&message.join_ref, &message.reference];
    if topic.len() > MAX_NAME || refs.into_iter().any(|json| too_long(json)) {
        gateway.counts.joins_refused += 1;
        let reason = "topic, join_ref or ref too long";
        refuse(gateway, conn, "null", message, reason);
        return Verdict::Done;
    }
    let Target { route, params } = match gateway.target(conn, &topic) {
        Ok(target) => target,
        Err(Refusal::Unmatched) => return unmatched(gateway, conn, message),
        Err(Refusal::TooMany) => {
            gateway.counts.joins_refused += 1;
            let join_ref = &message.join_ref;
            refuse(gateway, conn, join_ref, message, "too many channels joined");
            return Verdict::Done;
        }
    };
    let old = gateway.hub.find(conn, &topic);
    let owed = old.and_then(|old| replace(gateway, conn, &topic, old));
    let null = message.join_ref == "null";
    let refs = Refs {
        join_ref: (&*message.join_ref).into(),
        push_ref: null.then(|| (&*message.reference).into()),
        joining: Some(Box::new(Joining {
            reference: (&*message.reference).into(),
            owed,
            waiting: Waiting::default(),
        })),
    };
    let since = match message.payload {
        Payload::Json(payload) if gateway.keeps_log(route) => recover(payload),
        _ => None,
    };
    Verdict::Join {
        sub: gateway.subscribe(conn, &topic, route, since, Box::new(refs)),
        route,
        topic,
        params,
        payload: message.payload.into(),
    }
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

/// Ends a channel whose client joins its topic again; returns the join ref of the one that is
/// owed a `phx_close` behind the new join's answer.
fn replace<H>(
    gateway: &mut Gateway<H>,
    conn: ConnKey,
    topic: &str,
    old: SubKey,
) -> Option<Box<str>> {
    let held = gateway.release(old)?;
    gateway.tell_ended(held.handle, "replaced");
    let mut refs = Refs::from_notes(held.notes)?;
    match refs.joining.take() {
        None => Some(refs.join_ref),
        Some(joining) => {
            // At once: whoever joins in a loop must not run up a debt.
            let reference = &joining.reference;
            reject(
                gateway,
                conn,
                &refs.join_ref,
                reference,
                topic,
                "joined again",
            );
            disown(gateway, conn, topic, &joining.waiting);
            joining.owed
        }
    }
}

/// Takes a join that has been decided out of its subscription, to be answered.
pub(super) fn decided<H>(gateway: &mut Gateway<H>, sub: SubKey) -> Result<Box<Joining>, Unsent> {
    let refs = Refs::of_mut(gateway, sub)?;
    refs.joining.take().ok_or(Unsent::Ended)
}

/// Sends the answer of a join; gives it back, to be settled.
///
/// # Errors
/// [`Unsent`]; the join is undecided then, as before.
pub(super) fn answer_join<H>(
    gateway: &mut Gateway<H>,
    sub: SubKey,
    status: &str,
    body: Body<'_>,
) -> Result<Box<Joining>, Unsent> {
    let (conn, topic) = gateway.addressee(sub)?;
    let joining = decided(gateway, sub)?;
    let join_ref = Refs::of(gateway, sub)?.join_ref.clone();
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
    Ok(joining)
}

/// The answer of a refused join, after which those who waited for it hear that there is no channel.
pub(super) fn refuse_join<H>(gateway: &mut Gateway<H>, sub: SubKey, response: &[u8]) {
    let Ok((conn, topic)) = gateway.addressee(sub) else {
        return;
    };
    // JSON is encodable always.
    let joining = answer_join(gateway, sub, ERROR, Body::Json(response));
    gateway.release(sub);
    if let Ok(joining) = joining {
        disown(gateway, conn, &topic, &joining.waiting);
    }
}

/// Sends a predecessor the `phx_close` it is owed.
fn pay<H>(gateway: &mut Gateway<H>, conn: ConnKey, topic: &str, owed: Option<&str>) {
    if let (Some(join_ref), Ok(variant)) = (owed, variant(gateway, conn)) {
        gateway.hub.ordered(conn, |out| {
            frame_end(out, variant, join_ref, topic, false);
        });
    }
}

/// Answers messages to a channel that will not be.
fn disown<H>(gateway: &mut Gateway<H>, conn: ConnKey, topic: &str, waiting: &Waiting) {
    for reference in waiting.iter() {
        gateway.counts.unmatched += 1;
        reject(gateway, conn, "null", reference, topic, "unmatched topic");
    }
}

fn reject<H>(
    gateway: &mut Gateway<H>,
    conn: ConnKey,
    join_ref: &str,
    reference: &str,
    topic: &str,
    why: &str,
) {
    let response = because(why);
    let body = Body::Json(response.as_bytes());
    // JSON is encodable always, and a connection that is gone needs no answer.
    let _ = send_reply(gateway, conn, join_ref, reference, topic, ERROR, body);
}

/// What is due when a join under way ends otherwise than by its decision: every question that was
/// asked before is answered, in its order.
pub(super) fn abandon<H>(
    gateway: &mut Gateway<H>,
    conn: ConnKey,
    topic: &str,
    refs: &Refs,
    why: &str,
) {
    if let Some(joining) = &refs.joining {
        reject(
            gateway,
            conn,
            &refs.join_ref,
            &joining.reference,
            topic,
            why,
        );
        pay(gateway, conn, topic, joining.owed.as_deref());
        disown(gateway, conn, topic, &joining.waiting);
    }
}
