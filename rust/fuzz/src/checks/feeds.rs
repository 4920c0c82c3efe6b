//! Frames of a market data upstream.

use moda_core::dialect::phoenix::MAX_DEPTH;
use moda_core::feed::{unwrap_combined, Combined, Event, FeedError};

use super::grammar::{depth, parse, unquote, Top};

/// Any bytes as a frame of a combined stream.
pub fn feed(data: &[u8]) {
    if depth(data) > MAX_DEPTH {
        assert_eq!(unwrap_combined(data), Err(FeedError::TooDeep));
        return;
    }
    let parsed = parse(data);
    match (unwrap_combined(data), parsed) {
        (Err(error), Err(label)) => assert_eq!(error.as_str(), label),
        (Err(error), Ok(top)) => {
            assert_eq!(error.as_str(), "not_an_event");
            assert!(!is_event(&top), "{top:?}");
        }
        (Ok(Combined::Event(event)), Ok(top)) => {
            assert!(is_event(&top), "{top:?}");
            whole(&event, data, &top);
        }
        (Ok(answer), Ok(top)) => {
            assert!(!is_event(&top), "{top:?}");
            assert!(matches!(top, Top::Object(_)), "{answer:?}");
        }
        (Ok(accepted), Err(label)) => panic!("{accepted:?} though {label}"),
    }
}

fn last<'a>(top: &Top<'a>, name: &str) -> Option<&'a str> {
    let Top::Object(members) = top else {
        return None;
    };
    let named = members.iter().rev().find(|(key, _)| unquote(key) == name);
    named.map(|(_, value)| *value)
}

fn is_event(top: &Top<'_>) -> bool {
    match (last(top, "stream"), last(top, "data")) {
        (Some(stream), Some(data)) => stream.starts_with('"') && data.starts_with(['{', '[']),
        _ => last(top, "e").is_some_and(|kind| kind.starts_with('"')),
    }
}

fn whole(event: &Event<'_>, frame: &[u8], top: &Top<'_>) {
    let text = std::str::from_utf8(event.data).expect("text");
    let inner = parse(event.data).expect("JSON");
    match &event.stream {
        Some(stream) => {
            assert_eq!(last(top, "data"), Some(text));
            assert_eq!(last(top, "stream").map(unquote).as_deref(), Some(&**stream));
        }
        None => assert_eq!(frame.trim_ascii(), event.data),
    }
    let string = |name| {
        let raw = last(&inner, name).filter(|raw| raw.starts_with('"'));
        raw.map(unquote)
    };
    assert_eq!(event.kind.as_deref(), string("e").as_deref());
    assert_eq!(event.symbol.as_deref(), string("s").as_deref());
    let time = last(&inner, "E").and_then(|raw| serde_json::from_str(raw).ok());
    assert_eq!(event.time, time);
}
