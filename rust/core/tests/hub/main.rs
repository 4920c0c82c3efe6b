//! The hub, driven from outside as its contract says.

#[path = "../support/frames.rs"]
mod frames;

mod order;
mod sending;
mod slices;
mod world;
