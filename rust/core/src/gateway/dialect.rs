//! What a protocol must be able to say and to understand; the folders of `crate::dialect` do.
//!
//! The gateway decides what happens, a dialect how it is said: the gateway calls it with bytes that
//! came ([`Dialect::message`]) and with everything a client of its must be told. A dialect is one
//! value for all its connections. What it knows of a subscription lies in that subscription
//! (`Subscription::notes`), what it knows of a connection in that connection (`Link::notes`).
//!
//! One dialect may write in several ways (Phoenix V1 and V2), its *variants*, counted from 0. Each is
//! a codec of the hub's, and a connection has exactly one.

use std::any::Any;

use crate::hub::{ConnKey, SubKey};
use crate::log::Position;

use super::{Body, Event, Gateway, Unsent, Verdict};

/// What a dialect keeps with a subscription or a connection.
pub type Notes = Box<dyn Any + Send + Sync>;

/// How a subscription ended, for the client's ears.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End<'a> {
    /// The client asked for it, with this reference.
    Left { reference: &'a str },
    /// The server ended it in good order.
    Closed,
    /// Whoever served it failed.
    Crashed,
}

/// How a subscription begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Began {
    /// Where the topic's log stands. What the client gets from now on comes after this, but for
    /// what it missed.
    pub position: Position,
    pub recovery: Recovery,
}

/// What becomes of a client that said where it had been.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recovery {
    /// It said nothing.
    NotAsked,
    /// So many messages follow that it missed, before anything newer.
    Complete(u64),
    /// It cannot be given all, and must start afresh; why, in a stable word.
    Lost(&'static str),
}

impl Began {
    /// The same in JSON: the members of an object, without its braces.
    pub fn members(&self) -> String {
        let Position { epoch, offset } = self.position;
        let place = format!("\"epoch\":{epoch},\"offset\":{offset}");
        match self.recovery {
            Recovery::NotAsked => place,
            Recovery::Complete(missed) => {
                format!("{place},\"recovered\":true,\"missed\":{missed}")
            }
            Recovery::Lost(why) => format!("{place},\"recovered\":false,\"why\":\"{why}\""),
        }
    }
}

/// One protocol.
pub trait Dialect<H>: Send + Sync {
    /// The names of its variants, by which connections are opened.
    fn variants(&self) -> &'static [&'static str];

    /// A connection of it has been opened: for protocols in which the server speaks first.
    fn opened(&self, _gateway: &mut Gateway<H>, _conn: ConnKey) {}

    /// Appends one broadcast as it stands on the wire, framing included; false when `variant` cannot
    /// carry it, in which case nothing may be appended. Called once per message and variant in use.
    fn encode(&self, variant: u8, event: &Event<'_>, out: &mut Vec<u8>) -> bool;

    /// Understands one whole message of a client; `text` is valid UTF-8 where it says so. Answers by
    /// itself what needs no decision.
    fn message<'f>(
        &self,
        gateway: &mut Gateway<H>,
        conn: ConnKey,
        text: bool,
        message: &'f [u8],
    ) -> Verdict<'f>;

    /// Tells a client that its join is accepted. `began` where the topic keeps a log.
    ///
    /// # Errors
    /// [`Unsent`]; nothing was sent then.
    fn accept(
        &self,
        gateway: &mut Gateway<H>,
        sub: SubKey,
        response: Body<'_>,
        began: Option<Began>,
    ) -> Result<(), Unsent>;

    /// Tells a client that its join is refused, after which the subscription is released.
    /// `response` is a JSON object with a `reason`.
    fn refuse(&self, gateway: &mut Gateway<H>, sub: SubKey, response: &[u8]);

    /// Answers one message; `reference` is what the client called it.
    ///
    /// # Errors
    /// [`Unsent`].
    fn reply(
        &self,
        gateway: &mut Gateway<H>,
        sub: SubKey,
        reference: &str,
        status: &str,
        body: Body<'_>,
    ) -> Result<(), Unsent>;

    /// Answers a message that has been published; `position` where the topic keeps a log.
    ///
    /// # Errors
    /// [`Unsent`].
    fn published(
        &self,
        gateway: &mut Gateway<H>,
        sub: SubKey,
        reference: &str,
        _position: Option<Position>,
    ) -> Result<(), Unsent> {
        self.reply(gateway, sub, reference, "ok", Body::Json(b"{}"))
    }

    /// Sends one event to one client.
    ///
    /// # Errors
    /// [`Unsent`].
    fn push(
        &self,
        gateway: &mut Gateway<H>,
        sub: SubKey,
        event: &str,
        body: Body<'_>,
    ) -> Result<(), Unsent>;

    /// Tells a client that a subscription is over. It is released already; `notes` are what the
    /// dialect kept with it. One that was not decided yet is answered first.
    fn end(&self, gateway: &mut Gateway<H>, conn: ConnKey, topic: &str, notes: Notes, how: End<'_>);

    /// Appends the question whether a silent client is there; its answer is a sign of life.
    fn ping(&self, _out: &mut Vec<u8>) {}

    /// Appends the last bytes of a connection: why it is closed. True when the client answers them
    /// (a WebSocket close); otherwise the transport is closed behind them.
    fn close(
        &self,
        gateway: &mut Gateway<H>,
        conn: ConnKey,
        code: u16,
        reason: &str,
        out: &mut Vec<u8>,
    ) -> bool;

    /// What tells a silent client that the server is there, in protocols that have such a thing; None
    /// when this is no moment for it.
    fn sign(&self, _gateway: &mut Gateway<H>, _conn: ConnKey) -> Option<&'static [u8]> {
        None
    }
}
