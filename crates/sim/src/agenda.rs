//! What is going to happen, in order of time.

use std::collections::BTreeMap;

/// Steps in order of time; of one instant, in the order they were planned.
#[derive(Debug)]
pub(crate) struct Agenda<At, S> {
    steps: BTreeMap<(At, u64), S>,
    planned: u64,
}

impl<At: Ord, S> Agenda<At, S> {
    pub(crate) fn new() -> Agenda<At, S> {
        Agenda { steps: BTreeMap::new(), planned: 0 }
    }

    pub(crate) fn plan(&mut self, at: At, step: S) {
        self.planned += 1;
        self.steps.insert((at, self.planned), step);
    }

    pub(crate) fn next(&mut self) -> Option<(At, S)> {
        self.steps.pop_first().map(|((at, _), step)| (at, step))
    }
}
