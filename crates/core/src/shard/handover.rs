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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;

    use super::*;
    use crate::attempt::Answer;
    use crate::delivery::Delivery;
    use crate::endpoint::Policy;
    use crate::endpoint::PolicyState;
    use crate::id::{EndpointId, Uid};
    use crate::offsets::{Offset, Progress};
    use crate::record::Command;
    use crate::shard::{Input, Limits};

    const ID: DeliveryId = DeliveryId { event: Uid(7), endpoint: EndpointId(Uid(1)) };
    const SENT: Time = Time(1000);
    const ASKED: Time = Time(2000);

    /// A shard with one attempt in flight, which was told to hand over.
    fn leaving(commands: &[Command]) -> Shard {
        let mut shard = Shard::new(Limits { hand_over: Millis(500), ..Limits::default() }, Progress::default(), 1);
        for (offset, command) in [Command::Deliver].iter().chain(commands).enumerate() {
            let (meta, payload) = (Bytes::new(), Bytes::new());
            let delivery = Delivery { id: ID, key: None, since: SENT, attempts: 0, failed: 0, meta, payload };
            shard.handle(Input::Arrived { offset: Offset(offset as u64), command: *command, delivery }, SENT);
            let policy = Policy { state: PolicyState::Enabled, schedule: Arc::new([Millis(2000)]), ..Policy::deleted() };
            shard.handle(Input::Endpoint { endpoint: ID.endpoint, policy }, SENT);
        }
        assert!(actions(&mut shard).iter().any(|action| matches!(action, Action::Send(_))));
        shard.handle(Input::Drain, ASKED);
        assert_eq!(shard.next_wakeup(), Some(ASKED + Millis(500)));
        shard.handle(Input::Tick, ASKED + Millis(500));
        shard
    }

    fn actions(shard: &mut Shard) -> Vec<Action> {
        std::iter::from_fn(|| shard.poll()).collect()
    }

    fn write(shard: &mut Shard) -> Write {
        let found = actions(shard).into_iter().find_map(|action| if let Action::Write(write) = action { Some(write) } else { None });
        found.expect("something is written")
    }

    /// The lease is durable, and the attempt ends `at` with `code`.
    fn ends(shard: &mut Shard, code: u16, retry_after: Option<Millis>, at: Time) -> Write {
        shard.handle(Input::Written { count: 1 }, ASKED + Millis(510));
        assert!(actions(shard).iter().any(|action| matches!(action, Action::Drained)) && shard.is_busy());
        let report = Report { started: SENT, took: at.since(SENT), answer: Answer::Status { code, retry_after }, body: Bytes::new() };
        shard.handle(Input::Finished { id: ID, report }, at);
        write(shard)
    }

    #[test]
    fn a_lease_counts_its_attempt_and_is_taken_back_by_success() {
        let mut shard = leaving(&[]);
        let lease = write(&mut shard);
        let (place, due) = lease.put.expect("a row");
        assert_eq!((lease.delivery.attempts, lease.delivery.failed), (1, 1));
        assert!(due >= Time(6000) + MARGIN, "not before the time-out of 5 s and a margin: {due}");
        let end = ends(&mut shard, 200, None, Time(3000));
        assert_eq!((end.remove, end.put, end.delivery.attempts), (Some(place), None, 1));
    }

    #[test]
    fn a_failure_leaves_the_row_unless_the_receiver_asks_for_longer() {
        let mut shard = leaving(&[]);
        let (place, due) = write(&mut shard).put.expect("a row");
        let end = ends(&mut shard, 503, Some(Millis(1)), Time(3000));
        assert_eq!((end.remove, end.put, end.attempt.and_then(|attempt| attempt.next)), (None, None, Some(due)));

        let mut shard = leaving(&[]);
        write(&mut shard);
        let end = ends(&mut shard, 503, Some(Millis::from_secs(60)), Time(3000));
        assert_eq!((end.remove, end.put.map(|(_, due)| due)), (Some(place), Some(Time(63_000))));
        assert_eq!((end.delivery.attempts, end.delivery.failed), (1, 1));
    }

    #[test]
    fn a_failure_known_too_late_touches_no_row() {
        let mut shard = leaving(&[]);
        let (_, due) = write(&mut shard).put.expect("a row");
        let end = ends(&mut shard, 503, Some(Millis::from_secs(60)), due);
        assert_eq!((end.remove, end.put, end.attempt.map(|attempt| attempt.number)), (None, None, Some(1)));
    }

    #[test]
    fn what_was_withdrawn_in_flight_gets_no_row() {
        let mut shard = leaving(&[Command::Cancel]);
        let lease = write(&mut shard);
        assert_eq!((lease.end, lease.put), (Some(End::Canceled), None));
        let end = ends(&mut shard, 500, None, Time(3000));
        assert_eq!(
            (end.end, end.put, end.attempt.map(|attempt| attempt.state)),
            (Some(End::Canceled), None, Some(DeliveryState::Canceled))
        );
    }
}
