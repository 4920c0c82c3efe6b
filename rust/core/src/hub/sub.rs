//! One connection's place on one topic.

use std::collections::HashSet;
use std::sync::Arc;

use super::batch::{ConnKey, TopicKey};

/// Events a channel wants to see before its client.
pub type Intercepts = Arc<HashSet<Box<str>>>;

/// One connection's place on one topic. `S` is what the protocol above keeps with it.
#[derive(Debug)]
pub struct Sub<S> {
    pub conn: ConnKey,
    pub topic: TopicKey,
    /// Position in `Topic::members`; None until served.
    pub place: Option<u32>,
    pub intercepts: Option<Intercepts>,
    pub seat: S,
}

impl<S> Sub<S> {
    pub fn intercepts(&self, event: &str) -> bool {
        self.intercepts
            .as_ref()
            .is_some_and(|events| events.contains(event))
    }
}
