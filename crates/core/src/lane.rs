//! One endpoint's deliveries: a small window in memory over a durable backlog.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::backlog::Backlog;
use crate::breaker::{Admission, Breaker, State};
use crate::concurrency::Concurrency;
use crate::delivery::{Delivery, Place};
use crate::endpoint::{Ordering, Policy, PolicyState};
use crate::id::Uid;
use crate::offsets::Offset;
use crate::pace::Pace;
use crate::rate::Rate;
use crate::rng::Rng;
use crate::time::{Millis, Time};

/// An endpoint with attempts out that has answered nothing for this long is not trusted with the slots of others.
const SILENCE: Millis = Millis::from_secs(1);
/// Of this many deliveries taken, one is a retry even when first attempts wait.
const RETRY_TURN: u8 = 4;
/// Longest that one `Retry-After` holds up the whole endpoint.
const MAX_HOLD: Millis = Millis::from_secs(60);
/// What a delivery costs beside its bytes.
const OVERHEAD: usize = 512;

/// A delivery in memory.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    pub(crate) delivery: Delivery,
    /// Its record, while nothing else makes it durable.
    pub(crate) offset: Option<Offset>,
    /// Its row in the backlog, where it has one, be it still on its way there.
    pub(crate) place: Option<Place>,
    /// When it may be sent.
    pub(crate) due: Time,
}

impl Held {
    /// Bytes it counts for.
    pub(crate) fn cost(&self) -> usize {
        OVERHEAD + self.delivery.meta.len() + self.delivery.payload.len()
    }

    pub(crate) fn event(&self) -> Uid {
        self.delivery.id.event
    }
}

/// A delivery that is being sent.
#[derive(Clone, Debug)]
pub(crate) struct Flight {
    pub(crate) held: Held,
    pub(crate) started: Time,
    /// Whether it was let through by a breaker that is not closed.
    pub(crate) probe: bool,
    /// Whether it took one of the slots for endpoints that are not known to answer.
    pub(crate) suspect: bool,
    /// Its owner withdrew it; it is not tried again.
    pub(crate) canceled: bool,
    /// When its attempt has ended at the latest.
    pub(crate) ends: Time,
    /// Until when its row is its own to move, although the partition goes to another owner.
    pub(crate) leased: Option<Time>,
}

/// First attempts go before retries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Class {
    First,
    Retry,
}

/// The queues of lanes that may send now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Queue {
    First,
    Retry,
    /// Of lanes whose endpoint is not known to answer: they share a part of the slots.
    Suspect,
}

/// A lane's place in a queue.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Standing {
    pub(crate) queue: Queue,
    pub(crate) ticket: u64,
}

/// Whether a lane may send now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Readiness {
    /// It has something to send that may be sent.
    Ready(Class),
    /// Not before this instant.
    At(Time),
    /// Not before something else happens to it.
    Waiting,
}

/// One endpoint's deliveries.
///
/// Invariant: what is in memory is bounded by the shard's share; the rest lies in the backlog. A lane has at
/// most one wake-up, however many deliveries it holds.
#[derive(Debug)]
pub(crate) struct Lane {
    pub(crate) policy: Option<Policy>,
    /// Boxed, as in `flying`: most lanes have one delivery or none, and a map makes room for eleven.
    waiting: BTreeMap<(Class, Place), Box<Held>>,
    /// Where in `waiting` each event lies.
    slot_of: BTreeMap<Uid, (Class, Place)>,
    pub(crate) flying: BTreeMap<Uid, Box<Flight>>,
    pub(crate) backlog: Backlog,
    pub(crate) breaker: Breaker,
    slots: Concurrency,
    rate: Option<Rate>,
    /// A `Retry-After` of the endpoint.
    not_before: Time,
    /// When it last answered, or had its first attempt out after a rest.
    heard: Time,
    /// Whether its latest attempt succeeded.
    proven: bool,
    pace: Pace,
    turn: u8,
    /// Bytes in memory.
    pub(crate) bytes: usize,
    /// Bytes that the shard has counted for it.
    pub(crate) counted: usize,
    /// Its one wake-up.
    pub(crate) wake: Option<Time>,
    /// Where it stands in the shard's queues.
    pub(crate) standing: Option<Standing>,
}

