//! Drives the shards of one worker thread: the whole life of a delivery.
//!
//! A record is read ([`Worker::consumed`]), its shard decides ([`Shard::handle`]), the worker carries out
//! ([`Worker::carry_out`]): it posts, writes rows, reads backlogs, commits; and what comes of it is the shard's
//! next input.

use std::collections::{BTreeMap, HashMap};
use std::ops::ControlFlow;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::LocalBoxFuture;
use futures_util::stream::FuturesUnordered;
use metrics::Counter;
use postrider_backend::directory::{Change, Directory};
use postrider_backend::log::{Consumed, Consumer, Log, LogError, Record};
use postrider_backend::store::{Lane, Store};
use postrider_core::delivery::Delivery;
use postrider_core::id::EndpointId;
use postrider_core::offsets::Progress;
use postrider_core::partition::Partition;
use postrider_core::record::{Envelope, RecordError};
use postrider_core::shard::{Action, Input, Limits, Shard};
use postrider_core::time::Time;
use postrider_egress::{EgressError, Sender};
use postrider_ingest::{Ingest, clock};
use postrider_metrics::names;
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::attempt::{self, Landed, Outlet};
use crate::departed::Departed;
use crate::lookups::{self, Answered, Known, Stretch};
use crate::meters::Figures;
use crate::outbox::{Outbox, Sinks};
use crate::rows;
use crate::strain::Strain;
use crate::targets::Targets;
use postrider_backend::log::{Tenure, Tenures};

/// Most endings taken in before the shards are asked what to do about them.
const ENDINGS: usize = 64;
/// Before what must be done before anything else is tried again.
const AGAIN: Duration = Duration::from_millis(250);

/// What a deliverer works with.
pub struct Deliverer {
    /// Reads `deliveries`, and says which partitions are this worker's.
    pub consumer: Consumer,
    /// Where deliveries come from.
    pub log: Log,
    /// Where they leave their rows and wait.
    pub store: Store,
    /// Where endpoints are looked up.
    pub directory: Directory,
    /// Takes in events about deliveries that were given up.
    pub ingest: Arc<Ingest>,
}

/// How a deliverer works.
#[derive(Clone, Debug)]
pub struct DelivererOptions {
    /// How much each shard takes on.
    pub limits: Limits,
    /// How it connects to receivers.
    pub egress: postrider_egress::Options,
    /// How long it may go on after being told to stop.
    pub drain: Duration,
}

