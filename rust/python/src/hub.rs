//! The class `Hub`: Python's calls in, the engine's wishes out.
//!
//! The rule that keeps this sound: no Python code runs while the engine is borrowed. Every method
//! borrows, computes, lets go, and only then calls Python (`settle`), which may call back in.

use std::time::Instant;

use moda_core::hub::{
    Action, Codec, Config, ConnKey, Delivery, HistoryLimits, Hub as Engine, Policy, Recovery, Sink,
    SubKey, FANOUT_BOUNDS,
};
use moda_core::session::{Body, Content, Kind, Route, Sessions, Unsent, Verdict};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyString};
use pyo3::{intern, PyTraverseError, PyVisit};
use slotmap::{Key, KeyData, SecondaryMap};

struct Peer {
    transport: Py<PyAny>,
    socket: Py<PyAny>,
}

/// What the event loop gave us; set once by `attach`.
struct Driver {
    call_soon: Py<PyAny>,
    flush: Py<PyAny>,
    joins: Py<PyAny>,
    complaints: Py<PyAny>,
}

#[pyclass(module = "moda._core")]
pub struct Hub {
    sessions: Sessions<Py<PyAny>>,
    peers: SecondaryMap<ConnKey, Peer>,
    driver: Option<Driver>,
    scheduled: bool,
    started: Instant,
}

/// A call into Python that a frame asks for, made after the engine is let go.
enum Call {
    Nothing,
    Join(Py<PyAny>, JoinArgs),
    Message(
        Py<PyAny>,
        Py<PyString>,
        Py<PyBytes>,
        bool,
        Option<Py<PyString>>,
    ),
    Leave(Py<PyAny>, Py<PyString>),
}

struct JoinArgs {
    sub: u64,
    route: usize,
    socket: Py<PyAny>,
    topic: Py<PyString>,
    params: Py<PyDict>,
    payload: Py<PyBytes>,
    binary: bool,
}

fn conn_key(raw: u64) -> ConnKey {
    KeyData::from_ffi(raw).into()
}

