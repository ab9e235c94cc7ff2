//! One run, from registering the endpoints to the report.

use std::rc::Rc;
use std::time::Duration;

use anyhow::Context as _;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::clock::{Clock, Micros};
use crate::driver::Driver;
use crate::endpoints::Endpoints;
use crate::ledger::{Counts, Ledger};
use crate::payload::Payload;
use crate::poller::{Poller, Ready, Token};
use crate::receiver::Receiver;
use crate::register::Registration;
use crate::report::{Evidence, Report};
use crate::scenario::{Scenario, Target};
use crate::schedule::Schedule;
use crate::server::{self, Address, Process, Spawned};

/// The finest step of the schedule: events due within it may be sent together. Finer costs a wake-up per event.
const PACE: Duration = Duration::from_micros(200);
/// How long repeats are waited for once everything has arrived.
const SETTLE: Duration = Duration::from_millis(500);
/// How often progress is shown.
const PROGRESS: Duration = Duration::from_secs(1);

/// Runs `scenario` to its end.
///
/// Errors: the server can't be started or reached, refuses the endpoints, or its process ends; or no more sockets can
/// be opened here. Losses are no error but part of the report.
pub(crate) fn run(scenario: &Scenario) -> anyhow::Result<Report> {
    allow_sockets()?;
    match &scenario.target {
        Target::Running { url, api_key, pid } => {
            let server = url.parse()?;
            let (report, registration) = load(scenario, &server, api_key, pid.map(Process::of))?;
            // The figures stand whether or not the server still answers; what is left behind is worth a word.
            if let Err(error) = registration.remove(&server, api_key) {
                eprintln!("loadtest: endpoints were left behind: {error:#}");
            }
            Ok(report)
        }
        Target::Spawned { command, api_key } => {
            let api_key = api_key.clone().unwrap_or_else(server::random_key);
            let spawned = Spawned::start(command, &api_key)?;
            let (report, _) = load(scenario, &spawned.url.parse()?, &api_key, Some(spawned.process()))?;
            spawned.stop()?;
            Ok(report)
        }
    }
}

fn load(scenario: &Scenario, server: &Address, api_key: &str, process: Option<Process>) -> anyhow::Result<(Report, Registration)> {
    let listener = Receiver::bind().context("cannot listen for deliveries")?;
    let mut endpoints = Endpoints::new(scenario.endpoints, &scenario.bad.0, scenario.seed);
    let registration = Registration::make(server, api_key, listener.local_addr()?, &mut endpoints)?;
    let endpoints = Rc::new(endpoints);

    let poller = Rc::new(Poller::new().context("cannot make an epoll")?);
    let clock = Clock::start();
    let length = scenario.warmup + scenario.duration;
    let schedule = Schedule::new(scenario.rate, scenario.batch, length);
    let payload = Payload::new(&server.host, api_key, scenario.batch, scenario.payload_bytes, Rc::clone(&endpoints), scenario.seed);
    let driver = Driver::new(server.socket, scenario.connections, schedule, payload, Rc::clone(&poller), clock);
    let receiver = Receiver::new(listener, Rc::clone(&endpoints), scenario.delay, Rc::clone(&poller), clock)?;
    let ledger = Ledger::new(Micros(0) + scenario.warmup..Micros(0) + length, Rc::clone(&endpoints));
    let mut load = Load { clock, poller, driver, receiver, ledger, process };

    load.until(Micros(0) + scenario.warmup)?;
    let from = load.sample()?;
    load.until(Micros(0) + length)?;
    let to = load.sample()?;
    let unsent = load.drain(scenario.drain_timeout)?;
    let memory = load.process.as_ref().map(Process::memory).transpose()?;
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

/// What had been done and used at one instant.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    /// When it was taken.
    pub(crate) at: Micros,
    /// The sums until then.
    pub(crate) counts: Counts,
    /// CPU time of this process.
    pub(crate) own_cpu: Duration,
    /// CPU time of the server, where its process is known.
    pub(crate) server_cpu: Option<Duration>,
}

/// Driver, receiver and ledger, driven by one epoll on one thread.
struct Load {
    clock: Clock,
    poller: Rc<Poller>,
    driver: Driver,
    receiver: Receiver,
    ledger: Ledger,
    process: Option<Process>,
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
            server_cpu: self.process.as_ref().map(Process::cpu).transpose()?,
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
