//! Messages in: what they ask, and whatever can be answered without asking anybody.

use std::borrow::Cow;

use crate::gateway::{message_size, Content, Gateway, Join, Refusal, Stage, Verdict, Wish};
use crate::hub::{ConnKey, SubKey};
use crate::log::Position;

use super::decode::{decode, Message, Trouble};
use super::{write, Asked};

const NOT_TEXT: Trouble = Trouble {
    code: "not_text",
    message: "a message is text; bytes travel as base64 in a payload",
    accepted: r#"[{"type":"subscribe","topic":"room:1"}]"#,
};
pub(in crate::dialect) const NO_SUCH_TOPIC: Trouble = Trouble {
    code: "unmatched_topic",
    message: "nothing here serves this topic",
    accepted: "[]",
};
pub(in crate::dialect) const TOO_MANY: Trouble = Trouble {
    code: "too_many_subscriptions",
    message: "this connection has as many subscriptions as it may",
    accepted: r#"[{"type":"unsubscribe"}]"#,
};
const SUBSCRIBED_ALREADY: Trouble = Trouble {
    code: "already_subscribed",
    message: "this connection is subscribed to the topic; unsubscribe first to begin elsewhere",
    accepted: r#"[{"type":"unsubscribe"}]"#,
};
const NOT_SUBSCRIBED: Trouble = Trouble {
    code: "not_subscribed",
    message: "this connection is not subscribed to the topic",
    accepted: r#"[{"type":"subscribe"}]"#,
};
pub(in crate::dialect) const BUSY: Trouble = Trouble {
    code: "busy",
    message: "too much of this connection, or of all, waits to be handled; try again later",
    accepted: "[]",
};
const PUSH_ONLY: Trouble = Trouble {
    code: "push_only",
    message: "clients do not publish on this topic",
    accepted: "[]",
};

/// One whole message of a client.
pub(super) fn message<'f, H>(
    gateway: &mut Gateway<H>,
    conn: ConnKey,
    text: bool,
    message: &'f [u8],
) -> Verdict<'f> {
    if !text {
        return trouble(gateway, conn, "null", NOT_TEXT, None);
    }
    let (id, decoded) = decode(message);
    let raw = (text, message);
    match decoded {
        Err(why) => trouble(gateway, conn, &id, why, Some(message)),
        Ok(Message::Ping) => {
            gateway.counts.heartbeats += 1;
            gateway.hub.direct(conn, |out| write::pong(out, &id));
            Verdict::Done
        }
        Ok(Message::Subscribe {
            topic,
            params,
            since,
        }) => subscribe(gateway, conn, &id, &topic, params, since),
        Ok(Message::Unsubscribe { topic }) => unsubscribe(gateway, conn, raw, id, &topic),
        Ok(Message::Publish {
            topic,
            event,
            payload,
        }) => {
            let said = (event, payload);
            publish(gateway, conn, raw, id, &topic, said)
        }
    }
}

fn subscribe<'f, H>(
    gateway: &mut Gateway<H>,
    conn: ConnKey,
    id: &str,
    topic: &str,
    params: &str,
    since: Option<Position>,
) -> Verdict<'f> {
    if gateway.hub.find(conn, topic).is_some() {
        return about(gateway, conn, id, SUBSCRIBED_ALREADY, topic);
    }
    let target = match gateway.target(conn, topic) {
        Ok(target) => target,
        Err(Refusal::Unmatched) => {
            gateway.counts.unmatched += 1;
            return about(gateway, conn, id, NO_SUCH_TOPIC, topic);
        }
        Err(Refusal::TooMany) => {
            gateway.counts.joins_refused += 1;
            return about(gateway, conn, id, TOO_MANY, topic);
        }
    };
    let join = Join {
        payload: Content {
            binary: false,
            bytes: Cow::Borrowed(params.as_bytes()),
        },
        since: since.filter(|_| gateway.keeps_log(target.route)),
        notes: Box::new(Asked { id: id.into() }),
    };
    if gateway.subscribe(conn, topic, target, join).is_err() {
        gateway.counts.joins_refused += 1;
        return about(gateway, conn, id, BUSY, topic);
    }
    Verdict::Done
}

