//! The gateway: mounts and routes, joins and ends, publishing. It knows no protocol.
//!
//! A connection is a sink of the hub and a [`Dialect`]. Bytes go through the dialect, which answers
//! by itself what needs no decision and returns a [`Verdict`] for what does. Joins come through
//! [`Gateway::next_join`], in turn over all connections. The driver decides and says so through [`Gateway::join_ok`], [`Gateway::reply`] and the others, now or later: a slow
//! join blocks nothing. The gateway keeps the books (who has joined, what has ended, what is
//! counted) and lets the dialect say it to the client. `H` is whatever the driver wants to find
//! again with a subscription.
//!
//! After any call the driver should look at [`Gateway::next_ended`], [`Gateway::next_deferred`],
//! [`Gateway::next_complaint`] and, through `hub`, at flushes, writes and actions.

mod dialect;
mod ends;
mod event;
mod handler;
mod inward;
mod owners;
mod publish;
mod replay;
mod subscribe;
mod undecided;
mod verdict;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use slotmap::SecondaryMap;

use crate::hub::{Codec, ConnKey, Hub, Intercepts, Policy, Silence, Sink, SubKey};
use crate::router::{PatternError, Router};
use crate::ws::{Assembler, FrameReader};

pub use dialect::{Began, Dialect, End, Notes, Recovery};
pub use event::{Body, Event};
pub use handler::{Act, Asking, Crash, Decision, Echo, Handler, OwnerKey, Request, Said, Service};
pub use inward::{Full, Inward, InwardLimits};
use owners::Owners;
pub use replay::Want;
use replay::{Replays, Resume};
pub use subscribe::{Join, Refusal, Target};
pub(crate) use undecided::message_size;
use undecided::{Requests, Undecided};
pub use undecided::{Wish, MAX_JOINS};
pub use verdict::{Content, Verdict};

/// A topic, event or reference longer than this is refused: they are kept, per subscription and
/// per message that waits.
pub const MAX_NAME: usize = 1024;

/// What serves a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The driver has something per subscriber, which gets every message.
    Channel,
    /// Nothing of the driver's per subscriber once joined. What clients send is for the route's
    /// handlers ([`Gateway::serve`]); without one that hears, it is push-only and answered here.
    Stream,
}

/// What a topic pattern leads to.
#[derive(Debug, Clone)]
pub struct Route {
    pub kind: Kind,
    pub policy: Policy,
    pub intercepts: Option<Intercepts>,
}

/// One mount's rules.
#[derive(Debug)]
pub struct Mount {
    router: Router,
    routes: Vec<usize>,
    pub max_channels: usize,
    pub max_message: usize,
    pub silence: Silence,
    /// How often a client that says nothing is sent a sign of life; 0 is never.
    pub sign_ms: u64,
}

/// How far a subscription has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Its join is not decided.
    Joining,
    Joined,
    /// Its client leaves; earlier messages are still handled.
    Leaving,
}

/// What the gateway keeps with a connection's place on a topic.
pub struct Subscription<H> {
    pub route: usize,
    pub stage: Stage,
    pub handle: Option<H>,
    /// While its join is not decided.
    undecided: Option<Box<Undecided>>,
    waiting: inward::Waiting,
    /// While its client has not come to the live order, see `replay`.
    resume: Option<Box<Resume>>,
    /// Where its topic has handlers, see `owners`.
    owned: Option<owners::Owned>,
    /// The dialect's own.
    pub notes: Notes,
}

/// One way of one dialect to write.
#[derive(Debug)]
struct Variant {
    name: &'static str,
    dialect: usize,
    /// Its number among the dialect's.
    number: u8,
}

/// What the gateway keeps with a connection.
#[derive(Default)]
pub struct Link {
    dialect: usize,
    variant: u8,
    /// A frame and a message that are not whole, where the connection is a WebSocket.
    pub reader: FrameReader,
    pub assembler: Assembler,
    /// The dialect's own; most keep nothing.
    pub notes: Option<Notes>,
}

