//! Taking a job in, and withdrawing one.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use postrider_backend::blobs::Blobs;
use postrider_backend::log::{Append, Topic};
use postrider_backend::store::{Claim, JobWrite, Store, Write};
use postrider_core::endpoint::Endpoint;
use postrider_core::id::{EndpointId, JobId};
use postrider_core::job::{Callback, Job, Lost, State};
use postrider_core::partition;
use postrider_core::record::JobEnvelope;
use postrider_core::secret::Secret;
use postrider_core::time::Time;
use sha2::{Digest, Sha256};

use super::kinds::Kinds;
use super::submission::JobSubmission;
use crate::clock;
use crate::ids::Ids;
use crate::ingest::{Ingest, IngestError, Source};

/// An input of more bytes lies among the blobs.
const INLINE_INPUT: usize = 256 << 10;
/// A row that comes so much later than its record, as after this process was frozen, may come too late.
const PROMPT: Duration = Duration::from_secs(20);
/// How often a change that others get ahead of is tried.
const TRIES: usize = 16;

/// Takes jobs in and tells of them.
pub struct Jobs {
    pub(super) ingest: Arc<Ingest>,
    pub(super) blobs: Blobs,
    ids: Ids,
    /// What this machine can do.
    pub kinds: Kinds,
    /// What links begin with: scheme, host and port.
    pub(super) public_url: String,
}

/// What the sender of a job is told.
#[derive(Clone, Debug)]
pub struct JobReceipt {
    /// The job.
    pub id: JobId,
    /// As it stands: new, unless the request is a repeat.
    pub job: Job,
}

/// A job was not withdrawn.
#[derive(Debug, thiserror::Error)]
pub enum CancelError {
    /// There is none of this id.
    #[error("there is no such job")]
    Missing,
    /// It has ended.
    #[error("{0}")]
    Over(Lost),
    /// The log or the store is not available; the same request may be sent again.
    #[error("{0}")]
    Ingest(#[from] IngestError),
}

/// The blob of a job's input.
fn input_name(id: JobId) -> String {
    format!("{}/input.json", Jobs::folder(id))
}

impl Jobs {
    /// Where the blobs of all jobs lie.
    pub const BLOBS: &str = "jobs";

    /// Jobs enter where `ingest` has its log and store; large inputs go to `blobs`. Links begin with `public_url`.
    pub fn new(ingest: Arc<Ingest>, blobs: Blobs, ids: Ids, kinds: Kinds, public_url: String) -> Jobs {
        Jobs { ingest, blobs, ids, kinds, public_url }
    }

    /// Where the blobs of a job lie: in a folder of the day it was made, so that what is old can be found.
    pub fn folder(id: JobId) -> String {
        format!("{}/{id}", Jobs::day(id.0.time()))
    }

    /// Where the blobs of a day's jobs lie. Days are counted from the Unix epoch.
    pub fn day(at: Time) -> String {
        format!("{}/{}", Jobs::BLOBS, at.0 / 86_400_000)
    }

    pub(super) fn store(&self) -> &Store {
        &self.ingest.store
    }

