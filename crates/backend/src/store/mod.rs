//! Where deliveries leave their rows, wait in the backlog, and are looked up.
//!
//! Rows are written in batches and never read before they are written; events, attempts and ends lie in buckets of
//! time, so that retention drops whole buckets. Read [`Store`] and [`Write`] first.

mod codec;
pub mod local;
mod names;
mod page;
mod rows;
pub mod scylla;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use postrider_core::attempt::End;
use postrider_core::delivery::{Backlogged, Place};
use postrider_core::id::{DeliveryId, EndpointId, JobId, Uid};
use postrider_core::job::Job;
use postrider_core::partition::Partition;
use postrider_core::time::Time;
use tokio::sync::broadcast;

use crate::meters;

pub use rows::{
    Attempt, AttemptCursor, AttemptRow, Body, DeadLetter, DeadRow, DeliveryDetail, DeliveryFilter, DeliverySummary, EndRow, Event,
    EventFilter, EventRow, History, JobFilter, JobStatus, Page, Target, state_of,
};

/// Longest name of a tenant, in bytes.
pub const MAX_TENANT: usize = 255;
/// Longest idempotency key and object id, in bytes.
pub const MAX_KEY: usize = 1024;
/// Most items of one page; a larger `limit` is cut to it.
pub const MAX_PAGE: usize = 1000;

/// The store of one node or cluster. Cloning shares it.
#[derive(Clone)]
pub enum Store {
    /// On this machine's disk.
    Local(local::Store),
    /// In a cluster of ScyllaDB or Cassandra.
    Scylla(scylla::Store),
}

/// One entry of a batch.
#[derive(Clone, Debug)]
pub enum Write {
    /// A chunk of an event's row.
    Event(EventWrite),
    /// What became of a delivery.
    Delivery(DeliveryWrite),
    /// A new job.
    Job(JobWrite),
    /// Whose job this is, for [`Store::job_tenant`].
    JobTenant {
        /// The job.
        id: JobId,
        /// Who owns it.
        tenant: Arc<str>,
    },
}

/// A chunk of an event's row. Writing it again changes nothing.
#[derive(Clone, Debug)]
pub struct EventWrite {
    /// The tenant that owns the event.
    pub tenant: Arc<str>,
    /// The event.
    pub event: Uid,
    /// The chunk's number; 0 stands for the event itself.
    pub chunk: u32,
    /// The row.
    pub row: EventRow,
}

/// What became of a delivery: any of its rows, and its place in the backlog.
#[derive(Clone, Debug)]
pub struct DeliveryWrite {
    /// The tenant that owns the delivery.
    pub tenant: Arc<str>,
    /// The partition whose backlog it waits in.
    pub partition: Partition,
    /// The delivery.
    pub id: DeliveryId,
    /// An attempt and its number, from 1.
    pub attempt: Option<(u32, AttemptRow)>,
    /// The end, where no attempt brought it about.
    pub end: Option<(End, Time)>,
    /// What happens to its dead letter.
    pub dead: Dead,
    /// The place in the backlog that it leaves.
    pub remove: Option<Place>,
    /// The row it has in the backlog from now on.
    pub put: Option<Backlogged>,
}

/// A new job. Changes nothing where the job is known already.
#[derive(Clone, Debug)]
pub struct JobWrite {
    /// The tenant that owns the job.
    pub tenant: Arc<str>,
    /// The job.
    pub id: JobId,
    /// As it stands before its first change.
    pub job: Job,
}

/// What happens to a delivery's dead letter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Dead {
    /// It stays as it is.
    #[default]
    Keep,
    /// The delivery is given up.
    Add {
        /// When.
        at: Time,
        /// Why, for the endpoint's owner to read.
        reason: String,
    },
    /// A replay succeeded.
    Remove,
}

/// The head of an endpoint's backlog.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lane {
    /// The endpoint.
    pub endpoint: EndpointId,
    /// The place of the first row.
    pub first: Place,
    /// When the first row is due.
    pub due: Time,
    /// The first row's encoded envelope; names tenant and URL.
    pub meta: Bytes,
}

