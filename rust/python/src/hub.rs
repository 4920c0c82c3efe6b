//! The class `Hub`: Python's calls in, the engine's wishes out.
//!
//! The rule that keeps this sound: no Python code runs while the engine is borrowed. Every method
//! borrows, computes, lets go, and only then calls Python (`settle`), which may call back in.

use std::time::Instant;

use moda_core::dialect;
use moda_core::gateway::{Gateway, InwardLimits, Kind, Route, Unsent};
use moda_core::handler::presence::Wish;
use moda_core::hub::{Codec, Config, ConnKey, Hub as Engine, Policy, Sink, Topic};
use moda_core::log::{History, Limits, Position, Recovery};
use moda_core::pointer::Pointer;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList};
use pyo3::{intern, PyTraverseError, PyVisit};
use slotmap::{Key, SecondaryMap};

use crate::counters::counters;
use crate::driver::{Asked, Driver, Peer};
use crate::native::services;
use crate::record::records;
use crate::values::{body, conn_key, delivery_named, listed, sent, sub_key, Outcome};

#[pyclass(module = "moda._core")]
pub struct Hub {
    pub(crate) gateway: Gateway<Py<PyAny>>,
    /// Of the mounts, by their number.
    paths: Vec<String>,
    pub(crate) peers: SecondaryMap<ConnKey, Peer>,
    pub(crate) driver: Option<Driver>,
    pub(crate) asked: Asked,
    started: Instant,
}

impl Hub {
    pub fn tick(&mut self) {
        let elapsed = self.started.elapsed().as_millis();
        self.gateway
            .hub
            .set_now(u64::try_from(elapsed).unwrap_or(u64::MAX));
    }

    /// Does something with the engine at this moment, lets it go, and carries out what it wants.
    pub(crate) fn with<T>(slf: &Bound<'_, Self>, work: impl FnOnce(&mut Self) -> T) -> PyResult<T> {
        let outcome = {
            let mut hub = slf.try_borrow_mut()?;
            hub.tick();
            work(&mut hub)
        };
        Self::settle(slf)?;
        Ok(outcome)
    }
}

#[pymethods]
impl Hub {
    #[new]
    #[pyo3(signature = (*, epoch, outbox_bytes=1 << 20, outbox_burst=0, stall_ms=10_000, outboxes_bytes=256 << 20, log_bytes=64 << 20, history_bytes=256 << 20, slice_us=2000, close_grace_ms=5000, inbox_messages=1000, inbox_bytes=8 << 20, inbox_total=256 << 20))]
    #[allow(clippy::too_many_arguments)] // by keyword: each is one limit of the hub
    fn new(
        epoch: u64,
        outbox_bytes: usize,
        outbox_burst: usize,
        stall_ms: u64,
        outboxes_bytes: usize,
        log_bytes: usize,
        history_bytes: usize,
        slice_us: u64,
        close_grace_ms: u64,
        inbox_messages: u32,
        inbox_bytes: usize,
        inbox_total: usize,
    ) -> Self {
        let config = Config {
            outbox_bytes,
            outbox_burst,
            stall_ms,
            outboxes_bytes,
            log_bytes,
            history_bytes,
            slice: std::time::Duration::from_micros(slice_us),
            close_grace_ms,
        };
        let mut gateway = dialect::gateway(Engine::new(config, epoch));
        gateway.inward.limits = InwardLimits {
            messages: inbox_messages,
            connection: inbox_bytes,
            process: inbox_total,
        };
        Self {
            gateway,
            paths: Vec::new(),
            peers: SecondaryMap::new(),
            driver: None,
            asked: Asked::default(),
            started: Instant::now(),
        }
    }

