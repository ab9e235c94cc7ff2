//! Expressions of PromQL that can only name metrics and labels which exist.

use std::fmt;

use postrider_metrics::{Metric, Shape};

/// Over which time something is counted.
#[derive(Clone, Copy, Debug)]
pub enum Window {
    /// What suits the panel's resolution; only on dashboards.
    Step,
    /// What the dashboard shows; only on dashboards.
    Shown,
    /// This long, as Prometheus writes it: `5m`.
    Of(&'static str),
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Window::Step => "$__rate_interval",
            Window::Shown => "$__range",
            Window::Of(time) => time,
        })
    }
}

/// Series of one metric.
#[derive(Clone, Debug)]
pub struct Series {
    metric: Metric,
    /// What a histogram's series have behind its name.
    part: &'static str,
    matchers: Vec<String>,
}

impl Series {
    /// Those of all processes.
    pub fn of(metric: Metric) -> Series {
        Series { metric, part: "", matchers: Vec::new() }
    }

    /// Those of the processes that were chosen on the dashboard.
    pub fn chosen(metric: Metric) -> Series {
        Series { metric, part: "", matchers: vec!["instance=~\"$instance\"".to_owned()] }
    }

    /// Those whose label has this value. Panics if the metric has no such label.
    pub fn with(self, label: &str, value: &str) -> Series {
        self.matching(label, "=", value)
    }

    /// Those whose label has one of these values. Panics as [`Series::with`].
    pub fn among(self, label: &str, values: &[&str]) -> Series {
        self.matching(label, "=~", &values.join("|"))
    }

    fn matching(mut self, label: &str, how: &str, value: &str) -> Series {
        assert!(self.metric.labels.iter().any(|known| known.name == label), "{} has no label {label}", self.metric.name);
        self.matchers.push(format!("{label}{how}\"{value}\""));
        self
    }

    /// How many measurements of a histogram there were.
    pub fn count(self) -> Series {
        self.part("_count")
    }

    /// What the measurements of a histogram add up to.
    pub fn total(self) -> Series {
        self.part("_sum")
    }

    /// How many measurements of a histogram lay below each of its bounds.
    pub fn buckets(self) -> Series {
        self.part("_bucket")
    }

    /// How many measurements of a histogram were at most `bound`, which must be one of its bounds.
    pub fn at_most(self, bound: u32) -> Series {
        let bounds = match self.metric.shape {
            Shape::Histogram(bounds) => bounds,
            Shape::Counter | Shape::Gauge => &[],
        };
        assert!(bounds.contains(&f64::from(bound)), "{} has no bucket that ends at {bound}", self.metric.name);
        let mut series = self.part("_bucket");
        // Prometheus 3 stores a bound of 10 as 10.0.
        series.matchers.push(format!("le=~\"{bound}([.]0)?\""));
        series
    }

    fn part(mut self, part: &'static str) -> Series {
        assert!(matches!(self.metric.shape, Shape::Histogram(_)) && self.part.is_empty(), "{} has no {part}", self.metric.name);
        self.part = part;
        self
    }

    /// Their values now.
    pub fn now(&self) -> Query {
        Query::atom(self.selector())
    }

    /// How fast they grow, per second.
    pub fn rate(&self, window: Window) -> Query {
        self.over("rate", window)
    }

    /// By how much they grow.
    pub fn increase(&self, window: Window) -> Query {
        self.over("increase", window)
    }

    /// The least value of each.
    pub fn least(&self, window: Window) -> Query {
        self.over("min_over_time", window)
    }

    /// The greatest value of each.
    pub fn most(&self, window: Window) -> Query {
        self.over("max_over_time", window)
    }

    /// Where each will be, so many seconds from now, if it goes on as it did.
    pub fn forecast(&self, window: Window, seconds: u32) -> Query {
        Query::atom(format!("predict_linear({}[{window}], {seconds})", self.selector()))
    }

    fn over(&self, function: &str, window: Window) -> Query {
        let counts = matches!(self.metric.shape, Shape::Counter) || !self.part.is_empty();
        assert_eq!(counts, ["rate", "increase"].contains(&function), "{function} says nothing of {}", self.metric.name);
        Query::atom(format!("{function}({}[{window}])", self.selector()))
    }

    fn selector(&self) -> String {
        match self.matchers.is_empty() {
            true => format!("{}{}", self.metric.name, self.part),
            false => format!("{}{}{{{}}}", self.metric.name, self.part, self.matchers.join(", ")),
        }
    }
}

/// An expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    text: String,
    /// Whether it must be put into parentheses to be part of another.
    is_compound: bool,
}

impl fmt::Display for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Query {
    pub(crate) fn atom(text: String) -> Query {
        Query { text, is_compound: false }
    }

    /// A number.
    pub fn number(number: f64) -> Query {
        Query::atom(number.to_string())
    }

    /// The sum of all series.
    pub fn sum(&self) -> Query {
        Query::atom(format!("sum({self})"))
    }

    /// The sum of those series that agree in these labels.
    pub fn sum_by(&self, labels: &[&str]) -> Query {
        self.aggregate("sum", labels)
    }

    /// The greatest of those series that agree in these labels.
    pub fn most_by(&self, labels: &[&str]) -> Query {
        self.aggregate("max", labels)
    }

    /// The least of those series that agree in these labels.
    pub fn least_by(&self, labels: &[&str]) -> Query {
        self.aggregate("min", labels)
    }

    fn aggregate(&self, how: &str, labels: &[&str]) -> Query {
        Query::atom(format!("{how} by ({}) ({self})", labels.join(", ")))
    }

    /// What this share of measurements lies below, of rates of a histogram's buckets: for each value of these labels.
    pub fn quantile(&self, share: f64, labels: &[&str]) -> Query {
        let labels: Vec<&str> = ["le"].iter().chain(labels).copied().collect();
        Query::atom(format!("histogram_quantile({share}, {})", self.sum_by(&labels)))
    }

    /// One divided by the other.
    pub fn per(&self, other: &Query) -> Query {
        self.join("/", other)
    }

    /// Both together.
    pub fn plus(&self, other: &Query) -> Query {
        self.join("+", other)
    }

    /// The share that is left of one.
    pub fn rest(&self) -> Query {
        Query::number(1.0).join("-", self)
    }

    fn join(&self, operator: &str, other: &Query) -> Query {
        Query { text: format!("{} {operator} {}", self.operand(), other.operand()), is_compound: true }
    }

    pub(crate) fn operand(&self) -> String {
        match self.is_compound {
            true => format!("({self})"),
            false => self.text.clone(),
        }
    }
}
