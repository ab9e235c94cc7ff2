//! What a seed decides before anything happens.

use std::sync::Arc;

use postrider_core::endpoint::{Ordering, Policy, PolicyState};
use postrider_core::shard::Limits;
use postrider_core::time::{Millis, Time};

use crate::chance::Chance;
use crate::receiver::Temper;

/// When every run starts; the present, so that ids look as they do in life.
pub(crate) const START: Time = Time(1_800_000_000_000);

/// A run, decided.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Decides what the plan leaves open.
    pub seed: u64,
    /// The shards' limits.
    pub limits: Limits,
    /// The endpoints; deliveries name them by index.
    pub endpoints: Vec<EndpointPlan>,
    /// What producers append.
    pub traffic: Traffic,
    /// How the store behaves.
    pub store: StorePlan,
    /// What goes wrong, and when after the start.
    pub faults: Vec<(Millis, Fault)>,
    /// Changes of endpoints, when after the start.
    pub changes: Vec<(Millis, usize, Change)>,
    /// Share of the owners that vanish after they have handed over, with attempts still in flight.
    pub vanishing: f64,
    /// When after the start receivers that fail are healed and disabled endpoints enabled; `None` for never.
    pub healed: Option<Millis>,
}

/// An endpoint and its receiver.
#[derive(Clone, Debug)]
pub struct EndpointPlan {
    /// How its receiver behaves.
    pub temper: Temper,
    /// Its policy at the start.
    pub policy: Policy,
    /// Share of the deliveries that go to it, against the other endpoints' shares.
    pub weight: u32,
    /// Ordering keys its events have; 0 for none.
    pub keys: u64,
}

/// What producers append.
#[derive(Clone, Debug)]
pub struct Traffic {
    /// Deliveries in all.
    pub deliveries: usize,
    /// Over how long.
    pub span: Millis,
    /// Deliveries that come at one time.
    pub burst: u64,
    /// Records of a read.
    pub batch: usize,
    /// Records that repeat an earlier delivery, as a share of the deliveries.
    pub repeats: f64,
    /// Records that replay an earlier delivery.
    pub replays: f64,
    /// Commands for an earlier delivery.
    pub commands: f64,
    /// Largest payload, in bytes.
    pub payload: u64,
}

/// How the store behaves.
#[derive(Clone, Debug)]
pub struct StorePlan {
    /// Longest time of one way to or from the store.
    pub delay: Millis,
    /// Share of loads that fail.
    pub load_failures: f64,
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The owner vanishes; another takes over after this time.
    Crash(Millis),
    /// The owner hands over.
    Drain,
    /// Another takes over; the owner learns of it after this time.
    Revoke(Millis),
    /// The store answers nothing for this time.
    Outage(Millis),
    /// The owner has no time left for so long.
    Strain(Millis),
}

/// A change of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Its owner disables it.
    Disable,
    /// Its owner enables it.
    Enable,
    /// Its owner deletes it.
    Delete,
    /// It gets another rate limit.
    Rate(Option<u32>),
    /// It may bear another number of attempts at one time.
    MaxInFlight(u16),
    /// Its events are ordered from now on, or no longer.
    Order(Ordering),
}

impl EndpointPlan {
    /// An unlimited, unordered endpoint.
    pub fn plain(temper: Temper, schedule: &[Millis]) -> EndpointPlan {
        let policy = Policy {
            state: PolicyState::Enabled,
            max_in_flight: 64,
            rate_limit: None,
            ordering: Ordering::None,
            schedule: Arc::from(schedule),
            timeout: Millis::from_secs(15),
        };
        EndpointPlan { temper, policy, weight: 1, keys: 0 }
    }
}

impl Plan {
    /// A plan in which nothing goes wrong but receivers.
    pub fn calm(seed: u64, endpoints: Vec<EndpointPlan>, deliveries: usize, span: Millis) -> Plan {
        let (repeats, replays, commands) = (0.0, 0.0, 0.0);
        Plan {
            seed,
            limits: Limits::default(),
            endpoints,
            traffic: Traffic { deliveries, span, burst: 1, batch: 100, repeats, replays, commands, payload: 1000 },
            store: StorePlan { delay: Millis(10), load_failures: 0.0 },
            faults: Vec::new(),
            changes: Vec::new(),
            vanishing: 0.0,
            healed: None,
        }
    }