impl Lane {
    pub(crate) fn new() -> Lane {
        Lane {
            policy: None,
            waiting: BTreeMap::new(),
            slot_of: BTreeMap::new(),
            flying: BTreeMap::new(),
            backlog: Backlog::default(),
            breaker: Breaker::new(),
            slots: Concurrency::new(),
            rate: None,
            not_before: Time(0),
            heard: Time(0),
            proven: false,
            pace: Pace::default(),
            turn: 0,
            bytes: 0,
            counted: 0,
            wake: None,
            standing: None,
        }
    }

    /// Takes a new policy and brings what waits into its order. Returns whether rows of another order lie in the store.
    pub(crate) fn set_policy(&mut self, policy: Policy, now: Time) -> bool {
        let old = self.policy.replace(policy.clone());
        if old.as_ref().and_then(|p| p.rate_limit) != policy.rate_limit {
            self.rate = policy.rate_limit.map(Rate::new);
        }
        let reordered = !self.backlog.is_empty() && old.map_or(Ordering::None, |old| old.ordering) != policy.ordering;
        if reordered || policy.state == PolicyState::Deleted {
            self.backlog.rescan(now);
        }
        for held in self.remove_all() {
            self.wait(held);
        }
        reordered
    }

    pub(crate) fn is_ordered(&self) -> bool {
        self.policy.as_ref().is_some_and(|p| p.ordering == Ordering::Key)
    }

    /// The delays between attempts.
    pub(crate) fn schedule(&self) -> Arc<[Millis]> {
        self.policy.as_ref().map(|policy| policy.schedule.clone()).unwrap_or_default()
    }

    /// Where a row of this delivery belongs, due at `due`.
    pub(crate) fn place(&self, delivery: &Delivery, due: Time) -> Place {
        let order = if self.is_ordered() { delivery.since.0 } else { due.0 };
        Place { order, event: delivery.id.event }
    }

    fn slot(&self, held: &Held) -> (Class, Place) {
        let class = if held.delivery.failed > 0 && !self.is_ordered() { Class::Retry } else { Class::First };
        (class, self.place(&held.delivery, held.due))
    }

    /// Adds a delivery to the window.
    pub(crate) fn wait(&mut self, held: Held) {
        let slot = self.slot(&held);
        self.bytes += held.cost();
        self.slot_of.insert(held.event(), slot);
        self.waiting.insert(slot, Box::new(held));
    }

    pub(crate) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Whether a delivery of this event is in memory.
    pub(crate) fn holds(&self, event: Uid) -> bool {
        self.flying.contains_key(&event) || self.slot_of.contains_key(&event)
    }

    /// The delivery of this event that is in memory.
    pub(crate) fn held(&mut self, event: Uid) -> Option<&mut Held> {
        let flying = self.flying.get_mut(&event).map(|flight| &mut flight.held);
        flying.or_else(|| self.waiting.get_mut(self.slot_of.get(&event)?).map(Box::as_mut))
    }

    /// The first place at which the store holds, or may come to hold by what was written so far, a row of this lane.
    pub(crate) fn low_water(&self) -> Place {
        let flying = self.flying.values().map(|flight| &flight.held);
        let rows = self.waiting.values().map(Box::as_ref).chain(flying).filter_map(|held| held.place);
        rows.fold(self.backlog.low_water(), Place::min)
    }

    /// Notes a row that lies in the store and not in memory; in an ordered lane one that must wait blocks its key.
    pub(crate) fn stored(&mut self, key: u64, place: Place, due: Time, now: Time) {
        let waits = self.is_ordered() && due > now;
        if !waits || !self.backlog.block(key, place, due) {
            self.backlog.stored(key, place, due);
        }
    }

    /// Takes one waiting delivery out of memory.
    pub(crate) fn remove(&mut self, event: Uid) -> Option<Held> {
        let slot = *self.slot_of.get(&event)?;
        self.take_at(slot)
    }

    /// Takes all that waits out of memory, in order.
    pub(crate) fn remove_all(&mut self) -> Vec<Held> {
        let all: Vec<Held> = std::mem::take(&mut self.waiting).into_values().map(|held| *held).collect();
        self.slot_of.clear();
        self.bytes -= all.iter().map(Held::cost).sum::<usize>();
        all
    }

