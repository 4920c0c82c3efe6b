//! Plain JSON over a WebSocket, for everybody who has no Phoenix client.
//!
//! Every message is one object with a `type`. A client sends `subscribe`, `unsubscribe`, `publish`
//! and `ping`, each with an `id` of its choice that the answer repeats; what it gets are `welcome`,
//! `subscribed`, `unsubscribed`, `event`, `reply`, `pong` and `error`. Whatever a client gets wrong
//! is answered with an `error` that says what came and what is accepted, and the connection goes on.
//! `docs/json.md` is the reference.
//!
//! `decode` reads messages, `receive` acts on them, `object` has the forms of all answers and `write`
//! their frames.

mod decode;
pub(in crate::dialect) mod object;
mod receive;
mod write;

use crate::dialect::websocket;
use crate::gateway::{Began, Body, Dialect, End, Event, Gateway, Notes, Unsent, Verdict};
use crate::hub::{ConnKey, SubKey};
use crate::log::Position;

pub use decode::{decode, Message, Trouble};
pub(in crate::dialect) use receive::{BUSY, NO_SUCH_TOPIC, TOO_MANY};

/// The dialect; see the module's text.
#[derive(Debug, Clone, Copy)]
pub struct Json;

/// What is kept with a subscription.
#[derive(Debug)]
struct Asked {
    /// What the client called its `subscribe`, as JSON text; empty once it is answered.
    id: Box<str>,
}

impl Asked {
    fn of<H>(gateway: &mut Gateway<H>, sub: SubKey) -> Option<&mut Self> {
        gateway.hub.sub_mut(sub)?.seat.notes.downcast_mut()
    }
}

impl<H> Dialect<H> for Json {
    fn variants(&self) -> &'static [&'static str] {
        &["json"]
    }

    fn opened(&self, gateway: &mut Gateway<H>, conn: ConnKey) {
        gateway.hub.direct(conn, write::welcome);
    }

    fn encode(&self, _: u8, event: &Event<'_>, out: &mut Vec<u8>) -> bool {
        write::event(out, event);
        true
    }

    fn message<'f>(
        &self,
        gateway: &mut Gateway<H>,
        conn: ConnKey,
        text: bool,
        message: &'f [u8],
    ) -> Verdict<'f> {
        receive::message(gateway, conn, text, message)
    }

    fn accept(
        &self,
        gateway: &mut Gateway<H>,
        sub: SubKey,
        response: Body<'_>,
        began: Option<Began>,
    ) -> Result<(), Unsent> {
        let (conn, topic) = gateway.addressee(sub)?;
        let asked = Asked::of(gateway, sub).ok_or(Unsent::Ended)?;
        let id = std::mem::take(&mut asked.id);
        gateway.hub.ordered(conn, |out| {
            write::subscribed(out, &id, &topic, response, began);
        });
        Ok(())
    }

    fn refuse(&self, gateway: &mut Gateway<H>, sub: SubKey, response: &[u8]) {
        let Ok((conn, topic)) = gateway.addressee(sub) else {
            return;
        };
        if let Some(subscription) = gateway.release(sub) {
            abandon(gateway, conn, &topic, subscription.notes, response);
        }
    }

    fn reply(
        &self,
        gateway: &mut Gateway<H>,
        sub: SubKey,
        reference: &str,
        status: &str,
        body: Body<'_>,
    ) -> Result<(), Unsent> {
        let (conn, topic) = gateway.addressee(sub)?;
        if reference == "null" {
            // It named no id, so it asked for no answer.
            return Ok(());
        }
        gateway.hub.ordered(conn, |out| {
            write::reply(out, reference, &topic, status, body);
        });
        Ok(())
    }

    fn published(
        &self,
        gateway: &mut Gateway<H>,
        sub: SubKey,
        reference: &str,
        position: Option<Position>,
    ) -> Result<(), Unsent> {
        let (conn, topic) = gateway.addressee(sub)?;
        gateway.hub.ordered(conn, |out| {
            write::published(out, reference, &topic, position);
        });
        Ok(())
    }

    fn push(
        &self,
        gateway: &mut Gateway<H>,
        sub: SubKey,
        event: &str,
        body: Body<'_>,
    ) -> Result<(), Unsent> {
        let (conn, topic) = gateway.addressee(sub)?;
        let event = Event {
            topic: &topic,
            event,
            body,
            position: None,
        };
        gateway.hub.ordered(conn, |out| write::event(out, &event));
        Ok(())
    }

    fn end(
        &self,
        gateway: &mut Gateway<H>,
        conn: ConnKey,
        topic: &str,
        notes: Notes,
        how: End<'_>,
    ) {
        let (id, reason) = match how {
            End::Left { reference } => (reference, "left"),
            End::Closed => ("null", "closed"),
            End::Crashed => ("null", "crashed"),
        };
        let response = format!("{{\"reason\":\"{reason}\"}}");
        abandon(gateway, conn, topic, notes, response.as_bytes());
        gateway.hub.ordered(conn, |out| {
            write::unsubscribed(out, id, topic, reason);
        });
    }

    fn ping(&self, out: &mut Vec<u8>) {
        websocket::ping(out);
    }

    fn close(
        &self,
        _: &mut Gateway<H>,
        _: ConnKey,
        code: u16,
        reason: &str,
        out: &mut Vec<u8>,
    ) -> bool {
        websocket::close(code, reason, out)
    }
}

/// Answers a subscription that will not be; nothing, where it has begun.
fn abandon<H>(gateway: &mut Gateway<H>, conn: ConnKey, topic: &str, notes: Notes, response: &[u8]) {
    let Ok(asked) = notes.downcast::<Asked>() else {
        return;
    };
    if !asked.id.is_empty() {
        gateway.hub.ordered(conn, |out| {
            write::refused(out, &asked.id, topic, response);
        });
    }
}
