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
use crate::fleet::Fleet;
use crate::ledger::{Ledger, Seq};
use crate::load::{Load, SETTLE};
use crate::payload::Payload;
use crate::poller::Poller;
use crate::receiver::Receiver;
use crate::register::Registration;
use crate::report::{Evidence, Report};
use crate::scenario::{Backlog, Scenario, Target, Work};
use crate::schedule::Schedule;
use crate::server::{self, Address, Process};

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
            let (report, registration, _) = test.run(Fleet::found(pid.map(Process::of)), &[])?;
            // The figures stand whether or not the server still answers; what is left behind is worth a word.
            if let Err(error) = registration.remove(&server, api_key) {
                eprintln!("loadtest: endpoints were left behind: {error:#}");
            }
            Ok(report)
        }
        Target::Spawned { commands, api_key } => {
            let api_key = api_key.clone().unwrap_or_else(server::random_key);
            let (first, mut others) = commands.split_first().expect("a scenario names at least one command");
            let filler = scenario.backlog.as_ref().and_then(Backlog::filler);
            let (fleet, server) = Fleet::serving(filler.unwrap_or(first), &api_key)?;
            if filler.is_some() {
                others = commands;
            }
            let test = Test::prepare(scenario, &server, &api_key)?;
            let (report, _, mut fleet) = test.run(fleet, others)?;
            fleet.stop()?;
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
        endpoints.favour(scenario.skew.0);
        let registration = Registration::make(server, api_key, listener.local_addr()?, &mut endpoints)?;
        let endpoints = Rc::new(endpoints);
        let payload = match scenario.work {
            Work::Jobs => Payload::of_jobs(&server.host, api_key, listener.local_addr()?, Rc::clone(&endpoints)),
            Work::Events => {
                Payload::new(&server.host, api_key, scenario.batch, scenario.payload_bytes, Rc::clone(&endpoints), scenario.seed)
            }
        };
        let window = match scenario.backlog {
            Some(Backlog::Produced { .. }) => Micros(0)..Micros(u64::MAX),
            // How long these wait is how long filling takes, which says nothing of the server.
            Some(Backlog::Filled { .. }) => Micros(0)..Micros(0),
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

    /// Runs against `fleet`, to which processes of the commands `others` are added.
    fn run(mut self, mut fleet: Fleet, others: &[String]) -> anyhow::Result<(Report, Registration, Fleet)> {
        if let Some(Backlog::Produced { command, events }) = &self.scenario.backlog {
            self.produce(command, *events)?;
        }
        let Test { scenario, server, listener, registration, endpoints, payload, ledger } = self;
        let poller = Rc::new(Poller::new().context("cannot make an epoll")?);
        let clock = Clock::start();
        let length = scenario.warmup + scenario.duration;
        let (connections, schedule) = match scenario.backlog {
            Some(Backlog::Filled { events, .. }) => (scenario.connections, Schedule::filling(events, scenario.batch)),
            Some(Backlog::Produced { .. }) => (0, Schedule::new(scenario.rate, scenario.batch, Duration::ZERO)),
            None => (scenario.connections, Schedule::new(scenario.rate, scenario.batch, length)),
        };
        if scenario.backlog.as_ref().and_then(Backlog::filler).is_none() {
            others.iter().try_for_each(|command| fleet.add(command))?;
        }
        let driver = Driver::new(server, connections, schedule, payload, Rc::clone(&poller), clock);
        let receiver = Receiver::new(listener, Rc::clone(&endpoints), scenario.delay, Rc::clone(&poller), clock)?;
        let mut load = Load::new(scenario, clock, poller, driver, receiver, ledger, fleet)?;

        let (from, to, unsent);
        if let Some(backlog) = &scenario.backlog {
            if let Some(filler) = backlog.filler() {
                load.fill(scenario.drain_timeout, filler)?;
                load.replace(others)?;
            }
            from = load.begin(scenario)?;
            load.work_off(scenario.drain_timeout)?;
            to = load.sample()?;
            load.until(load.clock.now() + SETTLE)?;
            unsent = 0;
        } else {
            load.until(Micros(0) + scenario.warmup)?;
            from = load.begin(scenario)?;
            load.until(Micros(0) + length)?;
            to = load.sample()?;
            unsent = load.drain(scenario.drain_timeout)?;
        }
        let usage = load.fleet.usage()?;
        load.progress.finish();
        let Load { driver, receiver, mut ledger, fleet, course, .. } = load;
        driver.abandon(&mut ledger);
        let course = course.since(from.at);
        let report = Report::new(Evidence {
            scenario,
            endpoints: &endpoints,
            ledger: &ledger,
            receiver: &receiver,
            unsent,
            from,
            to,
            usage,
            course,
            end: clock.now(),
        });
        Ok((report, registration, fleet))
    }
}

/// Raises the soft limit of open files to the hard one: every connection is one, on both sides.
fn allow_sockets() -> anyhow::Result<()> {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).context("cannot raise the limit of open files")
}
