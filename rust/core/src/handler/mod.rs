//! What the engine can do with a topic by itself: each folder is one kind of native handler.
//!
//! A driver names a service and gives it its options as a JSON object ([`service`]); a new one is one
//! line there.

pub mod presence;
pub mod relay;

use std::sync::Arc;

use crate::gateway::Service;

/// A service by its name.
///
/// # Errors
/// What is wrong with the name or the options, and what is accepted.
pub fn service(name: &str, options: &str) -> Result<Arc<dyn Service>, String> {
    match name {
        "presence" => Ok(Arc::new(presence::Presence::from_options(options)?)),
        "relay" => Ok(Arc::new(relay::Relay::from_options(options)?)),
        _ => Err(format!(
            "no service is called {name:?}; there are presence and relay"
        )),
    }
}