    #[pyo3(signature = (call_soon, joins, complaints, call_later=None, pace=None, wants=None, heard=None))]
    #[allow(clippy::too_many_arguments)] // what the loop has for us, each by name
    fn attach(
        slf: &Bound<'_, Self>,
        call_soon: Py<PyAny>,
        joins: Py<PyAny>,
        complaints: Py<PyAny>,
        call_later: Option<Py<PyAny>>,
        pace: Option<Py<PyAny>>,
        wants: Option<Py<PyAny>>,
        heard: Option<Py<PyAny>>,
    ) -> PyResult<()> {
        let all = slf.getattr(intern!(slf.py(), "start_joins"))?.unbind();
        let flush = slf.getattr(intern!(slf.py(), "flush"))?.unbind();
        let cut_overdue = slf.getattr(intern!(slf.py(), "cut_overdue"))?.unbind();
        let wake = slf.getattr(intern!(slf.py(), "wake"))?.unbind();
        let mut hub = slf.try_borrow_mut()?;
        hub.driver = Some(Driver {
            call_soon,
            flush,
            call_later,
            cut_overdue,
            wake,
            joins,
            pace: pace.unwrap_or(all),
            complaints,
            wants,
            heard,
        });
        hub.asked = Asked::default();
        Ok(())
    }

    fn detach(&mut self) -> bool {
        self.driver.take().is_some()
    }

    #[pyo3(signature = (*, path, max_channels, max_message, idle_ms, ping_ms=0, sign_ms=0))]
    fn mount(
        &mut self,
        path: String,
        max_channels: usize,
        max_message: usize,
        idle_ms: u64,
        ping_ms: u64,
        sign_ms: u64,
    ) -> u16 {
        self.paths.push(path);
        let mount = self.gateway.add_mount(max_channels, max_message, idle_ms);
        self.gateway.ping_after(mount, ping_ms);
        self.gateway.send_signs(mount, sign_ms);
        mount
    }

    #[pyo3(signature = (*, stream, delivery, history_size=0, history_ttl_ms=0, history_bytes=16 << 20, intercept=Vec::new(), durable=false, key=None, handlers=Vec::new()))]
    #[allow(clippy::too_many_arguments)] // a policy, each part of it by name
    fn route(
        &mut self,
        stream: bool,
        delivery: &str,
        history_size: usize,
        history_ttl_ms: u64,
        history_bytes: usize,
        intercept: Vec<String>,
        durable: bool,
        key: Option<&str>,
        handlers: Vec<(String, String)>,
    ) -> PyResult<usize> {
        let key = key.map(Pointer::parse).transpose();
        let key = key.map_err(|error| PyValueError::new_err(error.to_string()))?;
        let delivery = delivery_named(delivery)?;
        let history = (history_size > 0).then_some(Limits {
            size: history_size,
            ttl_ms: history_ttl_ms,
            bytes: history_bytes,
        });
        let intercepts = (!intercept.is_empty()).then(|| {
            std::sync::Arc::new(intercept.into_iter().map(String::into_boxed_str).collect())
        });
        let services = services(handlers)?;
        let route = self.gateway.add_route(Route {
            kind: if stream { Kind::Stream } else { Kind::Channel },
            policy: Policy {
                delivery,
                key: key.map(std::sync::Arc::new),
                history,
                durable,
            },
            intercepts,
        });
        for service in services {
            self.gateway.serve(route, service);
        }
        Ok(route)
    }

    /// The number of a dialect's variant, for `open`.
    fn codec(&self, name: &str) -> PyResult<usize> {
        self.gateway.codec(name).map(Codec::index).ok_or_else(|| {
            let known: Vec<_> = self.gateway.variants().collect();
            PyValueError::new_err(format!(
                "no dialect writes {name:?}; there are {}",
                known.join(", ")
            ))
        })
    }

    fn expose(&mut self, mount: u16, pattern: &str, route: usize) -> PyResult<()> {
        self.gateway
            .expose(mount, pattern, route)
            .map_err(|error| PyValueError::new_err(error.to_string()))
    }

    fn withdraw(&mut self, mount: u16) {
        self.gateway.withdraw(mount);
    }

