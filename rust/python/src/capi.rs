//! The way in for frames: a C function in a capsule, so that `_session` hands over a pointer and a
//! length and no Python object is made for a frame that needs none.

use std::os::raw::c_int;
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
    frame: unsafe extern "C" fn(
        hub: *mut ffi::PyObject,
        conn: u64,
        op: u8,
        fin: c_int,
        rsv: c_int,
        payload: *const u8,
        len: usize,
    ) -> c_int,
}

static API: Api = Api { version: 1, frame };

struct SharedApi(NonNull<Api>);

// SAFETY: it points to a static that nobody writes to.
unsafe impl Send for SharedApi {}

/// The capsule `moda._core._C_API`, holding a pointer to [`Api`].
pub fn capsule(py: Python<'_>) -> PyResult<Bound<'_, PyCapsule>> {
    let pointer = SharedApi(NonNull::from(&API));
    // SAFETY: the pointer is to a static, valid for as long as the process.
    unsafe { PyCapsule::new_with_pointer(py, pointer.0.cast(), c"moda._core._C_API") }
}

/// One websocket frame of a connection. 0 when taken; -1 when the engine failed, with a Python
/// exception set.
///
/// # Safety
/// Called with the interpreter attached (from Cython, holding the GIL); `hub` is a live reference
/// to a [`Hub`]; `payload` points to `len` readable bytes that stay put during the call.
unsafe extern "C" fn frame(
    hub: *mut ffi::PyObject,
    conn: u64,
    op: u8,
    fin: c_int,
    rsv: c_int,
    payload: *const u8,
    len: usize,
) -> c_int {
    // SAFETY: the caller holds the GIL, see above.
    let py = unsafe { Python::assume_attached() };
    let outcome = catch_unwind(AssertUnwindSafe(|| -> PyResult<()> {
        // SAFETY: `hub` is a live object, see above; the borrow ends with this call.
        let any = unsafe { Bound::from_borrowed_ptr(py, hub) };
        let hub = any.cast::<Hub>()?;
        let bytes = if len == 0 {
            &[][..]
        } else {
            // SAFETY: `payload` is readable for `len` bytes during this call, see above.
            unsafe { std::slice::from_raw_parts(payload, len) }
        };
        Hub::receive(hub, conn, op, fin != 0, rsv != 0, bytes)
    }));
    match outcome {
        Ok(Ok(())) => 0,
        Ok(Err(error)) => {
            error.restore(py);
            -1
        }
        Err(_) => {
            // The panic hook has told where; this connection closes with 1011, the others go on.
            pyo3::exceptions::PyRuntimeError::new_err("the engine panicked on a frame").restore(py);
            -1
        }
    }
}
