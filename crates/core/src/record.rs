//! What lies on the `deliveries` and `events` topics: an envelope that is read first, and a payload that is never touched.

use serde::{Deserialize, Serialize};

use crate::id::{DeliveryId, EndpointId, JobId, Uid};
use crate::time::Time;
use crate::trace::Trace;

/// The newest envelope format this build writes; it reads this one and the one before.
const FORMAT: u8 = 1;

/// What a reader of `deliveries` must know before the payload. Small; borrowed from the record's bytes.
///
/// The payload is the body that receivers get: the JSON of the event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope<'a> {
    /// Deliver, try again now, or withdraw.
    pub command: Command,
    /// The tenant that owns event and endpoint.
    #[serde(borrow)]
    pub tenant: &'a str,
    /// The event.
    pub event: Uid,
    /// Where it goes.
    pub endpoint: EndpointId,
    /// The event's type.
    pub kind: &'a str,
    /// The event's ordering key.
    pub key: Option<&'a str>,
    /// The URL, where the endpoint is not registered but came with the event.
    pub url: Option<&'a str>,
    /// `X-Correlation-Id`.
    pub correlation_id: Option<&'a str>,
    /// The trace of the request that brought the event, where it had one or is recorded.
    pub trace: Option<Trace<'a>>,
    /// Attempts made before this record was written; more than none for a replay.
    pub attempts: u32,
    /// The event's row, carried by the first record of each chunk of a fan-out for the shard to write.
    pub row: Option<EventRow<'a>>,
}

/// What a record asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// Deliver; a repeat of a delivery that was seen is dropped.
    Deliver,
    /// Deliver again, although it was finished before.
    Replay,
    /// Make a waiting delivery due now.
    Retry,
    /// Withdraw a waiting delivery.
    Cancel,
}

/// One chunk of an event's row; chunk 0 stands for the event itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventRow<'a> {
    /// The id its sender chose, where one did.
    #[serde(borrow)]
    pub given_id: Option<&'a str>,
    /// The sender's metadata, as JSON.
    pub metadata: Option<&'a str>,
    /// Which chunk of the fan-out this is.
    pub chunk: u32,
    /// The endpoints of this chunk, with the URLs of those that are not registered.
    pub targets: Vec<Target<'a>>,
}

/// One endpoint of a fan-out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target<'a> {
    /// The endpoint.
    pub endpoint: EndpointId,
    /// Its URL, where it is not registered.
    #[serde(borrow)]
    pub url: Option<&'a str>,
}

/// What a reader of `events` must know before the payload of a record of ours, which is the body that receivers get.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventEnvelope<'a> {
    /// The tenant that owns the event.
    #[serde(borrow)]
    pub tenant: &'a str,
    /// The event.
    pub event: Uid,
    /// The id its sender chose, where one did.
    pub given_id: Option<&'a str>,
    /// Its type.
    pub kind: &'a str,
    /// Its ordering key.
    pub key: Option<&'a str>,
    /// `X-Correlation-Id`.
    pub correlation_id: Option<&'a str>,
    /// The trace of the request that brought it, where it had one or is recorded.
    pub trace: Option<Trace<'a>>,
    /// The sender's metadata, as JSON.
    pub metadata: Option<&'a str>,
    /// URLs it goes to beside the endpoints that match.
    pub urls: Vec<&'a str>,
}

/// What a reader of a topic of jobs must know before the payload, which is the job's input: JSON, or nothing where
/// it lies among the blobs. All else stands in the job's row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobEnvelope<'a> {
    /// The tenant that owns the job.
    pub tenant: &'a str,
    /// The job.
    pub job: JobId,
    /// From 0 to 9; higher ones go first.
    pub priority: u8,
    /// The blob that holds its input, where that is large.
    pub input: Option<&'a str>,
    /// The trace of the request that brought it, or its own.
    pub trace: Trace<'a>,
}

/// The record can't be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum RecordError {
    /// Written by a newer build.
    #[error("the record has format {found}, this build reads up to {FORMAT}; run a newer postrider on this node")]
    Newer {
        /// The record's format.
        found: u8,
    },
    /// Not an envelope.
    #[error("the record's envelope can't be read: {0}")]
    Malformed(String),
}

impl<'a> Envelope<'a> {
    /// The bytes that [`Envelope::decode`] reads.
    pub fn encode(&self) -> Vec<u8> {
        encode(self)
    }

    /// Reads an envelope of this build's format.
    pub fn decode(bytes: &'a [u8]) -> Result<Envelope<'a>, RecordError> {
        decode(bytes)
    }

    /// The delivery's id.
    pub fn id(&self) -> DeliveryId {
        DeliveryId { event: self.event, endpoint: self.endpoint }
    }

    /// What stands for the ordering key: its FNV-1a hash. Keys that share one wait for each other, which does no harm.
    pub fn order_key(&self) -> Option<u64> {
        let hash =
            |key: &str| key.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        self.key.map(hash)
    }

    /// When the event was accepted.
    pub fn accepted(&self) -> Time {
        self.event.time()
    }
}

impl<'a> EventEnvelope<'a> {
    /// The bytes that [`EventEnvelope::decode`] reads.
    pub fn encode(&self) -> Vec<u8> {
        encode(self)
    }

    /// Reads an envelope of this build's format.
    pub fn decode(bytes: &'a [u8]) -> Result<EventEnvelope<'a>, RecordError> {
        decode(bytes)
    }
}

impl<'a> JobEnvelope<'a> {
    /// The bytes that [`JobEnvelope::decode`] reads.
    pub fn encode(&self) -> Vec<u8> {
        encode(self)
    }

    /// Reads an envelope of this build's format.
    pub fn decode(bytes: &'a [u8]) -> Result<JobEnvelope<'a>, RecordError> {
        decode(bytes)
    }
}

/// A format number, then the fields.
fn encode(fields: &impl Serialize) -> Vec<u8> {
    postcard::to_extend(fields, vec![FORMAT]).expect("an envelope of strings and numbers always encodes")
}

fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, RecordError> {
    match bytes.split_first() {
        Some((&FORMAT, fields)) => postcard::from_bytes(fields).map_err(|e| RecordError::Malformed(e.to_string())),
        Some((&found, _)) if found > FORMAT => Err(RecordError::Newer { found }),
        Some((found, _)) => Err(RecordError::Malformed(format!("format {found} is unknown"))),
        None => Err(RecordError::Malformed("it is empty".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_envelope_survives_its_bytes_and_a_newer_one_is_named() {
        let endpoint = EndpointId::of_url("default", "http://a/");
        let envelope = Envelope {
            command: Command::Deliver,
            tenant: "default",
            event: Uid::new(Time(5), 0, 0),
            endpoint,
            kind: "a.b",
            key: Some("k"),
            url: Some("http://a/"),
            correlation_id: None,
            trace: Trace::read("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", Some("a=1")),
            attempts: 0,
            row: Some(EventRow { given_id: None, metadata: Some("{}"), chunk: 0, targets: vec![Target { endpoint, url: None }] }),
        };
        let mut bytes = envelope.encode();
        assert_eq!(Envelope::decode(&bytes), Ok(envelope));
        bytes[0] = FORMAT + 1;
        assert_eq!(Envelope::decode(&bytes), Err(RecordError::Newer { found: FORMAT + 1 }));
        for cut in 0..bytes.len() {
            let _ = Envelope::decode(&bytes[..cut]); // must not panic, whatever is cut off
        }
    }
}