/// Whether an idempotency key was free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// It was, and is now taken by the event of this call.
    New,
    /// The same request took it before.
    Same {
        /// The event of that request.
        event: Uid,
    },
    /// A different request took it before.
    Other,
}

/// The sort of a configuration object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObjectKind {
    /// An endpoint.
    Endpoint,
    /// An endpoint that came with a job; never changed.
    Callback,
    /// A tenant's signing secret.
    SigningSecret,
    /// A tenant.
    Tenant,
    /// An API key.
    ApiKey,
    /// An entry of the catalogue of event types.
    EventType,
    /// What a tenant has used in a month.
    Usage,
}

/// An attempt as it was written; an item of [`Store::subscribe`].
#[derive(Clone, Debug)]
pub struct Finished {
    /// The tenant that owns the delivery.
    pub tenant: Arc<str>,
    /// The attempt.
    pub attempt: Attempt,
}

/// The store could not do what was asked. Nothing is retried inside; that is the caller's decision.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum StoreError {
    /// The disk is full or failed, the store is stopped, or no node of a cluster can be reached. Whether a write took place is unknown; repeating it is safe.
    #[error("the store is unavailable: {0}")]
    Unavailable(String),
    /// No answer in time. Whether a write took place is unknown; repeating it is safe.
    #[error("the store took longer than {seconds} s to {what}; it may be overloaded")]
    Timeout {
        /// What was asked.
        what: &'static str,
        /// The limit that was reached.
        seconds: u64,
    },
    /// A row can't be read; it was damaged, or written by another build.
    #[error("a row of the store can't be read ({0}); restore it from a copy")]
    Damaged(String),
    /// A name is longer than keys may be.
    #[error("{what} must have at most {limit} bytes")]
    TooLong {
        /// What is too long.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
}

macro_rules! either {
    ($self:ident, $store:ident => $call:expr) => {
        match $self {
            Store::Local($store) => $call,
            Store::Scylla($store) => $call,
        }
    };
}

/// For the deliverer.
impl Store {
    /// Writes a batch, in the order of the calls of one caller. The local store writes all of it or nothing.
    ///
    /// Returns when the batch survives the end of the process; with a `put` or a job in it, also the loss of power. A batch that
    /// failed or was cut short may be there in part: a change of the backlog is there only if all that is no change of
    /// the backlog is, and what an entry removes and puts goes together. Writing the batch again completes it.
    /// Errors: nothing of the batch may be assumed written or not written.
    pub async fn write(&self, batch: impl Into<Arc<[Write]>>) -> Result<(), StoreError> {
        let batch = batch.into();
        meters::BATCH.record(batch.len() as f64);
        meters::WRITE.timed(async { either!(self, store => store.write(batch).await) }).await
    }

    /// How long rows should wait for company before they are written. A cluster is paid by the request, and batches lie
    /// in one partition each: of few rows, most would go alone.
    pub fn gather(&self) -> Duration {
        match self {
            Store::Local(_) => Duration::from_millis(20),
            Store::Scylla(_) => Duration::from_millis(100),
        }
    }

    /// The heads of all backlogs of a partition, by endpoint.
    pub async fn lanes(&self, partition: Partition) -> Result<Vec<Lane>, StoreError> {
        meters::LOAD.timed(async { either!(self, store => store.lanes(partition).await) }).await
    }

