//! Events' rows, as they come out of records.

use std::sync::Arc;

use postrider_backend::store::{Body, EventRow, EventWrite, Target};
use postrider_core::record::{self, Envelope, EventEnvelope};

/// The chunk of an event's row that a record of `deliveries` carries.
pub(crate) fn of_delivery(envelope: &Envelope<'_>, row: &record::EventRow<'_>, tenant: Arc<str>, body: Body) -> EventWrite {
    let target = |target: &record::Target<'_>| Target { endpoint: target.endpoint, url: target.url.map(str::to_owned) };
    let chunk = row.chunk;
    let row = EventRow {
        given_id: row.given_id.map(str::to_owned),
        kind: envelope.kind.to_owned(),
        metadata: row.metadata.map(str::to_owned),
        targets: row.targets.iter().map(target).collect(),
        key: envelope.key.map(str::to_owned),
        correlation_id: envelope.correlation_id.map(str::to_owned),
        body,
    };
    EventWrite { tenant, event: envelope.event, chunk, row }
}

/// The row of an event that goes to nobody.
pub(crate) fn of_nobody(event: &EventEnvelope<'_>, body: Body) -> EventWrite {
    let row = EventRow {
        given_id: event.given_id.map(str::to_owned),
        kind: event.kind.to_owned(),
        metadata: event.metadata.map(str::to_owned),
        targets: Vec::new(),
        key: event.key.map(str::to_owned),
        correlation_id: event.correlation_id.map(str::to_owned),
        body,
    };
    EventWrite { tenant: event.tenant.into(), event: event.event, chunk: 0, row }
}
