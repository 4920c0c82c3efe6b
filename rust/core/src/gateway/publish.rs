//! Publishing: the one point that every message passes, whoever sends it.

use std::sync::Arc;

use crate::hub::{Codec, Delivery, Encode, Policy, Publish, Published, SubKey, Topic};
use crate::log::{Position, Recovery};

use super::{Body, Dialect, Event, Gateway, Variant};

/// Where a message gets its place in its topic's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Logged {
    Here,
    Store(Position),
    Nowhere,
}

/// A broadcast in the codecs of all dialects.
pub(super) struct Broadcast<'a, H> {
    pub dialects: &'a [Arc<dyn Dialect<H>>],
    pub codecs: &'a [Variant],
    pub event: Event<'a>,
}

impl<H> Encode for Broadcast<'_, H> {
    fn encode(&self, codec: Codec, position: Option<Position>, out: &mut Vec<u8>) -> bool {
        let Some(known) = self.codecs.get(codec.index()) else {
            return false;
        };
        let event = Event {
            position,
            ..self.event
        };
        self.dialects[known.dialect].encode(known.number, &event, out)
    }
}

impl<H> Gateway<H> {
    /// Publishes to a topic: numbers the message where the topic keeps a log, and queues it for
    /// every subscriber but `exclude`.
    pub fn publish(
        &mut self,
        topic: &str,
        event: &str,
        body: Body<'_>,
        key: Option<&str>,
        exclude: SubKey,
    ) -> Published {
        self.publish_as(topic, event, body, key, exclude, Logged::Here)
    }

    /// Sends an event to all subscribers of a topic, outside its log and in order whatever its
    /// delivery is. Returns the channels that intercept it.
    pub(super) fn publish_unlogged(
        &mut self,
        topic: &str,
        event: &str,
        body: Body<'_>,
    ) -> Vec<Vec<SubKey>> {
        let nobody = SubKey::default();
        let lossless = |at: &&Topic| at.policy.delivery == Delivery::Every;
        if self.hub.topic_by_name(topic).is_none_or(|at| lossless(&at)) {
            let lanes = self.hub.addresses(topic);
            let mut send = |at: &Arc<str>| {
                let published = self.publish_as(at, event, body, None, nobody, Logged::Nowhere);
                published.interceptors
            };
            return lanes.iter().map(&mut send).collect();
        }
        // Some of it replaced or left out would be another state: each is sent its own.
        for sub in self.hub.served(topic) {
            // One that has gone meanwhile, or speaks a dialect without such frames, has no use for it.
            let _ = self.push(sub, event, body);
        }
        Vec::new()
    }

    /// As [`Gateway::publish`], for a message of a durable topic that the driver's store holds, in
    /// the order of the store.
    pub fn publish_at(
        &mut self,
        topic: &str,
        event: &str,
        body: Body<'_>,
        key: Option<&str>,
        exclude: SubKey,
        at: Option<Position>,
    ) -> Published {
        let logged = at.map_or(Logged::Here, Logged::Store);
        self.publish_as(topic, event, body, key, exclude, logged)
    }

    fn publish_as(
        &mut self,
        topic: &str,
        event: &str,
        body: Body<'_>,
        key: Option<&str>,
        exclude: SubKey,
        logged: Logged,
    ) -> Published {
        let known = self.hub.topic_by_name(topic);
        let known = known.map(|topic| topic.name.clone());
        let policy = match known {
            Some(_) => Policy::default(),
            None => self.policy_of(topic),
        };
        // A lane is published to by its address; its frames carry its topic's name.
        let name = known.as_deref().unwrap_or(topic);
        let message = Publish {
            topic,
            event,
            payload: body.bytes(),
            binary: body.is_binary(),
            key,
            exclude,
            encode: Broadcast {
                dialects: &self.dialects,
                codecs: &self.codecs,
                event: Event {
                    topic: name,
                    event,
                    body,
                    position: None,
                },
            },
            policy,
            at: match logged {
                Logged::Store(at) => Some(at),
                Logged::Here | Logged::Nowhere => None,
            },
        };
        if logged == Logged::Nowhere {
            self.hub.publish_unlogged(&message)
        } else {
            self.hub.publish(&message)
        }
    }

    /// The route of a topic whose messages go through the driver's store before they are published;
    /// None for any other topic.
    pub fn durable_route(&self, topic: &str) -> Option<usize> {
        if self.routes.iter().all(|route| !route.policy.durable) {
            return None;
        }
        let route = self.route_of(topic)?;
        self.routes[route].policy.durable.then_some(route)
    }

    /// Whether anything serves a topic on any mount.
    pub fn serves(&self, topic: &str) -> bool {
        self.route_of(topic).is_some()
    }

    /// The first mount's route that matches a topic.
    fn route_of(&self, topic: &str) -> Option<usize> {
        let mut mounts = self.mounts.iter();
        mounts.find_map(|mount| Some(mount.routes[mount.router.find(topic)?.route]))
    }

    /// The policy of the first mount's route that matches a topic nobody has joined.
    fn policy_of(&self, topic: &str) -> Policy {
        if self.routes.iter().all(|r| r.policy.history.is_none()) {
            return Policy::default();
        }
        self.route_of(topic)
            .map(|route| self.routes[route].policy.clone())
            .unwrap_or_default()
    }

    // -- logs

    /// Where the log of a topic stands; None for a topic that keeps none.
    pub fn position(&mut self, topic: &str) -> Option<Position> {
        if let Some(history) = self.hub.history(topic) {
            return Some(history.position());
        }
        let policy = self.policy_of(topic);
        let begins = self.hub.topic_by_name(topic).is_none();
        let begins = begins && policy.history.is_some() && !policy.durable;
        begins.then(|| self.hub.birth())
    }

    /// What was published to a topic after a position.
    pub fn missed(&mut self, topic: &str, since: Position) -> Recovery<'_> {
        let here = self.position(topic);
        match self.hub.history(topic) {
            Some(history) => history.since(since),
            None if here == Some(since) => Recovery::Complete(Vec::new()),
            None => Recovery::Gap,
        }
    }

    /// Whether the topics of a route keep a log.
    pub fn keeps_log(&self, route: usize) -> bool {
        self.routes[route].policy.history.is_some()
    }
}
