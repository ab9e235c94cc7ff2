//! One run, from registering the endpoints to the report.

use std::io::{BufWriter, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::clock::{Clock, Micros};
use crate::driver::Driver;
use crate::endpoints::Endpoints;
use crate::ledger::{Counts, Ledger, Seq};
use crate::payload::Payload;
use crate::poller::{Poller, Ready, Token};
use crate::receiver::Receiver;
use crate::register::Registration;
use crate::report::{Evidence, Report};
use crate::scenario::{Backlog, Scenario, Target, Work};
use crate::schedule::Schedule;
use crate::server::{self, Address, Memory, Process, Spawned};

/// The finest step of the schedule: events due within it may be sent together. Finer costs a wake-up per event.
const PACE: Duration = Duration::from_micros(200);
/// How long repeats are waited for once everything has arrived.
const SETTLE: Duration = Duration::from_millis(500);
/// How often progress is shown.
const PROGRESS: Duration = Duration::from_secs(1);

/// Runs `scenario` to its end.
///
/// Errors: the server can't be started or reached, refuses the endpoints, or one of its processes ends; the events can't
/// be produced; or no more sockets can be opened here. Losses are no error but part of the report.
pub(crate) fn run(scenario: &Scenario) -> anyhow::Result<Report> {
    allow_sockets()?;
    match &scenario.target {
        Target::Running { url, api_key, pid } => {
            let server = url.parse()?;
            let test = Test::prepare(scenario, &server, api_key)?;
            let (report, registration) = test.run(pid.map(Process::of).into_iter().collect())?;
            // The figures stand whether or not the server still answers; what is left behind is worth a word.
            if let Err(error) = registration.remove(&server, api_key) {
                eprintln!("loadtest: endpoints were left behind: {error:#}");
            }
            Ok(report)
        }
        Target::Spawned { commands, api_key } => {
            let api_key = api_key.clone().unwrap_or_else(server::random_key);
            let (first, others) = commands.split_first().expect("a scenario names at least one command");
            let (first, url) = Spawned::serving(first, &api_key)?;
            let mut servers = vec![first];
            let mut test = Test::prepare(scenario, &url.parse()?, &api_key)?;
            if let Some(Backlog { command, events }) = &scenario.backlog {
                test.produce(command, *events)?;
            }
            for command in others {
                servers.push(Spawned::start(command, &api_key)?);
            }
            let (report, _) = test.run(servers.iter().map(Spawned::process).collect())?;
            servers.into_iter().try_for_each(Spawned::stop)?;
            Ok(report)
        }
    }
}

/// A run whose endpoints are registered.
struct Test<'a> {
    scenario: &'a Scenario,
    server: SocketAddr,
    listener: TcpListener,
    registration: Registration,
    endpoints: Rc<Endpoints>,
    payload: Payload,
    ledger: Ledger,
}

impl<'a> Test<'a> {
    fn prepare(scenario: &'a Scenario, server: &Address, api_key: &str) -> anyhow::Result<Test<'a>> {
        let listener = Receiver::bind().context("cannot listen for deliveries")?;
        let mut endpoints = Endpoints::new(scenario.endpoints, &scenario.bad.0, scenario.seed);
        let registration = Registration::make(server, api_key, listener.local_addr()?, &mut endpoints)?;
        let endpoints = Rc::new(endpoints);
        let payload = match scenario.work {
            Work::Jobs => Payload::of_jobs(&server.host, api_key, listener.local_addr()?, Rc::clone(&endpoints)),
            Work::Events => {
                Payload::new(&server.host, api_key, scenario.batch, scenario.payload_bytes, Rc::clone(&endpoints), scenario.seed)
            }
        };
        let window = match scenario.backlog {
            Some(_) => Micros(0)..Micros(u64::MAX),
            None => Micros(0) + scenario.warmup..Micros(0) + scenario.warmup + scenario.duration,
        };
        let ledger = Ledger::new(window, Rc::clone(&endpoints));
        Ok(Test { scenario, server: server.socket, listener, registration, endpoints, payload, ledger })
    }

    /// Hands `events` events to `command`, a line of JSON each, and waits until it has ended.
    fn produce(&mut self, command: &str, events: u64) -> anyhow::Result<()> {
        let mut producer = Command::new("sh")
            .args(["-c", command])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .with_context(|| format!("cannot start `{command}`"))?;
        let mut lines = BufWriter::new(producer.stdin.take().expect("stdin is piped"));
        let first = self.ledger.produced(events);
        for seq in (first.0..first.0 + events).map(Seq) {
            let written = lines.write_all(self.payload.line(seq)).and_then(|()| lines.write_all(b"\n"));
            written.with_context(|| format!("`{command}` takes no more events"))?;
        }
        lines.into_inner().with_context(|| format!("`{command}` takes no more events"))?;
        let ended = producer.wait()?;
        if ended.success() { Ok(()) } else { bail!("`{command}` ended with {ended}") }
    }

    fn run(self, processes: Vec<Process>) -> anyhow::Result<(Report, Registration)> {
        let Test { scenario, server, listener, registration, endpoints, payload, ledger } = self;
        let poller = Rc::new(Poller::new().context("cannot make an epoll")?);
        let clock = Clock::start();
        let produced = scenario.backlog.is_some();
        let length = if produced { Duration::ZERO } else { scenario.warmup + scenario.duration };
        let connections = if produced { 0 } else { scenario.connections };
        let schedule = Schedule::new(scenario.rate, scenario.batch, length);
        let driver = Driver::new(server, connections, schedule, payload, Rc::clone(&poller), clock);
        let receiver = Receiver::new(listener, Rc::clone(&endpoints), scenario.delay, Rc::clone(&poller), clock)?;
        let mut load = Load { clock, poller, driver, receiver, ledger, processes };

        let (from, to, unsent);
        if produced {
            from = load.sample()?;
            load.work_off(scenario.drain_timeout)?;
            to = load.sample()?;
            load.until(load.clock.now() + SETTLE)?;
            unsent = 0;
        } else {
            load.until(Micros(0) + scenario.warmup)?;
            from = load.sample()?;
            load.until(Micros(0) + length)?;
            to = load.sample()?;
            unsent = load.drain(scenario.drain_timeout)?;
        }
        let memory = Memory::of(&load.processes)?;
        let Load { driver, receiver, mut ledger, .. } = load;
        driver.abandon(&mut ledger);
        let report = Report::new(&Evidence {
            scenario,
            endpoints: &endpoints,
            ledger: &ledger,
            receiver: &receiver,
            unsent,
            from,
            to,
            memory,
            end: clock.now(),
        });
        Ok((report, registration))
    }
}

/// What had been done and used at one instant.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    /// When it was taken.
    pub(crate) at: Micros,
    /// The sums until then.
    pub(crate) counts: Counts,
    /// CPU time of this process.
    pub(crate) own_cpu: Duration,
    /// CPU time of all processes of the server, where they are known.
    pub(crate) server_cpu: Option<Duration>,
}

