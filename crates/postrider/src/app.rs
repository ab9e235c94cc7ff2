//! The server: opens what the configuration names, runs its roles, ends in good order.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, anyhow};
use postrider_api::{Api, ApiLimits, ApiParts};
use postrider_backend::blobs::{Blobs, S3Options};
use postrider_backend::live::Live;
use postrider_backend::log::{Group, Topic};
use postrider_bert::Model;
use postrider_compute::results::Results;
use postrider_compute::{Compute, ComputeOptions};
use postrider_core::job::JobKind;
use postrider_core::secret::Secret;
use postrider_core::shard;
use postrider_egress::Guard;
use postrider_engine::deliverer::{self, Deliverer, DelivererOptions};
use postrider_engine::router::{self, Router};
use postrider_ingest::Budgets;
use postrider_ingest::jobs::{Bert, Jobs, Kind, Kinds, Speech};
use postrider_ingest::{Ids, Ingest, Reading};
use postrider_spans::Exporter;
use socket2::{Domain, Socket, Type};
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::admin::{self, Admin};
use crate::backend::{self, Backend};
use crate::config::{self, BlobPlace, Config, Engine, Role, Tts};
use crate::disk::{self, Folder};
use crate::failure::Failure;
use crate::scrape::Scrape;

/// Connections that the system may hold ready for being accepted.
const ACCEPT_QUEUE: i32 = 1024;
/// Bytes of a batch that a router reads at a time.
const ROUTER_BATCH: usize = 1 << 20;
/// Bytes of jobs that a worker of jobs reads at a time.
const JOB_BATCH: usize = 1 << 20;
/// Jobs of one kind that workers outside do which are looked at at one time.
const LOOKS: usize = 32;
/// How much less important than everything else computing is (nice(2)).
const COMPUTE_NICE: i32 = 10;
/// Threads of one worker for reads that may touch the disk.
const READERS: usize = 8;

/// A server that is ready to run. Its ports are bound, its backend is open.
pub(crate) struct App {
    config: Config,
    /// Where the API listens, if it is this process's to serve.
    address: Option<SocketAddr>,
    /// One for each worker, or none.
    listeners: Vec<TcpListener>,
    admin: Option<TcpListener>,
    workers: usize,
    backend: Backend,
    ingest: Arc<Ingest>,
    live: Live,
    /// For a process that serves it.
    api: Option<Api>,
    /// For a process that takes or does jobs.
    work: Option<Work>,
    /// For a process that answers operators.
    scrape: Option<Scrape>,
    /// Where spans go.
    exporter: Option<Exporter>,
}

/// What jobs are taken and done with.
#[derive(Clone)]
struct Work {
    blobs: Blobs,
    jobs: Arc<Jobs>,
    /// For the metric bert_score.
    model: Option<Arc<Model>>,
    /// What tenants may use of the upstream, where that is limited.
    budgets: Option<Budgets>,
}

impl App {
    /// Opens and binds everything, or says why not; nothing runs yet. Operators are answered on `admin`.
    pub(crate) fn build(mut config: Config, admin: Option<TcpListener>) -> Result<App, Failure> {
        raise_file_limit();
        let scrape = admin.is_some().then(|| Scrape::begin(&config.server.roles)).transpose().map_err(anyhow::Error::new)?;
        let exporter = config.spans().as_ref().map(postrider_spans::install).transpose().map_err(anyhow::Error::new)?;
        let backend = match config.backend {
            config::Backend::Embedded => Backend::embedded(&mut config)?,
            config::Backend::Cluster => Backend::cluster(&config)?,
        };
        let workers = worker_count(&config, backend.log.partitions(Topic::Deliveries));
        let (address, listeners) = match config.server.roles.contains(&Role::Api) {
            true => listen(config.server.listen, workers).map(|(address, listeners)| (Some(address), listeners))?,
            false => (None, Vec::new()),
        };
        let Backend { log, store, directory, .. } = &backend;
        let ids = Ids::new().context("the system's randomness can't be read")?;
        let ingest = Arc::new(Ingest::new(log.clone(), store.clone(), directory.clone(), ids));
        let live = Live::new(store.clone(), log.clone(), directory.clone());
        let work = Work::open(&config, &ingest, address)?;
        let api = match &work {
            Some(Work { blobs, jobs, .. }) if config.server.roles.contains(&Role::Api) => {
                let parts = ApiParts {
                    ingest: ingest.clone(),
                    jobs: jobs.clone(),
                    blobs: blobs.clone(),
                    store: store.clone(),
                    directory: directory.clone(),
                    live: live.clone(),
                    egress: egress(&config, workers),
                    key: config.auth.bootstrap_key.clone(),
                    limits: ApiLimits {
                        jobs_per_second: config.jobs.per_second,
                        file_bytes: config.batch.max_file_mib << 20,
                        job_retention: backend::job_retention(&config),
                        ..ApiLimits::default()
                    },
                };
                Some(Api::new(parts).context("the system's randomness can't be read")?)
            }
            Some(_) | None => None,
        };
        Ok(App { config, address, listeners, admin, workers, backend, ingest, live, api, work, scrape, exporter })
    }

