//! Tells owners what happened, and carries out what their shards say.

use postrider_core::attempt::Report;
use postrider_core::breaker::State;
use postrider_core::endpoint::{Ordering, PolicyState};
use postrider_core::id::DeliveryId;
use postrider_core::offsets::Progress;
use postrider_core::shard::{Action, Attempt, Input, Write};
use postrider_core::time::Millis;

use crate::owner::{Epoch, Part};
use crate::report::Broken;
use crate::store::{By, end_of};
use crate::world::{Query, Step, World, index_of, short};

impl World {
    /// Gives an owner inputs at one time, carries out what follows, and checks every invariant.
    pub(crate) fn tell(&mut self, epoch: Epoch, inputs: impl IntoIterator<Item = Input>) -> Result<(), Broken> {
        let Some(owner) = self.owners.get_mut(&epoch) else { return Ok(()) };
        for input in inputs {
            match &input {
                Input::Endpoint { endpoint, policy } if owner.serves() => {
                    let view = &mut owner.views[index_of(*endpoint)];
                    if view.policy.as_ref().map(|p| p.rate_limit) != Some(policy.rate_limit) {
                        view.recent.clear();
                    }
                    view.policy = Some(policy.clone());
                }
                Input::Drain if owner.part == Part::Serving => {
                    owner.part = Part::Draining;
                    owner.draining = self.now;
                }
                Input::Revoked => owner.part = Part::Lost,
                Input::Strained(strained) if owner.serves() => owner.strained = *strained,
                Input::Arrived { .. }
                | Input::Endpoint { .. }
                | Input::Lane { .. }
                | Input::Finished { .. }
                | Input::Written { .. }
                | Input::Loaded { .. }
                | Input::LoadFailed { .. }
                | Input::Found { .. }
                | Input::Strained(_)
                | Input::Drain
                | Input::Tick => {}
            }
            self.trace.note(self.now, &[4, u64::from(epoch.0)], || format!("owner {} <- {}", epoch.0, words(&input)));
            owner.shard.handle(input, self.now);
        }
        let actions: Vec<Action> = std::iter::from_fn(|| owner.shard.poll()).collect();
        for action in actions {
            self.carry_out(epoch, action)?;
        }
        self.plan_wake(epoch)?;
        self.check(epoch)
    }

    /// Plans the wake-up that the shard asks for; timers are a little late.
    fn plan_wake(&mut self, epoch: Epoch) -> Result<(), Broken> {
        let Some(owner) = self.owners.get_mut(&epoch) else { return Ok(()) };
        let Some(at) = owner.shard.next_wakeup() else {
            owner.tick = None;
            return Ok(());
        };
        if at <= self.now {
            return Err(Broken::new("it_does_not_spin", format!("a wake-up is asked for {} ms ago", self.now.since(at).0)));
        }
        if owner.tick.is_none_or(|tick| tick > at + Millis(2)) {
            let late = at + self.chance.span(0, 2);
            owner.tick = Some(late);
            self.agenda.plan(late, Step::Wake(epoch));
        }
        Ok(())
    }

    fn carry_out(&mut self, epoch: Epoch, action: Action) -> Result<(), Broken> {
        match action {
            Action::Send(attempt) => self.send(epoch, &attempt),
            Action::Write(write) => self.write(epoch, write),
            Action::Load { endpoint, from, low, limit } => {
                self.serving(epoch, "loads")?;
                self.check_low_water(epoch, endpoint, from, low)?;
                self.ask(epoch, Query::Load { endpoint, from, limit })
            }
            Action::Find(id) => {
                self.counts.finds += 1;
                self.ask(epoch, Query::Find(id))
            }
            Action::Resolve { endpoint, .. } => {
                let at = self.now + self.chance.span(0, 100);
                self.agenda.plan(at, Step::Resolve(epoch, endpoint));
                Ok(())
            }
            Action::Commit(progress) => self.commit(epoch, progress),
            Action::Pause => {
                self.counts.pauses += 1;
                self.owner(epoch)?.paused = true;
                self.trace.note(self.now, &[5], || "pause".to_owned());
                Ok(())
            }
            Action::Resume => {
                self.owner(epoch)?.paused = false;
                self.trace.note(self.now, &[6], || "resume".to_owned());
                self.read_on(epoch);
                Ok(())
            }
            Action::Disable { endpoint, .. } => {
                self.counts.disables += 1;
                let policy = &mut self.policies[index_of(endpoint)];
                if policy.state == PolicyState::Enabled {
                    policy.state = PolicyState::Disabled;
                }
                self.announce(index_of(endpoint));
                Ok(())
            }
            Action::Drained => self.drained(epoch),
        }
    }

