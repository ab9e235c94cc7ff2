//! Shards in whole worlds: seeds by the thousand, and a few scenes that must look a certain way.

use postrider_core::endpoint::Ordering;
use postrider_core::time::Millis;
use postrider_sim::{Counts, Detail, EndpointPlan, Fault, FleetPlan, Manner, Micros, Plan, Report, Temper, World, run, run_fleet};

const SEEDS: u64 = 1000;

fn play(plan: Plan) -> Report {
    World::new(plan, Detail::Tail).run().unwrap_or_else(|failure| panic!("{failure}"))
}

#[test]
fn a_thousand_seeds_keep_every_invariant() {
    let half = |first: u64| {
        let mut counts = Counts::default();
        for seed in (first..SEEDS).step_by(2) {
            match run(seed) {
                Ok(report) => counts += report.counts,
                Err(failure) => panic!("{failure}"),
            }
        }
        counts
    };
    let mut counts = Counts::default();
    std::thread::scope(|scope| {
        let halves = [scope.spawn(move || half(0)), scope.spawn(move || half(1))];
        for half in halves {
            counts += half.join().expect("every seed holds");
        }
    });
    // A simulator in which nothing happens proves nothing.
    for (what, times) in counts.each() {
        assert!(times >= 50, "{what} happened {times} times in {SEEDS} seeds");
    }
}

#[test]
fn a_seed_replays_exactly() {
    for seed in [1, 77, 4042] {
        assert_eq!(run(seed).expect("the seed holds"), run(seed).expect("the seed holds"));
    }
    assert_ne!(run(1).expect("the seed holds").hash, run(2).expect("the seed holds").hash);
}

#[test]
fn an_endpoint_back_after_an_outage_of_thousands_of_deliveries_drains_them_and_others_do_not_notice() {
    let back = EndpointPlan { weight: 20, ..EndpointPlan::plain(Temper::Failing, &[Millis::from_secs(10); 60]) };
    let healthy = EndpointPlan::plain(Temper::Healthy, &[]);
    let mut plan = Plan::calm(1, vec![back, healthy.clone(), healthy.clone(), healthy], 6000, Millis::from_secs(120));
    plan.healed = Some(Millis::from_secs(150));
    let report = play(plan);
    assert_eq!(report.counts.succeeded, 6000);
    assert!(report.counts.openings > 0 && report.counts.sends < 7000, "the dead endpoint is left alone: {:?}", report.counts);
    assert!(report.took < Millis::from_secs(300), "drained soon after: {:?}", report.took);
    assert!(report.slowest[1..].iter().all(|wait| *wait < Millis(1000)), "{:?}", report.slowest);
}

#[test]
fn a_busy_endpoint_that_has_caught_up_needs_the_store_no_more() {
    // A thousand a second without a lull: there is always one on its way that the next could be made to wait for.
    let mut plan = Plan::calm(6, vec![EndpointPlan::plain(Temper::Failing, &[Millis::from_secs(5); 60])], 30_000, Millis::from_secs(30));
    plan.healed = Some(Millis::from_secs(3));
    let report = play(plan);
    assert_eq!(report.counts.succeeded, 30_000);
    // Those of the 3 s that it was away, and of the while that it took to catch up.
    assert!(report.counts.parks < 10_000, "{:?}", report.counts);
}

#[test]
fn a_hanging_endpoint_does_not_slow_the_others() {
    let hanging = EndpointPlan { weight: 5, ..EndpointPlan::plain(Temper::Hanging, &[Millis::from_secs(5)]) };
    let healthy = EndpointPlan::plain(Temper::Healthy, &[]);
    let endpoints = vec![healthy.clone(), hanging.clone(), hanging.clone(), hanging, healthy];
    let mut plan = Plan::calm(2, endpoints, 3000, Millis::from_secs(60));
    plan.limits.in_flight = 16;
    plan.limits.suspects = 8;
    let report = play(plan);
    let quick = [report.slowest[0], report.slowest[4]];
    assert!(quick.iter().all(|wait| *wait < Millis::from_secs(10)), "{:?}", report.slowest);
}

#[test]
fn more_failing_keys_than_a_lane_keeps_in_mind_stay_in_order() {
    let mut ordered = EndpointPlan::plain(Temper::Moody, &[Millis::from_secs(20), Millis::from_secs(20), Millis::from_secs(20)]);
    ordered.policy.ordering = Ordering::Key;
    ordered.keys = 700;
    let report = play(Plan::calm(3, vec![ordered], 4000, Millis::from_secs(60)));
    assert!(report.counts.blocked_keys > 600, "{:?}", report.counts);
}

#[test]
fn a_store_outage_pauses_the_partition_and_loses_nothing() {
    let healthy = EndpointPlan::plain(Temper::Healthy, &[Millis(500)]);
    let mut plan = Plan::calm(4, vec![healthy.clone(), healthy], 3000, Millis::from_secs(20));
    plan.limits.unwritten = 100;
    plan.faults = vec![(Millis::from_secs(5), Fault::Outage(Millis::from_secs(30)))];
    let report = play(plan);
    assert_eq!((report.counts.succeeded, report.counts.duplicates), (3000, 0));
    assert!(report.counts.pauses > 0);
}

