//! Batches: what they are to be done with, what came of them, and where they stand by OpenAI's names.

use postrider_core::id::{BatchId, FileId, FilePurpose, JobId};
use postrider_core::job::{Counts, Job, Output, State, Stored};
use postrider_core::time::Time;
use serde::{Deserialize, Serialize};

use crate::submission::{Invalid, Problem};

/// The one window that there is.
const WINDOW: &str = "24h";

/// What a batch is to be done with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchInput {
    /// The requests, one a line.
    pub input_file: FileId,
    /// Where all of them go.
    pub endpoint: BatchEndpoint,
}

/// Where requests of a batch go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchEndpoint {
    /// `/v1/chat/completions`
    ChatCompletions,
    /// `/v1/completions`
    Completions,
    /// `/v1/embeddings`
    Embeddings,
    /// `/v1/responses`
    Responses,
}

impl BatchEndpoint {
    /// Every endpoint.
    pub const ALL: [BatchEndpoint; 4] =
        [BatchEndpoint::ChatCompletions, BatchEndpoint::Completions, BatchEndpoint::Embeddings, BatchEndpoint::Responses];

    /// As requests name it, and the upstream serves it.
    pub fn path(self) -> &'static str {
        match self {
            BatchEndpoint::ChatCompletions => "/v1/chat/completions",
            BatchEndpoint::Completions => "/v1/completions",
            BatchEndpoint::Embeddings => "/v1/embeddings",
            BatchEndpoint::Responses => "/v1/responses",
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    input_file_id: String,
    endpoint: String,
    completion_window: String,
}

impl BatchInput {
    /// Reads `{input_file_id, endpoint, completion_window}`; names everything that is wrong. Does not look for the file.
    pub fn from_json(bytes: &[u8]) -> Result<BatchInput, Invalid> {
        let raw: Raw = Invalid::from_json(bytes)?;
        let mut problems = Vec::new();
        let input_file = raw.input_file_id.parse::<FileId>().map_err(|error| error.to_string()).and_then(|file| match file.purpose {
            FilePurpose::Batch => Ok(file),
            other => Err(format!("must be a file for the purpose batch, not {}", other.name())),
        });
        let input_file = input_file.map_err(|words| problems.push(Problem::new("input_file_id", words))).ok();
        let endpoint = BatchEndpoint::ALL.into_iter().find(|endpoint| endpoint.path() == raw.endpoint);
        if endpoint.is_none() {
            problems.push(Problem::new("endpoint", format!("must be one of {}", BatchEndpoint::ALL.map(BatchEndpoint::path).join(", "))));
        }
        if raw.completion_window != WINDOW {
            problems.push(Problem::new("completion_window", format!("must be {WINDOW}")));
        }
        match (input_file, endpoint, problems.is_empty()) {
            (Some(input_file), Some(endpoint), true) => Ok(BatchInput { input_file, endpoint }),
            _other => Err(Invalid::Fields(problems)),
        }
    }

    /// By when all of its requests must have been made.
    pub fn expires(id: JobId) -> Time {
        Time(id.0.time().0 + 24 * 3_600_000)
    }
}

/// What came of a batch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchResult {
    /// The answers, where there are any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_file_id: Option<String>,
    /// The lines that failed, where there are any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_file_id: Option<String>,
    /// Since when its files were being written, in Unix seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finalizing_at: Option<u64>,
}

impl BatchResult {
    /// As a job's output.
    pub fn output(&self) -> Output {
        let json = serde_json::to_string(self).expect("texts and numbers always have a JSON form");
        Output { result: Some(Stored::Inline(json)), artifact: None }
    }

    fn of(output: &Output) -> BatchResult {
        match &output.result {
            Some(Stored::Inline(json)) => serde_json::from_str(json).unwrap_or_default(),
            Some(Stored::Blob { .. }) | None => BatchResult::default(),
        }
    }
}

/// A batch as it stands, by OpenAI's names.
#[derive(Clone, Debug)]
pub struct Batch {
    /// `batch_…`
    pub id: BatchId,
    /// Where it stands.
    pub status: BatchStatus,
    /// How many requests there are, and what became of them so far.
    pub counts: Counts,
    /// Its files.
    pub result: BatchResult,
    /// When it was begun.
    pub started: Option<Time>,
    /// When it ended, or was withdrawn.
    pub ended: Option<Time>,
}

