//! Messages in: what they ask, and whatever can be answered without asking anybody.

use std::borrow::Cow;

use crate::gateway::{Content, Gateway, Kind, Refusal, Stage, Target, Verdict, Waiting};
use crate::hub::ConnKey;
use crate::log::Position;

use super::decode::{decode, Message, Trouble};
use super::{write, Asked};

const NOT_TEXT: Trouble = Trouble {
    code: "not_text",
    message: "a message is text; bytes travel as base64 in a payload",
    accepted: r#"[{"type":"subscribe","topic":"room:1"}]"#,
};
const NO_SUCH_TOPIC: Trouble = Trouble {
    code: "unmatched_topic",
    message: "nothing here serves this topic",
    accepted: "[]",
};
const TOO_MANY: Trouble = Trouble {
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
        }) => subscribe(gateway, conn, &id, topic, params, since),
        Ok(Message::Unsubscribe { topic }) => unsubscribe(gateway, conn, id, &topic),
        Ok(Message::Publish {
            topic,
            event,
            payload,
        }) => publish(gateway, conn, id, &topic, event, payload),
    }
}

fn subscribe<'f, H>(
    gateway: &mut Gateway<H>,
    conn: ConnKey,
    id: &str,
    topic: Cow<'f, str>,
    params: &'f str,
    since: Option<Position>,
) -> Verdict<'f> {
    if gateway.hub.find(conn, &topic).is_some() {
        return about(gateway, conn, id, SUBSCRIBED_ALREADY, &topic);
    }
    let Target {
        route,
        params: named,
    } = match gateway.target(conn, &topic) {
        Ok(target) => target,
        Err(Refusal::Unmatched) => {
            gateway.counts.unmatched += 1;
            return about(gateway, conn, id, NO_SUCH_TOPIC, &topic);
        }
        Err(Refusal::TooMany) => {
            gateway.counts.joins_refused += 1;
            return about(gateway, conn, id, TOO_MANY, &topic);
        }
    };
    let asked = Asked {
        id: id.into(),
        waiting: Waiting::default(),
    };
    Verdict::Join {
        sub: gateway.subscribe(conn, &topic, route, since, Box::new(asked)),
        route,
        topic,
        params: named,
        payload: Content {
            binary: false,
            bytes: Cow::Borrowed(params.as_bytes()),
        },
    }
}

fn unsubscribe<'f, H>(
    gateway: &mut Gateway<H>,
    conn: ConnKey,
    id: Cow<'f, str>,
    topic: &str,
) -> Verdict<'f> {
    let Some(key) = gateway.hub.find(conn, topic) else {
        return about(gateway, conn, &id, NOT_SUBSCRIBED, topic);
    };
    let Some(sub) = gateway.hub.sub_mut(key) else {
        return Verdict::Done;
    };
    match sub.seat.stage {
        Stage::Leaving => return about(gateway, conn, &id, NOT_SUBSCRIBED, topic),
        Stage::Joined if sub.seat.handle.is_some() => {
            sub.seat.stage = Stage::Leaving;
            return Verdict::Leave {
                sub: key,
                reference: id,
            };
        }
        Stage::Joined | Stage::Joining => {}
    }
    let handle = gateway.finish_leave(key, &id);
    gateway.tell_ended(handle, "left");
    Verdict::Done
}

fn publish<'f, H>(
    gateway: &mut Gateway<H>,
    conn: ConnKey,
    id: Cow<'f, str>,
    topic: &str,
    event: Cow<'f, str>,
    payload: &'f str,
) -> Verdict<'f> {
    let key = gateway.hub.find(conn, topic);
    let held = key.and_then(|key| Some((key, &gateway.hub.sub(key)?.seat)));
    let Some((key, held)) = held.filter(|(_, held)| held.stage != Stage::Leaving) else {
        return not_subscribed(gateway, conn, &id, topic);
    };
    if gateway.kind(held) == Kind::Stream {
        gateway.counts.to_stream += 1;
        return about(gateway, conn, &id, PUSH_ONLY, topic);
    }
    if held.stage == Stage::Joining {
        if let Some(asked) = Asked::of(gateway, key) {
            asked.waiting.expect(&id);
        }
    }
    Verdict::Message {
        sub: key,
        event,
        payload: Content {
            binary: false,
            bytes: Cow::Borrowed(payload.as_bytes()),
        },
        reference: id,
    }
}

/// Answers what was sent to a topic that the connection is not on.
pub(super) fn not_subscribed<'f, H>(
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
