//! Event streams as their readers see them.

mod answers;
mod properties;
mod reader;
mod streams;
