//! What a lane knows of its rows in the store: from where to read on, and when.

use std::collections::BTreeMap;

use crate::delivery::Place;
use crate::id::Uid;
use crate::time::{Millis, Time};

/// Ordering keys whose oldest delivery waits for a retry; beyond them the lane stands still until one is due.
const MAX_BLOCKED: usize = 256;
/// Between two looks for expired rows of an endpoint that is held up.
const SWEEP_EVERY: Millis = Millis::from_secs(3600);
/// Before a load that failed is tried again.
const LOAD_AGAIN: Millis = Millis(100);

/// The durable part of a lane.
///
/// Invariant: every row of the lane that is neither in memory nor on its way to or from the store lies at or
/// behind `from`, or belongs to a blocked key; and if there is one, `next` says when to look.
#[derive(Debug, Default)]
pub(crate) struct Backlog {
    from: Place,
    next: Option<Time>,
    /// Before when no load begins, because one has failed.
    load_after: Time,
    load: Option<Load>,
    /// Rows with writes under way, which a load might see as they were before.
    moving: BTreeMap<Place, Moving>,
    /// Keys of an ordered lane whose oldest delivery lies here, not yet due.
    blocked: BTreeMap<u64, Blocked>,
    sweep_at: Option<Time>,
}

/// A load under way, and the rows that were stored meanwhile.
#[derive(Debug)]
struct Load {
    limit: usize,
    stored: Option<(Place, Time)>,
}

/// Writes under way that concern one row.
#[derive(Debug, Default)]
struct Moving {
    writes: u32,
    /// The ordering key of the row that comes, if the last write brings one.
    comes: Option<u64>,
}

#[derive(Clone, Copy, Debug)]
struct Blocked {
    until: Time,
    place: Place,
}

/// Where a load stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// At this row, which can't be taken before the given time.
    At(Place, Time),
    /// Behind this row; there may be more.
    Behind(Place),
    /// There are no more rows.
    End,
}

impl Backlog {
    /// Whether the store holds nothing of this lane, as far as is known.
    pub(crate) fn is_empty(&self) -> bool {
        self.next.is_none() && self.load.is_none() && self.moving.is_empty() && self.blocked.is_empty()
    }

    /// Whether a new delivery would overtake rows that might go now, or that are on their way into the store.
    pub(crate) fn is_ahead(&self, now: Time) -> bool {
        self.load.is_some() || self.next.is_some_and(|next| next <= now) || self.moving.values().any(|moving| moving.writes > 0)
    }

    /// Whether another delivery of `key` waits here for its retry; then the row at `place` is read again with it.
    pub(crate) fn waits_behind(&mut self, key: u64, place: Place) -> bool {
        let blocked = self.blocked.get_mut(&key);
        blocked.map(|blocked| blocked.place = blocked.place.min(place)).is_some()
    }

    /// Whether a delivery of `key` that is new here would overtake older ones of its key that wait here.
    pub(crate) fn holds_up(&self, key: u64) -> bool {
        self.blocked.contains_key(&key) || self.blocked.len() >= MAX_BLOCKED
    }

    /// Whether a row that a load has found might not be what the store holds by now.
    pub(crate) fn is_moving(&self, place: Place) -> bool {
        self.moving.contains_key(&place)
    }

