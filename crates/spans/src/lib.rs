//! Spans of traces that are recorded, and their way to an OTLP receiver.
//!
//! Who works begins a [`Span`] and ends it. Where nobody takes spans, the trace is not sampled, or more come than can be sent,
//! there is none, and nothing is done for it: no allocation, no clock. Before [`install`] nobody takes them, so that crates can
//! be tested without.
//!
//! Architecture invariant: recording waits for nothing. A receiver that hangs, refuses or is gone costs spans, which are
//! counted, and never a delivery.
//!
//! Read [`Span`] and [`Exporter`] first.

mod collector;
mod exporter;
mod messages;
mod span;
mod tracer;

pub use collector::OpenError;
pub use exporter::{Exporter, check, install};
pub use span::{Kind, Span, Value, attribute, handed_on};
pub use tracer::SpanOptions;
