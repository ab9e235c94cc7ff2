//! Which partition of a table a row lies in. What is written here is on disk: it must never change.

use std::ops::RangeInclusive;

use bytes::Bytes;
use postrider_core::id::{EndpointId, Uid};
use postrider_core::partition;
use postrider_core::time::{Millis, Time};

use crate::store::StoreError;

/// Partitions that the events of one tenant and hour are spread over.
pub(super) const EVENT_SHARDS: i32 = 4;
/// Partitions that the attempts of one hour are spread over, unless the keyspace was made with another number.
pub(super) const VIRTUAL_SHARDS: i32 = 16;
/// Partitions that a tenant's objects of one kind are spread over: transactions on one partition wait for each other.
pub(super) const OBJECT_SHARDS: i32 = 16;
/// The number of an end among the attempts of a delivery: behind all.
pub(super) const END: i64 = u32::MAX as i64;

const HOUR: Millis = Millis::from_secs(3600);
const HOURS_OF_A_DAY: i32 = 24;

/// The hour of an instant, counted from the Unix epoch.
pub(super) fn hour(at: Time) -> i32 {
    i32::try_from(at.0 / HOUR.0).unwrap_or(i32::MAX)
}

/// The hours of a range of instants.
pub(super) fn hours(times: &RangeInclusive<Time>) -> RangeInclusive<i32> {
    hour(*times.start())..=hour(*times.end())
}

/// The first id of an hour.
pub(super) fn first_of(hour: i32) -> Uid {
    Uid::first_at(Time(u64::from(hour.unsigned_abs()) * HOUR.0))
}

/// The day of an hour, counted from the Unix epoch.
pub(super) fn day(hour: i32) -> i32 {
    hour / HOURS_OF_A_DAY
}

/// The first hour of a day.
pub(super) fn first_hour(day: i32) -> i32 {
    day.saturating_mul(HOURS_OF_A_DAY)
}

/// The shard of an event within its tenant and hour.
pub(super) fn event_shard(event: Uid) -> i32 {
    spread(event, EVENT_SHARDS)
}

/// The virtual shard of an endpoint.
pub(super) fn virtual_shard(endpoint: EndpointId, shards: i32) -> i32 {
    spread(endpoint.0, shards)
}

/// The shard of an object.
pub(super) fn object_shard(id: &str) -> i32 {
    i32::from(partition::of_key(id.as_bytes(), OBJECT_SHARDS as u16).0)
}

/// Spreads ids evenly, although those of one millisecond differ in few bits.
fn spread(uid: Uid, shards: i32) -> i32 {
    let mut mixed = (uid.0 as u64) ^ ((uid.0 >> 64) as u64).rotate_left(32);
    // The finalizer of SplitMix64 (public domain): every bit of the input moves every bit of the output.
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^= mixed >> 31;
    let shards = u64::from(shards.unsigned_abs().max(1));
    i32::try_from(mixed % shards).expect("smaller than the number of shards")
}

/// An id as a column: big-endian, so that the order of bytes is the order of numbers.
pub(super) fn blob(uid: Uid) -> [u8; 16] {
    uid.0.to_be_bytes()
}

/// Reads an id from a column.
pub(super) fn uid(column: &Bytes) -> Result<Uid, StoreError> {
    match <[u8; 16]>::try_from(column.as_ref()) {
        Ok(bytes) => Ok(Uid(u128::from_be_bytes(bytes))),
        Err(_) => Err(StoreError::Damaged(format!("an id of {} bytes", column.len()))),
    }
}

/// A number of the backlog's order as a column.
pub(super) fn order(order: u64) -> Result<i64, StoreError> {
    i64::try_from(order).map_err(|_| StoreError::Damaged(format!("a place in the backlog with the order {order}, beyond {}", i64::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_alone_names_its_hour() {
        let noon = Time(20_000 * 86_400_000 + 12 * 3_600_000);
        let uid = Uid::new(noon + Millis(3_599_999), 5, 77);
        assert_eq!((hour(uid.time()), day(hour(uid.time()))), (480_012, 20_000));
        assert_eq!(first_of(480_012), Uid::first_at(noon));
        assert!(first_of(480_012) <= uid && uid < first_of(480_013));
        assert_eq!(first_hour(20_000), 480_000);
        assert_eq!(hours(&(Time(0)..=Uid(u128::MAX).time())), 0..=78_187_493);
    }

    #[test]
    fn rows_are_spread_evenly_and_always_the_same() {
        let mut events = [0; EVENT_SHARDS as usize];
        let mut endpoints = [0; VIRTUAL_SHARDS as usize];
        for n in 0..16_000 {
            let uid = Uid::new(Time(1_700_000_000_000 + n / 100), (n % 100) as u16, 4 * n);
            events[event_shard(uid) as usize] += 1;
            endpoints[virtual_shard(EndpointId(uid), VIRTUAL_SHARDS) as usize] += 1;
        }
        assert!(events.iter().all(|n| (3_800..4_200).contains(n)), "{events:?}");
        assert!(endpoints.iter().all(|n| (850..1_150).contains(n)), "{endpoints:?}");
        let known = [0_u128, 1, 0x0190_0000_0000_7000_8000_0000_0000_0001].map(|n| spread(Uid(n), 16));
        assert_eq!(known, [0, 5, 12], "rows on disk would not be found any more");
        assert_eq!(["", "signing", "ep_01"].map(object_shard), [9, 14, 8], "rows on disk would not be found any more");
    }

    #[test]
    fn ids_survive_their_column_and_keep_their_order() {
        let (small, large) = (Uid(255), Uid(256));
        assert!(blob(small) < blob(large));
        assert_eq!(uid(&Bytes::copy_from_slice(&blob(large))), Ok(large));
        assert!(uid(&Bytes::from_static(b"short")).is_err());
        assert!(order(i64::MAX as u64).is_ok() && order(u64::MAX).is_err());
    }
}
