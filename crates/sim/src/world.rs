//! The world of a run, and what happens in it.

use std::collections::BTreeMap;

use postrider_core::attempt::Report as AttemptReport;
use postrider_core::endpoint::{Ordering, Policy, PolicyState};
use postrider_core::id::{DeliveryId, EndpointId, Uid};
use postrider_core::offsets::Progress;
use postrider_core::record::Command;
use postrider_core::shard::Input;
use postrider_core::time::{Millis, Time};

use crate::agenda::Agenda;
use crate::chance::Chance;
use crate::faults::Way;
use crate::ledger::Ledger;
use crate::owner::{Epoch, Owner, Part};
use crate::partition::Partition;
use crate::plan::{Change, Fault, Plan, START};
use crate::receiver::Receiver;
use crate::report::{Broken, Counts, Failure, Report};
use crate::store::Store;
use crate::trace::{Detail, Trace};

/// A run that has not rested after so many steps never will.
const MOST_STEPS: u64 = 3_000_000;

/// Everything that a run consists of.
#[derive(Debug)]
pub struct World {
    pub(crate) plan: Plan,
    pub(crate) chance: Chance,
    pub(crate) now: Time,
    pub(crate) agenda: Agenda<Time, Step>,
    pub(crate) partition: Partition,
    pub(crate) store: Store,
    /// The directory: each endpoint's policy, by index.
    pub(crate) policies: Vec<Policy>,
    pub(crate) receivers: Vec<Receiver>,
    pub(crate) owners: BTreeMap<Epoch, Owner>,
    pub(crate) epoch: Epoch,
    /// Whether another owner is about to begin.
    pub(crate) changing_hands: bool,
    /// What a new owner starts from.
    pub(crate) committed: Progress,
    pub(crate) ledger: Ledger,
    /// Since when the store has worked without a break.
    pub(crate) store_works_since: Time,
    pub(crate) trace: Trace,
    pub(crate) counts: Counts,
    pub(crate) accepted: Vec<DeliveryId>,
}

/// What happens next.
#[derive(Debug)]
pub(crate) enum Step {
    /// Producers append the next records.
    Append,
    /// An owner reads.
    Read(Epoch),
    /// An owner is woken.
    Wake(Epoch),
    /// An owner is told something, if it lives.
    Tell(Epoch, Input),
    /// An attempt ends.
    End(Epoch, DeliveryId, AttemptReport),
    /// Writes of an owner reach the store.
    Flush(Epoch),
    /// The store acknowledges writes.
    Acknowledge(Epoch, usize),
    /// The store answers an owner.
    Query(Epoch, Query),
    /// An endpoint was looked up.
    Resolve(Epoch, EndpointId),
    /// A commit is durable.
    Commit(Epoch, Progress),
    /// A drained owner's last commit is durable.
    HandOver(Epoch),
    Change(usize, Change),
    Fault(Fault),
    /// The store works again.
    StoreIsBack,
    /// Another owner begins.
    TakeOver(Way),
    /// Receivers are healed.
    Heal,
    /// An owner that has handed over vanishes.
    Vanish(Epoch),
    /// An owner that another has followed may be forgotten.
    Forget(Epoch),
}

/// What an owner asks the store for.
#[derive(Debug)]
pub(crate) enum Query {
    Load { endpoint: EndpointId, from: postrider_core::delivery::Place, limit: usize },
    Find(DeliveryId),
}

impl World {
    /// A world at rest, before its first record.
    pub fn new(plan: Plan, detail: Detail) -> World {
        World {
            chance: Chance::new(plan.seed),
            now: START,
            agenda: Agenda::new(),
            partition: Partition::default(),
            store: Store::default(),
            policies: plan.endpoints.iter().map(|endpoint| endpoint.policy.clone()).collect(),
            receivers: plan.endpoints.iter().map(|endpoint| Receiver::new(endpoint.temper)).collect(),
            owners: BTreeMap::new(),
            epoch: Epoch(0),
            changing_hands: false,
            committed: Progress::default(),
            ledger: Ledger::default(),
            store_works_since: START,
            trace: Trace::new(detail, START),
            counts: Counts::default(),
            accepted: Vec::new(),
            plan,
        }
    }

