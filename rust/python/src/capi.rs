//! The way in for bytes: a C function in a capsule, so that `_session` hands over a pointer and a
//! length and no Python object is made for a frame that needs none.

use std::os::raw::{c_int, c_longlong};
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::ptr::NonNull;

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyCapsule;

use crate::hub::Hub;

/// Must match `struct moda_api` in `cython/_session.pxd`.
#[repr(C)]
pub struct Api {
    /// Layout version; `_session` refuses another.
    version: c_int,
    read: unsafe extern "C" fn(
        hub: *mut ffi::PyObject,
        conn: u64,
        bytes: *mut u8,
        len: usize,
    ) -> c_longlong,
}

static API: Api = Api { version: 2, read };

/// What `read` answers when nothing more is to be read, and when the engine failed.
const STOP: c_longlong = -2;
const FAILED: c_longlong = -1;

struct SharedApi(NonNull<Api>);

// SAFETY: it points to a static that nobody writes to.
unsafe impl Send for SharedApi {}

/// The capsule `moda._core._C_API`, holding a pointer to [`Api`].
pub fn capsule(py: Python<'_>) -> PyResult<Bound<'_, PyCapsule>> {
    let pointer = SharedApi(NonNull::from(&API));
    // SAFETY: the pointer is to a static, valid for as long as the process.
    unsafe { PyCapsule::new_with_pointer(py, pointer.0.cast(), c"moda._core._C_API") }
}

/// Bytes that came on a connection; they are unmasked where they lie. Returns how many more the
/// frame begun takes (0: none is begun), `STOP` when no more is to be read of this connection, and
/// `FAILED` when the engine failed, with a Python exception set.
///
/// # Safety
/// Called with the interpreter attached (from Cython, holding the GIL); `hub` is a live reference
/// to a [`Hub`]; `bytes` points to `len` bytes that stay put during the call and that nobody else
/// reads or writes meanwhile.
unsafe extern "C" fn read(
    hub: *mut ffi::PyObject,
    conn: u64,
    bytes: *mut u8,
    len: usize,
) -> c_longlong {
    // SAFETY: the caller holds the GIL, see above.
    let py = unsafe { Python::assume_attached() };
    let outcome = catch_unwind(AssertUnwindSafe(|| -> PyResult<Option<u64>> {
        // SAFETY: `hub` is a live object, see above; the borrow ends with this call.
        let any = unsafe { Bound::from_borrowed_ptr(py, hub) };
        let hub = any.cast::<Hub>()?;
        let bytes = if len == 0 {
            &mut [][..]
        } else {
            // SAFETY: `bytes` is ours alone for `len` bytes during this call, see above.
            unsafe { std::slice::from_raw_parts_mut(bytes, len) }
        };
        Hub::read(hub, conn, bytes)
    }));
    match outcome {
        Ok(Ok(Some(wants))) => c_longlong::try_from(wants).unwrap_or(c_longlong::MAX),
        Ok(Ok(None)) => STOP,
        Ok(Err(error)) => {
            error.restore(py);
            FAILED
        }
        Err(_) => {
            // The panic hook has told where; this connection closes with 1011, the others go on.
            pyo3::exceptions::PyRuntimeError::new_err("the engine panicked on a frame").restore(py);
            FAILED
        }
    }
}
