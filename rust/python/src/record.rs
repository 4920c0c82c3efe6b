//! Messages as they lie in the driver's store, see `moda_core::log::Record`.

use moda_core::log::Record;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};

/// One message as a record.
#[pyfunction]
pub fn write_record<'py>(
    py: Python<'py>,
    event: &str,
    payload: &[u8],
    binary: bool,
) -> Bound<'py, PyBytes> {
    let mut out = Vec::new();
    let record = Record {
        event,
        payload,
        binary,
    };
    record.write(&mut out);
    PyBytes::new(py, &out)
}

type Read<'py> = (Bound<'py, PyString>, Bound<'py, PyBytes>, bool);

/// (event, payload, binary) of a record. `ValueError` for bytes that are none.
#[pyfunction]
pub fn read_record<'py>(py: Python<'py>, record: &[u8]) -> PyResult<Read<'py>> {
    let record = Record::read(record).ok_or_else(broken)?;
    let event = PyString::new(py, record.event);
    Ok((event, PyBytes::new(py, record.payload), record.binary))
}

/// The records of a page: little-endian lengths of 32 bits, and the records one after the other.
pub fn records<'a>(sizes: &[u8], data: &'a [u8]) -> PyResult<Vec<Record<'a>>> {
    let sizes = sizes.chunks(4).map(|size| size.try_into().ok());
    let mut rest = data;
    let mut all = Vec::with_capacity(sizes.len());
    for size in sizes {
        let size = size.map(u32::from_le_bytes).ok_or_else(broken)?;
        let size = usize::try_from(size).map_err(|_| broken())?;
        let (record, behind) = rest.split_at_checked(size).ok_or_else(broken)?;
        all.push(Record::read(record).ok_or_else(broken)?);
        rest = behind;
    }
    Ok(all)
}

fn broken() -> PyErr {
    PyValueError::new_err("bytes that are no record of this version's log")
}