    /// Where the API listens; empty for a process that does not serve it.
    pub(crate) fn url(&self) -> String {
        self.address.map(|address| format!("http://{address}")).unwrap_or_default()
    }

    /// Says on stdout where it can be reached, once it can.
    pub(crate) fn announce(&self) -> Result<(), Failure> {
        match self.address {
            Some(address) => println!("listening on http://{address}"),
            None => println!("running without an API"),
        }
        if let Some(listener) = &self.admin {
            println!("admin on http://{}", listener.local_addr().context("the port can't be read")?);
        }
        Ok(())
    }

    /// The administrator's key.
    pub(crate) fn key(&self) -> &Secret {
        &self.config.auth.bootstrap_key
    }

    /// Runs until `stop`, then drains. A role that fails or panics takes the whole server down, loudly.
    pub(crate) fn run(self, stop: CancellationToken) -> Result<(), Failure> {
        let App { config, listeners, admin, workers, backend, ingest, live, api, work, scrape, exporter, .. } = self;
        let Backend { log, store, directory, names, mut keep } = backend;
        let (told, failure) = (stop.clone(), Arc::new(OnceLock::new()));
        let failed = failure.clone();
        keep.follow(&directory, move |error| {
            tracing::error!(%error, "changes of the configuration can't be followed; stopping");
            failed.get_or_init(|| error);
            told.cancel();
        });
        let drain = Duration::from_secs(config.server.drain_seconds);
        let roles = &config.server.roles;
        if roles.contains(&Role::Deliver) {
            keep.show(live, &directory);
        }
        let mut threads: Vec<JoinHandle<anyhow::Result<()>>> = Vec::new();
        let ended = CancellationToken::new();
        let admin = match admin.zip(scrape) {
            Some((listener, scrape)) => {
                disk::watch(written(&config)).context("a thread can't be started")?;
                let reads = reads(&config).into();
                let kinds = work.as_ref().map(|work| work.jobs.kinds.clone());
                let (log, store, roles, told) = (log.clone(), store.clone(), roles.clone(), stop.clone());
                let state = Admin { log, store, names, roles, kinds, scrape, reads, stop: told };
                let ended = ended.clone();
                Some(spawn("admin", stop.clone(), move |runtime| runtime.block_on(admin::serve(listener, state, ended)))?)
            }
            None => None,
        };
        // It hears of the end last, and then sends what is left.
        let spans = exporter.map(|exporter| {
            let ended = ended.clone();
            let run = move |runtime: &Runtime| {
                runtime.block_on(exporter.run(ended));
                Ok(())
            };
            spawn("spans", stop.clone(), run)
        });
        let spans = spans.transpose()?;
        let consumers = |group, topic, count, bytes| log.consumers(group, topic, count, bytes).map_err(anyhow::Error::new);
        if roles.contains(&Role::Router) {
            let sources = config.sources.iter().zip(0..).map(|(source, index)| (Topic::Source(index), source.reading()));
            for (topic, reading) in [(Topic::Events, Reading::default())].into_iter().chain(sources) {
                let consumer = consumers(Group::Router, topic, 1, ROUTER_BATCH)?.pop().context("a router has a consumer")?;
                let (log, store, ingest) = (log.clone(), store.clone(), ingest.clone());
                let router = Router { consumer, log, store, ingest, reading };
                let stop = stop.clone();
                threads.push(spawn("router", stop.clone(), move |runtime| Ok(runtime.block_on(router::run(router, stop))?))?);
            }
        }
        if let Some(work) = work.filter(|_| roles.contains(&Role::Compute)) {
            let (blobs, retention, told) = (work.blobs.clone(), backend::job_retention(&config), stop.clone());
            let sweep = move |runtime: &Runtime| {
                runtime.block_on(postrider_compute::sweep::run(blobs, retention, told));
                Ok(())
            };
            threads.push(spawn("blobs", stop.clone(), sweep)?);
            let consumer = |topic: Topic| -> anyhow::Result<_> {
                consumers(Group::Compute, topic, 1, JOB_BATCH)?.pop().context("a worker of jobs has a consumer")
            };
            for kind in work.jobs.kinds.available() {
                let Work { blobs, jobs, model, budgets } = work.clone();
                let upstream = config.upstream().map_err(Failure::Usage)?;
                let options = compute_options(&config, kind, drain);
                let (name, runtime, told) = (format!("compute-{}", jobs.kinds.name(kind)), compute_runtime(options.threads), stop.clone());
                let (consumer, log, store, egress) = (consumer(kind.topic())?, log.clone(), store.clone(), egress(&config, 1));
                let parts = Compute { kind, consumer, log, store, blobs, jobs, model, egress, upstream, budgets };
                let run = move |runtime: &Runtime| Ok(runtime.block_on(postrider_compute::worker::run(parts, options, told))?);
                threads.push(spawn_on(&name, runtime, stop.clone(), run)?);
            }
            if !work.jobs.kinds.outside.is_empty() {
                let (Work { blobs, jobs, .. }, told) = (work, stop.clone());
                let results = Results { consumer: consumer(Topic::JobResults)?, log: log.clone(), store: store.clone(), blobs, jobs };
                let run = move |runtime: &Runtime| Ok(runtime.block_on(postrider_compute::results::run(results, told))?);
                threads.push(spawn("job-results", stop.clone(), run)?);
            }
        }
        let limits = shard_limits(&config, log.partitions(Topic::Deliveries));
        let mut deliveries = match roles.contains(&Role::Deliver) {
            true => consumers(Group::Deliver, Topic::Deliveries, workers, limits.batch())?,
            false => Vec::new(),
        };
        let mut listeners = listeners.into_iter();
        for index in 0..workers {
            let deliver = deliveries.pop().map(|consumer| {
                let options = DelivererOptions { limits: limits.clone(), egress: egress(&config, workers), drain };
                let (log, store, directory, ingest) = (log.clone(), store.clone(), directory.clone(), ingest.clone());
                (Deliverer { consumer, log, store, directory, ingest }, options)
            });
            let serve = listeners.next().zip(api.clone()).map(|(listener, api)| (listener, postrider_api::router(api)));
            let worker = Worker { deliver, serve, drain, stop: stop.clone() };
            threads.push(spawn(&format!("worker-{index}"), stop.clone(), move |runtime| runtime.block_on(worker.run()))?);
        }
        drop((deliveries, log, store, directory, ingest, api));
        let mut ends: Vec<anyhow::Result<()>> = threads.into_iter().map(join).collect();
        ended.cancel(); // until now operators were told that it is stopping
        ends.extend(admin.into_iter().chain(spans).map(join));
        drop(keep);
        ends.into_iter().collect::<anyhow::Result<()>>().map_err(Failure::from)?;
        match failure.get() {
            Some(error) => Err(anyhow!("changes of the configuration can't be followed: {error}").into()),
            None => Ok(()),
        }
    }
}

