//! Attempts that are still in flight when their owner has handed over.

use postrider_core::id::DeliveryId;
use postrider_core::shard::Write;
use postrider_core::time::{Millis, Time};

use crate::owner::{Epoch, Part};
use crate::report::Broken;
use crate::world::{Step, World, longest_way, short};

/// From the latest end of an attempt to the end of its lease, at the least.
const MARGIN: Millis = Millis(1000);
/// Timers are late by less than this.
const SLACK: Millis = Millis(50);

/// Whose attempt of a delivery is out, and until when nobody else may make one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lease {
    pub(crate) by: Epoch,
    pub(crate) until: Time,
}

impl World {
    /// Notes what a draining owner writes about a delivery in flight without an attempt: it leaves, and goes on listening.
    pub(crate) fn note_lease(&mut self, epoch: Epoch, write: &Write) -> Result<(), Broken> {
        let (id, now) = (write.delivery.id, self.now);
        let owner = self.owner(epoch)?;
        let leaves = owner.part == Part::Draining && write.attempt.is_none() && owner.flights.contains(&id);
        if !leaves || now.since(owner.draining) < self.plan.limits.hand_over {
            return Ok(());
        }
        let until = write.put.map_or(now, |(_, due)| due);
        self.owner(epoch)?.leases.insert(id, until);
        self.counts.leases += 1;
        if let Some(account) = self.ledger.accounts.get_mut(&id) {
            account.lease = write.put.map(|_| Lease { by: epoch, until });
        }
        Ok(())
    }

    /// An owner lets the partition go: in time, and with a row of everything that it has in flight.
    pub(crate) fn drained(&mut self, epoch: Epoch) -> Result<(), Broken> {
        let now = self.now;
        let most = self.plan.limits.hand_over + Millis(longest_way(self.plan.store.delay).0 * 3) + SLACK;
        let works_since = self.store_works_since;
        let owner = self.owner(epoch)?;
        owner.part = Part::Drained;
        let took = now.since(owner.draining.max(works_since));
        if took > most {
            return Err(Broken::new("no_receiver_holds_up_a_hand_over", format!("it took {} ms, {} at most", took.0, most.0)));
        }
        if let Some(write) = owner.writes.iter().find(|write| !owner.leases.contains_key(&write.delivery.id)) {
            return Err(Broken::new("drained_means_done", format!("{} is not written", write.delivery.id)));
        }
        let flights: Vec<DeliveryId> = owner.flights.iter().copied().collect();
        if let Some(id) = flights.iter().find(|id| !self.store.has_row(**id) && self.store.end(**id).is_none()) {
            return Err(Broken::new("drained_means_done", format!("{id} is in flight and has no row")));
        }
        if !flights.is_empty() && self.chance.hits(self.plan.vanishing) {
            let at = now + self.chance.span(0, 3000);
            self.agenda.plan(at, Step::Vanish(epoch));
        }
        // Behind the last commit, which was planned before with the same longest delay.
        self.agenda.plan(now + Millis(21), Step::HandOver(epoch));
        Ok(())
    }

    /// Nobody else sends what a living owner has in flight, unless it was asked to, or the store was too slow to say how
    /// the attempt has ended.
    pub(crate) fn check_lease(&mut self, epoch: Epoch, id: DeliveryId) -> Result<(), Broken> {
        let now = self.now;
        let Some(account) = self.ledger.accounts.get_mut(&id) else { return Ok(()) };
        let Some(Lease { by, until }) = account.lease.filter(|lease| lease.by != epoch) else { return Ok(()) };
        if account.may_repeat {
            return Ok(());
        }
        let flies = self.owners.get(&by).is_some_and(|owner| owner.flights.contains(&id));
        let slow = self.store.down || self.store_works_since + MARGIN > until || Millis(longest_way(self.plan.store.delay).0 * 3) > MARGIN;
        if now < until || flies || !slow {
            let seen = format!("owner {} sends {}, leased to owner {} until {}", epoch.0, short(id), by.0, until.0);
            return Err(Broken::new("a_leased_delivery_is_left_alone", seen));
        }
        account.may_repeat = true;
        Ok(())
    }

    /// An owner that has handed over vanishes: how its last attempts end, nobody will know.
    pub(crate) fn vanish(&mut self, epoch: Epoch) {
        if self.owners.get(&epoch).is_none_or(|owner| owner.flights.is_empty() && owner.writes.is_empty()) {
            return;
        }
        let Some(owner) = self.owners.remove(&epoch) else { return };
        self.counts.vanished += 1;
        self.trace.note(self.now, &[12, u64::from(epoch.0)], || format!("owner {} vanishes", epoch.0));
        for id in owner.leases.into_keys() {
            self.ledger.unknown(id);
        }
    }
}
