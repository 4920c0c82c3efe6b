//! A client's message: one JSON object, told apart by its `type`.
//!
//! Nothing of it is decoded but what routing needs: params and payload stay the text they came as.
//! A member given twice counts with its last value; members nobody knows are ignored.

use std::borrow::Cow;

use crate::json::{self, Fault};
use crate::log::Position;

/// What a client sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message<'a> {
    Subscribe {
        topic: Cow<'a, str>,
        /// JSON text, `{}` when absent.
        params: &'a str,
        since: Option<Position>,
    },
    Unsubscribe {
        topic: Cow<'a, str>,
    },
    Publish {
        topic: Cow<'a, str>,
        event: Cow<'a, str>,
        /// JSON text, `{}` when absent.
        payload: &'a str,
    },
    Ping,
}

/// Why a message is none, in the words of the `error` that answers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trouble {
    pub code: &'static str,
    pub message: &'static str,
    /// JSON text: what would be taken.
    pub accepted: &'static str,
}

const TYPES: &str = r#"["subscribe","unsubscribe","publish","ping"]"#;

const NOT_JSON: Trouble = Trouble {
    code: "invalid_json",
    message: "a message is one JSON object",
    accepted: r#"[{"type":"subscribe","topic":"room:1"}]"#,
};
const TOO_DEEP: Trouble = Trouble {
    code: "too_deep",
    message: "the message nests deeper than 128 levels",
    accepted: "[]",
};
const NO_TYPE: Trouble = Trouble {
    code: "unknown_type",
    message: "the member `type` says what a message is",
    accepted: TYPES,
};
const BAD_ID: Trouble = Trouble {
    code: "invalid_id",
    message: "an `id` is a string or a number of at most 1024 bytes",
    accepted: r#"[1,"a1"]"#,
};
const NO_TOPIC: Trouble = Trouble {
    code: "invalid_topic",
    message: "the member `topic` is a string of at most 1024 bytes",
    accepted: r#"["room:1"]"#,
};
const NO_EVENT: Trouble = Trouble {
    code: "invalid_event",
    message: "the member `event` is a string of at most 1024 bytes",
    accepted: r#"["said"]"#,
};
const BAD_SINCE: Trouble = Trouble {
    code: "invalid_since",
    message: "`since` is the position that `subscribed` or an event told",
    accepted: r#"[{"epoch":1,"offset":0}]"#,
};

/// Reads one message; gives its id too, as JSON text (`null` without one), even where the rest of it
/// is in trouble.
///
/// # Errors
/// [`Trouble`].
pub fn decode(message: &[u8]) -> (Cow<'_, str>, Result<Message<'_>, Trouble>) {
    let null = Cow::Borrowed("null");
    let members = json::bounded_text(message).and_then(|text| {
        json::members(
            text,
            ["type", "id", "topic", "event", "payload", "params", "since"],
        )
    });
    let [kind, id, topic, event, payload, params, since] = match members {
        Ok(members) => members,
        Err(Fault::TooDeep) => return (null, Err(TOO_DEEP)),
        Err(Fault::NotUtf8 | Fault::NotJson) => return (null, Err(NOT_JSON)),
    };
    let id = id.unwrap_or("null");
    let scalar = !id.starts_with(['{', '[', 't', 'f']);
    let id = match json::canonical(id) {
        Ok(id) if scalar && id.len() <= crate::gateway::MAX_NAME => id,
        _ => return (null, Err(BAD_ID)),
    };
    let message = kind.and_then(string).ok_or(NO_TYPE).and_then(|kind| {
        Ok(match &*kind {
            "subscribe" => Message::Subscribe {
                topic: name(topic, NO_TOPIC)?,
                params: params.unwrap_or("{}"),
                since: since.map(position).transpose()?,
            },
            "unsubscribe" => Message::Unsubscribe {
                topic: name(topic, NO_TOPIC)?,
            },
            "publish" => Message::Publish {
                topic: name(topic, NO_TOPIC)?,
                event: name(event, NO_EVENT)?,
                payload: payload.unwrap_or("{}"),
            },
            "ping" => Message::Ping,
            _ => return Err(NO_TYPE),
        })
    });
    (id, message)
}

