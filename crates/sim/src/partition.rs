//! The log partition that owners read.

use std::collections::{BTreeMap, BTreeSet};

use postrider_core::delivery::Delivery;
use postrider_core::offsets::{Offset, Progress};
use postrider_core::record::Command;
use postrider_core::time::Time;

/// A record of the partition.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) command: Command,
    pub(crate) delivery: Delivery,
    pub(crate) at: Time,
    /// Whether an earlier record brought the same delivery.
    pub(crate) repeat: bool,
}

/// Records at offsets that grow in steps of any size, as byte positions do.
#[derive(Debug, Default)]
pub(crate) struct Partition {
    records: BTreeMap<Offset, Record>,
    end: Offset,
    /// Offsets that no commit of the present owner has called finished.
    open: BTreeSet<Offset>,
}

impl Partition {
    /// Appends a record `gap` behind the last one.
    pub(crate) fn append(&mut self, gap: u64, record: Record) -> Offset {
        let offset = Offset(self.end.0 + gap);
        self.end = offset.next();
        self.records.insert(offset, record);
        self.open.insert(offset);
        offset
    }

    /// The next `limit` records from `from` on.
    pub(crate) fn read(&self, from: Offset, limit: usize) -> Vec<(Offset, Record)> {
        self.records.range(from..).take(limit).map(|(offset, record)| (*offset, record.clone())).collect()
    }

    pub(crate) fn record(&self, offset: Offset) -> Option<&Record> {
        self.records.get(&offset)
    }

    pub(crate) fn has_more(&self, from: Offset) -> bool {
        from < self.end
    }

    pub(crate) fn end(&self) -> Offset {
        self.end
    }

    pub(crate) fn is_open(&self, offset: Offset) -> bool {
        self.open.contains(&offset)
    }

    /// Opens what a new owner will read again.
    pub(crate) fn reopen(&mut self, progress: &Progress) {
        self.open = self.records.keys().copied().filter(|offset| !progress.is_finished(*offset)).collect();
    }

    /// Takes from the open offsets below `to` those that `finished` holds for.
    pub(crate) fn close(&mut self, to: Offset, finished: impl Fn(Offset) -> bool) -> Vec<Offset> {
        let closed: Vec<Offset> = self.open.range(..to).copied().filter(|offset| finished(*offset)).collect();
        for offset in &closed {
            self.open.remove(offset);
        }
        closed
    }
}
