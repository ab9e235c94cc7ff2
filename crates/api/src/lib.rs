//! The REST API: events, webhook endpoints and deliveries over HTTP.
//!
//! Architecture invariant: it never calls the engine. Events and commands go through
//! [`Ingest`](postrider_ingest::Ingest) into the log, configuration through the directory, and what it shows is read
//! from the store. Every query names its tenant; every error is a problem document (RFC 9457); every response
//! carries `x-request-id`.
//!
//! `POST /v1/events` is the hot path: the body is not copied, and the receipt is written by hand.
//!
//! Read [`router`] and [`serve`] first.

mod api;
mod batches;
mod body;
mod deliveries;
mod events;
mod fields;
mod files;
mod find;
mod gate;
mod inputs;
mod jobs;
mod meters;
mod openapi;
mod problem;
mod redelivery;
mod router;
mod server;
mod views;
mod webhooks;

pub use api::{Api, ApiLimits, ApiParts};
pub use openapi::openapi;
pub use router::router;
pub use server::serve;
