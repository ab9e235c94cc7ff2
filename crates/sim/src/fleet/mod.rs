//! Thousands of shards at a time, with costs and delays as they were measured: how long deliveries take at a scale that
//! no machine at hand has.
//!
//! Unlike in a [`World`](crate::World) no invariant is checked and nothing crashes, so that millions of deliveries take
//! seconds; what decides is the same [`Shard`]. A thread does one thing at a time, and everything it does takes some of
//! its time. Kafka, the store and the network are delays.

mod manner;
mod plan;
mod report;

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use postrider_core::delivery::{Backlogged, Delivery, Place};
use postrider_core::endpoint::{DEFAULT_MAX_IN_FLIGHT, DEFAULT_TIMEOUT, Ordering, Policy, PolicyState, Retry};
use postrider_core::id::{DeliveryId, EndpointId, Uid};
use postrider_core::offsets::{Offset, Progress};
use postrider_core::partition::of_endpoint;
use postrider_core::record::Command;
use postrider_core::shard::{Action, Attempt, Input, Limits, Shard, Write};
use postrider_core::time::{Millis, Time};

pub use manner::Manner;
pub use plan::{FleetPlan, Micros};
pub use report::FleetReport;

use crate::agenda::Agenda;
use crate::chance::Chance;
use crate::plan::START;
use crate::world::{endpoint_id, index_of};
use manner::Receiver;

/// How delays of the log and of the store scatter: one in a hundred takes four times as long as half of them do.
const SCATTER: f64 = 0.6;
/// What of a delivery's cost its record takes, and what its attempt; the rest is what follows its answer.
const READING: f64 = 0.3;
const SENDING: f64 = 0.4;
/// How long is looked for attempts at what was accepted last.
const AFTERWARDS: Millis = Millis::from_secs(15);
/// A body's size does not matter here but for the limits of memory.
static BODY: [u8; 1024] = [0; 1024];

/// Runs a fleet; equal plans give equal reports.
pub fn run_fleet(plan: FleetPlan) -> FleetReport {
    let mut fleet = Fleet::new(plan);
    fleet.run();
    fleet.report
}

struct Fleet {
    plan: FleetPlan,
    chance: Chance,
    now: Micros,
    agenda: Agenda<Micros, Step>,
    receivers: Vec<Receiver>,
    /// For each endpoint, the share of deliveries that it and those before it get.
    popular: Vec<f64>,
    policy: Policy,
    backlogs: BTreeMap<EndpointId, BTreeMap<Place, Backlogged>>,
    sites: Vec<Site>,
    threads: Vec<Thread>,
    in_flight: usize,
    report: FleetReport,
}

/// A shard and what lies between it and the world.
struct Site {
    shard: Shard,
    thread: usize,
    /// The partition's end.
    end: Offset,
    /// When the last record that was appended will be read.
    read: Micros,
    /// What was read while it was paused.
    held: VecDeque<Input>,
    paused: bool,
    /// What goes to the store next.
    writes: Vec<Write>,
    flushing: bool,
    tick: Option<Time>,
}

/// Serves some of the shards, one input after the other.
#[derive(Default)]
struct Thread {
    inputs: VecDeque<(usize, Input)>,
    working: bool,
    /// From when until when it stands still: whatever it is told meanwhile waits.
    away: Option<(Micros, Micros)>,
    worked: Micros,
}

enum Step {
    /// The next delivery is accepted.
    Accept,
    /// A shard is told something once its thread has time.
    Tell(usize, Input),
    /// A thread has time.
    Work(usize),
    /// A shard is woken.
    Wake(usize, Time),
    /// The store has what a shard has written until now, and says so later.
    Flush(usize),
    /// The store has it.
    Durable(usize, Vec<Write>),
    /// An attempt ends.
    End(usize, Input),
    /// Measuring begins.
    Measure,
}

