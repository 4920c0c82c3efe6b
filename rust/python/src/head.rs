//! A request's head as an object of bytes and strings.

use moda_core::head;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};

#[pyclass(frozen, get_all, module = "moda._core")]
pub struct RequestHead {
    method: String,
    target: Py<PyBytes>,
    version: &'static str,
    headers: Py<PyList>,
    key: Option<Py<PyBytes>>,
}

/// `ValueError` says what is wrong with it.
#[pyfunction]
pub fn read_head(py: Python<'_>, raw: &[u8]) -> PyResult<RequestHead> {
    let mut lines = head::lines();
    let head =
        head::read(raw, &mut lines).map_err(|error| PyValueError::new_err(error.to_string()))?;
    let headers = PyList::empty(py);
    for header in head.headers {
        let name = PyBytes::new_with(py, header.name.len(), |room| {
            room.copy_from_slice(header.name.as_bytes());
            room.make_ascii_lowercase();
            Ok(())
        })?;
        headers.append((name, PyBytes::new(py, header.value)))?;
    }
    Ok(RequestHead {
        method: head.method.to_owned(),
        target: PyBytes::new(py, head.target.as_bytes()).unbind(),
        version: if head.minor == 1 { "1.1" } else { "1.0" },
        headers: headers.unbind(),
        key: head.key().map(|key| PyBytes::new(py, key).unbind()),
    })
}
