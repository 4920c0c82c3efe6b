//! From a frame to a call into Python: what the engine cannot answer alone.

use moda_core::dialect::websocket;
use moda_core::gateway::{Content, Gateway, Verdict};
use moda_core::hub::SubKey;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyString};
use slotmap::Key;

use crate::hub::Hub;
use crate::values::{conn_key, sub_key};

/// A call into Python that a frame asks for, made after the engine is let go.
pub enum Call {
    Nothing,
    Message(
        Py<PyAny>,
        Py<PyString>,
        Py<PyBytes>,
        bool,
        Option<Py<PyString>>,
        usize,
    ),
    Leave(Py<PyAny>, Py<PyString>),
}

pub struct JoinArgs {
    sub: u64,
    conn: u64,
    route: usize,
    socket: Py<PyAny>,
    topic: Py<PyString>,
    params: Py<PyDict>,
    payload: Py<PyBytes>,
    binary: bool,
}

fn bytes_of(py: Python<'_>, content: &Content<'_>) -> Py<PyBytes> {
    PyBytes::new(py, &content.bytes).unbind()
}

impl Call {
    /// Makes the call. The engine must be let go.
    pub fn make(self, py: Python<'_>) -> PyResult<()> {
        match self {
            Self::Nothing => {}
            Self::Message(handle, event, payload, binary, reference, size) => {
                let said = (event, payload, binary, reference, size);
                handle.call_method1(py, intern!(py, "deliver"), said)?;
            }
            Self::Leave(handle, reference) => {
                handle.call_method1(py, intern!(py, "leaving"), (reference,))?;
            }
        }
        Ok(())
    }
}

impl Hub {
    /// Bytes of a connection, unmasked in place; the way in for `_session`. Returns what
    /// `moda_core::hub::Hub::wants`.
    pub fn read(slf: &Bound<'_, Self>, conn: u64, mut bytes: &mut [u8]) -> PyResult<Option<u64>> {
        let key = conn_key(conn);
        loop {
            Self::take(slf, |gateway| websocket::read(gateway, key, &mut bytes))?;
            if bytes.is_empty() {
                let mut hub = slf.try_borrow_mut()?;
                return Ok(websocket::wants(&mut hub.gateway, key));
            }
        }
    }

    /// One websocket frame.
    pub fn receive(
        slf: &Bound<'_, Self>,
        conn: u64,
        op: u8,
        fin: bool,
        payload: &[u8],
    ) -> PyResult<()> {
        Self::take(slf, |gateway| {
            websocket::receive(gateway, conn_key(conn), op, fin, false, payload)
        })
    }

    /// Gives the engine something of a client's, and carries out what comes of it.
    pub fn take<'f>(
        slf: &Bound<'_, Self>,
        work: impl FnOnce(&mut Gateway<Py<PyAny>>) -> Verdict<'f>,
    ) -> PyResult<()> {
        let call = {
            let mut hub = slf.try_borrow_mut()?;
            hub.tick();
            let verdict = work(&mut hub.gateway);
            hub.call_for(slf.py(), verdict)
        };
        call.make(slf.py())?;
        Self::settle(slf)
    }

    /// What a verdict asks of Python. Joins are asked by `ask_joins` alone.
    pub fn call_for(&mut self, py: Python<'_>, verdict: Verdict<'_>) -> Call {
        match verdict {
            Verdict::Done | Verdict::Join { .. } => Call::Nothing,
            Verdict::Message {
                sub,
                event,
                payload,
                reference,
                size,
            } => {
                let Some(handle) = self.handle(py, sub) else {
                    self.gateway.taken(sub, size);
                    return Call::Nothing;
                };
                Call::Message(
                    handle,
                    PyString::new(py, &event).unbind(),
                    bytes_of(py, &payload),
                    payload.binary,
                    (reference != "null").then(|| PyString::new(py, &reference).unbind()),
                    size,
                )
            }
            Verdict::Leave { sub, reference } => match self.handle(py, sub) {
                Some(handle) => Call::Leave(handle, PyString::new(py, &reference).unbind()),
                None => Call::Nothing,
            },
        }
    }

    fn handle(&self, py: Python<'_>, sub: SubKey) -> Option<Py<PyAny>> {
        let handle = self.gateway.hub.sub(sub)?.seat.handle.as_ref()?;
        Some(handle.clone_ref(py))
    }

    /// Asks about at most so many of the joins that wait.
    pub fn ask_joins(slf: &Bound<'_, Self>, most: usize) -> PyResult<()> {
        for _ in 0..most {
            let asked = {
                let mut hub = slf.try_borrow_mut()?;
                let Some(join) = hub.gateway.next_join() else {
                    return Ok(());
                };
                hub.tick();
                hub.question(slf.py(), join)
            };
            if let Some((joins, args)) = asked {
                // Ends first: who joins again must find the place free that it held until now.
                Self::settle(slf)?;
                Self::ask_join(slf, &joins, args)?;
            }
        }
        Ok(())
    }

    fn question(&self, py: Python<'_>, join: Verdict<'_>) -> Option<(Py<PyAny>, JoinArgs)> {
        let Verdict::Join {
            sub,
            route,
            topic,
            params,
            payload,
        } = join
        else {
            return None;
        };
        let found = PyDict::new(py);
        for (name, value) in params {
            // Setting a string under a string fails only without memory.
            let _ = found.set_item(name, value);
        }
        let conn = self.gateway.hub.sub(sub)?.conn;
        let peer = self.peers.get(conn)?;
        let driver = self.driver.as_ref()?;
        let args = JoinArgs {
            sub: sub.data().as_ffi(),
            conn: conn.data().as_ffi(),
            route,
            socket: peer.socket.clone_ref(py),
            topic: PyString::new(py, &topic).unbind(),
            params: found.unbind(),
            payload: bytes_of(py, &payload),
            binary: payload.binary,
        };
        Some((driver.joins.clone_ref(py), args))
    }

    /// Hands a join to Python, which answers now or later; keeps what it returns as the handle.
    fn ask_join(slf: &Bound<'_, Self>, joins: &Py<PyAny>, args: JoinArgs) -> PyResult<()> {
        let py = slf.py();
        let sub = args.sub;
        let asked = joins.call1(
            py,
            (
                sub,
                args.conn,
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
                    .gateway
                    .set_handle(sub_key(sub), handle);
                drop(unclaimed);
                Ok(())
            }
            Err(error) => {
                error.write_unraisable(py, Some(slf));
                let _ = slf
                    .try_borrow_mut()?
                    .gateway
                    .join_error(sub_key(sub), b"{\"reason\":\"join crashed\"}");
                Ok(())
            }
        }
    }
}
