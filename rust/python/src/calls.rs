//! From a frame to a call into Python: what the engine cannot answer alone.

use moda_core::dialect::websocket;
use moda_core::gateway::{Content, Verdict};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyString};
use slotmap::Key;

use crate::hub::{conn_key, sub_key, Hub};

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
    conn: u64,
    route: usize,
    socket: Py<PyAny>,
    topic: Py<PyString>,
    params: Py<PyDict>,
    payload: Py<PyBytes>,
    binary: bool,
}

impl Hub {
    /// Bytes of a connection, unmasked in place; the way in for `_session`. Returns what
    /// `moda_core::hub::Hub::wants`.
    pub fn read(slf: &Bound<'_, Self>, conn: u64, mut bytes: &mut [u8]) -> PyResult<Option<u64>> {
        let key = conn_key(conn);
        loop {
            let call = {
                let mut hub = slf.try_borrow_mut()?;
                hub.tick();
                let verdict = websocket::read(&mut hub.gateway, key, &mut bytes);
                hub.call_for(slf.py(), verdict)
            };
            Self::make(slf, call)?;
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
        let call = {
            let mut hub = slf.try_borrow_mut()?;
            hub.tick();
            let verdict =
                websocket::receive(&mut hub.gateway, conn_key(conn), op, fin, false, payload);
            hub.call_for(slf.py(), verdict)
        };
        Self::make(slf, call)
    }

    /// Makes a call with the engine let go.
    fn make(slf: &Bound<'_, Self>, call: Call) -> PyResult<()> {
        let py = slf.py();
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
            Call::Join(joins, args) => {
                // Ends first: who joins again must find the place free that it held until now.
                Self::settle(slf)?;
                Self::ask_join(slf, &joins, args)?;
            }
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
                    .gateway
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
                    .gateway
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
                let conn = self.gateway.hub.sub(sub).map(|sub| sub.conn);
                let peer = conn.and_then(|conn| Some((conn, self.peers.get(conn)?)));
                match (peer, &self.driver) {
                    (Some((conn, peer)), Some(driver)) => Call::Join(
                        driver.joins.clone_ref(py),
                        JoinArgs {
                            sub: sub.data().as_ffi(),
                            conn: conn.data().as_ffi(),
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
