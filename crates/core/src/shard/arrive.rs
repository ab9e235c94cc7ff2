//! Records that come in: deliveries, and commands about deliveries.

use bytes::Bytes;

use super::{Action, Effect, Find, Role, Shard, Write};
use crate::attempt::End;
use crate::delivery::{Backlogged, Delivery, Place};
use crate::endpoint::Policy;
use crate::id::{DeliveryId, EndpointId};
use crate::lane::{Held, Lane, order_key};
use crate::offsets::Offset;
use crate::record::Command;
use crate::time::Time;

/// The largest share of the pool for a lane that keeps up, or that we hold up.
const MOST_SHARE: usize = 2;

impl Shard {
    pub(super) fn arrived(&mut self, offset: Offset, command: Command, delivery: Delivery, now: Time) {
        if self.role != Role::Owner || self.resumed.is_finished(offset) {
            return;
        }
        let id = delivery.id;
        self.offsets.start(offset, id, now);
        match command {
            Command::Deliver if !self.recent.insert(id) => self.finish_offset(offset),
            Command::Deliver | Command::Replay if self.lanes.get(&id.endpoint).is_some_and(|lane| lane.holds(id.event)) => {
                self.finish_offset(offset); // its own record or row makes it durable
            }
            Command::Deliver | Command::Replay => self.deliver(offset, delivery, now),
            Command::Retry | Command::Cancel => self.command(offset, command, id, now),
        }
        self.settle(id.endpoint, now);
    }

    /// Looks the endpoint up when it is met for the first time.
    fn lane(&mut self, endpoint: EndpointId, meta: &Bytes) -> &mut Lane {
        self.lanes.entry(endpoint).or_insert_with(|| {
            self.out.actions.push_back(Action::Resolve { endpoint, meta: meta.clone() });
            Lane::new()
        })
    }

    pub(super) fn resume_lane(&mut self, endpoint: EndpointId, (first, due): (Place, Time), meta: Bytes, now: Time) {
        let lane = self.lane(endpoint, &meta);
        lane.backlog.note(first, due);
        self.settle(endpoint, now);
    }

    pub(super) fn set_policy(&mut self, endpoint: EndpointId, policy: Policy, now: Time) {
        let Some(lane) = self.lanes.get_mut(&endpoint) else { return };
        let reordered = lane.set_policy(policy, now);
        if reordered || lane.is_held_up(now) {
            self.spill(endpoint, now);
        }
        self.settle(endpoint, now);
    }

    fn deliver(&mut self, offset: Offset, delivery: Delivery, now: Time) {
        let (share, behind) = (self.share(), self.is_behind());
        let most = self.limits.pool / MOST_SHARE;
        let endpoint = delivery.id.endpoint;
        let lane = self.lane(endpoint, &delivery.meta);
        let due = delivery.since.min(now);
        let held = Held { delivery, offset: Some(offset), place: None, due };
        let overtakes = if lane.is_ordered() {
            lane.backlog.is_ahead(now) || lane.backlog.holds_up(order_key(&held.delivery))
        } else {
            // While rows are read and there is nothing else to send, the new one costs them nothing. Without this a busy lane
            // never leaves its backlog: there is always a row on its way that the next one would have to wait for.
            lane.backlog.is_ahead(now) && !lane.has_nothing_to_send(now)
        };
        let bytes = lane.bytes + held.cost();
        // Room for an endpoint that would take more if we sent more: the store would only make that worse.
        let larger = bytes <= most && (lane.keeps_up(now) || behind && lane.is_fit(now));
        let fits = lane.bytes == 0 || bytes <= share || larger;
        if fits && !overtakes && !lane.is_held_up(now) {
            lane.wait(held);
        } else {
            self.park(held, now);
        }
    }

    /// Bytes that a lane may hold: a share of what is free, so that many slow lanes leave room for the others. Not less
    /// under strain: what was read already would only be written down.
    pub(super) fn share(&self) -> usize {
        self.limits.pool.saturating_sub(self.pool) / self.limits.share
    }

    /// Moves a delivery that is not in the window from its record to the backlog.
    pub(super) fn park(&mut self, held: Held, now: Time) {
        let id = held.delivery.id;
        let Some(lane) = self.lanes.get_mut(&id.endpoint) else { return };
        let place = lane.place(&held.delivery, held.due);
        let write = Write { delivery: held.delivery, at: now, attempt: None, end: None, remove: None, put: Some((place, held.due)) };
        self.write(write, held.offset);
    }

    /// Moves deliveries that have left the window to the backlog; those that lie there already are only noted.
    pub(super) fn put_back(&mut self, endpoint: EndpointId, all: Vec<Held>, now: Time) {
        for held in all {
            match held.place {
                Some(place) => {
                    if let Some(lane) = self.lanes.get_mut(&endpoint) {
                        lane.stored(order_key(&held.delivery), place, held.due, now);
                    }
                }
                None => self.park(held, now),
            }
        }
    }

