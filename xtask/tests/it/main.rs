//! What the repository says to other programs is true of itself.

// Helpers of tests are not tests, so clippy.toml's exception does not reach them.
#![allow(clippy::unwrap_used)]

mod chart;
mod compose;
mod image;
mod tools;
mod unit;
