//! Jobs: work that takes long and ends in a webhook.
//!
//! A job is one row, changed by compare and swap on its `version` and by nothing else; this module says which changes
//! there are. Whoever runs it holds a [`Claim`] with a lease. A claim that was lost can change nothing any more, so of
//! many workers at most one brings a job to its end, and a job that was canceled stays canceled.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::id::{EndpointId, JobId, Uid};
use crate::pattern::Pattern;
use crate::time::{Millis, Time};
use crate::trace::KeptTrace;

/// Times that a job is begun before it is given up: workers die of it.
pub const MAX_CLAIMS: u32 = 3;
/// Least time between two changes of a job's progress by workers outside.
const PROGRESS: Millis = Millis::from_secs(1);

/// The sorts of work that this program does itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum JobKind {
    /// Scores texts against references.
    Evaluate,
    /// Speaks a text.
    Tts,
    /// Has a model complete a chat.
    Generate,
    /// Has a model make up personas.
    Experiment,
    /// Asks an upstream each line of a file.
    Batch,
    /// Calls a URL and gives its answer.
    Http,
}

impl JobKind {
    /// Every kind.
    pub const ALL: [JobKind; 6] = [JobKind::Evaluate, JobKind::Tts, JobKind::Generate, JobKind::Experiment, JobKind::Batch, JobKind::Http];

    /// As requests, topics and rows call it.
    pub fn name(self) -> &'static str {
        match self {
            JobKind::Evaluate => "evaluate",
            JobKind::Tts => "tts",
            JobKind::Generate => "generate",
            JobKind::Experiment => "experiment",
            JobKind::Batch => "batch",
            JobKind::Http => "http",
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
    /// What it is to be done with, as JSON, for a kind that shows it.
    pub input: Option<String>,
    /// Who is told of its end, beside the endpoints that want events of jobs.
    pub callback: Callback,
    /// The sender's own data, as JSON.
    pub metadata: Option<String>,
    /// From 0 to 9; of the jobs that wait in a worker, higher ones go first.
    pub priority: u8,
    /// The trace it is part of: of the request that brought it, and once it was begun as its run hands it on.
    pub trace: KeptTrace,
    /// How far it came.
    pub counts: Counts,
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
        /// What it had made by then, once that is known, for a kind that keeps it.
        output: Option<Output>,
    },
}

/// How far a job came, in pieces of work of the kind's own size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// How many there are; 0 while that is not known.
    pub total: u32,
    /// Those that succeeded.
    pub completed: u32,
    /// Those that failed, where that does not fail the job.
    pub failed: u32,
}

impl Counts {
    /// `completed` pieces of `total`.
    pub fn of(completed: usize, total: usize) -> Counts {
        let count = |pieces: usize| u32::try_from(pieces).unwrap_or(u32::MAX);
        Counts { total: count(total), completed: count(completed), failed: 0 }
    }

    /// Pieces that need no more work.
    pub fn done(&self) -> u32 {
        self.completed.saturating_add(self.failed)
    }

    /// How much is done, from 0 to 1.
    pub fn share(&self) -> f64 {
        if self.total == 0 { 0.0 } else { (f64::from(self.done()) / f64::from(self.total)).min(1.0) }
    }
}

/// Who runs a job: which worker, and which beginning of the job this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// A random number that no other worker has.
    pub worker: u64,
    /// From 1.
    pub number: u32,
}

impl Claim {
    /// Whoever does jobs outside of this program: which of them is not for us to know.
    pub const OUTSIDE: Claim = Claim { worker: 0, number: 1 };
}

/// What a worker outside says of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// It works on it, and has done so much of it, of 1000.
    Processing(u16),
    /// It has done it.
    Completed(Output),
    /// It found that it can't be done.
    Failed(Error),
}

/// What was said changes nothing.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
pub enum Unheard {
    /// It comes too late.
    #[error(transparent)]
    Late(#[from] Lost),
    /// The job's progress was told a moment ago.
    #[error("the job's progress was told less than a second ago")]
    Soon,
}

/// What it means that workers outside say nothing of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Silence {
    /// They may be silent until then.
    Until(Time),
    /// They have been for too long; the job is to be swapped for this one.
    TooLong(Box<Job>),
    /// It has ended.
    Over,
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
    /// Who is told of what happens meanwhile, too.
    pub hooks: Vec<Hook>,
    /// The experiment that hooks are told of, where its sender named it.
    pub experiment: Option<String>,
}

