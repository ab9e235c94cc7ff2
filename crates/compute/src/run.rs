//! One job, from its record to its end.

use std::ops::RangeInclusive;
use std::time::Duration;

use bytes::Bytes;
use postrider_backend::blobs::BlobError;
use postrider_backend::store::StoreError;
use postrider_core::id::JobId;
use postrider_core::job::{Begin, Claim, Counts, Error, Job, JobKind, Lost, Output, State};
use postrider_core::time::Millis;
use postrider_core::trace::Trace;
use postrider_ingest::clock;
use postrider_ingest::jobs::{BatchResult, Jobs, Kind};
use postrider_spans::{Kind as Role, Span, attribute};
use tokio_util::sync::CancellationToken;

use crate::heartbeat::heartbeat;
use crate::progress::Progress;
use crate::queue::{Input, Waiting};
use crate::worker::Shop;
use crate::{batch, evaluate, experiment, generate, http, output, tts};

/// Before what the store or the log did not do is tried again.
pub(crate) const AGAIN: Duration = Duration::from_millis(250);
/// Before what only an operator can mend is tried again.
const MINUTE: Duration = Duration::from_secs(60);
/// Before a job is looked for again whose row is not there yet: a quarter of the time that it has been missed for.
const NO_ROW: RangeInclusive<Duration> = Duration::from_millis(5)..=Duration::from_secs(1);
/// Who submits a job writes its row right after its record, or tells the sender that the job was not taken.
const UNACKNOWLEDGED: Duration = Duration::from_secs(60);
/// At least so long a job of another worker is left alone.
const LEAST_WAIT: Millis = Millis(50);

/// What becomes of a job's record.
#[derive(Debug)]
pub(crate) enum Fate {
    /// It is finished: the job has ended, and everyone was told.
    Done,
    /// The job can't be run now; it may be tried again after this time.
    Later(Duration, Box<Waiting>),
    /// The partition goes, and the job with it.
    Released,
}

/// Why work on a job stopped.
enum Stopped {
    /// The work is done, or can't be.
    Worked(Result<Output, Error>),
    /// The job is no longer this worker's.
    Lost,
    /// The partition goes.
    Released,
}

/// Runs one job to its end, unless `release` is cancelled before.
pub(crate) async fn run(shop: &Shop, waiting: Waiting, release: &CancellationToken) -> Fate {
    let given = waiting.trace.get();
    // It is left out where the job is not run now.
    let span = Span::child("run job", Role::Consumer, given).filter(|_| matches!(shop.kind, Kind::BuiltIn(_)));
    let trace = given.with_parent(span.as_ref().map_or(given.parent, Span::own));
    let one = One { shop, waiting: &waiting, release, trace };
    let fate = match shop.kind {
        Kind::BuiltIn(kind) => match one.begin().await {
            Ok((claim, counts)) => one.work(kind, claim, counts, span).await,
            Err(early) => early,
        },
        Kind::Outside(index) => one.watch(&shop.jobs.kinds.outside[usize::from(index)]).await,
    };
    match fate {
        Next::Done => {
            one.clean_up().await;
            Fate::Done
        }
        Next::Dropped => Fate::Done,
        Next::Later(wait) => Fate::Later(wait, Box::new(Waiting { is_elsewhere: false, ..waiting })),
        Next::Elsewhere(wait) => Fate::Later(wait, Box::new(Waiting { is_elsewhere: true, ..waiting })),
        Next::Released => Fate::Released,
    }
}

/// As [`Fate`], without the job.
pub(crate) enum Next {
    Done,
    /// There is no such job; its input may be another attempt's to submit it.
    Dropped,
    /// It can't be begun yet; it is looked at again after this time.
    Later(Duration),
    /// Another worker has it; it is looked at again after this time.
    Elsewhere(Duration),
    Released,
}

pub(crate) struct One<'a> {
    pub(crate) shop: &'a Shop,
    pub(crate) waiting: &'a Waiting,
    release: &'a CancellationToken,
    /// As its run hands it on.
    trace: Trace<'a>,
}

