//! Who subscribes to what: places on topics, taken, served, given up; topics, made and forgotten.
//!
//! A topic exists while somebody joins or has joined it, a run of it is queued, or its history is
//! worth keeping; refused joins therefore leave nothing behind.

use std::sync::Arc;

use super::batch::{ConnKey, SubKey, TopicKey};
use super::sub::{Intercepts, Sub};
use super::topic::{Member, Policy, Topic};
use super::Hub;

impl<S> Hub<S> {
    /// Takes a place on a topic that is not served yet (a join under way). A connection that is
    /// gone gets none: the key returned then names nothing.
    pub fn reserve(
        &mut self,
        conn: ConnKey,
        topic: &str,
        policy: Policy,
        intercepts: Option<Intercepts>,
        seat: S,
    ) -> SubKey {
        if !self.conns.contains_key(conn) {
            return SubKey::default();
        }
        let topic = self.topic_entry(topic, policy);
        self.topics[topic].joining += 1;
        let sub = self.subs.insert(Sub {
            conn,
            topic,
            place: None,
            intercepts,
            seat,
        });
        if let Some(conn) = self.conns.get_mut(conn) {
            conn.subs.push(sub);
        }
        sub
    }

    /// Moves a reserved place to a lane: a fan-out of its own, published to by `address`, whose
    /// frames carry the name of the topic the place was reserved on. A lane keeps no history.
    /// No client can name a lane: addresses are apart from topics. The topic's own name is the
    /// address of those who sit in no lane. False when the place is gone or served already.
    pub fn reseat(&mut self, key: SubKey, address: &str) -> bool {
        let Some(sub) = self.subs.get(key).filter(|sub| sub.place.is_none()) else {
            return false;
        };
        let from = sub.topic;
        let policy = Policy {
            history: None,
            ..self.topics[from].policy.clone()
        };
        let name = self.topics[from].name.clone();
        if *name == *address {
            return true;
        }
        let lane = self.lane_entry(address, name, policy);
        self.topics[lane].joining += 1;
        self.topics[from].joining -= 1;
        self.subs[key].topic = lane;
        self.forget_if_idle(from);
        true
    }

    /// Serves a reserved place from the next message on.
    pub fn activate(&mut self, key: SubKey) {
        let Some(sub) = self.subs.get(key) else {
            return;
        };
        let (conn_key, topic_key) = (sub.conn, sub.topic);
        if sub.place.is_some() {
            return;
        }
        // Rule 1: whatever is queued was published before this join.
        self.catch_up(conn_key);
        let (Some(conn), Some(topic)) = (self.conns.get(conn_key), self.topics.get_mut(topic_key))
        else {
            return;
        };
        let sub = &mut self.subs[key];
        topic.joining -= 1;
        topic.codecs[conn.codec.index()] += 1;
        topic.stamped += u32::from(conn.is_stamped());
        topic.intercepting += u32::from(sub.intercepts.is_some());
        sub.place = u32::try_from(topic.members.len()).ok();
        topic.members.push(Member {
            sub: key,
            conn: conn_key,
        });
    }

    /// Gives up a place; queued broadcasts still reach the connection first.
    pub fn release(&mut self, key: SubKey) -> Option<S> {
        let sub = self.subs.get(key)?;
        let (conn, topic) = (sub.conn, sub.topic);
        self.catch_up(conn);
        self.settle_lag(conn, topic);
        if let Some(conn) = self.conns.get_mut(conn) {
            conn.subs.retain(|s| *s != key);
        }
        self.drop_sub(key)
    }

    pub fn sub(&self, key: SubKey) -> Option<&Sub<S>> {
        self.subs.get(key)
    }

    pub fn sub_mut(&mut self, key: SubKey) -> Option<&mut Sub<S>> {
        self.subs.get_mut(key)
    }

    pub fn topic(&self, key: TopicKey) -> Option<&Topic> {
        self.topics.get(key)
    }

    pub fn topic_name(&self, key: SubKey) -> Option<Arc<str>> {
        let sub = self.subs.get(key)?;
        Some(self.topics.get(sub.topic)?.name.clone())
    }

    /// The topic of that name, or the lane of that address.
    pub fn topic_by_name(&self, name: &str) -> Option<&Topic> {
        self.topics.get(self.addressed(name)?)
    }

    /// What is published to under an address. A lane goes before a topic that is called like it.
    pub(super) fn addressed(&self, address: &str) -> Option<TopicKey> {
        let lane = self.lane_at.get(address);
        lane.or_else(|| self.by_name.get(address)).copied()
    }

    /// How many are subscribed to a topic, in whatever lane of it they sit.
    pub fn subscribers(&self, topic: &str) -> usize {
        let lanes = self.lanes.get(topic).into_iter().flatten();
        let lanes = lanes.filter_map(|lane| self.topics.get(*lane));
        let own = self.topic_by_name(topic);
        lanes.chain(own).map(Topic::subscribers).sum()
    }

    /// Every place on a topic, served or not, in whatever lane of it. Looks at all places there are:
    /// for what is rare.
    pub fn subs_of(&self, topic: &str) -> Vec<SubKey> {
        let on = |sub: &Sub<S>| {
            let topics = self.topics.get(sub.topic);
            topics.is_some_and(|found| &*found.name == topic)
        };
        let subs = self.subs.iter().filter(|(_, sub)| on(sub));
        subs.map(|(key, _)| key).collect()
    }

