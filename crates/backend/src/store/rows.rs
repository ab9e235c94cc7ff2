//! The rows of the store, and what queries make of them.
//!
//! Rows are inserted and left alone; where a delivery stands is derived from them by [`state_of`].

use bytes::Bytes;
use postrider_core::attempt::{DeliveryState, End, Report};
use postrider_core::id::{DeliveryId, EndpointId, Uid};
use postrider_core::job::{Job, State};
use postrider_core::offsets::Offset;
use postrider_core::time::Time;
use serde::{Deserialize, Serialize};

/// One chunk of an event: chunk 0 stands for the event itself, the others add targets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventRow {
    /// The id its sender chose, where one did.
    pub given_id: Option<String>,
    /// The event's type.
    pub kind: String,
    /// The sender's metadata, as JSON.
    pub metadata: Option<String>,
    /// The endpoints of this chunk.
    pub targets: Vec<Target>,
    /// The ordering key.
    pub key: Option<String>,
    /// `X-Correlation-Id`.
    pub correlation_id: Option<String>,
    /// The JSON that receivers get.
    pub body: Body,
}

/// One endpoint that an event goes to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// The endpoint.
    pub endpoint: EndpointId,
    /// Its URL, where it is not registered but came with the event.
    pub url: Option<String>,
}

/// Where an event's body lies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Body {
    /// It is the payload of this record of the local log.
    At(Offset),
    /// It lies in the row.
    Inline(Bytes),
}

/// One attempt of a delivery.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptRow {
    /// What came of it.
    pub report: Report,
    /// When the next one is due, where there is a next one.
    pub next: Option<Time>,
    /// Where the delivery stands after it.
    pub state: DeliveryState,
    /// The event's type, so that lists need not look it up.
    pub kind: String,
}

/// The end of a delivery that no attempt brought about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndRow {
    /// Why it ended.
    pub end: End,
    /// When.
    pub at: Time,
}

/// Why and when a delivery was dead-lettered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadRow {
    /// When it was given up.
    pub at: Time,
    /// Why, for the endpoint's owner to read.
    pub reason: String,
}

/// An event with the targets of all its chunks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Its id.
    pub id: Uid,
    /// Its row; `targets` are those of all chunks that were written so far.
    pub row: EventRow,
    /// The JSON that receivers get. `None` in lists, and once the log no longer holds it.
    pub body: Option<Bytes>,
}

/// One attempt with its place among the attempts of its delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// The delivery.
    pub id: DeliveryId,
    /// Its number, from 1.
    pub n: u32,
    /// What came of it.
    pub row: AttemptRow,
}

/// What happened to one delivery.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// Its attempts, oldest first.
    pub attempts: Vec<Attempt>,
    /// How it ended, where no attempt says so.
    pub end: Option<EndRow>,
}

/// A delivery as lists show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeliverySummary {
    /// Its id.
    pub id: DeliveryId,
    /// The event's type.
    pub kind: String,
    /// Where it stands.
    pub state: DeliveryState,
    /// The newest attempt.
    pub last: Option<Attempt>,
    /// How it ended, where no attempt says so.
    pub end: Option<EndRow>,
}

/// A delivery with all that is known of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeliveryDetail {
    /// Its id.
    pub id: DeliveryId,
    /// The event's type.
    pub kind: String,
    /// The URL, where the endpoint is not registered but came with the event.
    pub url: Option<String>,
    /// Where it stands.
    pub state: DeliveryState,
    /// What happened to it.
    pub history: History,
}

/// A dead-lettered delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// The delivery.
    pub delivery: DeliverySummary,
    /// Why and when it was given up.
    pub dead: DeadRow,
}

/// Part of a list, newest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T, C> {
    /// The items. Can be fewer than asked for, even none, although `next` is given: a query looks at a
    /// bounded number of rows.
    pub items: Vec<T>,
    /// Where the next page begins; `None` at the end.
    pub next: Option<C>,
}

/// Which events a list holds; everything by default.
#[derive(Clone, Debug, Default)]
pub struct EventFilter {
    /// Of this type only.
    pub kind: Option<String>,
    /// Accepted at or after.
    pub since: Option<Time>,
    /// Accepted before.
    pub until: Option<Time>,
}

/// Which deliveries a list holds; everything by default.
#[derive(Clone, Debug, Default)]
pub struct DeliveryFilter {
    /// To this endpoint only. Unless `state` is `Pending`, such a list begins with a delivery's first attempt or end.
    pub endpoint: Option<EndpointId>,
    /// Of events of this type only.
    pub kind: Option<String>,
    /// In this state only.
    pub state: Option<DeliveryState>,
    /// Of events accepted at or after.
    pub since: Option<Time>,
    /// Of events accepted before.
    pub until: Option<Time>,
}