impl One<'_> {
    /// Claims the job; or says why it is not to be run now.
    async fn begin(&self) -> Result<(Claim, Counts), Next> {
        let shop = self.shop;
        // What was tried last, and may have taken place after all.
        let mut tried: Option<(Job, Claim)> = None;
        loop {
            let job = self.row().await?;
            if let Some((_, claim)) = tried.take().filter(|(tried, _)| *tried == job) {
                return self.begun(&job, claim).await;
            }
            let now = clock::now();
            match job.begin(shop.worker, now, lease(shop)) {
                Begin::Over => return Err(self.over(&job).await?),
                Begin::Wait(until) => return Err(Next::Elsewhere(until.since(now).max(LEAST_WAIT).into())),
                Begin::GiveUp(job) => {
                    if self.swap(&job).await? {
                        self.tell(&job).await?;
                        return Err(Next::Done);
                    }
                }
                Begin::Run(job, claim) => {
                    let job = Job { trace: self.trace.kept(), ..job };
                    if self.swap(&job).await? {
                        return self.begun(&job, claim).await;
                    }
                    tried = Some((job, claim));
                }
            }
        }
    }

    /// The job's row, once it is there.
    pub(crate) async fn row(&self) -> Result<Job, Next> {
        if let Some(job) = self.find().await? {
            return Ok(job);
        }
        let missed = self.waiting.read.elapsed();
        if missed > UNACKNOWLEDGED {
            tracing::warn!(job = %self.waiting.job, "a job has a record and no row: its sender was told that it was not taken");
            return Err(Next::Dropped);
        }
        Err(Next::Later((missed / 4).clamp(*NO_ROW.start(), *NO_ROW.end())))
    }

    /// Tells that the job is being done now.
    async fn begun(&self, job: &Job, claim: Claim) -> Result<(Claim, Counts), Next> {
        if let Err(next) = self.tell(job).await {
            self.give_back(claim).await;
            return Err(next);
        }
        Ok((claim, job.counts))
    }

    /// Does the work while the claim holds, and writes down what came of it.
    async fn work(&self, kind: JobKind, claim: Claim, counts: Counts, span: Option<Span>) -> Next {
        let progress = Progress::from(counts);
        let timeout = self.shop.options.timeout;
        let stopped = tokio::select! {
            worked = self.compute(kind, claim, &progress) => Stopped::Worked(worked),
            lost = heartbeat(self.shop, self.waiting, claim, &progress) => {
                tracing::info!(job = %self.waiting.job, why = %lost, "a job is not run any further");
                Stopped::Lost
            }
            () = tokio::time::sleep(timeout) => {
                Stopped::Worked(Err(Error::new("timeout", format_args!("it took longer than {} s", timeout.as_secs()))))
            }
            () = self.release.cancelled() => Stopped::Released,
        };
        if let Some(span) = span {
            note(span, kind, self.waiting, &stopped);
        }
        match stopped {
            Stopped::Worked(worked) => match self.end(claim, progress.counts(), worked).await {
                Ok(next) => next,
                Err(next) => {
                    self.give_back(claim).await; // unless it has ended
                    next
                }
            },
            Stopped::Lost => self.lost().await.unwrap_or_else(|next| next),
            Stopped::Released => {
                self.give_back(claim).await;
                Next::Released
            }
        }
    }

    async fn compute(&self, kind: JobKind, claim: Claim, progress: &Progress) -> Result<Output, Error> {
        let input = self.input().await?;
        let folder = folder(self.waiting.job, claim);
        let keep = async |json| output::keep(&self.shop.blobs, &folder, json).await;
        match kind {
            JobKind::Evaluate => keep(evaluate::run(self.shop, input, progress).await?).await,
            JobKind::Tts => tts::run(self.shop, &folder, input, progress).await,
            JobKind::Http => keep(http::run(self.shop, self.waiting, self.trace, input).await?).await,
            JobKind::Generate => keep(generate::run(self.shop, (&self.waiting.tenant, self.waiting.job), input, progress).await?).await,
            JobKind::Experiment => experiment::run(self.shop, self.waiting, &folder, input, progress).await,
            JobKind::Batch => batch::run(self.shop, (&self.waiting.tenant, self.waiting.job), claim, &input, progress).await,
        }
    }

    async fn input(&self) -> Result<Bytes, Error> {
        match &self.waiting.input {
            Input::Inline(bytes) => Ok(bytes.clone()),
            Input::Elsewhere => Err(Error::new("internal", "the job's input was not read")),
            Input::Blob(name) => loop {
                match self.shop.blobs.get(name).await {
                    Ok(bytes) => return Ok(bytes),
                    Err(error @ (BlobError::Missing { .. } | BlobError::Invalid { .. })) => {
                        return Err(Error::new("internal", format_args!("the job's input is gone: {error}")));
                    }
                    Err(error @ BlobError::Unavailable(_)) => {
                        tracing::warn!(%error, job = %self.waiting.job, "a job's input can't be read; trying again");
                        tokio::time::sleep(AGAIN).await;
                    }
                }
            },
        }
    }

    /// Brings the job to its end, unless it has one already or is another worker's.
    async fn end(&self, claim: Claim, counts: Counts, worked: Result<Output, Error>) -> Result<Next, Next> {
        loop {
            let Some(job) = self.find().await? else { return Ok(Next::Done) };
            let now = clock::now();
            let ended = match &worked {
                Ok(output) => job.complete(claim, counts, output.clone(), now),
                Err(error) => job.fail(claim, counts, error.clone(), now),
            };
            match ended {
                Ok(ended) => {
                    if self.swap(&ended).await? {
                        self.tell(&ended).await?;
                        return Ok(Next::Done);
                    }
                }
                Err(lost) => {
                    // An end of which no answer came back is this one's own.
                    let is_own = lost == Lost::Over && is_made_of(&job, &worked);
                    if let (Ok(output), false) = (&worked, is_own) {
                        output::discard(&self.shop.blobs, output).await;
                    }
                    return self.lost().await;
                }
            }
        }
    }

    /// The job is no longer this worker's: its record is finished where the job has ended, and told of.
    async fn lost(&self) -> Result<Next, Next> {
        match self.find().await? {
            Some(job) if !job.is_over() => Ok(Next::Elsewhere(LEAST_WAIT.into())),
            Some(job) => self.over(&job).await,
            None => Ok(Next::Done),
        }
    }

    /// The job has ended: everyone is told, as whoever ended it may have died before; and of one that was withdrawn it is noted
    /// what it had made, where its kind keeps that.
    async fn over(&self, job: &Job) -> Result<Next, Next> {
        if !job.told {
            self.tell(job).await?;
        }
        match (self.shop.kind, &job.state) {
            (Kind::BuiltIn(JobKind::Batch), State::Canceled { output: None, .. }) => self.settle(job).await,
            (Kind::BuiltIn(_) | Kind::Outside(_), _) => Ok(Next::Done),
        }
    }

    /// Keeps what a batch that was withdrawn was answered by then.
    async fn settle(&self, job: &Job) -> Result<Next, Next> {
        let Waiting { tenant, job: id, .. } = self.waiting;
        let settled = tokio::select! {
            settled = batch::settle(self.shop, tenant, *id, job.counts) => settled,
            () = self.release.cancelled() => return Err(Next::Released),
        };
        let (counts, output) = settled.unwrap_or_else(|error| {
            tracing::error!(job = %id, why = error.message, "what a withdrawn batch was answered is lost");
            (job.counts, BatchResult::default().output())
        });
        loop {
            let Some(job) = self.find().await? else { return Ok(Next::Done) };
            // Another worker may have been faster; then it also told of it.
            let Ok(settled) = job.settle(counts, output.clone()) else { return Ok(Next::Done) };
            if self.swap(&settled).await? {
                self.tell_settled(&settled).await?;
                return Ok(Next::Done);
            }
        }
    }

    /// Lets another worker begin the job at once. Should that fail, it begins when the lease is over.
    async fn give_back(&self, claim: Claim) {
        let (shop, Waiting { tenant, job: id, .. }) = (self.shop, self.waiting);
        let found = shop.store.job(tenant, *id).await;
        let given = match found.map(|job| job.and_then(|job| job.release(claim).ok())) {
            Ok(Some(job)) => shop.store.swap_job(tenant, *id, &job).await.map(drop),
            Ok(None) => Ok(()),
            Err(error) => Err(error),
        };
        if let Err(error) = given {
            tracing::warn!(%error, job = %id, "a job can't be given back; it begins again when its lease is over");
        }
    }

    /// The input is of no use any more.
    async fn clean_up(&self) {
        if let Input::Blob(name) = &self.waiting.input
            && let Err(error) = self.shop.blobs.delete(name).await
        {
            tracing::warn!(%error, "a job's input can't be deleted; it goes with its day");
        }
        match self.shop.kind {
            Kind::BuiltIn(JobKind::Batch) => batch::clean_up(self.shop, self.waiting.job).await,
            Kind::BuiltIn(_) | Kind::Outside(_) => {}
        }
    }

    async fn find(&self) -> Result<Option<Job>, Next> {
        self.patiently("looked up", || self.shop.store.job(&self.waiting.tenant, self.waiting.job)).await
    }

    async fn swap(&self, job: &Job) -> Result<bool, Next> {
        match self.shop.store.swap_job(&self.waiting.tenant, self.waiting.job, job).await {
            Ok(swapped) => Ok(swapped),
            // It may have taken place. Then the row says so, to whoever made it what it is.
            Err(error) => {
                tracing::warn!(%error, job = %self.waiting.job, "a job can't be changed; looking at it again");
                self.pause().await?;
                Ok(self.find().await?.as_ref() == Some(job))
            }
        }
    }

    async fn tell(&self, job: &Job) -> Result<(), Next> {
        let Waiting { tenant, job: id, .. } = self.waiting;
        while let Err(error) = self.shop.jobs.tell(tenant, *id, job).await {
            tracing::warn!(%error, job = %id, "it can't be told what became of a job; trying again");
            self.pause().await?;
        }
        Ok(())
    }

    async fn tell_settled(&self, job: &Job) -> Result<(), Next> {
        let Waiting { tenant, job: id, .. } = self.waiting;
        while let Err(error) = self.shop.jobs.tell_settled(tenant, *id, job).await {
            tracing::warn!(%error, job = %id, "it can't be told what a withdrawn job had made; trying again");
            self.pause().await?;
        }
        Ok(())
    }

    /// Asks the store until it answers.
    async fn patiently<T, F: Future<Output = Result<T, StoreError>>>(&self, what: &str, ask: impl Fn() -> F) -> Result<T, Next> {
        loop {
            match ask().await {
                Ok(answer) => return Ok(answer),
                // An operator has to see to it; meanwhile others go on.
                Err(error @ (StoreError::Damaged(_) | StoreError::TooLong { .. })) => {
                    tracing::error!(%error, job = %self.waiting.job, "a job can't be {what}; trying again in a minute");
                    return Err(Next::Later(MINUTE));
                }
                Err(error) => tracing::warn!(%error, job = %self.waiting.job, "a job can't be {what}; trying again"),
            }
            self.pause().await?;
        }
    }

    async fn pause(&self) -> Result<(), Next> {
        tokio::select! {
            () = self.release.cancelled() => Err(Next::Released),
            () = tokio::time::sleep(AGAIN) => Ok(()),
        }
    }
}