impl Fleet {
    fn new(plan: FleetPlan) -> Fleet {
        let mut chance = Chance::new(plan.seed);
        let weights = (1..=plan.endpoints).map(|n| f64::from(n).powf(-0.5));
        let mut sum = 0.0;
        let summed = weights.clone().map(|weight| {
            sum += weight;
            sum
        });
        let popular: Vec<f64> = summed.collect();
        let each = f64::from(plan.rate) / sum;
        let receivers = weights.map(|weight| {
            let manner = if chance.hits(plan.bad) { chance.pick(&Manner::ALL[1..]) } else { Manner::Healthy };
            Receiver::new(manner, weight * each, &mut chance)
        });
        let receivers: Vec<Receiver> = receivers.collect();
        let share = usize::from(plan.partitions);
        let in_flight = (plan.in_flight / share).max(1);
        let limits = Limits {
            pool: (plan.memory_mib << 20) / share,
            in_flight,
            suspects: in_flight.div_ceil(2),
            // Commits delay nothing; theirs would be half of all steps.
            commit_every: Millis::from_secs(1),
            ..Limits::default()
        };
        let site = |i: usize| Site {
            shard: Shard::new(limits.clone(), Progress::default(), i as u64),
            thread: i % usize::from(plan.threads),
            end: Offset(0),
            read: Micros(0),
            held: VecDeque::new(),
            paused: false,
            writes: Vec::new(),
            flushing: false,
            tick: None,
        };
        Fleet {
            sites: (0..share).map(site).collect(),
            threads: (0..plan.threads).map(|_| Thread::default()).collect(),
            popular,
            receivers,
            policy: Policy {
                state: PolicyState::Enabled,
                max_in_flight: DEFAULT_MAX_IN_FLIGHT,
                rate_limit: None,
                ordering: Ordering::None,
                schedule: Retry::Default.delays().into(),
                timeout: DEFAULT_TIMEOUT,
            },
            chance,
            now: Micros(0),
            agenda: Agenda::new(),
            backlogs: BTreeMap::new(),
            in_flight: 0,
            report: FleetReport::new(),
            plan,
        }
    }

