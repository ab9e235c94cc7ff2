//! A partition's deliveries: which goes when, what is kept where, and what may be committed.
//!
//! Three steps make up everything: [`Shard::handle`] takes in what happened, [`Shard::poll`] says what to do
//! about it, [`Shard::next_wakeup`] says when to come back.

mod arrive;
mod finish;
mod handover;
mod io;
mod load;
mod recent;
mod schedule;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

pub use io::{Action, Attempt, Input, Limits, Recorded, Write};

use crate::breaker;
use crate::delivery::Place;
use crate::id::{DeliveryId, EndpointId};
use crate::lane::{Lane, order_key};
use crate::offsets::{Offset, Offsets, Progress};
use crate::record::Command;
use crate::rng::Rng;
use crate::time::Time;
use recent::Recent;
use schedule::Queues;

/// The deliveries of one partition.
///
/// Invariants, each checked by the simulator: nothing is lost; no offset waits for a receiver; a lane is a small
/// window over a durable backlog; endpoints are strangers; a wake-up belongs to a lane; an owner that lost its
/// partition sends nothing; everything is bounded.
#[derive(Debug)]
pub struct Shard {
    limits: Limits,
    rng: Rng,
    offsets: Offsets<DeliveryId>,
    /// What a former owner had finished.
    resumed: Progress,
    recent: Recent,
    lanes: BTreeMap<EndpointId, Lane>,
    queues: Queues,
    wakeups: BTreeSet<(Time, EndpointId)>,
    finds: BTreeMap<DeliveryId, Find>,
    out: Out,
    /// Bytes of deliveries in memory.
    pool: usize,
    in_flight: usize,
    suspects: usize,
    /// Changes of breakers.
    turns: breaker::Standings,
    paused: bool,
    strained: bool,
    /// Overdue deliveries that will go soon, and until when they are given.
    late: VecDeque<(Time, Offset, DeliveryId)>,
    commit: Commit,
    role: Role,
}

/// What a shard holds, for metrics and for the simulator's assertions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// Lanes known.
    pub lanes: usize,
    /// Bytes of deliveries in memory.
    pub pool: usize,
    /// The most bytes any lane holds.
    pub largest_lane: usize,
    /// Attempts in flight.
    pub in_flight: usize,
    /// Of these, to endpoints not known to answer.
    pub suspects: usize,
    /// Writes that the store has not acknowledged.
    pub unwritten: usize,
    /// Records read and not finished.
    pub unfinished: usize,
    /// Wake-ups registered.
    pub wakeups: usize,
    /// How the breakers stand.
    pub breakers: breaker::Standings,
    /// How often breakers came to stand so.
    pub turns: breaker::Standings,
    /// Lanes with rows in the store.
    pub backlogs: usize,
}

/// Actions not yet polled, and what follows once their writes are durable.
#[derive(Debug, Default)]
struct Out {
    actions: VecDeque<Action>,
    unacked: VecDeque<Effect>,
}

/// What becomes true when a write is durable.
#[derive(Debug)]
struct Effect {
    id: DeliveryId,
    /// The record that is finished with.
    finished: Option<Offset>,
    /// The row that has gone from the store.
    removed: Option<Place>,
    /// The row that lies in the store now.
    put: Option<(Place, Time)>,
    /// What the row is ordered by.
    key: u64,
}

impl Effect {
    /// The places where a row came or went.
    fn places(&self) -> impl Iterator<Item = Place> + use<> {
        self.removed.into_iter().chain(self.put.map(|(place, _)| place))
    }
}

/// A command for a delivery that is not in memory.
#[derive(Debug)]
struct Find {
    command: Command,
    offset: Offset,
    /// Whether the search was asked for; it waits while the delivery's row is moving.
    asked: bool,
}

#[derive(Debug, Default)]
struct Commit {
    dirty: bool,
    last: Time,
}

/// Whether the partition is this shard's to serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Owner,
    /// Nothing new is sent; what is in flight may end until then.
    Draining {
        until: Time,
    },
    /// What is in flight has rows; the partition goes when so many writes are durable.
    Leaving {
        writes: usize,
    },
    /// Drained: the attempts still out are heard, and recorded with what becomes of their rows.
    Retired,
    /// The partition belongs to another.
    Lost,
}

impl Shard {
    /// Takes over a partition where `progress` says, deciding chance by `seed`.
    pub fn new(limits: Limits, progress: Progress, seed: u64) -> Shard {
        Shard {
            rng: Rng::new(seed),
            offsets: Offsets::new(&progress),
            resumed: progress,
            recent: Recent::new(limits.recent),
            limits,
            lanes: BTreeMap::new(),
            queues: Queues::default(),
            wakeups: BTreeSet::new(),
            finds: BTreeMap::new(),
            out: Out::default(),
            pool: 0,
            in_flight: 0,
            suspects: 0,
            turns: breaker::Standings::default(),
            paused: false,
            strained: false,
            late: VecDeque::new(),
            commit: Commit::default(),
            role: Role::Owner,
        }
    }

