//! The server: opens what the configuration names, runs its roles, ends in good order.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, anyhow};
use postrider_api::{Api, ApiLimits, ApiParts};
use postrider_backend::directory::Directory;
use postrider_backend::folder::Folder;
use postrider_backend::log::{self, Group, Log, Topic};
use postrider_backend::store::{self, Store};
use postrider_core::secret::Secret;
use postrider_core::shard;
use postrider_core::time::Millis;
use postrider_engine::deliverer::{self, Deliverer, DelivererOptions};
use postrider_engine::router::{self, Router};
use postrider_ingest::{Ids, Ingest};
use socket2::{Domain, Socket, Type};
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::config::{Backend, Config, Role};
use crate::failure::Failure;

/// Connections that the system may hold ready for being accepted.
const ACCEPT_QUEUE: i32 = 1024;
/// Threads of one worker for reads that may touch the disk.
const READERS: usize = 8;

/// A server that is ready to run. Its port is bound, its folder locked.
pub(crate) struct App {
    config: Config,
    address: SocketAddr,
    listeners: Vec<TcpListener>,
    workers: usize,
    log: Log,
    store: Store,
    directory: Directory,
    ingest: Arc<Ingest>,
    api: Api,
    /// Kept locked for as long as anything in it is open.
    folder: Folder,
}

impl App {
    /// Opens and binds everything, or says why not; nothing runs yet.
    pub(crate) fn build(mut config: Config) -> Result<App, Failure> {
        let Backend::Embedded = config.backend;
        raise_file_limit();
        // The store resolves its folder against it, and would panic.
        std::env::current_dir().context("the working directory can't be read; was it deleted?")?;
        let partitions = config.data.partitions;
        let folder = Folder::open(&config.data.dir, partitions).map_err(anyhow::Error::new)?;
        config.ensure_key()?;
        let workers = worker_count(&config);
        let (address, listeners) = listen(config.server.listen, workers)?;
        let retention = Millis::from_secs(u64::from(config.data.retention_days) * 86_400);
        let min_free_bytes = config.data.min_free_mib << 20;
        let options = log::local::Options {
            partitions,
            segment_bytes: config.data.segment_mib << 20,
            retention,
            min_free_bytes,
            ..log::local::Options::default()
        };
        let local_log = log::local::Log::open(&folder.path().join("log"), options).map_err(anyhow::Error::new)?;
        let folder_of_store = folder.path().join("store");
        let options = store::local::Options { folder: folder_of_store, retention, min_free_bytes: min_free_bytes / 2 };
        let store = Store::Local(store::local::Store::open(&options, local_log.clone()).map_err(anyhow::Error::new)?);
        let log = Log::Local(local_log);
        let directory = Directory::new(store.clone());
        let ids = Ids::new().context("the system's randomness can't be read")?;
        let ingest = Arc::new(Ingest::new(log.clone(), store.clone(), directory.clone(), ids));
        let api = Api::new(ApiParts {
            ingest: ingest.clone(),
            store: store.clone(),
            directory: directory.clone(),
            egress: egress(&config, workers),
            key: config.auth.bootstrap_key.clone(),
            limits: ApiLimits::default(),
        })
        .context("the system's randomness can't be read")?;
        Ok(App { config, address, listeners, workers, log, store, directory, ingest, api, folder })
    }

    /// Where the API listens.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The administrator's key.
    pub(crate) fn key(&self) -> &Secret {
        &self.config.auth.bootstrap_key
    }

    /// Runs until `stop`, then drains. A role that fails or panics takes the whole server down, loudly.
    pub(crate) fn run(self, stop: CancellationToken) -> Result<(), Failure> {
        let App { config, listeners, workers, log, store, directory, ingest, api, folder, .. } = self;
        let drain = Duration::from_secs(config.server.drain_seconds);
        let roles = &config.server.roles;
        let mut threads: Vec<JoinHandle<anyhow::Result<()>>> = Vec::new();
        let consumers = |group, topic, count| log.consumers(group, topic, count).map_err(anyhow::Error::new);
        if roles.contains(&Role::Router) {
            for consumer in consumers(Group::Router, Topic::Events, 1)? {
                let router = Router { consumer, log: log.clone(), store: store.clone(), ingest: ingest.clone() };
                let stop = stop.clone();
                threads.push(spawn("router", stop.clone(), move |runtime| Ok(runtime.block_on(router::run(router, stop))?))?);
            }
        }
        let mut deliveries =
            if roles.contains(&Role::Deliver) { consumers(Group::Deliver, Topic::Deliveries, workers)? } else { Vec::new() };
        for (index, listener) in listeners.into_iter().enumerate() {
            let deliver = deliveries.pop().map(|consumer| {
                let (log, store, directory, ingest) = (log.clone(), store.clone(), directory.clone(), ingest.clone());
                (Deliverer { consumer, log, store, directory, ingest }, deliverer_options(&config, workers, drain))
            });
            let serve = roles.contains(&Role::Api).then(|| (listener, postrider_api::router(api.clone())));
            let worker = Worker { deliver, serve, drain, stop: stop.clone() };
            threads.push(spawn(&format!("worker-{index}"), stop.clone(), move |runtime| runtime.block_on(worker.run()))?);
        }
        drop((deliveries, log, store, directory, ingest, api));
        let ends: Vec<anyhow::Result<()>> = threads.into_iter().map(join).collect();
        drop(folder);
        ends.into_iter().collect::<anyhow::Result<()>>().map_err(Failure::from)
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

/// Runs `work` on a thread of its own; when it ends for whatever reason, so does everything else.
fn spawn(
    name: &str,
    stop: CancellationToken,
    work: impl FnOnce(&Runtime) -> anyhow::Result<()> + Send + 'static,
) -> anyhow::Result<JoinHandle<anyhow::Result<()>>> {
    let runtime = runtime().context("a runtime can't be started")?;
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

fn worker_count(config: &Config) -> usize {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let asked = if config.server.workers == 0 { cores } else { config.server.workers };
    asked.clamp(1, usize::from(config.data.partitions))
}

fn deliverer_options(config: &Config, workers: usize, drain: Duration) -> DelivererOptions {
    let share = usize::from(config.data.partitions);
    let in_flight = config.limits.in_flight / share;
    let limits = shard::Limits {
        pool: (config.limits.memory_mib << 20) / share,
        in_flight,
        suspects: in_flight.div_ceil(2),
        ..shard::Limits::default()
    };
    DelivererOptions { limits, egress: egress(config, workers), drain }
}

fn egress(config: &Config, workers: usize) -> postrider_egress::Options {
    let extra_ca = Some(config.egress.extra_ca.clone()).filter(|path| !path.as_os_str().is_empty());
    postrider_egress::Options {
        allow: config.egress.allow.clone(),
        extra_ca,
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
