//! Keyspaces by time, so that what is old goes as a whole and its disk space with it.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use fjall::{Database, Keyspace, KeyspaceCreateOptions};
use postrider_core::time::{Millis, Time};

/// Keyspaces named `NAME-NUMBER`, where the number counts spans since the Unix epoch. Made when first written to.
pub(super) struct Buckets {
    db: Database,
    name: &'static str,
    span: Millis,
    options: fn() -> KeyspaceCreateOptions,
    open: RwLock<BTreeMap<u64, Keyspace>>,
}

impl Buckets {
    /// Finds the buckets that exist.
    pub(super) fn open(db: &Database, name: &'static str, span: Millis, options: fn() -> KeyspaceCreateOptions) -> fjall::Result<Buckets> {
        let mut open = BTreeMap::new();
        for keyspace in db.list_keyspace_names() {
            let number = keyspace.strip_prefix(name).and_then(|rest| rest.strip_prefix('-')).and_then(|text| text.parse().ok());
            if let Some(number) = number {
                open.insert(number, db.keyspace(&keyspace, options)?);
            }
        }
        Ok(Buckets { db: db.clone(), name, span, options, open: RwLock::new(open) })
    }

    fn number(&self, at: Time) -> u64 {
        at.0 / self.span.0
    }

    /// The bucket of an instant, if anything was ever written to it.
    pub(super) fn get(&self, at: Time) -> Option<Keyspace> {
        self.read().get(&self.number(at)).cloned()
    }

    /// The bucket of an instant.
    pub(super) fn get_or_create(&self, at: Time) -> fjall::Result<Keyspace> {
        if let Some(keyspace) = self.get(at) {
            return Ok(keyspace);
        }
        let number = self.number(at);
        let keyspace = self.db.keyspace(&format!("{}-{number}", self.name), self.options)?;
        self.write().insert(number, keyspace.clone());
        Ok(keyspace)
    }

    /// The buckets that hold anything of `times`, newest first.
    pub(super) fn newest_first(&self, times: RangeInclusive<Time>) -> Vec<Keyspace> {
        let (first, last) = (self.number(*times.start()), self.number(*times.end()));
        if first > last {
            return Vec::new();
        }
        self.read().range(first..=last).rev().map(|(_, keyspace)| keyspace.clone()).collect()
    }

    /// All buckets.
    pub(super) fn all(&self) -> Vec<Keyspace> {
        self.read().values().cloned().collect()
    }

    /// Drops the buckets that end at `before` or earlier, and says how many.
    pub(super) fn expire(&self, before: Time) -> fjall::Result<usize> {
        let keep_from = self.number(before);
        let expired: Vec<u64> = self.read().range(..keep_from).map(|(number, _)| *number).collect();
        for number in &expired {
            let keyspace = self.write().remove(number);
            if let Some(keyspace) = keyspace {
                self.db.delete_keyspace(keyspace)?;
            }
        }
        Ok(expired.len())
    }

    // The map is only ever inserted into and removed from, so it is whole even if a holder of the lock panicked.
    fn read(&self) -> RwLockReadGuard<'_, BTreeMap<u64, Keyspace>> {
        self.open.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, BTreeMap<u64, Keyspace>> {
        self.open.write().unwrap_or_else(PoisonError::into_inner)
    }
}