/// A loop had to end.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The log can't be read.
    #[error("the log can't be read: {0}")]
    Log(#[from] LogError),
    /// Connections can't be made at all.
    #[error("{0}")]
    Egress(#[from] EgressError),
    /// The system gives no randomness.
    #[error("the system's randomness can't be read: {0}")]
    Randomness(#[from] getrandom::Error),
    /// The data was written by a newer build. Skipping it would lose it.
    #[error("partition {}: {error}", partition.0)]
    Newer {
        /// Where.
        partition: Partition,
        /// What was found.
        error: RecordError,
    },
}

/// Serves the partitions that its consumer is given until `stop`, then drains: partitions are handed over, and what is
/// in flight may end, within `options.drain`.
///
/// Runs on one thread; a panic or an error takes the role down.
pub async fn run(parts: Deliverer, options: DelivererOptions, stop: CancellationToken) -> Result<(), EngineError> {
    let mut worker = Worker::new(parts, options)?;
    while !stop.is_cancelled() {
        worker.turn(Some(&stop)).await?;
    }
    worker.drain().await
}

/// A partition that is being taken over.
struct Takeover {
    tenure: Tenure,
    progress: Progress,
    lanes: Vec<Lane>,
}

struct Worker {
    consumer: Consumer,
    log: Log,
    store: Store,
    limits: Limits,
    drain: Duration,
    /// Partitions that are this worker's. One that is still being taken over has no shard yet.
    tenures: BTreeMap<Partition, Tenure>,
    numbering: Tenures,
    strain: Strain,
    takeovers: FuturesUnordered<LocalBoxFuture<'static, Takeover>>,
    /// Those of partitions that others have stay until what they had in flight is recorded.
    shards: BTreeMap<Tenure, Shard>,
    outlet: Rc<Outlet>,
    sending: FuturesUnordered<LocalBoxFuture<'static, Landed>>,
    lookups: FuturesUnordered<LocalBoxFuture<'static, Option<Answered>>>,
    outbox: Outbox,
    changes: broadcast::Receiver<Change>,
    /// Endpoints that shards have lanes of.
    known: HashMap<EndpointId, Known>,
    figures: Figures,
    rebalances: Counter,
}

impl Worker {
    fn new(parts: Deliverer, options: DelivererOptions) -> Result<Worker, EngineError> {
        let Deliverer { consumer, log, store, directory, ingest } = parts;
        let changes = directory.changes();
        let sender = Sender::new(options.egress)?;
        Ok(Worker {
            consumer,
            limits: options.limits,
            drain: options.drain,
            tenures: BTreeMap::new(),
            numbering: Tenures::default(),
            strain: Strain::of_this_thread(),
            takeovers: FuturesUnordered::new(),
            shards: BTreeMap::new(),
            outlet: Rc::new(Outlet { sender, targets: Targets::new(), directory }),
            sending: FuturesUnordered::new(),
            lookups: FuturesUnordered::new(),
            outbox: Outbox::new(Sinks { store: store.clone(), log: log.clone(), ingest }),
            log,
            store,
            changes,
            known: HashMap::new(),
            figures: Figures::new(),
            rebalances: names::REBALANCES.counter(&[]),
        })
    }

    /// Waits for what happens next, and does what the shards say about it.
    async fn turn(&mut self, stop: Option<&CancellationToken>) -> Result<(), EngineError> {
        let wakeup = self.shards.values().filter_map(Shard::next_wakeup).min();
        tokio::select! {
            biased;
            () = stopped(stop) => return Ok(()),
            tenures = self.outbox.written() => self.acknowledged(&tenures),
            Some(landed) = self.sending.next() => self.landed(landed),
            Some(answer) = self.lookups.next() => self.answered(answer),
            change = self.changes.recv() => self.changed(change),
            Some(takeover) = self.takeovers.next() => self.taken_over(takeover)?,
            consumed = self.consumer.next() => self.consumed(consumed?, stop).await?,
            () = sleep_for(wakeup), if wakeup.is_some() => self.feed_all(&Input::Tick),
            () = sleep_until(self.figures.due()) => {}
        }
        self.figures.look(self.shards.values().map(Shard::census));
        if let Some(strained) = self.strain.change() {
            self.feed_all(&Input::Strained(strained));
        }
        self.carry_out()
    }

    fn feed(&mut self, tenure: Tenure, input: Input) {
        if let Some(shard) = self.shards.get_mut(&tenure) {
            shard.handle(input, clock::now());
        }
    }

    fn feed_all(&mut self, input: &Input) {
        let now = clock::now();
        for shard in self.shards.values_mut() {
            shard.handle(input.clone(), now);
        }
    }

    /// Rows are durable: each shard hears how many of its own.
    fn acknowledged(&mut self, tenures: &[Tenure]) {
        let mut counts: BTreeMap<Tenure, usize> = BTreeMap::new();
        for tenure in tenures {
            *counts.entry(*tenure).or_default() += 1;
        }
        for (tenure, count) in counts {
            self.feed(tenure, Input::Written { count });
        }
        self.forget_idle();
    }

    /// An attempt ended, and with it perhaps others.
    fn landed(&mut self, landed: Landed) {
        let mut next = Some(landed);
        for _ in 0..ENDINGS {
            let Some(landed) = next else { break };
            self.finished(landed);
            next = futures_util::FutureExt::now_or_never(self.sending.next()).flatten();
        }
        if let Some(landed) = next {
            self.finished(landed);
        }
    }

    fn finished(&mut self, Landed { tenure, id, report }: Landed) {
        let Some(shard) = self.shards.get_mut(&tenure) else { return };
        let before = shard.turns();
        shard.handle(Input::Finished { id, report }, clock::now());
        let after = shard.turns();
        // Only the end of an attempt opens or closes a breaker, and only that of its endpoint.
        if (before.open, before.closed) != (after.open, after.closed)
            && let Some(stands) = shard.breaker(id.endpoint)
        {
            self.outbox.notices.turned(id.endpoint, self.known.get(&id.endpoint), stands);
        }
    }

    fn answered(&mut self, answer: Option<Answered>) {
        if let Some((tenure, input)) = answer {
            self.feed(tenure, input);
        }
    }

    /// Configuration changed: what was prepared is made anew, and shards with the endpoint are told.
    fn changed(&mut self, change: Result<Change, RecvError>) {
        let affected: Vec<Known> = match change {
            Ok(Change::Endpoint(_, endpoint)) => {
                self.outlet.targets.forget(endpoint);
                self.known.get(&endpoint).cloned().into_iter().collect()
            }
            Ok(Change::Watched) => Vec::new(),
            Ok(Change::Tenant(_)) => {
                self.outlet.targets.forget_all();
                Vec::new()
            }
            Err(RecvError::Lagged(_) | RecvError::Closed) => {
                self.outlet.targets.forget_all();
                self.known.values().cloned().collect()
            }
        };
        for known in affected {
            let shards = self.shards.iter().filter(|(_, shard)| shard.knows(known.endpoint)).map(|(tenure, _)| *tenure);
            for tenure in shards.collect::<Vec<_>>() {
                self.resolve(tenure, known.clone());
            }
        }
    }

    fn resolve(&mut self, tenure: Tenure, known: Known) {
        self.lookups.push(Box::pin(lookups::policy(self.outlet.directory.clone(), tenure, known)));
    }

    async fn consumed(&mut self, consumed: Consumed, stop: Option<&CancellationToken>) -> Result<(), EngineError> {
        match consumed {
            Consumed::Assigned(partition, progress) if stop.is_some() => self.take_over(partition, progress),
            Consumed::Assigned(partition, _) => self.consumer.pause(partition), // it goes to others when this one leaves
            Consumed::Revoking(partition) => self.hand_over(partition),
            Consumed::Lost(partition) => self.lose(partition),
            Consumed::Records(records) => {
                for record in records {
                    if self.arrived(record, stop).await?.is_break() {
                        break;
                    }
                }
            }
        }
        Ok(())
    }

    /// Takes a partition over: before its first record the shard hears which endpoints have a backlog.
    fn take_over(&mut self, partition: Partition, progress: Progress) {
        self.rebalances.increment(1);
        let tenure = self.numbering.begin(partition);
        self.tenures.insert(partition, tenure);
        self.consumer.pause(partition);
        let store = self.store.clone();
        self.takeovers.push(Box::pin(async move {
            let lanes = lookups::lanes(store, partition).await;
            Takeover { tenure, progress, lanes }
        }));
    }

    fn taken_over(&mut self, takeover: Takeover) -> Result<(), EngineError> {
        let Takeover { tenure, progress, lanes } = takeover;
        if self.tenures.get(&tenure.partition) != Some(&tenure) {
            return Ok(()); // it was lost meanwhile
        }
        let mut shard = Shard::new(self.limits.clone(), progress, getrandom::u64()?);
        let now = clock::now();
        for Lane { endpoint, first, due, meta } in lanes {
            shard.handle(Input::Lane { endpoint, first, due, meta }, now);
        }
        shard.handle(Input::Strained(self.strain.is_full()), now);
        self.shards.insert(tenure, shard);
        self.consumer.resume(tenure.partition);
        Ok(())
    }

    /// Another worker is to have the partition: once its shard has drained, it is released.
    fn hand_over(&mut self, partition: Partition) {
        let Some(tenure) = self.tenures.get(&partition).copied() else { return self.consumer.release(partition) };
        if self.shards.contains_key(&tenure) {
            self.consumer.pause(partition);
            self.feed(tenure, Input::Drain);
        } else {
            self.release(tenure);
        }
    }

    /// Lets a partition go at once; what its shard still has in flight is heard and recorded all the same.
    fn release(&mut self, tenure: Tenure) {
        self.rebalances.increment(1);
        self.tenures.remove(&tenure.partition);
        self.consumer.release(tenure.partition);
        self.forget_idle();
    }

    /// The partition has gone to another worker: what is in flight is still recorded.
    fn lose(&mut self, partition: Partition) {
        let Some(tenure) = self.tenures.remove(&partition) else { return };
        self.rebalances.increment(1);
        self.feed(tenure, Input::Revoked);
        self.forget_idle();
    }

    /// Drops the shards of partitions that others have, once they have nothing under way any more.
    fn forget_idle(&mut self) {
        if self.shards.len() > self.tenures.len() {
            let tenures = &self.tenures;
            self.shards.retain(|tenure, shard| tenures.get(&tenure.partition) == Some(tenure) || shard.is_busy());
        }
    }

    /// Gives a record to its shard. Breaks where it is to stop before that is done: then nothing behind it may be taken
    /// either, or a commit would speak for it.
    async fn arrived(&mut self, record: Record, stop: Option<&CancellationToken>) -> Result<ControlFlow<()>, EngineError> {
        let Some(tenure) = self.tenures.get(&record.partition).copied() else { return Ok(ControlFlow::Continue(())) };
        let envelope = match Envelope::decode(&record.meta) {
            Ok(envelope) => envelope,
            Err(error @ RecordError::Newer { .. }) => return Err(EngineError::Newer { partition: record.partition, error }),
            Err(RecordError::Malformed(reason)) => return Ok(self.bury(&record, reason, stop).await),
        };
        if let Some(row) = &envelope.row {
            let tenant = self.outbox.tenant(envelope.tenant);
            self.outbox.push_event(rows::of_delivery(&envelope, row, tenant, self.log.body(&record)));
        }
        let command = envelope.command;
        let delivery = Delivery {
            id: envelope.id(),
            key: envelope.order_key(),
            since: record.at,
            attempts: envelope.attempts,
            failed: 0,
            meta: record.meta.clone(),
            payload: record.payload,
        };
        self.feed(tenure, Input::Arrived { offset: record.offset, command, delivery });
        Ok(ControlFlow::Continue(()))
    }

    /// A record that can't be read goes to the dead letters, and the rest goes on; breaks where it is to stop before.
    async fn bury(&self, record: &Record, reason: String, stop: Option<&CancellationToken>) -> ControlFlow<()> {
        let letter = postrider_ingest::dead_letter(&self.log, record, reason);
        let buried = async {
            while let Err(error) = self.log.append(vec![letter.clone()]).await {
                tracing::warn!(%error, "a dead letter can't be appended; trying again");
                tokio::time::sleep(AGAIN).await;
            }
        };
        tokio::select! {
            biased;
            () = stopped(stop) => ControlFlow::Break(()),
            () = buried => ControlFlow::Continue(()),
        }
    }

    /// Does what the shards ask for. Nothing here waits.
    fn carry_out(&mut self) -> Result<(), EngineError> {
        let mut drained = Vec::new();
        for (tenure, shard) in &mut self.shards {
            let tenure = *tenure;
            let partition = tenure.partition;
            while let Some(action) = shard.poll() {
                match action {
                    Action::Send(attempt) => self.sending.push(Box::pin(attempt::make(self.outlet.clone(), tenure, attempt))),
                    Action::Write(change) => self.outbox.push_change(tenure, change),
                    Action::Load { endpoint, from, low, limit } => {
                        self.lookups.push(Box::pin(lookups::load(&self.store, tenure, endpoint, &Stretch { from, low, limit })));
                    }
                    Action::Find(id) => self.lookups.push(Box::pin(lookups::find(self.store.clone(), tenure, id))),
                    Action::Resolve { endpoint, meta } => {
                        let Some(known) = Known::from_meta(&meta) else { continue };
                        self.known.insert(endpoint, known.clone());
                        self.lookups.push(Box::pin(lookups::policy(self.outlet.directory.clone(), tenure, known)));
                    }
                    Action::Disable { meta, .. } => {
                        let Some(known) = Known::from_meta(&meta) else { continue };
                        self.lookups.push(Box::pin(lookups::disable(self.outlet.directory.clone(), known)));
                    }
                    Action::Commit(progress) => self.consumer.commit(partition, &progress)?,
                    Action::Pause => self.consumer.pause(partition),
                    Action::Resume => self.consumer.resume(partition),
                    Action::Drained => drained.push(tenure),
                }
            }
        }
        drained.into_iter().for_each(|tenure| self.release(tenure));
        self.forget_strangers();
        Ok(())
    }

    /// Keeps what is known of endpoints about as large as what the shards hold.
    fn forget_strangers(&mut self) {
        let lanes: usize = self.shards.values().map(Shard::lanes).sum();
        if self.known.len() > 2 * lanes + 1024 {
            let shards = &self.shards;
            self.known.retain(|endpoint, _| shards.values().any(|shard| shard.knows(*endpoint)));
        }
    }

    /// Hands all partitions over, so that others serve them at once; then lets what is in flight end and records it.
    /// Both within the deadline. Partitions that are still being taken over have nothing to finish.
    async fn drain(mut self) -> Result<(), EngineError> {
        let deadline = Instant::now() + self.drain;
        self.takeovers.clear();
        self.tenures.keys().for_each(|partition| self.consumer.pause(*partition));
        let shards = &self.shards;
        self.tenures.retain(|_, tenure| shards.contains_key(tenure));
        self.feed_all(&Input::Drain);
        self.carry_out()?;
        while !self.tenures.is_empty() {
            match tokio::time::timeout_at(deadline, self.turn(None)).await {
                Ok(done) => done?,
                Err(_) => break, // the store takes no rows: what is not stored is read again
            }
        }
        let Worker { consumer, shards, outlet, sending, lookups, outbox, .. } = self;
        let departed = Departed { shards, outlet, sending, lookups, outbox };
        let (closed, ()) = tokio::join!(consumer.close(), departed.wind_up(deadline));
        note_close(closed);
        Ok(())
    }
}

/// A group that can't be left in time only costs repeats.
pub(crate) fn note_close(closed: Result<(), LogError>) {
    if let Err(error) = closed {
        tracing::warn!(%error, "the log was left without a word");
    }
}

async fn stopped(stop: Option<&CancellationToken>) {
    match stop {
        Some(stop) => stop.cancelled().await,
        None => std::future::pending().await,
    }
}

async fn sleep_for(wakeup: Option<Time>) {
    let Some(at) = wakeup else { return std::future::pending().await };
    sleep_until(Instant::now() + at.since(clock::now()).into()).await;
}
