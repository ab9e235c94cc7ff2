//! The one way in for events: checked, matched to endpoints, and made durable.
//!
//! Architecture invariant: an event is acknowledged only after everything it causes is in the log. The API calls
//! [`Ingest`] with what clients send, the router with what the log holds; both match in the same way.
//!
//! Read [`Submission`] and [`Ingest`] first.

mod budgets;
pub mod clock;
pub mod cloudevents;
mod dead_letter;
mod fanout;
pub mod files;
mod foreign;
mod ids;
mod ingest;
pub mod jobs;
mod submission;

pub use budgets::{Budgets, UsedUp};
pub use dead_letter::dead_letter;
pub use fanout::{CHUNK, DIRECT};
pub use foreign::{ForeignEvent, Format, MAX_VALUE, Reading, TypeOf};
pub use ids::Ids;
pub use ingest::{Ingest, IngestError, Receipt, Redelivery, Source, envelope};
pub use submission::{Invalid, MAX_URLS, Problem, Submission};
