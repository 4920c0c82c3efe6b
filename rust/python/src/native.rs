//! Native handlers as Python sees them: what it asks of presence, and what they let it know.

use std::sync::Arc;

use moda_core::gateway::{Echo, Service};
use moda_core::handler;
use moda_core::handler::presence::{Ask, Denied, Read, Wish};
use moda_core::handler::relay::Permit;
use moda_core::hub::SubKey;
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyTuple};

use crate::hub::Hub;
use crate::values::sub_key;

/// A Python callback and what it is called with, once the engine is let go.
pub enum Notice {
    /// A channel sees an event before its client does.
    Outgoing(Py<PyAny>, Py<PyTuple>),
    /// Somebody in the process listens to a topic.
    Heard(Py<PyAny>, Py<PyTuple>),
    /// A handler has panicked.
    Crashed(PyErr),
}

/// The services a route asks for by name, each with its options.
pub fn services(handlers: Vec<(String, String)>) -> PyResult<Vec<Arc<dyn Service>>> {
    let made = handlers
        .into_iter()
        .map(|(name, options)| handler::service(&name, &options).map_err(PyValueError::new_err));
    made.collect()
}

impl Hub {
    /// As [`Hub::ask_presence`], and carries out what comes of it.
    pub(crate) fn present(
        slf: &Bound<'_, Self>,
        sub: u64,
        key: &str,
        wish: Wish,
    ) -> PyResult<Option<&'static str>> {
        Self::with(slf, |hub| hub.ask_presence(sub_key(sub), key, wish))
    }

    /// Asks a topic's presence for something; None when it is done or nobody is there any more.
    pub fn ask_presence(&mut self, sub: SubKey, key: &str, wish: Wish) -> Option<&'static str> {
        self.gateway.hub.sub(sub)?;
        let mut ask = Ask {
            sub,
            key: key.into(),
            wish,
            answer: None,
        };
        self.gateway.tell(sub, &mut ask);
        match ask.answer {
            Some(outcome) => outcome.err().map(Denied::as_str),
            None => Some("undeclared"),
        }
    }

    /// Says whether a subscription may publish where the engine relays what clients do.
    pub fn permit_publish(&mut self, sub: SubKey, publish: bool) {
        self.gateway.tell(sub, &mut Permit { sub, publish });
    }

    pub fn read_presence(&mut self, topic: &str) -> Option<Vec<u8>> {
        let mut read = Read::default();
        self.gateway.tell_topic(topic, &mut read);
        read.answer
    }

    /// What handlers have for Python, taken from the engine.
    pub fn notices(&mut self, py: Python<'_>) -> PyResult<Vec<Notice>> {
        let mut notices = Vec::new();
        while let Some(crash) = self.gateway.next_crash() {
            let (service, topic, text) = (crash.service, crash.topic, crash.message);
            let text = format!("the {service} handler of topic {topic:?} panicked: {text}");
            notices.push(Notice::Crashed(PyRuntimeError::new_err(text)));
        }
        while let Some(echo) = self.gateway.next_echo() {
            let Echo {
                topic,
                event,
                payload,
                binary,
                interceptors,
                watched,
            } = echo;
            let payload = PyBytes::new(py, &payload);
            for sub in interceptors {
                let held = self.gateway.hub.sub(sub);
                if let Some(handle) = held.and_then(|sub| sub.seat.handle.as_ref()) {
                    let what = (&*event, &payload, binary).into_pyobject(py)?.unbind();
                    notices.push(Notice::Outgoing(handle.clone_ref(py), what));
                }
            }
            let heard = self.driver.as_ref().and_then(|d| d.heard.as_ref());
            if let Some(heard) = heard.filter(|_| watched) {
                let what = (&*topic, &*event, &payload, binary)
                    .into_pyobject(py)?
                    .unbind();
                notices.push(Notice::Heard(heard.clone_ref(py), what));
            }
        }
        Ok(notices)
    }

    /// Tells Python, with the engine let go.
    pub fn notify(slf: &Bound<'_, Self>, notices: Vec<Notice>) -> PyResult<()> {
        let py = slf.py();
        for notice in notices {
            match notice {
                Notice::Crashed(error) => error.write_unraisable(py, Some(slf)),
                Notice::Outgoing(handle, what) => {
                    let outgoing = handle.getattr(py, intern!(py, "outgoing"))?;
                    Self::report(slf, outgoing.call1(py, what.bind(py)));
                }
                Notice::Heard(heard, what) => {
                    Self::report(slf, heard.call1(py, what.bind(py)));
                }
            }
        }
        Ok(())
    }

    /// The timer for what handlers have to do next, unless one is under way that ends sooner.
    #[allow(clippy::cast_precision_loss)] // a delay of days would still be right to the millisecond
    pub fn alarm(&mut self, py: Python<'_>) -> Option<(Py<PyAny>, f64, Py<PyAny>)> {
        let at = self.gateway.next_wake()?;
        if self.asked.wake.is_some_and(|alarm| alarm <= at) {
            return None;
        }
        let driver = self.driver.as_ref()?;
        let call_later = driver.call_later.as_ref()?.clone_ref(py);
        let wake = driver.wake.clone_ref(py);
        self.asked.wake = Some(at);
        let ms = at.saturating_sub(self.gateway.hub.now_ms()).max(1);
        Some((call_later, ms as f64 / 1000.0, wake))
    }
}
