//! Frames of a market data upstream: Binance combined streams, taken apart without being decoded.
//!
//! `{"stream":"btcusdt@miniTicker","data":{..}}` gives up its event as the exact bytes that came
//! (binance-spot-api-docs, web-socket-streams): prices are decimal strings, and re-encoding is where digits get
//! lost. Only what routing needs is read out: type, symbol and time.
//!
//! An upstream is not trusted more than a client. Text, depth and grammar are checked before a
//! byte is forwarded, and what has none of the known shapes is an error to be counted instead of
//! an event of unknown type to be passed on.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::json::{self, Fault};

/// One frame of the upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Combined<'a> {
    /// Something happened on a stream.
    Event(Event<'a>),
    /// The answer to a request that succeeded, `{"result": .., "id": ..}`.
    Answer {
        /// JSON text of the result: `null`, or a list of streams.
        result: &'a str,
        /// JSON text of the request's id: a number, a string or `null`.
        id: &'a str,
    },
    /// The answer to one that failed: `{"code": .., "msg": ..}`, or that as `error` beside an id.
    Refusal {
        code: i64,
        message: Cow<'a, str>,
        /// JSON text of the request's id, where there is one.
        id: Option<&'a str>,
    },
}

/// An event, wrapped by its stream's name or raw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event<'a> {
    /// The stream's name; `None` for a raw event. `!serverShutdown` announces the end.
    pub stream: Option<Cow<'a, str>>,
    /// The event as it came, without surrounding white space: valid JSON, an object, or an array
    /// on the streams that carry many symbols at once.
    pub data: &'a [u8],
    /// `e`, the type: `24hrMiniTicker`, `serverShutdown`. Some streams' events have none.
    pub kind: Option<Cow<'a, str>>,
    /// `s`, the symbol, in upper case on this upstream.
    pub symbol: Option<Cow<'a, str>>,
    /// `E`, the event's time: Unix milliseconds, or microseconds where the URL asked for them.
    pub time: Option<u64>,
}

/// Why a frame is none of [`Combined`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FeedError {
    NotUtf8,
    NotJson,
    /// More than [`crate::json::MAX_DEPTH`] levels of nesting.
    TooDeep,
    /// Valid JSON of another shape.
    NotAnEvent,
}

impl FeedError {
    /// A stable word for a metrics label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotUtf8 => "not_utf8",
            Self::NotJson => "not_json",
            Self::TooDeep => "too_deep",
            Self::NotAnEvent => "not_an_event",
        }
    }
}

impl fmt::Display for FeedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotUtf8 => "upstream frame is not UTF-8",
            Self::NotJson => "upstream frame is not valid JSON",
            Self::TooDeep => "upstream frame nests too deep",
            Self::NotAnEvent => {
                "upstream frame is no event ({stream, data} or an object with e) and no answer"
            }
        })
    }
}

impl std::error::Error for FeedError {}

impl From<Fault> for FeedError {
    fn from(error: Fault) -> Self {
        match error {
            Fault::NotUtf8 => Self::NotUtf8,
            Fault::TooDeep => Self::TooDeep,
            Fault::NotJson => Self::NotJson,
        }
    }
}

/// Reads one frame of a combined stream, or of a raw one.
///
/// A raw event is known by its string `e`; a raw array is refused, for only a stream's name tells
/// what it holds.
///
/// # Errors
/// [`FeedError`], the first that applies: `TooDeep`, `NotUtf8`, `NotJson`, `NotAnEvent`.
pub fn unwrap_combined(frame: &[u8]) -> Result<Combined<'_>, FeedError> {
    if json::nests_too_deep(frame) {
        return Err(FeedError::TooDeep);
    }
    let text = json::text(frame)?;
    if json::first_byte(text) != Some(b'{') {
        return Err(if json::is_json(text) {
            FeedError::NotAnEvent
        } else {
            FeedError::NotJson
        });
    }
    let fields: Fields = serde_json::from_str(text).map_err(|_| FeedError::NotJson)?;
    if !json::surrogates_are_paired(text) {
        return Err(FeedError::NotJson);
    }
    if let (Some(stream), Some(data)) = (fields.stream, fields.data) {
        return wrapped(stream, data);
    }
    if fields.kind.is_some_and(json::is_string) {
        let data = text.trim_matches([' ', '\n', '\r', '\t']);
        return Ok(Combined::Event(event(None, data, &fields)?));
    }
    if let (Some(result), Some(id)) = (fields.result, fields.id) {
        return Ok(Combined::Answer { result, id });
    }
    match fields.error {
        Some(error) if error.starts_with('{') => {
            let inner = serde_json::from_str(error).map_err(|_| FeedError::NotJson)?;
            refusal(&inner, fields.id)
        }
        _ => refusal(&fields, fields.id),
    }
}

