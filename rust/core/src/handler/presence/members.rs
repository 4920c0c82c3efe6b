//! The set of who is present, and what has changed in it since the others were told.
//!
//! # Theory
//!
//! A client holds a copy: it is given the whole once (the state) and changes afterwards (diffs), each
//! a set of metas that joined and a set that left, told apart by their references. A reference is
//! never used twice, so applying a diff to a copy that knows part of it already changes nothing, and
//! a newcomer may be given the state at any time between two diffs.
//!
//! What joined and left between two diffs cancels out, with one exception: a newcomer may have seen
//! the meta in its state (`shown`). It must be told that the meta left; whoever never saw it ignores
//! that. So after every diff each copy equals the set, whenever its owner joined.

use std::collections::{BTreeMap, HashMap};

use crate::hub::SubKey;
use crate::json::{quote, with_members};

use super::reference::Reference;

/// Why a wish is not carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denied {
    /// The subscription is tracked under this key already.
    AlreadyTracked,
    /// The subscription is not tracked under this key.
    NoPresence,
    /// The meta is no JSON object.
    NoObject,
}

impl Denied {
    /// In a stable word; the first two are Phoenix's.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AlreadyTracked => "already_tracked",
            Self::NoPresence => "nopresence",
            Self::NoObject => "no_object",
        }
    }
}

#[derive(Debug, Clone)]
struct Meta {
    owner: SubKey,
    reference: Reference,
    /// The object clients get.
    json: Box<[u8]>,
    /// What its reference replaced, where the others know that one.
    previous: Option<Reference>,
}

/// A meta in the next diff.
#[derive(Debug)]
struct Change {
    reference: Reference,
    json: Box<[u8]>,
    /// A state that a newcomer was given had it.
    shown: bool,
}

type Changes = BTreeMap<Box<str>, Vec<Change>>;

/// The members of one topic. Keys are opaque text.
#[derive(Debug, Default)]
pub struct Members {
    metas: BTreeMap<Box<str>, Vec<Meta>>,
    /// The keys a subscription is tracked under.
    keys: HashMap<SubKey, Vec<Box<str>>>,
    joins: Changes,
    leaves: Changes,
    /// The state in JSON, until something changes.
    state: Option<Vec<u8>>,
}

impl Members {
    /// How many keys are present.
    pub fn len(&self) -> usize {
        self.metas.len()
    }

    pub fn is_empty(&self) -> bool {
        self.metas.is_empty()
    }

    pub fn has_changed(&self) -> bool {
        !self.joins.is_empty() || !self.leaves.is_empty()
    }

    /// Adds a subscription under a key.
    ///
    /// # Errors
    /// [`Denied`].
    pub fn track(
        &mut self,
        sub: SubKey,
        key: &str,
        meta: &[u8],
        reference: Reference,
    ) -> Result<(), Denied> {
        let of = self.metas.get(key);
        if of.is_some_and(|metas| metas.iter().any(|meta| meta.owner == sub)) {
            return Err(Denied::AlreadyTracked);
        }
        let meta = Self::make(sub, meta, reference, None)?;
        self.keys.entry(sub).or_default().push(key.into());
        self.add(key, meta);
        Ok(())
    }

    /// Gives a subscription's presence under a key another meta.
    ///
    /// # Errors
    /// [`Denied`].
    pub fn update(
        &mut self,
        sub: SubKey,
        key: &str,
        meta: &[u8],
        reference: Reference,
    ) -> Result<(), Denied> {
        let of = self.metas.get(key).into_iter().flatten();
        let old = of.clone().find(|meta| meta.owner == sub);
        let old = old.ok_or(Denied::NoPresence)?;
        // What nobody has heard of is no previous one to anybody.
        let previous = match self.pending(key, &old.reference) {
            Some(change) if !change.shown => old.previous.clone(),
            _ => Some(old.reference.clone()),
        };
        let meta = Self::make(sub, meta, reference, previous)?;
        self.remove(sub, key);
        self.add(key, meta);
        Ok(())
    }

    /// Takes a subscription from under a key; nothing when it is not there.
    pub fn untrack(&mut self, sub: SubKey, key: &str) {
        if let Some(keys) = self.keys.get_mut(&sub) {
            keys.retain(|tracked| **tracked != *key);
            if keys.is_empty() {
                self.keys.remove(&sub);
            }
        }
        self.remove(sub, key);
    }

