//! Receivers of all tempers.

use std::collections::VecDeque;

use bytes::Bytes;
use postrider_core::attempt::{Answer, Failure, Report};
use postrider_core::time::{Millis, Time};

use crate::chance::Chance;

/// How a receiver behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Temper {
    /// Answers 200 within 50 ms.
    Healthy,
    /// Answers 200 after hundreds of milliseconds.
    Slow,
    /// Answers nothing until the attempt times out.
    Hanging,
    /// Answers 500.
    Failing,
    /// Refuses connections.
    Refusing,
    /// Healthy and failing by turns of this length.
    Flapping(Millis),
    /// Answers every other request with 500.
    Moody,
    /// Answers 429 with `Retry-After` to some requests.
    Throttling,
    /// Answers 429 beyond so many requests within a second.
    Limited(u32),
    /// Answers 410 to some requests.
    Gone,
}

impl Temper {
    /// Whether every attempt is answered with 200, and soon.
    pub fn is_healthy(self) -> bool {
        self == Temper::Healthy
    }
}

impl Temper {
    /// Whether it either answers at once or never succeeds, so that it keeps few of the slots for those that answer.
    pub(crate) fn is_quick_or_hangs(self) -> bool {
        match self {
            Temper::Healthy | Temper::Hanging | Temper::Failing | Temper::Refusing => true,
            Temper::Slow | Temper::Flapping(_) | Temper::Moody | Temper::Throttling | Temper::Limited(_) | Temper::Gone => false,
        }
    }
}

/// One receiver.
#[derive(Debug)]
pub(crate) struct Receiver {
    pub(crate) temper: Temper,
    pub(crate) hits: u64,
    recent: VecDeque<Time>,
}

impl Receiver {
    pub(crate) fn new(temper: Temper) -> Receiver {
        Receiver { temper, hits: 0, recent: VecDeque::new() }
    }

    /// What an attempt that starts now will be told.
    pub(crate) fn answer(&mut self, now: Time, timeout: Millis, chance: &mut Chance) -> Report {
        self.hits += 1;
        let soon = chance.span(1, 50);
        let (took, answer) = match self.temper {
            Temper::Healthy => (soon, status(200)),
            Temper::Slow => (chance.span(200, 3000), status(200)),
            Temper::Hanging => (timeout, status(200)),
            Temper::Failing => (soon, status(500)),
            Temper::Refusing => (soon, failed(Failure::Connect)),
            Temper::Flapping(turn) if (now.0 / turn.0.max(1)).is_multiple_of(2) => (soon, status(200)),
            Temper::Flapping(_) => (soon, status(503)),
            Temper::Moody if self.hits.is_multiple_of(2) => (soon, status(200)),
            Temper::Moody => (soon, status(500)),
            Temper::Throttling if chance.hits(0.3) => (soon, throttled(chance.span(100, 20_000))),
            Temper::Throttling => (soon, status(200)),
            Temper::Limited(rate) => (soon, if self.is_beyond(rate, now) { throttled(Millis(1000)) } else { status(200) }),
            Temper::Gone if chance.hits(0.1) => (soon, status(410)),
            Temper::Gone => (soon, status(200)),
        };
        let (took, answer) = if took >= timeout { (timeout, failed(Failure::Timeout)) } else { (took, answer) };
        Report { started: now, took, answer, body: Bytes::new() }
    }

    fn is_beyond(&mut self, rate: u32, now: Time) -> bool {
        while self.recent.front().is_some_and(|at| *at + Millis(1000) <= now) {
            self.recent.pop_front();
        }
        if self.recent.len() >= rate as usize {
            return true;
        }
        self.recent.push_back(now);
        false
    }
}

pub(crate) fn status(code: u16) -> Answer {
    Answer::Status { code, retry_after: None }
}

pub(crate) fn throttled(retry_after: Millis) -> Answer {
    Answer::Status { code: 429, retry_after: Some(retry_after) }
}

pub(crate) fn failed(failure: Failure) -> Answer {
    Answer::Failed { failure, detail: String::new() }
}
