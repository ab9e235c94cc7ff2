//! Runs the jobs of one kind: reads their records, as many as it may hold, and runs some of them at a time.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::LocalBoxFuture;
use futures_util::stream::FuturesUnordered;
use metrics::Gauge;
use postrider_backend::blobs::Blobs;
use postrider_backend::log::{Consumed, Consumer, Log, LogError, Record, Tenure, Tenures};
use postrider_backend::store::Store;
use postrider_bert::Model;
use postrider_core::id::JobId;
use postrider_core::job::JobKind;
use postrider_core::offsets::{Offset, Offsets, Progress};
use postrider_core::partition::Partition;
use postrider_core::record::{JobEnvelope, RecordError};
use postrider_egress::{self as egress, Sender};
use postrider_ingest::Budgets;
use postrider_ingest::jobs::{Jobs, Kind};
use postrider_metrics::names;
use postrider_upstream::Upstream;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::queue::{Input, Queue, Waiting};
use crate::run::{self, Fate};

/// Jobs of a partition that are read and not ended; beyond it nothing more of it is read. What a commit can name is more.
const MAX_OPEN: usize = 64;
/// Bytes of jobs that wait in memory; beyond it nothing more is read.
const MAX_BYTES: usize = 32 << 20;
/// The room of one job; see [`room_of`].
const WHOLE: usize = 8;
/// Between two looks at how many jobs wait.
const MEASURE: Duration = Duration::from_secs(1);
/// Before a dead letter that could not be appended is appended again.
const AGAIN: Duration = Duration::from_millis(250);

/// What a worker works with.
pub struct Compute {
    /// What sort of jobs.
    pub kind: Kind,
    /// Reads the kind's topic.
    pub consumer: Consumer,
    /// Where records that can't be read go.
    pub log: Log,
    /// Where jobs stand.
    pub store: Store,
    /// Where large inputs and results lie.
    pub blobs: Blobs,
    /// Tells of jobs.
    pub jobs: Arc<Jobs>,
    /// For the metric `bert_score`, where it is configured.
    pub model: Option<Arc<Model>>,
    /// What calls of jobs may reach.
    pub egress: egress::Options,
    /// For kinds that ask one. Its connections are this worker's.
    pub upstream: Option<Upstream>,
    /// What tenants may use of it, where that is limited.
    pub budgets: Option<Budgets>,
}

/// How a worker works.
#[derive(Clone, Debug)]
pub struct ComputeOptions {
    /// Jobs that run at one time. Evaluations of at most 256 KiB mostly wait for the store: of them eight times as many.
    pub concurrency: usize,
    /// Pieces of work that are computed at one time, of all jobs.
    pub threads: usize,
    /// A job that runs longer has failed.
    pub timeout: Duration,
    /// How long a claim holds without a sign of life.
    pub lease: Duration,
    /// How long jobs may go on after the worker was told to stop; what is cut off is begun again elsewhere.
    pub drain: Duration,
}

