//! The class `Hub`: Python's calls in, the engine's wishes out.
//!
//! The rule that keeps this sound: no Python code runs while the engine is borrowed. Every method
//! borrows, computes, lets go, and only then calls Python (`settle`), which may call back in.

use std::time::Instant;

use moda_core::hub::{
    Codec, Config, Conn, ConnKey, Delivery, History, HistoryLimits, Hub as Engine, Kept, Policy,
    Recovery, Sink, SubKey, Topic,
};
use moda_core::pointer::Pointer;
use moda_core::session::{Body, Kind, Route, Sessions, Unsent};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList};
use pyo3::{intern, PyTraverseError, PyVisit};
use slotmap::{Key, KeyData, SecondaryMap};

use crate::counters::counters;

/// A connection's Python side.
pub struct Peer {
    pub transport: Py<PyAny>,
    pub socket: Py<PyAny>,
}

/// What the event loop gave us; set once by `attach`.
pub struct Driver {
    pub call_soon: Py<PyAny>,
    pub flush: Py<PyAny>,
    pub joins: Py<PyAny>,
    pub complaints: Py<PyAny>,
}

#[pyclass(module = "moda._core")]
pub struct Hub {
    pub(crate) sessions: Sessions<Py<PyAny>>,
    /// Of the mounts, by their number.
    paths: Vec<String>,
    pub(crate) peers: SecondaryMap<ConnKey, Peer>,
    pub(crate) driver: Option<Driver>,
    pub(crate) scheduled: bool,
    started: Instant,
}

pub fn conn_key(raw: u64) -> ConnKey {
    KeyData::from_ffi(raw).into()
}

pub fn sub_key(raw: u64) -> SubKey {
    if raw == 0 {
        SubKey::null()
    } else {
        KeyData::from_ffi(raw).into()
    }
}

fn body(payload: &[u8], binary: bool) -> Body<'_> {
    if binary {
        Body::Binary(payload)
    } else {
        Body::Json(payload)
    }
}

fn listed<'k>(py: Python<'_>, kept: impl IntoIterator<Item = &'k Kept>) -> PyResult<Py<PyList>> {
    let list = PyList::empty(py);
    for message in kept {
        let payload = PyBytes::new(py, &message.payload);
        list.append((message.offset, &*message.event, payload, message.binary))?;
    }
    Ok(list.unbind())
}

fn sent(outcome: Result<(), Unsent>, what: &str) -> PyResult<bool> {
    match outcome {
        Ok(()) => Ok(true),
        Err(Unsent::Ended) => Ok(false),
        Err(Unsent::Unencodable) => Err(PyValueError::new_err(format!(
            "{what} does not fit a binary frame: join_ref, ref, topic, event and status take at most \
             255 bytes each, and a V1 client (connected without vsn=2.0.0) takes no binary at all"
        ))),
    }
}

impl Hub {
    pub fn tick(&mut self) {
        let elapsed = self.started.elapsed().as_millis();
        self.sessions
            .hub
            .set_now(u64::try_from(elapsed).unwrap_or(u64::MAX));
    }
}

#[pymethods]
impl Hub {
    #[new]
    #[pyo3(signature = (*, epoch, outbox_bytes=1 << 20, log_bytes=64 << 20, history_bytes=256 << 20, slice_us=2000, close_grace_ms=5000))]
    fn new(
        epoch: u64,
        outbox_bytes: usize,
        log_bytes: usize,
        history_bytes: usize,
        slice_us: u64,
        close_grace_ms: u64,
    ) -> Self {
        let config = Config {
            outbox_bytes,
            log_bytes,
            history_bytes,
            slice: std::time::Duration::from_micros(slice_us),
            close_grace_ms,
        };
        Self {
            sessions: Sessions::new(Engine::new(config, epoch)),
            paths: Vec::new(),
            peers: SecondaryMap::new(),
            driver: None,
            scheduled: false,
            started: Instant::now(),
        }
    }

    fn attach(
        slf: &Bound<'_, Self>,
        call_soon: Py<PyAny>,
        joins: Py<PyAny>,
        complaints: Py<PyAny>,
    ) -> PyResult<()> {
        let flush = slf.getattr(intern!(slf.py(), "flush"))?.unbind();
        let mut hub = slf.try_borrow_mut()?;
        hub.driver = Some(Driver {
            call_soon,
            flush,
            joins,
            complaints,
        });
        hub.scheduled = false;
        Ok(())
    }

