//! Stops sending to an endpoint that fails, and finds out gently when it is back.

use crate::rng::Rng;
use crate::time::{Millis, Time};

/// Length of the window that is judged, in [`BUCKETS`] steps.
const WINDOW: Millis = Millis::from_secs(30);
const BUCKETS: usize = 6;
/// Attempts within the window before it is judged at all.
const MINIMUM: u32 = 10;
/// Attempts that are remembered, about. Where there are more within the window only the newest count: an endpoint that was busy
/// would otherwise be hammered for 20 s after its end, at the cost of all others.
const MOST: u32 = 256;
/// Share of failures that opens the breaker.
const SHARE: f64 = 0.7;
/// First wait before a probe; doubles with every trip in a row, up to the longest.
const FIRST_WAIT: Millis = Millis::from_secs(1);
const LONGEST_WAIT: Millis = Millis::from_secs(60);
/// Probes in a row that must succeed before the breaker closes.
const PROBES: u32 = 2;

/// Opens when too large a share of recent attempts failed; lets single probes through afterwards.
///
/// A rate, not a count: one failure in a thousand never opens it, and a quiet endpoint needs [`MINIMUM`]
/// attempts in the window before it is judged. Of a busy one the last [`MOST`] are, about.
#[derive(Clone, Debug)]
pub struct Breaker {
    state: State,
    window: Window,
}

/// Where a breaker stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Attempts flow.
    Closed,
    /// Nothing is sent before `until`.
    Open {
        /// When a probe may go.
        until: Time,
        /// How often in a row it has opened.
        trips: u32,
    },
    /// Single attempts find out whether the endpoint is back.
    HalfOpen {
        /// How often in a row it has opened.
        trips: u32,
        /// Probes that succeeded so far.
        passed: u32,
        /// Whether a probe is out; no second one goes beside it.
        probing: bool,
    },
}

/// A [`State`] without its particulars.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// As [`State::Closed`].
    Closed,
    /// As [`State::Open`].
    Open,
    /// As [`State::HalfOpen`].
    HalfOpen,
}

/// How many breakers, or changes of breakers, by standing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standings {
    /// Closed ones.
    pub closed: usize,
    /// Open ones.
    pub open: usize,
    /// Half open ones.
    pub half_open: usize,
}

impl Standings {
    /// Counts one more.
    pub fn count(&mut self, standing: Standing) {
        match standing {
            Standing::Closed => self.closed += 1,
            Standing::Open => self.open += 1,
            Standing::HalfOpen => self.half_open += 1,
        }
    }
}

/// What a breaker says about sending now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Go ahead.
    Yes,
    /// Not before this instant.
    After(Time),
    /// Not before the probe that is out has come back.
    Busy,
}

impl Breaker {
    /// A closed breaker without history.
    pub fn new() -> Breaker {
        Breaker { state: State::Closed, window: Window::default() }
    }

    /// Where it stands.
    pub fn state(&self) -> State {
        self.state
    }

    /// How it stands.
    pub fn standing(&self) -> Standing {
        match self.state {
            State::Closed => Standing::Closed,
            State::Open { .. } => Standing::Open,
            State::HalfOpen { .. } => Standing::HalfOpen,
        }
    }

    /// Whether attempts flow freely.
    pub fn is_closed(&self) -> bool {
        self.state == State::Closed
    }

    /// Whether an attempt may start at `now`.
    pub fn admits(&self, now: Time) -> Admission {
        match self.state {
            State::Closed | State::HalfOpen { probing: false, .. } => Admission::Yes,
            State::Open { until, .. } if now < until => Admission::After(until),
            State::Open { .. } => Admission::Yes,
            State::HalfOpen { probing: true, .. } => Admission::Busy,
        }
    }

    /// Notes that an admitted attempt started.
    pub fn started(&mut self) {
        match self.state {
            State::Closed => {}
            State::Open { trips, .. } => self.state = State::HalfOpen { trips, passed: 0, probing: true },
            State::HalfOpen { trips, passed, .. } => self.state = State::HalfOpen { trips, passed, probing: true },
        }
    }

    /// Notes how an attempt ended. `probe` says that it started while the breaker was not closed.
    pub fn ended(&mut self, success: bool, probe: bool, now: Time, rng: &mut Rng) {
        match self.state {
            State::Closed => {
                self.window.count(success, now);
                if self.window.is_bad() {
                    self.open(1, now, rng);
                }
            }
            // Attempts from before it opened say nothing new.
            State::Open { .. } => {}
            State::HalfOpen { .. } if !probe => {}
            State::HalfOpen { trips, .. } if !success => self.open(trips + 1, now, rng),
            State::HalfOpen { passed, .. } if passed + 1 >= PROBES => *self = Breaker::new(),
            State::HalfOpen { trips, passed, .. } => {
                self.state = State::HalfOpen { trips, passed: passed + 1, probing: false };
            }
        }
    }