fn sub_key(raw: u64) -> SubKey {
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
    fn tick(&mut self) {
        let elapsed = self.started.elapsed().as_millis();
        self.sessions
            .hub
            .set_now(u64::try_from(elapsed).unwrap_or(u64::MAX));
    }

    /// One websocket frame; the way in for `_session`.
    pub fn receive(
        slf: &Bound<'_, Self>,
        conn: u64,
        op: u8,
        fin: bool,
        rsv: bool,
        payload: &[u8],
    ) -> PyResult<()> {
        let py = slf.py();
        let call = {
            let mut hub = slf.try_borrow_mut()?;
            hub.tick();
            let verdict = hub.sessions.receive(conn_key(conn), op, fin, rsv, payload);
            hub.call_for(py, verdict)
        };
        match call {
            Call::Nothing => {}
            Call::Message(handle, event, payload, binary, reference) => {
                handle.call_method1(
                    py,
                    intern!(py, "deliver"),
                    (event, payload, binary, reference),
                )?;
            }
            Call::Leave(handle, reference) => {
                handle.call_method1(py, intern!(py, "leaving"), (reference,))?;
            }
            Call::Join(joins, args) => Self::ask_join(slf, &joins, args)?,
        }
        Self::settle(slf)
    }

    fn call_for(&self, py: Python<'_>, verdict: Verdict<'_>) -> Call {
        let content = |content: &Content<'_>| PyBytes::new(py, &content.bytes).unbind();
        match verdict {
            Verdict::Done => Call::Nothing,
            Verdict::Message {
                sub,
                event,
                payload,
                reference,
            } => {
                let handle = self
                    .sessions
                    .hub
                    .sub(sub)
                    .and_then(|sub| sub.seat.handle.as_ref());
                match handle {
                    Some(handle) => Call::Message(
                        handle.clone_ref(py),
                        PyString::new(py, &event).unbind(),
                        content(&payload),
                        payload.binary,
                        (reference != "null").then(|| PyString::new(py, &reference).unbind()),
                    ),
                    None => Call::Nothing,
                }
            }
            Verdict::Leave { sub, reference } => {
                let handle = self
                    .sessions
                    .hub
                    .sub(sub)
                    .and_then(|sub| sub.seat.handle.as_ref());
                match handle {
                    Some(handle) => {
                        Call::Leave(handle.clone_ref(py), PyString::new(py, &reference).unbind())
                    }
                    None => Call::Nothing,
                }
            }
            Verdict::Join {
                sub,
                route,
                topic,
                params,
                payload,
            } => {
                let found = PyDict::new(py);
                for (name, value) in params {
                    // Setting a string under a string fails only without memory.
                    let _ = found.set_item(name, value);
                }
                let conn = self.sessions.hub.sub(sub).map(|sub| sub.conn);
                let peer = conn.and_then(|conn| self.peers.get(conn));
                match (peer, &self.driver) {
                    (Some(peer), Some(driver)) => Call::Join(
                        driver.joins.clone_ref(py),
                        JoinArgs {
                            sub: sub.data().as_ffi(),
                            route,
                            socket: peer.socket.clone_ref(py),
                            topic: PyString::new(py, &topic).unbind(),
                            params: found.unbind(),
                            payload: content(&payload),
                            binary: payload.binary,
                        },
                    ),
                    _ => Call::Nothing,
                }
            }
        }
    }

    /// Hands a join to Python, which answers now or later; keeps what it returns as the handle.
    fn ask_join(slf: &Bound<'_, Self>, joins: &Py<PyAny>, args: JoinArgs) -> PyResult<()> {
        let py = slf.py();
        let sub = args.sub;
        let asked = joins.call1(
            py,
            (
                sub,
                args.route,
                args.socket,
                args.topic,
                args.params,
                args.payload,
                args.binary,
            ),
        );
        match asked {
            Ok(handle) if handle.is_none(py) => Ok(()),
            Ok(handle) => {
                let unclaimed = slf
                    .try_borrow_mut()?
                    .sessions
                    .set_handle(sub_key(sub), handle);
                drop(unclaimed);
                Ok(())
            }
            Err(error) => {
                error.write_unraisable(py, Some(slf));
                let _ = slf
                    .try_borrow_mut()?
                    .sessions
                    .join_error(sub_key(sub), b"{\"reason\":\"join crashed\"}");
                Ok(())
            }
        }
    }

    /// Carries out what the engine wants of Python, until it wants nothing more.
    fn settle(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        loop {
            let (ended, complaints, writes, actions, schedule) = {
                let mut hub = slf.try_borrow_mut()?;
                hub.sessions.close_slow();
                let mut ended = Vec::new();
                while let Some(end) = hub.sessions.next_ended() {
                    ended.push(end);
                }
                let mut complaints = Vec::new();
                while let Some((conn, code, reason)) = hub.sessions.next_complaint() {
                    if let Some(driver) = &hub.driver {
                        let tell = driver.complaints.clone_ref(py);
                        complaints.push((tell, conn.data().as_ffi(), code, reason));
                    }
                }
                let mut writes = Vec::new();
                while let Some((conn, bytes)) = hub.sessions.hub.next_write() {
                    if let Some(peer) = hub.peers.get(conn) {
                        writes.push((conn, peer.transport.clone_ref(py), bytes));
                    }
                }
                let mut actions = Vec::new();
                while let Some(action) = hub.sessions.hub.next_action() {
                    let (Action::Close(conn) | Action::Abort(conn)) = action;
                    if let Some(peer) = hub.peers.get(conn) {
                        actions.push((action, peer.transport.clone_ref(py)));
                    }
                }
                let schedule = !hub.scheduled && hub.sessions.hub.needs_flush();
                let driver = hub.driver.as_ref().filter(|_| schedule);
                let schedule = driver.map(|d| (d.call_soon.clone_ref(py), d.flush.clone_ref(py)));
                hub.scheduled |= schedule.is_some();
                (ended, complaints, writes, actions, schedule)
            };
            if let Some((call_soon, flush)) = schedule {
                call_soon.call1(py, (flush,))?;
            }
            if ended.is_empty() && complaints.is_empty() && writes.is_empty() && actions.is_empty()
            {
                return Ok(());
            }
            for (tell, conn, code, reason) in complaints {
                Self::report(slf, tell.call1(py, (conn, code, reason)));
            }
            for (handle, why) in ended {
                Self::report(slf, handle.call_method1(py, intern!(py, "ended"), (why,)));
            }
            for (conn, transport, bytes) in writes {
                Self::write(slf, conn, &transport, &bytes)?;
            }
            for (action, transport) in actions {
                let method = match action {
                    Action::Close(_) => intern!(py, "close"),
                    Action::Abort(_) => intern!(py, "abort"),
                };
                Self::report(slf, transport.call_method0(py, method));
            }
        }
    }

    /// One connection's failing callback must not keep the others from theirs.
    fn report(slf: &Bound<'_, Self>, outcome: PyResult<Py<PyAny>>) {
        if let Err(error) = outcome {
            error.write_unraisable(slf.py(), Some(slf));
        }
    }

    fn write(
        slf: &Bound<'_, Self>,
        conn: ConnKey,
        transport: &Py<PyAny>,
        bytes: &[u8],
    ) -> PyResult<()> {
        let py = slf.py();
        let written = transport.call_method1(py, intern!(py, "write"), (PyBytes::new(py, bytes),));
        Self::report(slf, written);
        let left = transport.call_method0(py, intern!(py, "get_write_buffer_size"));
        if let Ok(0) = left.and_then(|left| left.extract::<usize>(py)) {
            slf.try_borrow_mut()?.sessions.hub.resume(conn);
        }
        Ok(())
    }
}

