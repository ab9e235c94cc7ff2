//! Jobs that were read and wait to be run: higher priorities first, then older records.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use bytes::Bytes;
use postrider_backend::log::Tenure;
use postrider_core::id::JobId;
use postrider_core::offsets::Offset;
use postrider_core::time::Time;
use postrider_core::trace::KeptTrace;
use tokio::time::Instant;

/// A job as its record names it.
#[derive(Clone, Debug)]
pub(crate) struct Waiting {
    pub(crate) tenure: Tenure,
    pub(crate) offset: Offset,
    /// When the record was written.
    pub(crate) at: Time,
    /// When it was read.
    pub(crate) read: Instant,
    pub(crate) tenant: String,
    pub(crate) job: JobId,
    pub(crate) priority: u8,
    pub(crate) input: Input,
    /// The trace of the request that brought it.
    pub(crate) trace: KeptTrace,
    /// Whether another worker had it when it was last looked at, so that it waits for that one's end and not for its own beginning.
    pub(crate) is_elsewhere: bool,
}

/// Where a job's input is.
#[derive(Clone, Debug)]
pub(crate) enum Input {
    /// In the record.
    Inline(Bytes),
    /// Among the blobs, under this name.
    Blob(String),
    /// With the workers outside.
    Elsewhere,
}

impl Waiting {
    /// Memory that it takes, about.
    pub(crate) fn bytes(&self) -> usize {
        size_of::<Waiting>()
            + self.tenant.len()
            + self.trace.state.as_ref().map_or(0, String::len)
            + match &self.input {
                Input::Inline(bytes) => bytes.len(),
                Input::Blob(name) => name.len(),
                Input::Elsewhere => 0,
            }
    }
}

/// What waits.
#[derive(Debug, Default)]
pub(crate) struct Queue(BinaryHeap<Entry>);

#[derive(Debug)]
struct Entry(Waiting);

impl Entry {
    fn rank(&self) -> (u8, std::cmp::Reverse<(Time, JobId)>) {
        (self.0.priority, std::cmp::Reverse((self.0.at, self.0.job)))
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Entry) -> bool {
        self.rank() == other.rank()
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Entry) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Entry) -> Ordering {
        self.rank().cmp(&other.rank())
    }
}

impl Queue {
    pub(crate) fn push(&mut self, waiting: Waiting) {
        self.0.push(Entry(waiting));
    }

    /// The job that comes first, if it is `wanted`.
    pub(crate) fn pop_if(&mut self, wanted: impl FnOnce(&Waiting) -> bool) -> Option<Waiting> {
        self.0.peek().is_some_and(|entry| wanted(&entry.0)).then(|| self.0.pop())?.map(|entry| entry.0)
    }

    /// How many wait to be begun.
    pub(crate) fn to_begin(&self) -> usize {
        self.0.iter().filter(|entry| !entry.0.is_elsewhere).count()
    }

    /// Forgets the jobs of a partition that is no longer this worker's; says how much memory they took.
    pub(crate) fn forget(&mut self, tenure: Tenure) -> usize {
        let bytes = self.0.iter().filter(|entry| entry.0.tenure == tenure).map(|entry| entry.0.bytes()).sum();
        self.0.retain(|entry| entry.0.tenure != tenure);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use postrider_backend::log::Tenures;
    use postrider_core::id::Uid;
    use postrider_core::partition::Partition;
    use postrider_core::trace::TraceParent;

    #[test]
    fn higher_priorities_go_first_and_then_older_jobs() {
        let mut queue = Queue::default();
        let tenure = Tenures::default().begin(Partition(0));
        for (n, (priority, at)) in [(5, 30), (9, 40), (5, 10), (0, 1), (9, 35)].into_iter().enumerate() {
            queue.push(Waiting {
                tenure,
                offset: Offset(n as u64),
                at: Time(at),
                read: Instant::now(),
                tenant: String::new(),
                job: JobId(Uid(n as u128)),
                priority,
                input: Input::Blob(String::new()),
                trace: TraceParent::of_job(Uid(1)).into(),
                is_elsewhere: n > 2,
            });
        }
        assert_eq!(queue.to_begin(), 3);
        let order: Vec<u64> = std::iter::from_fn(|| queue.pop_if(|_| true)).map(|waiting| waiting.offset.0).collect();
        assert_eq!(order, [4, 1, 2, 0, 3]);
    }
}