    /// Takes in what happened.
    pub fn handle(&mut self, input: Input, now: Time) {
        match input {
            input if !self.heeds(&input) => {}
            Input::Arrived { offset, command, delivery } => self.arrived(offset, command, delivery, now),
            Input::Lane { endpoint, first, due, meta } => self.resume_lane(endpoint, (first, due), meta, now),
            Input::Endpoint { endpoint, policy } => self.set_policy(endpoint, policy, now),
            Input::Finished { id, report } => self.finished(id, report, now),
            Input::Written { count } => self.written(count, now),
            Input::Loaded { endpoint, rows } => self.loaded(endpoint, rows, now),
            Input::LoadFailed { endpoint } => self.load_failed(endpoint, now),
            Input::Found { id, row } => self.found(id, row, now),
            Input::Strained(strained) => self.strained = strained,
            Input::Drain => self.drain(now),
            Input::Revoked => self.role = Role::Lost,
            Input::Tick => {}
        }
        self.advance(now);
    }

    /// The next thing to do, until there is none.
    pub fn poll(&mut self) -> Option<Action> {
        self.out.actions.pop_front()
    }

    /// When to call [`Shard::handle`] with [`Input::Tick`], if nothing else happens before.
    pub fn next_wakeup(&self) -> Option<Time> {
        let lane = self.wakeups.first().map(|(at, _)| *at);
        let commit = self.commit.dirty.then_some(self.commit.last + self.limits.commit_every);
        match self.role {
            Role::Owner => [lane, self.sweeps_at(), commit].into_iter().flatten().min(),
            Role::Draining { until } => Some(commit.map_or(until, |commit| commit.min(until))),
            Role::Leaving { .. } => commit,
            Role::Retired | Role::Lost => None,
        }
    }

    /// What it holds. Looks at every lane.
    pub fn census(&self) -> Census {
        let mut breakers = breaker::Standings::default();
        self.lanes.values().for_each(|lane| breakers.count(lane.breaker.standing()));
        Census {
            lanes: self.lanes.len(),
            pool: self.pool,
            largest_lane: self.lanes.values().map(|lane| lane.bytes).max().unwrap_or(0),
            in_flight: self.in_flight,
            suspects: self.suspects,
            unwritten: self.out.unacked.len(),
            unfinished: self.offsets.unfinished(),
            wakeups: self.wakeups.len(),
            breakers,
            turns: self.turns,
            backlogs: self.lanes.values().filter(|lane| !lane.backlog.is_empty()).count(),
        }
    }

    /// How many endpoints it has lanes of.
    pub fn lanes(&self) -> usize {
        self.lanes.len()
    }

    /// Whether attempts are in flight or writes not acknowledged.
    pub fn is_busy(&self) -> bool {
        self.in_flight > 0 || !self.out.unacked.is_empty()
    }

    /// Whether it has a lane of this endpoint.
    pub fn knows(&self, endpoint: EndpointId) -> bool {
        self.lanes.contains_key(&endpoint)
    }

    /// How often breakers came to stand so.
    pub fn turns(&self) -> breaker::Standings {
        self.turns
    }

    /// Where an endpoint's breaker stands.
    pub fn breaker(&self, endpoint: EndpointId) -> Option<breaker::State> {
        self.lanes.get(&endpoint).map(|lane| lane.breaker.state())
    }

    /// Counts it if an endpoint's breaker does not stand as it did.
    fn note_turn(&mut self, endpoint: EndpointId, stood: breaker::Standing) {
        if let Some(stands) = self.lanes.get(&endpoint).map(|lane| lane.breaker.standing()).filter(|stands| *stands != stood) {
            self.turns.count(stands);
        }
    }

    /// Whether the partition's rows and offsets are its own to move.
    fn serves(&self) -> bool {
        match self.role {
            Role::Owner | Role::Draining { .. } | Role::Leaving { .. } => true,
            Role::Retired | Role::Lost => false,
        }
    }

    /// Whether an input still concerns it. Who is about to leave begins nothing: the next owner reads it again.
    fn heeds(&self, input: &Input) -> bool {
        match input {
            Input::Finished { .. } | Input::Written { .. } => true,
            Input::Endpoint { .. } | Input::Strained(_) | Input::Drain | Input::Revoked | Input::Tick => self.serves(),
            Input::Arrived { .. } | Input::Lane { .. } | Input::Loaded { .. } | Input::LoadFailed { .. } | Input::Found { .. } => {
                self.role == Role::Owner
            }
        }
    }

    /// Writes a change to the store. Until it is durable, loads beware of the rows it moves.
    fn write(&mut self, write: Write, finished: Option<Offset>) {
        let id = write.delivery.id;
        let effect = Effect { id, finished, removed: write.remove, put: write.put, key: order_key(&write.delivery) };
        if let Some(lane) = self.lanes.get_mut(&id.endpoint) {
            effect.removed.into_iter().for_each(|place| lane.backlog.goes(place));
            effect.put.into_iter().for_each(|(place, _)| lane.backlog.comes(place, effect.key));
        }
        self.out.unacked.push_back(effect);
        self.out.actions.push_back(Action::Write(write));
    }

    fn finish_offset(&mut self, offset: Offset) {
        self.offsets.finish(offset);
        self.commit.dirty = true;
    }

    /// Whether a delivery has a row on its way.
    fn is_moving(&self, id: DeliveryId) -> bool {
        self.lanes.get(&id.endpoint).is_some_and(|lane| lane.backlog.moves(id.event))
    }
}
