//! Which hours hold anything of a tenant, so that lists don't look into the others.

use std::collections::{BTreeSet, HashSet};
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::Store;
use super::batches::Row;
use super::pages::Pages;
use crate::store::StoreError;

/// How long an hour need not be noted again. Less than what its row lives longer than others, see `schema`.
const FRESH: Duration = Duration::from_secs(3600);
/// Hours in memory; beyond, all are noted again.
const MAX_KNOWN: usize = 100_000;
/// Hours that one page of a list looks into.
pub(super) const MAX_HOURS: i32 = 1000;

/// Hours of tenants that this process has noted lately.
#[derive(Default)]
pub(super) struct Hours(Mutex<Known>);

#[derive(Default)]
struct Known {
    since: Option<Instant>,
    hours: HashSet<(Arc<str>, i32)>,
}

/// Hours of tenants that a batch writes to.
#[derive(Default)]
pub(super) struct Written {
    last: Option<(Arc<str>, i32)>,
    hours: BTreeSet<(Arc<str>, i32)>,
}

impl Written {
    pub(super) fn add(&mut self, tenant: &Arc<str>, hour: i32) {
        if self.last.as_ref().is_some_and(|(last, at)| *at == hour && **last == **tenant) {
            return; // most rows of a batch are of one hour
        }
        self.last = Some((tenant.clone(), hour));
        self.hours.insert((tenant.clone(), hour));
    }
}

impl Hours {
    fn known(&self) -> MutexGuard<'_, Known> {
        // Whole even if a holder panicked: a set that is only inserted into and cleared.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Those that have to be noted.
    pub(super) fn new_of(&self, written: Written) -> Vec<(Arc<str>, i32)> {
        let mut known = self.known();
        if known.since.is_none_or(|since| since.elapsed() >= FRESH) || known.hours.len() >= MAX_KNOWN {
            *known = Known { since: Some(Instant::now()), hours: HashSet::new() };
        }
        written.hours.into_iter().filter(|hour| !known.hours.contains(hour)).collect()
    }

    /// Remembers hours that are noted durably.
    pub(super) fn note(&self, hours: Vec<(Arc<str>, i32)>) {
        self.known().hours.extend(hours);
    }
}

/// The row that notes an hour.
pub(super) fn row((tenant, hour): &(Arc<str>, i32)) -> Row {
    Row::Hour { tenant: tenant.clone(), hour: *hour }
}

impl Store {
    /// The hours among `range` that hold anything of a tenant, newest first, at most [`MAX_HOURS`].
    pub(super) async fn hours_of(&self, tenant: &str, range: RangeInclusive<i32>) -> Result<Vec<i32>, StoreError> {
        let values = (tenant, *range.start(), *range.end(), MAX_HOURS);
        let mut pages = Pages::new(&self.inner.statements.hours, &values, None)?;
        let mut hours = Vec::new();
        while let Some(page) = pages.next(&self.inner.session, "list hours").await? {
            hours.extend(page.rows::<(i32,)>()?.into_iter().map(|(hour,)| hour));
        }
        Ok(hours)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_hour_is_noted_until_it_is_known() {
        let hours = Hours::default();
        let written = || {
            let mut written = Written::default();
            for (tenant, hour) in [("a", 1), ("a", 1), ("b", 1), ("a", 2), ("a", 1)] {
                written.add(&Arc::from(tenant), hour);
            }
            written
        };
        let new = hours.new_of(written());
        assert_eq!(new.iter().map(|(tenant, hour)| (&**tenant, *hour)).collect::<Vec<_>>(), [("a", 1), ("a", 2), ("b", 1)]);
        assert_eq!(hours.new_of(written()).len(), 3, "it is not known to be durable yet");
        hours.note(new);
        assert!(hours.new_of(written()).is_empty());
    }
}
