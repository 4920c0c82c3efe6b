//! One bound for the histories of all topics.
//!
//! A topic's ring is bounded by its policy, but topics are free to invent: a client that visits one
//! after the other would leave a full ring behind in each, until their age ends them. So what all
//! of them cost is counted, and past `Config::history_bytes` the topic that was published to longest
//! ago gives its oldest message, then the next one. One message at a time, so that a publish never
//! frees much more than it brings; an ordered map of topics, since a walk over all of them would be
//! a pause that grows with their number.

use crate::log::{History, Position};

use super::batch::TopicKey;
use super::topic::Topic;
use super::{Hub, Publish};

/// What a topic costs that only its history keeps alive: itself and its places in the hub's maps.
pub const TOPIC_BYTES: usize = 1024;

impl Topic {
    /// What is kept of it, as `Config::history_bytes` counts it.
    fn kept_bytes(&self) -> usize {
        match &self.history {
            Some(history) if !history.is_empty() => {
                history.bytes() + TOPIC_BYTES + self.address.len()
            }
            _ => 0,
        }
    }
}

impl<S> Hub<S> {
    /// A topic's history as it is now: what is past its age is gone.
    pub fn history(&mut self, topic: &str) -> Option<&History> {
        let key = *self.by_name.get(topic)?;
        self.expire_history(key);
        self.topics.get(key)?.history.as_ref()
    }

    /// Where the history of a topic that is not there would begin.
    pub fn birth(&self) -> Position {
        Position {
            epoch: self.epoch,
            offset: 0,
        }
    }

    /// Numbers a message of a topic that keeps history, and keeps all histories within their bound.
    /// May forget the topic.
    pub(super) fn keep<E>(&mut self, key: TopicKey, message: &Publish<'_, E>) -> Option<Position> {
        let history = self.topics.get(key)?.history.as_ref()?;
        let at = Position {
            offset: history.offset() + 1,
            ..history.position()
        };
        self.keep_at(key, message, at);
        Some(at)
    }

    /// Keeps a message that has its number already; false when it was kept before.
    pub(super) fn keep_at<E>(
        &mut self,
        key: TopicKey,
        message: &Publish<'_, E>,
        at: Position,
    ) -> bool {
        let now = self.now_ms;
        let latest = self.kept.last_key_value().map(|(at, _)| *at);
        let Some(topic) = self.topics.get_mut(key) else {
            return false;
        };
        let before = topic.kept_bytes();
        let Some(history) = &mut topic.history else {
            return false;
        };
        let Publish {
            event,
            payload,
            binary,
            ..
        } = message;
        if !history.push_at(at, event, payload, *binary, now) {
            return false;
        }
        if latest.is_none() || latest != topic.kept_at {
            if let Some(at) = topic.kept_at.replace(self.stats.published) {
                self.kept.remove(&at);
            }
            self.kept.insert(self.stats.published, key);
        }
        self.recount(key, before);
        while self.stats.history_bytes > self.config.history_bytes {
            let Some((_, oldest)) = self.kept.first_key_value() else {
                break;
            };
            self.shed(*oldest);
        }
        true
    }

    /// Says where the log of a durable topic stands, see [`History::open`].
    pub fn open_log(&mut self, topic: &str, position: Position, floor: u64) {
        let Some(key) = self.by_name.get(topic).copied() else {
            return;
        };
        let Some(topic) = self.topics.get_mut(key) else {
            return;
        };
        let before = topic.kept_bytes();
        if let Some(history) = &mut topic.history {
            history.open(position, floor);
        }
        self.recount(key, before);
    }

    fn shed(&mut self, key: TopicKey) {
        let Some(topic) = self.topics.get_mut(key) else {
            return;
        };
        let before = topic.kept_bytes();
        if topic.history.as_mut().is_some_and(History::forget_oldest) {
            self.stats.history_shed += 1;
        }
        self.recount(key, before);
    }

    pub(super) fn expire_histories(&mut self) {
        let kept: Vec<TopicKey> = self.kept.values().copied().collect();
        for key in kept {
            self.expire_history(key);
        }
    }

    fn expire_history(&mut self, key: TopicKey) {
        let now = self.now_ms;
        let Some(topic) = self.topics.get_mut(key) else {
            return;
        };
        let before = topic.kept_bytes();
        if let Some(history) = &mut topic.history {
            history.expire(now);
            self.recount(key, before);
        }
    }

    /// Counts again what a topic keeps; one that keeps nothing any more may be idle.
    fn recount(&mut self, key: TopicKey, before: usize) {
        let Some(topic) = self.topics.get_mut(key) else {
            return;
        };
        let after = topic.kept_bytes();
        self.stats.history_bytes = self.stats.history_bytes - before + after;
        if after == 0 {
            if let Some(at) = topic.kept_at.take() {
                self.kept.remove(&at);
            }
            self.forget_if_idle(key);
        }
    }
}
