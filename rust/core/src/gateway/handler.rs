//! Native handlers: code of the engine that owns a topic, or looks after one beside its driver.
//!
//! A [`Service`] is registered with a route ([`Gateway::serve`]) and makes one [`Handler`] per topic,
//! which keeps that topic's state. A handler is asked before the driver is: what it passes on goes on
//! as if it were not there, so presence can look after the topics of Python channels, and a relay or
//! a document room can do without Python altogether. It answers now or later: everything it says goes
//! through [`Act`], which it is lent for the length of one call.
//!
//! What holds for every handler:
//! - calls for one topic come one at a time, and a handler is never called from within its own call:
//!   what its acts bring about (a subscription it accepts, one it ends) it is told afterwards;
//! - `joined` comes once the subscription is in the topic's live order, `left` once and for every
//!   subscription that the topic was joined with, whether it had been accepted or not;
//! - a topic's handlers are born with its first subscription and dropped when the last one has ended
//!   and all of them agree ([`Handler::may_unload`]);
//! - a panic ends that topic's subscriptions as a crash does, and nothing else: the handlers are
//!   dropped, and the next join makes new ones.
//!
//! [`Gateway::serve`]: super::Gateway::serve

use std::any::Any;
use std::sync::Arc;

use crate::hub::SubKey;
use crate::log::Position;

use super::{Body, Unsent};

/// Makes the handlers of a route's topics.
pub trait Service: Send + Sync {
    /// What it is called in logs.
    fn name(&self) -> &'static str;

    /// Whether clients may send messages to a topic that is push-only otherwise.
    fn hears(&self) -> bool {
        false
    }

    /// A topic is joined for the first time, or again after it was unloaded.
    fn born(&self, topic: &str) -> Box<dyn Handler>;
}

/// A client that wants to join.
#[derive(Debug, Clone, Copy)]
pub struct Asking<'a> {
    pub sub: SubKey,
    /// What the pattern's parameters stand for.
    pub params: &'a [(String, String)],
    pub payload: Body<'a>,
}

/// What a handler has to say to a join.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Not its business: the next handler is asked, and the driver last.
    Pass,
    /// Accepted, with this JSON as the response.
    Accept(Vec<u8>),
    /// Refused, with this JSON object, which has a `reason`.
    Refuse(Vec<u8>),
    /// [`Act::accept`] or [`Act::refuse`] will say; messages are kept meanwhile, within bounds.
    Later,
}

/// What a client sends.
#[derive(Debug, Clone, Copy)]
pub struct Said<'a> {
    pub sub: SubKey,
    pub event: &'a str,
    pub body: Body<'a>,
    /// What the answer has to name, now or later; None when nobody waits for one.
    pub reference: Option<&'a str>,
}

/// The state of one topic. Every method but none must be written; see the module's text.
pub trait Handler: Send + Sync {
    fn join(&mut self, _act: &mut Act<'_>, _join: &Asking<'_>) -> Decision {
        Decision::Pass
    }

