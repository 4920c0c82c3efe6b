//! What goes out, before any protocol has given it a form.

use crate::log::Position;

/// A payload on its way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body<'a> {
    /// Valid JSON text of any type.
    Json(&'a [u8]),
    Binary(&'a [u8]),
}

impl<'a> Body<'a> {
    pub fn bytes(self) -> &'a [u8] {
        match self {
            Self::Json(bytes) | Self::Binary(bytes) => bytes,
        }
    }

    pub fn is_binary(self) -> bool {
        matches!(self, Self::Binary(_))
    }
}

/// One message of a topic, for all its subscribers.
#[derive(Debug, Clone, Copy)]
pub struct Event<'a> {
    pub topic: &'a str,
    pub event: &'a str,
    pub body: Body<'a>,
    /// Its place in the topic's log; None where the topic keeps none.
    pub position: Option<Position>,
}