fn wrapped<'a>(stream: &'a str, data: &'a str) -> Result<Combined<'a>, FeedError> {
    if !json::is_string(stream) {
        return Err(FeedError::NotAnEvent);
    }
    let fields = match data.as_bytes().first() {
        Some(b'{') => serde_json::from_str(data).map_err(|_| FeedError::NotJson)?,
        Some(b'[') => Fields::default(),
        _ => return Err(FeedError::NotAnEvent),
    };
    let stream = json::unquote(stream)?;
    Ok(Combined::Event(event(Some(stream), data, &fields)?))
}

fn event<'a>(
    stream: Option<Cow<'a, str>>,
    data: &'a str,
    fields: &Fields<'a>,
) -> Result<Event<'a>, FeedError> {
    let string = |raw: Option<&'a str>| raw.filter(|raw| json::is_string(raw));
    Ok(Event {
        stream,
        data: data.as_bytes(),
        kind: string(fields.kind).map(json::unquote).transpose()?,
        symbol: string(fields.symbol).map(json::unquote).transpose()?,
        time: fields.time.and_then(|raw| raw.parse().ok()),
    })
}

fn refusal<'a>(fields: &Fields<'a>, id: Option<&'a str>) -> Result<Combined<'a>, FeedError> {
    let code = fields.code.and_then(|raw| raw.parse().ok());
    let message = fields.message.filter(|raw| json::is_string(raw));
    let (Some(code), Some(message)) = (code, message) else {
        return Err(FeedError::NotAnEvent);
    };
    Ok(Combined::Refusal {
        code,
        message: json::unquote(message)?,
        id,
    })
}

/// JSON text of the keys that mean something, in the wrapper as in the event.
#[derive(Default)]
struct Fields<'a> {
    stream: Option<&'a str>,
    data: Option<&'a str>,
    kind: Option<&'a str>,
    symbol: Option<&'a str>,
    time: Option<&'a str>,
    result: Option<&'a str>,
    id: Option<&'a str>,
    error: Option<&'a str>,
    code: Option<&'a str>,
    message: Option<&'a str>,
}

impl<'a> Fields<'a> {
    fn slot(&mut self, key: &str) -> Option<&mut Option<&'a str>> {
        Some(match key {
            "stream" => &mut self.stream,
            "data" => &mut self.data,
            "e" => &mut self.kind,
            "s" => &mut self.symbol,
            "E" => &mut self.time,
            "result" => &mut self.result,
            "id" => &mut self.id,
            "error" => &mut self.error,
            "code" => &mut self.code,
            "msg" => &mut self.message,
            _ => return None,
        })
    }
}

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(FieldsVisitor)
    }
}

struct FieldsVisitor;

impl<'de> Visitor<'de> for FieldsVisitor {
    type Value = Fields<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an event or an answer")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut fields = Fields::default();
        // A key is almost always plain, and then it is borrowed.
        while let Some(Key(key)) = map.next_key()? {
            match fields.slot(&key) {
                Some(slot) => *slot = Some(map.next_value::<&'de RawValue>()?.get()),
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(fields)
    }
}

struct Key<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Key<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(KeyVisitor)
    }
}

struct KeyVisitor;

