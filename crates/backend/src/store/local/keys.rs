//! The keys of rows. Numbers are big-endian, so that the order of bytes is the order of numbers.
//!
//! | row | key |
//! |---|---|
//! | event | `e` tenant event chunk |
//! | attempt, end (n = [`END`]) | `a` tenant endpoint event n |
//! | dead letter | `d` tenant event endpoint |
//! | event's given id | `n` tenant id |
//! | claim | `i` tenant key |
//! | job | `j` tenant job |
//! | job's tenant | `o` job |
//! | object | kind tenant id |
//! | backlog | partition endpoint order event |
//!
//! A tenant is its length and its text, so no tenant's keys can begin with another's.

use postrider_core::delivery::Place;
use postrider_core::id::{DeliveryId, EndpointId, Uid};
use postrider_core::partition::Partition;

use crate::store::{ObjectKind, StoreError};

/// The `n` of an end: behind all attempts.
pub(super) const END: u32 = u32::MAX;

/// Bytes that suffice for most keys.
const TYPICAL: usize = 64;

/// The rows of one sort and tenant.
pub(super) const EVENT: u8 = b'e';
pub(super) const ATTEMPT: u8 = b'a';
pub(super) const DEAD: u8 = b'd';
pub(super) const JOB: u8 = b'j';
const OWNER: u8 = b'o';
const NAME: u8 = b'n';
const CLAIM: u8 = b'i';

/// A key under construction. Reused from row to row, so that building one allocates nothing.
#[derive(Default)]
pub(super) struct Key(Vec<u8>);

impl Key {
    /// The beginning that all rows of one sort and tenant share.
    pub(super) fn scope(tag: u8, tenant: &str) -> Key {
        let mut key = Key(Vec::with_capacity(TYPICAL));
        key.start(tag, tenant);
        key
    }

    /// Where the name of a job's tenant lies.
    pub(super) fn owner(job: Uid) -> Key {
        let mut key = Key(vec![OWNER]);
        key.uid(job);
        key
    }

    fn start(&mut self, tag: u8, tenant: &str) {
        self.0.clear();
        self.0.push(tag);
        self.0.push(u8::try_from(tenant.len()).expect("names of tenants are checked at the store's door"));
        self.0.extend_from_slice(tenant.as_bytes());
    }

    fn uid(&mut self, uid: Uid) -> &mut Key {
        self.0.extend_from_slice(&uid.0.to_be_bytes());
        self
    }

    fn number(&mut self, n: u32) -> &mut Key {
        self.0.extend_from_slice(&n.to_be_bytes());
        self
    }

    /// This key with a uid behind it.
    pub(super) fn with(&self, uid: Uid) -> Key {
        let mut key = Key(Vec::with_capacity(self.0.len() + 36));
        key.0.extend_from_slice(&self.0);
        key.uid(uid);
        key
    }

