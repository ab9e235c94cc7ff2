//! Jobs: work that takes long and ends in a webhook.
//!
//! A job is one row, changed by compare and swap on its `version` and by nothing else; this module says which changes
//! there are. Whoever runs it holds a [`Claim`] with a lease. A claim that was lost can change nothing any more, so of
//! many workers at most one brings a job to its end, and a job that was canceled stays canceled.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::id::{EndpointId, JobId, Uid};
use crate::time::{Millis, Time};

/// Times that a job is begun before it is given up: workers die of it.
pub const MAX_CLAIMS: u32 = 3;

/// The sorts of work that this program does itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum JobKind {
    /// Scores texts against references.
    Evaluate,
    /// Speaks a text.
    Tts,
}

impl JobKind {
    /// Every kind.
    pub const ALL: [JobKind; 2] = [JobKind::Evaluate, JobKind::Tts];

    /// As requests, topics and rows call it.
    pub fn name(self) -> &'static str {
        match self {
            JobKind::Evaluate => "evaluate",
            JobKind::Tts => "tts",
        }
    }

    /// The kind of that name.
    pub fn named(name: &str) -> Option<JobKind> {
        JobKind::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// A job as it stands. The order of the fields, and of the states, is on disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// Counts the changes, from 0.
    pub version: u64,
    /// What sort of work it is, by name: rows outlive kinds.
    pub kind: String,
    /// Who is told of its end, beside the endpoints that want events of jobs.
    pub callback: Callback,
    /// The sender's own data, as JSON.
    pub metadata: Option<String>,
    /// From 0 to 9; of the jobs that wait in a worker, higher ones go first.
    pub priority: u8,
    /// W3C trace context of the request that brought it.
    pub traceparent: Option<String>,
    /// Where it stands.
    pub state: State,
    /// Everyone was told of that, where it was not the reader of its record who changed it: see [`Job::told`].
    pub told: bool,
}

/// Where a job stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    /// It waits for a worker.
    Pending {
        /// How often it was begun.
        claims: u32,
    },
    /// A worker runs it.
    Processing {
        /// By whom.
        claim: Claim,
        /// When it was begun first.
        started: Time,
        /// Until when nobody else may run it.
        until: Time,
        /// How much of it is done, of 1000.
        permille: u16,
    },
    /// It succeeded.
    Completed {
        /// When it was begun first.
        started: Time,
        /// When it ended.
        at: Time,
        /// What came of it.
        output: Output,
    },
    /// It failed for good.
    Failed {
        /// When it was begun first.
        started: Time,
        /// When it ended.
        at: Time,
        /// Why.
        error: Error,
    },
    /// Its sender withdrew it.
    Canceled {
        /// When it was begun first, if it was.
        started: Option<Time>,
        /// When.
        at: Time,
    },
}

/// Who runs a job: which worker, and which beginning of the job this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// A random number that no other worker has.
    pub worker: u64,
    /// From 1.
    pub number: u32,
}

/// Who is told of a job's end, and of what of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Callback {
    /// URLs; they need no registration.
    pub urls: Vec<String>,
    /// Their endpoints, in the same order, where they came with a secret or headers of their own; otherwise empty.
    pub endpoints: Vec<EndpointId>,
    /// The members of the body that are sent, where not all.
    pub include: Option<Vec<String>>,
    /// Members of the body that are left out.
    pub exclude: Vec<String>,
}

impl Callback {
    /// The endpoint of each URL.
    pub fn targets<'a>(&'a self, tenant: &str) -> impl Iterator<Item = (EndpointId, &'a str)> {
        let own = self.endpoints.iter().copied().map(Some).chain(std::iter::repeat(None));
        self.urls.iter().zip(own).map(move |(url, own)| (own.unwrap_or_else(|| EndpointId::of_url(tenant, url)), url.as_str()))
    }
}

/// What came of a job.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Output {
    /// Its result, as JSON.
    pub result: Option<Stored>,
    /// A file that it made.
    pub artifact: Option<Artifact>,
}

/// Where a result lies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stored {
    /// In the row.
    Inline(String),
    /// Among the blobs.
    Blob {
        /// Its name.
        name: String,
        /// Its size.
        bytes: u64,
    },
}

/// A file that a job made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Artifact {
    /// The blob's name.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// Its media type.
    pub media_type: String,
}

/// Why a job failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Error {
    /// For programs: lower case, with underscores.
    pub code: String,
    /// For people.
    pub message: String,
}

impl Error {
    /// An error with a `code` for programs and words for people.
    pub fn new(code: &str, message: impl fmt::Display) -> Error {
        Error { code: code.to_owned(), message: message.to_string() }
    }
}

/// What trying to begin a job comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Begin {
    /// It can be run once the job is swapped for this one.
    Run(Job, Claim),
    /// It can't be run any more once the job is swapped for this one.
    GiveUp(Job),
    /// Another worker has it; it may be asked again then.
    Wait(Time),
    /// It has ended.
    Over,
}

