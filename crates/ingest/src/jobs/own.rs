//! What kinds call what happens to their jobs, beside `job.*`.
//!
//! A kind that has names of its own is one line in each of these; everything else is the same for all kinds.

use postrider_core::id::JobId;
use postrider_core::job::{Error, Job, JobKind, State};
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Value, json};

use super::batch::Batch;

/// An event of a kind's own.
pub(super) struct Own {
    /// Its type.
    pub(super) name: &'static str,
    /// Tells the states of a job apart that have such events.
    pub(super) state: u64,
    /// What it says.
    pub(super) data: Box<RawValue>,
}

/// What a job's kind calls its present state, if it has a word for it. `result` is what came of it, as far as it is told.
pub(super) fn of_state(id: JobId, job: &Job, result: Option<&RawValue>) -> Option<Own> {
    let kind = JobKind::named(&job.kind)?;
    if kind == JobKind::Batch {
        return of_batch(id, job);
    }
    let state = match &job.state {
        State::Pending { .. } => return None,
        State::Processing { .. } => 0,
        State::Completed { .. } => 1,
        State::Failed { .. } | State::Canceled { .. } => 2,
    };
    let names = match kind {
        JobKind::Evaluate | JobKind::Tts | JobKind::Http | JobKind::Batch => return None,
        JobKind::Generate => ["completion.started", "completion.finished", "completion.failed"],
        JobKind::Experiment => ["generation.started", "generation.completed", "generation.failed"],
    };
    let data = match (&job.state, result) {
        (State::Completed { .. }, Some(result)) => result.to_owned(),
        (State::Pending { .. } | State::Processing { .. } | State::Completed { .. }, _) => raw(&about(id, job)),
        (State::Failed { error, .. }, _) => raw(&failed(id, job, error)),
        // Whoever heard that it was begun hears that it is over.
        (State::Canceled { .. }, _) => raw(&failed(id, job, &Error::new("canceled", "its sender withdrew it"))),
    };
    Some(Own { name: names[state], state: state as u64, data })
}

/// What is said of a batch, which has words for more states than others, and its own data for all of them. That one was withdrawn is
/// said once it is known what it had made.
fn of_batch(id: JobId, job: &Job) -> Option<Own> {
    let (state, name) = match &job.state {
        State::Pending { .. } => (3, "batch.created"),
        State::Processing { .. } => (0, "batch.processing"),
        State::Completed { .. } => (1, "batch.completed"),
        State::Failed { .. } => (2, "batch.failed"),
        State::Canceled { output: Some(_), .. } => (2, "batch.cancelled"),
        State::Canceled { output: None, .. } => return None,
    };
    let data = to_raw_value(&Batch::of(id, job).news()).expect("texts and numbers always have a JSON form");
    Some(Own { name, state, data })
}

/// What a job's kind calls being on the way.
pub(super) fn of_progress(job: &Job) -> Option<&'static str> {
    match JobKind::named(&job.kind)? {
        JobKind::Evaluate | JobKind::Tts | JobKind::Http | JobKind::Batch => None,
        JobKind::Generate => Some("completion.streaming"),
        JobKind::Experiment => Some("generation.progress"),
    }
}

/// The experiment that a job belongs to: what its sender calls it, or else by the job's id.
pub(super) fn experiment_id(id: JobId, job: &Job) -> String {
    job.callback.experiment.clone().unwrap_or_else(|| named(id, "exp_"))
}

/// The run of an experiment that a job is.
pub(super) fn run_id(id: JobId) -> String {
    named(id, "run_")
}

/// The number of a job's id under another name.
fn named(id: JobId, prefix: &str) -> String {
    id.to_string().replacen("job_", prefix, 1)
}

/// What a job is, where there is nothing else to say.
pub(super) fn about(id: JobId, job: &Job) -> Value {
    match JobKind::named(&job.kind) {
        Some(JobKind::Experiment) => json!({ "experiment_id": experiment_id(id, job), "run_id": run_id(id), "job_id": id.to_string() }),
        Some(JobKind::Evaluate | JobKind::Tts | JobKind::Http | JobKind::Generate | JobKind::Batch) | None => {
            json!({ "job_id": id.to_string() })
        }
    }
}

fn failed(id: JobId, job: &Job, error: &Error) -> Value {
    let mut data = about(id, job);
    data["error"] = json!({ "code": error.code, "message": error.message });
    data
}

fn raw(value: &Value) -> Box<RawValue> {
    to_raw_value(value).expect("JSON has a JSON form")
}
