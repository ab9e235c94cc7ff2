//! Histograms that count in place.
//!
//! The exporter's own keep every measurement until somebody sorts them into buckets. At tens of thousands of deliveries a
//! second that costs several times what these do: an addition to a bucket, and one to the sum.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use metrics::{HistogramFn, Key};
use metrics_exporter_prometheus::LabelSet;
use metrics_exporter_prometheus::formatting::{write_help_line, write_metric_line, write_type_line};

use crate::metric::Shape;
use crate::names::ALL;

/// One series.
struct Buckets {
    bounds: &'static [f64],
    /// How many lay at or below each bound and above the one before; at the end those above all.
    counts: Box<[AtomicU64]>,
    /// Bits of an `f64`.
    sum: AtomicU64,
}

impl Buckets {
    fn new(bounds: &'static [f64]) -> Buckets {
        Buckets { bounds, counts: (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect(), sum: AtomicU64::new(0) }
    }
}

impl HistogramFn for Buckets {
    fn record(&self, value: f64) {
        self.record_many(value, 1);
    }

    fn record_many(&self, value: f64, count: usize) {
        let bucket = self.bounds.partition_point(|bound| *bound < value);
        self.counts[bucket].fetch_add(count as u64, Ordering::Relaxed);
        let add = |sum| Some((f64::from_bits(sum) + value * count as f64).to_bits());
        self.sum.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).expect("the closure always has a sum");
    }
}

/// All series of all histograms.
#[derive(Clone, Default)]
pub(crate) struct Histograms(Arc<Mutex<Series>>);

/// By metric, then by labels.
type Series = BTreeMap<&'static str, BTreeMap<Key, Arc<Buckets>>>;

impl Histograms {
    /// The series of `key`, if it is one of a metric that is listed.
    pub(crate) fn register(&self, key: &Key) -> Option<metrics::Histogram> {
        let (name, bounds) = ALL.iter().find_map(|metric| match metric.shape {
            Shape::Histogram(bounds) if metric.name == key.name() => Some((metric.name, bounds)),
            Shape::Histogram(_) | Shape::Counter | Shape::Gauge => None,
        })?;
        let mut series = self.lock();
        let buckets = series.entry(name).or_default().entry(key.clone()).or_insert_with(|| Arc::new(Buckets::new(bounds)));
        Some(metrics::Histogram::from_arc(Arc::clone(buckets)))
    }

    /// Appends everything in Prometheus' text format.
    pub(crate) fn render(&self, page: &mut String) {
        let series = self.lock();
        for metric in ALL {
            let Some(series) = series.get(metric.name) else { continue };
            write_help_line(page, metric.name, None, None, metric.says);
            write_type_line(page, metric.name, None, None, metric.shape.name());
            series.iter().for_each(|(key, buckets)| show(page, key, buckets));
            page.push('\n');
        }
    }

    fn lock(&self) -> MutexGuard<'_, Series> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn show(page: &mut String, key: &Key, buckets: &Buckets) {
    let labels = LabelSet::from_key_and_global(key, &Default::default());
    let mut below = 0;
    for (i, count) in buckets.counts.iter().enumerate() {
        below += count.load(Ordering::Relaxed);
        match buckets.bounds.get(i) {
            Some(bound) => write_metric_line(page, key.name(), Some("bucket"), &labels, Some(("le", bound)), below, None),
            None => write_metric_line(page, key.name(), Some("bucket"), &labels, Some(("le", "+Inf")), below, None),
        }
    }
    let sum = f64::from_bits(buckets.sum.load(Ordering::Relaxed));
    write_metric_line::<&str, _>(page, key.name(), Some("sum"), &labels, None, sum, None);
    // The sum of what was just read, so that it never differs from the last bucket.
    write_metric_line::<&str, _>(page, key.name(), Some("count"), &labels, None, below, None);
}
