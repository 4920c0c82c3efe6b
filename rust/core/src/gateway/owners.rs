//! The books of native handlers, and the one place where they are called.
//!
//! [`Gateway::call`] takes a handler out of its topic, lends it the gateway and puts it back. What a
//! call brings about for handlers (a join accepted, a subscription ended) is queued and told after it
//! ([`Gateway::settle_handlers`]), so no handler is entered twice. A panic is caught here and nowhere
//! else; what the gateway had been asked to do before it stays done.

use std::any::Any;
use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::Arc;

use slotmap::SlotMap;

use crate::hub::SubKey;
use crate::log::Position;

use super::handler::{Crash, Desk, Echo, OwnerKey, Place, Request};
use super::{
    Act, Asking, Body, Decision, End, Gateway, Handler, Kind, Said, Service, Stage, Subscription,
    Unsent, Verdict,
};

const CRASHED: &[u8] = b"{\"reason\":\"join crashed\"}";
const UNKNOWN: &[u8] = b"{\"reason\":\"unknown event\"}";

/// What a subscription to an owned topic keeps of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Owned {
    owner: OwnerKey,
    sub: SubKey,
}

/// One topic's handlers.
struct Owner {
    topic: Arc<str>,
    services: Arc<[Arc<dyn Service>]>,
    /// In the order of the services; None while one is called.
    handlers: Vec<Option<Box<dyn Handler>>>,
    /// When each wants to be woken.
    wakes: Vec<Option<u64>>,
    subscriptions: usize,
}

/// What handlers are to be told.
enum Pending {
    Joined(OwnerKey, SubKey),
    Left(OwnerKey, SubKey),
}

/// See the module's text.
#[derive(Default)]
pub(super) struct Owners {
    /// By the numbers of the routes; routes without any may be left out at the end.
    services: Vec<Arc<[Arc<dyn Service>]>>,
    all: SlotMap<OwnerKey, Owner>,
    by_topic: HashMap<Arc<str>, OwnerKey>,
    wakes: BTreeSet<(u64, Place)>,
    pending: VecDeque<Pending>,
    busy: bool,
    requests: VecDeque<Request>,
    crashes: VecDeque<Crash>,
    echoes: VecDeque<Echo>,
    watched: HashSet<Box<str>>,
    replica: u64,
}

impl Owners {
    pub(super) fn new(replica: u64) -> Self {
        Self {
            replica,
            ..Self::default()
        }
    }

    fn services(&self, route: usize) -> Option<&Arc<[Arc<dyn Service>]>> {
        let services = self.services.get(route);
        services.filter(|services| !services.is_empty())
    }

    fn forget(&mut self, key: OwnerKey) -> Option<Owner> {
        let owner = self.all.remove(key)?;
        self.by_topic.remove(&owner.topic);
        for (number, wake) in owner.wakes.iter().enumerate() {
            if let Some(at) = wake {
                self.wakes.remove(&(*at, Place { owner: key, number }));
            }
        }
        Some(owner)
    }
}

/// Runs code of a handler; what it says when it panics.
fn guarded<R>(run: impl FnOnce() -> R) -> Result<R, String> {
    // Nothing of ours is looked at behind a panic but what the gateway keeps in order by itself; the
    // handler's own state, which may be half changed, is dropped.
    catch_unwind(AssertUnwindSafe(run)).map_err(|panic| {
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
        text.unwrap_or_else(|| "a panic without a text".to_owned())
    })
}

impl<H> Gateway<H> {
    /// Puts a service at a route, behind those that are there: its topics have a handler of it.
    pub fn serve(&mut self, route: usize, service: Arc<dyn Service>) {
        let services = &mut self.owners.services;
        if services.len() <= route {
            services.resize_with(route + 1, || Arc::new([]));
        }
        let more = services[route].iter().cloned().chain([service]);
        services[route] = more.collect();
    }

    /// Whether clients of a subscription have nobody to send messages to.
    pub fn is_push_only(&self, subscription: &Subscription<H>) -> bool {
        let hears = |services: &Arc<[Arc<dyn Service>]>| services.iter().any(|s| s.hears());
        self.kind(subscription) == Kind::Stream
            && !self.owners.services(subscription.route).is_some_and(hears)
    }

    /// Binds a subscription to its topic's handlers, which may have to be made.
    pub(super) fn own(&mut self, route: usize, topic: &str, sub: SubKey) {
        let Some(services) = self.owners.services(route).cloned() else {
            return;
        };
        let known = self.owners.by_topic.get(topic).copied();
        let Some(owner) = known.or_else(|| self.give_birth(topic, services)) else {
            return;
        };
        let Some(held) = self.hub.sub_mut(sub) else {
            // The connection is gone: nobody will leave.
            self.retire(owner);
            return;
        };
        held.seat.owned = Some(Owned { owner, sub });
        self.owners.all[owner].subscriptions += 1;
    }

