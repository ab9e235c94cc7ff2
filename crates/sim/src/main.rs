//! `postrider-sim`: runs seeds until one breaks an invariant, or replays one.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use clap::{Args, Parser, Subcommand};
use postrider_core::time::Millis;
use postrider_sim::{Counts, Detail, Failure, FleetPlan, Micros, run, run_fleet, run_in_detail};

/// Threads that run seeds.
const THREADS: u64 = 2;

/// Drives delivery shards through crashes, hand-overs and failures, and checks every invariant after every step.
#[derive(Debug, Parser)]
#[command(args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    task: Option<Task>,
    /// Run this many seeds.
    #[arg(long, default_value_t = 1000, conflicts_with = "seed")]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 0)]
    start: u64,
    /// Go on after a failure, and list at the end which seed broke which invariant first, and how many did.
    #[arg(long)]
    keep_going: bool,
    /// Replay one seed and print its trace.
    #[arg(long)]
    seed: Option<u64>,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Runs thousands of shards at a time and says how long deliveries take; costs and delays are those that
    /// docs/performance.md measured.
    Fleet(Fleet),
}

#[derive(Debug, Args)]
struct Fleet {
    /// Decides all chance.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Deliveries accepted a second.
    #[arg(long, default_value_t = 100_000)]
    rate: u32,
    /// Partitions of `deliveries`.
    #[arg(long, default_value_t = 128)]
    partitions: u16,
    /// Threads that serve them.
    #[arg(long, default_value_t = 24)]
    threads: u16,
    /// Endpoints.
    #[arg(long, default_value_t = 50_000)]
    endpoints: u32,
    /// `limits.in_flight` of each process.
    #[arg(long, default_value_t = 8192)]
    in_flight: usize,
    /// `limits.memory_mib` of each process.
    #[arg(long, default_value_t = 64)]
    memory_mib: usize,
    /// What a delivery takes of its thread, in µs.
    #[arg(long, default_value_t = 106)]
    cost: u64,
    /// From acceptance until the record has been read, half of the time, in ms.
    #[arg(long, default_value_t = 10)]
    log: u64,
    /// Until the store answers, half of the time, in ms.
    #[arg(long, default_value_t = 10)]
    store: u64,
    /// Share of the endpoints that misbehave.
    #[arg(long, default_value_t = 0.1)]
    bad: f64,
    /// For how many seconds one thread stands still in the middle.
    #[arg(long)]
    stop: Option<u64>,
    /// What is measured, in seconds; half as much is run before.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = match (&cli.task, cli.seed) {
        (Some(Task::Fleet(fleet)), _) => {
            print!("{}", run_fleet(fleet.plan()));
            Ok(())
        }
        (None, Some(seed)) => replay(seed),
        (None, None) => run_all(&cli),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{failure}");
            ExitCode::FAILURE
        }
    }
}

impl Fleet {
    fn plan(&self) -> FleetPlan {
        FleetPlan {
            seed: self.seed,
            rate: self.rate,
            partitions: self.partitions,
            threads: self.threads,
            endpoints: self.endpoints,
            in_flight: self.in_flight,
            memory_mib: self.memory_mib,
            cost: Micros(self.cost),
            log: Millis(self.log).into(),
            store: Millis(self.store).into(),
            bad: self.bad,
            stop: self.stop.map(|secs| (Millis::from_secs(self.seconds / 4), Millis::from_secs(secs))),
            warm_up: Millis::from_secs(self.seconds / 2),
            duration: Millis::from_secs(self.seconds),
        }
    }
}

fn replay(seed: u64) -> Result<(), Box<Failure>> {
    let report = run_in_detail(seed, Detail::Printed).map_err(|mut failure| {
        failure.trace.clear(); // it is printed already
        failure
    })?;
    println!("seed {seed}: every invariant held; {} ms of virtual time, trace {:016x}", report.took.0, report.hash);
    print_counts(&report.counts);
    Ok(())
}

/// What has come of the seeds so far.
#[derive(Debug, Default)]
struct Tally {
    counts: Counts,
    first: Option<Box<Failure>>,
    /// By invariant: the first seed that broke it, and how many did.
    broken: BTreeMap<&'static str, (u64, u64)>,
    done: u64,
}

fn run_all(cli: &Cli) -> Result<(), Box<Failure>> {
    let (next, stop) = (AtomicU64::new(cli.start), AtomicBool::new(false));
    let tally = Mutex::new(Tally::default());
    let work = || {
        while !stop.load(Ordering::Relaxed) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= cli.start + cli.seeds {
                return;
            }
            let outcome = run(seed);
            let mut tally = tally.lock().expect("no thread panics while it tallies");
            match outcome {
                Ok(report) => tally.counts += report.counts,
                Err(failure) => {
                    stop.store(!cli.keep_going, Ordering::Relaxed);
                    let broken = tally.broken.entry(failure.broken.invariant).or_insert((seed, 0));
                    *broken = (broken.0.min(seed), broken.1 + 1);
                    tally.first.get_or_insert(failure);
                }
            }
            tally.done += 1;
            if tally.done.is_multiple_of(500) {
                eprintln!("{} of {} seeds", tally.done, cli.seeds);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(work);
        }
    });
    let tally = tally.into_inner().expect("no thread panics while it tallies");
    if cli.keep_going {
        for (invariant, (seed, times)) in &tally.broken {
            println!("{times:>6} of {} seeds broke {invariant}, first {seed}", tally.done);
        }
    }
    if let Some(failure) = tally.first {
        return Err(failure);
    }
    println!("{} seeds from {} on: every invariant held", cli.seeds, cli.start);
    print_counts(&tally.counts);
    Ok(())
}

fn print_counts(counts: &Counts) {
    for (name, number) in counts.each() {
        println!("{number:>12} {}", name.replace('_', " "));
    }
}
