//! The engine of moda. No Python, no event loop, no I/O but `send(2)`: it is fed bytes and
//! calls, and drained of verdicts, writes and closings. Whoever drives it says in which thread.
//!
//! From the bottom up: `varuint`, `json`, `pointer`, `head`, `ws` and `feed` know bytes; `router`
//! knows addresses; `log` numbers and keeps a topic's messages; `hub` knows who subscribes to what and
//! puts bytes on sockets; `gateway` has mounts, routes, joins and ends, and knows no protocol; every
//! folder of `dialect` is one protocol on top of it, every folder of `handler` one kind of topic that the
//! engine serves by itself. A file uses what stands before it in this list.

pub mod dialect;
pub mod feed;
pub mod gateway;
pub mod handler;
pub mod head;
pub mod hub;
pub mod json;
pub mod log;
pub mod pointer;
pub mod router;
pub mod varuint;
pub mod ws;
