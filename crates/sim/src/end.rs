//! What must hold when everything rests.

use std::collections::BTreeSet;

use postrider_core::attempt::DeliveryState;
use postrider_core::endpoint::PolicyState;
use postrider_core::time::Millis;

use crate::report::Broken;
use crate::world::{World, index_of};

impl World {
    /// Every accepted delivery has finished for a cause, and nothing is left of it.
    pub(crate) fn everything_is_finished(&mut self) -> Result<(), Broken> {
        self.deliveries_are_finished()?;
        if self.store.rows() > 0 {
            let rows = self.store.rows();
            let seen = format!("{rows} rows are left, such as that of {}", self.store.first_rows()[0].delivery.id);
            return Err(Broken::new("the_backlog_is_empty_at_last", seen));
        }
        if self.committed.from != self.partition.end() {
            let seen = format!("{} of {}", self.committed.from.0, self.partition.end().0);
            return Err(Broken::new("everything_is_committed_at_last", seen));
        }
        for (epoch, owner) in &self.owners {
            let census = owner.shard.census();
            let left = census.pool + census.in_flight + census.unwritten + census.unfinished + census.backlogs + census.suspects;
            if left > 0 && *epoch == self.epoch {
                return Err(Broken::new("nothing_is_left_in_memory", format!("owner {}: {census:?}", epoch.0)));
            }
            if census.lanes > self.plan.limits.lanes {
                return Err(Broken::new("lanes_are_forgotten", format!("owner {}: {census:?}", epoch.0)));
            }
        }
        Ok(())
    }

    fn deliveries_are_finished(&mut self) -> Result<(), Broken> {
        let [mut succeeded, mut failed, mut canceled, mut expired] = [0; 4];
        for (id, account) in &self.ledger.accounts {
            let attempts: BTreeSet<u32> = self.store.attempts(*id).collect();
            let made = attempts.len();
            let endpoint = index_of(id.endpoint);
            let Some((state, at)) = self.store.end(*id) else {
                return Err(Broken::new("every_delivery_finishes", format!("{id} (endpoint {endpoint}) has not, after {made} attempts")));
            };
            if !account.replayed && !account.unrecorded && attempts.iter().max().is_some_and(|last| *last as usize != made) {
                return Err(Broken::new("parking_consumes_no_attempt", format!("{id} has the attempts {attempts:?}")));
            }
            match state {
                DeliveryState::Succeeded => succeeded += 1,
                DeliveryState::Failed => failed += 1,
                DeliveryState::Canceled => canceled += 1,
                DeliveryState::Pending => {}
            }
            let deleted = self.policies[endpoint].state == PolicyState::Deleted;
            if state == DeliveryState::Canceled && !account.canceled && !deleted {
                return Err(Broken::new("deliveries_end_for_a_cause", format!("{id} was canceled by nobody")));
            }
            let schedule = self.plan.endpoints[endpoint].policy.schedule.len();
            let late = at.since(id.event.time()) > Millis::from_secs(86_400);
            if state == DeliveryState::Failed && made <= schedule && !late && !account.unrecorded && !self.was_disabled(endpoint) {
                return Err(Broken::new("deliveries_end_for_a_cause", format!("{id} was given up after {made} attempts")));
            }
            expired += u64::from(state == DeliveryState::Failed && late && made <= schedule);
        }
        (self.counts.succeeded, self.counts.failed) = (succeeded, failed);
        (self.counts.canceled, self.counts.expired) = (canceled, expired);
        Ok(())
    }

    /// Whether an endpoint was disabled at some time, by its owner or its receiver.
    fn was_disabled(&self, endpoint: usize) -> bool {
        use crate::plan::Change;
        use crate::receiver::Temper;
        let by_owner =
            self.plan.changes.iter().any(|(_, of, change)| *of == endpoint && matches!(change, Change::Disable | Change::Delete));
        by_owner || self.plan.endpoints[endpoint].temper == Temper::Gone
    }
}
