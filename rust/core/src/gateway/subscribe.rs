//! A subscription's life: asked for, decided, talked on, ended.
//!
//! A join under way holds a place on its topic that is not served yet, so that the socket goes on:
//! the client may send messages (the driver keeps them), leave, or join again.

use std::sync::Arc;

use crate::hub::{ConnKey, SubKey};

use crate::log::Position;

use super::replay::Resume;
use super::undecided::Undecided;
use super::{Body, Content, End, Full, Gateway, Kind, Notes, Route, Stage, Subscription, Unsent};

/// Where a topic leads to on a connection's mount.
#[derive(Debug)]
pub struct Target {
    pub route: usize,
    /// What the pattern's parameters stand for.
    pub params: Vec<(String, String)>,
}

/// A client's wish to join.
pub struct Join<'a> {
    /// What it says of itself: JSON or bytes.
    pub payload: Content<'a>,
    /// Where it says it has been, on a topic that keeps a log.
    pub since: Option<Position>,
    pub notes: Notes,
}

/// Why nobody is asked about a join.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// No route of the mount matches.
    Unmatched,
    /// The connection has as many subscriptions as its mount allows.
    TooMany,
}

impl<H> Gateway<H> {
    /// Finds what serves a topic for a client that wants to join it.
    ///
    /// # Errors
    /// [`Refusal`]. One that is subscribed already is never one too many: the new subscription
    /// takes the place of the old one.
    pub fn target(&self, conn: ConnKey, topic: &str) -> Result<Target, Refusal> {
        let mount = self.mount(conn).ok_or(Refusal::Unmatched)?;
        let found = mount.router.find(topic).ok_or(Refusal::Unmatched)?;
        let joined = self.hub.conn(conn).map_or(0, |c| c.subs().len());
        if joined >= mount.max_channels && self.hub.find(conn, topic).is_none() {
            return Err(Refusal::TooMany);
        }
        let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        Ok(Target {
            route: mount.routes[found.route],
            params: found.params.into_iter().map(owned).collect(),
        })
    }

    /// Takes a place on a topic for a join that is to be decided, see [`Gateway::next_join`].
    ///
    /// # Errors
    /// [`Full`] when too much of this client, or of all, waits to be decided already.
    pub fn subscribe(
        &mut self,
        conn: ConnKey,
        topic: &str,
        target: Target,
        join: Join<'_>,
    ) -> Result<SubKey, Full> {
        let waiting = self.admit_join(conn, join.payload.bytes.len())?;
        self.counts.channels += 1;
        let Route {
            policy, intercepts, ..
        } = self.routes[target.route].clone();
        let subscription = Subscription {
            route: target.route,
            stage: Stage::Joining,
            handle: None,
            undecided: Some(Box::new(Undecided::new(target.params, &join.payload))),
            waiting,
            resume: join.since.map(|since| Box::new(Resume::Asked(since))),
            owned: None,
            notes: join.notes,
        };
        let sub = self
            .hub
            .reserve(conn, topic, policy, intercepts, subscription);
        self.own(target.route, topic, sub);
        self.requests.push(conn, sub);
        Ok(sub)
    }

    /// Gives up a subscription; queued broadcasts still reach the client first.
    pub fn release(&mut self, sub: SubKey) -> Option<Subscription<H>> {
        let conn = self.hub.sub(sub)?.conn;
        let mut subscription = self.hub.release(sub)?;
        self.counts.channels -= 1;
        self.inward
            .forget(conn, std::mem::take(&mut subscription.waiting));
        self.disowned(&subscription);
        self.settle_handlers();
        Some(subscription)
    }

    /// Keeps what the driver wants to find again with a channel, or with a stream's join until it
    /// is decided. Gives back what was kept before, or `handle` itself when it is too late.
    pub fn set_handle(&mut self, sub: SubKey, handle: H) -> Option<H> {
        let routes = &self.routes;
        let subscription = self.hub.sub_mut(sub).map(|sub| &mut sub.seat);
        match subscription {
            Some(held)
                if held.stage == Stage::Joining || routes[held.route].kind != Kind::Stream =>
            {
                held.handle.replace(handle)
            }
            _ => Some(handle),
        }
    }

