//! What the pieces work on.

use bytes::Bytes;
use postrider_core::id::{DeliveryId, EndpointId, Uid};
use postrider_core::record::{Command, Envelope, EventRow, Target};
use postrider_core::time::Time;
use postrider_core::trace::Trace;

/// When everything here happens.
pub(crate) const NOW: Time = Time(1_760_000_000_000);
/// The tenant of all of it.
pub(crate) const TENANT: &str = "default";
/// The type of its events.
pub(crate) const KIND: &str = "order.created";

/// Ids that are all different, in the order in which a server makes them.
#[derive(Default)]
pub(crate) struct Ids(u64);

impl Ids {
    pub(crate) fn next(&mut self) -> Uid {
        self.0 += 1;
        Uid::new(Time(NOW.0 + (self.0 >> 12)), (self.0 & 0xFFF) as u16, self.0)
    }
}

/// Endpoint number `number`.
pub(crate) fn endpoint(number: u64) -> EndpointId {
    EndpointId(Uid::new(NOW, 0, number))
}

/// The envelope of `event` on its way to `endpoint`, with the event's row, as a submission makes it.
pub(crate) fn envelope(event: Uid, endpoint: EndpointId) -> Envelope<'static> {
    let row = EventRow { given_id: None, metadata: None, chunk: 0, targets: vec![Target { endpoint, url: None }] };
    Envelope {
        command: Command::Deliver,
        tenant: TENANT,
        event,
        endpoint,
        kind: KIND,
        key: None,
        url: None,
        correlation_id: None,
        trace: Trace::read("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", None),
        attempts: 0,
        row: Some(row),
    }
}

/// A delivery's id.
pub(crate) fn delivery(event: Uid, endpoint: EndpointId) -> DeliveryId {
    DeliveryId { event, endpoint }
}

/// JSON of `bytes` bytes.
pub(crate) fn json(bytes: usize) -> Bytes {
    format!("{{\"pad\":\"{}\"}}", "x".repeat(bytes.saturating_sub(10))).into()
}