/// What one thread does: its share of the connections and of the partitions.
struct Worker {
    deliver: Option<(Deliverer, DelivererOptions)>,
    serve: Option<(TcpListener, axum::Router)>,
    drain: Duration,
    stop: CancellationToken,
}

impl Worker {
    async fn run(self) -> anyhow::Result<()> {
        let Worker { deliver, serve, drain, stop } = self;
        let served = serve.map(|(listener, router)| {
            let stop = stop.clone();
            tokio::spawn(async move {
                let listener = tokio::net::TcpListener::from_std(listener)?;
                let ended = postrider_api::serve(listener, router, stop.clone().cancelled_owned(), drain).await;
                stop.cancel(); // one role's end is the end of all
                ended
            })
        });
        if let Some((parts, options)) = deliver {
            let ended = deliverer::run(parts, options, stop.clone()).await;
            stop.cancel();
            ended?;
        }
        match served {
            Some(served) => Ok(served.await.context("the API died")??),
            None => {
                stop.cancelled().await;
                Ok(())
            }
        }
    }
}

/// A token that SIGTERM or SIGINT cancels from now on; a second signal ends the process at once.
pub(crate) fn terminated() -> Result<CancellationToken, Failure> {
    let stop = CancellationToken::new();
    let told = stop.clone();
    let runtime = runtime().context("signals can't be waited for")?;
    let (mut term, mut int) = {
        let _inside = runtime.enter();
        let caught = |kind| signal(kind).context("signals can't be waited for");
        (caught(SignalKind::terminate())?, caught(SignalKind::interrupt())?)
    };
    let wait = move || {
        runtime.block_on(async {
            for _ in 0..2 {
                tokio::select! { _ = term.recv() => {} _ = int.recv() => {} }
                if told.is_cancelled() {
                    std::process::exit(130);
                }
                tracing::info!("stopping: finishing what is under way");
                told.cancel();
            }
        });
    };
    thread::Builder::new().name("signals".to_owned()).spawn(wait).context("a thread can't be started")?;
    Ok(stop)
}

fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().max_blocking_threads(READERS).build()
}

/// A runtime whose blocking threads compute, when nothing more important wants the processor.
fn compute_runtime(threads: usize) -> io::Result<Runtime> {
    let humble = || {
        if let Err(error) = rustix::process::nice(COMPUTE_NICE) {
            tracing::warn!(%error, "computing can't be made less important than delivering");
        }
    };
    // Blobs on disk are read and written by such threads, too.
    Builder::new_current_thread().enable_all().max_blocking_threads(threads + READERS).on_thread_start(humble).build()
}

/// Runs `work` on a thread of its own; when it ends for whatever reason, so does everything else.
fn spawn(
    name: &str,
    stop: CancellationToken,
    work: impl FnOnce(&Runtime) -> anyhow::Result<()> + Send + 'static,
) -> anyhow::Result<JoinHandle<anyhow::Result<()>>> {
    spawn_on(name, runtime(), stop, work)
}

fn spawn_on(
    name: &str,
    runtime: io::Result<Runtime>,
    stop: CancellationToken,
    work: impl FnOnce(&Runtime) -> anyhow::Result<()> + Send + 'static,
) -> anyhow::Result<JoinHandle<anyhow::Result<()>>> {
    let runtime = runtime.context("a runtime can't be started")?;
    let run = move || {
        let _end_of_all = stop.drop_guard();
        work(&runtime)
    };
    thread::Builder::new().name(name.to_owned()).spawn(run).context("a thread can't be started")
}

fn join(thread: JoinHandle<anyhow::Result<()>>) -> anyhow::Result<()> {
    let name = thread.thread().name().unwrap_or("a thread").to_owned();
    thread.join().map_err(|_| anyhow!("{name} panicked; see the log above"))?.with_context(|| format!("{name} failed"))
}