    /// Up to `limit` (at most [`MAX_PAGE`]) rows of an endpoint's backlog in order, from place `from` on, up to and
    /// with order `until`.
    ///
    /// Nothing of the lane lies before `low` any more, what was written before this call included; a store may forget
    /// what was there. That is noted by the call, before what it returns is first polled.
    pub fn load(
        &self,
        partition: Partition,
        endpoint: EndpointId,
        from: Place,
        low: Place,
        until: Option<u64>,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<Backlogged>, StoreError>> + Send + use<> {
        let loading = match self.clone() {
            Store::Local(store) => async move { store.load(partition, endpoint, from, until, limit).await }.left_future(),
            Store::Scylla(store) => store.load(partition, endpoint, from, low, until, limit).right_future(),
        };
        meters::LOAD.timed(loading)
    }

    /// The backlog row of one event. Walks the endpoint's backlog, so it is for rare commands only.
    pub async fn find(&self, partition: Partition, endpoint: EndpointId, event: Uid) -> Result<Option<Backlogged>, StoreError> {
        meters::LOAD.timed(async { either!(self, store => store.find(partition, endpoint, event).await) }).await
    }
}

/// For queries. Nothing of another tenant is ever found.
impl Store {
    /// One event with its body and the targets of all its chunks.
    pub async fn event(&self, tenant: &str, event: Uid) -> Result<Option<Event>, StoreError> {
        meters::READ.timed(async { either!(self, store => store.event(tenant, event).await) }).await
    }

    /// The newest event that its sender gave this id.
    pub async fn named_event(&self, tenant: &str, given_id: &str) -> Result<Option<Uid>, StoreError> {
        meters::READ.timed(async { either!(self, store => store.named_event(tenant, given_id).await) }).await
    }

    /// Events without bodies, newest first, older than `before`.
    pub async fn events(
        &self,
        tenant: &str,
        filter: EventFilter,
        before: Option<Uid>,
        limit: usize,
    ) -> Result<Page<Event, Uid>, StoreError> {
        meters::LIST.timed(async { either!(self, store => store.events(tenant, filter, before, limit).await) }).await
    }

    /// Deliveries, newest event first, behind `before`.
    pub async fn deliveries(
        &self,
        tenant: &str,
        filter: DeliveryFilter,
        before: Option<DeliveryId>,
        limit: usize,
    ) -> Result<Page<DeliverySummary, DeliveryId>, StoreError> {
        meters::LIST.timed(async { either!(self, store => store.deliveries(tenant, filter, before, limit).await) }).await
    }

    /// The attempts of one delivery and its end.
    pub async fn attempts(&self, tenant: &str, id: DeliveryId) -> Result<History, StoreError> {
        meters::READ.timed(async { either!(self, store => store.attempts(tenant, id).await) }).await
    }

    /// One delivery. `None` where neither rows of it exist nor an event that goes to its endpoint.
    pub async fn delivery(&self, tenant: &str, id: DeliveryId) -> Result<Option<DeliveryDetail>, StoreError> {
        meters::READ.timed(async { either!(self, store => store.delivery(tenant, id).await) }).await
    }

    /// The attempts at an endpoint, newest event first, behind `before`.
    pub async fn endpoint_attempts(
        &self,
        tenant: &str,
        endpoint: EndpointId,
        before: Option<AttemptCursor>,
        limit: usize,
    ) -> Result<Page<Attempt, AttemptCursor>, StoreError> {
        meters::LIST.timed(async { either!(self, store => store.endpoint_attempts(tenant, endpoint, before, limit).await) }).await
    }

    /// Dead-lettered deliveries, newest event first, behind `before`.
    pub async fn dead_letters(
        &self,
        tenant: &str,
        before: Option<DeliveryId>,
        limit: usize,
    ) -> Result<Page<DeadLetter, DeliveryId>, StoreError> {
        meters::LIST.timed(async { either!(self, store => store.dead_letters(tenant, before, limit).await) }).await
    }

    /// Attempts as they are written, of all tenants. Costs nothing while nobody listens; who falls behind loses some.
    pub fn subscribe(&self) -> broadcast::Receiver<Arc<Finished>> {
        either!(self, store => store.subscribe())
    }
}

/// For jobs. A job's row is kept for the retention of jobs, counted from its last change.
impl Store {
    /// One job.
    pub async fn job(&self, tenant: &str, id: JobId) -> Result<Option<Job>, StoreError> {
        meters::READ.timed(async { either!(self, store => store.job(tenant, id).await) }).await
    }

