//! Questions about topics, for whoever operates them. Nothing here changes anything, and what is
//! copied is bounded by the caller.

use moda_core::log::History;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};

use crate::hub::Hub;

#[pyfunction]
pub fn topic_names(
    hub: &Bound<'_, Hub>,
    prefix: &str,
    after: &str,
    limit: usize,
) -> PyResult<Vec<String>> {
    let names = hub.try_borrow()?.gateway.hub.names(prefix, after, limit);
    Ok(names.iter().map(ToString::to_string).collect())
}

type Facts<'py> = Option<(Bound<'py, PyDict>, u64)>;

#[pyfunction]
pub fn topic_facts<'py>(hub: &Bound<'py, Hub>, topic: &str) -> PyResult<Facts<'py>> {
    let (facts, codecs) = {
        let hub = hub.try_borrow()?;
        let facts = match hub.gateway.hub.facts(topic) {
            Some(facts) => facts,
            None if hub.gateway.serves(topic) => moda_core::hub::Facts::default(),
            None => return Ok(None),
        };
        (facts, hub.gateway.variants().collect::<Vec<_>>())
    };
    let subscribers = PyDict::new(hub.py());
    for (name, count) in codecs.into_iter().zip(facts.codecs) {
        subscribers.set_item(name, count)?;
    }
    Ok(Some((subscribers, facts.published)))
}

type Message<'py> = (u64, u64, String, Bound<'py, PyBytes>, bool);

#[pyfunction]
pub fn kept_messages<'py>(
    hub: &Bound<'py, Hub>,
    topic: &str,
    after: u64,
    count: usize,
    bytes: usize,
) -> PyResult<(u64, Vec<Message<'py>>)> {
    let py = hub.py();
    let mut hub = hub.try_borrow_mut()?;
    hub.tick();
    let engine = &mut hub.gateway.hub;
    let now = engine.now_ms();
    let Some(history) = engine.history(topic) else {
        return Ok((0, Vec::new()));
    };
    let page = history.page(after, count, bytes).map(|kept| {
        let age = now.saturating_sub(kept.at_ms);
        let payload = PyBytes::new(py, &kept.payload);
        (
            kept.offset,
            age,
            kept.event.to_string(),
            payload,
            kept.binary,
        )
    });
    Ok((first(history), page.collect()))
}

#[pyfunction]
pub fn kept_since(hub: &Bound<'_, Hub>, topic: &str, age_ms: u64) -> PyResult<u64> {
    let mut hub = hub.try_borrow_mut()?;
    hub.tick();
    let engine = &mut hub.gateway.hub;
    let now = engine.now_ms();
    Ok(engine
        .history(topic)
        .map_or(0, |history| history.since_age(age_ms, now)))
}

/// The first offset that is kept, or the next one where nothing is.
fn first(history: &History) -> u64 {
    history.offset() + 1 - history.len() as u64
}
