//! What Prometheus is answered.

use metrics_process::Collector;
use postrider_backend::log::{Group, Log, Topic};
use postrider_metrics::{Exporter, InstallError, names};

use crate::config::Role;

/// The process's metrics, with those that are looked up only when somebody asks.
#[derive(Clone)]
pub(crate) struct Scrape {
    exporter: Exporter,
    process: Collector,
}

impl Scrape {
    /// From now on everything counts. Once in a process, before anything takes a handle.
    pub(crate) fn begin(roles: &[Role]) -> Result<Scrape, InstallError> {
        let exporter = postrider_metrics::install()?;
        names::BUILD.gauge(&[env!("CARGO_PKG_VERSION")]).set(1.0);
        roles.iter().for_each(|role| names::ROLES.gauge(&[role.name()]).set(1.0));
        // Seen from its zero on: of a series that begins with its first record Prometheus would not see that it grew.
        names::DEAD_LETTERS.counter(&["malformed"]).increment(0);
        Ok(Scrape { exporter, process: Collector::default() })
    }

    /// The page, with how far this process is behind in what it reads, and whether what it needs is `up`.
    pub(crate) fn page(&self, log: &Log, reads: &[(Group, Topic)], up: [(&str, bool); 2]) -> String {
        for (name, is_up) in up {
            names::DEPENDENCIES.gauge(&[name]).set(if is_up { 1.0 } else { 0.0 });
        }
        for (group, topic) in reads {
            let (topic_name, group_name) = (log.name(*topic), group.name());
            names::LOG_LAG.gauge(&[&topic_name, group_name]).set(log.lag(*group, *topic) as f64);
        }
        self.process.collect();
        self.exporter.render()
    }
}