/// Who is told of some of a job's events.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hook {
    /// Its URL; it needs no registration.
    pub url: String,
    /// Its endpoint.
    pub endpoint: EndpointId,
    /// The events it wants; empty means all.
    pub events: Vec<Pattern>,
    /// What it is sent.
    pub format: Format,
}

impl Hook {
    /// Whether it wants events of type `kind`.
    pub fn wants(&self, kind: &str) -> bool {
        self.events.is_empty() || self.events.iter().any(|pattern| pattern.matches(kind))
    }
}

/// The body of an event for a hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// As endpoints get it.
    Event,
    /// `{event, timestamp, experiment_id, run_id, data}`.
    Experiment,
    /// `{text}`, as Slack's incoming webhooks take it.
    Slack,
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
    /// The lines of an input file that are wrong; the first of them, where there are many.
    pub lines: Vec<LineError>,
}

/// What is wrong with a line of an input file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LineError {
    /// Which, from 1; none for the file as a whole.
    pub line: Option<u32>,
    /// For programs: lower case, with underscores.
    pub code: String,
    /// For people.
    pub message: String,
    /// The member that is wrong.
    pub param: Option<String>,
}

impl Error {
    /// An error with a `code` for programs and words for people.
    pub fn new(code: &str, message: impl fmt::Display) -> Error {
        Error { code: code.to_owned(), message: message.to_string(), lines: Vec::new() }
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

    /// Tells the job's present state from those that it had and will have, in numbers of events: a job may be begun again, but it
    /// ends once, whatever is noted of its end later.
    pub fn turn(&self) -> u64 {
        if self.is_over() { u64::MAX } else { self.version }
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
        Begin::Run(self.with(State::Processing { claim, started, until: now + lease }), claim)
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
    pub fn renew(&self, claim: Claim, counts: Counts, now: Time, lease: Millis) -> Result<Job, Lost> {
        let started = self.held(claim)?;
        Ok(Job { counts, ..self.with(State::Processing { claim, started, until: now + lease }) })
    }

    /// Its holder has to stop, through no fault of the job's: somebody else may begin it at once, and this one does not count.
    pub fn release(&self, claim: Claim) -> Result<Job, Lost> {
        self.held(claim)?;
        Ok(self.with(State::Pending { claims: claim.number - 1 }))
    }

    /// Its holder has done it.
    pub fn complete(&self, claim: Claim, counts: Counts, output: Output, now: Time) -> Result<Job, Lost> {
        let started = self.held(claim)?;
        Ok(Job { counts, ..self.with(State::Completed { started, at: now, output }) })
    }

    /// Its holder found that it can't be done.
    pub fn fail(&self, claim: Claim, counts: Counts, error: Error, now: Time) -> Result<Job, Lost> {
        let started = self.held(claim)?;
        Ok(Job { counts, ..self.with(State::Failed { started, at: now, error }) })
    }

    /// Workers outside said this of it. A sign of life counts for `patience`.
    pub fn hear(&self, said: &Said, now: Time, patience: Millis) -> Result<Job, Unheard> {
        let began = match self.state {
            State::Pending { .. } => None,
            State::Processing { .. } | State::Completed { .. } | State::Failed { .. } | State::Canceled { .. } => {
                Some(self.held(Claim::OUTSIDE)?)
            }
        };
        let started = began.unwrap_or(now);
        let state = match said {
            Said::Processing(_) => {
                if let State::Processing { until, .. } = self.state
                    && now + patience < until + PROGRESS
                {
                    return Err(Unheard::Soon);
                }
                State::Processing { claim: Claim::OUTSIDE, started, until: now + patience }
            }
            Said::Completed(output) => State::Completed { started, at: now, output: output.clone() },
            Said::Failed(error) => State::Failed { started, at: now, error: error.clone() },
        };
        // That it is being done is told once.
        let told = self.told && began.is_some() && matches!(said, Said::Processing(_));
        let counts = match said {
            Said::Processing(permille) => Counts::of(usize::from((*permille).min(1000)), 1000),
            Said::Completed(_) | Said::Failed(_) => self.counts,
        };
        Ok(Job { counts, told, ..self.with(state) })
    }

    /// Workers outside have said nothing until `now`, of a job that was `made` then.
    pub fn silence(&self, made: Time, now: Time, patience: Millis) -> Silence {
        let (started, until) = match self.state {
            State::Pending { .. } => (now, made + patience),
            State::Processing { started, until, .. } => (started, until),
            State::Completed { .. } | State::Failed { .. } | State::Canceled { .. } => return Silence::Over,
        };
        if now < until {
            return Silence::Until(until);
        }
        let error = Error::new("timeout", format_args!("no worker said anything of it for {} s", patience.0 / 1000));
        Silence::TooLong(Box::new(self.with(State::Failed { started, at: now, error })))
    }

    /// Its sender withdraws it. Errors: it has ended.
    pub fn cancel(&self, now: Time) -> Result<Job, Lost> {
        let started = match self.state {
            State::Pending { .. } => None,
            State::Processing { started, .. } => Some(started),
            State::Canceled { .. } => return Err(Lost::Canceled),
            State::Completed { .. } | State::Failed { .. } => return Err(Lost::Over),
        };
        Ok(self.with(State::Canceled { started, at: now, output: None }))
    }

    /// What it had made when it was withdrawn, and how far it had come. Errors: that is known, or it was not withdrawn.
    pub fn settle(&self, counts: Counts, output: Output) -> Result<Job, Lost> {
        match &self.state {
            State::Canceled { started, at, output: None } => {
                Ok(Job { counts, ..self.with(State::Canceled { started: *started, at: *at, output: Some(output) }) })
            }
            State::Canceled { output: Some(_), .. } | State::Completed { .. } | State::Failed { .. } => Err(Lost::Over),
            State::Pending { .. } | State::Processing { .. } => Err(Lost::Taken),
        }
    }
}

/// What an event of a job is about. The numbers tell events of one sort apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum About {
    /// A change of its state, or how far it has come: the row's version.
    State(u64),
    /// What its kind calls a state: which state. Who begins a job that another began tells the same.
    Own(u64),
    /// What its kind calls being on the way: the row's version.
    Progress(u64),
    /// A part of what it makes.
    Part(u64),
}

/// Whom an event of a job is for. Each gets a body of its own, and so an event of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    /// Endpoints that want to know.
    Endpoints,
    /// The URLs that came with it.
    Callback,
    /// One of its hooks.
    Hook(u8),
}