    fn open(&mut self, trips: u32, now: Time, rng: &mut Rng) {
        let wait = Millis(FIRST_WAIT.0 << (trips - 1).min(16)).min(LONGEST_WAIT);
        self.state = State::Open { until: now + wait.scaled(0.8 + 0.4 * rng.fraction()), trips };
        self.window = Window::default();
    }
}

impl Default for Breaker {
    fn default() -> Breaker {
        Breaker::new()
    }
}

/// Successes and failures of the last [`WINDOW`], in steps.
#[derive(Clone, Debug, Default)]
struct Window {
    counts: [(u32, u32); BUCKETS],
    step: u64,
}

impl Window {
    fn count(&mut self, success: bool, now: Time) {
        let step = now.0 / (WINDOW.0 / BUCKETS as u64);
        let passed = step.saturating_sub(self.step).min(BUCKETS as u64);
        for i in 0..passed {
            self.counts[((step - i) % BUCKETS as u64) as usize] = (0, 0);
        }
        self.step = self.step.max(step);
        let bucket = &mut self.counts[(self.step % BUCKETS as u64) as usize];
        if success {
            bucket.0 += 1;
        } else {
            bucket.1 += 1;
        }
        let (good, bad) = self.sum();
        if good + bad > MOST {
            // What came before counts half as much from now on.
            self.counts = self.counts.map(|(good, bad)| (good / 2, bad / 2));
        }
    }

    fn sum(&self) -> (u32, u32) {
        self.counts.iter().fold((0, 0), |sum, c| (sum.0 + c.0, sum.1 + c.1))
    }

    fn is_bad(&self) -> bool {
        let (good, bad) = self.sum();
        good + bad >= MINIMUM && f64::from(bad) >= SHARE * f64::from(good + bad)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(breaker: &mut Breaker, outcomes: impl IntoIterator<Item = bool>, now: Time) {
        let mut rng = Rng::new(1);
        for success in outcomes {
            let probe = !breaker.is_closed();
            breaker.started();
            breaker.ended(success, probe, now, &mut rng);
        }
    }

    fn opened(now: Time) -> Breaker {
        let mut breaker = Breaker::new();
        run(&mut breaker, [false; 10], now);
        breaker
    }

    #[test]
    fn a_quiet_or_mostly_healthy_endpoint_never_opens() {
        let mut breaker = Breaker::new();
        run(&mut breaker, [false; 9], Time(0));
        assert!(breaker.is_closed(), "below the minimum volume");
        let mut breaker = Breaker::new();
        run(&mut breaker, (0..10_000).map(|i| i % 2 == 0), Time(0));
        assert!(breaker.is_closed(), "half of the attempts succeed");
    }

    #[test]
    fn a_busy_endpoint_opens_after_some_hundred_failures_and_not_by_chance() {
        let mut breaker = Breaker::new();
        run(&mut breaker, (0..20_000).map(|_| true), Time(0));
        run(&mut breaker, [false; 100], Time(1));
        assert!(breaker.is_closed(), "a hundred of twenty thousand");
        run(&mut breaker, [false; 200], Time(2));
        assert!(!breaker.is_closed(), "nothing but failures for a while");
        for seed in 0..20 {
            let (mut breaker, mut rng) = (Breaker::new(), Rng::new(seed));
            run(&mut breaker, (0..20_000).map(|_| rng.fraction() < 0.55), Time(0));
            assert!(breaker.is_closed(), "it answers more than every second time");
        }
    }

    #[test]
    fn old_failures_are_forgotten() {
        let mut breaker = Breaker::new();
        run(&mut breaker, [false; 9], Time(0));
        run(&mut breaker, [false; 1], Time(31_000));
        assert!(breaker.is_closed());
    }

    #[test]
    fn it_probes_one_at_a_time_and_waits_longer_after_each_failure() {
        let mut now = Time(1_000_000);
        let mut breaker = opened(now);
        let mut waits = Vec::new();
        for _ in 0..10 {
            let Admission::After(until) = breaker.admits(now) else { panic!("open at {now:?}") };
            waits.push(until.since(now));
            now = until;
            assert_eq!(breaker.admits(now), Admission::Yes);
            breaker.started();
            assert_eq!(breaker.admits(now), Admission::Busy);
            breaker.ended(false, true, now, &mut Rng::new(3));
        }
        assert!(waits[0] <= Millis(1200) && waits[9] >= Millis(48_000) && waits[9] <= Millis(72_000), "{waits:?}");
    }

    #[test]
    fn it_closes_after_probes_that_succeed_and_ignores_stragglers() {
        let mut breaker = opened(Time(0));
        breaker.ended(true, false, Time(1), &mut Rng::new(1));
        assert!(!breaker.is_closed(), "an attempt from before it opened");
        run(&mut breaker, [true], Time(5_000));
        assert_eq!(breaker.state(), State::HalfOpen { trips: 1, passed: 1, probing: false });
        run(&mut breaker, [true], Time(5_000));
        assert!(breaker.is_closed());
    }
}