    /// Takes one job; durable when it returns. `raw` is what the sender sent, to tell a repeat from a different job.
    pub async fn submit(&self, source: Source<'_>, submission: JobSubmission, raw: &[u8]) -> Result<JobReceipt, IngestError> {
        let now = clock::now();
        let mut id = JobId(self.ids.next(now));
        if let Some(key) = source.idempotency_key {
            let hash: [u8; 32] = Sha256::digest(raw).into();
            match self.store().claim(source.tenant, &format!("job:{key}"), hash, id.0, now).await? {
                Claim::New => {}
                Claim::Same { event } => {
                    id = JobId(event);
                    // One that nobody has begun may have lost its record; another does no harm.
                    if let Some(job) = self.store().job(source.tenant, id).await?.filter(|job| job.version > 0) {
                        return Ok(JobReceipt { id, job });
                    }
                }
                Claim::Other => return Err(IngestError::KeyReused("the Idempotency-Key")),
            }
        }
        let JobSubmission { kind, input, callback, secret, headers, priority, metadata } = submission;
        let callback = self.kept(source.tenant, callback, secret.as_ref(), &headers).await?;
        let input = Bytes::from(input);
        let job = Job {
            version: 0,
            kind: kind.name().to_owned(),
            callback,
            metadata,
            priority,
            traceparent: source.traceparent.map(str::to_owned),
            state: State::Pending { claims: 0 },
            told: false,
        };
        let large = (input.len() > INLINE_INPUT).then(|| input_name(id));
        if let Some(name) = &large {
            self.blobs.put(name, input.clone()).await?;
        }
        let envelope = JobEnvelope { tenant: source.tenant, job: id, priority, input: large.as_deref() };
        let record = Append {
            topic: Topic::Jobs(kind),
            partition: partition::of_key(id.to_string().as_bytes(), self.ingest.log.partitions(Topic::Jobs(kind))),
            meta: envelope.encode().into(),
            payload: if large.is_some() { Bytes::new() } else { input },
            failure: None,
        };
        let appended = Instant::now();
        // What is told first is that the job waits, and it does once it has a row; whoever hears of it before will find it.
        let mut records = vec![record];
        records.extend(self.news(source.tenant, id, &job).await?);
        self.ingest.log.append(records.clone()).await?;
        let write = JobWrite { tenant: source.tenant.into(), id, job: job.clone() };
        self.store().write(vec![Write::Job(write)]).await?;
        if appended.elapsed() > PROMPT {
            // Whoever read the record may have given the job up by now.
            self.ingest.log.append(records).await?;
        }
        Ok(JobReceipt { id, job })
    }

    /// A job's callback, with endpoints that everyone finds where its URLs came with a secret or headers.
    async fn kept(
        &self,
        tenant: &str,
        mut callback: Callback,
        secret: Option<&Secret>,
        headers: &BTreeMap<String, String>,
    ) -> Result<Callback, IngestError> {
        if secret.is_none() && headers.is_empty() {
            return Ok(callback);
        }
        let directory = &self.ingest.directory;
        for url in &callback.urls {
            let id = EndpointId::of_callback(tenant, url, secret.map(Secret::reveal), headers);
            // Without one, the tenant's own as it will be then.
            let secret = secret.cloned().unwrap_or_else(Secret::none);
            let endpoint = Endpoint { id, headers: headers.clone(), ..Endpoint::of_url(tenant, url, secret, None) };
            directory.keep_callback(endpoint).await?;
            callback.endpoints.push(id);
        }
        Ok(callback)
    }

    /// Withdraws a job that has not ended, and tells of it. A worker that runs it stops soon.
    pub async fn cancel(&self, tenant: &str, id: JobId) -> Result<Job, CancelError> {
        for _ in 0..TRIES {
            let job = self.store().job(tenant, id).await.map_err(IngestError::from)?.ok_or(CancelError::Missing)?;
            let canceled = match job.cancel(clock::now()) {
                Ok(canceled) => canceled,
                // A former request may have died before it told of it.
                Err(Lost::Canceled) if !job.told => job,
                Err(lost) => return Err(CancelError::Over(lost)),
            };
            if !self.swapped(tenant, id, &canceled).await? {
                continue;
            }
            self.tell(tenant, id, &canceled).await?;
            // Should this fail, whoever reads the job's record tells it again, under the same ids.
            if let Err(error) = self.store().swap_job(tenant, id, &canceled.told()).await {
                tracing::warn!(%error, job = %id, "it can't be noted that a withdrawal was told");
            }
            return Ok(canceled);
        }
        Err(IngestError::from(postrider_backend::store::StoreError::Unavailable("the job changes all the time; try again".to_owned()))
            .into())
    }

    /// Whether the job stands as `job` now: put there, or found there.
    async fn swapped(&self, tenant: &str, id: JobId, job: &Job) -> Result<bool, IngestError> {
        Ok(self.store().swap_job(tenant, id, job).await? || self.store().job(tenant, id).await?.as_ref() == Some(job))
    }
}