    /// Takes the waiting deliveries of one ordering key out of memory, in order.
    pub(crate) fn remove_key(&mut self, key: u64) -> Vec<Held> {
        let slots: Vec<_> = self.waiting.iter().filter(|(_, held)| order_key(&held.delivery) == key).map(|(slot, _)| *slot).collect();
        slots.into_iter().filter_map(|slot| self.take_at(slot)).collect()
    }

    fn take_at(&mut self, slot: (Class, Place)) -> Option<Held> {
        let held = self.waiting.remove(&slot)?;
        self.slot_of.remove(&held.event());
        self.bytes -= held.cost();
        Some(*held)
    }

    /// Whether nothing is sent for longer than an attempt takes: the endpoint is disabled or its breaker open.
    pub(crate) fn is_held_up(&self, now: Time) -> bool {
        match self.policy.as_ref().map(|p| p.state) {
            Some(PolicyState::Disabled) => true,
            Some(PolicyState::Deleted) => false,
            Some(PolicyState::Enabled) | None => matches!(self.breaker.admits(now), Admission::After(_)),
        }
    }

    /// When an open breaker lets a probe through, if there is anything to probe with.
    pub(crate) fn probe_at(&self, now: Time) -> Option<Time> {
        match self.breaker.admits(now) {
            Admission::After(until) if !self.backlog.is_empty() => Some(until),
            Admission::After(_) | Admission::Yes | Admission::Busy => None,
        }
    }

    pub(crate) fn is_deleted(&self) -> bool {
        self.policy.as_ref().is_some_and(|p| p.state == PolicyState::Deleted)
    }

    /// Whether the endpoint is not known to answer at present.
    pub(crate) fn is_suspect(&self, now: Time) -> bool {
        !self.proven || !self.breaker.is_closed() || (!self.flying.is_empty() && now.since(self.heard) > SILENCE)
    }

    /// Whether all that waits, and one more, will go within a second at the pace at which the endpoint takes it.
    pub(crate) fn keeps_up(&self, now: Time) -> bool {
        !self.is_ordered() && self.waiting.len() < self.pace.at(now) && !self.is_suspect(now)
    }

    /// Whether nothing but the shard keeps it from sending.
    pub(crate) fn is_fit(&self, now: Time) -> bool {
        matches!(self.readiness(now), Readiness::Ready(_)) && !self.is_suspect(now)
    }

    /// Whether it could send at once, and has nothing in memory.
    pub(crate) fn has_nothing_to_send(&self, now: Time) -> bool {
        let paced = self.rate.as_ref().map_or(Time(0), Rate::ready_at).max(self.not_before);
        self.waiting.is_empty() && self.flying.len() < self.concurrency() && paced <= now && !self.is_suspect(now)
    }

    /// Attempts that may be in flight.
    pub(crate) fn concurrency(&self) -> usize {
        self.slots.limit(self.policy.as_ref().map_or(1, |p| p.max_in_flight))
    }

    /// Whether it may send now, and what.
    pub(crate) fn readiness(&self, now: Time) -> Readiness {
        let Some(policy) = &self.policy else { return Readiness::Waiting };
        match policy.state {
            PolicyState::Disabled => return Readiness::Waiting,
            PolicyState::Deleted if self.waiting.is_empty() => return Readiness::Waiting,
            PolicyState::Deleted => return Readiness::Ready(Class::First),
            PolicyState::Enabled => {}
        }
        let earliest = match self.candidate(now) {
            Readiness::Ready(_) => now,
            Readiness::At(due) => due,
            Readiness::Waiting => return Readiness::Waiting,
        };
        let admitted = match self.breaker.admits(now) {
            Admission::Busy => return Readiness::Waiting,
            Admission::After(until) => until,
            Admission::Yes => now,
        };
        if self.flying.len() >= self.concurrency() {
            return Readiness::Waiting;
        }
        let paced = self.rate.as_ref().map_or(Time(0), Rate::ready_at);
        let at = earliest.max(admitted).max(paced).max(self.not_before);
        if at > now { Readiness::At(at) } else { self.candidate(now) }
    }

    /// The class of what comes next, looking at the window alone.
    fn candidate(&self, now: Time) -> Readiness {
        match self.next_slot(now) {
            Ok((class, _)) => Readiness::Ready(class),
            Err(Some(due)) => Readiness::At(due),
            Err(None) => Readiness::Waiting,
        }
    }

