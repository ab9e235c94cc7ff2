//! A load that goes on: the loop that drives driver and receiver, disturbs the server and keeps the course.

use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context as _, bail};

use crate::clock::{Clock, Micros};
use crate::course::{Course, Sample, Watched};
use crate::driver::Driver;
use crate::fault::{Edge, Faults, What};
use crate::fleet::Fleet;
use crate::ledger::Ledger;
use crate::poller::{Poller, Ready, Token};
use crate::progress::Progress;
use crate::receiver::{Receiver, Service};
use crate::scenario::Scenario;
use crate::server::Process;

/// The finest step of the schedule: events due within it may be sent together. Finer costs a wake-up per event.
const PACE: Duration = Duration::from_micros(200);
/// How long repeats are waited for once everything has arrived.
pub(crate) const SETTLE: Duration = Duration::from_millis(500);

/// Driver, receiver and ledger, driven by one epoll on one thread.
pub(crate) struct Load {
    pub(crate) clock: Clock,
    poller: Rc<Poller>,
    pub(crate) driver: Driver,
    pub(crate) receiver: Receiver,
    pub(crate) ledger: Ledger,
    pub(crate) fleet: Fleet,
    watched: Watched,
    faults: Faults,
    pub(crate) course: Course,
    pub(crate) progress: Progress,
}

impl Load {
    /// A load whose course begins now.
    pub(crate) fn new(
        scenario: &Scenario,
        clock: Clock,
        poller: Rc<Poller>,
        driver: Driver,
        receiver: Receiver,
        ledger: Ledger,
        mut fleet: Fleet,
    ) -> anyhow::Result<Load> {
        let others = scenario.watch.iter().map(|named| Process::of(named.pid)).collect();
        let watched = Watched { others, folder: scenario.disk.clone() };
        let length = scenario.backlog.is_none().then_some(scenario.warmup + scenario.duration);
        let begin = Sample::take(clock.now(), &ledger, &mut fleet, &watched)?;
        let (course, progress) = (Course::new(length, begin), Progress::new(length));
        Ok(Load { clock, poller, driver, receiver, ledger, fleet, watched, faults: Faults::new(&[], Micros(0)), course, progress })
    }

    /// The measured window begins, and with it the time of its faults.
    pub(crate) fn begin(&mut self, scenario: &Scenario) -> anyhow::Result<Sample> {
        let from = self.sample()?;
        self.faults = Faults::new(&scenario.faults, from.at);
        Ok(from)
    }

    /// Goes on until `end`, showing progress.
    pub(crate) fn until(&mut self, end: Micros) -> anyhow::Result<()> {
        self.until_either(end, |_| false)
    }

    /// Goes on until `end` or until it is `done`, showing progress.
    fn until_either(&mut self, end: Micros, done: impl Fn(&Load) -> bool) -> anyhow::Result<()> {
        let mut ready = Vec::new();
        while self.clock.now() < end && !done(self) {
            if self.clock.now() >= self.course.next() {
                self.record()?;
            }
            self.turn(end.min(self.course.next()), &mut ready)?;
        }
        Ok(())
    }

    /// Sends everything there is to send, as long as it is taken, and then ends the process of `filler` that took it.
    ///
    /// Errors: none of it was answered for `timeout`.
    pub(crate) fn fill(&mut self, timeout: Duration, filler: &str) -> anyhow::Result<()> {
        while !self.driver.is_done() {
            let before = self.ledger.counts().accepted;
            self.until_either(self.clock.now() + timeout, |load| load.driver.is_done())?;
            if !self.driver.is_done() && self.ledger.counts().accepted == before {
                bail!("`{filler}` accepted no event for {} s", timeout.as_secs());
            }
        }
        self.driver.hang_up();
        Ok(())
    }

    /// Ends the processes and starts those of `commands` instead.
    pub(crate) fn replace(&mut self, commands: &[String]) -> anyhow::Result<()> {
        self.fleet.stop()?;
        commands.iter().try_for_each(|command| self.fleet.add(command))
    }

    /// Goes on until everything has arrived, or nothing has for `timeout`.
    pub(crate) fn work_off(&mut self, timeout: Duration) -> anyhow::Result<()> {
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
    pub(crate) fn drain(&mut self, timeout: Duration) -> anyhow::Result<u64> {
        self.until_either(self.clock.now() + timeout, |load| load.driver.is_done())?;
        let unsent = self.driver.stop();
        self.until_either(self.clock.now() + timeout, |load| load.driver.is_done() && load.ledger.counts().outstanding == 0)?;
        self.until(self.clock.now() + SETTLE)?;
        Ok(unsent)
    }

    /// Does what is due and waits for sockets, at the latest until `latest`.
    fn turn(&mut self, latest: Micros, ready: &mut Vec<Ready>) -> anyhow::Result<()> {
        self.disturb()?;
        self.driver.dispatch(&mut self.ledger);
        self.receiver.fire(&mut self.ledger);
        let wakeups = [self.driver.next_wakeup(), self.receiver.next_wakeup(), self.faults.next_wakeup()];
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

    /// Begins and ends the faults that are due, and follows a server that was started again.
    fn disturb(&mut self) -> anyhow::Result<()> {
        while let Some((edge, fault)) = self.faults.due(self.clock.now()) {
            let count = self.fleet.len();
            match (fault.what, edge) {
                (What::Kill(member), Edge::Begin) => self.fleet.kill(member.of(count))?,
                (What::Kill(member), Edge::End) => self.fleet.revive(member.of(count))?,
                (What::Freeze(member), Edge::Begin) => self.fleet.freeze(member.of(count))?,
                (What::Freeze(member), Edge::End) => self.fleet.thaw(member.of(count))?,
                (What::Outage, Edge::Begin) => self.receiver.set(Service::IsOut),
                (What::Outage, Edge::End) => self.receiver.set(Service::Works),
            }
        }
        if let Some(address) = self.fleet.moved()? {
            self.driver.follow(address.socket);
        }
        Ok(())
    }

    /// How things are now.
    pub(crate) fn sample(&mut self) -> anyhow::Result<Sample> {
        Sample::take(self.clock.now(), &self.ledger, &mut self.fleet, &self.watched)
    }

    /// Ends an interval of the course, and shows it.
    fn record(&mut self) -> anyhow::Result<()> {
        let sample = self.sample()?;
        let interval = self.course.add(sample, self.driver.overdue(), self.ledger.recent());
        self.progress.show(interval);
        self.ledger.forget_recent();
        Ok(())
    }
}
