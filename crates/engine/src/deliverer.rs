//! Drives the shards of one worker thread: the whole life of a delivery.
//!
//! A record is read ([`Worker::consumed`]), its shard decides ([`Shard::handle`]), the worker carries out
//! ([`Worker::carry_out`]): it posts, writes rows, reads backlogs, commits; and what comes of it is the shard's
//! next input.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::LocalBoxFuture;
use futures_util::stream::FuturesUnordered;
use postrider_backend::directory::{Change, Directory};
use postrider_backend::log::{Append, Consumed, Consumer, Group, Log, LogError, Record, Topic};
use postrider_backend::store::{Body, Store};
use postrider_core::delivery::Delivery;
use postrider_core::id::EndpointId;
use postrider_core::offsets::Progress;
use postrider_core::partition::Partition;
use postrider_core::record::{Envelope, RecordError};
use postrider_core::shard::{Action, Input, Limits, Shard};
use postrider_core::time::Time;
use postrider_egress::{EgressError, Sender};
use postrider_ingest::{Ingest, clock};
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::attempt::{self, Landed, Outlet};
use crate::lookups::{self, Answered, Known};
use crate::outbox::{Outbox, Sinks};
use crate::rows;
use crate::targets::Targets;

/// Most endings taken in before the shards are asked what to do about them.
const ENDINGS: usize = 64;
/// Before what must be done before anything else is tried again.
const AGAIN: Duration = Duration::from_millis(250);

/// What a deliverer works with.
pub struct Deliverer {
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
    /// The partitions of `deliveries` that are this worker's.
    pub partitions: Vec<Partition>,
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

/// Serves `options.partitions` until `stop`, then drains: what is in flight may end within `options.drain`.
///
/// Runs on one thread; a panic or an error takes the role down.
pub async fn run(parts: Deliverer, options: DelivererOptions, stop: CancellationToken) -> Result<(), EngineError> {
    let consumer = parts.log.consumer(Group::Deliver, Topic::Deliveries, options.partitions.clone())?;
    let mut worker = Worker::new(parts, options, consumer)?;
    while !stop.is_cancelled() {
        worker.turn(Some(&stop)).await?;
    }
    worker.drain().await
}

struct Worker {
    consumer: Consumer,
    log: Log,
    store: Store,
    limits: Limits,
    drain: Duration,
    shards: BTreeMap<Partition, Shard>,
    /// Partitions whose shard has no room; nothing is read while there is one.
    paused: HashSet<Partition>,
    drained: HashSet<Partition>,
    outlet: Rc<Outlet>,
    sending: FuturesUnordered<LocalBoxFuture<'static, Landed>>,
    lookups: FuturesUnordered<LocalBoxFuture<'static, Option<Answered>>>,
    outbox: Outbox,
    changes: broadcast::Receiver<Change>,
    /// Endpoints that shards have lanes of.
    known: HashMap<EndpointId, Known>,
}

impl Worker {
    fn new(parts: Deliverer, options: DelivererOptions, consumer: Consumer) -> Result<Worker, EngineError> {
        let Deliverer { log, store, directory, ingest } = parts;
        let changes = directory.changes();
        let sender = Sender::new(options.egress)?;
        Ok(Worker {
            consumer,
            limits: options.limits,
            drain: options.drain,
            shards: BTreeMap::new(),
            paused: HashSet::new(),
            drained: HashSet::new(),
            outlet: Rc::new(Outlet { sender, targets: Targets::default(), directory }),
            sending: FuturesUnordered::new(),
            lookups: FuturesUnordered::new(),
            outbox: Outbox::new(Sinks { store: store.clone(), log: log.clone(), ingest }),
            log,
            store,
            changes,
            known: HashMap::new(),
        })
    }

    /// Waits for what happens next, and does what the shards say about it.
    async fn turn(&mut self, stop: Option<&CancellationToken>) -> Result<(), EngineError> {
        let reading = self.paused.is_empty() && stop.is_some();
        let wakeup = self.shards.values().filter_map(Shard::next_wakeup).min();
        tokio::select! {
            biased;
            () = stopped(stop) => return Ok(()),
            partitions = self.outbox.written() => self.acknowledged(&partitions),
            Some(landed) = self.sending.next() => self.landed(landed),
            Some(answer) = self.lookups.next() => self.answered(answer),
            change = self.changes.recv() => self.changed(change),
            consumed = self.consumer.next(), if reading => self.consumed(consumed?).await?,
            () = sleep_for(wakeup), if wakeup.is_some() => self.feed_all(&Input::Tick),
        }
        self.carry_out()
    }

