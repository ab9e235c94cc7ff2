//! Events and deliveries as the API shows them.

use postrider_backend::store::{Attempt, DeadLetter, DeliveryDetail, DeliverySummary, EndRow, Event};
use postrider_core::attempt::{Answer, DeliveryState, End};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

/// What the sender of an event is told.
#[derive(ToSchema)]
#[schema(as = Receipt)]
#[expect(dead_code, reason = "receipts are written by hand; this describes them")]
pub(crate) struct ReceiptView {
    /// The event's id: the sender's own, or ours (`evt_…`).
    id: String,
    /// The event's type.
    r#type: String,
    /// When it happened, RFC 3339.
    created_at: String,
}

/// Where a delivery stands.
#[derive(Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum StateView {
    /// Not delivered yet; it is waiting or being tried.
    Pending,
    /// The receiver answered 2xx.
    Succeeded,
    /// Given up; it is among the dead letters.
    Failed,
    /// Withdrawn by its owner, or its endpoint was deleted.
    Canceled,
}

impl From<DeliveryState> for StateView {
    fn from(state: DeliveryState) -> StateView {
        match state {
            DeliveryState::Pending => StateView::Pending,
            DeliveryState::Succeeded => StateView::Succeeded,
            DeliveryState::Failed => StateView::Failed,
            DeliveryState::Canceled => StateView::Canceled,
        }
    }
}

/// An event.
#[derive(Serialize, ToSchema)]
#[schema(as = Event)]
pub(crate) struct EventView<'a> {
    /// Its id: the sender's own, or ours.
    id: String,
    /// Our own id of it (`evt_…`), which deliveries name it by.
    uid: String,
    /// Its type.
    #[serde(rename = "type")]
    kind: &'a str,
    /// When it happened, RFC 3339.
    created_at: String,
    /// When it was accepted.
    received_at: String,
    /// Where it comes from.
    source: Option<String>,
    /// The version of the shape of `data`.
    api_version: Option<String>,
    /// Ties it to a request of the sender's.
    correlation_id: Option<&'a str>,
    /// Its ordering key.
    key: Option<&'a str>,
    /// The sender's own data.
    #[schema(value_type = Option<Object>)]
    metadata: Option<&'a RawValue>,
    /// What it carries; not in lists, and gone once the log no longer holds it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Value)]
    data: Option<&'a RawValue>,
    /// Up to 1,000 of its deliveries; not in lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    deliveries: Option<Vec<DeliveryView>>,
}

/// What is read of the body that receivers get.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Sent<'a> {
    created_at: Option<String>,
    source: Option<String>,
    api_version: Option<String>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
}

impl<'a> EventView<'a> {
    /// An event as lists show it.
    pub(crate) fn brief(event: &'a Event) -> EventView<'a> {
        EventView { data: None, ..EventView::whole(event) }
    }

    /// An event with its data.
    pub(crate) fn whole(event: &'a Event) -> EventView<'a> {
        let Event { id, row, body } = event;
        // A body that is gone or can't be read leaves out what stands in it alone.
        let sent: Sent<'_> = body.as_ref().and_then(|body| serde_json::from_slice(body).ok()).unwrap_or_default();
        EventView {
            id: row.given_id.clone().unwrap_or_else(|| id.to_string()),
            uid: id.to_string(),
            kind: &row.kind,
            created_at: sent.created_at.unwrap_or_else(|| id.time().to_string()),
            received_at: id.time().to_string(),
            source: sent.source,
            api_version: sent.api_version,
            correlation_id: row.correlation_id.as_deref(),
            key: row.key.as_deref(),
            metadata: row.metadata.as_deref().and_then(|metadata| serde_json::from_str(metadata).ok()),
            data: sent.data,
            deliveries: None,
        }
    }

    /// The same with its deliveries.
    pub(crate) fn with(self, deliveries: Vec<DeliveryView>) -> EventView<'a> {
        EventView { deliveries: Some(deliveries), ..self }
    }
}

/// What is shown of every delivery.
#[derive(Serialize, ToSchema)]
#[schema(as = DeliveryBase)]
pub(crate) struct BaseView {
    /// Its id (`dlv_…`), the `webhook-id` that receivers see.
    id: String,
    /// The event's own id (`evt_…`).
    event_id: String,
    /// The endpoint's id (`ep_…`).
    webhook_id: String,
    /// The event's type.
    #[serde(rename = "type")]
    kind: String,
    /// Where it goes, where that is known without the endpoint: the URL came with the event.
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<String>,
    /// Where it stands.
    status: StateView,
    /// When the newest attempt began.
    last_attempt_at: Option<String>,
    /// The status code of the newest attempt.
    last_status_code: Option<u16>,
    /// Why the newest attempt got no response, or why the delivery ended without one.
    last_error: Option<String>,
    /// When it is tried again.
    next_attempt_at: Option<String>,
    /// When its event was accepted.
    created_at: String,
}

/// A delivery.
#[derive(Serialize, ToSchema)]
#[schema(as = Delivery)]
pub(crate) struct DeliveryView {
    #[serde(flatten)]
    base: BaseView,
    /// How often it was attempted.
    attempts: u32,
}

impl DeliveryView {
    pub(crate) fn new(delivery: &DeliverySummary, url: Option<String>) -> DeliveryView {
        DeliveryView { base: BaseView::new(delivery, url), attempts: delivery.last.as_ref().map_or(0, |last| last.n) }
    }
}

impl BaseView {
    fn new(delivery: &DeliverySummary, url: Option<String>) -> BaseView {
        let DeliverySummary { id, kind, state, last, end } = delivery;
        let waiting = last.as_ref().filter(|_| *state == DeliveryState::Pending);
        let told = last.as_ref().map(|last| told(&last.row.report.answer));
        BaseView {
            id: id.to_string(),
            event_id: id.event.to_string(),
            webhook_id: id.endpoint.to_string(),
            kind: kind.clone(),
            url,
            status: (*state).into(),
            last_attempt_at: last.as_ref().map(|last| last.row.report.started.to_string()),
            last_status_code: told.and_then(|(code, _)| code),
            last_error: ended(*state, end.as_ref()).or_else(|| told.and_then(|(_, error)| error)).map(str::to_owned),
            next_attempt_at: waiting.and_then(|last| last.row.next).map(|next| next.to_string()),
            created_at: id.event.time().to_string(),
        }
    }
}

/// Why a delivery ended, where no attempt brought that about.
fn ended(state: DeliveryState, end: Option<&EndRow>) -> Option<&'static str> {
    let end = end.filter(|end| end.end.state() == state)?;
    Some(match end.end {
        End::Canceled => "it was canceled",
        End::EndpointDeleted => "its endpoint was deleted",
        End::Expired => "it waited longer than its whole schedule",
    })
}