    /// Runs until everything rests, checking every invariant after every step.
    ///
    /// # Errors
    /// The first invariant that did not hold.
    pub fn run(mut self) -> Result<Report, Box<Failure>> {
        match self.run_to_the_end() {
            Ok(()) => {
                let (hash, took) = (self.trace.hash(), self.now.since(START));
                let slowest = (0..self.plan.endpoints.len()).map(|i| self.ledger.slowest.get(&endpoint_id(i)).copied().unwrap_or_default());
                Ok(Report { seed: self.plan.seed, hash, took, counts: self.counts, slowest: slowest.collect() })
            }
            Err(broken) => Err(Box::new(Failure { seed: self.plan.seed, broken, trace: self.trace.tail() })),
        }
    }

    fn run_to_the_end(&mut self) -> Result<(), Broken> {
        self.agenda.plan(self.now, Step::TakeOver(Way::HandedOver));
        self.agenda.plan(self.now, Step::Append);
        for (after, fault) in self.plan.faults.clone() {
            self.agenda.plan(START + after, Step::Fault(fault));
        }
        for (after, endpoint, change) in self.plan.changes.clone() {
            self.agenda.plan(START + after, Step::Change(endpoint, change));
        }
        if let Some(after) = self.plan.healed {
            self.agenda.plan(START + after, Step::Heal);
        }
        self.run_until_rest()?;
        // What two owners at a time have left behind is found when the partition changes hands.
        if self.counts.revocations == 0 {
            self.everything_is_finished()?;
        }
        self.fault(Fault::Drain)?;
        self.run_until_rest()?;
        self.everything_is_finished()
    }

    fn run_until_rest(&mut self) -> Result<(), Broken> {
        while let Some((at, step)) = self.agenda.next() {
            self.now = self.now.max(at);
            self.counts.steps += 1;
            if self.counts.steps > MOST_STEPS {
                return Err(Broken::new("everything_comes_to_rest", format!("not after {MOST_STEPS} steps")));
            }
            self.take(step)?;
        }
        Ok(())
    }

    fn take(&mut self, step: Step) -> Result<(), Broken> {
        match step {
            Step::Append => self.append(),
            Step::Read(epoch) => return self.read(epoch),
            Step::Wake(epoch) => {
                let Some(owner) = self.owners.get_mut(&epoch) else { return Ok(()) };
                if owner.tick.is_none_or(|at| at > self.now) {
                    return Ok(());
                }
                owner.tick = None;
                return self.tell(epoch, [Input::Tick]);
            }
            Step::Tell(epoch, input) => return self.tell(epoch, [input]),
            Step::End(epoch, id, report) => return self.end_attempt(epoch, id, report),
            Step::Flush(epoch) => return self.flush(epoch),
            Step::Acknowledge(epoch, count) => return self.acknowledge(epoch, count),
            Step::Query(epoch, query) => self.answer(epoch, query),
            Step::Resolve(epoch, endpoint) => {
                let policy = self.policies[index_of(endpoint)].clone();
                return self.tell(epoch, [Input::Endpoint { endpoint, policy }]);
            }
            Step::Commit(epoch, progress) if epoch == self.epoch => {
                self.counts.commits += 1;
                self.committed = progress;
            }
            Step::Commit(..) => {} // fenced: the partition has another owner
            Step::HandOver(epoch) => self.hand_over(epoch),
            Step::Change(endpoint, change) => self.change(endpoint, change),
            Step::Fault(fault) => return self.fault(fault),
            Step::StoreIsBack => {
                self.store.down = false;
                self.store_works_since = self.now;
            }
            Step::TakeOver(way) => return self.take_over(way),
            Step::Heal => self.heal(),
            Step::Vanish(epoch) => self.vanish(epoch),
            Step::Forget(epoch) => self.forget(epoch),
        }
        Ok(())
    }