    fn detach(&mut self) -> bool {
        self.driver.take().is_some()
    }

    #[pyo3(signature = (*, path, max_channels, max_message, idle_ms))]
    fn mount(
        &mut self,
        path: String,
        max_channels: usize,
        max_message: usize,
        idle_ms: u64,
    ) -> u16 {
        self.paths.push(path);
        self.sessions.add_mount(max_channels, max_message, idle_ms)
    }

    #[pyo3(signature = (*, stream, delivery, history_size=0, history_ttl_ms=0, history_bytes=16 << 20, intercept=Vec::new(), key=None))]
    #[allow(clippy::too_many_arguments)] // by name, one for each thing a policy says
    fn route(
        &mut self,
        stream: bool,
        delivery: &str,
        history_size: usize,
        history_ttl_ms: u64,
        history_bytes: usize,
        intercept: Vec<String>,
        key: Option<&str>,
    ) -> PyResult<usize> {
        let key = key.map(Pointer::parse).transpose();
        let key = key.map_err(|error| PyValueError::new_err(error.to_string()))?;
        let delivery = match delivery {
            "every" => Delivery::Every,
            "latest" => Delivery::Latest,
            "drop" => Delivery::Drop,
            other => {
                return Err(PyValueError::new_err(format!(
                    "delivery takes every, latest or drop, got {other:?}"
                )))
            }
        };
        let history = (history_size > 0).then_some(HistoryLimits {
            size: history_size,
            ttl_ms: history_ttl_ms,
            bytes: history_bytes,
        });
        let intercepts = (!intercept.is_empty()).then(|| {
            std::sync::Arc::new(intercept.into_iter().map(String::into_boxed_str).collect())
        });
        Ok(self.sessions.add_route(Route {
            kind: if stream { Kind::Stream } else { Kind::Channel },
            policy: Policy {
                delivery,
                key: key.map(std::sync::Arc::new),
                history,
            },
            intercepts,
        }))
    }

    fn expose(&mut self, mount: u16, pattern: &str, route: usize) -> PyResult<()> {
        self.sessions
            .expose(mount, pattern, route)
            .map_err(|error| PyValueError::new_err(error.to_string()))
    }

    fn withdraw(&mut self, mount: u16) {
        self.sessions.withdraw(mount);
    }

    #[pyo3(signature = (mount, v1, fd, transport, socket, socket_id=None, held=false, eye=None))]
    #[allow(clippy::too_many_arguments)] // one call per connection, each argument a fact about it
    fn open(
        &mut self,
        mount: u16,
        v1: bool,
        fd: Option<i32>,
        transport: Py<PyAny>,
        socket: Py<PyAny>,
        socket_id: Option<&str>,
        held: bool,
        eye: Option<i32>,
    ) -> u64 {
        self.tick();
        let codec = if v1 {
            Codec::PhoenixV1
        } else {
            Codec::PhoenixV2
        };
        let sink = fd.map_or(Sink::Transport, Sink::Socket);
        let conn = self.sessions.hub.open(codec, mount, sink, socket_id);
        if held {
            self.sessions.hub.block(conn);
        }
        if let Some(eye) = eye {
            self.sessions.hub.look_at(conn, eye);
        }
        self.peers.insert(conn, Peer { transport, socket });
        conn.data().as_ffi()
    }

    fn lost(slf: &Bound<'_, Self>, conn: u64) -> PyResult<()> {
        let peer = {
            let mut hub = slf.try_borrow_mut()?;
            hub.sessions.lost(conn_key(conn));
            hub.peers.remove(conn_key(conn))
        };
        drop(peer);
        Self::settle(slf)
    }

    fn resume(slf: &Bound<'_, Self>, conn: u64) -> PyResult<()> {
        slf.try_borrow_mut()?.sessions.hub.resume(conn_key(conn));
        Self::settle(slf)
    }

    fn flush(slf: &Bound<'_, Self>) -> PyResult<()> {
        {
            let mut hub = slf.try_borrow_mut()?;
            hub.scheduled = false;
            hub.tick();
            hub.sessions.hub.flush();
        }
        Self::settle(slf)
    }

