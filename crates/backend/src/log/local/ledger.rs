//! How far the groups have come, and what they have not read.
//!
//! Replayed from the newest segment at opening: its checkpoint, then every record and commit behind it.

use std::collections::{BTreeMap, BTreeSet};

use postrider_core::offsets::{Offset, Progress};
use postrider_core::partition::Partition;
use serde::{Deserialize, Serialize};

use crate::log::{Group, Topic};

/// What of one partition a group has finished.
#[derive(Debug, Default)]
struct Standing {
    progress: Progress,
    /// The first record behind what had all been finished. No unread record lies before it.
    resume: u64,
}

/// The commits of every group, and the last record of every partition.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    last: BTreeMap<(Topic, Partition), Offset>,
    standings: BTreeMap<(Topic, Partition, Group), Standing>,
    /// Commits that are not written yet; the newest of a partition replaces those before.
    unwritten: BTreeSet<(Topic, Partition, Group)>,
}

/// The ledger's bytes in a checkpoint, by postcard.
#[derive(Serialize, Deserialize)]
struct Snapshot {
    /// Topic, partition, offset.
    last: Vec<(u8, u16, u64)>,
    /// Topic, partition, group, progress, resume.
    standings: Vec<(u8, u16, u8, Vec<u8>, u64)>,
}

impl Ledger {
    /// Notes a record, in the order of the stream.
    pub(super) fn record(&mut self, topic: Topic, partition: Partition, offset: Offset) {
        let before = self.last.insert((topic, partition), offset);
        for (_, standing) in self.standings.range_mut(of_partition(topic, partition)) {
            if before.is_none_or(|last| standing.progress.from > last) {
                standing.resume = offset.0;
            }
        }
    }

    /// Notes what a group has finished, still to be written.
    pub(super) fn commit(&mut self, group: Group, topic: Topic, partition: Partition, progress: Progress) {
        self.restore(group, topic, partition, progress);
        self.unwritten.insert((topic, partition, group));
    }

    /// Notes a commit that is on disk.
    pub(super) fn restore(&mut self, group: Group, topic: Topic, partition: Partition, progress: Progress) {
        let standing = self.standings.entry((topic, partition, group)).or_default();
        if progress.from < standing.progress.from {
            standing.resume = progress.from.0;
        }
        standing.progress = progress;
    }

    /// What is to be written: group, topic, partition, and the bytes of the progress. Now taken as written.
    pub(super) fn take_unwritten(&mut self) -> Vec<(Group, Topic, Partition, Vec<u8>)> {
        let taken = std::mem::take(&mut self.unwritten);
        taken.iter().map(|&(topic, partition, group)| (group, topic, partition, self.progress(group, topic, partition).encode())).collect()
    }

    /// Takes back that these were written.
    pub(super) fn not_written(&mut self, commits: Vec<(Group, Topic, Partition, Vec<u8>)>) {
        self.unwritten.extend(commits.into_iter().map(|(group, topic, partition, _)| (topic, partition, group)));
    }

    pub(super) fn has_unwritten(&self) -> bool {
        !self.unwritten.is_empty()
    }

    /// The group's last commit; the default when it has none.
    pub(super) fn progress(&self, group: Group, topic: Topic, partition: Partition) -> Progress {
        self.standings.get(&(topic, partition, group)).map(|standing| standing.progress.clone()).unwrap_or_default()
    }

    /// Before the oldest record of `partition` that the group has not finished, or `None` when it has finished all.
    pub(super) fn unread(&self, group: Group, topic: Topic, partition: Partition) -> Option<u64> {
        let last = self.last.get(&(topic, partition))?;
        let Some(standing) = self.standings.get(&(topic, partition, group)) else { return Some(0) };
        (standing.progress.from <= *last).then(|| standing.progress.from.0.max(standing.resume))
    }

