//! What a frame asks the driver to decide.

use std::borrow::Cow;

use crate::hub::SubKey;

use super::Body;

/// What a message carries: JSON text or raw bytes, borrowed from its frame when it came in one.
#[derive(Debug)]
pub struct Content<'f> {
    pub binary: bool,
    pub bytes: Cow<'f, [u8]>,
}

impl Content<'_> {
    pub fn body(&self) -> Body<'_> {
        if self.binary {
            Body::Binary(&self.bytes)
        } else {
            Body::Json(&self.bytes)
        }
    }

    fn own<'f>(self) -> Content<'f> {
        Content {
            binary: self.binary,
            bytes: Cow::Owned(self.bytes.into_owned()),
        }
    }
}

/// What a frame asks the driver to decide.
#[derive(Debug)]
pub enum Verdict<'f> {
    /// Nothing: it has been answered, or needs no answer.
    Done,
    /// Answer with `Gateway::join_ok` or `join_error`. Given by `Gateway::next_join` alone.
    Join {
        sub: SubKey,
        route: usize,
        topic: Cow<'f, str>,
        params: Vec<(String, String)>,
        payload: Content<'f>,
    },
    /// For a joined channel. Say `Gateway::taken` with `size` once it waits no longer.
    Message {
        sub: SubKey,
        event: Cow<'f, str>,
        payload: Content<'f>,
        reference: Cow<'f, str>,
        size: usize,
    },
    /// The client leaves; answer with `Gateway::finish_leave` once earlier messages are handled.
    Leave {
        sub: SubKey,
        reference: Cow<'f, str>,
    },
}

impl Verdict<'_> {
    /// The same with everything it says copied, for a message that does not outlive the call.
    pub(crate) fn own<'f>(self) -> Verdict<'f> {
        fn text<'f>(text: Cow<'_, str>) -> Cow<'f, str> {
            Cow::Owned(text.into_owned())
        }
        match self {
            Self::Done => Verdict::Done,
            Self::Leave { sub, reference } => Verdict::Leave {
                sub,
                reference: text(reference),
            },
            Self::Join {
                sub,
                route,
                topic,
                params,
                payload,
            } => Verdict::Join {
                sub,
                route,
                topic: text(topic),
                params,
                payload: payload.own(),
            },
            Self::Message {
                sub,
                event,
                payload,
                reference,
                size,
            } => Verdict::Message {
                sub,
                event: text(event),
                payload: payload.own(),
                reference: text(reference),
                size,
            },
        }
    }
}
