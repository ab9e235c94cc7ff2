//! Whose turn it is: slots go round between lanes with work, first attempts before retries, strangers apart.

use std::collections::VecDeque;

use super::{Action, Attempt, Role, Shard};
use crate::attempt::End;
use crate::endpoint::{DEFAULT_TIMEOUT, FIRST_TIMEOUT};
use crate::id::EndpointId;
use crate::lane::{Class, Held, Readiness};
use crate::time::{Millis, Time};

/// Of this many turns, one goes to a retry even when first attempts wait.
const RETRY_TURN: u32 = 8;
/// When a lane that found no room to load looks again.
const LOOK_AGAIN: Millis = Millis(50);

/// Lanes that may send now, each in one queue at most.
#[derive(Debug, Default)]
pub(super) struct Queues {
    first: VecDeque<EndpointId>,
    retry: VecDeque<EndpointId>,
    /// Lanes whose endpoint is not known to answer: they share a part of the slots.
    suspect: VecDeque<EndpointId>,
    turn: u32,
}

impl Queues {
    fn next(&mut self, suspects_allowed: bool) -> Option<EndpointId> {
        self.turn = self.turn.wrapping_add(1);
        if self.turn.is_multiple_of(RETRY_TURN)
            && let Some(lane) = self.retry.pop_front()
        {
            return Some(lane);
        }
        let suspect = |queues: &mut Queues| if suspects_allowed { queues.suspect.pop_front() } else { None };
        self.first.pop_front().or_else(|| suspect(self)).or_else(|| self.retry.pop_front())
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
        if let Readiness::Ready(class) = readiness
            && !lane.queued
        {
            lane.queued = true;
            let queue = match class {
                _ if lane.is_suspect(now) && !lane.is_deleted() => &mut self.queues.suspect,
                Class::First => &mut self.queues.first,
                Class::Retry => &mut self.queues.retry,
            };
            queue.push_back(endpoint);
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
        let idle_at = if keep || lane.queued { None } else { lane.idle_at() };
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
        if self.role == Role::Draining && self.in_flight == 0 && self.out.unacked.is_empty() {
            self.role = Role::Retired;
            self.out.actions.push_back(Action::Commit(self.offsets.progress()));
            self.out.actions.push_back(Action::Drained);
        }
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
    fn release_overdue(&mut self, now: Time) {
        while let Some((_, id)) = self.offsets.overdue(now - self.limits.hold_max) {
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
            if lane.is_suspect(now) && !lane.is_deleted() && self.suspects >= self.limits.suspects {
                self.queues.suspect.push_back(endpoint); // it fell silent while it stood in another queue
                continue;
            }
            lane.queued = false;
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
        lane.launch(held, suspect, now);
        self.out.actions.push_back(Action::Send(Attempt { delivery, number, timeout }));
    }

    /// A partition is paused for memory and for a store that can't keep up, never for an endpoint.
    fn pause_or_resume(&mut self) {
        let full = self.pool >= self.limits.pool || self.out.unacked.len() >= self.limits.unwritten;
        let relaxed = self.pool <= self.limits.pool / 4 * 3 && self.out.unacked.len() <= self.limits.unwritten / 2;
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
