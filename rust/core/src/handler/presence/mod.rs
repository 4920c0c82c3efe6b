//! Presence: who is on a topic, told to everybody on it, as `Phoenix.Presence` does.
//!
//! A subscription is tracked under a key of the application's choice, with a *meta*, a JSON object.
//! Every subscription that joins is sent `presence_state`, the whole; what changes afterwards is sent
//! to all as `presence_diff`. Diffs are gathered for [`BATCH_MS`], so a member costs the others a part
//! of a frame and not a frame each: n joins are n states and a few diffs, not n squared frames. What a
//! subscription tracked goes with it, however it ends.
//!
//! In [`Mode::Count`] clients are told the number of keys instead, as `presence_count`, once per
//! batch: for topics whose list no client could use.
//!
//! [`Members`] is the state and knows no gateway.

mod members;
mod reference;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;

use crate::gateway::{Act, Body, Handler, Service};
use crate::hub::SubKey;

pub use members::{Denied, Members};
pub use reference::Reference;

/// How long a change may wait for others to travel with.
pub const BATCH_MS: u64 = 100;

/// What clients are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Every key with its metas.
    List,
    /// How many keys there are.
    Count,
}

/// The service; one for all topics of a route.
#[derive(Debug)]
pub struct Presence {
    mode: Mode,
    /// References given so far: no topic of the route repeats one of its own, unloaded or not.
    given: Arc<AtomicU64>,
}

impl Presence {
    pub fn new(mode: Mode) -> Self {
        Self {
            mode,
            given: Arc::default(),
        }
    }

    /// # Errors
    /// What is wrong with the options.
    pub fn from_options(options: &str) -> Result<Self, String> {
        let given: Option<serde_json::Value> = serde_json::from_str(options).ok();
        let mode = given.as_ref().and_then(|given| given.get("mode")?.as_str());
        match mode {
            Some("list") => Ok(Self::new(Mode::List)),
            Some("count") => Ok(Self::new(Mode::Count)),
            _ => Err(format!(
                "presence takes {{\"mode\": \"list\"}} or \"count\", got {options}"
            )),
        }
    }
}

impl Service for Presence {
    fn name(&self) -> &'static str {
        "presence"
    }

    fn born(&self, _topic: &str) -> Box<dyn Handler> {
        Box::new(Topic {
            mode: self.mode,
            given: self.given.clone(),
            members: Members::default(),
            told: 0,
            waking: false,
        })
    }
}

/// What a driver wants of a topic's presence; tell it (`Gateway::tell`) and look at `answer`.
#[derive(Debug)]
pub struct Ask {
    pub sub: SubKey,
    pub key: Box<str>,
    pub wish: Wish,
    /// None when the topic has no presence.
    pub answer: Option<Result<(), Denied>>,
}

/// What may be asked for; metas are JSON objects.
#[derive(Debug)]
pub enum Wish {
    Track(Box<[u8]>),
    Update(Box<[u8]>),
    Untrack,
}

/// Asks for a topic's presences: `{"count": n, "presences": {key: {"metas": [..]}}}`, whatever the
/// mode; None when the topic has no presence.
#[derive(Debug, Default)]
pub struct Read {
    pub answer: Option<Vec<u8>>,
}

/// One topic.
struct Topic {
    mode: Mode,
    given: Arc<AtomicU64>,
    members: Members,
    /// The number of keys that clients were told last.
    told: usize,
    waking: bool,
}

impl Topic {
    fn carry_out(&mut self, act: &Act<'_>, ask: &Ask) -> Result<(), Denied> {
        let number = self.given.fetch_add(1, Ordering::Relaxed);
        let reference = Reference::new(act.replica(), number);
        match &ask.wish {
            Wish::Track(meta) => self.members.track(ask.sub, &ask.key, meta, reference)?,
            Wish::Update(meta) => self.members.update(ask.sub, &ask.key, meta, reference)?,
            Wish::Untrack => self.members.untrack(ask.sub, &ask.key),
        }
        Ok(())
    }

    /// Sees to it that what has changed is told in time.
    fn changed(&mut self, act: &mut Act<'_>) {
        if !self.waking && self.members.has_changed() {
            self.waking = true;
            act.wake_at(act.now_ms() + BATCH_MS);
        }
    }

    fn count(&self) -> String {
        format!("{{\"count\":{}}}", self.members.len())
    }
}

impl Handler for Topic {
    fn joined(&mut self, act: &mut Act<'_>, sub: SubKey) {
        // Whoever has gone meanwhile needs no state.
        let _ = match self.mode {
            Mode::List => act.push(sub, "presence_state", Body::Json(self.members.show())),
            Mode::Count => act.push(sub, "presence_count", Body::Json(self.count().as_bytes())),
        };
    }

    fn left(&mut self, act: &mut Act<'_>, sub: SubKey) {
        self.members.forget(sub);
        self.changed(act);
    }

    fn told(&mut self, act: &mut Act<'_>, what: &mut dyn std::any::Any) {
        if let Some(ask) = what.downcast_mut::<Ask>() {
            ask.answer = Some(self.carry_out(act, ask));
            self.changed(act);
        } else if let Some(read) = what.downcast_mut::<Read>() {
            let mut all = format!("{{\"count\":{},\"presences\":", self.members.len()).into_bytes();
            all.extend_from_slice(self.members.state());
            all.push(b'}');
            read.answer = Some(all);
        }
    }

    fn tick(&mut self, act: &mut Act<'_>) {
        self.waking = false;
        match self.mode {
            Mode::List => {
                if let Some(diff) = self.members.take_diff() {
                    act.announce("presence_diff", Body::Json(&diff));
                }
            }
            Mode::Count => {
                self.members.forget_diff();
                if self.told != self.members.len() {
                    self.told = self.members.len();
                    act.announce("presence_count", Body::Json(self.count().as_bytes()));
                }
            }
        }
    }
}