/// The number of an event of a job that happened `at` an instant. Whoever tells it again, after a crash, tells it under
/// the same number, so that its receivers can tell a repeat.
pub fn event_number(job: JobId, at: Time, about: About, audience: Audience) -> Uid {
    let (sort, number) = match about {
        About::State(version) => (0, version),
        About::Own(state) => (1, state),
        About::Progress(version) => (2, version),
        About::Part(number) => (3, number),
    };
    let audience = match audience {
        Audience::Endpoints => 0,
        Audience::Callback => 1,
        Audience::Hook(index) => 2 + (u64::from(index) & 0x1F),
    };
    // Of one job at one instant sort, number and audience tell events apart; of two jobs the job's own random bits.
    let within = audience << 2 | sort;
    Uid::new(at, (number << 7 | within) as u16, (job.0.0 as u64) << 2 ^ (job.0.0 >> 64) as u64 ^ (number << 32))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::TraceParent;
    use proptest::prelude::*;

    const LEASE: Millis = Millis(100);

    fn new() -> Job {
        Job {
            version: 0,
            kind: "evaluate".to_owned(),
            input: None,
            callback: Callback::default(),
            metadata: None,
            priority: 5,
            trace: TraceParent::of_job(Uid(1)).into(),
            counts: Counts::default(),
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
    fn what_a_withdrawn_job_had_made_is_noted_once_and_changes_nothing_else() {
        let job = new();
        assert_eq!(job.settle(Counts::default(), Output::default()), Err(Lost::Taken));
        let canceled = job.cancel(Time(5)).expect("it waits");
        for canceled in [canceled.told(), canceled] {
            let settled = canceled.settle(Counts::of(3, 7), Output::default()).expect("nothing is known yet");
            assert_eq!((settled.turn(), settled.version, settled.counts.done()), (canceled.turn(), canceled.version + 1, 3));
            assert!(matches!(settled.state, State::Canceled { at: Time(5), output: Some(_), .. }));
            assert_eq!(settled.settle(Counts::default(), Output::default()), Err(Lost::Over));
            assert_eq!(settled.cancel(Time(6)), Err(Lost::Canceled));
        }
    }

    #[test]
    fn a_share_is_of_what_there_is() {
        let share = |total, completed, failed| Counts { total, completed, failed }.share();
        assert_eq!([share(0, 0, 0), share(4, 1, 1), share(4, 3, 1), share(1, 9, u32::MAX)], [0.0, 0.5, 1.0, 1.0]);
    }

    #[test]
    fn events_of_one_job_have_numbers_of_their_own_and_always_the_same() {
        let job = |n: u64| JobId(Uid::new(Time(5), 1, n << 2));
        let mut seen = std::collections::BTreeSet::new();
        for (n, number) in (0..50).flat_map(|n| (0..50).chain([u64::MAX]).map(move |number| (n, number))) {
            for about in [About::State(number), About::Own(number), About::Progress(number), About::Part(number)] {
                for audience in [Audience::Endpoints, Audience::Callback, Audience::Hook(0), Audience::Hook(15)] {
                    let event = event_number(job(n), Time(77), about, audience);
                    assert_eq!(event, event_number(job(n), Time(77), about, audience));
                    assert_eq!(event.time(), Time(77));
                    assert!(seen.insert(event), "{n} {about:?} {audience:?}");
                }
            }
        }
    }

    /// What happens next to a job that is done outside.
    #[derive(Clone, Copy, Debug)]
    enum Word {
        Processing(u16),
        Completed,
        Failed,
        Silence,
        Cancel,
    }

    proptest! {
        /// Several may do one job, each more than once, in any order, and what they say is read again after a crash.
        #[test]
        fn a_job_that_is_done_outside_ends_once_and_its_silence_is_noticed_in_time(
            words in prop::collection::vec(
                (prop_oneof![
                    3 => (0..1200_u16).prop_map(Word::Processing),
                    1 => Just(Word::Completed),
                    1 => Just(Word::Failed),
                    3 => Just(Word::Silence),
                    1 => Just(Word::Cancel),
                ], 0..3000_u64, 1..3_usize),
                1..40,
            )
        ) {
            const PATIENCE: Millis = Millis(4000);
            let mut row = new();
            let (mut now, mut heard) = (0, 0);
            for (word, wait, times) in words {
                now += wait;
                for _ in 0..times {
                    let changed = match word {
                        Word::Processing(permille) => row.hear(&Said::Processing(permille), Time(now), PATIENCE).ok(),
                        Word::Completed => row.hear(&Said::Completed(Output::default()), Time(now), PATIENCE).ok(),
                        Word::Failed => row.hear(&Said::Failed(Error::new("x", "")), Time(now), PATIENCE).ok(),
                        Word::Cancel => row.cancel(Time(now)).ok(),
                        Word::Silence => match row.silence(Time(0), Time(now), PATIENCE) {
                            Silence::Over => None,
                            Silence::Until(until) => {
                                prop_assert_eq!(until, Time(heard) + PATIENCE);
                                None
                            }
                            Silence::TooLong(job) => {
                                prop_assert!(now >= heard + PATIENCE.0, "given up too early");
                                Some(*job)
                            }
                        },
                    };
                    let Some(changed) = changed else { continue };
                    prop_assert!(!row.is_over(), "changed after its end: {:?} to {:?}", row.state, changed.state);
                    prop_assert_eq!(changed.version, row.version + 1);
                    if let (State::Processing { started, .. }, State::Processing { started: then, .. }) = (&row.state, &changed.state) {
                        prop_assert!(started == then && row.counts.share() <= 1.0);
                        prop_assert!(now >= heard + PROGRESS.0, "progress is told more than once a second");
                        prop_assert_eq!(row.told, changed.told, "that it is being done is told once");
                    } else {
                        prop_assert!(!changed.told);
                    }
                    row = if now % 2 == 0 && !changed.told { changed.told() } else { changed };
                    heard = now;
                }
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
                            Step::Renew(_) => sees.renew(claim, Counts::of(1, 2), time, LEASE),
                            Step::Release(_) => sees.release(claim),
                            Step::Complete(_) => sees.complete(claim, Counts::of(2, 2), Output::default(), time),
                            _ => sees.fail(claim, Counts::default(), Error::new("x", ""), time),
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