    fn run(&mut self) {
        let end = Micros::from(self.plan.warm_up + self.plan.duration + AFTERWARDS);
        self.agenda.plan(self.now, Step::Accept);
        self.agenda.plan(self.plan.warm_up.into(), Step::Measure);
        if let Some((at, length)) = self.plan.stop {
            let at = self.plan.warm_up + at;
            self.threads[0].away = Some((at.into(), (at + length).into()));
        }
        while let Some((at, step)) = self.agenda.next() {
            if at > end {
                return;
            }
            self.now = at;
            self.take(step);
        }
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Accept => self.accept(),
            Step::Tell(site, input) => self.tell(site, input),
            Step::Work(thread) => self.work(thread),
            Step::Wake(site, at) => {
                if self.sites[site].tick == Some(at) {
                    self.sites[site].tick = None;
                    self.tell(site, Input::Tick);
                }
            }
            Step::Flush(site) => {
                let writes = std::mem::take(&mut self.sites[site].writes);
                let at = self.later(self.plan.store);
                self.agenda.plan(at, Step::Durable(site, writes));
            }
            Step::Durable(site, writes) => self.durable(site, writes),
            Step::End(site, input) => {
                self.in_flight -= 1;
                self.tell(site, input);
            }
            Step::Measure => {
                self.report = FleetReport::new();
                self.threads.iter_mut().for_each(|thread| thread.worked = Micros(0));
            }
        }
    }

    /// Nothing more is accepted.
    fn end(&mut self) {
        let of_all = Micros::from(self.plan.duration).0 as f64;
        let busy = self.threads.iter().map(|thread| thread.worked.0 as f64 / of_all);
        self.report.busiest = busy.clone().fold(0.0, f64::max);
        self.report.busy = busy.sum::<f64>() / self.threads.len() as f64;
    }

    fn time(&self) -> Time {
        START + Millis(self.now.0 / 1000)
    }

    /// An instant some delay from now, half of the time `median` or sooner.
    fn later(&mut self, median: Micros) -> Micros {
        self.now.after(Micros(self.chance.around(median.0 as f64, SCATTER) as u64))
    }

    /// A delivery is accepted, and its record will be read soon.
    fn accept(&mut self) {
        if self.now > (self.plan.warm_up + self.plan.duration).into() {
            return self.end();
        }
        let gap = self.chance.gap(1e6 / f64::from(self.plan.rate));
        self.agenda.plan(self.now.after(Micros(gap)), Step::Accept);
        let drawn = self.chance.fraction() * self.popular.last().copied().unwrap_or_default();
        let endpoint = endpoint_id(self.popular.partition_point(|sum| *sum <= drawn).min(self.receivers.len() - 1));
        self.report.accepted(self.receivers[index_of(endpoint)].manner);
        // When it was accepted is written into its id, so that whoever sends it can say how long that was ago.
        let event = Uid(u128::from(self.now.0) << 64 | u128::from(self.chance.seed()));
        let delivery = Delivery {
            id: DeliveryId { event, endpoint },
            key: None,
            since: self.time(),
            attempts: 0,
            failed: 0,
            meta: Bytes::new(),
            payload: Bytes::from_static(&BODY),
        };
        let read = self.later(self.plan.log);
        let place = usize::from(of_endpoint(endpoint, self.plan.partitions).0);
        let site = &mut self.sites[place];
        site.read = site.read.max(read);
        let input = Input::Arrived { offset: site.end, command: Command::Deliver, delivery };
        site.end = site.end.next();
        self.agenda.plan(site.read, Step::Tell(place, input));
    }

    /// Puts an input into the queue of the shard's thread.
    fn tell(&mut self, site: usize, input: Input) {
        let place = &mut self.sites[site];
        if place.paused && matches!(input, Input::Arrived { .. }) {
            place.held.push_back(input);
            return;
        }
        let number = place.thread;
        let thread = &mut self.threads[number];
        thread.inputs.push_back((site, input));
        if !thread.working {
            thread.working = true;
            self.agenda.plan(self.now, Step::Work(number));
        }
    }

    /// A thread takes the next input.
    fn work(&mut self, number: usize) {
        let thread = &mut self.threads[number];
        if let Some((_, back)) = thread.away.filter(|(from, back)| (*from..*back).contains(&self.now)) {
            self.agenda.plan(back, Step::Work(number));
            return;
        }
        let Some((site, input)) = thread.inputs.pop_front() else {
            thread.working = false;
            return;
        };
        let cost = self.plan.cost.0 as f64;
        let mut took = match &input {
            Input::Arrived { .. } => cost * READING,
            Input::Finished { .. } => cost * (1.0 - READING - SENDING),
            _ => 0.0,
        };
        let now = self.time();
        let shard = &mut self.sites[site].shard;
        shard.handle(input, now);
        let actions: Vec<Action> = std::iter::from_fn(|| shard.poll()).collect();
        for action in actions {
            took += if matches!(action, Action::Send(_)) { cost * SENDING } else { 0.0 };
            self.carry_out(site, action, Micros(took as u64));
        }
        self.plan_wake(site);
        let took = Micros(took as u64);
        self.threads[number].worked.0 += took.0;
        self.agenda.plan(self.now.after(took), Step::Work(number));
    }

    fn plan_wake(&mut self, site: usize) {
        let place = &mut self.sites[site];
        let Some(at) = place.shard.next_wakeup() else { return };
        if place.tick.is_none_or(|tick| tick > at) {
            place.tick = Some(at);
            self.agenda.plan(Micros(at.since(START).0 * 1000).max(self.now), Step::Wake(site, at));
        }
    }

    fn carry_out(&mut self, site: usize, action: Action, after: Micros) {
        match action {
            Action::Send(attempt) => self.send(site, attempt, self.now.after(after)),
            Action::Write(write) => {
                let place = &mut self.sites[site];
                self.report.parked += u64::from(write.put.is_some());
                place.writes.push(write);
                if !place.flushing {
                    place.flushing = true;
                    self.agenda.plan(self.now.after(after), Step::Flush(site));
                }
            }
            Action::Load { endpoint, from, limit, .. } => {
                let rows = self.backlogs.get(&endpoint).into_iter().flat_map(|rows| rows.range(from..)).take(limit);
                let rows = rows.map(|(_, row)| row.clone()).collect();
                self.answer(site, Input::Loaded { endpoint, rows });
            }
            Action::Resolve { endpoint, .. } => {
                let policy = self.policy.clone();
                self.answer(site, Input::Endpoint { endpoint, policy });
            }
            Action::Pause => {
                self.report.pauses += 1;
                self.sites[site].paused = true;
            }
            Action::Resume => {
                self.sites[site].paused = false;
                for input in std::mem::take(&mut self.sites[site].held) {
                    self.tell(site, input);
                }
            }
            // Nobody replays, is gone or leaves here.
            Action::Commit(_) | Action::Find(_) | Action::Disable { .. } | Action::Drained => {}
        }
    }

    /// The store answers a query.
    fn answer(&mut self, site: usize, input: Input) {
        let at = self.later(self.plan.store);
        self.agenda.plan(at, Step::Tell(site, input));
    }

    fn send(&mut self, site: usize, attempt: Attempt, at: Micros) {
        let id = attempt.delivery.id;
        let receiver = &self.receivers[index_of(id.endpoint)];
        let accepted = Micros((id.event.0 >> 64) as u64);
        if attempt.number == 1 && accepted >= self.plan.warm_up.into() {
            self.report.attempted(receiver.manner, Micros(at.0 - accepted.0));
        }
        let now = START + Millis(at.0 / 1000);
        let (report, took) = receiver.answer(now, attempt.timeout, &mut self.chance);
        self.in_flight += 1;
        self.report.in_flight = self.report.in_flight.max(self.in_flight);
        self.agenda.plan(at.after(took), Step::End(site, Input::Finished { id, report }));
    }

    /// Writes of a shard are durable; those that came meanwhile go next.
    fn durable(&mut self, site: usize, writes: Vec<Write>) {
        let count = writes.len();
        for Write { delivery, remove, put, .. } in writes {
            let rows = self.backlogs.entry(delivery.id.endpoint).or_default();
            if let Some(place) = remove {
                rows.remove(&place);
            }
            if let Some((place, due)) = put {
                rows.insert(place, Backlogged { place, due, delivery });
            }
        }
        let place = &mut self.sites[site];
        place.flushing = !place.writes.is_empty();
        if place.flushing {
            self.agenda.plan(self.now, Step::Flush(site));
        }
        self.tell(site, Input::Written { count });
    }
}