    /// As [`Ledger::unread`], for the whole topic.
    pub(super) fn unread_of_topic(&self, group: Group, topic: Topic) -> Option<u64> {
        let partitions = self.last.range((topic, Partition(0))..=(topic, Partition(u16::MAX)));
        partitions.filter_map(|(&(_, partition), _)| self.unread(group, topic, partition)).min()
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let last = self.last.iter().map(|(&(topic, partition), offset)| (topic.number(), partition.0, offset.0)).collect();
        let standings = self.standings.iter().map(|(&(topic, partition, group), standing)| {
            (topic.number(), partition.0, group as u8, standing.progress.encode(), standing.resume)
        });
        let snapshot = Snapshot { last, standings: standings.collect() };
        postcard::to_stdvec(&snapshot).expect("numbers and bytes always have a postcard form")
    }

    /// Reads what [`Ledger::to_bytes`] wrote; `None` for anything else.
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Ledger> {
        let snapshot: Snapshot = postcard::from_bytes(bytes).ok()?;
        let mut ledger = Ledger::default();
        for (topic, partition, offset) in snapshot.last {
            ledger.last.insert((Topic::from_number(topic)?, Partition(partition)), Offset(offset));
        }
        for (topic, partition, group, progress, resume) in snapshot.standings {
            let standing = Standing { progress: Progress::decode(&progress).ok()?, resume };
            ledger.standings.insert((Topic::from_number(topic)?, Partition(partition), Group::from_number(group)?), standing);
        }
        Some(ledger)
    }
}

fn of_partition(topic: Topic, partition: Partition) -> std::ops::RangeInclusive<(Topic, Partition, Group)> {
    let [first, .., last] = Group::ALL;
    (topic, partition, first)..=(topic, partition, last)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOPIC: Topic = Topic::Deliveries;
    const GROUP: Group = Group::Deliver;
    const P: Partition = Partition(3);

    fn up_to(from: u64) -> Progress {
        Progress { from: Offset(from), to: Offset(from), unfinished: Vec::new() }
    }

    #[test]
    fn a_group_without_a_commit_has_everything_to_read() {
        let mut ledger = Ledger::default();
        assert_eq!(ledger.unread_of_topic(GROUP, TOPIC), None, "there is nothing");
        ledger.record(TOPIC, P, Offset(100));
        assert_eq!(ledger.unread_of_topic(GROUP, TOPIC), Some(0));
        assert_eq!(ledger.unread_of_topic(GROUP, Topic::Events), None);
    }

    #[test]
    fn a_quiet_partition_holds_nothing_and_resumes_at_its_next_record() {
        let mut ledger = Ledger::default();
        ledger.record(TOPIC, P, Offset(100));
        ledger.commit(GROUP, TOPIC, P, up_to(101));
        assert_eq!(ledger.unread(GROUP, TOPIC, P), None);
        ledger.record(TOPIC, P, Offset(9_000_000));
        ledger.record(TOPIC, P, Offset(9_500_000));
        let ledger = Ledger::from_bytes(&ledger.to_bytes()).unwrap();
        assert_eq!(ledger.unread(GROUP, TOPIC, P), Some(9_000_000));
        assert_eq!(ledger.progress(GROUP, TOPIC, P), up_to(101));
    }

    #[test]
    fn a_commit_is_written_once_and_again_only_if_that_failed() {
        let mut ledger = Ledger::default();
        ledger.commit(GROUP, TOPIC, P, up_to(5));
        ledger.commit(GROUP, TOPIC, P, up_to(7));
        let written = ledger.take_unwritten();
        assert_eq!(written, [(GROUP, TOPIC, P, up_to(7).encode())]);
        assert!(!ledger.has_unwritten());
        ledger.not_written(written);
        assert_eq!(ledger.take_unwritten().len(), 1);
    }

    #[test]
    fn foreign_bytes_are_no_ledger() {
        assert!(Ledger::from_bytes(&[1, 9, 9, 9]).is_none());
    }
}
