//! A relay: what one client publishes goes to all others, byte for byte, without its driver.
//!
//! Joins are the driver's to decide, since they are rare and policies stand in their way; messages
//! are not. Each is held to the rate of its subscription, to the events that are declared, and to
//! being an object or bytes, then published as by anybody: numbered where the topic keeps a log.

mod rate;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use serde_json::{json, Value};

use crate::gateway::{Act, Body, Handler, Said, Service};
use crate::hub::SubKey;

pub use rate::{Account, Rate};

/// What a route declares.
#[derive(Debug, Default)]
struct Rules {
    rate: Option<Rate>,
    /// The events clients may publish; None for any.
    events: Option<HashSet<Box<str>>>,
    /// Events that are the protocol's own, whatever is declared.
    reserved: HashSet<Box<str>>,
}

/// The service; one for all topics of a route.
#[derive(Debug)]
pub struct Relay {
    rules: Arc<Rules>,
}

impl Relay {
    /// `{"rate": {"count", "seconds"}, "events": [..], "reserved": [..]}`, all of it optional.
    ///
    /// # Errors
    /// What is wrong with the options.
    pub fn from_options(options: &str) -> Result<Self, String> {
        let takes = || {
            let form = r#"{"rate": {"count": 1.., "seconds": above 0}, "events": [text], "reserved": [text]}"#;
            format!("relay takes {form}, all of it optional; got {options}")
        };
        let given: Option<Value> = serde_json::from_str(options).ok();
        let given = given.filter(Value::is_object).ok_or_else(takes)?;
        let names = |name: &str| -> Result<Option<HashSet<Box<str>>>, String> {
            let Some(list) = given.get(name) else {
                return Ok(None);
            };
            let name = |name: &Value| name.as_str().map(Into::into);
            let list = list.as_array().ok_or_else(takes)?;
            let list: Option<HashSet<Box<str>>> = list.iter().map(name).collect();
            list.map(Some).ok_or_else(takes)
        };
        let rate = match given.get("rate") {
            None => None,
            Some(rate) => {
                let count = rate["count"].as_u64().and_then(|n| u32::try_from(n).ok());
                let count = count.filter(|count| *count > 0).ok_or_else(takes)?;
                let seconds = rate["seconds"].as_f64().filter(|s| *s > 0.0);
                let seconds = seconds.ok_or_else(takes)?;
                Some(Rate { count, seconds })
            }
        };
        let rules = Rules {
            rate,
            events: names("events")?,
            reserved: names("reserved")?.unwrap_or_default(),
        };
        Ok(Self {
            rules: Arc::new(rules),
        })
    }
}

impl Service for Relay {
    fn name(&self) -> &'static str {
        "relay"
    }

    fn hears(&self) -> bool {
        true
    }

    fn born(&self, _topic: &str) -> Box<dyn Handler> {
        Box::new(Topic {
            rules: self.rules.clone(),
            accounts: HashMap::new(),
            silent: HashSet::new(),
        })
    }
}

/// Says whether a subscription may publish; it may until the driver says otherwise.
#[derive(Debug, Clone, Copy)]
pub struct Permit {
    pub sub: SubKey,
    pub publish: bool,
}

/// One topic.
struct Topic {
    rules: Arc<Rules>,
    /// Of subscriptions that have published, where a rate is declared.
    accounts: HashMap<SubKey, Account>,
    /// Subscriptions that may only listen.
    silent: HashSet<SubKey>,
}

impl Topic {
    /// What is wrong with a message, as the response to it.
    fn against(&mut self, act: &mut Act<'_>, said: &Said<'_>) -> Option<Value> {
        let Said { event, body, .. } = *said;
        if let Some(rate) = self.rules.rate {
            let account = self.accounts.entry(said.sub).or_default();
            if !rate.admits(account, act.now_ms()) {
                act.count_limited();
                let limit = format!("{} in {} s", rate.count, rate.seconds);
                return Some(json!({"reason": "rate limited", "limit": limit}));
            }
        }
        if self.silent.contains(&said.sub) {
            return Some(json!({"reason": "unauthorized", "rule": "publish"}));
        }
        if self.rules.reserved.contains(event) {
            return Some(json!({"reason": "reserved event", "event": event}));
        }
        if let Some(events) = self
            .rules
            .events
            .as_ref()
            .filter(|all| !all.contains(event))
        {
            let mut accepted: Vec<_> = events.iter().collect();
            accepted.sort();
            return Some(json!({"reason": "unknown event", "event": event, "accepted": accepted}));
        }
        match body {
            Body::Json(json) if json.trim_ascii_start().first() != Some(&b'{') => {
                Some(json!({"reason": "a payload is an object or binary"}))
            }
            Body::Json(_) | Body::Binary(_) => None,
        }
    }
}

impl Handler for Topic {
    fn message(&mut self, act: &mut Act<'_>, said: &Said<'_>) -> bool {
        // Who has gone meanwhile needs no answer.
        if let Some(response) = self.against(act, said) {
            if let Some(reference) = said.reference {
                let response = response.to_string();
                let body = Body::Json(response.as_bytes());
                let _ = act.reply(said.sub, reference, "error", body);
            }
            return true;
        }
        let position = act.publish(said.event, said.body, None, said.sub);
        if let Some(reference) = said.reference {
            let _ = act.published(said.sub, reference, position);
        }
        true
    }

    fn left(&mut self, _: &mut Act<'_>, sub: SubKey) {
        self.accounts.remove(&sub);
        self.silent.remove(&sub);
    }

    fn told(&mut self, _: &mut Act<'_>, what: &mut dyn std::any::Any) {
        if let Some(Permit { sub, publish }) = what.downcast_ref::<Permit>().copied() {
            if publish {
                self.silent.remove(&sub);
            } else {
                self.silent.insert(sub);
            }
        }
    }
}