/// A job can't be changed in that way.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
pub enum Lost {
    /// Its sender withdrew it.
    #[error("the job was canceled")]
    Canceled,
    /// It has ended otherwise.
    #[error("the job has ended")]
    Over,
    /// Another worker has it, or will.
    #[error("the job was given to another worker")]
    Taken,
}

impl Job {
    /// Whether nothing changes any more.
    pub fn is_over(&self) -> bool {
        match self.state {
            State::Pending { .. } | State::Processing { .. } => false,
            State::Completed { .. } | State::Failed { .. } | State::Canceled { .. } => true,
        }
    }

    /// The same job one change later.
    fn with(&self, state: State) -> Job {
        Job { version: self.version + 1, state, told: false, ..self.clone() }
    }

    /// Its events are in the log. For a change that was not made by the reader of its record: that one would tell them again.
    pub fn told(&self) -> Job {
        Job { told: true, ..self.with(self.state.clone()) }
    }

    /// What `worker` may do with it at `now`: a claim holds for `lease`.
    pub fn begin(&self, worker: u64, now: Time, lease: Millis) -> Begin {
        let (claims, started) = match self.state {
            State::Pending { claims } => (claims, now),
            State::Processing { until, .. } if now < until => return Begin::Wait(until),
            State::Processing { claim, started, .. } => (claim.number, started),
            State::Completed { .. } | State::Failed { .. } | State::Canceled { .. } => return Begin::Over,
        };
        if claims >= MAX_CLAIMS {
            let error = Error::new("worker_lost", format_args!("its worker died or was cut off {claims} times while it ran"));
            return Begin::GiveUp(self.with(State::Failed { started, at: now, error }));
        }
        let claim = Claim { worker, number: claims + 1 };
        Begin::Run(self.with(State::Processing { claim, started, until: now + lease, permille: 0 }), claim)
    }

    /// When the holder of `claim` began it first; or why it is not the holder's any more.
    fn held(&self, claim: Claim) -> Result<Time, Lost> {
        match self.state {
            State::Processing { claim: holder, started, .. } if holder == claim => Ok(started),
            State::Processing { .. } | State::Pending { .. } => Err(Lost::Taken),
            State::Canceled { .. } => Err(Lost::Canceled),
            State::Completed { .. } | State::Failed { .. } => Err(Lost::Over),
        }
    }

    /// Its holder has come so far and goes on for another `lease`.
    pub fn renew(&self, claim: Claim, permille: u16, now: Time, lease: Millis) -> Result<Job, Lost> {
        let started = self.held(claim)?;
        Ok(self.with(State::Processing { claim, started, until: now + lease, permille: permille.min(1000) }))
    }

    /// Its holder has to stop, through no fault of the job's: somebody else may begin it at once, and this one does not count.
    pub fn release(&self, claim: Claim) -> Result<Job, Lost> {
        self.held(claim)?;
        Ok(self.with(State::Pending { claims: claim.number - 1 }))
    }

    /// Its holder has done it.
    pub fn complete(&self, claim: Claim, output: Output, now: Time) -> Result<Job, Lost> {
        let started = self.held(claim)?;
        Ok(self.with(State::Completed { started, at: now, output }))
    }

    /// Its holder found that it can't be done.
    pub fn fail(&self, claim: Claim, error: Error, now: Time) -> Result<Job, Lost> {
        let started = self.held(claim)?;
        Ok(self.with(State::Failed { started, at: now, error }))
    }

    /// Its sender withdraws it. Errors: it has ended.
    pub fn cancel(&self, now: Time) -> Result<Job, Lost> {
        let started = match self.state {
            State::Pending { .. } => None,
            State::Processing { started, .. } => Some(started),
            State::Canceled { .. } => return Err(Lost::Canceled),
            State::Completed { .. } | State::Failed { .. } => return Err(Lost::Over),
        };
        Ok(self.with(State::Canceled { started, at: now }))
    }
}

/// What an event of a job is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Telling {
    /// A change of its state, to endpoints that want to know.
    State,
    /// Its end, to the URLs that came with it.
    Callback,
}

