//! Reading a lane's backlog back into its window.

use super::{Action, Shard, Write};
use crate::attempt::End;
use crate::backlog::Stop;
use crate::delivery::Backlogged;
use crate::id::EndpointId;
use crate::lane::{Held, Lane, order_key};
use crate::retry;
use crate::time::Time;

impl Shard {
    /// Begins a load if the lane has room, and rows that may go.
    pub(super) fn load_if_due(&mut self, endpoint: EndpointId, now: Time) {
        let (crowded, behind) = (self.pool > self.room() / 4 * 3, self.is_behind());
        let Some(lane) = self.lanes.get_mut(&endpoint) else { return };
        if lane.policy.is_none() || lane.backlog.load_limit().is_some() {
            return;
        }
        let limit = if lane.is_held_up(now) {
            // What is swept may all have expired, and each end is a write.
            if behind || lane.backlog.sweep_at(now).is_none_or(|at| at > now) {
                return;
            }
            self.limits.load
        } else {
            if lane.backlog.next().is_none_or(|next| next > now) {
                return;
            }
            if crowded && lane.bytes > 0 {
                return;
            }
            // As much as is sent in the time of about two round trips: a slow endpoint holds little.
            let wanted = (2 * lane.concurrency()).min(self.limits.load);
            if lane.waiting() > wanted / 2 {
                return;
            }
            wanted
        };
        let from = lane.backlog.begin_load(limit, now);
        let low = lane.low_water();
        self.out.actions.push_back(Action::Load { endpoint, from, low, limit });
    }

    pub(super) fn load_failed(&mut self, endpoint: EndpointId, now: Time) {
        let Some(lane) = self.lanes.get_mut(&endpoint) else { return };
        lane.backlog.load_later(now);
        self.settle(endpoint, now);
    }

    pub(super) fn loaded(&mut self, endpoint: EndpointId, rows: Vec<Backlogged>, now: Time) {
        let Some(limit) = self.lanes.get(&endpoint).and_then(|lane| lane.backlog.load_limit()) else { return };
        let mut stop = match rows.last() {
            Some(last) if rows.len() >= limit => Stop::Behind(last.place),
            Some(_) | None => Stop::End,
        };
        let sweeping = self.lanes.get(&endpoint).is_some_and(|lane| lane.is_held_up(now));
        let mut swept_all = sweeping && stop != Stop::End;
        for row in rows {
            let Some(lane) = self.lanes.get(&endpoint) else { return };
            if lane.backlog.is_moving(row.place) || self.merge(&row, now) {
                continue;
            }
            if self.finds.contains_key(&row.delivery.id) {
                stop = Stop::At(row.place, now); // the search decides, or its answer would come when the row is long gone
                break;
            }
            if sweeping {
                if !self.expire(&row, now) {
                    stop = Stop::At(row.place, now); // in an ordered lane rows behind it may be due before it
                    swept_all = false;
                    break;
                }
            } else if self.is_full_for(endpoint) {
                stop = Stop::At(row.place, now);
                break;
            } else if let Some(at) = self.take_row(endpoint, row, now) {
                stop = at;
                break;
            }
        }
        let Some(lane) = self.lanes.get_mut(&endpoint) else { return };
        lane.backlog.end_load(stop, now);
        if sweeping {
            lane.backlog.swept(swept_all, now);
        }
        self.settle(endpoint, now);
    }

    /// Gives a row to the copy of its delivery that is in memory, or moves it to the row that copy has. False without such
    /// a copy. There may be two where a delivery was read again after a crash, or asked for again while it waited.
    fn merge(&mut self, row: &Backlogged, now: Time) -> bool {
        let id = row.delivery.id;
        let Some(held) = self.lanes.get_mut(&id.endpoint).and_then(|lane| lane.held(id.event)) else { return false };
        let own = *held.place.get_or_insert(row.place);
        if own != row.place {
            // In one write, so that there is a row whatever another owner has done to the first.
            let put = Some((own, held.due));
            let write = Write { delivery: held.delivery.clone(), at: now, attempt: None, end: None, remove: Some(row.place), put };
            self.write(write, None);
        } else if let Some(offset) = held.offset.take() {
            self.finish_offset(offset);
        }
        true
    }

    /// Ends a row that has waited longer than its schedule could have taken. False when it has not.
    fn expire(&mut self, row: &Backlogged, now: Time) -> bool {
        let Some(policy) = self.lanes.get(&row.delivery.id.endpoint).and_then(|lane| lane.policy.as_ref()) else { return false };
        if row.delivery.since + retry::horizon(&policy.schedule) > now {
            return false;
        }
        let held = Held { delivery: row.delivery.clone(), offset: None, place: Some(row.place), due: row.due };
        self.end(held, End::Expired, now);
        true
    }

    /// Whether memory is full, so that a lane with work to do takes no more; many lanes may have loaded at one time.
    fn is_full_for(&self, endpoint: EndpointId) -> bool {
        let lane = self.lanes.get(&endpoint);
        lane.is_some_and(|lane| lane.bytes > 0 && self.pool - lane.counted + lane.bytes >= self.room())
    }

    /// Takes a row into the window; says where to stop if it can't go yet and nothing behind it can.
    fn take_row(&mut self, endpoint: EndpointId, row: Backlogged, now: Time) -> Option<Stop> {
        let lane = self.lanes.get_mut(&endpoint)?;
        let Backlogged { place, due, delivery } = row;
        if lane.is_deleted() {
            lane.wait(Held { delivery, offset: None, place: Some(place), due });
            return None;
        }
        if lane.is_ordered() {
            return take_in_order(lane, Backlogged { place, due, delivery }, now);
        }
        if due > now {
            return Some(Stop::At(place, due));
        }
        lane.wait(Held { delivery, offset: None, place: Some(place), due });
        None
    }
}

/// In an ordered lane a row that is not due holds up its own key only.
fn take_in_order(lane: &mut Lane, row: Backlogged, now: Time) -> Option<Stop> {
    if lane.backlog.missed_before(row.place) {
        return Some(Stop::At(row.place, now));
    }
    let key = order_key(&row.delivery);
    let behind = lane.backlog.coming_before(row.place, key).any(|event| !lane.holds(event));
    if behind || lane.backlog.waits_behind(key, row.place) {
        return None; // it is read again together with what goes before it
    }
    if row.due > now {
        return if lane.backlog.block(key, row.place, row.due) { None } else { Some(Stop::At(row.place, row.due)) };
    }
    lane.wait(Held { delivery: row.delivery, offset: None, place: Some(row.place), due: row.due });
    None
}