    /// An owner reads a batch, unless it is paused.
    fn read(&mut self, epoch: Epoch) -> Result<(), Broken> {
        let Some(owner) = self.owners.get_mut(&epoch) else { return Ok(()) };
        owner.reading = false;
        if owner.paused || owner.part != Part::Serving {
            return Ok(());
        }
        let batch = self.partition.read(owner.cursor, self.plan.traffic.batch);
        let mut inputs = Vec::with_capacity(batch.len());
        for (offset, record) in batch {
            let finished = owner.committed.0.is_finished(offset);
            owner.cursor = offset.next();
            if !finished {
                owner.read_at.insert(offset, self.now);
                let endpoint = index_of(record.delivery.id.endpoint);
                self.ledger.arrived(&record, epoch, owner.read, self.plan.limits.recent, self.now, endpoint);
                owner.read += u64::from(record.command == Command::Deliver);
            }
            inputs.push(Input::Arrived { offset, command: record.command, delivery: record.delivery });
        }
        let before = owner.shard.census().largest_lane;
        self.tell(epoch, inputs)?;
        self.check_read(epoch, before)?;
        self.read_on(epoch);
        Ok(())
    }

    /// Plans an owner's next read, if it may and there is something.
    pub(crate) fn read_on(&mut self, epoch: Epoch) {
        let Some(owner) = self.owners.get_mut(&epoch) else { return };
        if !owner.reading && !owner.paused && owner.part == Part::Serving && self.partition.has_more(owner.cursor) {
            owner.reading = true;
            let at = self.now + self.chance.span(0, 10);
            self.agenda.plan(at, Step::Read(epoch));
        }
    }

    fn change(&mut self, endpoint: usize, change: Change) {
        self.counts.changes += 1;
        let policy = &mut self.policies[endpoint];
        if policy.state == PolicyState::Deleted {
            return;
        }
        match change {
            Change::Disable => policy.state = PolicyState::Disabled,
            Change::Enable => policy.state = PolicyState::Enabled,
            Change::Delete => *policy = Policy::deleted(),
            Change::Rate(limit) => policy.rate_limit = limit,
            Change::MaxInFlight(most) => policy.max_in_flight = most,
            Change::Order(ordering) => policy.ordering = ordering,
        }
        self.trace.note(self.now, &[2, endpoint as u64], || format!("change    endpoint {endpoint}: {change:?}"));
        self.announce(endpoint);
    }

    /// Tells every owner of an endpoint's present policy, in its own time.
    pub(crate) fn announce(&mut self, endpoint: usize) {
        for epoch in self.owners.keys().copied().collect::<Vec<_>>() {
            let at = self.now + self.chance.span(0, 1000);
            self.agenda.plan(at, Step::Resolve(epoch, endpoint_id(endpoint)));
        }
    }

    fn heal(&mut self) {
        self.trace.note(self.now, &[3], || "heal".to_owned());
        for endpoint in 0..self.receivers.len() {
            self.receivers[endpoint].temper = crate::receiver::Temper::Healthy;
            self.change(endpoint, Change::Enable);
        }
    }
}

impl Plan {
    /// Whether an endpoint's events are ordered from the beginning to the end.
    pub(crate) fn keeps_order(&self, endpoint: usize) -> bool {
        let switched = self.changes.iter().any(|(_, of, change)| *of == endpoint && matches!(change, Change::Order(_)));
        self.endpoints[endpoint].policy.ordering == Ordering::Key && !switched
    }
}

pub(crate) fn endpoint_id(index: usize) -> EndpointId {
    EndpointId(Uid(index as u128 + 1))
}

pub(crate) fn index_of(endpoint: EndpointId) -> usize {
    endpoint.0.0 as usize - 1
}

/// A delivery's number and its endpoint's, for the trace.
pub(crate) fn short(id: DeliveryId) -> String {
    format!("#{}@{}", (id.event.0 as u64) & 0xFFFF_FFFF, index_of(id.endpoint))
}

pub(crate) const fn longest_way(delay: Millis) -> Millis {
    Millis(delay.0 * 2)
}