fn string(raw: &str) -> Option<Cow<'_, str>> {
    json::unquote(json::is_string(raw).then_some(raw)?).ok()
}

fn name(raw: Option<&str>, trouble: Trouble) -> Result<Cow<'_, str>, Trouble> {
    let name = raw.and_then(string).ok_or(trouble)?;
    if name.len() > crate::gateway::MAX_NAME {
        return Err(trouble);
    }
    Ok(name)
}

fn position(raw: &str) -> Result<Position, Trouble> {
    let [epoch, offset] = json::members(raw, ["epoch", "offset"]).map_err(|_| BAD_SINCE)?;
    let number = |raw: Option<&str>| raw.and_then(|raw| raw.parse().ok()).ok_or(BAD_SINCE);
    Ok(Position {
        epoch: number(epoch)?,
        offset: number(offset)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (String, Result<Message<'_>, &'static str>) {
        let (id, message) = decode(text.as_bytes());
        (id.into_owned(), message.map_err(|trouble| trouble.code))
    }

    #[test]
    fn a_message_is_told_by_its_type_whatever_the_order_of_its_members() {
        let subscribe = Message::Subscribe {
            topic: "room:1".into(),
            params: r#"{"a": 1}"#,
            since: Some(Position {
                epoch: 7,
                offset: 3,
            }),
        };
        assert_eq!(
            read(
                r#"{"since":{"offset":3,"epoch":7},"params":{"a": 1},"topic":"room:1","id":4,"type":"subscribe"}"#
            ),
            ("4".into(), Ok(subscribe))
        );
        assert_eq!(
            read(r#"{"type":"ping"}"#),
            ("null".into(), Ok(Message::Ping))
        );
        let publish = Message::Publish {
            topic: "t".into(),
            event: "e\n".into(),
            payload: "{}",
        };
        assert_eq!(
            read(r#" {"type":"publish","id":"x","topic":"\u0074","event":"e\n","more":[1]} "#),
            (r#""x""#.into(), Ok(publish))
        );
    }

    #[test]
    fn trouble_is_named_and_keeps_the_id_it_came_with() {
        let long = format!(r#"{{"type":"ping","id":"{}"}}"#, "x".repeat(1025));
        let deep = format!(r#"{{"a":{}{}}}"#, "[".repeat(200), "]".repeat(200));
        for (text, id, code) in [
            ("", "null", "invalid_json"),
            ("[1]", "null", "invalid_json"),
            (r#"{"type":"ping"} {}"#, "null", "invalid_json"),
            (r#"{"type":"ping","id":"\ud800"}"#, "null", "invalid_json"),
            (&deep, "null", "too_deep"),
            (&long, "null", "invalid_id"),
            (r#"{"type":"ping","id":{}}"#, "null", "invalid_id"),
            (r#"{"type":"ping","id":true}"#, "null", "invalid_id"),
            (r#"{"id":1}"#, "1", "unknown_type"),
            (r#"{"id":1,"type":"shout"}"#, "1", "unknown_type"),
            (r#"{"id":1,"type":7}"#, "1", "unknown_type"),
            (r#"{"id":1,"type":"subscribe"}"#, "1", "invalid_topic"),
            (
                r#"{"id":1,"type":"publish","topic":"t"}"#,
                "1",
                "invalid_event",
            ),
            (
                r#"{"id":1,"type":"subscribe","topic":"t","since":{"epoch":1}}"#,
                "1",
                "invalid_since",
            ),
            (
                r#"{"id":1,"type":"subscribe","topic":"t","since":{"epoch":1,"offset":-1}}"#,
                "1",
                "invalid_since",
            ),
        ] {
            assert_eq!(read(text), (id.to_owned(), Err(code)), "{text}");
        }
    }
}
