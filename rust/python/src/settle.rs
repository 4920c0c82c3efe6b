//! After every call: what the engine wants done, done with the engine let go.

use moda_core::hub::{Action, ConnKey};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use slotmap::Key;

use crate::hub::Hub;

impl Hub {
    /// Carries out what the engine wants of Python, until it wants nothing more.
    pub fn settle(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        loop {
            let (
                ended,
                freed,
                complaints,
                notices,
                wants,
                writes,
                actions,
                schedule,
                timers,
                start,
                hasty,
            ) = {
                let mut hub = slf.try_borrow_mut()?;
                hub.gateway.close_slow();
                let ended: Vec<_> = std::iter::from_fn(|| hub.gateway.next_ended()).collect();
                let mut freed = Vec::new();
                while let Some(verdict) = hub.gateway.next_deferred() {
                    freed.push(hub.call_for(py, verdict));
                }
                let mut complaints = Vec::new();
                while let Some((conn, code, reason)) = hub.gateway.next_complaint() {
                    if let Some(driver) = &hub.driver {
                        let tell = driver.complaints.clone_ref(py);
                        complaints.push((tell, conn.data().as_ffi(), code, reason));
                    }
                }
                let notices = hub.notices(py)?;
                let wants = hub.wants(py);
                let mut writes = Vec::new();
                while let Some((conn, bytes)) = hub.gateway.hub.next_write() {
                    if let Some(peer) = hub.peers.get(conn) {
                        writes.push((conn, peer.transport.clone_ref(py), bytes));
                    }
                }
                let mut actions = Vec::new();
                while let Some(action) = hub.gateway.hub.next_action() {
                    let (Action::Close(conn) | Action::Abort(conn)) = action;
                    if let Some(peer) = hub.peers.get(conn) {
                        actions.push((action, peer.transport.clone_ref(py)));
                    }
                }
                let schedule = !hub.asked.flush && hub.gateway.needs_flush();
                let driver = hub.driver.as_ref().filter(|_| schedule);
                let schedule = driver.map(|d| (d.call_soon.clone_ref(py), d.flush.clone_ref(py)));
                hub.asked.flush |= schedule.is_some();
                let timers = [hub.timer(py), hub.alarm(py)];
                let start = !hub.asked.joins && hub.gateway.has_joins();
                let driver = hub.driver.as_ref().filter(|_| start);
                let start = driver.map(|d| (d.call_soon.clone_ref(py), d.pace.clone_ref(py)));
                hub.asked.joins |= start.is_some();
                let hasty = hub.hasty(py);
                (
                    ended, freed, complaints, notices, wants, writes, actions, schedule, timers,
                    start, hasty,
                )
            };
            for (call_later, seconds, callback) in timers.into_iter().flatten() {
                call_later.call1(py, (seconds, callback))?;
            }
            if let Some((call_soon, pace)) = start {
                call_soon.call1(py, (pace,))?;
            }
            if let Some((call_soon, flush)) = schedule {
                call_soon.call1(py, (flush,))?;
            }
            Self::hold(slf, hasty);
            let told = ended.is_empty() && freed.is_empty() && complaints.is_empty();
            let told = told && notices.is_empty();
            if told && wants.is_empty() && writes.is_empty() && actions.is_empty() {
                return Ok(());
            }
            Self::notify(slf, notices)?;
            for (fetch, sub, topic, after) in wants {
                Self::report(slf, fetch.call1(py, (sub, &*topic, after)));
            }
            for (tell, conn, code, reason) in complaints {
                Self::report(slf, tell.call1(py, (conn, code, reason)));
            }
            for (handle, why) in ended {
                Self::report(slf, handle.call_method1(py, intern!(py, "ended"), (why,)));
            }
            for call in freed {
                Self::report(slf, call.make(py).map(|()| py.None()));
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

    /// What is needed of the store, and whom to ask.
    fn wants(&mut self, py: Python<'_>) -> Vec<(Py<PyAny>, u64, std::sync::Arc<str>, u64)> {
        let mut wants = Vec::new();
        while let Some(want) = self.gateway.next_want() {
            let fetch = self
                .driver
                .as_ref()
                .and_then(|driver| driver.wants.as_ref());
            if let Some(fetch) = fetch {
                let sub = want.sub.data().as_ffi();
                wants.push((fetch.clone_ref(py), sub, want.topic, want.after));
            }
        }
        wants
    }

    fn hasty(&mut self, py: Python<'_>) -> Vec<Py<PyAny>> {
        let mut hasty = Vec::new();
        while let Some(conn) = self.gateway.next_hasty() {
            hasty.extend(
                self.peers
                    .get(conn)
                    .map(|peer| peer.transport.clone_ref(py)),
            );
        }
        hasty
    }

    /// Reads no further for a while of connections that join faster than their joins are decided.
    fn hold(slf: &Bound<'_, Self>, hasty: Vec<Py<PyAny>>) {
        let py = slf.py();
        for transport in hasty {
            let protocol = transport.call_method0(py, intern!(py, "get_protocol"));
            let held = protocol.and_then(|p| p.call_method0(py, intern!(py, "hold")));
            Self::report(slf, held);
        }
    }

    /// The timer for the next close that has had its time, unless one is under way already: those
    /// that come later end later.
    #[allow(clippy::cast_precision_loss)] // milliseconds of a few seconds
    fn timer(&mut self, py: Python<'_>) -> Option<(Py<PyAny>, f64, Py<PyAny>)> {
        if self.asked.cut_overdue {
            return None;
        }
        let deadline_ms = self.gateway.hub.next_deadline()?;
        let driver = self.driver.as_ref()?;
        let call_later = driver.call_later.as_ref()?.clone_ref(py);
        let left_ms = deadline_ms.saturating_sub(self.gateway.hub.now_ms());
        self.asked.cut_overdue = true;
        let cut_overdue = driver.cut_overdue.clone_ref(py);
        // A millisecond more: the loop's clock and ours do not tick together.
        Some((call_later, (left_ms + 1) as f64 / 1000.0, cut_overdue))
    }

    /// One connection's failing callback must not keep the others from theirs.
    pub fn report(slf: &Bound<'_, Self>, outcome: PyResult<Py<PyAny>>) {
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
            slf.try_borrow_mut()?.gateway.resume(conn);
        }
        Ok(())
    }
}