    fn give_birth(&mut self, topic: &str, services: Arc<[Arc<dyn Service>]>) -> Option<OwnerKey> {
        let mut handlers = Vec::with_capacity(services.len());
        for service in services.iter() {
            match guarded(|| service.born(topic)) {
                Ok(handler) => handlers.push(Some(handler)),
                Err(message) => {
                    self.note_crash(topic.into(), service.name(), message);
                    return None;
                }
            }
        }
        let topic: Arc<str> = topic.into();
        let owner = self.owners.all.insert(Owner {
            topic: topic.clone(),
            services,
            wakes: vec![None; handlers.len()],
            handlers,
            subscriptions: 0,
        });
        self.owners.by_topic.insert(topic, owner);
        Some(owner)
    }

    fn owned(&self, sub: SubKey) -> Option<OwnerKey> {
        Some(self.hub.sub(sub)?.seat.owned.as_ref()?.owner)
    }

    /// How many handlers a topic has; 0 when it is gone.
    fn handlers(&self, owner: OwnerKey) -> usize {
        self.owners.all.get(owner).map_or(0, |o| o.handlers.len())
    }

    /// Offers a verdict to the topic's handlers; what comes back is for the driver to decide. Joins
    /// pass here when they are taken from their queue, messages as every transport reads them and
    /// when a decision sets them free.
    pub(crate) fn offer<'f>(&mut self, verdict: Verdict<'f>) -> Verdict<'f> {
        let left = match verdict {
            Verdict::Join {
                sub,
                route,
                ref params,
                ref payload,
                ..
            } if self.owners.services(route).is_some() => {
                let payload = payload.body();
                let join = Asking {
                    sub,
                    params,
                    payload,
                };
                (!self.ask_join(&join)).then_some(verdict)
            }
            Verdict::Message {
                sub,
                ref event,
                ref payload,
                ref reference,
                size,
            } => match self.owned(sub) {
                Some(owner) => {
                    let said = Said {
                        sub,
                        event,
                        body: payload.body(),
                        reference: (reference != "null").then_some(&**reference),
                    };
                    let taken = self.hear(owner, &said);
                    if taken {
                        self.taken(sub, size);
                    }
                    (!taken).then_some(verdict)
                }
                None => Some(verdict),
            },
            other => return other,
        };
        self.settle_handlers();
        left.unwrap_or(Verdict::Done)
    }

    /// True when a handler decides.
    fn ask_join(&mut self, join: &Asking<'_>) -> bool {
        let Some(owner) = self.owned(join.sub) else {
            // Its handlers could not be made; who has gone meanwhile needs no answer.
            let _ = self.join_error(join.sub, CRASHED);
            return true;
        };
        for number in 0..self.handlers(owner) {
            let place = Place { owner, number };
            match self.call(place, |handler, act| handler.join(act, join)) {
                Some(Decision::Pass) => {}
                Some(Decision::Accept(response)) => {
                    let _ = self.join_ok(join.sub, Body::Json(&response));
                    return true;
                }
                Some(Decision::Refuse(response)) => {
                    let _ = self.join_error(join.sub, &response);
                    return true;
                }
                Some(Decision::Later) | None => return true,
            }
        }
        false
    }

    /// True when a handler has taken the message, or nobody else would.
    fn hear(&mut self, owner: OwnerKey, said: &Said<'_>) -> bool {
        let Some(held) = self.hub.sub(said.sub).map(|sub| &sub.seat) else {
            return true;
        };
        let alone = self.kind(held) == Kind::Stream;
        for number in 0..self.handlers(owner) {
            let place = Place { owner, number };
            match self.call(place, |handler, act| handler.message(act, said)) {
                Some(false) => {}
                Some(true) | None => return true,
            }
        }
        if let (true, Some(reference)) = (alone, said.reference) {
            let _ = self.reply(said.sub, reference, "error", Body::Json(UNKNOWN));
        }
        alone
    }

    // -- what has happened to subscriptions

    /// A subscription is in its topic's live order.
    pub(super) fn activated(&mut self, sub: SubKey) {
        if let Some(owner) = self.owned(sub) {
            self.owners.pending.push_back(Pending::Joined(owner, sub));
            self.settle_handlers();
        }
    }

    /// A subscription has ended, however. The caller settles.
    pub(super) fn disowned(&mut self, subscription: &Subscription<H>) {
        if let Some(owned) = &subscription.owned {
            let left = Pending::Left(owned.owner, owned.sub);
            self.owners.pending.push_back(left);
        }
    }

    /// Tells handlers what has happened, unless one is being called.
    pub(super) fn settle_handlers(&mut self) {
        if self.owners.pending.is_empty() || std::mem::replace(&mut self.owners.busy, true) {
            return;
        }
        while let Some(pending) = self.owners.pending.pop_front() {
            match pending {
                Pending::Joined(owner, sub) => {
                    self.call_all(owner, |handler, act| handler.joined(act, sub));
                }
                Pending::Left(owner, sub) => {
                    self.call_all(owner, |handler, act| handler.left(act, sub));
                    if let Some(owner) = self.owners.all.get_mut(owner) {
                        owner.subscriptions -= 1;
                    }
                    self.retire(owner);
                }
            }
        }
        self.owners.busy = false;
    }

    // -- the driver's part

    /// Says something to the handlers of a subscription's topic; false when it has none.
    pub fn tell(&mut self, sub: SubKey, what: &mut dyn Any) -> bool {
        let owner = self.owned(sub);
        owner.is_some_and(|owner| self.tell_owner(owner, what))
    }

    /// Says something to the handlers of a topic; false when nobody has joined it, or it has none.
    pub fn tell_topic(&mut self, topic: &str, what: &mut dyn Any) -> bool {
        let owner = self.owners.by_topic.get(topic).copied();
        owner.is_some_and(|owner| self.tell_owner(owner, what))
    }

    fn tell_owner(&mut self, owner: OwnerKey, what: &mut dyn Any) -> bool {
        self.call_all(owner, |handler, act| handler.told(act, what));
        self.settle_handlers();
        self.retire(owner);
        true
    }

    /// What a handler asks of the driver.
    pub fn next_request(&mut self) -> Option<Request> {
        self.owners.requests.pop_front()
    }

    /// A handler that panicked, for the log.
    pub fn next_crash(&mut self) -> Option<Crash> {
        self.owners.crashes.pop_front()
    }

    /// What handlers published and somebody of the driver's wants to see.
    pub fn next_echo(&mut self) -> Option<Echo> {
        self.owners.echoes.pop_front()
    }

    /// Whether the driver wants to see ([`Gateway::next_echo`]) what handlers publish to a topic.
    pub fn watch(&mut self, topic: &str, on: bool) {
        if on {
            self.owners.watched.insert(topic.into());
        } else {
            self.owners.watched.remove(topic);
        }
    }

    /// When [`Gateway::wake`] has something to do next, on the hub's clock.
    pub fn next_wake(&self) -> Option<u64> {
        self.owners.wakes.first().map(|(at, _)| *at)
    }

    /// Lets those handlers go on whose time has come.
    pub fn wake(&mut self) {
        let now = self.hub.now_ms();
        // One that asks for a time that has come already waits for the next turn.
        for _ in 0..self.owners.wakes.len() {
            let Some((at, place)) = self.owners.wakes.first().copied() else {
                return;
            };
            if at > now {
                return;
            }
            self.owners.wakes.pop_first();
            if let Some(owner) = self.owners.all.get_mut(place.owner) {
                owner.wakes[place.number] = None;
            }
            self.call(place, |handler, act| handler.tick(act));
            self.settle_handlers();
            self.retire(place.owner);
        }
    }

    // -- calls

    fn call_all(&mut self, owner: OwnerKey, mut run: impl FnMut(&mut dyn Handler, &mut Act<'_>)) {
        for number in 0..self.handlers(owner) {
            self.call(Place { owner, number }, &mut run);
        }
    }

    /// Calls one handler; None when it is gone, or has just gone with a panic.
    fn call<R>(
        &mut self,
        place: Place,
        run: impl FnOnce(&mut dyn Handler, &mut Act<'_>) -> R,
    ) -> Option<R> {
        let owner = self.owners.all.get_mut(place.owner)?;
        let mut handler = owner.handlers.get_mut(place.number)?.take()?;
        let topic = owner.topic.clone();
        let busy = std::mem::replace(&mut self.owners.busy, true);
        let mut act = Act {
            desk: self,
            topic: &topic,
            place,
        };
        let outcome = guarded(|| run(&mut *handler, &mut act));
        self.owners.busy = busy;
        match outcome {
            Ok(value) => {
                if let Some(owner) = self.owners.all.get_mut(place.owner) {
                    owner.handlers[place.number] = Some(handler);
                }
                Some(value)
            }
            Err(message) => {
                let _ = guarded(move || drop(handler));
                self.fail(place, message);
                None
            }
        }
    }

    /// Ends every subscription of a topic whose handler has panicked.
    fn fail(&mut self, place: Place, message: String) {
        let Some(owner) = self.owners.forget(place.owner) else {
            return;
        };
        let Owner {
            topic,
            services,
            handlers,
            ..
        } = owner;
        let _ = guarded(move || drop(handlers));
        self.note_crash(topic.clone(), services[place.number].name(), message);
        for sub in self.hub.subs_of(&topic) {
            if self.owned(sub) != Some(place.owner) {
                continue;
            }
            let Some(held) = self.hub.sub_mut(sub).map(|sub| &mut sub.seat) else {
                continue;
            };
            let (joining, handle) = (held.stage == Stage::Joining, held.handle.take());
            if joining {
                let _ = self.join_error(sub, CRASHED);
            } else {
                let _ = self.end_with(sub, End::Crashed);
            }
            self.tell_ended(handle, "crash");
        }
    }

    fn note_crash(&mut self, topic: Arc<str>, service: &'static str, message: String) {
        self.counts.handler_crashes += 1;
        self.owners.crashes.push_back(Crash {
            topic,
            service,
            message,
        });
    }

    /// Drops the handlers of a topic that nobody is subscribed to, when they agree.
    fn retire(&mut self, key: OwnerKey) {
        let Some(owner) = self.owners.all.get(key) else {
            return;
        };
        if owner.subscriptions > 0 {
            return;
        }
        let agree = |handler: &Option<Box<dyn Handler>>| {
            // One that is being called is asked when it returns.
            handler.as_ref().is_some_and(|handler| handler.may_unload())
        };
        let agreed = guarded(|| owner.handlers.iter().all(agree));
        if agreed != Ok(false) {
            let owner = self.owners.forget(key);
            let _ = guarded(move || drop(owner));
        }
    }
}

impl<H> Desk for Gateway<H> {
    fn now_ms(&self) -> u64 {
        self.hub.now_ms()
    }

    fn replica(&self) -> u64 {
        self.owners.replica
    }

    fn accept(&mut self, sub: SubKey, response: Body<'_>) -> Result<(), Unsent> {
        self.join_ok(sub, response).map(|_| ())
    }

    fn refuse(&mut self, sub: SubKey, response: &[u8]) -> Result<(), Unsent> {
        self.join_error(sub, response)
    }

    fn answer(
        &mut self,
        sub: SubKey,
        reference: &str,
        status: &str,
        body: Body<'_>,
    ) -> Result<(), Unsent> {
        self.reply(sub, reference, status, body)
    }

    fn acknowledge(
        &mut self,
        sub: SubKey,
        reference: &str,
        position: Option<Position>,
    ) -> Result<(), Unsent> {
        let (_, dialect) = self.dialect_of(sub)?;
        dialect.published(self, sub, reference, position)
    }

    fn send(&mut self, sub: SubKey, event: &str, body: Body<'_>) -> Result<(), Unsent> {
        self.push(sub, event, body)
    }

    fn broadcast(
        &mut self,
        topic: &str,
        event: &str,
        body: Body<'_>,
        key: Option<&str>,
        except: SubKey,
    ) -> Option<Position> {
        let published = self.publish(topic, event, body, key, except);
        self.echo(topic, event, body, published.interceptors);
        published.position
    }

    fn announce(&mut self, topic: &str, event: &str, body: Body<'_>) {
        for interceptors in self.publish_unlogged(topic, event, body) {
            self.echo(topic, event, body, interceptors);
        }
    }

    fn finish(&mut self, sub: SubKey, crash: bool) {
        let handle = self.end(sub, crash);
        self.tell_ended(handle, if crash { "crash" } else { "closed" });
    }

    fn count_limited(&mut self) {
        self.counts.rate_limited += 1;
    }

    fn wake_at(&mut self, place: Place, at_ms: u64) {
        let Some(owner) = self.owners.all.get_mut(place.owner) else {
            return;
        };
        if let Some(before) = owner.wakes[place.number].replace(at_ms) {
            self.owners.wakes.remove(&(before, place));
        }
        self.owners.wakes.insert((at_ms, place));
    }

    fn request(&mut self, topic: &Arc<str>, what: Box<dyn Any + Send + Sync>) {
        let topic = topic.clone();
        self.owners.requests.push_back(Request { topic, what });
    }
}

impl<H> Gateway<H> {
    fn echo(&mut self, topic: &str, event: &str, body: Body<'_>, interceptors: Vec<SubKey>) {
        let watched = !self.owners.watched.is_empty() && self.owners.watched.contains(topic);
        if interceptors.is_empty() && !watched {
            return;
        }
        self.owners.echoes.push_back(Echo {
            topic: topic.into(),
            event: event.into(),
            payload: body.bytes().into(),
            binary: body.is_binary(),
            interceptors,
            watched,
        });
    }
}
