//! What an operator asks: which topics there are, who hears one, what is kept of it.
//!
//! Reads only, and each answer is bounded by its asker. Names are not kept in order, since that would
//! cost every topic that is born; a page of names is one walk over the topics that keeps the smallest
//! few (about 0.1 us per topic).

use std::collections::BTreeSet;
use std::sync::Arc;

use super::batch::CODECS;
use super::topic::Topic;
use super::Hub;

/// One topic as it is now, all lanes of it together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Facts {
    /// Subscribers being served, by the number of their codec.
    pub codecs: [u32; CODECS],
    /// Messages published since somebody or something keeps the topic in memory.
    pub published: u64,
}

impl<S> Hub<S> {
    /// The first `limit` names that begin with `prefix` and come after `after`, in the order of
    /// their bytes.
    pub fn names(&self, prefix: &str, after: &str, limit: usize) -> Vec<Arc<str>> {
        let mut found: BTreeSet<&Arc<str>> = BTreeSet::new();
        for name in self.topics.values().map(|topic| &topic.name) {
            let fits = &**name > after && name.starts_with(prefix);
            let full = found.len() == limit;
            if !fits || (full && found.last().is_none_or(|last| name >= last)) {
                continue;
            }
            // A topic and its lanes have one name.
            if found.insert(name) && full {
                found.pop_last();
            }
        }
        found.into_iter().cloned().collect()
    }

    /// What is known of a topic; None for one that is not there.
    pub fn facts(&self, name: &str) -> Option<Facts> {
        let lanes = self.lanes.get(name).into_iter().flatten();
        let lanes = lanes.filter_map(|lane| self.topics.get(*lane));
        let mut known = lanes.chain(self.topic_by_name(name)).peekable();
        known.peek()?;
        Some(known.fold(Facts::default(), Facts::with))
    }
}

impl Facts {
    fn with(mut self, topic: &Topic) -> Self {
        for (sum, count) in self.codecs.iter_mut().zip(topic.codecs) {
            *sum += count;
        }
        self.published += topic.seq;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Codec, Config, Policy, Sink};
    use super::*;

    fn hub(topics: &[&str]) -> Hub<()> {
        let mut hub = Hub::new(Config::default(), 1);
        for topic in topics {
            let codec = Codec::new(3).unwrap();
            let conn = hub.open(codec, 0, Sink::Transport, None);
            let sub = hub.reserve(conn, topic, Policy::default(), None, ());
            hub.activate(sub);
        }
        hub
    }

    fn names(hub: &Hub<()>, prefix: &str, after: &str, limit: usize) -> Vec<String> {
        let found = hub.names(prefix, after, limit);
        found.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_page_of_names_is_the_first_few_in_order() {
        let hub = hub(&["b", "d", "a:2", "c", "a:1", "a"]);
        assert_eq!(names(&hub, "", "", 3), ["a", "a:1", "a:2"]);
        assert_eq!(names(&hub, "", "a:2", 9), ["b", "c", "d"]);
        assert_eq!(names(&hub, "a:", "a:1", 9), ["a:2"]);
        assert!(names(&hub, "", "", 0).is_empty());
        assert!(names(&hub, "z", "", 9).is_empty());
    }

    #[test]
    fn the_lanes_of_a_topic_are_counted_under_its_name() {
        let mut hub = hub(&["t", "t"]);
        let conn = hub.open(Codec::new(5).unwrap(), 0, Sink::Transport, None);
        let sub = hub.reserve(conn, "t", Policy::default(), None, ());
        assert!(hub.reseat(sub, "t?fast"));
        hub.activate(sub);
        assert_eq!(names(&hub, "", "", 9), ["t"]);
        let facts = hub.facts("t").unwrap();
        assert_eq!((facts.codecs[3], facts.codecs[5]), (2, 1));
        assert_eq!(hub.facts("u"), None);
    }
}