    /// The places on a topic that are served, in whatever lane of it.
    pub fn served(&self, topic: &str) -> Vec<SubKey> {
        let addresses = self.addresses(topic);
        let topics = addresses.iter().filter_map(|at| self.topic_by_name(at));
        let members = topics.flat_map(|topic| &topic.members).map(|m| m.sub);
        members.filter(|sub| *sub != SubKey::default()).collect()
    }

    /// What a topic is published to by: its name, and the addresses of its lanes.
    pub fn addresses(&self, topic: &str) -> Vec<Arc<str>> {
        let lanes = self.lanes.get(topic).into_iter().flatten();
        let lanes = lanes.filter_map(|lane| Some(self.topics.get(*lane)?.address.clone()));
        let own = self.topic_by_name(topic).map(|own| own.address.clone());
        own.into_iter().chain(lanes).collect()
    }

    /// What the protocol above keeps with every place.
    pub fn seats(&self) -> impl Iterator<Item = &S> {
        self.subs.values().map(|sub| &sub.seat)
    }

    pub fn seats_mut(&mut self) -> impl Iterator<Item = &mut S> {
        self.subs.values_mut().map(|sub| &mut sub.seat)
    }

    /// The connection's place on a topic. A connection holds few, so this compares names.
    pub fn find(&self, conn: ConnKey, topic: &str) -> Option<SubKey> {
        let conn = self.conns.get(conn)?;
        if conn.subs.len() > 8 {
            let found = self.by_name.get(topic).and_then(|topic| {
                let on = |s: &SubKey| self.subs.get(*s).is_some_and(|s| s.topic == *topic);
                conn.subs.iter().copied().find(on)
            });
            // Not found by its address, it may still sit in a lane of the topic.
            if found.is_some() {
                return found;
            }
        }
        conn.subs.iter().copied().find(|s| {
            self.subs
                .get(*s)
                .and_then(|s| self.topics.get(s.topic))
                .is_some_and(|t| &*t.name == topic)
        })
    }

    /// Gives up every place of a connection that gets nothing more.
    pub(super) fn drop_subs(&mut self, key: ConnKey) -> Vec<S> {
        self.forget_lags(key);
        let Some(conn) = self.conns.get_mut(key) else {
            return Vec::new();
        };
        let subs = std::mem::take(&mut conn.subs);
        subs.into_iter().filter_map(|s| self.drop_sub(s)).collect()
    }

    fn drop_sub(&mut self, key: SubKey) -> Option<S> {
        let sub = self.subs.remove(key)?;
        let topic = self.topics.get_mut(sub.topic)?;
        match sub.place {
            None => topic.joining -= 1,
            Some(place) => {
                if let Some(conn) = self.conns.get(sub.conn) {
                    topic.codecs[conn.codec.index()] -= 1;
                    topic.stamped -= u32::from(conn.is_stamped());
                }
                topic.intercepting -= u32::from(sub.intercepts.is_some());
                let place = place as usize;
                if topic.runs.is_empty() {
                    topic.members.swap_remove(place);
                    if let Some(moved) = topic.members.get(place) {
                        if let Some(moved) = self.subs.get_mut(moved.sub) {
                            moved.place = u32::try_from(place).ok();
                        }
                    }
                } else {
                    topic.members[place] = Member {
                        sub: SubKey::default(),
                        conn: ConnKey::default(),
                    };
                    topic.holes += 1;
                }
            }
        }
        self.forget_if_idle(sub.topic);
        Some(sub.seat)
    }

    pub(super) fn topic_entry(&mut self, name: &str, policy: Policy) -> TopicKey {
        if let Some(key) = self.by_name.get(name) {
            return *key;
        }
        let name: Arc<str> = name.into();
        let topic = Topic::new(name.clone(), name.clone(), policy, self.epoch);
        let key = self.topics.insert(topic);
        self.by_name.insert(name, key);
        key
    }

    fn lane_entry(&mut self, address: &str, name: Arc<str>, policy: Policy) -> TopicKey {
        if let Some(key) = self.lane_at.get(address) {
            return *key;
        }
        let address: Arc<str> = address.into();
        let lane = Topic::new(name.clone(), address.clone(), policy, self.epoch);
        let key = self.topics.insert(lane);
        self.lane_at.insert(address, key);
        self.lanes.entry(name).or_default().push(key);
        key
    }

    pub(super) fn forget_if_idle(&mut self, key: TopicKey) {
        if self.topics.get(key).is_some_and(Topic::is_idle) {
            if let Some(topic) = self.topics.remove(key) {
                if topic.name == topic.address {
                    self.by_name.remove(&topic.name);
                } else {
                    self.lane_at.remove(&topic.address);
                    if let Some(lanes) = self.lanes.get_mut(&topic.name) {
                        lanes.retain(|lane| *lane != key);
                        if lanes.is_empty() {
                            self.lanes.remove(&topic.name);
                        }
                    }
                }
                let own = topic.history.filter(|history| history.floor() == 0);
                if own.is_some_and(|history| history.offset() > 0) {
                    self.epoch += 1;
                }
            }
        }
    }
}