    /// This key with a number behind it.
    pub(super) fn numbered(mut self, n: u32) -> Key {
        self.number(n);
        self
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    pub(super) fn set_event(&mut self, tenant: &str, event: Uid, chunk: u32) -> &[u8] {
        self.start(EVENT, tenant);
        &self.uid(event).number(chunk).0
    }

    pub(super) fn set_attempt(&mut self, tenant: &str, id: DeliveryId, n: u32) -> &[u8] {
        self.start(ATTEMPT, tenant);
        &self.uid(id.endpoint.0).uid(id.event).number(n).0
    }

    pub(super) fn set_dead(&mut self, tenant: &str, id: DeliveryId) -> &[u8] {
        self.start(DEAD, tenant);
        &self.uid(id.event).uid(id.endpoint.0).0
    }
}

/// The key of an idempotency key.
pub(super) fn claim(tenant: &str, text: &str) -> Vec<u8> {
    named(CLAIM, tenant, text)
}

/// The key of an event by the id that its sender gave.
pub(super) fn name(tenant: &str, given_id: &str) -> Vec<u8> {
    named(NAME, tenant, given_id)
}

fn named(tag: u8, tenant: &str, text: &str) -> Vec<u8> {
    let mut key = Key::scope(tag, tenant).0;
    key.extend_from_slice(text.as_bytes());
    key
}

/// The key of a configuration object, or with an empty `id` the beginning that all of one sort and tenant share.
pub(super) fn object(kind: ObjectKind, tenant: &str, id: &str) -> Vec<u8> {
    let tag = match kind {
        ObjectKind::Endpoint => b'e',
        ObjectKind::Callback => b'c',
        ObjectKind::SigningSecret => b's',
        ObjectKind::Tenant => b't',
        ObjectKind::ApiKey => b'k',
        ObjectKind::EventType => b'y',
        ObjectKind::Usage => b'u',
    };
    let mut key = Key::scope(tag, tenant).0;
    key.extend_from_slice(id.as_bytes());
    key
}

/// The beginning of the backlog of an endpoint.
pub(super) fn lane(partition: Partition, endpoint: EndpointId) -> Vec<u8> {
    let mut key = Vec::with_capacity(TYPICAL);
    key.extend_from_slice(&partition.0.to_be_bytes());
    key.extend_from_slice(&endpoint.0.0.to_be_bytes());
    key
}

/// The key of a row in the backlog.
pub(super) fn backlog(partition: Partition, endpoint: EndpointId, place: Place) -> Vec<u8> {
    let mut key = lane(partition, endpoint);
    key.extend_from_slice(&place.order.to_be_bytes());
    key.extend_from_slice(&place.event.0.to_be_bytes());
    key
}

/// Reads the uid that ends `behind` bytes before the end of `key`.
pub(super) fn uid(key: &[u8], behind: usize) -> Result<Uid, StoreError> {
    let rest = key.len().checked_sub(behind).map(|end| &key[..end]);
    match rest.and_then(<[u8]>::last_chunk) {
        Some(bytes) => Ok(Uid(u128::from_be_bytes(*bytes))),
        None => Err(StoreError::Damaged(format!("a key of {} bytes is too short", key.len()))),
    }
}

/// Reads the number at the end of `key`.
pub(super) fn number(key: &[u8]) -> Result<u32, StoreError> {
    match key.last_chunk() {
        Some(bytes) => Ok(u32::from_be_bytes(*bytes)),
        None => Err(StoreError::Damaged(format!("a key of {} bytes is too short", key.len()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_tenants_rows_begin_with_another_tenants_scope() {
        let scopes = ["", "a", "ab", "a\u{1}", "b"].map(|tenant| Key::scope(EVENT, tenant));
        for (i, scope) in scopes.iter().enumerate() {
            for (k, other) in scopes.iter().enumerate() {
                let row = scope.with(Uid(u128::MAX)).numbered(0);
                assert_eq!(row.bytes().starts_with(other.bytes()), i == k);
            }
        }
    }

    #[test]
    fn a_key_gives_back_its_parts() {
        let id = DeliveryId { event: Uid(7), endpoint: EndpointId(Uid(9)) };
        let mut key = Key::default();
        let bytes = key.set_attempt("t", id, 3);
        assert_eq!((uid(bytes, 4), uid(bytes, 20), number(bytes)), (Ok(id.event), Ok(id.endpoint.0), Ok(3)));
        assert!(uid(b"short", 4).is_err() && number(b"no").is_err());
    }

    #[test]
    fn the_backlog_is_ordered_by_place() {
        let (partition, endpoint) = (Partition(1), EndpointId(Uid(1)));
        let key = |order, event| backlog(partition, endpoint, Place { order, event: Uid(event) });
        assert!(key(1, 300) < key(2, 5) && key(255, 0) < key(256, 0) && key(7, 1) < key(7, 2));
        assert!(key(u64::MAX, u128::MAX) < lane(partition, EndpointId(Uid(2))));
    }
}
