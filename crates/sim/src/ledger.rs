//! What is known of each delivery from outside, and what shards may therefore do with it.

use std::collections::BTreeMap;

use postrider_core::attempt::DeliveryState;
use postrider_core::endpoint::Policy;
use postrider_core::id::{DeliveryId, EndpointId};
use postrider_core::offsets::Offset;
use postrider_core::record::Command;
use postrider_core::retry::MAX_RETRY_AFTER;
use postrider_core::shard::{Attempt, Write};
use postrider_core::time::{Millis, Time};

use crate::lease::Lease;
use crate::owner::Epoch;
use crate::partition::Record;
use crate::report::Broken;
use crate::store::end_of;

/// One delivery's account.
#[derive(Debug, Default)]
pub(crate) struct Account {
    /// Its records, commands left out.
    pub(crate) offsets: Vec<Offset>,
    /// The ordering key that its attempts must keep to.
    key: Option<(usize, u64)>,
    /// Where it stands among those of its key.
    turn: usize,
    pub(crate) succeeded: bool,
    pub(crate) ended: bool,
    /// Something happened after which it may be sent again although it succeeded.
    pub(crate) may_repeat: bool,
    /// Its owner asked for it to be retried: waits and order don't hold.
    pub(crate) forced: bool,
    /// An owner has handed over while an attempt of it was in flight.
    pub(crate) lease: Option<Lease>,
    /// An attempt may have been made that is not recorded.
    pub(crate) unrecorded: bool,
    pub(crate) canceled: bool,
    pub(crate) replayed: bool,
    /// Before when it must not be tried again.
    not_before: Option<Time>,
    /// The owner that read it first, and how many deliveries it had read then.
    read: Option<(Epoch, u64)>,
    /// Since when the present owner could have sent it.
    pub(crate) waiting: Option<Time>,
}

/// All accounts.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    pub(crate) accounts: BTreeMap<DeliveryId, Account>,
    /// Per ordering key of an endpoint: its deliveries in order, and how many of the first have ended.
    keys: BTreeMap<(usize, u64), (Vec<DeliveryId>, usize)>,
    /// Deliveries that wait for their first attempt.
    pub(crate) waiting: BTreeMap<(Time, DeliveryId), usize>,
    /// The longest that a delivery of each endpoint waited from being read to its first attempt.
    pub(crate) slowest: BTreeMap<EndpointId, Millis>,
}

impl Ledger {
    /// Opens an account, or notes another record of it. `key` is given where attempts must keep to its order.
    pub(crate) fn appended(&mut self, offset: Offset, record: &Record, key: Option<(usize, u64)>) {
        let id = record.delivery.id;
        let account = self.accounts.entry(id).or_default();
        match record.command {
            Command::Deliver | Command::Replay => account.offsets.push(offset),
            Command::Retry => return,
            Command::Cancel => return account.canceled = true,
        }
        if account.offsets.len() == 1
            && let Some(key) = key
        {
            let line = self.keys.entry(key).or_default();
            account.key = Some(key);
            account.turn = line.0.len();
            line.0.push(id);
        }
    }

    /// Notes that an owner was given a record; `read` is how many deliveries it had read before.
    pub(crate) fn arrived(&mut self, record: &Record, epoch: Epoch, read: u64, recent: usize, now: Time, endpoint: usize) {
        let id = record.delivery.id;
        let Some(account) = self.accounts.get_mut(&id) else { return };
        match record.command {
            Command::Deliver if record.repeat => {
                let remembered = account.read.is_some_and(|(by, at)| by == epoch && read - at < recent as u64);
                account.may_repeat |= !remembered;
            }
            Command::Deliver => {
                account.read.get_or_insert((epoch, read));
                if !account.ended && account.waiting.is_none() && account.not_before.is_none() {
                    account.waiting = Some(now);
                    self.waiting.insert((now, id), endpoint);
                }
            }
            Command::Replay => {
                account.may_repeat = true;
                account.replayed = true;
            }
            Command::Retry => {
                account.forced = true;
                account.may_repeat |= account.lease.is_some();
            }
            Command::Cancel => self.stop_waiting(id),
        }
    }

    pub(crate) fn stop_waiting(&mut self, id: DeliveryId) {
        if let Some(since) = self.accounts.get_mut(&id).and_then(|account| account.waiting.take()) {
            self.waiting.remove(&(since, id));
        }
    }

    pub(crate) fn nobody_waits(&mut self) {
        for (_, id) in std::mem::take(&mut self.waiting).into_keys() {
            if let Some(account) = self.accounts.get_mut(&id) {
                account.waiting = None;
            }
        }
    }