    #[pyo3(signature = (mount, codec, fd, transport, socket, socket_id=None, held=false))]
    #[allow(clippy::too_many_arguments)] // one call per connection, each argument a fact about it
    fn open(
        slf: &Bound<'_, Self>,
        mount: u16,
        codec: u8,
        fd: Option<i32>,
        transport: Py<PyAny>,
        socket: Py<PyAny>,
        socket_id: Option<&str>,
        held: bool,
    ) -> PyResult<u64> {
        let codec = Codec::new(codec).ok_or_else(|| {
            PyValueError::new_err(format!("a codec is a number of Hub.codec, got {codec}"))
        })?;
        let sink = fd.map_or(Sink::Transport, Sink::Socket);
        Self::with(slf, |hub| {
            let conn = hub.gateway.open(codec, mount, sink, socket_id);
            if held {
                hub.gateway.hub.block(conn);
            }
            hub.peers.insert(conn, Peer { transport, socket });
            conn.data().as_ffi()
        })
    }

    fn lost(slf: &Bound<'_, Self>, conn: u64) -> PyResult<()> {
        let peer = {
            let mut hub = slf.try_borrow_mut()?;
            hub.gateway.lost(conn_key(conn));
            hub.peers.remove(conn_key(conn))
        };
        drop(peer);
        Self::settle(slf)
    }

    fn resume(slf: &Bound<'_, Self>, conn: u64) -> PyResult<()> {
        Self::with(slf, |hub| hub.gateway.resume(conn_key(conn)))
    }

    fn cut_overdue(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::with(slf, |hub| {
            hub.asked.cut_overdue = false;
            hub.gateway.hub.cut_overdue();
        })
    }

    fn flush(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::with(slf, |hub| {
            hub.asked.flush = false;
            hub.gateway.flush();
        })
    }

    /// The time has come that `attach`'s `call_later` was asked for.
    fn wake(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::with(slf, |hub| {
            hub.asked.wake = None;
            hub.gateway.wake();
        })
    }

    fn frame(slf: &Bound<'_, Self>, conn: u64, op: u8, fin: bool, payload: &[u8]) -> PyResult<()> {
        Self::receive(slf, conn, op, fin, payload)
    }

    /// As the session hands bytes over, by copy.
    fn feed(slf: &Bound<'_, Self>, conn: u64, data: &[u8]) -> PyResult<Option<u64>> {
        Self::read(slf, conn, &mut data.to_vec())
    }

    fn message(slf: &Bound<'_, Self>, conn: u64, text: bool, message: &[u8]) -> PyResult<()> {
        Self::take(slf, |gateway| {
            gateway.message(conn_key(conn), text, message)
        })
    }

    // -- decisions on channels

    /// Asks about the joins that wait, at most so many; True when there are more.
    #[pyo3(signature = (most=usize::MAX))]
    fn start_joins(slf: &Bound<'_, Self>, most: usize) -> PyResult<bool> {
        Self::ask_joins(slf, most)?;
        Self::settle(slf)?;
        let mut hub = slf.try_borrow_mut()?;
        hub.asked.joins = hub.gateway.has_joins();
        Ok(hub.asked.joins)
    }

    /// A message that was delivered is handled now: it waits no longer.
    fn taken(&mut self, sub: u64, size: usize) {
        self.gateway.taken(sub_key(sub), size);
    }

    fn join_ok(slf: &Bound<'_, Self>, sub: u64, response: &[u8], binary: bool) -> PyResult<bool> {
        let outcome = slf
            .try_borrow_mut()?
            .gateway
            .join_ok(sub_key(sub), body(response, binary));
        // A stream's handle ends here, with the engine let go.
        let outcome = outcome.map(drop);
        Self::settle(slf)?;
        sent(outcome, "the join reply")
    }

    /// Moves a join under way to a lane (see `moda_core::hub::Hub::reseat`).
    fn reseat(&mut self, sub: u64, address: &str) -> bool {
        self.gateway.hub.reseat(sub_key(sub), address)
    }

