//! What workers outside say of jobs: read from the topic of results, and made so.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::FuturesUnordered;
use futures_util::{StreamExt, stream};
use postrider_backend::blobs::Blobs;
use postrider_backend::log::{Batch, Batches, Consumer, Log, LogError, Place, Record};
use postrider_backend::store::{Store, StoreError};
use postrider_core::id::JobId;
use postrider_core::job::{Job, Output, Said, State, Unheard};
use postrider_core::time::Millis;
use postrider_ingest::jobs::{Heard, Jobs, News, OutsideKind, Report};
use postrider_ingest::{IngestError, clock};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::output;

/// Jobs of a batch that are changed at one time.
const AT_ONCE: usize = 16;
/// Before what store or log did not do is tried again.
const AGAIN: Duration = Duration::from_millis(250);
/// Between two looks for a job whose row is not there yet.
const LOOK: Duration = Duration::from_millis(50);
/// Who submits a job writes its row within this time after its record, or appends the record again.
const ROW: Millis = Millis::from_secs(30);
/// How long batches under way may take to end after `stop`; what is cut off is read again.
const FINISH: Duration = Duration::from_secs(5);

/// What reading results needs.
pub struct Results {
    /// Reads the topic of results.
    pub consumer: Consumer,
    /// Where records that can't be read go.
    pub log: Log,
    /// Where jobs stand.
    pub store: Store,
    /// Where large results lie.
    pub blobs: Blobs,
    /// Changes jobs, and tells of them.
    pub jobs: Arc<Jobs>,
}

/// A result is of no use, for this reason: it goes to the dead letters.
struct Unusable(String);

/// Reads results until `stop`. A batch is committed when what it says is in the rows of its jobs and was told; a crash before
/// that reads it again, which changes nothing more.
pub async fn run(results: Results, stop: CancellationToken) -> Result<(), LogError> {
    let Results { consumer, log, store, blobs, jobs } = results;
    let reader = Reader { log, store, blobs, jobs };
    let mut batches = Batches::new(consumer);
    let mut reading = FuturesUnordered::new();
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            Some(read) = reading.next() => batches.finished(read)?,
            batch = batches.next() => reading.push(reader.read(batch?)),
        }
    }
    let finish = async {
        while let Some(read) = reading.next().await {
            batches.finished(read)?;
        }
        Ok::<(), LogError>(())
    };
    match tokio::time::timeout(FINISH, finish).await {
        Ok(finished) => finished?,
        Err(_) => tracing::warn!("results of jobs under way were not written in time; they are read again"),
    }
    if let Err(error) = batches.close().await {
        tracing::warn!(%error, "the log was left without a word");
    }
    Ok(())
}

struct Reader {
    log: Log,
    store: Store,
    blobs: Blobs,
    jobs: Arc<Jobs>,
}

impl Reader {
    /// Works a batch off, however long it takes: each job's records in their order, jobs side by side.
    async fn read(&self, Batch { records, place }: Batch) -> Place {
        let mut of_jobs: BTreeMap<Option<JobId>, Vec<&Record>> = BTreeMap::new();
        for record in &records {
            of_jobs.entry(report(record).ok().map(|report| report.job)).or_default().push(record);
        }
        let all = of_jobs.into_values().map(async |records| {
            for record in records {
                if let Err(Unusable(reason)) = self.take(record).await {
                    self.bury(record, reason).await;
                }
            }
        });
        stream::iter(all).for_each_concurrent(AT_ONCE, |one| one).await;
        place
    }

    /// Makes a job what a record says of it.
    async fn take(&self, record: &Record) -> Result<(), Unusable> {
        let Report { job: id, news } = report(record)?;
        let (tenant, job) = self.find(id).await?;
        let Some(OutsideKind { patience, .. }) = self.jobs.kinds.outside(&job.kind) else {
            return Err(Unusable(format!("{id} is of the kind {}, which no worker outside does", job.kind)));
        };
        let said = match news {
            News::Processing(permille) => Said::Processing(permille),
            News::Failed(error) => Said::Failed(error),
            News::Completed(_) if job.is_over() => Said::Completed(Output::default()),
            News::Completed(None) => Said::Completed(Output::default()),
            News::Completed(Some(result)) => {
                // Named after the record, so that reading it again writes the same.
                let folder = format!("{}/said-{}-{}", Jobs::folder(id), record.partition.0, record.offset.0);
                let kept = output::keep(&self.blobs, &folder, result.get().as_bytes().to_vec()).await;
                Said::Completed(kept.map_err(|error| Unusable(error.message))?)
            }
        };
        let heard = patiently("changed", id, || self.jobs.hear(&tenant, id, &said, *patience)).await?;
        match heard {
            Heard::Changed | Heard::Nothing(Unheard::Soon, _) => {}
            Heard::Nothing(Unheard::Late(why), stands) => {
                tracing::debug!(job = %id, %why, "what a worker says of a job comes too late");
                self.discard(&said, &stands).await;
            }
            // It was kept no longer.
            Heard::Missing => return Err(missing(id)),
        }
        Ok(())
    }

    /// The job and whose it is. One that was just submitted may have a record and no row yet.
    async fn find(&self, id: JobId) -> Result<(String, Job), Unusable> {
        let read = Instant::now();
        loop {
            let tenant = patiently("looked up", id, async || Ok(self.store.job_tenant(id).await?)).await?;
            if let Some(tenant) = tenant
                && let Some(job) = patiently("looked up", id, async || Ok(self.store.job(&tenant, id).await?)).await?
            {
                return Ok((tenant, job));
            }
            if clock::now() > id.0.time() + ROW || read.elapsed() > ROW.into() {
                return Err(missing(id));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// A result that came too late, unless it is what the job ended with.
    async fn discard(&self, said: &Said, stands: &Job) {
        let Said::Completed(output) = said else { return };
        let is_its_own = matches!(&stands.state, State::Completed { output: kept, .. } if kept == output);
        if !is_its_own {
            output::discard(&self.blobs, output).await;
        }
    }

    async fn bury(&self, record: &Record, reason: String) {
        let letter = postrider_ingest::dead_letter(&self.log, record, reason);
        while let Err(error) = self.log.append(vec![letter.clone()]).await {
            tracing::warn!(%error, "a dead letter can't be appended; trying again");
            tokio::time::sleep(AGAIN).await;
        }
    }
}

fn report(record: &Record) -> Result<Report<'_>, Unusable> {
    let key = record.foreign.as_ref().and_then(|foreign| foreign.key.as_deref());
    Report::read(key, &record.payload).map_err(|error| Unusable(error.to_string()))
}

fn missing(id: JobId) -> Unusable {
    Unusable(format!("there is no job {id} that workers outside do"))
}

/// Asks until there is an answer.
///
/// Errors: the job's row can't be read, whenever it is asked for.
async fn patiently<T, F: Future<Output = Result<T, IngestError>>>(what: &str, job: JobId, ask: impl Fn() -> F) -> Result<T, Unusable> {
    loop {
        match ask().await {
            Ok(answer) => return Ok(answer),
            Err(error @ IngestError::Store(StoreError::Damaged(_) | StoreError::TooLong { .. })) => {
                tracing::error!(%error, %job, "a job can't be {what}");
                return Err(Unusable(format!("{job} can't be {what}: {error}")));
            }
            Err(error) => tracing::warn!(%error, %job, "a job can't be {what}; trying again"),
        }
        tokio::time::sleep(AGAIN).await;
    }
}
