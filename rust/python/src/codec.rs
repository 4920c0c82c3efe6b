//! The codecs as plain functions: for the tests that hold them against the Python oracle, and for
//! the feeds that unwrap frames.

use std::borrow::Cow;

use moda_core::dialect::phoenix::{self, encode, DecodeError, Inbound, Payload, TooLong};
use moda_core::feed::{self, Combined};
use moda_core::varuint;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

type Decoded<'py> = (
    String,
    String,
    Option<String>,
    String,
    String,
    Bound<'py, PyBytes>,
    bool,
);

fn decoded<'py>(
    py: Python<'py>,
    message: Result<Inbound<'_>, DecodeError>,
) -> PyResult<Decoded<'py>> {
    let message = message.map_err(|error| PyValueError::new_err(error.as_str()))?;
    let (payload, binary) = match message.payload {
        Payload::Json(json) => (json.as_bytes(), false),
        Payload::Binary(data) => (data, true),
        Payload::TooDeep => return Err(PyValueError::new_err("too_deep")),
    };
    Ok((
        message.join_ref.into_owned(),
        message.reference.into_owned(),
        message.topic.map(Cow::into_owned),
        message.topic_json.into_owned(),
        message.event.into_owned(),
        PyBytes::new(py, payload),
        binary,
    ))
}

#[pyfunction]
pub fn decode_text<'py>(py: Python<'py>, frame: &[u8]) -> PyResult<Decoded<'py>> {
    decoded(py, phoenix::decode_text(frame))
}

#[pyfunction]
pub fn decode_v1<'py>(py: Python<'py>, frame: &[u8]) -> PyResult<Decoded<'py>> {
    decoded(py, phoenix::decode_v1(frame))
}

#[pyfunction]
pub fn decode_binary<'py>(py: Python<'py>, frame: &[u8]) -> PyResult<Decoded<'py>> {
    decoded(py, phoenix::decode_binary(frame))
}

fn written(py: Python<'_>, write: impl FnOnce(&mut Vec<u8>)) -> Bound<'_, PyBytes> {
    let mut out = Vec::new();
    write(&mut out);
    PyBytes::new(py, &out)
}

fn tried(
    py: Python<'_>,
    write: impl FnOnce(&mut Vec<u8>) -> Result<(), TooLong>,
) -> PyResult<Bound<'_, PyBytes>> {
    let mut out = Vec::new();
    write(&mut out).map_err(|error| PyValueError::new_err(error.to_string()))?;
    Ok(PyBytes::new(py, &out))
}

#[pyfunction]
pub fn encode_text_push<'py>(
    py: Python<'py>,
    join_ref: &str,
    topic: &str,
    event: &str,
    payload: &[u8],
) -> Bound<'py, PyBytes> {
    written(py, |out| {
        encode::text_push(out, join_ref, topic, event, payload);
    })
}

#[pyfunction]
pub fn encode_text_reply<'py>(
    py: Python<'py>,
    join_ref: &str,
    reference: &str,
    topic_json: &str,
    status: &str,
    response: &[u8],
) -> Bound<'py, PyBytes> {
    written(py, |out| {
        encode::text_reply(out, join_ref, reference, topic_json, status, response);
    })
}

#[pyfunction]
pub fn encode_text_broadcast<'py>(
    py: Python<'py>,
    topic: &str,
    event: &str,
    payload: &[u8],
) -> Bound<'py, PyBytes> {
    written(py, |out| {
        encode::text_broadcast(out, topic, event, payload, None);
    })
}

#[pyfunction]
pub fn encode_v1_broadcast<'py>(
    py: Python<'py>,
    topic: &str,
    event: &str,
    payload: &[u8],
) -> Bound<'py, PyBytes> {
    written(py, |out| {
        encode::v1_broadcast(out, topic, event, payload, None);
    })
}

#[pyfunction]
pub fn encode_v1_reply<'py>(
    py: Python<'py>,
    reference: &str,
    topic_json: &str,
    status: &str,
    response: &[u8],
) -> Bound<'py, PyBytes> {
    written(py, |out| {
        encode::v1_reply(out, "null", reference, topic_json, status, response);
    })
}

#[pyfunction]
pub fn encode_binary_push<'py>(
    py: Python<'py>,
    join_ref: &str,
    topic: &str,
    event: &str,
    data: &[u8],
) -> PyResult<Bound<'py, PyBytes>> {
    tried(py, |out| {
        encode::binary_push(out, join_ref, topic, event, data)
    })
}

#[pyfunction]
pub fn encode_binary_reply<'py>(
    py: Python<'py>,
    join_ref: &str,
    reference: &str,
    topic: &str,
    status: &str,
    data: &[u8],
) -> PyResult<Bound<'py, PyBytes>> {
    tried(py, |out| {
        encode::binary_reply(out, join_ref, reference, topic, status, data)
    })
}

#[pyfunction]
pub fn encode_binary_broadcast<'py>(
    py: Python<'py>,
    topic: &str,
    event: &str,
    data: &[u8],
) -> PyResult<Bound<'py, PyBytes>> {
    tried(py, |out| encode::binary_broadcast(out, topic, event, data))
}

/// (value, bytes taken).
#[pyfunction]
pub fn read_varuint(data: &[u8]) -> PyResult<(u64, usize)> {
    varuint::read(data).map_err(|error| PyValueError::new_err(error.to_string()))
}

#[pyfunction]
pub fn write_varuint(py: Python<'_>, value: u64) -> Bound<'_, PyBytes> {
    written(py, |out| varuint::write(out, value))
}

type Unwrapped<'py> = (String, Bound<'py, PyBytes>, Option<String>, Option<u64>);

/// One upstream frame: (kind, data, symbol, event time in ms). `kind` is the event's `e` ("" when
/// it has none), "answer" or "refusal"; `data` the event's exact bytes, the result, or the message.
#[pyfunction]
pub fn unwrap_combined<'py>(py: Python<'py>, frame: &[u8]) -> PyResult<Unwrapped<'py>> {
    let combined =
        feed::unwrap_combined(frame).map_err(|error| PyValueError::new_err(error.as_str()))?;
    Ok(match combined {
        Combined::Event(event) => (
            event.kind.map_or_else(String::new, Cow::into_owned),
            PyBytes::new(py, event.data),
            event.symbol.map(Cow::into_owned),
            event.time,
        ),
        Combined::Answer { result, .. } => (
            "answer".into(),
            PyBytes::new(py, result.as_bytes()),
            None,
            None,
        ),
        Combined::Refusal { message, .. } => (
            "refusal".into(),
            PyBytes::new(py, message.as_bytes()),
            None,
            None,
        ),
    })
}