/// Counters, totals since the start but for `channels`.
#[derive(Debug, Default, Clone)]
pub struct Counts {
    pub joins: u64,
    pub joins_refused: u64,
    pub leaves: u64,
    pub heartbeats: u64,
    pub stale: u64,
    pub unmatched: u64,
    /// Messages to push-only topics.
    pub to_stream: u64,
    /// Messages whose event or ref is longer than is kept.
    pub oversized: u64,
    /// Messages whose payload nests too deeply.
    pub too_deep: u64,
    /// Subscriptions now, undecided ones included.
    pub channels: u64,
    /// Messages to native handlers over their sender's rate.
    pub rate_limited: u64,
    /// Native handlers that panicked.
    pub handler_crashes: u64,
    pub undecodable: BTreeMap<&'static str, u64>,
    pub violations: BTreeMap<&'static str, u64>,
}

/// See the module's text.
pub struct Gateway<H> {
    pub hub: Hub<Subscription<H>>,
    pub counts: Counts,
    dialects: Vec<Arc<dyn Dialect<H>>>,
    /// By the numbers of the codecs.
    codecs: Vec<Variant>,
    links: SecondaryMap<ConnKey, Link>,
    mounts: Vec<Mount>,
    routes: Vec<Route>,
    ended: VecDeque<(H, &'static str)>,
    complaints: VecDeque<(ConnKey, u16, &'static str)>,
    replays: Replays,
    pub inward: Inward,
    requests: Requests,
    deferred: VecDeque<Verdict<'static>>,
    hasty: VecDeque<ConnKey>,
    owners: Owners,
}

/// Why an outgoing frame was not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unsent {
    /// The subscription has ended; nobody is there.
    Ended,
    /// The client's protocol has no form for it.
    Unencodable,
}

impl<H> Gateway<H> {
    pub fn new(hub: Hub<Subscription<H>>) -> Self {
        let owners = Owners::new(hub.birth().epoch);
        Self {
            hub,
            counts: Counts::default(),
            dialects: Vec::new(),
            codecs: Vec::new(),
            links: SecondaryMap::new(),
            mounts: Vec::new(),
            routes: Vec::new(),
            ended: VecDeque::new(),
            complaints: VecDeque::new(),
            replays: Replays::default(),
            inward: Inward::default(),
            requests: Requests::default(),
            deferred: VecDeque::new(),
            hasty: VecDeque::new(),
            owners,
        }
    }

    /// Adds a protocol. All dialects together have at most [`crate::hub::CODECS`] variants; those
    /// past it have no codec, and so no connections.
    pub fn add_dialect(&mut self, dialect: Arc<dyn Dialect<H>>) {
        let number = self.dialects.len();
        let variants = (0..).zip(dialect.variants());
        self.codecs.extend(variants.map(|(variant, name)| Variant {
            name,
            dialect: number,
            number: variant,
        }));
        self.dialects.push(dialect);
    }

    /// The names of all variants.
    pub fn variants(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.codecs.iter().map(|codec| codec.name)
    }

    /// The codec of a variant's name, to open its connections with.
    pub fn codec(&self, name: &str) -> Option<Codec> {
        let number = self.codecs.iter().position(|codec| codec.name == name)?;
        Codec::new(u8::try_from(number).ok()?)
    }

    pub fn add_mount(&mut self, max_channels: usize, max_message: usize, idle_ms: u64) -> u16 {
        self.mounts.push(Mount {
            router: Router::default(),
            routes: Vec::new(),
            max_channels,
            max_message,
            silence: Silence {
                idle_ms,
                ping_ms: 0,
            },
            sign_ms: 0,
        });
        u16::try_from(self.mounts.len() - 1).unwrap_or(u16::MAX)
    }

    /// Has a mount ping clients that were silent for so long; 0: never. See [`Silence`].
    pub fn ping_after(&mut self, mount: u16, ping_ms: u64) {
        if let Some(mount) = self.mounts.get_mut(usize::from(mount)) {
            mount.silence.ping_ms = ping_ms;
        }
    }

    /// Whether the driver has something to do before it hands over more.
    pub(crate) fn has_news(&self) -> bool {
        !self.ended.is_empty() || !self.complaints.is_empty() || self.hub.has_news()
    }

    /// Sends the clients of a mount a sign of life this often, where their dialect has one.
    pub fn send_signs(&mut self, mount: u16, every_ms: u64) {
        if let Some(mount) = self.mounts.get_mut(usize::from(mount)) {
            mount.sign_ms = every_ms;
        }
    }

    pub fn add_route(&mut self, route: Route) -> usize {
        self.routes.push(route);
        self.routes.len() - 1
    }

