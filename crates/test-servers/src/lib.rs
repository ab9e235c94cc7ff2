//! Servers that tests start: an OpenAI-compatible one that says and fails what it is told to, and a real one of S3's protocol; and
//! the certificates of both.
//!
//! Never part of the product: only `[dev-dependencies]` name it.

// Helpers of tests are not tests, so clippy.toml's exception does not reach them.
#![allow(clippy::unwrap_used)]

mod answer;
mod certificates;
mod s3;
mod upstream;

pub use certificates::Certificates;
pub use s3::S3;
pub use upstream::{Asked, FakeUpstream, Reply};