    /// Moves everything that waits in a lane's window to its backlog.
    pub(super) fn spill(&mut self, endpoint: EndpointId, now: Time) {
        let Some(lane) = self.lanes.get_mut(&endpoint) else { return };
        let all = lane.remove_all();
        self.put_back(endpoint, all, now);
    }

    /// Ends a delivery without an attempt.
    pub(super) fn end(&mut self, held: Held, end: End, now: Time) {
        let write = Write { delivery: held.delivery, at: now, attempt: None, end: Some(end), remove: held.place, put: None };
        self.write(write, held.offset);
    }

    /// A command for one delivery: done at once when it is in memory, else once its row is found.
    fn command(&mut self, offset: Offset, command: Command, id: DeliveryId, now: Time) {
        if self.apply(command, id, now) {
            return self.finish_offset(offset);
        }
        if let Some(find) = self.finds.get_mut(&id) {
            // The first command counts, but a withdrawal counts more.
            let withdrawn = command == Command::Cancel;
            let settled = if withdrawn { std::mem::replace(&mut find.offset, offset) } else { offset };
            find.command = if withdrawn { command } else { find.command };
            return self.finish_offset(settled);
        }
        let asked = !self.is_moving(id);
        self.finds.insert(id, Find { command, offset, asked });
        if asked {
            self.out.actions.push_back(Action::Find(id));
        }
    }

    /// Applies a command to a delivery in memory; false when it is not there.
    fn apply(&mut self, command: Command, id: DeliveryId, now: Time) -> bool {
        let Some(lane) = self.lanes.get_mut(&id.endpoint) else { return false };
        if let Some(flight) = lane.flying.get_mut(&id.event) {
            flight.canceled |= command == Command::Cancel;
            return true;
        }
        let Some(mut held) = lane.remove(id.event) else { return false };
        if command == Command::Cancel {
            self.end(held, End::Canceled, now);
        } else {
            held.due = now;
            lane.wait(held);
        }
        true
    }

    /// A search ended: the row is treated as the command says, unless it came into memory meanwhile.
    pub(super) fn found(&mut self, id: DeliveryId, row: Option<Backlogged>, now: Time) {
        let Some(find) = self.finds.remove(&id) else { return };
        let applied = self.apply(find.command, id, now);
        match row {
            Some(row) if !applied => self.apply_to_row(&find, row, now),
            Some(_) | None => self.finish_offset(find.offset),
        }
        self.settle(id.endpoint, now);
    }

    /// Applies a command to a row of the backlog that is not in memory: it goes, or becomes due. Then the command is finished.
    fn apply_to_row(&mut self, find: &Find, row: Backlogged, now: Time) {
        let held = Held { delivery: row.delivery, offset: Some(find.offset), place: Some(row.place), due: now };
        if find.command == Command::Cancel {
            return self.end(held, End::Canceled, now);
        }
        // Forward to what is due now; the place of an ordered row lies before that anyway.
        let place = row.place.min(Place { order: now.0, event: row.place.event });
        let remove = Some(row.place).filter(|old| *old != place);
        self.lane(held.delivery.id.endpoint, &held.delivery.meta); // there to take the row up
        let write = Write { delivery: held.delivery, at: now, attempt: None, end: None, remove, put: Some((place, now)) };
        self.write(write, held.offset);
    }

    /// The oldest writes are durable: what they stand for is now true.
    pub(super) fn written(&mut self, count: usize, now: Time) {
        for _ in 0..count {
            let effect = self.out.unacked.pop_front().expect("the store acknowledges only what was written");
            self.settle_effect(effect, now);
        }
        if let Role::Leaving { writes } = &mut self.role {
            *writes = writes.saturating_sub(count);
        }
    }

    fn settle_effect(&mut self, effect: Effect, now: Time) {
        if let Some(offset) = effect.finished {
            self.finish_offset(offset);
        }
        let Effect { id, put, key, .. } = effect;
        let Some(lane) = self.lanes.get_mut(&id.endpoint).filter(|_| effect.places().next().is_some()) else { return };
        effect.places().for_each(|place| lane.backlog.moved(place));
        if let Some((place, due)) = put
            && lane.held(id.event).is_none_or(|held| held.place != Some(place))
        {
            lane.stored(key, place, due, now);
        }
        if self.finds.get(&id).is_some_and(|find| !find.asked)
            && !self.is_moving(id)
            && let Some(find) = self.finds.get_mut(&id)
        {
            find.asked = true;
            self.out.actions.push_back(Action::Find(id));
        }
        self.settle(id.endpoint, now);
    }
}
