//! What calls are given and give back, between Python's values and the engine's.

use moda_core::gateway::{Body, Unsent};
use moda_core::hub::{ConnKey, Delivery, SubKey};
use moda_core::log::Kept;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};
use slotmap::{Key, KeyData};

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

/// What a route does for a reader who cannot keep up, by the name it has in documents.
pub fn delivery_named(name: &str) -> PyResult<Delivery> {
    match name {
        "every" => Ok(Delivery::Every),
        "latest" => Ok(Delivery::Latest),
        "drop" => Ok(Delivery::Drop),
        other => Err(PyValueError::new_err(format!(
            "delivery takes every, latest or drop, got {other:?}"
        ))),
    }
}

pub fn body(payload: &[u8], binary: bool) -> Body<'_> {
    if binary {
        Body::Binary(payload)
    } else {
        Body::Json(payload)
    }
}

pub fn listed<'k>(
    py: Python<'_>,
    kept: impl IntoIterator<Item = &'k Kept>,
) -> PyResult<Py<PyList>> {
    let list = PyList::empty(py);
    for message in kept {
        let payload = PyBytes::new(py, &message.payload);
        list.append((message.offset, &*message.event, payload, message.binary))?;
    }
    Ok(list.unbind())
}

pub fn sent(outcome: Result<(), Unsent>, what: &str) -> PyResult<bool> {
    match outcome {
        Ok(()) => Ok(true),
        Err(Unsent::Ended) => Ok(false),
        Err(Unsent::Unencodable) => Err(PyValueError::new_err(format!(
            "{what} does not fit a binary frame: join_ref, ref, topic, event and status take at most \
             255 bytes each, and a V1 client (connected without vsn=2.0.0) takes no binary at all"
        ))),
    }
}

/// A published message's position and the channels that intercept it.
pub type Outcome = (Option<(u64, u64)>, Option<Vec<Py<PyAny>>>);
