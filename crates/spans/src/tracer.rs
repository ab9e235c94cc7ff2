//! Which spans are recorded, and where they wait.

use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use metrics::Counter;
use postrider_core::id::Uid;
use postrider_core::rng::Rng;
use postrider_core::secret::Secret;
use postrider_core::trace::SpanId;
use postrider_metrics::names;
use tokio::sync::mpsc;

use crate::span::Span;

/// Spans that wait for being sent: some 2 MiB.
const WAITING: usize = 4096;
/// Bits of a trace's id that its sampling is decided by, as OpenTelemetry's consistent sampling does.
const BITS: u32 = 56;

/// What takes spans in this process, if anything does.
static TRACER: OnceLock<Tracer> = OnceLock::new();

/// Where spans go, and which are recorded.
#[derive(Clone, Debug)]
pub struct SpanOptions {
    /// What the receiver's paths begin with, such as `http://127.0.0.1:4318`; `/v1/traces` is added.
    pub endpoint: String,
    /// Sent with each request.
    pub headers: Vec<(String, Secret)>,
    /// The share of events and jobs without a trace of their own that begin one, from 0 to 1.
    pub ratio: f64,
    /// The name of this service.
    pub service: String,
    /// How long one request may take in all.
    pub timeout: Duration,
    /// A PEM file of certificate authorities to trust beside the public ones.
    pub extra_ca: Option<PathBuf>,
}

/// Takes spans.
pub(crate) struct Tracer {
    queue: mpsc::Sender<Span>,
    /// Traces whose last bits are less are left out.
    threshold: u64,
    seed: u64,
    made: AtomicU64,
    dropped: Counter,
}

impl Tracer {
    /// One that records this share of traces, and where its spans come out.
    pub(crate) fn new(ratio: f64) -> Result<(Tracer, mpsc::Receiver<Span>), getrandom::Error> {
        let (queue, spans) = mpsc::channel(WAITING);
        let dropped = names::SPANS.counter(&["dropped"]);
        Ok((Tracer { queue, threshold: threshold(ratio), seed: getrandom::u64()?, made: AtomicU64::new(0), dropped }, spans))
    }

    /// That of this process.
    pub(crate) fn get() -> Option<&'static Tracer> {
        TRACER.get()
    }

    /// Makes it that of this process. Gives it back where there is one.
    pub(crate) fn install(self) -> Result<(), Tracer> {
        TRACER.set(self)
    }

    /// Whether a trace of its own begins with what has this number: the same answer everywhere and for ever.
    pub(crate) fn samples(&self, number: Uid) -> bool {
        (number.0 as u64) & ((1 << BITS) - 1) >= self.threshold
    }

    /// Whether there is room for one more. Where there is none, it counts as dropped.
    pub(crate) fn has_room(&self) -> bool {
        let has_room = self.queue.capacity() > 0;
        if !has_room {
            self.dropped.increment(1);
        }
        has_room
    }

    /// A span that no other has.
    pub(crate) fn next_id(&self) -> SpanId {
        let count = self.made.fetch_add(1, Ordering::Relaxed);
        SpanId::new(Rng::new(self.seed ^ count.rotate_left(32)).bits())
    }

    /// Takes a span that has ended, unless others took its place meanwhile.
    pub(crate) fn take(&self, span: Span) {
        if self.queue.try_send(span).is_err() {
            self.dropped.increment(1);
        }
    }
}

fn threshold(ratio: f64) -> u64 {
    ((1.0 - ratio.clamp(0.0, 1.0)) * (1_u64 << BITS) as f64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use postrider_core::time::Time;

    #[test]
    fn a_share_of_traces_is_recorded_and_more_of_them_with_a_larger_share() {
        let ids: Vec<Uid> = (0..10_000).map(|n| Uid::new(Time(1), 0, Rng::new(n).bits())).collect();
        let sampled = |ratio: f64| {
            let (tracer, _spans) = Tracer::new(ratio).unwrap();
            ids.iter().copied().filter(|id| tracer.samples(*id)).collect::<Vec<_>>()
        };
        assert_eq!((sampled(0.0).len(), sampled(1.0).len()), (0, ids.len()));
        let (few, more) = (sampled(0.1), sampled(0.3));
        assert!((900..1100).contains(&few.len()), "{}", few.len());
        assert!(few.iter().all(|id| more.contains(id)));
    }

    #[test]
    fn spans_are_told_apart() {
        let (tracer, _spans) = Tracer::new(1.0).unwrap();
        let ids: std::collections::HashSet<SpanId> = (0..10_000).map(|_| tracer.next_id()).collect();
        assert_eq!(ids.len(), 10_000);
    }
}
