//! What must hold after every step.

use postrider_core::breaker::State;
use postrider_core::delivery::Place;
use postrider_core::id::EndpointId;
use postrider_core::offsets::{MAX_NAMED, Progress};
use postrider_core::record::Command;
use postrider_core::shard::{Census, Limits};
use postrider_core::time::Millis;

use crate::owner::{Epoch, Owner, PACE, Part};
use crate::plan::Plan;
use crate::report::Broken;
use crate::world::{World, endpoint_id, index_of, longest_way};

/// What a delivery costs beside its bytes, and the meta bytes of ours.
const OVERHEAD: usize = 512 + 64;
/// What overdue deliveries of endpoints that keep up are given.
const SOON: Millis = Millis::from_secs(1);
/// Timers and reads are late by less than this.
const SLACK: Millis = Millis(50);

impl World {
    /// Checks an owner after it was told something.
    pub(crate) fn check(&mut self, epoch: Epoch) -> Result<(), Broken> {
        let Some(owner) = self.owners.get_mut(&epoch) else { return Ok(()) };
        let census = owner.shard.census();
        if is_behind(&census, &self.plan.limits) {
            owner.behind_at = self.now;
        }
        counts_agree(owner, &census)?;
        limits_hold(&census, &self.plan)?;
        memory_is_bounded(&census, &self.plan)?;
        pauses_have_a_cause(owner, &census, &self.plan)?;
        let remembers = self.plan.limits.lanes >= self.plan.endpoints.len();
        self.counts.openings += breakers_open(owner, remembers)?;
        self.no_offset_waits_for_a_receiver(epoch)?;
        self.healthy_endpoints_do_not_wait(epoch)
    }

    /// Every offset that a commit calls finished belongs to something that is safe.
    pub(crate) fn check_commit(&mut self, epoch: Epoch, progress: &Progress) -> Result<(), Broken> {
        if progress.unfinished.len() > MAX_NAMED || progress.to < progress.from {
            return Err(Broken::new("nothing_is_lost", format!("a commit of owner {} is malformed", epoch.0)));
        }
        if epoch != self.epoch {
            return Ok(()); // it will be refused
        }
        for offset in self.partition.close(progress.to.max(progress.from), |offset| progress.is_finished(offset)) {
            let Some(record) = self.partition.record(offset) else { continue };
            let id = record.delivery.id;
            match record.command {
                Command::Deliver | Command::Replay => {}
                Command::Retry | Command::Cancel => continue,
            }
            let open_elsewhere = || self.ledger.accounts[&id].offsets.iter().any(|other| self.partition.is_open(*other));
            // A replay must have ended anew, unless it joined a copy whose row a former owner took away meanwhile.
            let anew = record.command == Command::Replay && self.counts.revocations == 0;
            let ended = self.store.end(id).is_some_and(|(_, at)| at >= record.at || !anew);
            if !ended && !self.store.has_row(id) && !open_elsewhere() {
                let seen = format!("owner {} commits {} although {id} is neither finished nor stored", epoch.0, offset.0);
                return Err(Broken::new("nothing_is_lost", seen));
            }
        }
        Ok(())
    }

    /// What is read goes into a lane only as far as its share allows. `before` is the largest lane as it was.
    pub(crate) fn check_read(&self, epoch: Epoch, before: usize) -> Result<(), Broken> {
        let Some(owner) = self.owners.get(&epoch) else { return Ok(()) };
        let (census, limits) = (owner.shard.census(), &self.plan.limits);
        let largest = census.largest_lane;
        let most = (limits.pool / limits.share).max(self.plan.largest_delivery());
        // More where the endpoint would take more: at its pace, or while the store keeps us from sending.
        let taken = owner.views.iter().map(|view| view.pace(self.now)).max().unwrap_or(0);
        let in_flight = self.plan.endpoints.iter().map(|endpoint| usize::from(endpoint.policy.max_in_flight)).max().unwrap_or(1);
        let flowing = (taken + in_flight + 1) * self.plan.largest_delivery();
        let larger = if is_behind(&census, limits) { usize::MAX } else { flowing }.min(limits.pool / 2);
        if largest > before && largest > most.max(larger) {
            return Err(Broken::new("a_lane_is_a_small_window", format!("a read fills it to {largest} bytes, {most} at most")));
        }
        Ok(())
    }

