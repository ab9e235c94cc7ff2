//! What the backend measures.

use std::sync::LazyLock;

use metrics::{Counter, Histogram};
use postrider_metrics::names;
use tokio::time::Instant;

use crate::store::StoreError;

/// Calls of one sort to the store.
pub(crate) struct Op {
    took: Histogram,
    errors: Counter,
}

macro_rules! ops {
    ($($name:ident = $text:literal),*) => {
        $(pub(crate) static $name: LazyLock<Op> = LazyLock::new(|| Op {
            took: names::STORE_DURATION.histogram(&[$text]),
            errors: names::STORE_ERRORS.counter(&[$text]),
        });)*
    };
}

ops!(WRITE = "write", LOAD = "load", CLAIM = "claim", CHANGE = "change", READ = "read", LIST = "list");

impl Op {
    /// Notes how long a call takes once it is begun, and whether it is done.
    pub(crate) async fn timed<T>(&self, call: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        let begun = Instant::now();
        let answer = call.await;
        match &answer {
            Ok(_) => self.took.record(begun.elapsed()),
            Err(_) => self.errors.increment(1),
        }
        answer
    }
}

/// Writes of one batch.
pub(crate) static BATCH: LazyLock<Histogram> = LazyLock::new(|| names::STORE_BATCH.histogram(&[]));

/// How often a cache had what was looked for.
pub(crate) struct Cache {
    hits: Counter,
    misses: Counter,
}

macro_rules! caches {
    ($($name:ident = $text:literal),*) => {
        $(pub(crate) static $name: LazyLock<Cache> = LazyLock::new(|| Cache {
            hits: names::CACHE_HITS.counter(&[$text]),
            misses: names::CACHE_MISSES.counter(&[$text]),
        });)*
    };
}

caches!(ENDPOINTS = "endpoints", ROUTES = "routes", SECRETS = "secrets");

impl Cache {
    /// Counts a look for what was `found`, or not.
    pub(crate) fn looked<T>(&self, found: Option<T>) -> Option<T> {
        let counter = if found.is_some() { &self.hits } else { &self.misses };
        counter.increment(1);
        found
    }
}
