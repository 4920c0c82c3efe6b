//! The hub, driven from outside as its contract says.

#[allow(dead_code)] // each test binary uses its part of them
#[path = "../support/frames.rs"]
mod frames;

mod budget;
mod keeping;
mod latest;
mod life;
mod oracle;
mod order;
mod pair;
mod properties;
mod sending;
mod slices;
mod slow;
mod world;