/// Status code and error of an attempt.
pub(crate) fn told(answer: &Answer) -> (Option<u16>, Option<&str>) {
    match answer {
        Answer::Status { code, .. } => (Some(*code), None),
        Answer::Failed { detail, .. } => (None, Some(detail)),
    }
}

/// One attempt of a delivery.
#[derive(Serialize, ToSchema)]
#[schema(as = Attempt)]
pub(crate) struct AttemptView {
    /// Its number, from 1.
    n: u32,
    /// When it began.
    started_at: String,
    /// How long the whole exchange took, in milliseconds.
    duration_ms: u64,
    /// What the receiver answered.
    status_code: Option<u16>,
    /// Why there was no usable response.
    error: Option<String>,
    /// The beginning of the response's body, at most 4 KiB.
    response_body: String,
    /// When the next attempt was due.
    next_attempt_at: Option<String>,
}

impl From<&Attempt> for AttemptView {
    fn from(attempt: &Attempt) -> AttemptView {
        let report = &attempt.row.report;
        let (status_code, error) = told(&report.answer);
        AttemptView {
            n: attempt.n,
            started_at: report.started.to_string(),
            duration_ms: report.took.0,
            status_code,
            error: error.map(str::to_owned),
            response_body: String::from_utf8_lossy(&report.body).into_owned(),
            next_attempt_at: attempt.row.next.map(|next| next.to_string()),
        }
    }
}

/// A delivery with its attempts.
#[derive(Serialize, ToSchema)]
#[schema(as = DeliveryWithAttempts)]
pub(crate) struct DeliveryHistoryView {
    #[serde(flatten)]
    base: BaseView,
    /// Its attempts, oldest first.
    attempts: Vec<AttemptView>,
}

impl DeliveryHistoryView {
    /// `url` is where it goes, if that is still known.
    pub(crate) fn new(detail: DeliveryDetail, url: Option<String>) -> DeliveryHistoryView {
        let DeliveryDetail { id, kind, url: _, state, history } = detail;
        let attempts = history.attempts.iter().map(AttemptView::from).collect();
        let summary = DeliverySummary { id, kind, state, last: history.attempts.into_iter().next_back(), end: history.end };
        DeliveryHistoryView { base: BaseView::new(&summary, url), attempts }
    }
}

/// A delivery that was given up.
#[derive(Serialize, ToSchema)]
#[schema(as = DeadLetter)]
pub(crate) struct DeadLetterView {
    #[serde(flatten)]
    delivery: DeliveryView,
    /// Why it was given up.
    reason: String,
    /// When.
    dead_at: String,
}

impl From<&DeadLetter> for DeadLetterView {
    fn from(letter: &DeadLetter) -> DeadLetterView {
        let DeadLetter { delivery, dead } = letter;
        DeadLetterView { delivery: DeliveryView::new(delivery, None), reason: dead.reason.clone(), dead_at: dead.at.to_string() }
    }
}