/// The loop had to end.
#[derive(Debug, thiserror::Error)]
pub enum ComputeError {
    /// The log can't be read.
    #[error("the log can't be read: {0}")]
    Log(#[from] LogError),
    /// The system gives no randomness.
    #[error("the system's randomness can't be read: {0}")]
    Randomness(#[from] getrandom::Error),
    /// Nothing can be called from here.
    #[error(transparent)]
    Egress(#[from] egress::EgressError),
    /// The data was written by a newer build. Skipping it would lose it.
    #[error("partition {}: {error}", partition.0)]
    Newer {
        /// Where.
        partition: Partition,
        /// What was found.
        error: RecordError,
    },
}

/// What running jobs share.
pub(crate) struct Shop {
    pub(crate) kind: Kind,
    pub(crate) store: Store,
    pub(crate) blobs: Blobs,
    pub(crate) jobs: Arc<Jobs>,
    pub(crate) model: Option<Arc<Model>>,
    /// Makes the calls of jobs.
    pub(crate) sender: Sender,
    pub(crate) upstream: Option<Upstream>,
    pub(crate) budgets: Option<Budgets>,
    pub(crate) options: ComputeOptions,
    /// Tells this worker from all others.
    pub(crate) worker: u64,
    /// One permit for each piece of work that may be computed now.
    pub(crate) cores: Arc<Semaphore>,
}

/// A partition that is this worker's.
struct Hold {
    tenure: Tenure,
    offsets: Offsets<JobId>,
    /// Jobs of it that run.
    running: usize,
    is_paused: bool,
    /// It is released once nothing of it runs.
    is_leaving: bool,
    /// Tells its jobs to stop.
    stop: CancellationToken,
}

/// A job that no longer runs.
struct Ended {
    tenure: Tenure,
    offset: Offset,
    room: usize,
    fate: Fate,
}

/// Runs the jobs that its consumer is given until `stop`; then those that run may end within `options.drain`.
///
/// Runs on one thread of a Tokio runtime, whose blocking threads compute.
pub async fn run(parts: Compute, options: ComputeOptions, stop: CancellationToken) -> Result<(), ComputeError> {
    let mut worker = Worker::new(parts, options)?;
    while !stop.is_cancelled() {
        worker.turn(&stop).await?;
    }
    worker.drain().await
}

struct Worker {
    consumer: Consumer,
    log: Log,
    shop: Rc<Shop>,
    holds: BTreeMap<Partition, Hold>,
    numbering: Tenures,
    queue: Queue,
    /// Memory of jobs that are read and do not run.
    bytes: usize,
    running: FuturesUnordered<LocalBoxFuture<'static, Ended>>,
    /// Room that they take; `concurrency` times [`WHOLE`] is all there is.
    taken: usize,
    /// Jobs that can't be begun yet.
    parked: FuturesUnordered<LocalBoxFuture<'static, Waiting>>,
    /// How many of them another worker has.
    elsewhere: usize,
    /// How many wait, for operators.
    waiting: Gauge,
    /// When that was last looked at.
    measured: Instant,
}

impl Worker {
    fn new(parts: Compute, options: ComputeOptions) -> Result<Worker, ComputeError> {
        let Compute { kind, consumer, log, store, blobs, jobs, model, egress, upstream, budgets } = parts;
        let (cores, sender, worker) = (Arc::new(Semaphore::new(options.threads.max(1))), Sender::new(egress)?, getrandom::u64()?);
        let waiting = names::JOB_QUEUE.gauge(&[jobs.kinds.name(kind)]);
        let shop = Rc::new(Shop { kind, store, blobs, jobs, model, sender, upstream, budgets, options, worker, cores });
        Ok(Worker {
            consumer,
            log,
            shop,
            holds: BTreeMap::new(),
            numbering: Tenures::default(),
            queue: Queue::default(),
            bytes: 0,
            running: FuturesUnordered::new(),
            taken: 0,
            parked: FuturesUnordered::new(),
            elsewhere: 0,
            waiting,
            measured: Instant::now(),
        })
    }

    async fn turn(&mut self, stop: &CancellationToken) -> Result<(), ComputeError> {
        tokio::select! {
            biased;
            () = stop.cancelled() => return Ok(()),
            () = sleep_until(self.measured + MEASURE) => {}
            Some(ended) = self.running.next() => self.ended(ended)?,
            Some(waiting) = self.parked.next() => {
                self.elsewhere -= usize::from(waiting.is_elsewhere);
                self.queue.push(waiting);
            }
            consumed = self.consumer.next() => match consumed? {
                Consumed::Records(records) => {
                    for record in records {
                        self.arrived(record)?;
                    }
                }
                Consumed::Assigned(partition, progress) => self.begin(partition, &progress),
                Consumed::Revoking(partition) => self.leave(partition)?,
                Consumed::Lost(partition) => self.lose(partition),
            },
        }
        self.start();
        self.measure();
        self.pace();
        Ok(())
    }

    /// Says how many jobs wait to be begun. Also where no job ends or comes: those that are not read wait, too.
    fn measure(&mut self) {
        if self.measured.elapsed() >= MEASURE {
            self.measured = Instant::now();
            let unread = self.log.unread(self.shop.kind.topic());
            self.waiting.set((self.queue.to_begin() + self.parked.len() - self.elsewhere) as f64 + unread as f64);
        }
    }

    fn begin(&mut self, partition: Partition, progress: &Progress) {
        let tenure = self.numbering.begin(partition);
        let (offsets, stop) = (Offsets::new(progress), CancellationToken::new());
        self.holds.insert(partition, Hold { tenure, offsets, running: 0, is_paused: false, is_leaving: false, stop });
    }

    /// A record was read: the job waits its turn. One that can't be read goes to the dead letters, and the rest goes on.
    fn arrived(&mut self, record: Record) -> Result<(), ComputeError> {
        let Some(hold) = self.holds.get_mut(&record.partition).filter(|hold| !hold.is_leaving) else { return Ok(()) };
        let envelope = match JobEnvelope::decode(&record.meta) {
            Ok(envelope) => envelope,
            Err(error @ RecordError::Newer { .. }) => return Err(ComputeError::Newer { partition: record.partition, error }),
            Err(RecordError::Malformed(reason)) => {
                self.bury(record, reason);
                return Ok(());
            }
        };
        hold.offsets.start(record.offset, envelope.job, record.at);
        let input = match (self.shop.kind, envelope.input) {
            (Kind::Outside(_), _) => Input::Elsewhere,
            (Kind::BuiltIn(_), Some(name)) => Input::Blob(name.to_owned()),
            // Of its own: the record's lies in a chunk of the log, with others.
            (Kind::BuiltIn(_), None) => Input::Inline(Bytes::copy_from_slice(&record.payload)),
        };
        let waiting = Waiting {
            tenure: hold.tenure,
            offset: record.offset,
            at: record.at,
            read: Instant::now(),
            tenant: envelope.tenant.to_owned(),
            job: envelope.job,
            priority: envelope.priority,
            input,
            trace: envelope.trace.kept(),
            is_elsewhere: false,
        };
        self.bytes += waiting.bytes();
        self.queue.push(waiting);
        Ok(())
    }

    /// A record that can't be read is finished once it is among the dead letters.
    fn bury(&mut self, record: Record, reason: String) {
        let Some(hold) = self.holds.get_mut(&record.partition) else { return };
        hold.offsets.start(record.offset, JobId::default(), record.at);
        hold.running += 1;
        let (tenure, offset, stop) = (hold.tenure, record.offset, hold.stop.clone());
        let (log, letter) = (self.log.clone(), postrider_ingest::dead_letter(&self.log, &record, reason));
        self.running.push(Box::pin(async move {
            let buried = async {
                while let Err(error) = log.append(vec![letter.clone()]).await {
                    tracing::warn!(%error, "a dead letter can't be appended; trying again");
                    tokio::time::sleep(AGAIN).await;
                }
            };
            let fate = tokio::select! {
                () = stop.cancelled() => Fate::Released,
                () = buried => Fate::Done,
            };
            Ended { tenure, offset, room: 0, fate }
        }));
    }

    /// Runs what waits, as far as there is room.
    fn start(&mut self) {
        let kind = self.shop.kind;
        loop {
            let free = (self.shop.options.concurrency * WHOLE).saturating_sub(self.taken);
            // What comes first and does not fit waits until it does: it is not overtaken for ever.
            let Some(waiting) = self.queue.pop_if(|waiting| room_of(kind, &waiting.input) <= free) else { break };
            let room = room_of(kind, &waiting.input);
            self.bytes = self.bytes.saturating_sub(waiting.bytes());
            let (tenure, offset) = (waiting.tenure, waiting.offset);
            let Some(hold) = self.holds.get_mut(&tenure.partition).filter(|hold| hold.tenure == tenure && !hold.is_leaving) else {
                continue; // it is another worker's by now
            };
            hold.running += 1;
            self.taken += room;
            let (shop, stop) = (self.shop.clone(), hold.stop.clone());
            self.running.push(Box::pin(async move {
                let fate = run::run(&shop, waiting, &stop).await;
                Ended { tenure, offset, room, fate }
            }));
        }
    }

    fn ended(&mut self, ended: Ended) -> Result<(), ComputeError> {
        let Ended { tenure, offset, room, fate } = ended;
        self.taken -= room;
        let Some(hold) = self.holds.get_mut(&tenure.partition).filter(|hold| hold.tenure == tenure) else { return Ok(()) };
        hold.running -= 1;
        match fate {
            Fate::Done => {
                hold.offsets.finish(offset);
                self.consumer.commit(tenure.partition, &hold.offsets.progress())?;
            }
            Fate::Later(wait, waiting) => {
                self.bytes += waiting.bytes();
                self.elsewhere += usize::from(waiting.is_elsewhere);
                let at = Instant::now() + wait;
                self.parked.push(Box::pin(async move {
                    sleep_until(at).await;
                    *waiting
                }));
            }
            Fate::Released => {}
        }
        if hold.is_leaving && hold.running == 0 {
            self.release(tenure.partition);
        }
        Ok(())
    }

    /// Another worker is to have the partition: its jobs are given back, so that they begin there at once.
    fn leave(&mut self, partition: Partition) -> Result<(), ComputeError> {
        let Some(hold) = self.holds.get_mut(&partition) else {
            self.consumer.release(partition);
            return Ok(());
        };
        hold.is_leaving = true;
        hold.stop.cancel();
        let (tenure, running) = (hold.tenure, hold.running);
        self.consumer.commit(partition, &hold.offsets.progress())?;
        self.bytes = self.bytes.saturating_sub(self.queue.forget(tenure));
        if running == 0 {
            self.release(partition);
        }
        Ok(())
    }

    fn release(&mut self, partition: Partition) {
        self.holds.remove(&partition);
        self.consumer.release(partition);
    }

    /// The partition is another worker's already. Jobs of it that run are given up: whoever has it begins them again.
    fn lose(&mut self, partition: Partition) {
        if let Some(hold) = self.holds.remove(&partition) {
            hold.stop.cancel();
            self.bytes = self.bytes.saturating_sub(self.queue.forget(hold.tenure));
        }
    }

    /// Reads on where there is room, and not where there is none.
    fn pace(&mut self) {
        let is_crowded = self.bytes > MAX_BYTES;
        for (partition, hold) in &mut self.holds {
            let open = hold.offsets.unfinished();
            let is_full = is_crowded || open >= MAX_OPEN;
            if is_full && !hold.is_paused {
                self.consumer.pause(*partition);
                hold.is_paused = true;
            } else if hold.is_paused && self.bytes <= MAX_BYTES / 2 && open <= MAX_OPEN / 2 {
                self.consumer.resume(*partition);
                hold.is_paused = false;
            }
        }
    }

    /// Lets what runs end, then gives back what does not. What waits is left where it is.
    async fn drain(mut self) -> Result<(), ComputeError> {
        let deadline = Instant::now() + self.shop.options.drain;
        self.holds.keys().for_each(|partition| self.consumer.pause(*partition));
        for phase in [deadline, deadline + self.shop.options.lease] {
            while !self.running.is_empty() {
                match tokio::time::timeout_at(phase, self.running.next()).await {
                    Ok(Some(ended)) => self.ended(ended)?,
                    Ok(None) | Err(_) => break,
                }
            }
            self.holds.values().for_each(|hold| hold.stop.cancel());
        }
        if let Err(error) = self.consumer.close().await {
            tracing::warn!(%error, "the log was left without a word");
        }
        Ok(())
    }
}

/// The room that a job takes while it runs, of [`WHOLE`] for one whose input can be anything.
fn room_of(kind: Kind, input: &Input) -> usize {
    match (kind, input) {
        (Kind::BuiltIn(JobKind::Evaluate), Input::Inline(_)) => 1,
        (Kind::BuiltIn(_) | Kind::Outside(_), _) => WHOLE,
    }
}
