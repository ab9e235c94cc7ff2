//! How far a running job has come, for its heartbeat to tell.

use std::cell::{Cell, RefCell};

use postrider_core::job::Counts;
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

/// Written by the work, read by the heartbeat, on one thread.
#[derive(Default)]
pub(crate) struct Progress {
    counts: Cell<Counts>,
    detail: RefCell<Option<Box<RawValue>>>,
}

impl Progress {
    /// Of a job that came so far when it was begun before.
    pub(crate) fn from(counts: Counts) -> Progress {
        Progress { counts: Cell::new(counts), detail: RefCell::new(None) }
    }

    /// So much is done.
    pub(crate) fn set(&self, counts: Counts) {
        self.counts.set(counts);
    }

    /// How much is done.
    pub(crate) fn counts(&self) -> Counts {
        self.counts.get()
    }

    /// What the kind's own event of being on the way is to say; replaces what was to be said and was not yet.
    pub(crate) fn say(&self, detail: &impl Serialize) {
        let detail = to_raw_value(detail).expect("texts and numbers always have a JSON form");
        self.detail.replace(Some(detail));
    }

    /// Whether something is still to be said.
    pub(crate) fn has_word(&self) -> bool {
        self.detail.borrow().is_some()
    }

    /// What is to be said, once.
    pub(crate) fn word(&self) -> Option<Box<RawValue>> {
        self.detail.take()
    }
}
