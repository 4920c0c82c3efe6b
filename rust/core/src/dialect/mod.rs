//! The protocols: each folder reads, writes and holds the conversation of one.

pub mod json;
pub mod phoenix;
pub mod sse;
pub mod websocket;

use std::sync::Arc;

use crate::gateway::{Gateway, Subscription};
use crate::hub::Hub;

/// A gateway that speaks every protocol there is here.
pub fn gateway<H>(hub: Hub<Subscription<H>>) -> Gateway<H> {
    let mut gateway = Gateway::new(hub);
    gateway.add_dialect(Arc::new(phoenix::Phoenix));
    gateway.add_dialect(Arc::new(json::Json));
    gateway.add_dialect(Arc::new(sse::Sse));
    gateway
}
