//! Whose turn it is: slots go round between lanes with work, first attempts before retries, strangers apart.

use std::collections::BTreeMap;

use super::{Action, Attempt, Role, Shard};
use crate::attempt::End;
use crate::endpoint::{DEFAULT_TIMEOUT, FIRST_TIMEOUT};
use crate::id::{DeliveryId, EndpointId};
use crate::lane::{Class, Held, Queue, Readiness, Standing};
use crate::time::{Millis, Time};

/// Of this many turns, one goes to a retry and one to a suspect, even when first attempts wait.
const TURNS: u32 = 8;
const RETRY_TURN: u32 = 0;
const SUSPECT_TURN: u32 = 4;
/// When a lane that found no room to load looks again.
const LOOK_AGAIN: Millis = Millis(50);

/// What an overdue delivery is given to go where its endpoint takes as many as wait within a second.
const SOON: Millis = Millis::from_secs(1);

/// Commands that wait for their delivery's row to be found; beyond it nothing is read.
const MOST_FINDS: usize = 1024;

/// Lanes that may send now, each in one queue at most; the lowest ticket is next.
#[derive(Debug, Default)]
pub(super) struct Queues {
    first: BTreeMap<u64, EndpointId>,
    retry: BTreeMap<u64, EndpointId>,
    suspect: BTreeMap<u64, EndpointId>,
    tickets: u64,
    turn: u32,
}

impl Queues {
    fn of(&mut self, queue: Queue) -> &mut BTreeMap<u64, EndpointId> {
        match queue {
            Queue::First => &mut self.first,
            Queue::Retry => &mut self.retry,
            Queue::Suspect => &mut self.suspect,
        }
    }

    /// Puts a lane into a queue; one that changes queues keeps its ticket, so that it loses no time.
    fn stand(&mut self, endpoint: EndpointId, before: Option<Standing>, queue: Queue) -> Standing {
        let ticket = match before {
            Some(standing) if standing.queue == queue => return standing,
            Some(standing) => {
                self.of(standing.queue).remove(&standing.ticket);
                standing.ticket
            }
            None => {
                self.tickets += 1;
                self.tickets
            }
        };
        self.of(queue).insert(ticket, endpoint);
        Standing { queue, ticket }
    }

    fn next(&mut self, suspects_allowed: bool) -> Option<EndpointId> {
        self.turn = self.turn.wrapping_add(1);
        let mut order = match self.turn % TURNS {
            RETRY_TURN => [Queue::Retry, Queue::First, Queue::Suspect],
            SUSPECT_TURN => [Queue::Suspect, Queue::First, Queue::Retry],
            _ => [Queue::First, Queue::Suspect, Queue::Retry],
        }
        .into_iter()
        .filter(|queue| suspects_allowed || *queue != Queue::Suspect);
        order.find_map(|queue| self.of(queue).pop_first()).map(|(_, endpoint)| endpoint)
    }
}

impl Shard {
    /// Brings a lane's place in queues, loads and wake-ups up to date; called after anything happened to it.
    pub(super) fn settle(&mut self, endpoint: EndpointId, now: Time) {
        if self.role == Role::Owner {
            self.load_if_due(endpoint, now);
        }
        let keep = self.lanes.len() <= self.limits.lanes;
        let Some(lane) = self.lanes.get_mut(&endpoint) else { return };
        self.pool = self.pool - lane.counted + lane.bytes;
        lane.counted = lane.bytes;
        let readiness = lane.readiness(now);
        if let Readiness::Ready(class) = readiness {
            let queue = match class {
                Class::First | Class::Retry if lane.is_suspect(now) && !lane.is_deleted() => Queue::Suspect,
                Class::First => Queue::First,
                Class::Retry => Queue::Retry,
            };
            lane.standing = Some(self.queues.stand(endpoint, lane.standing, queue));
        }
        let send_at = match readiness {
            Readiness::At(at) => Some(at),
            Readiness::Ready(_) | Readiness::Waiting => None,
        };
        let look_at = if lane.is_held_up(now) { lane.backlog.sweep_at(now) } else { lane.backlog.next() };
        let look_at = match look_at {
            Some(at) if at > now => Some(at),
            Some(_) if lane.flying.is_empty() => Some(now + LOOK_AGAIN),
            Some(_) | None => None, // what is in flight brings it back here
        };
        let probe_at = lane.probe_at(now);
        let idle_at = if keep || lane.standing.is_some() { None } else { lane.idle_at() };
        let wake = [send_at, look_at, probe_at, idle_at.filter(|at| *at > now)].into_iter().flatten().min();
        if wake != lane.wake {
            if let Some(old) = lane.wake.take() {
                self.wakeups.remove(&(old, endpoint));
            }
            if let Some(at) = wake {
                self.wakeups.insert((at, endpoint));
            }
            lane.wake = wake;
        }
        if idle_at.is_some_and(|at| at <= now) {
            self.wakeups.remove(&(lane.wake.unwrap_or_default(), endpoint));
            self.lanes.remove(&endpoint);
        }
    }

    /// Does all that time and the latest input allow.
    pub(super) fn advance(&mut self, now: Time) {
        if self.role == Role::Owner {
            self.wake_lanes(now);
            self.release_overdue(now);
            self.send_ready(now);
            self.pause_or_resume();
        }
        self.commit_if_due(now);
        self.leave_if_ready(now);
    }