    /// Where the next delivery to send lies, or else when one becomes due.
    fn next_slot(&self, now: Time) -> Result<(Class, Place), Option<Time>> {
        if self.is_ordered() {
            return self.next_in_order(now);
        }
        let first = self.waiting.first_key_value();
        let retry = self.waiting.range((Class::Retry, Place::default())..).next();
        let retry_turn = self.turn >= RETRY_TURN && retry.is_some_and(|(_, held)| held.due <= now);
        match if retry_turn { retry } else { first } {
            Some((slot, held)) if held.due <= now => Ok(*slot),
            Some((_, held)) => Err(Some(held.due)),
            None => Err(None),
        }
    }

    /// The first delivery whose key is not busy: only a key's oldest one may go.
    fn next_in_order(&self, now: Time) -> Result<(Class, Place), Option<Time>> {
        let mut taken: BTreeSet<u64> = self.flying.values().map(|flight| order_key(&flight.held.delivery)).collect();
        let mut earliest: Option<Time> = None;
        for (slot, held) in &self.waiting {
            if !taken.insert(order_key(&held.delivery)) {
                continue;
            }
            if held.due <= now {
                return Ok(*slot);
            }
            earliest = Some(earliest.map_or(held.due, |e| e.min(held.due)));
        }
        Err(earliest)
    }

    /// Takes the next delivery to send; `readiness` has said that there is one.
    pub(crate) fn take(&mut self, now: Time) -> Option<Held> {
        if self.is_deleted() {
            let slot = *self.waiting.first_key_value()?.0;
            return self.take_at(slot);
        }
        let slot = self.next_slot(now).ok()?;
        self.turn = if slot.0 == Class::Retry { 0 } else { self.turn.saturating_add(1) };
        self.take_at(slot)
    }

    /// Notes that `held` is being sent.
    pub(crate) fn launch(&mut self, held: Held, suspect: bool, timeout: Millis, now: Time) {
        let probe = !self.breaker.is_closed();
        self.breaker.started();
        if let Some(rate) = &mut self.rate {
            rate.take(now);
        }
        if self.flying.is_empty() {
            self.heard = now;
        }
        self.bytes += held.cost();
        let flight = Flight { held, started: now, probe, suspect, canceled: false, ends: now + timeout, leased: None };
        self.flying.insert(flight.held.event(), Box::new(flight));
    }

    /// Takes back a delivery whose attempt ended, and learns from how it ended.
    pub(crate) fn land(&mut self, event: Uid, answer: &crate::attempt::Answer, now: Time, rng: &mut Rng) -> Option<Flight> {
        let flight = self.flying.remove(&event)?;
        self.bytes -= flight.held.cost();
        let success = answer.is_success();
        let was_closed = self.breaker.is_closed();
        self.breaker.ended(success, flight.probe, now, rng);
        if success {
            self.slots.succeeded(self.policy.as_ref().map_or(1, |p| p.max_in_flight));
            self.heard = now;
            self.pace.succeeded(now);
        }
        if answer.is_overload() {
            self.slots.overloaded(flight.started, now);
        }
        if !was_closed && self.breaker.is_closed() {
            self.slots = Concurrency::recovering();
        }
        self.proven = success;
        if let Some(wait) = answer.retry_after() {
            self.not_before = self.not_before.max(now + wait.min(MAX_HOLD));
        }
        Some(*flight)
    }

    /// When it can be forgotten, if it holds nothing: as soon as nothing it has learnt would hold up the next delivery.
    pub(crate) fn idle_at(&self) -> Option<Time> {
        if !self.waiting.is_empty() || !self.flying.is_empty() || !self.backlog.is_empty() {
            return None;
        }
        let open = if let State::Open { until, .. } = self.breaker.state() { until } else { Time(0) };
        Some(self.rate.as_ref().map_or(Time(0), Rate::ready_at).max(self.not_before).max(open))
    }
}

/// What deliveries of an ordered endpoint are ordered by; one without a key stands alone.
pub(crate) fn order_key(delivery: &Delivery) -> u64 {
    delivery.key.unwrap_or(delivery.id.event.0 as u64)
}
