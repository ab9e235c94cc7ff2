//! A record as Kafka carries it: the payload as value, our envelope in a header, and beside it what others read.

use std::borrow::Cow;
use std::panic::AssertUnwindSafe;

use bytes::Bytes;
use postrider_core::offsets::Offset;
use postrider_core::partition::Partition;
use postrider_core::record::{Envelope, EventEnvelope, JobEnvelope};
use postrider_core::time::Time;
use postrider_core::trace::Trace;
use rdkafka::Message;
use rdkafka::message::{BorrowedHeaders, BorrowedMessage, Header, Headers, OwnedHeaders};

use super::producer::Outgoing;
use crate::log::{Append, Failure, Foreign, Record, Topic};

/// The header that holds a record's meta; who has it was written by postrider.
const META: &str = "postrider";

/// `record` as it goes out to `topic`. A meta that can't be read, as a broken dead letter's, gives no key.
pub(super) fn dress<'a>(topic: &'a str, record: &'a Append) -> Outgoing<'a> {
    let mut headers = OwnedHeaders::new_with_capacity(8);
    // First, as its readers look for it from the front. A dead letter without meta is a record of others, given up as it was.
    if !record.meta.is_empty() || record.failure.is_none() {
        headers = headers.insert(header(META, &record.meta));
    }
    let (key, headers) = match record.topic {
        Topic::Deliveries | Topic::DeadLetters => match Envelope::decode(&record.meta) {
            Ok(envelope) => (Some(envelope.endpoint.to_string().into()), tell(headers, envelope.tenant, envelope.trace)),
            Err(_) => (None, headers),
        },
        Topic::Events | Topic::Source(_) => match EventEnvelope::decode(&record.meta) {
            Ok(event) => {
                let key = event.key.or(event.given_id).map_or_else(|| Cow::Owned(event.event.to_string()), Cow::Borrowed);
                (Some(key), tell(headers, event.tenant, event.trace))
            }
            Err(_) => (None, headers),
        },
        Topic::Jobs(_) | Topic::Outside(_) => match JobEnvelope::decode(&record.meta) {
            Ok(job) => (Some(job.job.to_string().into()), tell(headers, job.tenant, Some(job.trace))),
            Err(_) => (None, headers),
        },
        Topic::JobResults | Topic::Config | Topic::Live => (None, headers),
    };
    let mut headers = headers.insert(header("content-type", b"application/json"));
    if let Some(failure) = &record.failure {
        headers = explain(headers, failure);
    }
    let size = record.meta.len() + record.payload.len();
    Outgoing { topic, partition: record.partition, key, headers, payload: &record.payload, size }
}

/// A change of the configuration, or what is shown to followers, as it goes out.
pub(super) fn change<'a>(topic: &'a str, partition: Partition, key: &'a str, value: &'a [u8]) -> Outgoing<'a> {
    let headers = OwnedHeaders::new_with_capacity(1).insert(header("content-type", b"application/json"));
    Outgoing { topic, partition, key: Some(Cow::Borrowed(key)), headers, payload: value, size: key.len() + value.len() }
}

fn tell(headers: OwnedHeaders, tenant: &str, trace: Option<Trace<'_>>) -> OwnedHeaders {
    let headers = headers.insert(header("tenant", tenant.as_bytes()));
    let Some(Trace { parent, state }) = trace else { return headers };
    let headers = headers.insert(header("traceparent", &parent.header()));
    match state {
        Some(state) => headers.insert(header("tracestate", state.as_bytes())),
        None => headers,
    }
}

fn explain(headers: OwnedHeaders, failure: &Failure) -> OwnedHeaders {
    headers
        .insert(header("failure-topic", failure.topic.as_bytes()))
        .insert(header("failure-partition", failure.partition.0.to_string().as_bytes()))
        .insert(header("failure-offset", failure.offset.0.to_string().as_bytes()))
        .insert(header("failure-reason", failure.reason.as_bytes()))
}

fn header<'a>(key: &'a str, value: &'a [u8]) -> Header<'a, &'a [u8]> {
    Header { key, value: Some(value) }
}

/// What `pick` takes of the headers of `message`; nothing where one has a name that is not UTF-8, at which the binding panics.
fn headers<T: Default>(message: &BorrowedMessage<'_>, pick: impl Fn(&BorrowedHeaders) -> T) -> T {
    let picked = std::panic::catch_unwind(AssertUnwindSafe(|| message.headers().map(pick).unwrap_or_default()));
    picked.unwrap_or_else(|_| {
        tracing::warn!(partition = message.partition(), offset = message.offset(), "a header's name is not UTF-8; no header is read");
        T::default()
    })
}

fn value(header: &Header<'_, &[u8]>) -> Bytes {
    Bytes::copy_from_slice(header.value.unwrap_or_default())
}

/// The record that `message` is; `None` for a tombstone that others wrote.
pub(super) fn read(topic: Topic, partition: Partition, message: &BorrowedMessage<'_>, now: Time) -> Option<Record> {
    let offset = place(message);
    // -1 where the record was written without one.
    let at = message.timestamp().to_millis().and_then(|at| u64::try_from(at).ok()).map_or(now, Time);
    // Who writes to a source writes in the name of its tenant; an envelope would speak for any. A worker outside may send
    // back all headers that it got.
    let is_ours = !matches!(topic, Topic::Source(_) | Topic::JobResults);
    let envelope = |all: &BorrowedHeaders| all.iter().find(|header| header.key == META).map(|header| value(&header));
    let (meta, foreign) = match is_ours.then(|| headers(message, envelope)).flatten() {
        Some(meta) => (meta, None),
        None => {
            message.payload()?;
            let all = |all: &BorrowedHeaders| all.iter().map(|header| (header.key.to_owned(), value(&header))).collect();
            let foreign = Foreign { key: message.key().map(Bytes::copy_from_slice), headers: headers(message, all) };
            (Bytes::new(), Some(Box::new(foreign)))
        }
    };
    let payload = Bytes::copy_from_slice(message.payload().unwrap_or_default());
    Some(Record { topic, partition, offset, at, meta, payload, foreign })
}

/// The offset of `message`.
pub(super) fn place(message: &BorrowedMessage<'_>) -> Offset {
    Offset(u64::try_from(message.offset()).expect("a record that was written has an offset"))
}