    fn wake_lanes(&mut self, now: Time) {
        while let Some((at, endpoint)) = self.wakeups.first().copied().filter(|(at, _)| *at <= now) {
            self.wakeups.remove(&(at, endpoint));
            if let Some(lane) = self.lanes.get_mut(&endpoint) {
                lane.wake = None;
            }
            self.settle(endpoint, now);
        }
    }

    /// Moves what has been unfinished for too long to the backlog, so that no offset waits for a receiver.
    ///
    /// What waits for us is left alone: writing it down would keep us from sending it even longer, and so on.
    fn release_overdue(&mut self, now: Time) {
        while !self.is_behind()
            && let Some(id) = self.next_overdue(now)
        {
            let Some(lane) = self.lanes.get_mut(&id.endpoint) else { continue };
            if let Some(flight) = lane.flying.get(&id.event) {
                let copy = flight.held.clone();
                let place = lane.place(&copy.delivery, copy.due);
                if let Some(flight) = lane.flying.get_mut(&id.event) {
                    flight.held.offset = None;
                    flight.held.place = Some(place);
                }
                self.park(copy, now);
            } else if lane.is_ordered() && lane.holds(id.event) {
                self.spill(id.endpoint, now); // what came after it must not overtake it
            } else if let Some(held) = lane.remove(id.event) {
                self.put_back(id.endpoint, vec![held], now);
            }
            self.settle(id.endpoint, now);
        }
    }

    fn send_ready(&mut self, now: Time) {
        while self.in_flight < self.limits.in_flight && self.out.unacked.len() < self.limits.unwritten {
            let Some(endpoint) = self.queues.next(self.suspects < self.limits.suspects) else { return };
            let Some(lane) = self.lanes.get_mut(&endpoint) else { continue };
            lane.standing = None;
            if lane.is_suspect(now) && !lane.is_deleted() && self.suspects >= self.limits.suspects {
                lane.standing = Some(self.queues.stand(endpoint, None, Queue::Suspect)); // it fell silent in another queue
                continue;
            }
            if let Readiness::Ready(_) = lane.readiness(now)
                && let Some(held) = lane.take(now)
            {
                if lane.is_deleted() {
                    self.end(held, End::EndpointDeleted, now);
                } else {
                    self.launch(held, now);
                }
            }
            self.settle(endpoint, now);
        }
    }

    fn launch(&mut self, held: Held, now: Time) {
        let Some(lane) = self.lanes.get_mut(&held.delivery.id.endpoint) else { return };
        let suspect = lane.is_suspect(now);
        self.in_flight += 1;
        self.suspects += usize::from(suspect);
        let delivery = held.delivery.clone();
        let number = delivery.attempts + 1;
        let timeout = match delivery.failed {
            0 => FIRST_TIMEOUT,
            1.. => lane.policy.as_ref().map_or(DEFAULT_TIMEOUT, |p| p.timeout),
        };
        let stood = lane.breaker.standing();
        lane.launch(held, suspect, timeout, now);
        self.note_turn(delivery.id.endpoint, stood);
        self.out.actions.push_back(Action::Send(Attempt { delivery, number, timeout }));
    }

    /// The next delivery that has been unfinished for too long; one that will go soon has its time.
    fn next_overdue(&mut self, now: Time) -> Option<DeliveryId> {
        while let Some((_, offset, id)) = self.late.pop_front_if(|(until, ..)| *until <= now) {
            if self.offsets.is_unfinished(offset) {
                return Some(id);
            }
        }
        loop {
            let (offset, id) = self.offsets.overdue(now - self.limits.hold_max)?;
            if !self.lanes.get(&id.endpoint).is_some_and(|lane| lane.keeps_up(now)) {
                return Some(id);
            }
            self.late.push_back((now + SOON, offset, id));
        }
    }

    /// When overdue deliveries are looked for next; not while the store is behind.
    pub(super) fn sweeps_at(&self) -> Option<Time> {
        let overdue = self.offsets.oldest().map(|at| at + self.limits.hold_max);
        let late = self.late.front().map(|(until, ..)| *until);
        overdue.into_iter().chain(late).min().filter(|_| !self.is_behind())
    }

    /// Whether the store is slower than what is finished. It is spared then.
    pub(super) fn is_behind(&self) -> bool {
        self.out.unacked.len() >= self.limits.unwritten.div_ceil(2)
    }

    /// Bytes that deliveries may take up.
    pub(super) fn room(&self) -> usize {
        if self.strained { self.limits.strained() } else { self.limits.pool }
    }

    /// A partition is paused for memory, for a store and for a processor that can't keep up, never for an endpoint.
    fn pause_or_resume(&mut self) {
        let (unwritten, finds) = (self.out.unacked.len(), self.finds.len());
        let room = self.room();
        let full = self.pool >= room || unwritten >= self.limits.unwritten || finds >= MOST_FINDS;
        let relaxed = self.pool <= room / 4 * 3 && unwritten <= self.limits.unwritten / 2 && finds <= MOST_FINDS / 2;
        if full && !self.paused {
            self.paused = true;
            self.out.actions.push_back(Action::Pause);
        } else if relaxed && self.paused {
            self.paused = false;
            self.out.actions.push_back(Action::Resume);
        }
    }

    fn commit_if_due(&mut self, now: Time) {
        if self.serves() && self.commit.dirty && now >= self.commit.last + self.limits.commit_every {
            self.commit.dirty = false;
            self.commit.last = now;
            self.out.actions.push_back(Action::Commit(self.offsets.progress()));
        }
    }
}
