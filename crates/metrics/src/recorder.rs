//! Where handles count, and how it is shown.

use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};

use crate::histogram::Histograms;
use crate::metric::Shape;
use crate::names::ALL;

/// Shows everything that was measured since it was installed.
#[derive(Clone)]
pub struct Exporter {
    handle: PrometheusHandle,
    histograms: Histograms,
}

/// Nothing can be measured.
#[derive(Debug, thiserror::Error)]
#[error("metrics are kept by something else in this process")]
pub struct InstallError;

/// Has all handles that are made from now on count in this process's one registry.
pub fn install() -> Result<Exporter, InstallError> {
    let recorder = Registry { exporter: PrometheusBuilder::new().build_recorder(), histograms: Histograms::default() };
    let exporter = Exporter { handle: recorder.exporter.handle(), histograms: recorder.histograms.clone() };
    metrics::set_global_recorder(recorder).map_err(|_| InstallError)?;
    metrics::with_recorder(|recorder| {
        for metric in ALL {
            let (name, says) = (metric.name.into(), metric.says.into());
            match metric.shape {
                Shape::Counter => recorder.describe_counter(name, None, says),
                Shape::Gauge => recorder.describe_gauge(name, None, says),
                Shape::Histogram(_) => {}
            }
        }
    });
    Ok(exporter)
}

impl Exporter {
    /// Everything in Prometheus' text format.
    pub fn render(&self) -> String {
        let mut page = self.handle.render();
        self.histograms.render(&mut page);
        page
    }
}

/// Counters and gauges are the exporter's, histograms our own.
struct Registry {
    exporter: PrometheusRecorder,
    histograms: Histograms,
}

impl Recorder for Registry {
    fn describe_counter(&self, key: KeyName, unit: Option<Unit>, description: SharedString) {
        self.exporter.describe_counter(key, unit, description);
    }

    fn describe_gauge(&self, key: KeyName, unit: Option<Unit>, description: SharedString) {
        self.exporter.describe_gauge(key, unit, description);
    }

    /// The list of metrics describes them.
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, metadata: &Metadata<'_>) -> Counter {
        self.exporter.register_counter(key, metadata)
    }

    fn register_gauge(&self, key: &Key, metadata: &Metadata<'_>) -> Gauge {
        self.exporter.register_gauge(key, metadata)
    }

    /// One that is not listed has no buckets and counts into nothing.
    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        self.histograms.register(key).unwrap_or_else(Histogram::noop)
    }
}