    /// No row that a load's owner should know of lies before the low water, nor is one on its way there.
    pub(crate) fn check_low_water(&mut self, epoch: Epoch, endpoint: EndpointId, from: Place, low: Place) -> Result<(), Broken> {
        let present = epoch == self.epoch;
        let stored = self.store.row_before(endpoint, low).filter(|_| present); // who was followed knows no better
        let of_lane = self.owner(epoch)?.writes.iter().filter(|write| write.delivery.id.endpoint == endpoint);
        let mut coming = of_lane.filter_map(|write| write.put).map(|(place, _)| place);
        let before = stored.or_else(|| coming.find(|place| *place < low));
        if before.is_some() || from < low {
            let seen = format!("owner {} takes {} for low water, from {}: {before:?}", epoch.0, low.order, from.order);
            return Err(Broken::new("nothing_lies_below_the_low_water", seen));
        }
        self.counts.raised += u64::from(low > Place::default());
        Ok(())
    }

    fn no_offset_waits_for_a_receiver(&self, epoch: Epoch) -> Result<(), Broken> {
        let Some(owner) = self.owners.get(&epoch).filter(|owner| owner.part == Part::Serving) else { return Ok(()) };
        if self.store.down {
            return Ok(());
        }
        let Some((offset, read)) = owner.read_at.range(owner.committed.0.from..).next() else { return Ok(()) };
        let ways = longest_way(self.plan.store.delay);
        let endpoint = self.partition.record(*offset).map(|record| index_of(record.delivery.id.endpoint));
        let hold = self.plan.limits.hold_max;
        // What an endpoint takes within a second, as its pace of late tells, is given that second before it is written down.
        let succeeded = endpoint.and_then(|endpoint| owner.views[endpoint].succeeded);
        let soon = if succeeded.is_some_and(|at| at + PACE >= *read + hold) { SOON } else { Millis(0) };
        let most = Millis(ways.0 * 6) + self.plan.limits.commit_every + SLACK + soon;
        let waited = self.now.since((*read + hold).max(self.store_works_since + hold).max(owner.behind_at));
        if waited > most {
            return Err(Broken::new("no_offset_waits_for_a_receiver", format!("{} for {} ms too long", offset.0, waited.0)));
        }
        Ok(())
    }

    /// While nothing ails but receivers, deliveries of healthy endpoints go out soon.
    fn healthy_endpoints_do_not_wait(&self, epoch: Epoch) -> Result<(), Broken> {
        let Some(owner) = self.owners.get(&epoch).filter(|owner| owner.part == Part::Serving && epoch == self.epoch) else {
            return Ok(());
        };
        if !self.plan.is_roomy() || self.store.down {
            return Ok(());
        }
        for ((since, id), endpoint) in &self.ledger.waiting {
            let patience = self.plan.patience(owner.views[*endpoint].proven.is_some());
            let fresh = Millis(SLACK.0 + 200);
            if self.now.since(*since) <= fresh {
                break;
            }
            let since = (*since).max(self.store_works_since).max(owner.views[*endpoint].proven.unwrap_or_default());
            if self.plan.should_be_quick(*endpoint) && self.now.since(since) > patience {
                let seen = format!("{id} (endpoint {endpoint}) is not sent after {} ms", self.now.since(since).0);
                return Err(Broken::new("endpoints_are_strangers", seen));
            }
        }
        Ok(())
    }
}

/// Whether the store is slower than what is finished: nothing is moved there then for having waited.
fn is_behind(census: &Census, limits: &Limits) -> bool {
    2 * census.unwritten >= limits.unwritten
}

fn counts_agree(owner: &Owner, census: &Census) -> Result<(), Broken> {
    let unwritten = owner.writes.len() + owner.unacknowledged;
    if census.in_flight != owner.flights.len() {
        let seen = format!("{} attempts are out, the shard counts {}", owner.flights.len(), census.in_flight);
        return Err(Broken::new("attempts_are_counted", seen));
    }
    if census.unwritten != unwritten {
        return Err(Broken::new("writes_are_counted", format!("{unwritten} are out, the shard counts {}", census.unwritten)));
    }
    if census.wakeups > census.lanes {
        return Err(Broken::new("a_wakeup_belongs_to_a_lane", format!("{} for {} lanes", census.wakeups, census.lanes)));
    }
    Ok(())
}

fn limits_hold(census: &Census, plan: &Plan) -> Result<(), Broken> {
    let limits = &plan.limits;
    if census.in_flight > limits.in_flight || census.suspects > limits.suspects.min(census.in_flight) {
        let seen = format!("{} in flight, {} suspects", census.in_flight, census.suspects);
        return Err(Broken::new("slots_are_limited", seen));
    }
    // What is in memory may all have to be written when the limit is met, and so may what was just read.
    let in_memory = (limits.pool + plan.largest_lane()) / OVERHEAD + plan.traffic.batch;
    if census.unwritten > limits.unwritten + in_memory {
        return Err(Broken::new("writes_are_limited", format!("{} are unwritten", census.unwritten)));
    }
    Ok(())
}

