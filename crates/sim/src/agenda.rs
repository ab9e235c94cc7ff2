//! What is going to happen, in order of time.

use std::collections::BTreeMap;

use postrider_core::time::Time;

/// Steps in order of time; of one instant, in the order they were planned.
#[derive(Debug)]
pub(crate) struct Agenda<S> {
    steps: BTreeMap<(Time, u64), S>,
    planned: u64,
}

impl<S> Agenda<S> {
    pub(crate) fn new() -> Agenda<S> {
        Agenda { steps: BTreeMap::new(), planned: 0 }
    }

    pub(crate) fn plan(&mut self, at: Time, step: S) {
        self.planned += 1;
        self.steps.insert((at, self.planned), step);
    }

    pub(crate) fn next(&mut self) -> Option<(Time, S)> {
        self.steps.pop_first().map(|((at, _), step)| (at, step))
    }
}