    /// The plan of a seed: mostly a few endpoints and hundreds of deliveries, now and then a city of them.
    pub fn from_seed(seed: u64) -> Plan {
        let mut chance = Chance::new(seed ^ 0x5EED_0F0F_5EED_0F0F);
        let city = chance.hits(0.01);
        let endpoints = if city { chance.between(150, 400) } else { chance.between(1, 14) };
        let deliveries = if city { chance.between(1500, 4000) } else { chance.between(20, 400) };
        let span = chance.span(1000, 40_000);
        let mut endpoints: Vec<_> = (0..endpoints).map(|_| endpoint(&mut chance)).collect();
        if chance.hits(0.05) {
            return strangers(&mut chance, seed, endpoints, span);
        }
        if chance.hits(0.01) {
            return crowd(&mut chance, seed, span);
        }
        if chance.hits(0.1) {
            endpoints.iter_mut().for_each(|endpoint| endpoint.policy.ordering = Ordering::Key);
        }
        let (hand_over, vanishing) = leaving(seed);
        Plan {
            seed,
            limits: Limits { hand_over, ..limits(&mut chance) },
            traffic: traffic(&mut chance, deliveries as usize, span),
            store: StorePlan {
                delay: chance.pick(&[Millis(2), Millis(10), Millis(10), Millis(50), Millis(300)]),
                load_failures: chance.pick(&[0.0, 0.0, 0.05, 0.3]),
            },
            faults: faults(&mut chance, span),
            changes: changes(&mut chance, span, endpoints.len()),
            vanishing,
            healed: chance.hits(0.8).then_some(span + chance.span(0, 60_000)),
            endpoints,
        }
    }
}

/// How owners leave; drawn apart, so that the rest of a seed's plan stays what it was.
fn leaving(seed: u64) -> (Millis, f64) {
    let mut chance = Chance::new(seed ^ 0x1EAF_1EAF_1EAF_1EAF);
    (chance.pick(&[Millis(0), Millis(100), Millis(1000), Millis(2000)]), chance.pick(&[0.0, 1.0, 1.0]))
}

/// Healthy endpoints among more hanging ones than there are slots for.
fn strangers(chance: &mut Chance, seed: u64, mut endpoints: Vec<EndpointPlan>, span: Millis) -> Plan {
    for endpoint in &mut endpoints {
        let temper = if chance.hits(0.5) { Temper::Healthy } else { Temper::Hanging };
        *endpoint = EndpointPlan { weight: endpoint.weight, ..EndpointPlan::plain(temper, &[Millis(1000), Millis(5000)]) };
    }
    let plan = Plan::calm(seed, endpoints, 400, span);
    Plan { limits: Limits { in_flight: 16, suspects: 8, ..Limits::default() }, healed: Some(span), ..plan }
}

/// Many endpoints with large rows in the store, and little memory to load them into when the partition changes hands.
fn crowd(chance: &mut Chance, seed: u64, span: Millis) -> Plan {
    let endpoints = vec![EndpointPlan::plain(Temper::Moody, &[Millis(1000); 5]); chance.between(60, 120) as usize];
    let mut plan = Plan::calm(seed, endpoints, 2000, span);
    plan.traffic.payload = 4000;
    (plan.traffic.burst, plan.traffic.batch) = (200, 10);
    plan.limits = Limits { pool: 32 << 10, in_flight: 16, suspects: 8, hold_max: Millis(200), ..Limits::default() };
    plan.faults = (1..6).map(|i| (Millis(span.0 * i / 5), Fault::Drain)).collect();
    plan
}

