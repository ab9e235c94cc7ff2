//! What the API measures.

use std::sync::LazyLock;

use metrics::{Counter, Histogram};
use postrider_metrics::names;
use tokio::time::Instant;

static EVENTS: LazyLock<Counter> = LazyLock::new(|| names::EVENTS.counter(&["api"]));
static TOOK: LazyLock<Histogram> = LazyLock::new(|| names::INGEST_DURATION.histogram(&[]));

/// Notes that a request which came at `begun` brought so many events in.
pub(crate) fn ingested(count: usize, begun: Instant) {
    EVENTS.increment(count as u64);
    TOOK.record(begun.elapsed());
}