impl<'de> Visitor<'de> for KeyVisitor {
    type Value = Key<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_borrowed_str<E>(self, key: &'de str) -> Result<Key<'de>, E> {
        Ok(Key(Cow::Borrowed(key)))
    }

    fn visit_str<E>(self, key: &str) -> Result<Key<'de>, E> {
        Ok(Key(Cow::Owned(key.to_owned())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event_of(frame: &str) -> Event<'_> {
        match unwrap_combined(frame.as_bytes()) {
            Ok(Combined::Event(event)) => event,
            other => panic!("{frame} gave {other:?}"),
        }
    }

    #[test]
    fn a_wrapped_event_gives_its_exact_bytes_and_what_routing_needs() {
        let data = r#"{"e":"24hrMiniTicker","E":1700000000123,"s":"BTCUSDT","c":"284578000.00000004","o" : "1.10"}"#;
        let frame = format!(r#" {{"stream":"btcusdt@miniTicker", "data": {data} }}"#);
        let event = event_of(&frame);
        assert!(matches!(
            event.stream,
            Some(Cow::Borrowed("btcusdt@miniTicker"))
        ));
        assert_eq!(event.data, data.as_bytes());
        assert!(matches!(event.kind, Some(Cow::Borrowed("24hrMiniTicker"))));
        assert_eq!(event.symbol.as_deref(), Some("BTCUSDT"));
        assert_eq!(event.time, Some(1_700_000_000_123));
    }

    #[test]
    fn a_raw_event_is_the_whole_frame() {
        let frame = "\n{\"e\":\"serverShutdown\",\"E\":1700000000000} ";
        let event = event_of(frame);
        assert_eq!(event.stream, None);
        assert_eq!(event.data, frame.trim().as_bytes());
        assert_eq!(event.kind.as_deref(), Some("serverShutdown"));
    }

    #[test]
    fn a_shutdown_notice_is_recognised_by_its_type_when_wrapped() {
        let event = event_of(
            r#"{"stream":"!serverShutdown","data":{"e":"serverShutdown","E":1700000000000}}"#,
        );
        assert_eq!(event.stream.as_deref(), Some("!serverShutdown"));
        assert_eq!(event.kind.as_deref(), Some("serverShutdown"));
    }

    #[test]
    fn an_event_may_lack_type_symbol_and_time_when_its_stream_is_named() {
        for data in [
            "[]",
            r#"[{"e":"24hrMiniTicker"}]"#,
            r#"{"lastUpdateId":1}"#,
            "{}",
        ] {
            let frame = format!(r#"{{"data":{data},"stream":"x"}}"#);
            let event = event_of(&frame);
            assert_eq!(event.data, data.as_bytes());
            assert_eq!((event.kind, event.symbol, event.time), (None, None, None));
        }
        let odd = event_of(r#"{"stream":"x","data":{"e":1,"s":null,"E":"soon"}}"#);
        assert_eq!((odd.kind, odd.symbol, odd.time), (None, None, None));
    }

    #[test]
    fn escapes_in_keys_and_names_are_read() {
        let event = event_of(r#"{"\u0073tream":"a\/b","data":{"\u0065":"x"}}"#);
        assert_eq!(event.stream.as_deref(), Some("a/b"));
        assert_eq!(event.kind.as_deref(), Some("x"));
    }

    #[test]
    fn answers_to_requests_are_told_from_events() {
        assert_eq!(
            unwrap_combined(br#"{"result":null,"id":1}"#),
            Ok(Combined::Answer {
                result: "null",
                id: "1"
            })
        );
        assert_eq!(
            unwrap_combined(br#"{"code":2,"msg":"Invalid request: unknown variant"}"#),
            Ok(Combined::Refusal {
                code: 2,
                message: Cow::Borrowed("Invalid request: unknown variant"),
                id: None
            })
        );
        assert_eq!(
            unwrap_combined(br#"{"error":{"code":-1130,"msg":"x"},"id":"a"}"#),
            Ok(Combined::Refusal {
                code: -1130,
                message: Cow::Borrowed("x"),
                id: Some("\"a\"")
            })
        );
    }

    #[test]
    fn rubbish_is_refused_and_named() {
        let table: &[(&[u8], FeedError)] = &[
            (b"", FeedError::NotJson),
            (b"hello", FeedError::NotJson),
            (br#"{"stream":"x","data":{}"#, FeedError::NotJson),
            (br#"{"stream":"x","data":{}} x"#, FeedError::NotJson),
            (
                br#"{"stream":"x","data":{"e":"\ud800"}}"#,
                FeedError::NotJson,
            ),
            (b"{\"e\":\"\xff\"}", FeedError::NotUtf8),
            (b"null", FeedError::NotAnEvent),
            (b"[]", FeedError::NotAnEvent),
            (b"{}", FeedError::NotAnEvent),
            (br#"{"stream":"x"}"#, FeedError::NotAnEvent),
            (br#"{"stream":"x","data":"text"}"#, FeedError::NotAnEvent),
            (br#"{"stream":1,"data":{"e":"x"}}"#, FeedError::NotAnEvent),
            (br#"{"e":1}"#, FeedError::NotAnEvent),
            (br#"{"code":"2","msg":"x"}"#, FeedError::NotAnEvent),
            (br#"{"error":"down","id":1}"#, FeedError::NotAnEvent),
            (&[b'['; 1000], FeedError::TooDeep),
        ];
        for (frame, error) in table {
            assert_eq!(
                unwrap_combined(frame),
                Err(*error),
                "{}",
                String::from_utf8_lossy(frame)
            );
        }
    }
}