/// Ends the span of a run.
fn note(mut span: Span, kind: JobKind, waiting: &Waiting, stopped: &Stopped) {
    span.set(attribute::TENANT, waiting.tenant.as_str());
    span.set(attribute::JOB, waiting.job.to_string());
    span.set(attribute::JOB_KIND, kind.name());
    let error = match stopped {
        Stopped::Worked(Ok(_)) => None,
        // Its words may repeat what the job was given.
        Stopped::Worked(Err(error)) => Some(error.code.as_str()),
        Stopped::Lost => Some("lost"),
        Stopped::Released => Some("given_back"),
    };
    if let Some(error) = error {
        span.set(attribute::ERROR, error);
        span.fail(error);
    }
    span.end();
}

fn is_made_of(job: &Job, worked: &Result<Output, Error>) -> bool {
    match (&job.state, worked) {
        (State::Completed { output, .. }, Ok(made)) => output == made,
        (State::Failed { error, .. }, Err(made)) => error == made,
        _other => false,
    }
}

/// How long a claim of `shop` holds.
pub(crate) fn lease(shop: &Shop) -> Millis {
    Millis(u64::try_from(shop.options.lease.as_millis()).unwrap_or(u64::MAX))
}

/// Where a job's worker keeps what it makes: under the claim, so that a worker that lost it overwrites nothing.
fn folder(job: JobId, claim: Claim) -> String {
    format!("{}/{}-{:016x}", Jobs::folder(job), claim.number, claim.worker)
}
