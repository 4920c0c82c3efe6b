//! What the event loop lends the hub: whom to call, and for what.

use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};

/// A connection's Python side.
pub struct Peer {
    pub transport: Py<PyAny>,
    pub socket: Py<PyAny>,
}

/// What the event loop gave us; set once by `attach`.
pub struct Driver {
    pub call_soon: Py<PyAny>,
    pub flush: Py<PyAny>,
    /// The loop's `call_later`, and what it is to call when a close has had its time, and when a
    /// handler has something to do.
    pub call_later: Option<Py<PyAny>>,
    pub cut_overdue: Py<PyAny>,
    pub wake: Py<PyAny>,
    pub joins: Py<PyAny>,
    /// What is called when joins wait: it calls `start_joins` until that says there are no more.
    pub pace: Py<PyAny>,
    pub complaints: Py<PyAny>,
    /// Hears what is needed of the store; None where there is none.
    pub wants: Option<Py<PyAny>>,
    pub heard: Option<Py<PyAny>>,
}

impl Driver {
    /// For the collector: the loop and the hub hold each other.
    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.call_soon)?;
        visit.call(&self.flush)?;
        visit.call(&self.call_later)?;
        visit.call(&self.cut_overdue)?;
        visit.call(&self.wake)?;
        visit.call(&self.joins)?;
        visit.call(&self.pace)?;
        visit.call(&self.complaints)?;
        visit.call(&self.wants)?;
        visit.call(&self.heard)
    }
}

/// What the loop has been asked for and has not done yet.
#[derive(Default)]
pub struct Asked {
    pub flush: bool,
    pub joins: bool,
    /// A timer for the next close that has had its time.
    pub cut_overdue: bool,
    /// When it will call `wake`, on the hub's clock.
    pub wake: Option<u64>,
}