    /// Makes a route reachable under `pattern` on a mount, after those added before.
    ///
    /// # Errors
    /// [`PatternError`] when the text is no pattern.
    pub fn expose(&mut self, mount: u16, pattern: &str, route: usize) -> Result<(), PatternError> {
        if let Some(mount) = self.mounts.get_mut(usize::from(mount)) {
            mount.router.add(pattern)?;
            mount.routes.push(route);
        }
        Ok(())
    }

    /// Makes a mount's routes unreachable for joins to come, so that others can be exposed in their
    /// place. Who is joined stays: a subscription knows its route by number.
    pub fn withdraw(&mut self, mount: u16) {
        if let Some(mount) = self.mounts.get_mut(usize::from(mount)) {
            mount.router = Router::default();
            mount.routes.clear();
        }
    }

    /// A connection that is written to in a codec of [`Gateway::codec`], see [`Hub::open`].
    pub fn open(&mut self, codec: Codec, mount: u16, sink: Sink, id: Option<&str>) -> ConnKey {
        let conn = self.hub.open(codec, mount, sink, id);
        let known = self.codecs.get(codec.index());
        let (dialect, variant) = known.map_or((0, 0), |known| (known.dialect, known.number));
        let link = Link {
            dialect,
            variant,
            ..Link::default()
        };
        self.links.insert(conn, link);
        if let Some(dialect) = self.dialect(conn) {
            dialect.opened(self, conn);
        }
        conn
    }

    /// What is kept with a connection; None for one that is gone.
    pub fn link(&mut self, conn: ConnKey) -> Option<&mut Link> {
        self.links.get_mut(conn)
    }

    /// One whole message of a client, from a driver that reads messages by itself. One that closes
    /// is not heard any more.
    pub fn message<'f>(&mut self, conn: ConnKey, text: bool, message: &'f [u8]) -> Verdict<'f> {
        if !self.hub.conn(conn).is_some_and(crate::hub::Conn::is_open) {
            return Verdict::Done;
        }
        let Some(dialect) = self.dialect(conn) else {
            return Verdict::Done;
        };
        dialect.message(self, conn, text, message)
    }

    pub fn mount(&self, conn: ConnKey) -> Option<&Mount> {
        let number = self.hub.conn(conn)?.mount;
        self.mounts.get(usize::from(number))
    }

    /// The kind of what serves a subscription's topic.
    pub fn kind(&self, subscription: &Subscription<H>) -> Kind {
        self.routes[subscription.route].kind
    }

    /// Which way of its dialect a connection is written to; None when it is gone.
    pub(crate) fn variant(&self, conn: ConnKey) -> Option<u8> {
        Some(self.links.get(conn)?.variant)
    }

    pub(crate) fn dialect(&self, conn: ConnKey) -> Option<Arc<dyn Dialect<H>>> {
        let link = self.links.get(conn)?;
        self.dialects.get(link.dialect).cloned()
    }

    fn dialect_of(&self, sub: SubKey) -> Result<(ConnKey, Arc<dyn Dialect<H>>), Unsent> {
        let conn = self.hub.sub(sub).ok_or(Unsent::Ended)?.conn;
        Ok((conn, self.dialect(conn).ok_or(Unsent::Ended)?))
    }

    /// A subscription that ended without the driver asking, and why.
    pub fn next_ended(&mut self) -> Option<(H, &'static str)> {
        self.ended.pop_front()
    }

    /// Tells the driver that a subscription of its has ended.
    pub fn tell_ended(&mut self, handle: Option<H>, why: &'static str) {
        self.ended.extend(handle.map(|handle| (handle, why)));
    }

    /// A connection closed for what its client sent: close code and reason, for the log.
    pub fn next_complaint(&mut self) -> Option<(ConnKey, u16, &'static str)> {
        self.complaints.pop_front()
    }

    /// Everything of the driver's that is kept here, for a collector of garbage to see.
    pub fn handles(&self) -> impl Iterator<Item = &H> {
        let held = self.hub.seats().filter_map(|sub| sub.handle.as_ref());
        held.chain(self.ended.iter().map(|(handle, _)| handle))
    }

    /// Takes away what [`Gateway::handles`] shows; the subscriptions stay, without a driver.
    pub fn take_handles(&mut self) -> Vec<H> {
        let ended = self.ended.drain(..).map(|(handle, _)| handle);
        let held = self.hub.seats_mut().filter_map(|sub| sub.handle.take());
        held.chain(ended).collect()
    }
}
