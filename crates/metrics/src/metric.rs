//! One metric, and handles of its series.

use metrics::{Counter, Gauge, Histogram, Key, Level, Metadata, with_recorder};

/// What is measured.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// What it says, in one sentence, with its unit.
    pub says: &'static str,
    /// What sort of numbers it has.
    pub shape: Shape,
    /// Its labels, in the order in which handles give their values.
    pub labels: &'static [Label],
}

/// What tells series of a metric apart.
#[derive(Clone, Copy, Debug)]
pub struct Label {
    /// Its name.
    pub name: &'static str,
    /// Which values there are, for people.
    pub values: &'static str,
}

/// What sort of numbers a metric has.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Shape {
    /// Grows while the process lives.
    Counter,
    /// Stands at some number now.
    Gauge,
    /// How many measurements lay below each of these bounds, in ascending order.
    Histogram(&'static [f64]),
}

impl Shape {
    /// As Prometheus calls it.
    pub fn name(self) -> &'static str {
        match self {
            Shape::Counter => "counter",
            Shape::Gauge => "gauge",
            Shape::Histogram(_) => "histogram",
        }
    }
}

const METADATA: Metadata<'static> = Metadata::new("postrider", Level::INFO, None);

impl Metric {
    /// The series whose labels have these values.
    ///
    /// Panics where there are not as many values as labels.
    pub fn counter(&self, values: &[&str]) -> Counter {
        with_recorder(|recorder| recorder.register_counter(&self.key(values), &METADATA))
    }

    /// As [`Metric::counter`].
    pub fn gauge(&self, values: &[&str]) -> Gauge {
        with_recorder(|recorder| recorder.register_gauge(&self.key(values), &METADATA))
    }

    /// As [`Metric::counter`].
    pub fn histogram(&self, values: &[&str]) -> Histogram {
        with_recorder(|recorder| recorder.register_histogram(&self.key(values), &METADATA))
    }

    fn key(&self, values: &[&str]) -> Key {
        assert_eq!(values.len(), self.labels.len(), "{} has other labels", self.name);
        let labels = self.labels.iter().zip(values).map(|(label, value)| metrics::Label::new(label.name, (*value).to_owned()));
        Key::from_parts(self.name, labels.collect::<Vec<_>>())
    }
}
