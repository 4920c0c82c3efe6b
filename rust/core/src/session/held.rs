//! A client's message that waits for a join under way, with all it says copied.

use std::borrow::Cow;

use crate::phoenix::{Inbound, Payload};

use super::inward::size_of;
use super::write::json_string;

#[derive(Debug)]
pub(super) struct Held {
    join_ref: Box<str>,
    reference: Box<str>,
    event: Box<str>,
    payload: Data,
}

#[derive(Debug)]
enum Data {
    Json(Box<str>),
    Binary(Box<[u8]>),
    TooDeep,
}

impl Held {
    /// What a message counts for while it waits. A leave's payload means nothing and is not kept.
    pub fn size(message: &Inbound<'_>) -> usize {
        let payload = match &message.payload {
            _ if message.event == "phx_leave" => 0,
            Payload::Json(json) => json.len(),
            Payload::Binary(data) => data.len(),
            Payload::TooDeep => 0,
        };
        message.join_ref.len() + size_of(&message.event, payload, &message.reference)
    }

    pub fn of(message: &Inbound<'_>) -> Self {
        let payload = match message.payload {
            _ if message.event == "phx_leave" => Data::Binary(Box::default()),
            Payload::Json(json) => Data::Json(json.into()),
            Payload::Binary(data) => Data::Binary(data.into()),
            Payload::TooDeep => Data::TooDeep,
        };
        Self {
            join_ref: (&*message.join_ref).into(),
            reference: (&*message.reference).into(),
            event: (&*message.event).into(),
            payload,
        }
    }

    pub fn bytes(&self) -> usize {
        Self::size(&self.inbound(""))
    }

    pub fn is_join(&self) -> bool {
        &*self.event == "phx_join"
    }

    pub fn is_leave(&self) -> bool {
        &*self.event == "phx_leave"
    }

    /// The message as it came.
    pub fn inbound(&self, topic: &str) -> Inbound<'_> {
        Inbound {
            join_ref: Cow::Borrowed(&self.join_ref),
            reference: Cow::Borrowed(&self.reference),
            topic: Some(Cow::Owned(topic.to_owned())),
            topic_json: Cow::Owned(json_string(topic)),
            event: Cow::Borrowed(&self.event),
            payload: match &self.payload {
                Data::Json(json) => Payload::Json(json),
                Data::Binary(data) => Payload::Binary(data),
                Data::TooDeep => Payload::TooDeep,
            },
        }
    }
}
