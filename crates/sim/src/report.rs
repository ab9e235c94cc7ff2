//! How a run ended, and what happened in it.

use std::fmt;
use std::ops::AddAssign;

use postrider_core::time::Millis;

/// An invariant that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// Which invariant.
    pub invariant: &'static str,
    /// What was seen.
    pub seen: String,
}

impl Broken {
    pub(crate) fn new(invariant: &'static str, seen: String) -> Broken {
        Broken { invariant, seen }
    }
}

/// A run that broke an invariant.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The seed of the run.
    pub seed: u64,
    /// The invariant.
    pub broken: Broken,
    /// The last lines of the trace; empty where only its hash was kept.
    pub trace: Vec<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.trace {
            writeln!(f, "{line}")?;
        }
        write!(f, "seed {}: {}: {}", self.seed, self.broken.invariant, self.broken.seen)
    }
}

impl std::error::Error for Failure {}

/// A run in which every invariant held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The seed of the run.
    pub seed: u64,
    /// Equal for equal runs.
    pub hash: u64,
    /// Virtual time from the first record to rest.
    pub took: Millis,
    /// What happened.
    pub counts: Counts,
    /// By endpoint: the longest that a delivery waited from being read to its first attempt.
    pub slowest: Vec<Millis>,
}

macro_rules! counts {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// How often things happened; shows that runs are not idle.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Counts { $($(#[$doc])* pub $name: u64,)* }

        impl Counts {
            /// Name and number of each.
            pub fn each(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name)),*]
            }
        }

        impl AddAssign for Counts {
            fn add_assign(&mut self, other: Counts) { $(self.$name += other.$name;)* }
        }
    };
}

counts! {
    /// Steps of virtual time.
    steps,
    /// Deliveries accepted.
    accepted,
    /// Records that repeat a delivery.
    repeats,
    /// Records that ask for a delivery again.
    replays,
    /// Commands for one delivery.
    commands,
    /// Attempts made.
    sends,
    /// Attempts of a delivery that had succeeded before.
    duplicates,
    /// Attempts let through by a breaker that was not closed.
    probes,
    /// Deliveries that ended well.
    succeeded,
    /// Deliveries given up.
    failed,
    /// Deliveries withdrawn.
    canceled,
    /// Deliveries that waited longer than their schedule.
    expired,
    /// Rows put into the backlog.
    parks,
    /// Loads that brought rows.
    loads,
    /// Loads with a low water.
    raised,
    /// Loads that failed.
    load_failures,
    /// Searches for a delivery's row.
    finds,
    /// Failed attempts of a delivery that others of its key wait for.
    blocked_keys,
    /// Times a breaker was seen to open.
    openings,
    /// Times a receiver had the endpoint disabled.
    disables,
    /// Changes of an endpoint.
    changes,
    /// Times the partition was paused.
    pauses,
    /// Commits persisted.
    commits,
    /// Owners that vanished.
    crashes,
    /// Owners that lost the partition and lived on.
    revocations,
    /// Owners that handed over.
    drains,
    /// Attempts in flight that were leased to their former owner.
    leases,
    /// Owners that handed over and vanished with attempts in flight.
    vanished,
    /// Store outages.
    outages,
    /// Times without time to spare.
    strains,
}
