//! From an event to the records that carry it to its endpoints.

use bytes::Bytes;
use postrider_backend::log::{Append, Topic};
use postrider_core::id::EndpointId;
use postrider_core::partition;
use postrider_core::record::{Command, Envelope, EventEnvelope, EventRow, Target};

/// Most endpoints that the node which took the event routes to itself; larger fan-outs are the router's.
pub const DIRECT: usize = 16;
/// Endpoints of a fan-out that share one chunk of the event's row.
pub const CHUNK: usize = 256;

/// The endpoints an event goes to: those that match, then the URLs that came with it, each once.
pub(crate) fn targets<'a>(event: &EventEnvelope<'a>, matching: &[EndpointId]) -> Vec<Target<'a>> {
    let mut targets: Vec<Target<'a>> = matching.iter().map(|endpoint| Target { endpoint: *endpoint, url: None }).collect();
    for url in &event.urls {
        let endpoint = EndpointId::of_url(event.tenant, url);
        if targets.iter().all(|target| target.endpoint != endpoint) {
            targets.push(Target { endpoint, url: Some(url) });
        }
    }
    targets
}

/// One record of `deliveries` for each target, in order; the first of each chunk carries the event's row.
pub(crate) fn deliveries(event: &EventEnvelope<'_>, targets: &[Target<'_>], body: &Bytes, partitions: u16) -> Vec<Append> {
    let mut records = Vec::with_capacity(targets.len());
    for (number, chunk) in targets.chunks(CHUNK).enumerate() {
        let mut row = Some(EventRow {
            given_id: event.given_id,
            metadata: event.metadata,
            chunk: u32::try_from(number).expect("an event has fewer targets than memory holds"),
            targets: chunk.to_vec(),
        });
        records.extend(chunk.iter().map(|target| delivery(event, target, row.take(), body, partitions)));
    }
    records
}

/// One record of `deliveries` for each target of an event whose row is there.
pub(crate) fn repeats(event: &EventEnvelope<'_>, targets: &[Target<'_>], body: &Bytes, partitions: u16) -> Vec<Append> {
    targets.iter().map(|target| delivery(event, target, None, body, partitions)).collect()
}

fn delivery(event: &EventEnvelope<'_>, target: &Target<'_>, row: Option<EventRow<'_>>, body: &Bytes, partitions: u16) -> Append {
    let envelope = Envelope {
        command: Command::Deliver,
        tenant: event.tenant,
        event: event.event,
        endpoint: target.endpoint,
        kind: event.kind,
        key: event.key,
        url: target.url,
        correlation_id: event.correlation_id,
        trace: event.trace,
        attempts: 0,
        row,
    };
    Append {
        topic: Topic::Deliveries,
        partition: partition::of_endpoint(target.endpoint, partitions),
        meta: envelope.encode().into(),
        payload: body.clone(),
        failure: None,
    }
}

/// The record of `events` that leaves an event to the router.
pub(crate) fn event(event: &EventEnvelope<'_>, body: Bytes, partitions: u16) -> Append {
    let id = event.event.to_string();
    let key = event.key.or(event.given_id).unwrap_or(&id);
    let partition = partition::of_key(key.as_bytes(), partitions);
    Append { topic: Topic::Events, partition, meta: event.encode().into(), payload: body, failure: None }
}
