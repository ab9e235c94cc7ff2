//! What a worker asks the store and the directory on behalf of its shards; the answers are inputs.

use std::time::Duration;

use postrider_backend::directory::Directory;
use postrider_backend::store::{Lane, Store};
use postrider_core::delivery::Place;
use postrider_core::endpoint::{Endpoint, Status};
use postrider_core::id::{DeliveryId, EndpointId};
use postrider_core::partition::Partition;
use postrider_core::record::Envelope;
use postrider_core::shard::Input;

use crate::targets::{policy_of, resolve};
use postrider_backend::log::Tenure;

/// Before a question that failed is asked again.
const AGAIN: Duration = Duration::from_millis(200);

/// An answer for the shard of a tenure.
pub(crate) type Answered = (Tenure, Input);

/// The heads of a partition's backlogs, however long it takes.
pub(crate) async fn lanes(store: Store, partition: Partition) -> Vec<Lane> {
    loop {
        match store.lanes(partition).await {
            Ok(lanes) => return lanes,
            Err(error) => tracing::warn!(%error, partition = partition.0, "backlogs can't be read; trying again"),
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// The part of a lane's backlog that is wanted.
#[derive(Clone, Copy)]
pub(crate) struct Stretch {
    pub(crate) from: Place,
    /// The lane has no row before it.
    pub(crate) low: Place,
    pub(crate) limit: usize,
}

/// A page of a lane's backlog. The store hears of `stretch.low` at once, before anything else is written.
pub(crate) fn load(
    store: &Store,
    tenure: Tenure,
    endpoint: EndpointId,
    stretch: &Stretch,
) -> impl Future<Output = Option<Answered>> + use<> {
    let rows = store.load(tenure.partition, endpoint, stretch.from, stretch.low, None, stretch.limit);
    async move {
        match rows.await {
            Ok(rows) => Some((tenure, Input::Loaded { endpoint, rows })),
            Err(error) => {
                tracing::warn!(%error, %endpoint, "a backlog can't be read; trying again");
                Some((tenure, Input::LoadFailed { endpoint }))
            }
        }
    }
}

/// One row of a lane's backlog, however long it takes.
pub(crate) async fn find(store: Store, tenure: Tenure, id: DeliveryId) -> Option<Answered> {
    loop {
        match store.find(tenure.partition, id.endpoint, id.event).await {
            Ok(row) => return Some((tenure, Input::Found { id, row })),
            Err(error) => tracing::warn!(%error, delivery = %id, "a delivery can't be searched; trying again"),
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// An endpoint's policy, however long it takes.
pub(crate) async fn policy(directory: Directory, tenure: Tenure, known: Known) -> Option<Answered> {
    let endpoint = known.endpoint;
    loop {
        match resolve(&directory, &known.tenant, endpoint, known.url.as_deref()).await {
            Ok(found) => return Some((tenure, Input::Endpoint { endpoint, policy: policy_of(found.as_deref()) })),
            Err(error) => tracing::warn!(%error, %endpoint, "an endpoint can't be looked up; trying again"),
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// Disables an endpoint whose receiver said it is gone, however long it takes. The change comes back through the directory.
pub(crate) async fn disable(directory: Directory, known: Known) -> Option<Answered> {
    if known.url.is_some() {
        return None; // it exists for single events only; there is nothing to disable
    }
    let gone = |endpoint: &mut Endpoint| endpoint.status = Status::Disabled { reason: "the receiver answered 410 Gone".to_owned() };
    while let Err(error) = directory.update_endpoint(&known.tenant, known.endpoint, gone).await {
        tracing::warn!(%error, endpoint = %known.endpoint, "an endpoint can't be disabled; trying again");
        tokio::time::sleep(AGAIN).await;
    }
    None
}

/// What must be known of an endpoint to look it up.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) endpoint: EndpointId,
    pub(crate) tenant: String,
    pub(crate) url: Option<String>,
}

impl Known {
    /// From the envelope of one of its deliveries.
    pub(crate) fn from_meta(meta: &[u8]) -> Option<Known> {
        let envelope = Envelope::decode(meta).ok()?;
        Some(Known { endpoint: envelope.endpoint, tenant: envelope.tenant.to_owned(), url: envelope.url.map(str::to_owned) })
    }
}