/// The connection's subscription to a topic, and how far it has come.
fn subscription<H>(gateway: &Gateway<H>, conn: ConnKey, topic: &str) -> Option<(SubKey, Stage)> {
    let key = gateway.hub.find(conn, topic)?;
    let stage = gateway.hub.sub(key)?.seat.stage;
    (stage != Stage::Leaving).then_some((key, stage))
}

fn unsubscribe<'f, H>(
    gateway: &mut Gateway<H>,
    conn: ConnKey,
    raw: (bool, &[u8]),
    id: Cow<'f, str>,
    topic: &str,
) -> Verdict<'f> {
    let Some((key, stage)) = subscription(gateway, conn, topic) else {
        return about(gateway, conn, &id, NOT_SUBSCRIBED, topic);
    };
    if stage == Stage::Joining {
        return hold(gateway, conn, key, raw, Wish::Leave, &id, topic);
    }
    let Some(sub) = gateway.hub.sub_mut(key) else {
        return Verdict::Done;
    };
    if sub.seat.handle.is_some() {
        sub.seat.stage = Stage::Leaving;
        return Verdict::Leave {
            sub: key,
            reference: id,
        };
    }
    let handle = gateway.finish_leave(key, &id);
    gateway.tell_ended(handle, "left");
    Verdict::Done
}

fn publish<'f, H>(
    gateway: &mut Gateway<H>,
    conn: ConnKey,
    raw: (bool, &[u8]),
    id: Cow<'f, str>,
    topic: &str,
    (event, payload): (Cow<'f, str>, &'f str),
) -> Verdict<'f> {
    let Some((key, stage)) = subscription(gateway, conn, topic) else {
        return not_subscribed(gateway, conn, &id, topic);
    };
    let held = gateway.hub.sub(key).map(|sub| &sub.seat);
    if stage == Stage::Joining {
        return hold(gateway, conn, key, raw, Wish::Other, &id, topic);
    }
    if held.is_some_and(|held| gateway.is_push_only(held)) {
        gateway.counts.to_stream += 1;
        return about(gateway, conn, &id, PUSH_ONLY, topic);
    }
    let size = message_size(&event, payload.len(), &id);
    if !gateway.admit(conn, key, size) {
        return about(gateway, conn, &id, BUSY, topic);
    }
    Verdict::Message {
        sub: key,
        event,
        payload: Content {
            binary: false,
            bytes: Cow::Borrowed(payload.as_bytes()),
        },
        reference: id,
        size,
    }
}

/// Keeps a message until its subscription is decided.
fn hold<'f, H>(
    gateway: &mut Gateway<H>,
    conn: ConnKey,
    key: SubKey,
    raw: (bool, &[u8]),
    wish: Wish,
    id: &str,
    topic: &str,
) -> Verdict<'f> {
    if gateway.hold(conn, key, raw, wish) {
        return Verdict::Done;
    }
    about(gateway, conn, id, BUSY, topic)
}

/// Answers what was sent to a topic that the connection is not on.
fn not_subscribed<'f, H>(
    gateway: &mut Gateway<H>,
    conn: ConnKey,
    id: &str,
    topic: &str,
) -> Verdict<'f> {
    gateway.counts.unmatched += 1;
    about(gateway, conn, id, NOT_SUBSCRIBED, topic)
}

/// Answers with an error that repeats a topic.
fn about<'f, H>(
    gateway: &mut Gateway<H>,
    conn: ConnKey,
    id: &str,
    why: Trouble,
    topic: &str,
) -> Verdict<'f> {
    trouble(gateway, conn, id, why, Some(topic.as_bytes()))
}

fn trouble<'f, H>(
    gateway: &mut Gateway<H>,
    conn: ConnKey,
    id: &str,
    why: Trouble,
    received: Option<&[u8]>,
) -> Verdict<'f> {
    gateway.hub.ordered(conn, |out| {
        write::error(out, id, why, received);
    });
    Verdict::Done
}
