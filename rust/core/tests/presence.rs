//! Presence: clients that merge states and diffs as phoenix.js does hold what the server holds.

#[path = "presence/client.rs"]
mod client;
#[allow(dead_code)] // each test binary uses its part of them
#[path = "support/frames.rs"]
mod frames;
#[path = "presence/members.rs"]
mod members;
#[path = "presence/topics.rs"]
mod topics;