/// Where a batch stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchStatus {
    /// Its file waits to be read, or is being read.
    Validating,
    /// Its requests are being made.
    InProgress,
    /// Its files are being written.
    Finalizing,
    /// It ended.
    Completed,
    /// Its file is wrong, or it could not be done.
    Failed,
    /// It was withdrawn, and what was done by then is being written.
    Cancelling,
    /// It was withdrawn.
    Cancelled,
}

impl BatchStatus {
    /// As OpenAI calls it.
    pub fn name(self) -> &'static str {
        match self {
            BatchStatus::Validating => "validating",
            BatchStatus::InProgress => "in_progress",
            BatchStatus::Finalizing => "finalizing",
            BatchStatus::Completed => "completed",
            BatchStatus::Failed => "failed",
            BatchStatus::Cancelling => "cancelling",
            BatchStatus::Cancelled => "cancelled",
        }
    }
}

impl Batch {
    /// A job of that kind as a batch.
    pub fn of(id: JobId, job: &Job) -> Batch {
        let counts = job.counts;
        let (status, result, started, ended) = match &job.state {
            State::Pending { .. } => (BatchStatus::Validating, None, None, None),
            State::Processing { started, .. } => {
                let status = match counts.total {
                    0 => BatchStatus::Validating,
                    total if counts.done() >= total => BatchStatus::Finalizing,
                    _more => BatchStatus::InProgress,
                };
                (status, None, Some(*started), None)
            }
            State::Completed { started, at, output } => (BatchStatus::Completed, Some(output), Some(*started), Some(*at)),
            State::Failed { started, at, .. } => (BatchStatus::Failed, None, Some(*started), Some(*at)),
            State::Canceled { started, at, output } => {
                let status = if output.is_some() { BatchStatus::Cancelled } else { BatchStatus::Cancelling };
                (status, output.as_ref(), *started, Some(*at))
            }
        };
        Batch { id: BatchId(id), status, counts, result: result.map(BatchResult::of).unwrap_or_default(), started, ended }
    }

    /// The `data` of events about it.
    pub fn news(&self) -> BatchNews {
        let Batch { id, status, counts, result, started, ended } = self;
        BatchNews {
            id: id.to_string(),
            batch_id: id.to_string(),
            status: status.name(),
            total_requests: counts.total,
            completed: counts.completed,
            failed: counts.failed,
            output_file_id: result.output_file_id.clone(),
            error_file_id: result.error_file_id.clone(),
            processing_time_seconds: started.zip(*ended).map(|(started, ended)| ended.since(started).0 / 1000),
        }
    }
}

/// What events about a batch say.
#[derive(Clone, Debug, Serialize)]
pub struct BatchNews {
    id: String,
    batch_id: String,
    status: &'static str,
    total_requests: u32,
    completed: u32,
    failed: u32,
    output_file_id: Option<String>,
    error_file_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    processing_time_seconds: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_wrong_with_an_input_is_named() {
        let wrong = |json: &str| match BatchInput::from_json(json.as_bytes()) {
            Err(Invalid::Fields(problems)) => problems.into_iter().map(|problem| problem.field).collect::<Vec<_>>(),
            other => panic!("{json} gave {other:?}"),
        };
        let file = |letter| format!("file-{}{letter}", "0".repeat(26));
        let json = |file: &str, endpoint: &str, window: &str| {
            format!(r#"{{"input_file_id":"{file}","endpoint":"{endpoint}","completion_window":"{window}"}}"#)
        };
        assert!(BatchInput::from_json(json(&file('b'), "/v1/embeddings", "24h").as_bytes()).is_ok());
        assert_eq!(wrong(&json("x", "/v1/images", "1h")), ["input_file_id", "endpoint", "completion_window"]);
        assert_eq!(wrong(&json(&file('v'), "/v1/responses", "24h")), ["input_file_id"]);
        assert_eq!(wrong(r#"{"input_file_id":"x"}"#), ["endpoint"]);
    }
}
