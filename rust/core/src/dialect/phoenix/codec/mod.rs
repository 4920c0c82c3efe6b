//! Phoenix Channels frames: what a client's message says, and how an answer is written.
//!
//! Three codecs share one meaning. V2 text is the JSON array `[join_ref, ref, topic, event,
//! payload]`; V2 binary is a header of one-byte lengths before raw data; V1 is a JSON object. The rules
//! are those of Phoenix 1.8.12 as its own tests and a running server show them. Decoding borrows
//! from the frame: a text message without escapes costs no allocation. It validates the whole frame
//! as JSON, since payload text is forwarded to other clients byte for byte and must never be able
//! to break their parser.
//!
//! Refs stay JSON text. The reference compares them strictly (`1` is not `"1"`), so a number must
//! remain a number; but `"\u0031"` *is* `"1"`, so strings are re-encoded to one canonical form and
//! comparing refs is comparing bytes.
//!
//! Nothing here does I/O. On an error the caller owes the client a close with 1011 (1007 for
//! [`DecodeError::NotUtf8`]), and owes the operator a count under [`DecodeError::as_str`].

use std::borrow::Cow;
use std::fmt;

use crate::json;

mod binary;
pub mod encode;
mod text;
mod v1;

pub use binary::decode_binary;
pub use encode::TooLong;
pub use text::decode_text;
pub use v1::decode_v1;

/// How many arrays and objects may stand open at once in a payload, the frame's own not counted.
pub use crate::json::MAX_DEPTH;

/// One message of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inbound<'a> {
    /// Canonical JSON text of the join ref; `null` when null or absent.
    pub join_ref: Cow<'a, str>,
    /// Canonical JSON text of the message ref; `null` when null.
    pub reference: Cow<'a, str>,
    /// `None` when the topic is a JSON term other than a string: it can match no channel.
    pub topic: Option<Cow<'a, str>>,
    /// JSON text of the topic as a reply must echo it.
    pub topic_json: Cow<'a, str>,
    pub event: Cow<'a, str>,
    pub payload: Payload<'a>,
}

/// What a message carries, still as it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payload<'a> {
    /// Valid JSON text of any type, without surrounding white space.
    Json(&'a str),
    Binary(&'a [u8]),
    /// JSON that nests deeper than [`MAX_DEPTH`]: one message's problem, and not to be handed on.
    TooDeep,
}

/// Why a frame is not a message. Each of these ends the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// Bytes that should be text are not UTF-8.
    NotUtf8,
    /// Not one JSON value, or a string in it holds half a surrogate pair.
    NotJson,
    /// V2: valid JSON, but no array.
    NotAnArray,
    /// V2: an array of fewer than five elements.
    TooShort,
    /// The event is no string.
    EventNotString,
    /// V1: valid JSON, but no object.
    NotAnObject,
    /// V1: the object lacks this key.
    MissingKey(&'static str),
    /// V2 binary: the first byte is this and not 0, the only kind a client sends.
    BinaryKind(u8),
    /// V2 binary: fewer bytes than the header needs or declares.
    BinaryTruncated,
}

impl DecodeError {
    /// A stable word for a metrics label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotUtf8 => "not_utf8",
            Self::NotJson => "not_json",
            Self::NotAnArray => "not_an_array",
            Self::TooShort => "too_short",
            Self::EventNotString => "event_not_string",
            Self::NotAnObject => "not_an_object",
            Self::MissingKey(_) => "missing_key",
            Self::BinaryKind(_) => "binary_kind",
            Self::BinaryTruncated => "binary_truncated",
        }
    }
}

impl From<json::Fault> for DecodeError {
    fn from(fault: json::Fault) -> Self {
        match fault {
            json::Fault::NotUtf8 => Self::NotUtf8,
            json::Fault::NotJson | json::Fault::TooDeep => Self::NotJson,
        }
    }
}

/// What to say of text that does not start as it should: `wrong_type` if it is JSON all the same.
fn refusal(text: &str, wrong_type: DecodeError) -> DecodeError {
    if json::is_json(text) {
        wrong_type
    } else {
        DecodeError::NotJson
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotUtf8 => f.write_str("frame is not UTF-8"),
            Self::NotJson => f.write_str("frame is not valid JSON"),
            Self::NotAnArray => {
                f.write_str("frame is not a JSON array [join_ref, ref, topic, event, payload]")
            }
            Self::TooShort => f.write_str("frame has fewer than 5 elements"),
            Self::EventNotString => f.write_str("event is not a string"),
            Self::NotAnObject => {
                f.write_str("frame is not a JSON object with topic, event, payload and ref")
            }
            Self::MissingKey(key) => write!(f, "frame has no key {key:?}"),
            Self::BinaryKind(kind) => {
                write!(f, "binary frame of kind {kind}; clients send kind 0 only")
            }
            Self::BinaryTruncated => f.write_str("binary frame is shorter than its header says"),
        }
    }
}

impl std::error::Error for DecodeError {}