    /// Accepts a join: its answer goes out, then broadcasts. Gives back a stream's handle: once
    /// joined, its subscribers cost the driver nothing.
    ///
    /// # Errors
    /// [`Unsent::Ended`] when the client has gone, left or joined again meanwhile;
    /// [`Unsent::Unencodable`] for a binary response that its protocol cannot carry, in which case
    /// the client gets the answer of a crashed join.
    pub fn join_ok(&mut self, sub: SubKey, response: Body<'_>) -> Result<Option<H>, Unsent> {
        let (conn, dialect) = self.dialect_of(sub)?;
        self.must_be_joining(sub)?;
        let (began, next) = self.begin(sub);
        let accepted = dialect.accept(self, sub, response, began);
        if accepted == Err(Unsent::Unencodable) {
            self.join_error(sub, b"{\"reason\":\"join crashed\"}")?;
        }
        accepted?;
        self.counts.joins += 1;
        match next {
            None => self.hub.activate(sub),
            Some(next) => self.replay_from(sub, next),
        }
        let Some(held) = self.hub.sub_mut(sub).map(|sub| &mut sub.seat) else {
            return Ok(None);
        };
        held.stage = Stage::Joined;
        let stream = self.routes[held.route].kind == Kind::Stream;
        let handle = stream.then(|| held.handle.take()).flatten();
        let undecided = held.undecided.take();
        self.inward.forget(conn, std::mem::take(&mut held.waiting));
        if next.is_none() {
            self.activated(sub);
        }
        self.unblock(conn, undecided);
        Ok(handle)
    }

    /// Refuses a join; the place is free again.
    ///
    /// # Errors
    /// [`Unsent::Ended`] when nobody waits any more.
    pub fn join_error(&mut self, sub: SubKey, response: &[u8]) -> Result<(), Unsent> {
        let (conn, dialect) = self.dialect_of(sub)?;
        self.must_be_joining(sub)?;
        self.counts.joins_refused += 1;
        let held = self.hub.sub_mut(sub).map(|sub| &mut sub.seat);
        let undecided = held.and_then(|held| held.undecided.take());
        dialect.refuse(self, sub, response);
        self.unblock(conn, undecided);
        Ok(())
    }

    /// Whose subscription it is, and to what.
    ///
    /// # Errors
    /// [`Unsent::Ended`].
    pub fn addressee(&self, sub: SubKey) -> Result<(ConnKey, Arc<str>), Unsent> {
        let conn = self.hub.sub(sub).ok_or(Unsent::Ended)?.conn;
        Ok((conn, self.hub.topic_name(sub).ok_or(Unsent::Ended)?))
    }

    fn must_be_joining(&self, sub: SubKey) -> Result<(), Unsent> {
        let joining = |sub: &&crate::hub::Sub<Subscription<H>>| sub.seat.stage == Stage::Joining;
        self.hub.sub(sub).filter(joining).ok_or(Unsent::Ended)?;
        Ok(())
    }

    fn must_be_joined(&self, sub: SubKey) -> Result<(), Unsent> {
        match self.must_be_joining(sub) {
            Ok(()) => Err(Unsent::Ended),
            Err(ended) => self.hub.sub(sub).map(|_| ()).ok_or(ended),
        }
    }

    /// Answers one message of a joined channel; may be called again for the same reference.
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
        let (_, dialect) = self.dialect_of(sub)?;
        self.must_be_joined(sub)?;
        dialect.reply(self, sub, reference, status, body)
    }

    /// Sends one event to one client.
    ///
    /// # Errors
    /// [`Unsent`].
    pub fn push(&mut self, sub: SubKey, event: &str, body: Body<'_>) -> Result<(), Unsent> {
        let (_, dialect) = self.dialect_of(sub)?;
        self.must_be_joined(sub)?;
        dialect.push(self, sub, event, body)
    }

    /// Ends a subscription that its client leaves. Returns the handle.
    pub fn finish_leave(&mut self, sub: SubKey, reference: &str) -> Option<H> {
        let handle = self.end_with(sub, End::Left { reference }).ok()?;
        self.counts.leaves += 1;
        handle
    }

    /// Ends a subscription from the server's side, in good order or for a crash. Returns its handle.
    pub fn end(&mut self, sub: SubKey, crash: bool) -> Option<H> {
        let how = if crash { End::Crashed } else { End::Closed };
        self.end_with(sub, how).ok()?
    }

    pub(super) fn end_with(&mut self, sub: SubKey, how: End<'_>) -> Result<Option<H>, Unsent> {
        let (conn, dialect) = self.dialect_of(sub)?;
        let topic = self.hub.topic_name(sub).ok_or(Unsent::Ended)?;
        let mut subscription = self.release(sub).ok_or(Unsent::Ended)?;
        let undecided = subscription.undecided.take();
        dialect.end(self, conn, &topic, subscription.notes, how);
        self.unblock(conn, undecided);
        Ok(subscription.handle)
    }
}