    /// A subscription gets what is published from now on.
    fn joined(&mut self, _act: &mut Act<'_>, _sub: SubKey) {}

    /// False to pass it on.
    fn message(&mut self, _act: &mut Act<'_>, _said: &Said<'_>) -> bool {
        false
    }

    /// A subscription has ended; nothing can be sent to it any more.
    fn left(&mut self, _act: &mut Act<'_>, _sub: SubKey) {}

    /// The driver says or asks something in words of the handler's own (`Gateway::tell`).
    fn told(&mut self, _act: &mut Act<'_>, _what: &mut dyn Any) {}

    /// The time of the last [`Act::wake_at`] has come.
    fn tick(&mut self, _act: &mut Act<'_>) {}

    /// Nobody is subscribed: whether the topic's state may go. Asked again after every call until it
    /// may, so what is still to be done then (a save, a delay) ends in a `told` or a `tick`.
    fn may_unload(&self) -> bool {
        true
    }
}

/// What a handler wants of the driver.
pub struct Request {
    pub topic: Arc<str>,
    pub what: Box<dyn Any + Send + Sync>,
}

/// A handler that panicked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Crash {
    pub topic: Arc<str>,
    pub service: &'static str,
    pub message: String,
}

/// A message that a handler published and that somebody of the driver's wants to see.
#[derive(Debug)]
pub struct Echo {
    pub topic: Arc<str>,
    pub event: Box<str>,
    pub payload: Box<[u8]>,
    pub binary: bool,
    /// Subscriptions whose channel sees it before its client does.
    pub interceptors: Vec<SubKey>,
    /// Whether the topic is watched ([`Gateway::watch`]).
    pub watched: bool,
}

/// What the gateway does for handlers: [`Act`] without a topic.
pub(super) trait Desk {
    fn now_ms(&self) -> u64;
    fn replica(&self) -> u64;
    fn accept(&mut self, sub: SubKey, response: Body<'_>) -> Result<(), Unsent>;
    fn refuse(&mut self, sub: SubKey, response: &[u8]) -> Result<(), Unsent>;
    fn answer(
        &mut self,
        sub: SubKey,
        reference: &str,
        status: &str,
        body: Body<'_>,
    ) -> Result<(), Unsent>;
    fn acknowledge(
        &mut self,
        sub: SubKey,
        reference: &str,
        position: Option<Position>,
    ) -> Result<(), Unsent>;
    fn send(&mut self, sub: SubKey, event: &str, body: Body<'_>) -> Result<(), Unsent>;
    fn broadcast(
        &mut self,
        topic: &str,
        event: &str,
        body: Body<'_>,
        key: Option<&str>,
        except: SubKey,
    ) -> Option<Position>;
    fn announce(&mut self, topic: &str, event: &str, body: Body<'_>);
    fn finish(&mut self, sub: SubKey, crash: bool);
    fn count_limited(&mut self);
    fn wake_at(&mut self, place: Place, at_ms: u64);
    fn request(&mut self, topic: &Arc<str>, what: Box<dyn Any + Send + Sync>);
}

slotmap::new_key_type! {
    /// One topic that has handlers.
    pub struct OwnerKey;
}

/// One handler of one topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub owner: OwnerKey,
    pub number: usize,
}

/// What a handler may do while it is called, on its topic. Whatever is said to a subscription that
/// has ended goes nowhere ([`Unsent::Ended`]), which is normal.
pub struct Act<'g> {
    pub(super) desk: &'g mut (dyn Desk + 'g),
    pub(super) topic: &'g Arc<str>,
    pub(super) place: Place,
}

impl Act<'_> {
    pub fn topic(&self) -> &str {
        self.topic
    }

    /// Milliseconds of the driver's steady clock.
    pub fn now_ms(&self) -> u64 {
        self.desk.now_ms()
    }

    /// Names this process among all there were and will be.
    pub fn replica(&self) -> u64 {
        self.desk.replica()
    }

    /// Accepts a join that was answered with [`Decision::Later`].
    ///
    /// # Errors
    /// [`Unsent`].
    pub fn accept(&mut self, sub: SubKey, response: Body<'_>) -> Result<(), Unsent> {
        self.desk.accept(sub, response)
    }

    /// Refuses a join that was answered with [`Decision::Later`].
    ///
    /// # Errors
    /// [`Unsent`].
    pub fn refuse(&mut self, sub: SubKey, response: &[u8]) -> Result<(), Unsent> {
        self.desk.refuse(sub, response)
    }

    /// Answers a message, in the call that brought it or in a later one.
    ///
    /// # Errors
    /// [`Unsent`].
    pub fn reply(
        &mut self,
        sub: SubKey,
        reference: &str,
        status: &str,
        body: Body<'_>,
    ) -> Result<(), Unsent> {
        self.desk.answer(sub, reference, status, body)
    }

    /// Answers a message that has been published, with its place where the topic keeps a log.
    ///
    /// # Errors
    /// [`Unsent`].
    pub fn published(
        &mut self,
        sub: SubKey,
        reference: &str,
        position: Option<Position>,
    ) -> Result<(), Unsent> {
        self.desk.acknowledge(sub, reference, position)
    }

    /// Sends one event to one subscription.
    ///
    /// # Errors
    /// [`Unsent`].
    pub fn push(&mut self, sub: SubKey, event: &str, body: Body<'_>) -> Result<(), Unsent> {
        self.desk.send(sub, event, body)
    }

    /// Publishes to the topic as anybody does: it is logged and conflated by `key` where the topic
    /// says so. `except` gets none of it; [`SubKey::default`] is nobody.
    pub fn publish(
        &mut self,
        event: &str,
        body: Body<'_>,
        key: Option<&str>,
        except: SubKey,
    ) -> Option<Position> {
        self.desk.broadcast(self.topic, event, body, key, except)
    }

    /// Sends an event to all subscriptions, in order and without loss whatever the topic's delivery,
    /// and without a place in its log: for state that a newcomer is given otherwise.
    pub fn announce(&mut self, event: &str, body: Body<'_>) {
        self.desk.announce(self.topic, event, body);
    }

    /// Ends a subscription, in good order or as a crash does.
    pub fn end(&mut self, sub: SubKey, crash: bool) {
        self.desk.finish(sub, crash);
    }

    /// Counts a message that came faster than its sender may.
    pub fn count_limited(&mut self) {
        self.desk.count_limited();
    }

    /// Asks for one [`Handler::tick`] at a time (or soon after), instead of any asked for before.
    pub fn wake_at(&mut self, at_ms: u64) {
        self.desk.wake_at(self.place, at_ms);
    }

    /// Asks something of the driver, in words of the handler's own (`Gateway::next_request`). The
    /// answer comes as [`Handler::told`].
    pub fn request(&mut self, what: Box<dyn Any + Send + Sync>) {
        self.desk.request(self.topic, what);
    }
}