    fn frame(slf: &Bound<'_, Self>, conn: u64, op: u8, fin: bool, payload: &[u8]) -> PyResult<()> {
        Self::receive(slf, conn, op, fin, false, payload)
    }

    // -- decisions on channels

    fn join_ok(slf: &Bound<'_, Self>, sub: u64, response: &[u8], binary: bool) -> PyResult<bool> {
        let outcome = slf
            .try_borrow_mut()?
            .sessions
            .join_ok(sub_key(sub), body(response, binary));
        // A stream's handle ends here, with the engine let go.
        let outcome = outcome.map(drop);
        Self::settle(slf)?;
        sent(outcome, "the join reply")
    }

    /// Moves a join under way to a lane (see `moda_core::hub::Hub::reseat`).
    fn reseat(&mut self, sub: u64, address: &str) -> bool {
        self.sessions.hub.reseat(sub_key(sub), address)
    }

    fn join_error(slf: &Bound<'_, Self>, sub: u64, response: &[u8]) -> PyResult<bool> {
        let outcome = slf
            .try_borrow_mut()?
            .sessions
            .join_error(sub_key(sub), response);
        Self::settle(slf)?;
        Ok(outcome.is_ok())
    }

    fn reply(
        slf: &Bound<'_, Self>,
        sub: u64,
        reference: Option<&str>,
        status: &str,
        response: &[u8],
        binary: bool,
    ) -> PyResult<bool> {
        let outcome = slf.try_borrow_mut()?.sessions.reply(
            sub_key(sub),
            reference.unwrap_or("null"),
            status,
            body(response, binary),
        );
        Self::settle(slf)?;
        sent(outcome, "the reply")
    }

    fn push(
        slf: &Bound<'_, Self>,
        sub: u64,
        event: &str,
        payload: &[u8],
        binary: bool,
    ) -> PyResult<bool> {
        let outcome =
            slf.try_borrow_mut()?
                .sessions
                .push(sub_key(sub), event, body(payload, binary));
        Self::settle(slf)?;
        sent(outcome, "the push")
    }

    fn finish_leave(slf: &Bound<'_, Self>, sub: u64, reference: &str) -> PyResult<()> {
        let handle = slf
            .try_borrow_mut()?
            .sessions
            .finish_leave(sub_key(sub), reference);
        drop(handle);
        Self::settle(slf)
    }

    fn end(slf: &Bound<'_, Self>, sub: u64, crash: bool) -> PyResult<bool> {
        let handle = slf.try_borrow_mut()?.sessions.end(sub_key(sub), crash);
        let ended = handle.is_some();
        drop(handle);
        Self::settle(slf)?;
        Ok(ended)
    }

    // -- broadcasts and connections