    /// Checks an attempt. Returns whether the delivery had succeeded before.
    pub(crate) fn sent(&mut self, attempt: &Attempt, now: Time) -> Result<bool, Broken> {
        let id = attempt.delivery.id;
        if let Some(since) = self.accounts.get(&id).and_then(|account| account.waiting) {
            let slowest = self.slowest.entry(id.endpoint).or_default();
            *slowest = (*slowest).max(now.since(since));
        }
        self.stop_waiting(id);
        let Some(account) = self.accounts.get_mut(&id) else {
            return Err(Broken::new("only_what_was_accepted_is_sent", format!("{id}")));
        };
        if attempt.number != attempt.delivery.attempts + 1 {
            return Err(Broken::new("parking_consumes_no_attempt", format!("{id} is sent as {}", attempt.number)));
        }
        if account.succeeded && !account.may_repeat {
            return Err(Broken::new("no_duplicates_without_a_cause", format!("{id} is sent again after it succeeded")));
        }
        if account.ended && !account.may_repeat {
            return Err(Broken::new("what_ended_is_not_sent", format!("{id}")));
        }
        if let Some(not_before) = account.not_before.take()
            && now < not_before
            && !account.forced
            && !account.may_repeat
        {
            let early = not_before.since(now);
            return Err(Broken::new("waits_between_attempts_are_kept", format!("{id} is sent {} ms early", early.0)));
        }
        Ok(account.succeeded)
    }

    /// Checks that no older delivery of the same key is still to be finished.
    pub(crate) fn check_turn(&mut self, id: DeliveryId) -> Result<(), Broken> {
        let Some(account) = self.accounts.get(&id).filter(|account| !account.replayed) else { return Ok(()) };
        let (Some(key), turn) = (account.key, account.turn) else { return Ok(()) };
        let Some((line, ended)) = self.keys.get_mut(&key) else { return Ok(()) };
        while line.get(*ended).is_some_and(|id| self.accounts.get(id).is_some_and(|account| account.ended)) {
            *ended += 1;
        }
        if turn > *ended {
            let first = line[*ended];
            // After a crash the older one may lie in the log, not read again yet, while the younger one has a row.
            if self.accounts.get(&first).is_some_and(|account| account.may_repeat) {
                return Ok(());
            }
            return Err(Broken::new("events_of_a_key_keep_their_order", format!("{id} is sent while {first} is not finished")));
        }
        Ok(())
    }

    /// Checks a write and notes what follows from it. `policy` is what the owner knows of the endpoint.
    pub(crate) fn written(&mut self, write: &Write, policy: Option<&Policy>, now: Time) -> Result<(), Broken> {
        let id = write.delivery.id;
        let Some(account) = self.accounts.get_mut(&id) else { return Ok(()) };
        if let Some(state) = end_of(write) {
            account.ended = true;
            account.succeeded |= state == DeliveryState::Succeeded;
            account.not_before = None;
        }
        let Some(attempt) = &write.attempt else { return Ok(()) };
        if attempt.number != write.delivery.attempts {
            return Err(Broken::new("parking_consumes_no_attempt", format!("{id}: {} is recorded", attempt.number)));
        }
        let (Some(policy), Some(next)) = (policy, attempt.next) else { return Ok(()) };
        let planned = (write.delivery.failed as usize).checked_sub(1).and_then(|i| policy.schedule.get(i));
        let Some(planned) = planned else {
            return Err(Broken::new("the_schedule_ends", format!("{id} is tried again after {} failures", write.delivery.failed)));
        };
        let asked = attempt.report.answer.retry_after().unwrap_or_default().min(MAX_RETRY_AFTER);
        let earliest = now + planned.scaled(0.8).max(asked);
        let latest = now + (planned.scaled(1.2) + Millis(1)).max(asked);
        let latest = account.lease.map_or(latest, |lease| latest.max(lease.until));
        if next < earliest || next > latest {
            return Err(Broken::new("waits_between_attempts_are_kept", format!("{id}: {} ms", next.since(now).0)));
        }
        if account.lease.is_some() && account.forced {
            return Ok(()); // the next owner was asked to hurry
        }
        account.not_before = Some(earliest);
        account.forced = false;
        Ok(())
    }

    /// How the last attempt under a lease ended is durable.
    pub(crate) fn lease_ends(&mut self, id: DeliveryId, by: Epoch) {
        if let Some(account) = self.accounts.get_mut(&id) {
            account.lease = account.lease.filter(|lease| lease.by != by);
        }
    }

    /// How an attempt in flight ends, nobody will know: it is made again, with another number.
    pub(crate) fn unknown(&mut self, id: DeliveryId) {
        if let Some(account) = self.accounts.get_mut(&id) {
            account.may_repeat = true;
            account.unrecorded = true;
            account.not_before = None;
            account.lease = None;
        }
    }

    /// An owner went without handing over: what `unsafe_to_forget` holds for may be sent again.
    pub(crate) fn lost_owner(&mut self, unsafe_to_forget: impl Fn(DeliveryId, &Account) -> bool) {
        for (id, account) in &mut self.accounts {
            account.may_repeat |= unsafe_to_forget(*id, account);
            account.not_before = None;
        }
    }
}
