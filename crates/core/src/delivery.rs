//! A delivery as the shard moves it, and its place in the backlog.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::id::{DeliveryId, Uid};
use crate::time::Time;

/// One event on its way to one endpoint, with the bytes it was read from.
///
/// The same value lies in memory and in the backlog. Cloning shares the bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    /// Its id.
    pub id: DeliveryId,
    /// Hash of its ordering key, where it has one.
    pub key: Option<u64>,
    /// When it was queued; counts towards giving it up unsent.
    pub since: Time,
    /// Attempts made in all, earlier runs of a replay included.
    pub attempts: u32,
    /// Attempts failed on the present schedule.
    pub failed: u32,
    /// The record's encoded [`crate::record::Envelope`].
    pub meta: Bytes,
    /// The body that receivers get.
    pub payload: Bytes,
}

/// Where a row lies in the backlog of its endpoint: ascending order is the order of reading.
///
/// `order` is the due time in milliseconds or, for endpoints with ordering, a number that grows with arrival.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Place {
    /// Position in the lane.
    pub order: u64,
    /// Tells rows of one position apart.
    pub event: Uid,
}

impl Place {
    /// Behind all rows.
    pub(crate) const LAST: Place = Place { order: u64::MAX, event: Uid(u128::MAX) };
}

/// A row of the backlog.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backlogged {
    /// Where it lies.
    pub place: Place,
    /// When it may be sent.
    pub due: Time,
    /// What is to be sent.
    pub delivery: Delivery,
}
