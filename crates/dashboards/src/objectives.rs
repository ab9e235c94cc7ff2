//! What Postrider promises of its own part in a delivery, and what is recorded to see how well it is kept.
//!
//! The objective: 99% of first deliveries to healthy endpoints within 10 s. Our own aim: 99.9% within 1 s. Counted are
//! deliveries that succeed at their first attempt, so that no receiver's trouble is taken for ours.

use postrider_metrics::names::{FIRST_ATTEMPT_LATENCY, LOG_LAG};

use crate::query::{Query, Series, Window};

/// An expression whose value Prometheus keeps under a name.
#[derive(Clone, Debug)]
pub struct Recording {
    /// As Prometheus advises: what it is about, what of it, over which time.
    pub name: String,
    /// What is recorded.
    pub query: Query,
}

impl Recording {
    /// What was recorded last.
    pub fn now(&self) -> Query {
        Query::atom(self.name.clone())
    }
}

/// A share of deliveries that must be fast enough.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Objective {
    /// Seconds; one of the histogram's bounds.
    pub(crate) within: u32,
    /// The share that may take longer.
    pub(crate) budget: f64,
}

pub(crate) const OBJECTIVE: Objective = Objective { within: 10, budget: 0.01 };
pub(crate) const AIM: Objective = Objective { within: 1, budget: 0.001 };

impl Objective {
    /// The share of first deliveries that took longer.
    pub(crate) fn missed(self, window: &'static str) -> Recording {
        let window_of = Window::Of(window);
        let latency = Series::of(FIRST_ATTEMPT_LATENCY);
        let kept = latency.clone().at_most(self.within).rate(window_of).sum();
        let query = kept.per(&latency.count().rate(window_of).sum()).rest();
        Recording { name: format!("postrider:first_deliveries_over_{}s:ratio_rate{window}", self.within), query }
    }
}

/// How far behind each group is, over all processes.
pub(crate) fn lag() -> Recording {
    Recording { name: "postrider:log_lag:sum".to_owned(), query: Series::of(LOG_LAG).now().sum_by(&["topic", "group"]) }
}

/// Everything that is recorded.
pub fn recordings() -> Vec<Recording> {
    let objective = ["5m", "30m", "1h", "6h", "3d"].map(|window| OBJECTIVE.missed(window));
    let aim = ["2h", "1d"].map(|window| AIM.missed(window));
    objective.into_iter().chain(aim).chain([lag()]).collect()
}