/// Driver, receiver and ledger, driven by one epoll on one thread.
struct Load {
    clock: Clock,
    poller: Rc<Poller>,
    driver: Driver,
    receiver: Receiver,
    ledger: Ledger,
    processes: Vec<Process>,
}

impl Load {
    /// Goes on until `end`, showing progress.
    fn until(&mut self, end: Micros) -> anyhow::Result<()> {
        self.until_either(end, |_| false)
    }

    /// Goes on until `end` or until it is `done`, showing progress.
    fn until_either(&mut self, end: Micros, done: impl Fn(&Load) -> bool) -> anyhow::Result<()> {
        let mut ready = Vec::new();
        let mut before = self.sample()?;
        while self.clock.now() < end && !done(self) {
            if self.clock.now() >= before.at + PROGRESS {
                before = self.progress(&before)?;
            }
            self.turn(end.min(before.at + PROGRESS), &mut ready)?;
        }
        Ok(())
    }

    /// Goes on until everything has arrived, or nothing has for `timeout`.
    fn work_off(&mut self, timeout: Duration) -> anyhow::Result<()> {
        loop {
            let before = self.ledger.counts();
            self.until_either(self.clock.now() + timeout, |load| load.ledger.counts().outstanding == 0)?;
            let now = self.ledger.counts();
            if now.outstanding == 0 || now.delivered == before.delivered {
                return Ok(());
            }
        }
    }

    /// Lets everything arrive: first what was due and not sent goes out, then what was accepted is waited for, each at
    /// most for `timeout`; then repeats have their chance. Gives the number of events that were never sent.
    fn drain(&mut self, timeout: Duration) -> anyhow::Result<u64> {
        self.until_either(self.clock.now() + timeout, |load| load.driver.is_done())?;
        let unsent = self.driver.stop();
        self.until_either(self.clock.now() + timeout, |load| load.driver.is_done() && load.ledger.counts().outstanding == 0)?;
        self.until(self.clock.now() + SETTLE)?;
        Ok(unsent)
    }

    /// Does what is due and waits for sockets, at the latest until `latest`.
    fn turn(&mut self, latest: Micros, ready: &mut Vec<Ready>) -> anyhow::Result<()> {
        self.driver.dispatch(&mut self.ledger);
        self.receiver.fire(&mut self.ledger);
        let wakeups = [self.driver.next_wakeup(), self.receiver.next_wakeup()];
        let wakeup = wakeups.into_iter().flatten().min().unwrap_or(latest).min(latest);
        let timeout = wakeup.since(self.clock.now()).max(PACE);
        self.poller.wait(timeout, ready).context("epoll failed")?;
        for Ready { token, peer } in ready.drain(..) {
            match token {
                Token::Listener => self.receiver.accept()?,
                Token::Inbound(slot) => self.receiver.ready(slot, peer, &mut self.ledger),
                Token::Outbound(slot) => self.driver.ready(slot, peer, &mut self.ledger),
            }
        }
        Ok(())
    }

    fn sample(&self) -> anyhow::Result<Sample> {
        Ok(Sample {
            at: self.clock.now(),
            counts: self.ledger.counts(),
            own_cpu: Process::own().cpu()?,
            server_cpu: server::cpu(&self.processes)?,
        })
    }

    /// Prints what happened since `before`.
    fn progress(&self, before: &Sample) -> anyhow::Result<Sample> {
        let now = self.sample()?;
        let rate = |now: u64, before: u64| now - before;
        eprintln!(
            "{:>4} s  sent {:>6}  accepted {:>6}  delivered {:>6}  waiting {:>6}  outstanding {:>6}  p50 {:.1} ms  p99 {:.1} ms",
            now.at.0 / 1_000_000,
            rate(now.counts.sent, before.counts.sent),
            rate(now.counts.accepted, before.counts.accepted),
            rate(now.counts.delivered, before.counts.delivered),
            self.driver.overdue(),
            now.counts.outstanding,
            self.ledger.delivery().value_at_quantile(0.5) as f64 / 1000.0,
            self.ledger.delivery().value_at_quantile(0.99) as f64 / 1000.0,
        );
        Ok(now)
    }
}

/// Raises the soft limit of open files to the hard one: every connection is one, on both sides.
fn allow_sockets() -> anyhow::Result<()> {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).context("cannot raise the limit of open files")
}
