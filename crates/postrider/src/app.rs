//! The server: opens what the configuration names, runs its roles, ends in good order.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, anyhow};
use postrider_api::{Api, ApiLimits, ApiParts};
use postrider_backend::live::Live;
use postrider_backend::log::{Group, Topic};
use postrider_core::secret::Secret;
use postrider_core::shard;
use postrider_engine::deliverer::{self, Deliverer, DelivererOptions};
use postrider_engine::router::{self, Router};
use postrider_ingest::{Ids, Ingest, Reading};
use socket2::{Domain, Socket, Type};
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::admin::{self, Admin};
use crate::backend::Backend;
use crate::config::{self, Config, Role};
use crate::failure::Failure;

/// Connections that the system may hold ready for being accepted.
const ACCEPT_QUEUE: i32 = 1024;
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
    api: Api,
}

impl App {
    /// Opens and binds everything, or says why not; nothing runs yet. Operators are answered on `admin`.
    pub(crate) fn build(mut config: Config, admin: Option<TcpListener>) -> Result<App, Failure> {
        raise_file_limit();
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
        let api = Api::new(ApiParts {
            ingest: ingest.clone(),
            store: store.clone(),
            directory: directory.clone(),
            live: live.clone(),
            egress: egress(&config, workers),
            key: config.auth.bootstrap_key.clone(),
            limits: ApiLimits::default(),
        })
        .context("the system's randomness can't be read")?;
        Ok(App { config, address, listeners, admin, workers, backend, ingest, live, api })
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
        let App { config, listeners, admin, workers, backend, ingest, live, api, .. } = self;
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
        let admin = match admin {
            Some(listener) => {
                let state = Admin { log: log.clone(), store: store.clone(), names, roles: roles.clone(), stop: stop.clone() };
                let ended = ended.clone();
                Some(spawn("admin", stop.clone(), move |runtime| runtime.block_on(admin::serve(listener, state, ended)))?)
            }
            None => None,
        };
        let consumers = |group, topic, count| log.consumers(group, topic, count).map_err(anyhow::Error::new);
        if roles.contains(&Role::Router) {
            let sources = config.sources.iter().zip(0..).map(|(source, index)| (Topic::Source(index), source.reading()));
            for (topic, reading) in [(Topic::Events, Reading::default())].into_iter().chain(sources) {
                let consumer = consumers(Group::Router, topic, 1)?.pop().context("a router has a consumer")?;
                let (log, store, ingest) = (log.clone(), store.clone(), ingest.clone());
                let router = Router { consumer, log, store, ingest, reading };
                let stop = stop.clone();
                threads.push(spawn("router", stop.clone(), move |runtime| Ok(runtime.block_on(router::run(router, stop))?))?);
            }
        }
        let mut deliveries =
            if roles.contains(&Role::Deliver) { consumers(Group::Deliver, Topic::Deliveries, workers)? } else { Vec::new() };
        let mut listeners = listeners.into_iter();
        for index in 0..workers {
            let deliver = deliveries.pop().map(|consumer| {
                let options = deliverer_options(&config, log.partitions(Topic::Deliveries), workers, drain);
                let (log, store, directory, ingest) = (log.clone(), store.clone(), directory.clone(), ingest.clone());
                (Deliverer { consumer, log, store, directory, ingest }, options)
            });
            let serve = listeners.next().map(|listener| (listener, postrider_api::router(api.clone())));
            let worker = Worker { deliver, serve, drain, stop: stop.clone() };
            threads.push(spawn(&format!("worker-{index}"), stop.clone(), move |runtime| runtime.block_on(worker.run()))?);
        }
        drop((deliveries, log, store, directory, ingest, api));
        let mut ends: Vec<anyhow::Result<()>> = threads.into_iter().map(join).collect();
        ended.cancel(); // until now operators were told that it is stopping
        ends.extend(admin.map(join));
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

fn worker_count(config: &Config, partitions: u16) -> usize {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let asked = if config.server.workers == 0 { cores } else { config.server.workers };
    asked.clamp(1, usize::from(partitions))
}

fn deliverer_options(config: &Config, partitions: u16, workers: usize, drain: Duration) -> DelivererOptions {
    let share = usize::from(partitions);
    let in_flight = (config.limits.in_flight / share).max(1);
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
