//! Jobs that workers outside do: what they say in the topic of results, and what that comes to.

use std::borrow::Cow;

use postrider_core::id::JobId;
use postrider_core::job::{Error, Job, Said, Silence, State, Unheard};
use postrider_core::time::{Millis, Time};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::kinds::OutsideKind;
use super::submit::{Jobs, TRIES, busy};
use super::tell::{Moved, since};
use crate::clock;
use crate::ingest::IngestError;
use crate::submission::{Invalid, Problem};

/// Longest code of an error, and longest message, in bytes.
const MAX_CODE: usize = 64;
const MAX_MESSAGE: usize = 4096;
/// Who ended a job has told of it by then, or is no more.
const TELLING: Millis = Millis::from_secs(10);

/// What a worker outside wrote about a job, checked: `{"job_id","status","progress","result","error"}`.
#[derive(Debug)]
pub struct Report<'a> {
    /// The job.
    pub job: JobId,
    /// What it says of it.
    pub news: News<'a>,
}

/// How far a job is.
#[derive(Debug)]
pub enum News<'a> {
    /// It is being done; so much of it is done, of 1000.
    Processing(u16),
    /// It is done; with its result, if it has one.
    Completed(Option<&'a RawValue>),
    /// It can't be done.
    Failed(Error),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw<'a> {
    #[serde(borrow)]
    job_id: Cow<'a, str>,
    status: Status,
    #[serde(default)]
    progress: Option<f64>,
    #[serde(default, borrow)]
    result: Option<&'a RawValue>,
    #[serde(default)]
    error: Option<RawError>,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Status {
    Processing,
    Completed,
    Failed,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawError {
    code: String,
    message: String,
}

impl<'a> Report<'a> {
    /// Reads a record of the topic of results.
    pub fn read(key: Option<&[u8]>, value: &'a [u8]) -> Result<Report<'a>, Invalid> {
        let Raw { job_id, status, progress, result, error } = Invalid::from_json(value)?;
        let mut problems = Vec::new();
        let job = job_id.parse::<JobId>().map_err(|error| problems.push(Problem::new("job_id", error.to_string()))).ok();
        if key != Some(job_id.as_bytes()) {
            problems.push(Problem::new("key", "the record's key must be the job's id, so that what is said of a job keeps its order"));
        }
        if progress.is_some_and(|progress| !(0.0..=1.0).contains(&progress)) {
            problems.push(Problem::new("progress", "must be a number from 0 to 1"));
        }
        // What is null is not given.
        let result = result.filter(|result| result.get() != "null");
        if result.is_some() && status != Status::Completed {
            problems.push(Problem::new("result", "is for the status completed"));
        }
        if error.is_some() != (status == Status::Failed) {
            problems.push(Problem::new("error", "belongs to the status failed: an object with code and message"));
        }
        if let Some(RawError { code, message }) = &error {
            let is_code = code.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
            if !is_code || code.is_empty() || code.len() > MAX_CODE {
                problems.push(Problem::new("error.code", format!("must be 1 to {MAX_CODE} of a-z, 0-9 and _")));
            }
            if message.len() > MAX_MESSAGE {
                problems.push(Problem::new("error.message", format!("must have at most {MAX_MESSAGE} bytes")));
            }
        }
        let (Some(job), true) = (job, problems.is_empty()) else { return Err(Invalid::Fields(problems)) };
        let news = match (status, error) {
            (Status::Processing, _) => News::Processing((progress.unwrap_or_default() * 1000.0) as u16),
            (Status::Completed, _) => News::Completed(result),
            (Status::Failed, Some(RawError { code, message })) => News::Failed(Error::new(&code, message)),
            (Status::Failed, None) => News::Failed(Error::new("failed", "the worker gave no reason")),
        };
        Ok(Report { job, news })
    }
}

/// What saying something of a job came to.
#[derive(Debug)]
pub enum Heard {
    /// The job is as it was said, and everyone was told.
    Changed,
    /// It changed nothing; this is how the job stands.
    Nothing(Unheard, Box<Job>),
    /// There is no such job.
    Missing,
}

impl Jobs {
    /// Changes a job to what a worker outside said of it, and tells of that. What is heard again after a crash is told again
    /// under the same ids, if it was not.
    pub async fn hear(&self, tenant: &str, id: JobId, said: &Said, patience: Millis) -> Result<Heard, IngestError> {
        for _ in 0..TRIES {
            let Some(job) = self.told(tenant, id).await? else { return Ok(Heard::Missing) };
            let now = clock::now();
            let next = match job.hear(said, now, patience) {
                Ok(next) => next,
                Err(unheard) => return Ok(Heard::Nothing(unheard, Box::new(job))),
            };
            if !self.swapped(tenant, id, &next).await? {
                continue;
            }
            match (&job.state, &next.state) {
                (State::Processing { .. }, State::Processing { .. }) => {
                    self.tell_progress(tenant, id, &next, now, Moved::Further, None).await?;
                }
                _ => self.tell_once(tenant, id, &next).await?,
            }
            return Ok(Heard::Changed);
        }
        Err(busy())
    }

    /// Looks at a job that workers outside do: until when they may be silent; or nothing where it has ended, and everyone was
    /// told. It has failed where they said nothing for too long.
    pub async fn watch(&self, tenant: &str, id: JobId, kind: &OutsideKind) -> Result<Option<Time>, IngestError> {
        for _ in 0..TRIES {
            let Some(job) = self.store().job(tenant, id).await? else { return Ok(None) };
            match job.silence(id.0.time(), clock::now(), kind.patience) {
                Silence::TooLong(failed) => {
                    if self.swapped(tenant, id, &failed).await? {
                        self.tell_once(tenant, id, &failed).await?;
                        return Ok(None);
                    }
                }
                // Whoever ended it may be about to tell.
                Silence::Over if !job.told && clock::now() < since(id, &job) + TELLING => return Ok(Some(since(id, &job) + TELLING)),
                Silence::Over => return self.told(tenant, id).await.map(|_| None),
                Silence::Until(until) => return Ok(Some(until)),
            }
        }
        Err(busy())
    }

    /// The job as it stands, once everyone was told of it: whoever changed it may have died before that.
    async fn told(&self, tenant: &str, id: JobId) -> Result<Option<Job>, IngestError> {
        let Some(job) = self.store().job(tenant, id).await? else { return Ok(None) };
        if job.told || matches!(job.state, State::Pending { .. }) {
            return Ok(Some(job));
        }
        self.tell_once(tenant, id, &job).await?;
        Ok(self.store().job(tenant, id).await?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const JOB: &str = "job_01h455vb4pex5vsknk084sn02q";

    fn read(json: &str) -> Result<String, String> {
        let read = Report::read(Some(JOB.as_bytes()), json.as_bytes());
        read.map(|report| format!("{} {:?}", report.job, report.news)).map_err(|error| error.to_string())
    }

    #[test]
    fn what_workers_say_is_read() {
        for (rest, news) in [
            (r#""processing""#, "Processing(0)"),
            (r#""processing","progress":0.4567"#, "Processing(456)"),
            (r#""processing","progress":1,"result":null,"error":null"#, "Processing(1000)"),
            (r#""completed""#, "Completed(None)"),
            (r#""completed","progress":1.0,"result":{"a":1}"#, r#"Completed(Some(RawValue({"a":1})))"#),
            (r#""failed","error":{"code":"no_audio","message":"m"}"#, r#"Failed(Error { code: "no_audio", message: "m", lines: [] })"#),
        ] {
            assert_eq!(read(&format!(r#"{{"job_id":"{JOB}","status":{rest}}}"#)), Ok(format!("{JOB} {news}")), "{rest}");
        }
    }

    #[test]
    fn what_can_not_be_read_says_why() {
        let job = |rest: &str| format!(r#"{{"job_id":"{JOB}","status":{rest}}}"#);
        let long = "m".repeat(MAX_MESSAGE + 1);
        for (json, words) in [
            ("garbage".to_owned(), "not JSON"),
            ("[]".to_owned(), ""),
            (r#"{"status":"completed"}"#.to_owned(), "job_id"),
            (r#"{"job_id":"job_1","status":"completed"}"#.to_owned(), "job_id: `job_1` is not an id"),
            (job(r#""done""#), "status"),
            (job(r#""canceled""#), "status"),
            (job(r#""completed","reuslt":1"#), "reuslt"),
            (job(r#""processing","progress":1.5"#), "progress: must be"),
            (job(r#""processing","progress":-0.1"#), "progress: must be"),
            (job(r#""processing","progress":"half""#), "progress"),
            (job(r#""processing","result":1"#), "result: is for"),
            (job(r#""failed""#), "error: belongs"),
            (job(r#""completed","error":{"code":"a","message":"b"}"#), "error: belongs"),
            (job(r#""failed","error":{"code":"No Audio","message":"b"}"#), "error.code: must be"),
            (job(&format!(r#""failed","error":{{"code":"a","message":"{long}"}}"#)), "error.message: must have"),
        ] {
            let error = read(&json).expect_err(&json);
            assert!(error.contains(words), "{json}: {error}");
        }
        let other = Report::read(Some(b"job_2"), job(r#""completed""#).as_bytes()).expect_err("keys decide on order");
        assert!(other.to_string().starts_with("key: "), "{other}");
        assert!(Report::read(None, job(r#""completed""#).as_bytes()).is_err());
    }
}