    /// The events of `key` whose rows are on their way to before `place`.
    pub(crate) fn coming_before(&self, place: Place, key: u64) -> impl Iterator<Item = Uid> + '_ {
        self.moving.range(..place).filter(move |(_, moving)| moving.comes == Some(key)).map(|(place, _)| place.event)
    }

    /// Whether a row of this event is on its way, so that the store does not tell the truth about it.
    pub(crate) fn moves(&self, event: Uid) -> bool {
        self.moving.iter().any(|(place, moving)| place.event == event && moving.writes > 0)
    }

    /// When to look at the store again, unless a load is under way.
    pub(crate) fn next(&self) -> Option<Time> {
        if self.load.is_some() { None } else { self.next.map(|next| next.max(self.load_after)) }
    }

    /// Notes a row that lies in the store and not in memory.
    pub(crate) fn note(&mut self, place: Place, due: Time) {
        // Where nothing was stored there is no low water to keep: reading starts at the row itself.
        self.from = if self.next.is_none() && self.load.is_none() { place } else { self.from.min(place) };
        self.next = Some(self.next.map_or(due, |next| next.min(due)));
        if let Some(load) = &mut self.load {
            load.stored = Some(load.stored.map_or((place, due), |(p, d)| (p.min(place), d.min(due))));
        }
    }

    /// Notes a row that was stored; one of a blocked key is read when the key is free.
    pub(crate) fn stored(&mut self, key: u64, place: Place, due: Time) {
        if self.blocked.get(&key).is_some_and(|blocked| blocked.place == place) {
            self.block(key, place, due);
        } else if !self.waits_behind(key, place) {
            self.note(place, due);
        }
    }

    /// Blocks a key until its oldest delivery, stored at `place`, is due. False when too many keys are blocked.
    pub(crate) fn block(&mut self, key: u64, place: Place, until: Time) -> bool {
        if self.blocked.len() >= MAX_BLOCKED && !self.blocked.contains_key(&key) {
            return false;
        }
        let blocked = self.blocked.entry(key).or_insert(Blocked { until, place });
        *blocked = Blocked { until: blocked.until.min(until), place: blocked.place.min(place) };
        self.next = Some(self.next.map_or(until, |next| next.min(until)));
        true
    }

    /// Releases the keys whose time has come; their rows are read again from the oldest on.
    fn unblock(&mut self, now: Time) {
        let from = &mut self.from;
        self.blocked.retain(|_, blocked| {
            let stays = blocked.until > now;
            if !stays {
                *from = (*from).min(blocked.place);
            }
            stays
        });
    }

    /// Forgets what is known of due times and keys: all rows are looked at again, from the first.
    pub(crate) fn rescan(&mut self, now: Time) {
        if !self.is_empty() {
            self.blocked.clear();
            self.note(Place::default(), now);
        }
    }

    /// Begins a load of `limit` rows; returns from where.
    pub(crate) fn begin_load(&mut self, limit: usize, now: Time) -> Place {
        self.unblock(now);
        self.load = Some(Load { limit, stored: None });
        self.from
    }

    /// The first place of a row that is not in memory: one still to be read, one of a blocked key, or one that comes or goes.
    pub(crate) fn low_water(&self) -> Place {
        let blocked = self.blocked.values().map(|blocked| blocked.place);
        let moving = self.moving.first_key_value().map(|(place, _)| *place);
        blocked.chain(moving).fold(self.from, Place::min)
    }

    /// How many rows the load under way has asked for.
    pub(crate) fn load_limit(&self) -> Option<usize> {
        self.load.as_ref().map(|load| load.limit)
    }

    /// Whether a row before `place` came into the store while the load was under way, so that it may have missed that row.
    pub(crate) fn missed_before(&self, place: Place) -> bool {
        self.load.as_ref().and_then(|load| load.stored).is_some_and(|(stored, _)| stored < place)
    }

    /// Ends a load that went as far as `stop`.
    pub(crate) fn end_load(&mut self, stop: Stop, now: Time) {
        let blocked = self.blocked.values().map(|b| b.until).min();
        (self.from, self.next) = match stop {
            Stop::At(place, due) => (place, Some(blocked.map_or(due, |b| b.min(due)))),
            Stop::Behind(place) => (Place { order: place.order, event: Uid(place.event.0.saturating_add(1)) }, Some(now)),
            Stop::End => (Place::LAST, blocked),
        };
        let stored = self.load.take().and_then(|load| load.stored);
        self.moving.retain(|_, moving| moving.writes > 0);
        if let Some((place, due)) = stored {
            self.note(place, due);
        }
    }

    /// Puts off a load that failed. What it was to read is due all the same: nothing new may overtake it.
    pub(crate) fn load_later(&mut self, now: Time) {
        let stored = self.load.take().and_then(|load| load.stored);
        self.next = Some(now);
        self.load_after = now + LOAD_AGAIN;
        self.moving.retain(|_, moving| moving.writes > 0);
        if let Some((place, _)) = stored {
            self.from = self.from.min(place);
        }
    }

    /// Notes a write that removes the row at `place`.
    pub(crate) fn goes(&mut self, place: Place) {
        let moving = self.moving.entry(place).or_default();
        moving.writes += 1;
        moving.comes = None;
    }

    /// Notes a write that brings a row of `key` to `place`.
    pub(crate) fn comes(&mut self, place: Place, key: u64) {
        let moving = self.moving.entry(place).or_default();
        moving.writes += 1;
        moving.comes = Some(key);
    }

    /// Notes that such a write is durable.
    pub(crate) fn moved(&mut self, place: Place) {
        let Some(moving) = self.moving.get_mut(&place) else { return };
        moving.writes -= 1;
        if moving.writes == 0 && self.load.is_none() {
            self.moving.remove(&place);
        }
    }

    /// When rows of an endpoint that is held up are looked through for expired ones.
    pub(crate) fn sweep_at(&mut self, now: Time) -> Option<Time> {
        if self.next.is_none() || self.load.is_some() {
            return None;
        }
        Some(*self.sweep_at.get_or_insert(now + SWEEP_EVERY))
    }

    /// Notes that a look through expired rows is over until the next hour, or goes on at once.
    pub(crate) fn swept(&mut self, more: bool, now: Time) {
        self.sweep_at = Some(if more { now } else { now + SWEEP_EVERY });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(order: u64) -> Place {
        Place { order, event: Uid(0) }
    }

    #[test]
    fn a_row_stored_during_a_load_is_read_afterwards() {
        let mut backlog = Backlog::default();
        backlog.note(place(10), Time(10));
        assert_eq!(backlog.begin_load(8, Time(20)), place(10));
        backlog.note(place(5), Time(5));
        backlog.end_load(Stop::End, Time(20));
        assert_eq!((backlog.from, backlog.next()), (place(5), Some(Time(5))));
    }

    #[test]
    fn a_row_under_way_is_known_until_no_load_can_see_it() {
        let mut backlog = Backlog::default();
        backlog.goes(place(1));
        backlog.begin_load(8, Time(0));
        backlog.moved(place(1));
        assert!(backlog.is_moving(place(1)), "the load may have read the row before it went");
        backlog.end_load(Stop::End, Time(0));
        assert!(!backlog.is_moving(place(1)) && backlog.is_empty());
    }

    #[test]
    fn a_blocked_key_is_read_again_from_its_oldest_row() {
        let mut backlog = Backlog::default();
        backlog.note(place(3), Time(0));
        backlog.begin_load(8, Time(0));
        assert!(backlog.block(7, place(3), Time(100)));
        backlog.end_load(Stop::End, Time(0));
        assert_eq!(backlog.next(), Some(Time(100)));
        backlog.note(place(50), Time(60));
        assert_eq!(backlog.begin_load(8, Time(100)), place(3));
        assert!(!backlog.holds_up(7));
    }

    #[test]
    fn a_key_is_read_again_from_its_oldest_row_although_a_younger_one_failed_too() {
        let mut backlog = Backlog::default();
        backlog.note(place(3), Time(0));
        backlog.begin_load(8, Time(0));
        assert!(backlog.block(7, place(3), Time(100)));
        backlog.end_load(Stop::Behind(place(9)), Time(0));
        assert!(backlog.block(7, place(5), Time(50)));
        assert_eq!(backlog.begin_load(8, Time(50)), place(3));
    }

    #[test]
    fn low_water_lies_before_what_comes_and_goes_and_what_is_blocked() {
        let mut backlog = Backlog::default();
        backlog.note(place(9), Time(0));
        backlog.begin_load(8, Time(0));
        backlog.end_load(Stop::End, Time(0));
        assert_eq!(backlog.low_water(), Place::LAST, "all rows were read");
        assert!(backlog.block(7, place(6), Time(100)));
        assert_eq!(backlog.low_water(), place(6));
        backlog.comes(place(4), 1);
        backlog.goes(place(3));
        assert_eq!(backlog.low_water(), place(3));
        backlog.moved(place(3));
        assert_eq!(backlog.low_water(), place(4));
    }

    #[test]
    fn beyond_the_most_blocked_keys_every_new_delivery_is_held_up() {
        let mut backlog = Backlog::default();
        for key in 0..MAX_BLOCKED as u64 {
            assert!(!backlog.holds_up(key) && backlog.block(key, place(key), Time(100)));
        }
        assert!(!backlog.block(999, place(999), Time(100)) && !backlog.waits_behind(999, place(999)));
        assert!(backlog.holds_up(999), "its oldest delivery may lie in the store unseen");
    }
}