impl Work {
    /// `None` for a process that neither takes nor does jobs.
    fn open(config: &Config, ingest: &Arc<Ingest>, address: Option<SocketAddr>) -> Result<Option<Work>, Failure> {
        if !config.server.roles.iter().any(|role| matches!(role, Role::Api | Role::Compute)) {
            return Ok(None);
        }
        let blobs = open_blobs(config)?;
        let ids = Ids::new().context("the system's randomness can't be read")?;
        let bert = if config.evaluate.bert_model.as_os_str().is_empty() { Bert::Missing } else { Bert::Configured };
        let model = match bert == Bert::Configured && config.server.roles.contains(&Role::Compute) {
            true => {
                let opened = Model::open(&config.evaluate.bert_model).context("evaluate.bert_model can't be used")?;
                Some(Arc::new(opened))
            }
            false => None,
        };
        let upstream = match config.upstream.base_url.is_empty() {
            false => Ok(()),
            true => Err("upstream.base_url is empty; set it to an OpenAI-compatible server, such as https://api.openai.com/v1".to_owned()),
        };
        let Tts { engine, model: speaker, voice, program, .. } = &config.tts;
        let speech = match engine {
            Engine::Espeak => runtime().context("a runtime can't be started")?.block_on(Kinds::find_espeak(program)),
            Engine::OpenAi => upstream.clone().map(|()| Speech::Upstream { model: speaker.clone(), voice: voice.clone() }),
        };
        let (guard, outside) = (Guard::new(config.egress.allow.clone()), config.jobs.kinds_outside());
        let kinds = Kinds { speech, bert, upstream, guard, outside };
        for (kind, why) in JobKind::ALL.into_iter().filter_map(|kind| kinds.unavailable(kind).map(|why| (kind, why))) {
            match kinds.upstream.as_ref().is_err_and(|unset| unset == why) {
                // Nobody asked for them.
                true => tracing::debug!(kind = kind.name(), why, "jobs of this kind are neither taken nor done here"),
                false => tracing::warn!(kind = kind.name(), why, "jobs of this kind are neither taken nor done here"),
            }
        }
        if config.backend == config::Backend::Cluster && config.server.public_url.is_empty() {
            tracing::warn!("server.public_url is empty: links that callbacks carry lead to this process's own address");
        }
        let jobs = Arc::new(Jobs::new(ingest.clone(), blobs.clone(), ids, kinds, config.public_url(address)));
        let monthly = Some(config.upstream.monthly_tokens).filter(|tokens| *tokens > 0);
        let budgets = monthly.map(|tokens| Budgets::new(ingest.clone(), tokens));
        Ok(Some(Work { blobs, jobs, model, budgets }))
    }
}

fn open_blobs(config: &Config) -> Result<Blobs, Failure> {
    match config.blob_place().context("blobs.url is no place for blobs")? {
        BlobPlace::Folder(folder) => Ok(Blobs::open(&folder).map_err(anyhow::Error::new)?),
        BlobPlace::Bucket { bucket, prefix } => {
            let config::Blobs { url: _, endpoint, region, access_key_id, secret_access_key } = config.blobs.clone();
            let options = S3Options {
                bucket,
                prefix,
                endpoint: Some(endpoint).filter(|endpoint| !endpoint.is_empty()),
                region: Some(region).filter(|region| !region.is_empty()),
                key: (!access_key_id.is_empty()).then_some((access_key_id, secret_access_key)),
                tls: postrider_egress::client_config(config.extra_ca().as_deref()).map_err(anyhow::Error::new)?,
            };
            let opening = runtime().context("a runtime can't be started")?.block_on(Blobs::s3(options));
            Ok(opening.context("look at [blobs]: its url, endpoint, region and keys")?)
        }
    }
}

/// The folders that a process writes to.
fn written(config: &Config) -> Vec<Folder> {
    let data = (config.backend == config::Backend::Embedded).then(|| Folder { name: "data", path: config.data.dir.clone() });
    let has_blobs = config.server.roles.iter().any(|role| matches!(role, Role::Api | Role::Compute));
    let apart = config.blob_place().and_then(|place| match place {
        BlobPlace::Folder(folder) => (has_blobs && (data.is_none() || !folder.starts_with(&config.data.dir))).then_some(folder),
        BlobPlace::Bucket { .. } => None,
    });
    data.into_iter().chain(apart.map(|path| Folder { name: "blobs", path })).collect()
}