    fn join_error(slf: &Bound<'_, Self>, sub: u64, response: &[u8]) -> PyResult<bool> {
        let outcome = slf
            .try_borrow_mut()?
            .gateway
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
        let outcome = slf.try_borrow_mut()?.gateway.reply(
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
                .gateway
                .push(sub_key(sub), event, body(payload, binary));
        Self::settle(slf)?;
        sent(outcome, "the push")
    }

    fn finish_leave(slf: &Bound<'_, Self>, sub: u64, reference: &str) -> PyResult<()> {
        let handle = slf
            .try_borrow_mut()?
            .gateway
            .finish_leave(sub_key(sub), reference);
        drop(handle);
        Self::settle(slf)
    }

    fn end(slf: &Bound<'_, Self>, sub: u64, crash: bool) -> PyResult<bool> {
        let handle = slf.try_borrow_mut()?.gateway.end(sub_key(sub), crash);
        let ended = handle.is_some();
        drop(handle);
        Self::settle(slf)?;
        Ok(ended)
    }

    // -- presence

    fn track(
        slf: &Bound<'_, Self>,
        sub: u64,
        key: &str,
        meta: &[u8],
    ) -> PyResult<Option<&'static str>> {
        Self::present(slf, sub, key, Wish::Track(meta.into()))
    }