/// Which jobs a list holds; everything by default.
#[derive(Clone, Debug, Default)]
pub struct JobFilter {
    /// Of this kind only.
    pub kind: Option<String>,
    /// In this state only.
    pub status: Option<JobStatus>,
}

/// Where a job stands, by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobStatus {
    /// It waits for a worker.
    Pending,
    /// A worker runs it.
    Processing,
    /// It succeeded.
    Completed,
    /// It failed.
    Failed,
    /// It was withdrawn.
    Canceled,
}

impl JobStatus {
    /// Every status.
    pub const ALL: [JobStatus; 5] =
        [JobStatus::Pending, JobStatus::Processing, JobStatus::Completed, JobStatus::Failed, JobStatus::Canceled];

    /// Of a job.
    pub fn of(job: &Job) -> JobStatus {
        match job.state {
            State::Pending { .. } => JobStatus::Pending,
            State::Processing { .. } => JobStatus::Processing,
            State::Completed { .. } => JobStatus::Completed,
            State::Failed { .. } => JobStatus::Failed,
            State::Canceled { .. } => JobStatus::Canceled,
        }
    }

    /// As requests and answers call it.
    pub fn name(self) -> &'static str {
        match self {
            JobStatus::Pending => "pending",
            JobStatus::Processing => "processing",
            JobStatus::Completed => "completed",
            JobStatus::Failed => "failed",
            JobStatus::Canceled => "canceled",
        }
    }
}

impl JobFilter {
    pub(super) fn wants(&self, job: &Job) -> bool {
        self.kind.as_ref().is_none_or(|kind| *kind == job.kind) && self.status.is_none_or(|status| status == JobStatus::of(job))
    }
}

/// The place of an attempt among those of its endpoint; the cursor of [`super::Store::endpoint_attempts`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AttemptCursor {
    /// The event.
    pub event: Uid,
    /// The attempt's number.
    pub n: u32,
}

/// Where a delivery stands: the newer of its last attempt and its end decides, without either it is pending.
pub fn state_of(last: Option<&AttemptRow>, end: Option<&EndRow>) -> DeliveryState {
    match (last, end) {
        (None, None) => DeliveryState::Pending,
        (Some(attempt), None) => attempt.state,
        (None, Some(end)) => end.end.state(),
        // A replay goes on after an end; an attempt that was in flight when the end came, and failed, does not.
        (Some(attempt), Some(end)) if attempt.report.started + attempt.report.took > end.at => attempt.state,
        (Some(_), Some(end)) => end.end.state(),
    }
}

/// A delivery with what is known of it. `None` where neither rows of it exist nor an event that goes to its endpoint.
pub(super) fn detail_of(id: DeliveryId, history: History, event: Option<&EventRow>) -> Option<DeliveryDetail> {
    let target = event.and_then(|event| event.targets.iter().find(|target| target.endpoint == id.endpoint));
    let last = history.attempts.last().map(|attempt| &attempt.row);
    if target.is_none() && last.is_none() && history.end.is_none() {
        return None;
    }
    let kind = event.map(|event| event.kind.clone()).or_else(|| last.map(|row| row.kind.clone())).unwrap_or_default();
    let url = target.and_then(|target| target.url.clone());
    Some(DeliveryDetail { id, kind, url, state: state_of(last, history.end.as_ref()), history })
}

/// A delivery as its newest rows tell of it.
pub(super) fn summary_of(id: DeliveryId, kind: String, last: Option<Attempt>, end: Option<EndRow>) -> DeliverySummary {
    let state = state_of(last.as_ref().map(|attempt| &attempt.row), end.as_ref());
    DeliverySummary { id, kind, state, last, end }
}

#[cfg(test)]
mod tests {
    use super::*;
    use postrider_core::attempt::Answer;
    use postrider_core::time::Millis;

    #[test]
    fn the_newer_of_attempt_and_end_decides() {
        let attempt = |started, state| AttemptRow {
            report: Report {
                started: Time(started),
                took: Millis(10),
                answer: Answer::Status { code: 200, retry_after: None },
                body: Bytes::new(),
            },
            next: None,
            state,
            kind: "a".to_owned(),
        };
        let end = |end, at| EndRow { end, at: Time(at) };
        let (succeeded, pending) = (attempt(100, DeliveryState::Succeeded), attempt(100, DeliveryState::Pending));
        assert_eq!(state_of(None, None), DeliveryState::Pending);
        assert_eq!(state_of(Some(&pending), None), DeliveryState::Pending);
        assert_eq!(state_of(None, Some(&end(End::Canceled, 5))), DeliveryState::Canceled);
        assert_eq!(state_of(Some(&pending), Some(&end(End::Expired, 200))), DeliveryState::Failed);
        assert_eq!(state_of(Some(&pending), Some(&end(End::EndpointDeleted, 110))), DeliveryState::Canceled);
        assert_eq!(state_of(Some(&succeeded), Some(&end(End::Canceled, 105))), DeliveryState::Succeeded);
    }
}