/// What a process with these roles reads.
fn reads(config: &Config) -> Vec<(Group, Topic)> {
    let sources = config.sources.iter().zip(0..).map(|(_, index)| Topic::Source(index));
    let of_role = |role: &Role| match role {
        Role::Api => Vec::new(),
        Role::Router => [Topic::Events].into_iter().chain(sources.clone()).map(|topic| (Group::Router, topic)).collect(),
        Role::Deliver => vec![(Group::Deliver, Topic::Deliveries)],
        Role::Compute => {
            let outside = (0..config.jobs.outside.len()).filter_map(|index| u16::try_from(index).ok()).map(Topic::Outside);
            JobKind::ALL.into_iter().map(Topic::Jobs).chain(outside).map(|topic| (Group::Compute, topic)).collect()
        }
    };
    config.server.roles.iter().flat_map(of_role).collect()
}

fn compute_options(config: &Config, kind: Kind, drain: Duration) -> ComputeOptions {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let (concurrency, threads) = match kind {
        Kind::BuiltIn(JobKind::Evaluate) => (config.evaluate.concurrency, config.evaluate.threads),
        Kind::BuiltIn(JobKind::Tts) if config.tts.concurrency == 0 => (cores, 0),
        Kind::BuiltIn(JobKind::Tts) => (config.tts.concurrency, 0),
        Kind::BuiltIn(JobKind::Generate | JobKind::Experiment) => (config.upstream.concurrency, 1),
        Kind::BuiltIn(JobKind::Batch) => (config.batch.concurrency, config.batch.requests),
        Kind::BuiltIn(JobKind::Http) => (config.http.concurrency, 1),
        Kind::Outside(_) => (LOOKS, 1),
    };
    ComputeOptions {
        concurrency,
        threads: if threads == 0 { cores } else { threads },
        timeout: match kind {
            Kind::BuiltIn(kind) => config.jobs.timeout(kind),
            Kind::Outside(_) => Duration::from_secs(config.jobs.timeout_seconds),
        },
        lease: Duration::from_secs(config.jobs.lease_seconds),
        drain,
    }
}

fn worker_count(config: &Config, partitions: u16) -> usize {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let asked = if config.server.workers == 0 { cores } else { config.server.workers };
    asked.clamp(1, usize::from(partitions))
}

fn shard_limits(config: &Config, partitions: u16) -> shard::Limits {
    let share = usize::from(partitions);
    let in_flight = (config.limits.in_flight / share).max(1);
    shard::Limits { pool: (config.limits.memory_mib << 20) / share, in_flight, suspects: in_flight.div_ceil(2), ..shard::Limits::default() }
}

fn egress(config: &Config, workers: usize) -> postrider_egress::Options {
    postrider_egress::Options {
        allow: config.egress.allow.clone(),
        extra_ca: config.extra_ca(),
        max_connections: config.limits.connections.div_ceil(workers),
        ..postrider_egress::Options::default()
    }
}

/// One listener for each worker, all on one port: the system spreads connections over them.
fn listen(address: SocketAddr, workers: usize) -> Result<(SocketAddr, Vec<TcpListener>), Failure> {
    // A port that is shared on purpose is also shared by accident: a first, exclusive bind tells whether it is free.
    let probe = bind(address, false).with_context(|| format!("{address} can't be listened on; is another server there?"))?;
    let address = probe.local_addr().context("the port can't be read")?;
    drop(probe);
    let shared = (0..workers).map(|_| bind(address, true)).collect::<io::Result<Vec<_>>>();
    Ok((address, shared.with_context(|| format!("{address} can't be listened on"))?))
}

fn bind(address: SocketAddr, shared: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    socket.bind(&address.into())?;
    socket.listen(ACCEPT_QUEUE)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// Lets the process open as many files as the system allows: each connection is one.
fn raise_file_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "the limit of open files can't be raised; many connections may fail");
    }
}
