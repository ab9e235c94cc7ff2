//! `postrider-sim`: runs seeds until one breaks an invariant, or replays one.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use clap::Parser;
use postrider_sim::{Counts, Detail, Failure, run, run_in_detail};

/// Threads that run seeds.
const THREADS: u64 = 2;

/// Drives delivery shards through crashes, hand-overs and failures, and checks every invariant after every step.
#[derive(Debug, Parser)]
struct Cli {
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

fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = match cli.seed {
        Some(seed) => replay(seed),
        None => run_all(&cli),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{failure}");
            ExitCode::FAILURE
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
