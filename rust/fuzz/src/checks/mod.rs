//! The rules that hold for any bytes whatsoever, one function per fuzz target.
//!
//! Each is two-sided. What a decoder accepts is well formed by a second, slow implementation and
//! comes back the same when written again; what it refuses, that implementation refuses for the
//! same documented reason. A function panics on bytes that break the rule, and is quiet otherwise.
//!
//! The fuzzer feeds them bytes it invents. `rust/core/tests/corpus.rs` includes this folder and
//! feeds them the committed corpus, on any toolchain.

mod feeds;
mod frames;
mod grammar;
mod heads;
mod numbers;
mod places;
mod sockets;

pub use feeds::feed;
pub use frames::{frame_binary, frame_text};
pub use heads::head;
pub use numbers::varuint;
pub use places::event_id;
pub use sockets::websocket;
