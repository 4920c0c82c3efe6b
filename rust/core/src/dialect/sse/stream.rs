//! What is kept with an event stream: what it asked for, until all of it is decided.

use crate::gateway::{Gateway, Notes};
use crate::hub::ConnKey;
use crate::json;
use crate::log::Position;

use super::id;

/// What becomes of a subscription that did not begin, as the status of an answer that says no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Closed,
    Refused,
    Unmatched,
    Crashed,
    /// Too much waits to be decided.
    Busy,
}

impl Outcome {
    pub fn status(self) -> u16 {
        match self {
            Self::Closed => 204,
            Self::Refused => 403,
            Self::Unmatched => 404,
            Self::Crashed => 500,
            Self::Busy => 503,
        }
    }
}

/// One connection's state.
#[derive(Debug, Default)]
pub(super) struct Stream {
    /// Whether the answer has begun: after it, refusals are events.
    pub begun: bool,
    /// A subscription crashed, so there is something to come back for.
    pub crashed: bool,
    /// Until everything is decided.
    pub asked: Option<Box<Asked>>,
}

/// What a stream asked for.
#[derive(Debug)]
pub(super) struct Asked {
    pub topics: Vec<String>,
    /// Where the client has been, by topic.
    pub since: Vec<Option<Position>>,
    /// It said where it has been, and not in a way that can be understood.
    pub bad_id: bool,
    /// The payload of every join, JSON.
    pub params: String,
    /// Lines for the head of the answer.
    pub lines: String,
    pub undecided: usize,
    /// Errors that wait for the answer to begin, as JSON objects, and what they came to.
    pub errors: Vec<(Outcome, Vec<u8>)>,
}

/// What is kept with a subscription: which of the stream's topics it is on.
#[derive(Debug)]
pub(super) struct Place {
    pub at: usize,
    pub decided: bool,
}

impl Stream {
    pub fn of<H>(gateway: &mut Gateway<H>, conn: ConnKey) -> Option<&mut Self> {
        let notes = gateway.link(conn)?.notes.as_mut()?;
        notes.downcast_mut()
    }
}

impl Place {
    pub fn from_notes(notes: Notes) -> Option<Box<Self>> {
        notes.downcast().ok()
    }
}

impl Asked {
    /// Reads the mount's request: `{"topics": [..], "params": {..}, "since": id, "lines": text}`. None
    /// when it is none.
    pub fn read(request: &[u8]) -> Option<Self> {
        let text = json::bounded_text(request).ok()?;
        let names = ["topics", "params", "since", "lines"];
        let [topics, params, since, lines] = json::members(text, names).ok()?;
        let topics: Vec<String> = serde_json::from_str(topics?).ok()?;
        let text = |raw: Option<&str>| Some(json::unquote(raw?).ok()?.into_owned());
        let read = match text(since) {
            Some(since) => {
                let check = id::check(topics.iter().map(String::as_str));
                id::read(&since, check, topics.len()).map_err(|_| true)
            }
            None => Err(false),
        };
        let bad_id = read == Err(true);
        Some(Self {
            since: read.unwrap_or_else(|_| vec![None; topics.len()]),
            bad_id,
            params: params.unwrap_or("{}").to_owned(),
            lines: text(lines).unwrap_or_default(),
            undecided: topics.len(),
            errors: Vec::new(),
            topics,
        })
    }
}
