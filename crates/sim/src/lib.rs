//! Drives whole delivery shards through crashes, hand-overs and failures on virtual time.
//!
//! Architecture invariant: knows `postrider_core` only; no threads, clock or IO. Everything that happens in a run
//! follows from its [`Plan`], and a plan follows from its seed, so that a failure is replayed by its seed alone.
//!
//! A [`World`] is a log partition, a store, a directory, receivers of all tempers, and the owners that the
//! partition has one after another (or, for a while, two at once). After every step every invariant is checked
//! ([`Broken`] names the one that does not hold); at the end every accepted delivery must have finished.
//!
//! [`run_fleet`] is the other half: thousands of shards, for how long deliveries take at scale.
//!
//! Read [`run`] and [`World`] first.

mod agenda;
mod carry;
mod chance;
mod end;
mod faults;
mod fleet;
mod invariants;
mod lease;
mod ledger;
mod owner;
mod partition;
mod plan;
mod receiver;
mod report;
mod store;
mod trace;
mod traffic;
mod world;

pub use chance::Chance;
pub use fleet::{FleetPlan, FleetReport, Manner, Micros, run_fleet};
pub use plan::{Change, EndpointPlan, Fault, Plan, StorePlan, Traffic};
pub use receiver::Temper;
pub use report::{Broken, Counts, Failure, Report};
pub use trace::Detail;
pub use world::World;

/// Runs the world of `seed` to its end.
///
/// # Errors
/// The first invariant that did not hold, with the last steps before it.
pub fn run(seed: u64) -> Result<Report, Box<Failure>> {
    match World::new(Plan::from_seed(seed), Detail::Hash).run() {
        // The same run again, this time with words.
        Err(_) => run_in_detail(seed, Detail::Tail),
        Ok(report) => Ok(report),
    }
}

/// Runs the world of `seed` and keeps as much of its trace as `detail` says.
///
/// # Errors
/// As [`run`].
pub fn run_in_detail(seed: u64, detail: Detail) -> Result<Report, Box<Failure>> {
    World::new(Plan::from_seed(seed), detail).run()
}