    fn feed(&mut self, partition: Partition, input: Input) {
        if let Some(shard) = self.shards.get_mut(&partition) {
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
    fn acknowledged(&mut self, partitions: &[Partition]) {
        let mut counts: BTreeMap<Partition, usize> = BTreeMap::new();
        for partition in partitions {
            *counts.entry(*partition).or_default() += 1;
        }
        for (partition, count) in counts {
            self.feed(partition, Input::Written { count });
        }
    }

    /// An attempt ended, and with it perhaps others.
    fn landed(&mut self, landed: Landed) {
        let mut next = Some(landed);
        for _ in 0..ENDINGS {
            let Some(Landed { partition, id, report }) = next else { break };
            self.feed(partition, Input::Finished { id, report });
            next = futures_util::FutureExt::now_or_never(self.sending.next()).flatten();
        }
        if let Some(Landed { partition, id, report }) = next {
            self.feed(partition, Input::Finished { id, report });
        }
    }

    fn answered(&mut self, answer: Option<Answered>) {
        if let Some((partition, input)) = answer {
            self.feed(partition, input);
        }
    }

    /// Configuration changed: what was prepared is made anew, and shards with the endpoint are told.
    fn changed(&mut self, change: Result<Change, RecvError>) {
        let affected: Vec<Known> = match change {
            Ok(Change::Endpoint(_, endpoint)) => {
                self.outlet.targets.forget(endpoint);
                self.known.get(&endpoint).cloned().into_iter().collect()
            }
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
            let shards = self.shards.iter().filter(|(_, shard)| shard.knows(known.endpoint)).map(|(partition, _)| *partition);
            for partition in shards.collect::<Vec<_>>() {
                self.resolve(partition, known.clone());
            }
        }
    }

    fn resolve(&mut self, partition: Partition, known: Known) {
        self.lookups.push(Box::pin(lookups::policy(self.outlet.directory.clone(), partition, known)));
    }

    async fn consumed(&mut self, consumed: Consumed) -> Result<(), EngineError> {
        match consumed {
            Consumed::Assigned(partition, progress) => self.assigned(partition, progress).await?,
            Consumed::Revoked(partition) => self.feed(partition, Input::Revoked),
            Consumed::Records(records) => {
                for record in records {
                    self.arrived(record).await?;
                }
            }
        }
        Ok(())
    }

    /// Takes a partition over: first of all it hears which endpoints have a backlog.
    async fn assigned(&mut self, partition: Partition, progress: Progress) -> Result<(), EngineError> {
        let mut shard = Shard::new(self.limits.clone(), progress, getrandom::u64()?);
        let lanes = loop {
            match self.store.lanes(partition).await {
                Ok(lanes) => break lanes,
                Err(error) => tracing::warn!(%error, partition = partition.0, "backlogs can't be read; trying again"),
            }
            tokio::time::sleep(AGAIN).await;
        };
        let now = clock::now();
        for lane in lanes {
            shard.handle(Input::Lane { endpoint: lane.endpoint, first: lane.first, due: lane.due, meta: lane.meta }, now);
        }
        self.shards.insert(partition, shard);
        Ok(())
    }

    async fn arrived(&mut self, record: Record) -> Result<(), EngineError> {
        let Record { partition, offset, at, meta, payload, .. } = record;
        let envelope = match Envelope::decode(&meta) {
            Ok(envelope) => envelope,
            Err(error @ RecordError::Newer { .. }) => return Err(EngineError::Newer { partition, error }),
            Err(RecordError::Malformed(reason)) => {
                tracing::warn!(partition = partition.0, offset = offset.0, reason, "a record can't be read; it goes to the dead letters");
                let letter = Append { topic: Topic::DeadLetters, partition, meta: meta.clone(), payload };
                while let Err(error) = self.log.append(vec![letter.clone()]).await {
                    tracing::warn!(%error, "a dead letter can't be appended; trying again");
                    tokio::time::sleep(AGAIN).await;
                }
                return Ok(());
            }
        };
        if let Some(row) = &envelope.row {
            let tenant = self.outbox.tenant(envelope.tenant);
            self.outbox.push_event(rows::of_delivery(&envelope, row, tenant, Body::At(offset)));
        }
        let command = envelope.command;
        let delivery = Delivery {
            id: envelope.id(),
            key: envelope.order_key(),
            since: at,
            attempts: envelope.attempts,
            failed: 0,
            meta: meta.clone(),
            payload,
        };
        self.feed(partition, Input::Arrived { offset, command, delivery });
        Ok(())
    }

    /// Does what the shards ask for. Nothing here waits.
    fn carry_out(&mut self) -> Result<(), EngineError> {
        for (partition, shard) in &mut self.shards {
            let partition = *partition;
            while let Some(action) = shard.poll() {
                match action {
                    Action::Send(attempt) => self.sending.push(Box::pin(attempt::make(self.outlet.clone(), partition, attempt))),
                    Action::Write(change) => self.outbox.push_change(partition, change),
                    Action::Load { endpoint, from, limit } => {
                        self.lookups.push(Box::pin(lookups::load(self.store.clone(), partition, endpoint, from, limit)));
                    }
                    Action::Find(id) => self.lookups.push(Box::pin(lookups::find(self.store.clone(), partition, id))),
                    Action::Resolve { endpoint, meta } => {
                        let Some(known) = Known::from_meta(&meta) else { continue };
                        self.known.insert(endpoint, known.clone());
                        self.lookups.push(Box::pin(lookups::policy(self.outlet.directory.clone(), partition, known)));
                    }
                    Action::Disable { meta, .. } => {
                        let Some(known) = Known::from_meta(&meta) else { continue };
                        self.lookups.push(Box::pin(lookups::disable(self.outlet.directory.clone(), known)));
                    }
                    Action::Commit(progress) => self.consumer.commit(partition, &progress)?,
                    Action::Pause => drop(self.paused.insert(partition)),
                    Action::Resume => drop(self.paused.remove(&partition)),
                    Action::Drained => drop(self.drained.insert(partition)),
                }
            }
        }
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

    /// Lets what is in flight end and makes it durable, within the deadline; then cuts the rest off.
    async fn drain(&mut self) -> Result<(), EngineError> {
        let deadline = Instant::now() + self.drain;
        self.feed_all(&Input::Drain);
        self.carry_out()?;
        while self.drained.len() < self.shards.len() {
            let turn = tokio::time::timeout_at(deadline, self.turn(None));
            if let Ok(done) = turn.await {
                done?;
                continue;
            }
            tracing::warn!(
                in_flight = self.sending.len(),
                "the drain deadline has passed; attempts in flight are cut off and made again later"
            );
            return Ok(());
        }
        Ok(())
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