#[test]
fn handing_over_again_and_again_sends_nothing_twice() {
    let tempers = [Temper::Healthy, Temper::Slow, Temper::Moody, Temper::Failing];
    let endpoints = tempers.map(|temper| EndpointPlan::plain(temper, &[Millis(300), Millis(3000)])).to_vec();
    let mut plan = Plan::calm(5, endpoints, 3000, Millis::from_secs(40));
    plan.faults = (1..8).map(|i| (Millis::from_secs(i * 5), Fault::Drain)).collect();
    let report = play(plan);
    assert!(report.counts.drains >= 7);
    assert_eq!(report.counts.duplicates, 0);
}

#[test]
fn receivers_that_hang_hold_up_no_hand_over_and_get_nothing_twice() {
    // Answers later than `hand_over` lets it wait; each hand-over is checked to be in time, and leases to be kept.
    let slow = EndpointPlan::plain(Temper::Slow, &[Millis(300), Millis(3000)]);
    let hanging = EndpointPlan::plain(Temper::Hanging, &[Millis(300), Millis(3000)]);
    let mut ordered = slow.clone();
    (ordered.policy.ordering, ordered.keys) = (Ordering::Key, 5);
    let mut plan = Plan::calm(7, vec![slow, hanging, ordered], 2000, Millis::from_secs(40));
    plan.limits.hand_over = Millis(100);
    plan.faults = (1..8).map(|i| (Millis::from_secs(i * 5), Fault::Drain)).collect();
    let report = play(plan);
    assert!(report.counts.drains >= 7 && report.counts.leases > 50, "{:?}", report.counts);
    assert_eq!(report.counts.duplicates, 0);
}

#[test]
fn what_an_owner_had_in_flight_when_it_vanished_is_made_again() {
    let hanging = EndpointPlan::plain(Temper::Hanging, &[Millis(300), Millis(3000)]);
    let slow = EndpointPlan::plain(Temper::Slow, &[Millis(300)]);
    let mut plan = Plan::calm(8, vec![slow, hanging], 1000, Millis::from_secs(20));
    plan.limits.hand_over = Millis(0);
    plan.vanishing = 1.0;
    plan.faults = (1..5).map(|i| (Millis::from_secs(i * 4), Fault::Drain)).collect();
    plan.healed = Some(Millis::from_secs(25));
    let report = play(plan);
    assert!(report.counts.vanished >= 3, "{:?}", report.counts);
    assert_eq!(report.counts.succeeded, 1000);
}

#[test]
fn a_new_endpoint_gets_its_turn_although_the_others_never_rest() {
    let busy = EndpointPlan { weight: 100, ..EndpointPlan::plain(Temper::Slow, &[]) };
    let newcomer = EndpointPlan::plain(Temper::Healthy, &[]);
    let mut plan = Plan::calm(6, vec![busy.clone(), busy.clone(), busy, newcomer], 2000, Millis::from_secs(30));
    plan.limits.in_flight = 4;
    plan.limits.suspects = 2;
    let report = play(plan);
    assert!(report.took > Millis::from_secs(300), "the others never rest: {:?}", report.took);
    assert!(report.slowest[3] < Millis::from_secs(60), "{:?}", report.slowest);
}

/// A thousand shards, where one endpoint in five misbehaves.
fn fleet() -> FleetPlan {
    FleetPlan {
        seed: 1,
        rate: 4000,
        partitions: 1024,
        threads: 4,
        endpoints: 5000,
        in_flight: 1 << 16,
        memory_mib: 1024,
        cost: Micros(500),
        log: Micros(10_000),
        store: Micros(10_000),
        bad: 0.2,
        stop: None,
        warm_up: Millis::from_secs(5),
        duration: Millis::from_secs(10),
    }
}

#[test]
fn in_a_fleet_of_a_thousand_shards_bad_endpoints_are_not_felt() {
    let report = run_fleet(fleet());
    for manner in Manner::ALL {
        assert!(report.first[&manner].len() > 100, "{manner:?} is seldom met\n{report}");
    }
    assert!(report.within(Manner::Healthy, Micros(1_000_000)) > 0.999, "{report}");
    assert_eq!(report, run_fleet(fleet()), "equal plans");
}

#[test]
fn a_thread_of_a_fleet_that_stands_still_is_felt_by_its_partitions_alone() {
    let stop = Some((Millis::from_secs(2), Millis::from_secs(4)));
    let report = run_fleet(FleetPlan { stop, ..fleet() });
    let in_time = report.within(Manner::Healthy, Micros(1_000_000));
    // A quarter of the deliveries of 4 of 10 seconds waits, those of its last second less than one.
    assert!((0.85..0.97).contains(&in_time), "{in_time}\n{report}");
    assert!(report.within(Manner::Healthy, Micros(6_000_000)) > 0.999, "{report}");
}
