//! Attempts that ended: done, tried again later, or given up.

use super::{Action, Recorded, Role, Shard, Write};
use crate::attempt::{DeliveryState, End, Report};
use crate::id::DeliveryId;
use crate::lane::{Flight, Held, order_key};
use crate::retry;
use crate::time::Time;

impl Shard {
    pub(super) fn finished(&mut self, id: DeliveryId, report: Report, now: Time) {
        let Some(lane) = self.lanes.get_mut(&id.endpoint) else { return };
        let stood = lane.breaker.standing();
        let Some(Flight { mut held, suspect, canceled, leased, .. }) = lane.land(id.event, &report.answer, now, &mut self.rng) else {
            return;
        };
        self.note_turn(id.endpoint, stood);
        self.in_flight -= 1;
        self.suspects -= usize::from(suspect);
        held.delivery.attempts += 1;
        if self.role == Role::Lost {
            self.record_only(held, report, now);
        } else if report.answer.is_success() {
            self.conclude(held, report, DeliveryState::Succeeded, now);
        } else if canceled {
            self.conclude_canceled(held, report, now);
        } else if leased.is_some_and(|until| now >= until) {
            self.record_only(held, report, now); // the next owner is at it by now
        } else if report.answer.is_gone() {
            self.out.actions.push_back(Action::Disable { endpoint: id.endpoint, meta: held.delivery.meta.clone() });
            self.conclude(held, report, DeliveryState::Failed, now);
        } else if let Some(until) = leased {
            self.fail_leased(held, report, until, now);
        } else {
            self.fail(held, report, now);
        }
        if self.lanes.get(&id.endpoint).is_some_and(|lane| lane.is_held_up(now)) && self.role == Role::Owner {
            self.spill(id.endpoint, now);
        }
        self.settle(id.endpoint, now);
    }

    /// Writes the attempt of a delivery whose partition has gone to another owner, and touches nothing else.
    fn record_only(&mut self, held: Held, report: Report, now: Time) {
        let state = if report.answer.is_success() { DeliveryState::Succeeded } else { DeliveryState::Pending };
        let recorded = Recorded { number: held.delivery.attempts, report, next: None, state };
        let write = Write { delivery: held.delivery, at: now, attempt: Some(recorded), end: None, remove: None, put: None };
        self.write(write, None);
    }

    /// The delivery ends with this attempt.
    pub(super) fn conclude(&mut self, held: Held, report: Report, state: DeliveryState, now: Time) {
        let recorded = Recorded { number: held.delivery.attempts, report, next: None, state };
        self.write_end(held, recorded, None, now);
    }

    /// The attempt failed and its owner has withdrawn the delivery meanwhile.
    fn conclude_canceled(&mut self, held: Held, report: Report, now: Time) {
        let recorded = Recorded { number: held.delivery.attempts, report, next: None, state: DeliveryState::Canceled };
        self.write_end(held, recorded, Some(End::Canceled), now);
    }

    fn write_end(&mut self, held: Held, recorded: Recorded, end: Option<End>, now: Time) {
        let write = Write { delivery: held.delivery, at: now, attempt: Some(recorded), end, remove: held.place, put: None };
        self.write(write, held.offset);
    }

    /// The attempt failed: the delivery waits for its next one, or is given up after the last.
    fn fail(&mut self, mut held: Held, report: Report, now: Time) {
        held.delivery.failed += 1;
        let id = held.delivery.id;
        let Some(lane) = self.lanes.get_mut(&id.endpoint) else { return };
        let schedule = lane.schedule();
        let delay = retry::delay(&schedule, held.delivery.failed, report.answer.retry_after(), &mut self.rng);
        let Some(delay) = delay else { return self.conclude(held, report, DeliveryState::Failed, now) };
        held.due = now + delay;
        let recorded = Recorded { number: held.delivery.attempts, report, next: Some(held.due), state: DeliveryState::Pending };
        // A short wait is spent in memory; the record makes it durable meanwhile. Whatever has a row keeps it true.
        let stays = held.place.is_none() && delay <= self.limits.hold_max && !lane.is_held_up(now) && self.role == Role::Owner;
        if stays {
            let write = Write { delivery: held.delivery.clone(), at: now, attempt: Some(recorded), end: None, remove: None, put: None };
            lane.wait(held);
            self.write(write, None);
        } else {
            self.move_to_backlog(held, recorded, now);
        }
    }

    /// Records a failed attempt and stores the delivery until its next one, in one write.
    fn move_to_backlog(&mut self, held: Held, recorded: Recorded, now: Time) {
        let id = held.delivery.id;
        let Some(lane) = self.lanes.get_mut(&id.endpoint) else { return };
        let place = lane.place(&held.delivery, held.due);
        let remove = held.place.filter(|old| *old != place);
        let followers = if lane.is_ordered() {
            let key = order_key(&held.delivery);
            lane.backlog.block(key, place, held.due);
            lane.remove_key(key)
        } else {
            Vec::new()
        };
        let write = Write { delivery: held.delivery, at: now, attempt: Some(recorded), end: None, remove, put: Some((place, held.due)) };
        self.write(write, held.offset);
        self.put_back(id.endpoint, followers, now);
    }
}