fn endpoint(chance: &mut Chance) -> EndpointPlan {
    let temper = match chance.between(0, 15) {
        0..=5 => Temper::Healthy,
        6 => Temper::Slow,
        7 => Temper::Hanging,
        8 => Temper::Failing,
        9 => Temper::Refusing,
        10 => Temper::Flapping(chance.span(500, 20_000)),
        11 => Temper::Moody,
        12 => Temper::Throttling,
        13 => Temper::Limited(chance.between(1, 20) as u32),
        14 => Temper::Gone,
        _ => Temper::Failing,
    };
    let delays = chance.between(0, 5);
    let longest = chance.pick(&[500, 3000, 20_000]);
    let schedule: Vec<Millis> = (0..delays).map(|_| chance.span(100, longest)).collect();
    let ordering = if chance.hits(0.3) { Ordering::Key } else { Ordering::None };
    EndpointPlan {
        temper,
        policy: Policy {
            state: PolicyState::Enabled,
            max_in_flight: chance.pick(&[1, 2, 8, 64, 64]),
            rate_limit: chance.hits(0.2).then(|| chance.between(1, 60) as u32),
            ordering,
            schedule: Arc::from(schedule),
            timeout: chance.span(1000, 15_000),
        },
        weight: chance.pick(&[1, 1, 3, 10]),
        keys: if chance.hits(0.8) { chance.between(1, 12) } else { 0 },
    }
}

fn limits(chance: &mut Chance) -> Limits {
    if chance.hits(0.4) {
        // All the room there is, but at times few slots for endpoints that are not known to answer.
        return Limits { suspects: chance.pick(&[512, 512, 1, 2, 8]), ..Limits::default() };
    }
    let in_flight = chance.pick(&[2, 4, 16, 64, 1024]);
    Limits {
        pool: chance.pick(&[16 << 10, 64 << 10, 256 << 10, 16 << 20]),
        share: chance.pick(&[2, 4, 8]),
        in_flight,
        suspects: (in_flight / chance.pick(&[2, 2, 4])).max(1),
        unwritten: chance.pick(&[4, 16, 64, 8192]),
        hold_max: chance.span(200, 2000),
        hand_over: Limits::default().hand_over, // see `leaving`
        load: chance.pick(&[1, 2, 8, 32, 128]),
        commit_every: chance.pick(&[Millis(10), Millis(10), Millis(200)]),
        recent: chance.pick(&[4, 64, 4096]),
        lanes: chance.pick(&[1, 8, 16_384]),
    }
}

fn traffic(chance: &mut Chance, deliveries: usize, span: Millis) -> Traffic {
    let mut share = |most: f64| if chance.hits(0.5) { chance.between(0, 1000) as f64 / 1000.0 * most } else { 0.0 };
    let (repeats, replays, commands) = (share(0.2), share(0.1), share(0.2));
    Traffic {
        deliveries,
        span,
        burst: chance.pick(&[1, 1, 5, 50, 200]),
        batch: chance.pick(&[1, 10, 100]),
        repeats,
        replays,
        commands,
        payload: chance.pick(&[100, 1000, 4000]),
    }
}

fn faults(chance: &mut Chance, span: Millis) -> Vec<(Millis, Fault)> {
    let most = chance.pick(&[0, 1, 3, 8]);
    let zombies = chance.hits(0.5);
    let crashes = chance.hits(0.7);
    let mut faults: Vec<_> = (0..chance.between(0, most))
        .map(|_| {
            let at = chance.span(0, span.0 + 20_000);
            let fault = match chance.between(0, 4) {
                0 if crashes => Fault::Crash(chance.span(0, 5000)),
                1 if zombies => Fault::Revoke(chance.span(0, 10_000)),
                2 => Fault::Outage(chance.span(100, 20_000)),
                3 => Fault::Strain(chance.span(100, 20_000)),
                _ => Fault::Drain,
            };
            (at, fault)
        })
        .collect();
    faults.sort_by_key(|(at, _)| *at);
    faults
}

fn changes(chance: &mut Chance, span: Millis, endpoints: usize) -> Vec<(Millis, usize, Change)> {
    let most = chance.pick(&[0, 0, 3, 10]);
    (0..chance.between(0, most))
        .map(|_| {
            let change = match chance.between(0, 9) {
                0..=2 => Change::Disable,
                3..=5 => Change::Enable,
                6 => Change::Delete,
                7 => Change::Rate(chance.hits(0.7).then(|| chance.between(1, 30) as u32)),
                8 => Change::MaxInFlight(chance.between(1, 16) as u16),
                _ => Change::Order(chance.pick(&[Ordering::None, Ordering::Key])),
            };
            (chance.span(0, span.0 + 20_000), chance.index(endpoints), change)
        })
        .collect()
}
