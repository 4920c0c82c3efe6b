//! The engine of moda. No Python, no event loop, no I/O but `send(2)`: it is fed bytes and
//! calls, and drained of verdicts, writes and closings. Whoever drives it says in which thread.
//!
//! Top to bottom: `varuint`, `head`, `ws`, `phoenix`, `pointer` and `feed` know bytes; `router` knows addresses;
//! `hub` knows who subscribed to what and puts bytes on sockets; `session` is the Phoenix
//! conversation on top of a hub connection.

pub mod feed;
pub mod head;
pub mod hub;
pub mod phoenix;
pub mod pointer;
pub mod router;
pub mod session;
pub mod varuint;
pub mod ws;
