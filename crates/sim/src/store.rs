//! The store: backlog rows, attempts and ends, as they are durable.

use std::collections::{BTreeMap, BTreeSet};

use postrider_core::attempt::DeliveryState;
use postrider_core::delivery::{Backlogged, Place};
use postrider_core::id::{DeliveryId, EndpointId};
use postrider_core::shard::Write;
use postrider_core::time::Time;

use crate::report::Broken;

/// Who writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum By {
    /// The partition's present owner.
    Owner,
    /// One that another has followed.
    Former,
}

/// Everything that writes have made durable.
#[derive(Debug, Default)]
pub(crate) struct Store {
    rows: BTreeMap<EndpointId, BTreeMap<Place, Backlogged>>,
    attempts: BTreeMap<DeliveryId, BTreeMap<u32, DeliveryState>>,
    ends: BTreeMap<DeliveryId, (DeliveryState, Time)>,
    /// Rows that an owner put after another had followed it: the present owner can't know of them.
    late: BTreeSet<(EndpointId, Place)>,
    pub(crate) down: bool,
}

impl Store {
    /// Makes one write durable. Refuses one that would lose a delivery.
    pub(crate) fn apply(&mut self, write: &Write, by: By, now: Time) -> Result<(), Broken> {
        let id = write.delivery.id;
        if let Some(attempt) = &write.attempt {
            self.attempts.entry(id).or_default().insert(attempt.number, attempt.state);
        }
        if let Some(state) = end_of(write) {
            self.ends.insert(id, (state, now));
        }
        let rows = self.rows.entry(id.endpoint).or_default();
        if let Some(place) = write.remove {
            rows.remove(&place);
            self.late.remove(&(id.endpoint, place));
        }
        if let Some((place, due)) = write.put {
            rows.insert(place, Backlogged { place, due, delivery: write.delivery.clone() });
            match by {
                By::Owner => self.late.remove(&(id.endpoint, place)),
                By::Former => self.late.insert((id.endpoint, place)),
            };
        }
        if rows.is_empty() {
            self.rows.remove(&id.endpoint);
        }
        if write.remove.is_some() && !self.ends.contains_key(&id) && !self.has_row(id) {
            return Err(Broken::new("nothing_is_lost", format!("the only row of {id} was removed before it ended")));
        }
        Ok(())
    }

    pub(crate) fn read(&self, endpoint: EndpointId, from: Place, limit: usize) -> Vec<Backlogged> {
        self.rows.get(&endpoint).into_iter().flat_map(|rows| rows.range(from..)).take(limit).map(|(_, row)| row.clone()).collect()
    }

    /// A row before `low` that the present owner should know of.
    pub(crate) fn row_before(&self, endpoint: EndpointId, low: Place) -> Option<Place> {
        let rows = self.rows.get(&endpoint)?;
        rows.range(..low).map(|(place, _)| *place).find(|place| !self.late.contains(&(endpoint, *place)))
    }

    pub(crate) fn find(&self, id: DeliveryId) -> Option<Backlogged> {
        self.rows.get(&id.endpoint)?.values().find(|row| row.delivery.id == id).cloned()
    }

    pub(crate) fn has_row(&self, id: DeliveryId) -> bool {
        self.rows.get(&id.endpoint).is_some_and(|rows| rows.values().any(|row| row.delivery.id == id))
    }

    /// How a delivery ended, and when that became durable.
    pub(crate) fn end(&self, id: DeliveryId) -> Option<(DeliveryState, Time)> {
        self.ends.get(&id).copied()
    }

    /// The numbers of a delivery's attempts.
    pub(crate) fn attempts(&self, id: DeliveryId) -> impl Iterator<Item = u32> + '_ {
        self.attempts.get(&id).into_iter().flat_map(|all| all.keys().copied())
    }

    /// The first row of each endpoint that has any, for a new owner.
    pub(crate) fn first_rows(&mut self) -> Vec<Backlogged> {
        self.late.clear();
        self.rows.values().filter_map(|rows| rows.values().next().cloned()).collect()
    }

    /// How many rows there are.
    pub(crate) fn rows(&self) -> usize {
        self.rows.values().map(BTreeMap::len).sum()
    }
}

/// The state in which a write leaves its delivery for good, if it does.
pub(crate) fn end_of(write: &Write) -> Option<DeliveryState> {
    let by_attempt = write.attempt.as_ref().map(|attempt| attempt.state).filter(|state| *state != DeliveryState::Pending);
    write.end.map(|end| end.state()).or(by_attempt)
}