    #[pyo3(signature = (topic, event, payload, binary=false, key=None, exclude=0))]
    fn publish<'py>(
        slf: &Bound<'py, Self>,
        topic: &str,
        event: &str,
        payload: &[u8],
        binary: bool,
        key: Option<&str>,
        exclude: u64,
    ) -> PyResult<Option<Bound<'py, PyList>>> {
        let py = slf.py();
        if binary && (topic.len() > 255 || event.len() > 255) {
            return sent(Err(Unsent::Unencodable), "the broadcast").map(|_| None);
        }
        let handles = {
            let mut hub = slf.try_borrow_mut()?;
            hub.tick();
            let subs =
                hub.sessions
                    .publish(topic, event, body(payload, binary), key, sub_key(exclude));
            let handle = |sub| hub.sessions.hub.sub(sub)?.seat.handle.as_ref();
            let handles: Vec<_> = subs
                .into_iter()
                .filter_map(|sub| Some(handle(sub)?.clone_ref(py)))
                .collect();
            handles
        };
        Self::settle(slf)?;
        if handles.is_empty() {
            return Ok(None);
        }
        PyList::new(py, handles).map(Some)
    }

    fn disconnect(slf: &Bound<'_, Self>, socket_id: &str) -> PyResult<usize> {
        let closed = {
            let mut hub = slf.try_borrow_mut()?;
            hub.tick();
            let mut conns = hub.sessions.hub.by_id(socket_id);
            conns.retain(|conn| hub.sessions.hub.conn(*conn).is_some_and(Conn::is_open));
            for conn in &conns {
                hub.sessions
                    .close(*conn, 1001, "disconnected", "closed", false);
            }
            conns.len()
        };
        Self::settle(slf)?;
        Ok(closed)
    }

    fn close(slf: &Bound<'_, Self>, conn: u64, code: u16, reason: &str) -> PyResult<()> {
        {
            let mut hub = slf.try_borrow_mut()?;
            hub.tick();
            hub.sessions
                .close(conn_key(conn), code, reason, "closed", false);
        }
        Self::settle(slf)
    }

    fn unparsed(slf: &Bound<'_, Self>, conn: u64, code: u16) -> PyResult<()> {
        {
            let mut hub = slf.try_borrow_mut()?;
            hub.tick();
            hub.sessions.unparsed(conn_key(conn), code);
        }
        Self::settle(slf)
    }

    fn close_some(slf: &Bound<'_, Self>, most: usize, code: u16, reason: &str) -> PyResult<usize> {
        let closed = {
            let mut hub = slf.try_borrow_mut()?;
            hub.tick();
            let engine = &hub.sessions.hub;
            let open = |conn: &ConnKey| engine.conn(*conn).is_some_and(Conn::is_open);
            let conns: Vec<_> = engine.connection_keys().filter(open).take(most).collect();
            for conn in &conns {
                hub.sessions.close(*conn, code, reason, "shutdown", false);
            }
            conns.len()
        };
        Self::settle(slf)?;
        Ok(closed)
    }

    fn sweep(slf: &Bound<'_, Self>) -> PyResult<()> {
        {
            let mut hub = slf.try_borrow_mut()?;
            hub.tick();
            hub.sessions.sweep();
        }
        Self::settle(slf)
    }

    // -- questions

    fn connections(&self) -> usize {
        self.sessions.hub.connections()
    }

    fn subscribers(&self, topic: &str) -> usize {
        self.sessions.hub.subscribers(topic)
    }

    fn seated(&self, address: &str) -> usize {
        self.sessions
            .hub
            .topic_by_name(address)
            .map_or(0, Topic::subscribers)
    }

    fn pending(&self) -> bool {
        self.sessions.hub.needs_flush()
    }

    /// (epoch, offset) of a topic that keeps history.
    fn position(&mut self, topic: &str) -> Option<(u64, u64)> {
        self.tick();
        self.sessions.position(topic)
    }

    fn recover(
        &mut self,
        py: Python<'_>,
        topic: &str,
        epoch: u64,
        offset: u64,
    ) -> PyResult<Option<Py<PyList>>> {
        self.tick();
        match self.sessions.missed(topic, epoch, offset) {
            Recovery::Gap => Ok(None),
            Recovery::Complete(kept) => listed(py, kept).map(Some),
        }
    }

    fn history(&mut self, py: Python<'_>, topic: &str) -> PyResult<Py<PyList>> {
        self.tick();
        let history = self.sessions.hub.history(topic);
        listed(py, history.into_iter().flat_map(History::all))
    }

    /// Counters; the keys are documented in the stub.
    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        counters(py, &self.sessions, &self.paths)
    }

    fn __repr__(&self) -> String {
        format!(
            "<Hub connections={} topics={}>",
            self.sessions.hub.connections(),
            self.sessions.hub.topics()
        )
    }

    // The hub holds Python objects that hold the hub.

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        if let Some(driver) = &self.driver {
            visit.call(&driver.call_soon)?;
            visit.call(&driver.flush)?;
            visit.call(&driver.joins)?;
            visit.call(&driver.complaints)?;
        }
        for peer in self.peers.values() {
            visit.call(&peer.transport)?;
            visit.call(&peer.socket)?;
        }
        for handle in self.sessions.handles() {
            visit.call(handle)?;
        }
        Ok(())
    }

    fn __clear__(slf: &Bound<'_, Self>) {
        // Dropped after the engine is let go: the last reference to an object runs its Python, which
        // may call the hub. One that is borrowed now is in use, and so no garbage.
        let held = slf.try_borrow_mut().ok().map(|mut hub| {
            let handles = hub.sessions.take_handles();
            (handles, std::mem::take(&mut hub.peers), hub.driver.take())
        });
        drop(held);
    }
}