/// The number of the event that tells of a job's state since `at`. Whoever tells it again, after a crash, tells it under
/// the same number, so that its receivers can tell a repeat.
pub fn event_number(job: JobId, version: u64, at: Time, telling: Telling) -> Uid {
    let step = match telling {
        Telling::State => 0,
        Telling::Callback => 1,
    };
    // Of one job at one instant the version tells events apart; of two jobs the job's own random bits.
    Uid::new(at, (version << 1 | step) as u16, (job.0.0 as u64) << 2 ^ (job.0.0 >> 64) as u64 ^ (version << 32))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LEASE: Millis = Millis(100);

    fn new() -> Job {
        Job {
            version: 0,
            kind: "evaluate".to_owned(),
            callback: Callback::default(),
            metadata: None,
            priority: 5,
            traceparent: None,
            state: State::Pending { claims: 0 },
            told: false,
        }
    }

    fn begun(job: &Job, worker: u64, now: u64) -> (Job, Claim) {
        match job.begin(worker, Time(now), LEASE) {
            Begin::Run(job, claim) => (job, claim),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_job_whose_workers_die_is_begun_three_times_and_then_given_up() {
        let mut job = new();
        for n in 0..3 {
            job = begun(&job, n, 1000 * n).0;
            assert_eq!(job.begin(9, Time(1000 * n + 99), LEASE), Begin::Wait(Time(1000 * n + 100)));
        }
        let Begin::GiveUp(job) = job.begin(9, Time(9000), LEASE) else { panic!("{job:?}") };
        assert!(matches!(&job.state, State::Failed { started: Time(0), error, .. } if error.code == "worker_lost"));
    }

    #[test]
    fn a_worker_that_has_to_stop_costs_the_job_nothing() {
        let mut job = new();
        for n in 0..20 {
            let (run, claim) = begun(&job, n, n);
            job = run.release(claim).expect("it holds the claim");
        }
        assert_eq!(job.state, State::Pending { claims: 0 });
    }

    #[test]
    fn events_of_one_job_have_numbers_of_their_own_and_always_the_same() {
        let job = |n: u64| JobId(Uid::new(Time(5), 1, n << 2));
        let mut seen = std::collections::BTreeSet::new();
        for (n, version) in (0..50).flat_map(|n| (0..50).map(move |version| (n, version))) {
            for telling in [Telling::State, Telling::Callback] {
                let number = event_number(job(n), version, Time(77), telling);
                assert_eq!(number, event_number(job(n), version, Time(77), telling));
                assert_eq!(number.time(), Time(77));
                assert!(seen.insert(number), "{n} {version}");
            }
        }
    }

    /// What happens next: to whom, and how long after the last.
    #[derive(Clone, Copy, Debug)]
    enum Step {
        Begin(u64),
        Renew(u64),
        Release(u64),
        Complete(u64),
        Fail(u64),
        Cancel,
    }

    fn steps() -> impl Strategy<Value = Vec<(Step, u64)>> {
        let worker = 0..3_u64;
        let step = prop_oneof![
            4 => worker.clone().prop_map(Step::Begin),
            2 => worker.clone().prop_map(Step::Renew),
            1 => worker.clone().prop_map(Step::Release),
            1 => worker.clone().prop_map(Step::Complete),
            1 => worker.prop_map(Step::Fail),
            1 => Just(Step::Cancel),
        ];
        prop::collection::vec((step, 0..120_u64), 1..60)
    }

    proptest! {
        /// Workers act on what they saw last, which may be old: a change counts only if the version is still the one it is of.
        #[test]
        fn one_worker_at_a_time_one_end_and_a_canceled_job_stays_canceled(steps in steps()) {
            let mut row = new();
            let mut seen: [(Job, Option<Claim>); 3] = std::array::from_fn(|_| (new(), None));
            let mut now = 0;
            for (step, wait) in steps {
                now += wait;
                let time = Time(now);
                let (who, changed) = match step {
                    Step::Begin(w) => {
                        let sees = if now % 2 == 0 { row.clone() } else { seen[w as usize].0.clone() };
                        match sees.begin(w, time, LEASE) {
                            Begin::Run(job, claim) => (Some((w, Some(claim))), Some(job)),
                            Begin::GiveUp(job) => (Some((w, None)), Some(job)),
                            Begin::Wait(_) | Begin::Over => (None, None),
                        }
                    }
                    Step::Renew(w) | Step::Release(w) | Step::Complete(w) | Step::Fail(w) => {
                        let (sees, claim) = &seen[w as usize];
                        let Some(claim) = *claim else { continue };
                        let changed = match step {
                            Step::Renew(_) => sees.renew(claim, 500, time, LEASE),
                            Step::Release(_) => sees.release(claim),
                            Step::Complete(_) => sees.complete(claim, Output::default(), time),
                            _ => sees.fail(claim, Error { code: "x".to_owned(), message: String::new() }, time),
                        };
                        (Some((w, Some(claim))), changed.ok())
                    }
                    Step::Cancel => (None, row.cancel(time).ok()),
                };
                let Some(changed) = changed else { continue };
                prop_assert_eq!(changed.version, changed.version.max(1));
                if changed.version != row.version + 1 {
                    continue; // the swap fails, as somebody was faster
                }
                prop_assert!(!row.is_over(), "changed after its end: {:?} to {:?}", row.state, changed.state);
                if let State::Processing { claim, until, .. } = row.state
                    && !matches!(changed.state, State::Canceled { .. })
                {
                    let is_holder = who.is_some_and(|(_, by)| by == Some(claim));
                    prop_assert!(is_holder || time >= until, "taken from its holder before its lease was over");
                }
                if let State::Processing { claim, .. } = changed.state {
                    prop_assert!(claim.number <= MAX_CLAIMS);
                }
                row = changed;
                if let Some((w, claim)) = who {
                    seen[w as usize] = (row.clone(), claim);
                }
            }
        }
    }
}