    pub(crate) fn owner(&mut self, epoch: Epoch) -> Result<&mut crate::owner::Owner, Broken> {
        self.owners.get_mut(&epoch).ok_or_else(|| Broken::new("owners_live", format!("owner {} is gone", epoch.0)))
    }

    fn serving(&mut self, epoch: Epoch, does: &str) -> Result<(), Broken> {
        if self.owner(epoch)?.serves() {
            return Ok(());
        }
        Err(Broken::new("who_lost_the_partition_leaves_it_alone", format!("owner {} {does}", epoch.0)))
    }

    fn send(&mut self, epoch: Epoch, attempt: &Attempt) -> Result<(), Broken> {
        let id = attempt.delivery.id;
        let (endpoint, now) = (index_of(id.endpoint), self.now);
        if self.owner(epoch)?.part != Part::Serving {
            return Err(Broken::new("who_lost_the_partition_leaves_it_alone", format!("owner {} sends {id}", epoch.0)));
        }
        let report = self.receivers[endpoint].answer(now, attempt.timeout, &mut self.chance);
        self.trace.note(now, &[7, u64::from(epoch.0), id.event.0 as u64, u64::from(attempt.number)], || {
            format!("owner {} -> send {} attempt {}", epoch.0, short(id), attempt.number)
        });
        self.check_send(epoch, attempt)?;
        self.check_lease(epoch, id)?;
        if epoch == self.epoch {
            self.ledger.check_turn(id)?;
        } else if let Some(account) = self.ledger.accounts.get_mut(&id) {
            account.may_repeat = true;
        }
        let again = self.ledger.sent(attempt, now)?;
        self.counts.sends += 1;
        self.counts.duplicates += u64::from(again);
        self.agenda.plan(now + report.took, Step::End(epoch, id, report));
        Ok(())
    }

    pub(crate) fn end_attempt(&mut self, epoch: Epoch, id: DeliveryId, report: Report) -> Result<(), Broken> {
        let now = self.now;
        let Some(owner) = self.owners.get_mut(&epoch) else { return Ok(()) };
        owner.flights.remove(&id);
        let view = &mut owner.views[index_of(id.endpoint)];
        view.flying -= 1;
        if owner.probes.remove(&id).is_some() {
            view.probes -= 1;
        }
        if report.answer.is_success() {
            view.succeeded(now);
        } else {
            view.proven = None;
            view.failures.push_back(now);
            if view.failures.len() > 10 {
                view.failures.pop_front();
            }
        }
        self.tell(epoch, [Input::Finished { id, report }])
    }

    fn write(&mut self, epoch: Epoch, write: Write) -> Result<(), Broken> {
        let (id, now) = (write.delivery.id, self.now);
        self.note_lease(epoch, &write)?;
        let leased = self.owner(epoch)?.leases.contains_key(&id);
        if !leased && (write.put.is_some() || write.remove.is_some() || write.end.is_some()) {
            self.serving(epoch, "moves rows")?;
        }
        let zombie = epoch != self.epoch && !leased;
        let owner = self.owners.get(&epoch).ok_or_else(|| Broken::new("owners_live", String::new()))?;
        let policy = owner.views[index_of(id.endpoint)].policy.as_ref();
        self.trace.note(now, &[8, id.event.0 as u64, u64::from(write.put.is_some())], || {
            format!("owner {} -> write {} {}", epoch.0, short(id), describe(&write))
        });
        self.ledger.written(&write, policy, now)?;
        if zombie && let Some(account) = self.ledger.accounts.get_mut(&id) {
            account.may_repeat = true;
        }
        if let Some(account) = self.ledger.accounts.get(&id)
            && account.waiting.is_some()
            && (end_of(&write).is_some() || write.put.is_some_and(|(_, due)| due > now))
        {
            self.ledger.stop_waiting(id);
        }
        let ordered = policy.is_some_and(|policy| policy.ordering == Ordering::Key);
        self.counts.parks += u64::from(write.put.is_some());
        self.counts.blocked_keys += u64::from(ordered && write.put.is_some() && write.attempt.is_some());
        let delay = self.chance.span(0, self.plan.store.delay.0);
        let owner = self.owner(epoch)?;
        owner.writes.push_back(write);
        if !owner.flushing {
            owner.flushing = true;
            self.agenda.plan(now + delay, Step::Flush(epoch));
        }
        Ok(())
    }