    /// Takes a subscription from under all its keys.
    pub fn forget(&mut self, sub: SubKey) {
        for key in self.keys.remove(&sub).unwrap_or_default() {
            self.remove(sub, &key);
        }
    }

    fn make(
        owner: SubKey,
        meta: &[u8],
        reference: Reference,
        previous: Option<Reference>,
    ) -> Result<Meta, Denied> {
        let mut more = format!("\"phx_ref\":\"{}\"", reference.as_str());
        if let Some(previous) = &previous {
            let previous = [",\"phx_ref_prev\":\"", previous.as_str(), "\""];
            more.push_str(&previous.concat());
        }
        let json = with_members(meta, &more).ok_or(Denied::NoObject)?;
        Ok(Meta {
            owner,
            reference,
            json: json.into(),
            previous,
        })
    }

    fn add(&mut self, key: &str, meta: Meta) {
        self.state = None;
        let change = Change {
            reference: meta.reference.clone(),
            json: meta.json.clone(),
            shown: false,
        };
        self.joins.entry(key.into()).or_default().push(change);
        self.metas.entry(key.into()).or_default().push(meta);
    }

    fn remove(&mut self, sub: SubKey, key: &str) {
        let Some(metas) = self.metas.get_mut(key) else {
            return;
        };
        let Some(at) = metas.iter().position(|meta| meta.owner == sub) else {
            return;
        };
        self.state = None;
        let meta = metas.remove(at);
        if metas.is_empty() {
            self.metas.remove(key);
        }
        let unseen = self
            .take_join(key, &meta.reference)
            .is_some_and(|join| !join.shown);
        if !unseen {
            self.leaves.entry(key.into()).or_default().push(Change {
                reference: meta.reference,
                json: meta.json,
                shown: true,
            });
        }
    }

    fn pending(&self, key: &str, reference: &Reference) -> Option<&Change> {
        let changes = self.joins.get(key)?;
        changes.iter().find(|join| join.reference == *reference)
    }

    fn take_join(&mut self, key: &str, reference: &Reference) -> Option<Change> {
        let changes = self.joins.get_mut(key)?;
        let at = changes
            .iter()
            .position(|join| join.reference == *reference)?;
        let join = changes.remove(at);
        if changes.is_empty() {
            self.joins.remove(key);
        }
        Some(join)
    }

    /// Who is present, `{key: {"metas": [..]}}`, for somebody who is sent no diffs.
    pub fn state(&mut self) -> &[u8] {
        let metas = &self.metas;
        self.state.get_or_insert_with(|| {
            let mut out = Vec::new();
            let entries = metas.iter();
            object(
                &mut out,
                entries.map(|(key, metas)| (&**key, metas.iter().map(|meta| &*meta.json))),
            );
            out
        })
    }

    /// The same for a newcomer, who is sent diffs from now on.
    pub fn show(&mut self) -> &[u8] {
        for join in self.joins.values_mut().flatten() {
            join.shown = true;
        }
        self.state()
    }

    /// What has changed since the last diff, `{"joins": .., "leaves": ..}`; None for nothing.
    pub fn take_diff(&mut self) -> Option<Vec<u8>> {
        if !self.has_changed() {
            return None;
        }
        let mut out = b"{\"joins\":".to_vec();
        changes(&mut out, &std::mem::take(&mut self.joins));
        out.extend_from_slice(b",\"leaves\":");
        changes(&mut out, &std::mem::take(&mut self.leaves));
        out.push(b'}');
        Some(out)
    }

    /// The same where nobody is sent it.
    pub fn forget_diff(&mut self) {
        self.joins.clear();
        self.leaves.clear();
    }
}

fn changes(out: &mut Vec<u8>, changes: &Changes) {
    object(
        out,
        changes
            .iter()
            .map(|(key, changes)| (&**key, changes.iter().map(|change| &*change.json))),
    );
}

/// Appends `{key: {"metas": [..]}, ..}`.
fn object<'a, M: Iterator<Item = &'a [u8]>>(
    out: &mut Vec<u8>,
    entries: impl Iterator<Item = (&'a str, M)>,
) {
    out.push(b'{');
    for (number, (key, metas)) in entries.enumerate() {
        if number > 0 {
            out.push(b',');
        }
        out.extend_from_slice(quote(key).as_bytes());
        out.extend_from_slice(b":{\"metas\":[");
        for (number, meta) in metas.enumerate() {
            if number > 0 {
                out.push(b',');
            }
            out.extend_from_slice(meta);
        }
        out.extend_from_slice(b"]}");
    }
    out.push(b'}');
}
