//! One owner of the partition: a shard, and the process around it as far as it matters.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use postrider_core::endpoint::Policy;
use postrider_core::id::DeliveryId;
use postrider_core::offsets::{Offset, Progress};
use postrider_core::shard::{Limits, Shard, Write};
use postrider_core::time::{Millis, Time};

/// Counts the owners of the partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Epoch(pub(crate) u32);

/// What an owner believes of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// The partition is its own, or so it believes.
    Serving,
    /// It was told to drain.
    Draining,
    /// It has drained.
    Drained,
    /// It knows that another has the partition.
    Lost,
}

/// An owner, alive.
#[derive(Debug)]
pub(crate) struct Owner {
    pub(crate) shard: Shard,
    pub(crate) part: Part,
    /// What it reads next.
    pub(crate) cursor: Offset,
    pub(crate) paused: bool,
    pub(crate) strained: bool,
    /// Whether a read is planned.
    pub(crate) reading: bool,
    /// Deliveries read.
    pub(crate) read: u64,
    /// Writes that are not durable yet, the oldest first.
    pub(crate) writes: VecDeque<Write>,
    /// Durable, but not acknowledged.
    pub(crate) unacknowledged: usize,
    /// Whether a flush is planned.
    pub(crate) flushing: bool,
    /// When it will be woken.
    pub(crate) tick: Option<Time>,
    /// Endpoints as this owner sees them, by index.
    pub(crate) views: Vec<View>,
    /// Attempts out.
    pub(crate) flights: BTreeSet<DeliveryId>,
    /// Attempts out that an open breaker let through.
    pub(crate) probes: BTreeMap<DeliveryId, usize>,
    /// Since when it drains.
    pub(crate) draining: Time,
    /// Attempts out when it left whose rows are its own to move, and until when.
    pub(crate) leases: BTreeMap<DeliveryId, Time>,
    /// The last commit, and when it was made.
    pub(crate) committed: (Progress, Time),
    /// When it read each record that was not finished before.
    pub(crate) read_at: BTreeMap<Offset, Time>,
    /// When its writes last lagged behind.
    pub(crate) behind_at: Time,
}

/// Within which an endpoint's successes tell its pace.
pub(crate) const PACE: Millis = Millis::from_secs(2);

/// An endpoint as an owner sees it.
#[derive(Clone, Debug, Default)]
pub(crate) struct View {
    pub(crate) policy: Option<Policy>,
    pub(crate) flying: usize,
    pub(crate) probes: usize,
    /// Attempts of the last second, under the present rate limit.
    pub(crate) recent: VecDeque<Time>,
    /// Failures since the last success.
    pub(crate) failures: VecDeque<Time>,
    /// Since when it has answered with nothing but success.
    pub(crate) proven: Option<Time>,
    pub(crate) succeeded: Option<Time>,
    /// Successes of the last two seconds.
    pub(crate) successes: VecDeque<Time>,
    pub(crate) open: bool,
}

impl View {
    pub(crate) fn succeeded(&mut self, now: Time) {
        self.failures.clear();
        self.succeeded = Some(now);
        self.proven.get_or_insert(now);
        self.successes.push_back(now);
        while self.successes.front().is_some_and(|at| now.since(*at) > PACE) {
            self.successes.pop_front();
        }
    }

    /// Successes of the last two seconds.
    pub(crate) fn pace(&self, now: Time) -> usize {
        self.successes.iter().filter(|at| now.since(**at) <= PACE).count()
    }
}

impl Owner {
    pub(crate) fn new(limits: Limits, progress: Progress, seed: u64, endpoints: usize, now: Time) -> Owner {
        Owner {
            cursor: progress.from,
            shard: Shard::new(limits, progress.clone(), seed),
            part: Part::Serving,
            paused: false,
            strained: false,
            reading: false,
            read: 0,
            writes: VecDeque::new(),
            unacknowledged: 0,
            flushing: false,
            tick: None,
            views: vec![View::default(); endpoints],
            flights: BTreeSet::new(),
            probes: BTreeMap::new(),
            draining: now,
            leases: BTreeMap::new(),
            committed: (progress, now),
            read_at: BTreeMap::new(),
            behind_at: Time(0),
        }
    }

    /// Whether it may act on the partition.
    pub(crate) fn serves(&self) -> bool {
        matches!(self.part, Part::Serving | Part::Draining)
    }

    /// Whether nothing of it is left to happen.
    pub(crate) fn is_over(&self) -> bool {
        !self.serves() && self.flights.is_empty() && self.writes.is_empty() && self.unacknowledged == 0
    }
}