    /// All writes of an owner become durable together, in order, and are acknowledged a little later.
    pub(crate) fn flush(&mut self, epoch: Epoch) -> Result<(), Broken> {
        let now = self.now;
        let Some(owner) = self.owners.get_mut(&epoch) else { return Ok(()) };
        if self.store.down {
            self.agenda.plan(now + Millis(50), Step::Flush(epoch));
            return Ok(());
        }
        let by = if epoch == self.epoch { By::Owner } else { By::Former };
        let count = owner.writes.len();
        owner.unacknowledged += count;
        for write in owner.writes.drain(..) {
            self.store.apply(&write, by, now)?;
            if write.attempt.is_some() && owner.leases.contains_key(&write.delivery.id) {
                self.ledger.lease_ends(write.delivery.id, epoch);
            }
        }
        let at = now + self.chance.span(0, self.plan.store.delay.0);
        self.agenda.plan(at, Step::Acknowledge(epoch, count));
        Ok(())
    }

    pub(crate) fn acknowledge(&mut self, epoch: Epoch, count: usize) -> Result<(), Broken> {
        let Some(owner) = self.owners.get_mut(&epoch) else { return Ok(()) };
        owner.unacknowledged -= count;
        owner.flushing = !owner.writes.is_empty();
        if owner.flushing {
            let at = self.now + self.chance.span(0, self.plan.store.delay.0);
            self.agenda.plan(at, Step::Flush(epoch));
        }
        let first = self.chance.between(0, count as u64) as usize;
        let parts = [first, count - first].into_iter().filter(|count| *count > 0).map(|count| Input::Written { count });
        self.tell(epoch, parts.collect::<Vec<_>>())
    }

    fn ask(&mut self, epoch: Epoch, query: Query) -> Result<(), Broken> {
        let at = self.now + self.chance.span(0, self.plan.store.delay.0);
        self.agenda.plan(at, Step::Query(epoch, query));
        Ok(())
    }

    /// The store reads now and answers later, so that an answer may be out of date when it comes.
    pub(crate) fn answer(&mut self, epoch: Epoch, query: Query) {
        let at = self.now + self.chance.span(0, self.plan.store.delay.0);
        let input = match query {
            Query::Load { endpoint, .. } if self.store.down || self.chance.hits(self.plan.store.load_failures) => {
                self.counts.load_failures += 1;
                Input::LoadFailed { endpoint }
            }
            Query::Load { endpoint, from, limit } => {
                let rows = self.store.read(endpoint, from, limit);
                self.counts.loads += u64::from(!rows.is_empty());
                Input::Loaded { endpoint, rows }
            }
            Query::Find(_) if self.store.down => {
                self.agenda.plan(self.now + Millis(50), Step::Query(epoch, query));
                return;
            }
            Query::Find(id) => Input::Found { id, row: self.store.find(id) },
        };
        self.agenda.plan(at, Step::Tell(epoch, input));
    }

    fn commit(&mut self, epoch: Epoch, progress: Progress) -> Result<(), Broken> {
        let now = self.now;
        self.serving(epoch, "commits")?;
        self.trace.note(now, &[9, progress.from.0, progress.to.0], || {
            format!("owner {} -> commit {}..{} open {}", epoch.0, progress.from.0, progress.to.0, progress.unfinished.len())
        });
        self.check_commit(epoch, &progress)?;
        let read_back = Progress::decode(&progress.encode()).map_err(|e| Broken::new("a_commit_can_be_read", e.to_string()))?;
        if read_back != progress {
            return Err(Broken::new("a_commit_can_be_read", format!("{read_back:?}")));
        }
        self.owner(epoch)?.committed = (progress.clone(), now);
        // Commits stay in order: each takes the same time.
        self.agenda.plan(now + Millis(20), Step::Commit(epoch, progress));
        Ok(())
    }

