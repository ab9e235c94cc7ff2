//! Owners that crash, hand over or lose the partition, and a store that is away.

use postrider_core::delivery::Backlogged;
use postrider_core::offsets::Progress;
use postrider_core::shard::Input;
use postrider_core::time::{Millis, Time};

use crate::owner::{Epoch, Owner, Part};
use crate::plan::Fault;
use crate::report::Broken;
use crate::store::By;
use crate::world::{Step, World};

/// Before a takeover that could not read the store is tried again.
const AGAIN: Millis = Millis(100);
/// How long a former owner goes on hearing what it asked for.
const LINGERS: Millis = Millis::from_secs(20);

/// How the partition came to its new owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// The one before has drained.
    HandedOver,
    /// The one before has vanished, or does not know yet.
    Lost,
}

impl World {
    pub(crate) fn fault(&mut self, fault: Fault) -> Result<(), Broken> {
        self.trace.note(self.now, &[10], || format!("fault     {fault:?}"));
        match fault {
            Fault::Outage(length) => {
                self.counts.outages += 1;
                self.store.down = true;
                self.store_works_since = Time(u64::MAX);
                self.agenda.plan(self.now + length, Step::StoreIsBack);
                Ok(())
            }
            Fault::Strain(length) => self.strain(length),
            Fault::Crash(gap) => self.crash(gap),
            Fault::Revoke(lag) => self.revoke(lag),
            Fault::Drain => self.drain(),
        }
    }

    /// Whether the present owner serves and nobody is about to follow it.
    fn is_owned(&self) -> bool {
        !self.changing_hands && self.owners.get(&self.epoch).is_some_and(|owner| owner.part == Part::Serving)
    }

    fn strain(&mut self, length: Millis) -> Result<(), Broken> {
        self.counts.strains += 1;
        self.agenda.plan(self.now + length, Step::Tell(self.epoch, Input::Strained(false)));
        self.tell(self.epoch, [Input::Strained(true)])
    }

    fn crash(&mut self, gap: Millis) -> Result<(), Broken> {
        let Some(owner) = self.owners.get(&self.epoch).filter(|owner| owner.serves() && !self.changing_hands) else { return Ok(()) };
        self.counts.crashes += 1;
        // Of what was on its way to the store, some may have arrived.
        let arrived = if self.store.down { 0 } else { self.chance.between(0, owner.writes.len() as u64) as usize };
        let writes: Vec<_> = owner.writes.iter().take(arrived).cloned().collect();
        for write in writes {
            self.store.apply(&write, By::Owner, self.now)?;
        }
        let leases = self.owners.remove(&self.epoch).map(|owner| owner.leases).unwrap_or_default();
        leases.into_keys().for_each(|id| self.ledger.unknown(id));
        self.ledger.nobody_waits();
        self.changing_hands = true;
        self.agenda.plan(self.now + gap, Step::TakeOver(Way::Lost));
        Ok(())
    }

    fn revoke(&mut self, lag: Millis) -> Result<(), Broken> {
        if !self.is_owned() {
            return Ok(());
        }
        self.counts.revocations += 1;
        self.agenda.plan(self.now + lag, Step::Tell(self.epoch, Input::Revoked));
        self.changing_hands = true;
        self.agenda.plan(self.now, Step::TakeOver(Way::Lost));
        Ok(())
    }

    fn drain(&mut self) -> Result<(), Broken> {
        if !self.is_owned() {
            return Ok(());
        }
        self.counts.drains += 1;
        self.ledger.nobody_waits();
        self.tell(self.epoch, [Input::Drain])
    }

    /// The last commit of a drained owner is durable: the next one may begin.
    pub(crate) fn hand_over(&mut self, epoch: Epoch) {
        if epoch == self.epoch {
            self.changing_hands = true;
            self.agenda.plan(self.now, Step::TakeOver(Way::HandedOver));
        }
    }

    /// A new owner starts from what is committed and from what the store holds.
    pub(crate) fn take_over(&mut self, way: Way) -> Result<(), Broken> {
        if self.store.down {
            self.agenda.plan(self.now + AGAIN, Step::TakeOver(way));
            return Ok(());
        }
        self.changing_hands = false;
        if way == Way::Lost {
            let (committed, store) = (&self.committed, &self.store);
            self.ledger.lost_owner(|id, account| account.offsets.iter().any(|offset| !committed.is_finished(*offset)) || store.has_row(id));
        }
        self.ledger.nobody_waits();
        self.epoch = Epoch(self.epoch.0 + 1);
        let progress = Progress::clone(&self.committed);
        self.partition.reopen(&progress);
        self.trace.note(self.now, &[11, u64::from(self.epoch.0), progress.from.0], || {
            format!("owner {} takes over from {}, {} rows", self.epoch.0, progress.from.0, self.store.rows())
        });
        let owner = Owner::new(self.plan.limits.clone(), progress, self.chance.seed(), self.plan.endpoints.len(), self.now);
        self.owners.insert(self.epoch, owner);
        let lane =
            |Backlogged { place, due, delivery }| Input::Lane { endpoint: delivery.id.endpoint, first: place, due, meta: delivery.meta };
        let lanes: Vec<_> = self.store.first_rows().into_iter().map(lane).collect();
        self.tell(self.epoch, lanes)?;
        self.read_on(self.epoch);
        for epoch in self.owners.keys().copied().filter(|epoch| *epoch != self.epoch) {
            self.agenda.plan(self.now + LINGERS, Step::Forget(epoch));
        }
        Ok(())
    }

    /// Forgets an owner that another has followed, unless something of it is still to happen.
    pub(crate) fn forget(&mut self, epoch: Epoch) {
        if self.owners.get(&epoch).is_some_and(Owner::is_over) {
            self.owners.remove(&epoch);
        } else if self.owners.contains_key(&epoch) {
            self.agenda.plan(self.now + LINGERS, Step::Forget(epoch));
        }
    }
}
