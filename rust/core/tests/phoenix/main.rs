//! The Phoenix conversation, row by row of the protocol's rules, in every dialect a client may speak.

#[path = "../support/frames.rs"]
mod frames;

mod talk;

mod broadcasts;
mod budget;
mod closes;
mod ends;
mod joins;
mod leaves;
mod messages;
mod payloads;
mod recovery;
mod streams;