    /// Checks one attempt against what its owner knows of the endpoint.
    fn check_send(&mut self, epoch: Epoch, attempt: &Attempt) -> Result<(), Broken> {
        let (id, now) = (attempt.delivery.id, self.now);
        let owner = self.owner(epoch)?;
        let breaker = owner.shard.breaker(id.endpoint);
        let view = &mut owner.views[index_of(id.endpoint)];
        let Some(policy) = &view.policy else {
            return Err(Broken::new("endpoints_are_looked_up_first", format!("{id}")));
        };
        if policy.state != PolicyState::Enabled {
            return Err(Broken::new("held_endpoints_get_nothing", format!("{id} while {:?}", policy.state)));
        }
        view.flying += 1;
        if view.flying > usize::from(policy.max_in_flight) {
            return Err(Broken::new("an_endpoint_gets_no_more_at_once_than_it_may", format!("{}", view.flying)));
        }
        if let Some(rate) = policy.rate_limit {
            while view.recent.front().is_some_and(|at| *at + Millis(1000) <= now) {
                view.recent.pop_front();
            }
            view.recent.push_back(now);
            let most = (rate + rate.div_ceil(100)) as usize + 1;
            if view.recent.len() > most {
                return Err(Broken::new("rate_limits_are_kept", format!("{} in a second, {rate} allowed", view.recent.len())));
            }
        }
        match breaker {
            Some(State::Open { .. }) => return Err(Broken::new("an_open_breaker_lets_nothing_through", format!("{id}"))),
            Some(State::HalfOpen { .. }) => {
                view.probes += 1;
                if view.probes > 1 {
                    return Err(Broken::new("probes_go_one_at_a_time", format!("{} to {}", view.probes, id.endpoint)));
                }
                owner.probes.insert(id, 1);
                self.counts.probes += 1;
            }
            Some(State::Closed) => {}
            None => return Err(Broken::new("what_flies_has_a_lane", format!("{id}"))),
        }
        if !self.owner(epoch)?.flights.insert(id) {
            return Err(Broken::new("a_delivery_flies_once", format!("{id} is in flight already")));
        }
        Ok(())
    }
}

fn words(input: &Input) -> String {
    match input {
        Input::Arrived { offset, command, delivery } => format!("arrived {} {command:?} {}", offset.0, short(delivery.id)),
        Input::Lane { endpoint, first, .. } => format!("lane {} from {}", index_of(*endpoint), first.order),
        Input::Endpoint { endpoint, policy } => format!("endpoint {} {:?} {:?}", index_of(*endpoint), policy.state, policy.ordering),
        Input::Finished { id, report } => format!("finished {} {:?}", short(*id), report.answer),
        Input::Written { count } => format!("written {count}"),
        Input::Loaded { endpoint, rows } => {
            let ids: Vec<_> = rows.iter().map(|row| short(row.delivery.id)).collect();
            format!("loaded {}: {}", index_of(*endpoint), ids.join(" "))
        }
        Input::LoadFailed { endpoint } => format!("load failed {}", index_of(*endpoint)),
        Input::Found { id, row } => format!("found {} {}", short(*id), row.is_some()),
        Input::Strained(strained) => format!("strained {strained}"),
        Input::Drain => "drain".to_owned(),
        Input::Revoked => "revoked".to_owned(),
        Input::Tick => "tick".to_owned(),
    }
}

fn describe(write: &Write) -> String {
    let attempt = write.attempt.as_ref().map(|a| format!("attempt {} {:?} ", a.number, a.state)).unwrap_or_default();
    let end = write.end.map(|end| format!("{end:?} ")).unwrap_or_default();
    let remove = write.remove.map(|place| format!("remove {} ", place.order)).unwrap_or_default();
    let put = write.put.map(|(place, due)| format!("put {} due {}", place.order, due.0)).unwrap_or_default();
    format!("{attempt}{end}{remove}{put}")
}