    /// Whose job this is, for those who know no more of it than its id: where [`Write::JobTenant`] said so.
    pub async fn job_tenant(&self, id: JobId) -> Result<Option<String>, StoreError> {
        meters::READ.timed(async { either!(self, store => store.job_tenant(id).await) }).await
    }

    /// Puts `job` in the place of the one a version before it; says whether that one was there. Of many calls at a time with
    /// one version exactly one succeeds. Durable when it returns; after an error the job says whether it took place.
    pub async fn swap_job(&self, tenant: &str, id: JobId, job: &Job) -> Result<bool, StoreError> {
        meters::CHANGE.timed(async { either!(self, store => store.swap_job(tenant, id, job).await) }).await
    }

    /// Jobs, newest first, older than `before`.
    pub async fn jobs(
        &self,
        tenant: &str,
        filter: JobFilter,
        before: Option<JobId>,
        limit: usize,
    ) -> Result<Page<(JobId, Job), JobId>, StoreError> {
        meters::LIST.timed(async { either!(self, store => store.jobs(tenant, filter, before, limit).await) }).await
    }
}

/// For what is not a delivery.
impl Store {
    /// Takes an idempotency key for 24 hours, once: of many calls at a time exactly one gets [`Claim::New`].
    /// Durable when it returns.
    pub async fn claim(&self, tenant: &str, key: &str, request_hash: [u8; 32], event: Uid, now: Time) -> Result<Claim, StoreError> {
        meters::CLAIM.timed(async { either!(self, store => store.claim(tenant, key, request_hash, event, now).await) }).await
    }

    /// Keeps a configuration object. Durable when it returns.
    pub async fn put_object(&self, kind: ObjectKind, tenant: &str, id: &str, value: Bytes) -> Result<(), StoreError> {
        meters::CHANGE.timed(async { either!(self, store => store.put_object(kind, tenant, id, value).await) }).await
    }

    /// Reads a configuration object.
    pub async fn get_object(&self, kind: ObjectKind, tenant: &str, id: &str) -> Result<Option<Bytes>, StoreError> {
        meters::READ.timed(async { either!(self, store => store.get_object(kind, tenant, id).await) }).await
    }

    /// Deletes a configuration object, if it exists. Durable when it returns.
    pub async fn delete_object(&self, kind: ObjectKind, tenant: &str, id: &str) -> Result<(), StoreError> {
        meters::CHANGE.timed(async { either!(self, store => store.delete_object(kind, tenant, id).await) }).await
    }

    /// Replaces a configuration object, or makes or deletes it, if it is `old`; `None` stands for no object. Says whether it was.
    /// Of many calls at a time with one `old` at most one succeeds. Durable when it returns.
    pub async fn swap_object(
        &self,
        kind: ObjectKind,
        tenant: &str,
        id: &str,
        old: Option<Bytes>,
        new: Option<Bytes>,
    ) -> Result<bool, StoreError> {
        meters::CHANGE.timed(async { either!(self, store => store.swap_object(kind, tenant, id, old, new).await) }).await
    }

    /// Up to `limit` (at most [`MAX_PAGE`]) configuration objects with their ids, in order of the ids, behind `after`.
    pub async fn list_objects(
        &self,
        kind: ObjectKind,
        tenant: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, Bytes)>, StoreError> {
        meters::LIST.timed(async { either!(self, store => store.list_objects(kind, tenant, after, limit).await) }).await
    }

    /// Drops what is older than the retention and says how many buckets went. The store does so by itself, too; one in a
    /// cluster drops single rows by their age, and this does nothing.
    pub async fn expire(&self, now: Time) -> Result<usize, StoreError> {
        either!(self, store => store.expire(now).await)
    }

    /// Whether writes are accepted; if not, why, in words for an operator.
    pub fn health(&self) -> Result<(), String> {
        either!(self, store => store.health())
    }
}
