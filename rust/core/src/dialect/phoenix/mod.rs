//! Phoenix Channels: heartbeat, join, leave, stale and unmatched messages, and the refs that each
//! answer must carry (`docs/wire.md` has the table of rules).
//!
//! `codec` knows frames, `receive` what they ask, `join` what is kept until a join is decided, and
//! `answer` what the gateway has to say. Two variants: [`V1`] and [`V2`].

mod answer;
mod codec;
mod join;
mod receive;
mod write;

pub use codec::{
    decode_binary, decode_text, decode_v1, encode, DecodeError, Inbound, Payload, TooLong,
    MAX_DEPTH,
};

use join::Joining;

use crate::gateway::{Gateway, Notes, Unsent};
use crate::hub::{ConnKey, SubKey};

/// JSON objects, text only (`vsn` absent or 1.0.N).
pub const V1: u8 = 0;
/// JSON arrays and binary frames (`vsn=2.0.N`).
pub const V2: u8 = 1;
/// Their names.
pub const VARIANTS: &[&str] = &["phoenix/1", "phoenix/2"];

/// The dialect; see the module's text.
#[derive(Debug, Clone, Copy)]
pub struct Phoenix;

/// What is kept with a subscription.
#[derive(Debug)]
struct Refs {
    /// As the client sent it; what later messages are compared with.
    join_ref: Box<str>,
    /// What pushes carry when the client joined with null: the ref of its join.
    push_ref: Option<Box<str>>,
    /// Until the join is decided.
    joining: Option<Box<Joining>>,
}

impl Refs {
    fn push_ref(&self) -> &str {
        self.push_ref.as_deref().unwrap_or(&self.join_ref)
    }

    /// Whether a message with this join ref is for this join and not for an earlier one.
    fn speaks(&self, join_ref: &str) -> bool {
        join_ref == "null" || *join_ref == *self.join_ref
    }

    fn of<H>(gateway: &Gateway<H>, sub: SubKey) -> Result<&Self, Unsent> {
        let sub = gateway.hub.sub(sub).ok_or(Unsent::Ended)?;
        sub.seat.notes.downcast_ref().ok_or(Unsent::Ended)
    }

    fn of_mut<H>(gateway: &mut Gateway<H>, sub: SubKey) -> Result<&mut Self, Unsent> {
        let sub = gateway.hub.sub_mut(sub).ok_or(Unsent::Ended)?;
        sub.seat.notes.downcast_mut().ok_or(Unsent::Ended)
    }

    /// Takes back what [`Phoenix`] has given the gateway to keep.
    fn from_notes(notes: Notes) -> Option<Box<Self>> {
        notes.downcast().ok()
    }
}

/// A connection's variant.
fn variant<H>(gateway: &Gateway<H>, conn: ConnKey) -> Result<u8, Unsent> {
    gateway.variant(conn).ok_or(Unsent::Ended)
}