#[pymethods]
impl Hub {
    #[new]
    #[pyo3(signature = (*, epoch, outbox_bytes=1 << 20, log_bytes=64 << 20, slice_us=2000, close_grace_ms=5000))]
    fn new(
        epoch: u64,
        outbox_bytes: usize,
        log_bytes: usize,
        slice_us: u64,
        close_grace_ms: u64,
    ) -> Self {
        let config = Config {
            outbox_bytes,
            log_bytes,
            slice: std::time::Duration::from_micros(slice_us),
            close_grace_ms,
        };
        Self {
            sessions: Sessions::new(Engine::new(config, epoch)),
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

    #[pyo3(signature = (*, max_channels, max_message, idle_ms))]
    fn mount(&mut self, max_channels: usize, max_message: usize, idle_ms: u64) -> u16 {
        self.sessions.add_mount(max_channels, max_message, idle_ms)
    }

    #[pyo3(signature = (*, stream, delivery, history_size=0, history_ttl_ms=0, history_bytes=16 << 20, intercept=Vec::new()))]
    fn route(
        &mut self,
        stream: bool,
        delivery: &str,
        history_size: usize,
        history_ttl_ms: u64,
        history_bytes: usize,
        intercept: Vec<String>,
    ) -> PyResult<usize> {
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
            policy: Policy { delivery, history },
            intercepts,
        }))
    }

    fn expose(&mut self, mount: u16, pattern: &str, route: usize) -> PyResult<()> {
        self.sessions
            .expose(mount, pattern, route)
            .map_err(|error| PyValueError::new_err(error.to_string()))
    }

    #[pyo3(signature = (mount, v1, fd, transport, socket, socket_id=None, held=false))]
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
            let conns = hub.sessions.hub.by_id(socket_id);
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

    fn close_some(slf: &Bound<'_, Self>, most: usize, code: u16, reason: &str) -> PyResult<usize> {
        let closed = {
            let mut hub = slf.try_borrow_mut()?;
            hub.tick();
            let engine = &hub.sessions.hub;
            let open = |conn: &ConnKey| engine.conn(*conn).is_some_and(|c| c.is_open());
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
        self.sessions
            .hub
            .topic_by_name(topic)
            .map_or(0, |topic| topic.subscribers())
    }

    fn pending(&self) -> bool {
        self.sessions.hub.needs_flush()
    }

    /// (epoch, offset) of a topic that keeps history.
    fn position(&self, topic: &str) -> Option<(u64, u64)> {
        let history = self.sessions.hub.topic_by_name(topic)?.history.as_ref()?;
        Some((history.epoch(), history.offset()))
    }

    fn recover<'py>(
        &self,
        py: Python<'py>,
        topic: &str,
        epoch: u64,
        offset: u64,
    ) -> PyResult<Option<Bound<'py, PyList>>> {
        let topic = self.sessions.hub.topic_by_name(topic);
        let Some(history) = topic.and_then(|topic| topic.history.as_ref()) else {
            return Ok(None);
        };
        match history.since(epoch, offset) {
            Recovery::Gap => Ok(None),
            Recovery::Complete(kept) => {
                let list = PyList::empty(py);
                for message in kept {
                    let payload = PyBytes::new(py, &message.payload);
                    list.append((message.offset, &*message.event, payload, message.binary))?;
                }
                Ok(Some(list))
            }
        }
    }

    /// Counters; the keys are documented in the stub.
    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let engine = &self.sessions.hub;
        let (stats, counts) = (&engine.stats, &self.sessions.counts);
        let all = PyDict::new(py);
        let numbers: [(&str, u64); 26] = [
            ("connections", engine.connections() as u64),
            ("channels", counts.channels),
            ("topics", engine.topics() as u64),
            ("opened", stats.opened),
            ("closed", stats.closed),
            ("messages_in", stats.messages_in),
            ("bytes_in", stats.bytes_in),
            ("messages_out", stats.messages_out),
            ("bytes_out", stats.bytes_out),
            ("published", stats.published),
            ("deliveries", stats.deliveries),
            ("sends", stats.sends),
            ("short_sends", stats.short_sends),
            ("outbox_bytes", stats.outbox_bytes as u64),
            ("slow_closed", stats.slow_closed),
            ("conflated", stats.conflated),
            ("dropped", stats.dropped),
            ("unencodable", stats.unencodable),
            ("joins", counts.joins),
            ("joins_refused", counts.joins_refused),
            ("leaves", counts.leaves),
            ("heartbeats", counts.heartbeats),
            ("stale", counts.stale),
            ("unmatched", counts.unmatched),
            ("to_stream", counts.to_stream),
            ("fanout_count", stats.fanout.count),
        ];
        for (name, value) in numbers {
            all.set_item(name, value)?;
        }
        all.set_item("fanout_sum", stats.fanout.sum)?;
        all.set_item("fanout_bounds", FANOUT_BOUNDS.to_vec())?;
        all.set_item("fanout_buckets", stats.fanout.buckets.to_vec())?;
        let labelled = |name: &str, pairs: Vec<(&'static str, u64)>| -> PyResult<()> {
            let inner = PyDict::new(py);
            for (label, value) in pairs {
                inner.set_item(label, value)?;
            }
            all.set_item(name, inner)
        };
        labelled(
            "undecodable",
            counts.undecodable.iter().map(|(k, v)| (*k, *v)).collect(),
        )?;
        labelled(
            "violations",
            counts.violations.iter().map(|(k, v)| (*k, *v)).collect(),
        )?;
        let closes = PyDict::new(py);
        for (code, count) in stats.closes() {
            closes.set_item(code, count)?;
        }
        all.set_item("closes", closes)?;
        Ok(all)
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
        Ok(())
    }

    fn __clear__(&mut self) {
        self.driver = None;
        self.peers.clear();
    }
}