fn memory_is_bounded(census: &Census, plan: &Plan) -> Result<(), Broken> {
    let lane = plan.largest_lane();
    if census.largest_lane > lane {
        return Err(Broken::new("a_lane_is_a_small_window", format!("{} bytes, {lane} at most", census.largest_lane)));
    }
    // Beyond the limit: what one read brings, the row that meets the limit, and one for each lane that would stand idle.
    let pool = plan.limits.pool + (plan.traffic.batch + census.lanes + 1) * plan.largest_delivery();
    if census.pool > pool {
        return Err(Broken::new("memory_is_bounded", format!("{} bytes, {pool} at most", census.pool)));
    }
    Ok(())
}

fn pauses_have_a_cause(owner: &Owner, census: &Census, plan: &Plan) -> Result<(), Broken> {
    let pool = if owner.strained { plan.limits.pool / 16 } else { plan.limits.pool };
    let relaxed = census.pool <= pool / 4 * 3 && census.unwritten <= plan.limits.unwritten / 2;
    if owner.paused && relaxed && owner.part == Part::Serving {
        return Err(Broken::new("pauses_have_a_cause", format!("{} bytes, {} writes", census.pool, census.unwritten)));
    }
    let full = census.pool >= pool || census.unwritten >= plan.limits.unwritten;
    if full && !owner.paused && owner.part == Part::Serving {
        return Err(Broken::new("a_full_shard_reads_nothing", format!("{} bytes, {} writes", census.pool, census.unwritten)));
    }
    Ok(())
}

/// Counts the breakers that have opened; one that stays closed although nothing succeeds breaks the invariant.
fn breakers_open(owner: &mut Owner, remembers: bool) -> Result<u64, Broken> {
    let mut opened = 0;
    for endpoint in 0..owner.views.len() {
        let view = &mut owner.views[endpoint];
        if view.failures.len() < 10 && !view.open {
            continue;
        }
        let state = owner.shard.breaker(endpoint_id(endpoint));
        let open = matches!(state, Some(State::Open { .. } | State::HalfOpen { .. }));
        opened += u64::from(open && !view.open);
        view.open = open;
        let (Some(first), Some(last)) = (view.failures.front(), view.failures.back()) else { continue };
        let dense = view.failures.len() == 10 && last.since(*first) < Millis(20_000);
        let forgotten = view.succeeded.is_none_or(|at| last.since(at) > Millis(30_000));
        if dense && forgotten && remembers && state == Some(State::Closed) {
            return Err(Broken::new("a_dead_endpoint_is_left_alone", format!("endpoint {endpoint}: ten failures in a row")));
        }
    }
    Ok(opened)
}

impl Plan {
    fn largest_delivery(&self) -> usize {
        OVERHEAD + self.traffic.payload as usize
    }

    /// The most bytes of a lane: half the pool, one delivery, and what it may load.
    fn largest_lane(&self) -> usize {
        let most = self.endpoints.iter().map(|endpoint| usize::from(endpoint.policy.max_in_flight)).max().unwrap_or(1).max(16);
        let loaded = (2 * most).min(self.limits.load) * 3 / 2 + most + 1;
        self.limits.pool / 2 + self.largest_delivery() * loaded
    }

    /// Whether slots and memory are so plentiful that a healthy endpoint has no reason to wait.
    fn is_roomy(&self) -> bool {
        let memory = self.limits.pool >= 16 << 20 && self.limits.unwritten >= Limits::default().unwritten;
        let slots = self.limits.in_flight - self.limits.suspects;
        memory && (self.limits.in_flight >= 64 || self.endpoints.iter().all(|endpoint| endpoint.temper.is_quick_or_hangs()) && slots >= 8)
    }

    fn should_be_quick(&self, endpoint: usize) -> bool {
        let quiet = self.changes.iter().all(|(_, of, _)| *of != endpoint);
        let plan = &self.endpoints[endpoint];
        plan.temper.is_healthy()
            && quiet
            && plan.policy.rate_limit.is_none()
            && !self.keeps_order(endpoint)
            && plan.policy.max_in_flight > 1
    }

    /// How long a healthy endpoint's delivery may wait in a roomy world.
    fn patience(&self, proven: bool) -> Millis {
        let ways = Millis(longest_way(self.store.delay).0 * 8);
        let queue = Millis(self.traffic.burst * 50);
        // Before it has answered, it takes its turn among the endpoints that do not.
        let turns = 4 * self.endpoints.len() / self.limits.suspects + 2;
        let unproven = if proven { Millis(0) } else { Millis(turns as u64 * 15_000) };
        let again = if self.store.load_failures > 0.0 { Millis(10_000) } else { Millis(0) };
        Millis(1000) + again + ways + queue + unproven
    }
}
