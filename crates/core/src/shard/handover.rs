//! Handing the partition over: what waits is stored, and what is in flight gets a row that is not due before its
//! attempt has ended, so that nobody waits for a receiver and nothing is sent twice.
//!
//! Such a row is leased: it stands for the attempt's failure, counted already and with the retry's due time. The next
//! owner need not know that. Its former owner goes on listening: a success takes the row away, a failure leaves it. Should
//! the former owner vanish, the row falls due and the delivery is tried again.

use super::{Action, Recorded, Role, Shard, Write};
use crate::attempt::{DeliveryState, End, Report};
use crate::id::DeliveryId;
use crate::lane::Held;
use crate::retry::{self, MAX_RETRY_AFTER};
use crate::time::{Millis, Time};

/// From the latest end of an attempt to when the next owner may make another: time for the ending to become durable,
/// and for clocks of two nodes that disagree.
const MARGIN: Millis = Millis::from_secs(1);

impl Shard {
    /// Sends nothing more, and stores what waits, so that the next owner has nothing to do twice.
    pub(super) fn drain(&mut self, now: Time) {
        if self.role != Role::Owner {
            return; // being told again gives no more time
        }
        self.role = Role::Draining { until: now + self.limits.hand_over };
        for endpoint in self.lanes.keys().copied().collect::<Vec<_>>() {
            self.spill(endpoint, now);
            self.settle(endpoint, now);
        }
    }

    /// Leases what has been in flight for too long, and lets the partition go when all of it is safe in the store.
    pub(super) fn leave_if_ready(&mut self, now: Time) {
        if let Role::Draining { until } = self.role
            && now >= until
        {
            let ids: Vec<_> = self.lanes.values().flat_map(|lane| lane.flying.values()).map(|flight| flight.held.delivery.id).collect();
            ids.into_iter().for_each(|id| self.lease(id, now));
            self.role = Role::Leaving { writes: self.out.unacked.len() };
        }
        let ready = match self.role {
            Role::Draining { .. } => self.in_flight == 0 && self.out.unacked.is_empty(),
            Role::Leaving { writes } => writes == 0, // what ended since then concerns leased rows only
            Role::Owner | Role::Retired | Role::Lost => false,
        };
        if ready {
            self.role = Role::Retired;
            self.out.actions.push_back(Action::Commit(self.offsets.progress()));
            self.out.actions.push_back(Action::Drained);
        }
    }

    /// Gives a delivery in flight a row for the next owner, and releases its offset. One that was withdrawn gets none.
    fn lease(&mut self, id: DeliveryId, now: Time) {
        let Some(lane) = self.lanes.get_mut(&id.endpoint) else { return };
        let schedule = lane.schedule();
        let Some(flight) = lane.flying.get(&id.event) else { return };
        let (canceled, ends) = (flight.canceled, flight.ends);
        let mut delivery = flight.held.delivery.clone();
        let (end, put) = if canceled {
            (Some(End::Canceled), None)
        } else {
            delivery.attempts += 1;
            delivery.failed += 1;
            // After the last attempt of the schedule there is no delay: should nothing become known of it, it is made again.
            let delay = retry::delay(&schedule, delivery.failed, None, &mut self.rng).unwrap_or_default();
            let due = ends + delay.max(MARGIN);
            (None, Some((lane.place(&delivery, due), due)))
        };
        let Some(flight) = lane.flying.get_mut(&id.event) else { return };
        flight.leased = Some(put.map_or(ends + MARGIN, |(_, due)| due));
        let before = std::mem::replace(&mut flight.held.place, put.map(|(place, _)| place));
        let offset = flight.held.offset.take();
        let remove = before.filter(|old| Some(*old) != flight.held.place);
        self.write(Write { delivery, at: now, attempt: None, end, remove, put }, offset);
    }

    /// The attempt of a leased delivery failed: its row says so already, unless the receiver asked for a longer wait.
    pub(super) fn fail_leased(&mut self, mut held: Held, report: Report, due: Time, now: Time) {
        held.delivery.failed += 1;
        let Some(lane) = self.lanes.get(&held.delivery.id.endpoint) else { return };
        if lane.schedule().len() < held.delivery.failed as usize {
            return self.conclude(held, report, DeliveryState::Failed, now);
        }
        let asked = report.answer.retry_after().map_or(now, |wait| now + wait.min(MAX_RETRY_AFTER));
        let next = due.max(asked);
        let put = (next > due).then(|| (lane.place(&held.delivery, next), next));
        let remove = held.place.filter(|old| put.is_some_and(|(place, _)| place != *old));
        let attempt = Some(Recorded { number: held.delivery.attempts, report, next: Some(next), state: DeliveryState::Pending });
        self.write(Write { delivery: held.delivery, at: now, attempt, end: None, remove, put }, None);
    }
}
