//! The run's own clock.

use std::ops::Add;
use std::time::{Duration, Instant};

use serde::Serialize;

/// An instant: microseconds since the run's clock was started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) struct Micros(pub(crate) u64);

impl Micros {
    /// The span from `earlier` to this instant; zero when `earlier` is later.
    pub(crate) fn since(self, earlier: Micros) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Micros {
    type Output = Micros;
    fn add(self, span: Duration) -> Micros {
        Micros(self.0.saturating_add(span.as_micros() as u64))
    }
}

/// Tells the time since it was started.
#[derive(Clone, Copy)]
pub(crate) struct Clock(Instant);

impl Clock {
    /// A clock at zero.
    pub(crate) fn start() -> Clock {
        Clock(Instant::now())
    }

    /// The present instant.
    pub(crate) fn now(&self) -> Micros {
        Micros(self.0.elapsed().as_micros() as u64)
    }
}