    fn update(
        slf: &Bound<'_, Self>,
        sub: u64,
        key: &str,
        meta: &[u8],
    ) -> PyResult<Option<&'static str>> {
        Self::present(slf, sub, key, Wish::Update(meta.into()))
    }

    fn untrack(slf: &Bound<'_, Self>, sub: u64, key: &str) -> PyResult<Option<&'static str>> {
        Self::present(slf, sub, key, Wish::Untrack)
    }

    fn presence(&mut self, py: Python<'_>, topic: &str) -> Option<Py<PyBytes>> {
        let read = self.read_presence(topic)?;
        Some(PyBytes::new(py, &read).unbind())
    }

    // -- broadcasts and connections

    fn permit(&mut self, sub: u64, publish: bool) {
        self.permit_publish(sub_key(sub), publish);
    }

    /// Whether `attach`'s `heard` is to be told what handlers publish to a topic.
    fn watch(&mut self, topic: &str, on: bool) {
        self.gateway.watch(topic, on);
    }

    #[pyo3(signature = (topic, event, payload, binary=false, key=None, exclude=0, at=None))]
    #[allow(clippy::too_many_arguments)] // a message and where it stands
    fn publish(
        slf: &Bound<'_, Self>,
        topic: &str,
        event: &str,
        payload: &[u8],
        binary: bool,
        key: Option<&str>,
        exclude: u64,
        at: Option<(u64, u64)>,
    ) -> PyResult<Outcome> {
        let py = slf.py();
        if binary && (topic.len() > 255 || event.len() > 255) {
            return sent(Err(Unsent::Unencodable), "the broadcast").map(|_| (None, None));
        }
        let (position, handles) = Self::with(slf, |hub| {
            let body = body(payload, binary);
            let at = at.map(|(epoch, offset)| Position { epoch, offset });
            let exclude = sub_key(exclude);
            let published = hub.gateway.publish_at(topic, event, body, key, exclude, at);
            let handle = |sub| hub.gateway.hub.sub(sub)?.seat.handle.as_ref();
            let interceptors = published.interceptors.into_iter();
            let handles: Vec<_> = interceptors
                .filter_map(|sub| Some(handle(sub)?.clone_ref(py)))
                .collect();
            (published.position, handles)
        })?;
        let position = position.map(|at| (at.epoch, at.offset));
        Ok((position, (!handles.is_empty()).then_some(handles)))
    }

    // -- logs in the driver's store

    fn durable_route(&self, topic: &str) -> Option<usize> {
        self.gateway.durable_route(topic)
    }

    fn open_log(&mut self, topic: &str, epoch: u64, offset: u64, floor: u64) {
        let position = Position { epoch, offset };
        self.gateway.hub.open_log(topic, position, floor);
    }

    fn fetched(
        slf: &Bound<'_, Self>,
        sub: u64,
        epoch: u64,
        first: u64,
        sizes: &[u8],
        data: &[u8],
    ) -> PyResult<()> {
        let first = Position {
            epoch,
            offset: first,
        };
        let kept = records(sizes, data)?.into_iter();
        Self::with(slf, |hub| hub.gateway.fetched(sub_key(sub), first, kept))
    }

    fn unfetched(slf: &Bound<'_, Self>, sub: u64) -> PyResult<()> {
        let handle = slf.try_borrow_mut()?.gateway.unfetched(sub_key(sub));
        drop(handle);
        Self::settle(slf)
    }

    fn disconnect(slf: &Bound<'_, Self>, socket_id: &str) -> PyResult<usize> {
        Self::with(slf, |hub| hub.gateway.disconnect(socket_id))
    }

    fn close(slf: &Bound<'_, Self>, conn: u64, code: u16, reason: &str) -> PyResult<()> {
        Self::with(slf, |hub| {
            hub.gateway
                .close(conn_key(conn), code, reason, "closed", false);
        })
    }

    fn close_some(slf: &Bound<'_, Self>, most: usize, code: u16, reason: &str) -> PyResult<usize> {
        Self::with(slf, |hub| hub.gateway.close_some(most, code, reason))
    }

    fn sweep(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::with(slf, |hub| hub.gateway.sweep())
    }

    // -- questions

    fn connections(&self) -> usize {
        self.gateway.hub.connections()
    }

    fn subscribers(&self, topic: &str) -> usize {
        self.gateway.hub.subscribers(topic)
    }

    fn seated(&self, address: &str) -> usize {
        let lane = self.gateway.hub.topic_by_name(address);
        lane.map_or(0, Topic::subscribers)
    }

    fn pending(&self) -> bool {
        self.gateway.needs_flush()
    }

    /// (epoch, offset) of a topic that keeps history.
    fn position(&mut self, topic: &str) -> Option<(u64, u64)> {
        self.tick();
        let here = self.gateway.position(topic)?;
        Some((here.epoch, here.offset))
    }

    fn recover(
        &mut self,
        py: Python<'_>,
        topic: &str,
        epoch: u64,
        offset: u64,
    ) -> PyResult<Option<Py<PyList>>> {
        self.tick();
        match self.gateway.missed(topic, Position { epoch, offset }) {
            Recovery::Gap => Ok(None),
            Recovery::Complete(kept) => listed(py, kept).map(Some),
        }
    }

    fn history(&mut self, py: Python<'_>, topic: &str) -> PyResult<Py<PyList>> {
        self.tick();
        let history = self.gateway.hub.history(topic);
        listed(py, history.into_iter().flat_map(History::all))
    }

    /// Counters; the keys are documented in the stub.
    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        counters(py, &self.gateway, &self.paths)
    }

    fn __repr__(&self) -> String {
        format!(
            "<Hub connections={} topics={}>",
            self.gateway.hub.connections(),
            self.gateway.hub.topics()
        )
    }

    // The hub holds Python objects that hold the hub.

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        if let Some(driver) = &self.driver {
            driver.traverse(&visit)?;
        }
        for peer in self.peers.values() {
            visit.call(&peer.transport)?;
            visit.call(&peer.socket)?;
        }
        for handle in self.gateway.handles() {
            visit.call(handle)?;
        }
        Ok(())
    }

    fn __clear__(slf: &Bound<'_, Self>) {
        // Dropped after the engine is let go: the last reference to an object runs its Python, which
        // may call the hub. One that is borrowed now is in use, and so no garbage.
        let held = slf.try_borrow_mut().ok().map(|mut hub| {
            let handles = hub.gateway.take_handles();
            (handles, std::mem::take(&mut hub.peers), hub.driver.take())
        });
        drop(held);
    }
}
