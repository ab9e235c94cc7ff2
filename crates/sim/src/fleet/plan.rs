//! What a fleet is made of.

use postrider_core::time::Millis;

/// A fleet, its traffic and its receivers.
#[derive(Clone, Debug)]
pub struct FleetPlan {
    /// Decides all chance.
    pub seed: u64,
    /// Deliveries accepted a second.
    pub rate: u32,
    /// Partitions of `deliveries`: each is a shard.
    pub partitions: u16,
    /// Threads that serve them.
    pub threads: u16,
    /// Endpoints; the most popular of n gets about n^-½ / 2 of the deliveries.
    pub endpoints: u32,
    /// `limits.in_flight` of each process; as there, divided by all partitions.
    pub in_flight: usize,
    /// `limits.memory_mib` of each process; as there, divided by all partitions.
    pub memory_mib: usize,
    /// What a delivery takes of its thread.
    pub cost: Micros,
    /// From acceptance until a deliverer has read the record, half of the time …
    pub log: Micros,
    /// … and until a write is acknowledged or a query answered.
    pub store: Micros,
    /// Share of the endpoints that misbehave, each kind of [`Manner`](super::Manner) alike.
    pub bad: f64,
    /// When the first thread stands still, and for how long: until its partitions have been taken over.
    pub stop: Option<(Millis, Millis)>,
    /// What is not measured, as endpoints are met for the first time.
    pub warm_up: Millis,
    /// What is measured.
    pub duration: Millis,
}

/// Virtual time, and spans of it, in µs: a thread's work on one delivery takes less than a millisecond.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Micros(pub u64);

impl Micros {
    pub(crate) fn after(self, span: Micros) -> Micros {
        Micros(self.0 + span.0)
    }
}

impl From<Millis> for Micros {
    fn from(span: Millis) -> Micros {
        Micros(span.0 * 1000)
    }
}
