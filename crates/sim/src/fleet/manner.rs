//! Receivers as they are met outside.

use bytes::Bytes;
use postrider_core::attempt::{Failure, Report};
use postrider_core::endpoint::DEFAULT_MAX_IN_FLIGHT;
use postrider_core::time::{Millis, Time};

use super::plan::Micros;
use crate::chance::Chance;
use crate::receiver::{failed, status, throttled};

/// How long a receiver that does its work takes, half of the time; receivers differ by a factor of two either way.
const ANSWERS: f64 = 80_000.0;
/// How a receiver's own answers scatter.
const SCATTER: f64 = 0.5;
/// From one deployment to the next …
const EVERY: Millis = Millis::from_secs(300);
/// … and what of that a receiver is away.
const AWAY: Millis = Millis::from_secs(20);

/// How a receiver treats its deliveries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Manner {
    /// Answers 200, one time in a thousand 500.
    Healthy,
    /// Healthy, but away for 20 s of every 5 minutes, as when it is deployed.
    Deployed,
    /// Takes seconds, sometimes more than it is given.
    Slow,
    /// Does not answer.
    Hanging,
    /// Answers 500.
    Failing,
    /// Refuses connections.
    Refusing,
    /// Answers 429 every third time.
    Throttling,
}

impl Manner {
    /// All, the healthy one first.
    pub const ALL: [Manner; 7] =
        [Manner::Healthy, Manner::Deployed, Manner::Slow, Manner::Hanging, Manner::Failing, Manner::Refusing, Manner::Throttling];
}

/// One receiver.
#[derive(Debug)]
pub(crate) struct Receiver {
    pub(crate) manner: Manner,
    /// What it takes, half of the time, in µs.
    pace: f64,
    /// When it is away.
    phase: Millis,
}

impl Receiver {
    /// One that gets `rate` deliveries a second, and is fast enough for them.
    pub(crate) fn new(manner: Manner, rate: f64, chance: &mut Chance) -> Receiver {
        let bearable = 1e6 * f64::from(DEFAULT_MAX_IN_FLIGHT) / rate / 2.0;
        Receiver { manner, pace: chance.around(ANSWERS, 0.7).min(bearable), phase: chance.span(0, EVERY.0) }
    }

    /// How an attempt ends that starts now, and after what time.
    pub(crate) fn answer(&self, now: Time, timeout: Millis, chance: &mut Chance) -> (Report, Micros) {
        let took = match self.manner {
            Manner::Slow => chance.around(3_000_000.0, SCATTER),
            Manner::Hanging => f64::INFINITY,
            _ => chance.around(self.pace, SCATTER),
        };
        let timeout = Micros::from(timeout);
        let (took, answer) = match self.manner {
            _ if took >= timeout.0 as f64 => (timeout, failed(Failure::Timeout)),
            Manner::Deployed if self.is_away(now) => (Micros(1000), failed(Failure::Connect)),
            Manner::Refusing => (Micros(1000), failed(Failure::Connect)),
            Manner::Failing => (Micros(took as u64), status(500)),
            Manner::Throttling if chance.hits(0.33) => (Micros(took as u64), throttled(chance.span(1000, 10_000))),
            _ if chance.hits(0.001) => (Micros(took as u64), status(500)),
            _ => (Micros(took as u64), status(200)),
        };
        (Report { started: now, took: Millis(took.0 / 1000), answer, body: Bytes::new() }, took)
    }

    fn is_away(&self, now: Time) -> bool {
        (now + self.phase).0 % EVERY.0 < AWAY.0
    }
}
