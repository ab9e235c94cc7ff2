//! Many events in one request. Each has its own result; bad ones leave the good ones alone.

use std::fmt;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use postrider_ingest::{Invalid, Receipt, Source, Submission, cloudevents};
use serde::de::{IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
use tokio::time::Instant;
use utoipa::ToSchema;

use super::receive::source;
use crate::api::Api;
use crate::body::{self, json, media_type};
use crate::meters;
use crate::problem::{Kind, Problem, ProblemView};

/// Most events of a batch.
const MAX_EVENTS: usize = 1000;

/// How a batch is written.
#[derive(Clone, Copy)]
pub(super) enum Format {
    /// A JSON array of events in our own form.
    Array,
    /// One such event per line.
    Lines,
    /// A JSON array of CloudEvents.
    CloudEvents,
}

impl Format {
    /// The format that a media type stands for, except for plain JSON.
    pub(super) fn of(media_type: &str) -> Option<Format> {
        let is = |name: &str| media_type.eq_ignore_ascii_case(name);
        if is("application/x-ndjson") || is("application/ndjson") || is("application/jsonl") {
            return Some(Format::Lines);
        }
        is("application/cloudevents-batch+json").then_some(Format::CloudEvents)
    }
}

/// What became of a batch.
#[derive(Serialize, ToSchema)]
pub(crate) struct BatchView<'a> {
    /// How many events were taken.
    accepted: usize,
    /// How many were not.
    rejected: usize,
    /// One result for each event, in order.
    results: Vec<ResultView<'a>>,
}

/// What became of one event of a batch.
#[derive(Serialize, ToSchema)]
pub(crate) struct ResultView<'a> {
    /// The event's place in the batch, from 0; empty lines are not counted.
    index: usize,
    /// `accepted` or `rejected`.
    status: &'static str,
    /// The event's id, if it was accepted.
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    /// The event's type, if it was accepted.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<&'a str>,
    /// When it happened, if it was accepted.
    #[serde(skip_serializing_if = "Option::is_none")]
    created_at: Option<&'a str>,
    /// Why it was not accepted.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<ProblemView<'a>>,
}

/// Send many events
///
/// A JSON array, NDJSON (`application/x-ndjson`) or a batch of CloudEvents, of up to 1,000 events. Each event has its
/// own result: a bad one is reported, the good ones are accepted. An `Idempotency-Key` counts for each event by
/// itself, together with its place in the batch.
#[utoipa::path(
    post, path = "/v1/events/batch", tag = "Events",
    params(
        ("Idempotency-Key" = Option<String>, Header, description = "1 to 255 visible ASCII characters"),
        ("traceparent" = Option<String>, Header, description = "W3C trace context, handed on to receivers"),
        ("tracestate" = Option<String>, Header, description = "Handed on with it; at most 512 bytes"),
    ),
    request_body(content(
        (Vec<crate::inputs::EventInput> = "application/json"),
        (String = "application/x-ndjson"),
        (Vec<serde_json::Value> = "application/cloudevents-batch+json"),
    )),
    responses((status = 202, description = "One result for each event; the accepted ones are durable", body = BatchView)),
)]
pub(crate) async fn submit_batch(State(api): State<Api>, request: Request) -> Result<Response, Problem> {
    let (head, body) = request.into_parts();
    let given = media_type(&head.headers).unwrap_or("application/json");
    let own = given.eq_ignore_ascii_case("application/json").then_some(Format::Array);
    let Some(format) = own.or_else(|| Format::of(given)) else {
        let detail = "the content-type must be application/json, application/x-ndjson or application/cloudevents-batch+json";
        return Err(Problem::new(Kind::MediaType, detail));
    };
    let source = source(&head.headers)?;
    let payload = body::read(&api, &head.headers, body, api.limits.batch_bytes).await?;
    submit_all(&api, source, format, &payload.bytes).await
}

/// Takes the events of a batch and answers with their results.
pub(super) async fn submit_all(api: &Api, source: Source<'_>, format: Format, body: &[u8]) -> Result<Response, Problem> {
    let mut unread = Vec::new();
    let mut good = Vec::new();
    for text in split(format, body)? {
        match read(api, format, text) {
            Ok(event) => {
                good.push((event, text));
                unread.push(None);
            }
            Err(problem) => unread.push(Some(problem)),
        }
    }
    let begun = Instant::now();
    let taken: Vec<Result<Receipt, Problem>> = match source.idempotency_key {
        None => api.ingest.submit_batch(source, &good).await.into_iter().map(|taken| taken.map_err(Problem::from)).collect(),
        Some(key) => {
            let places = unread.iter().enumerate().filter(|(_, unread)| unread.is_none()).map(|(index, _)| index);
            submit_keyed(api, source, key, places.zip(&good)).await
        }
    };
    meters::ingested(taken.iter().filter(|taken| taken.is_ok()).count(), begun);
    // Where nothing was taken for want of a log or store, the whole request is to be repeated.
    if taken.iter().all(Result::is_err)
        && let Some(Err(outage)) = taken.iter().find(|taken| taken.as_ref().is_err_and(Problem::is_outage))
    {
        return Err(outage.clone());
    }
    Ok(answer(&unread, &taken))
}

/// One after the other, so that events of one ordering key keep their order: each has a key of its own.
async fn submit_keyed<'a>(
    api: &Api,
    source: Source<'_>,
    key: &str,
    events: impl Iterator<Item = (usize, &'a (Submission<'a>, &'a [u8]))>,
) -> Vec<Result<Receipt, Problem>> {
    let mut taken = Vec::new();
    for (index, (event, raw)) in events {
        let key = format!("{key}#{index}");
        let source = Source { idempotency_key: Some(&key), ..source };
        taken.push(api.ingest.submit(source, event, raw).await.map_err(Problem::from));
    }
    taken
}

/// The texts of a batch's events.
fn split(format: Format, body: &[u8]) -> Result<Vec<&[u8]>, Problem> {
    let (texts, more) = match format {
        Format::Array | Format::CloudEvents => {
            let Elements { kept, more } = Invalid::from_json(body)?;
            (kept.into_iter().map(|event| event.get().as_bytes()).collect(), more)
        }
        Format::Lines => {
            let mut lines = body.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii).filter(|line| !line.is_empty());
            (lines.by_ref().take(MAX_EVENTS).collect::<Vec<_>>(), lines.count())
        }
    };
    if more > 0 {
        let count = texts.len() + more;
        return Err(Problem::field("", format!("a batch may have at most {MAX_EVENTS} events, this one has {count}")));
    }
    Ok(texts)
}

/// The elements of an array, as many as a batch may have; the others are only counted, so that they take no memory.
struct Elements<'a> {
    kept: Vec<&'a RawValue>,
    more: usize,
}

impl<'de> Deserialize<'de> for Elements<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Elements<'de>, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Elements<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array of events")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<Elements<'de>, A::Error> {
                let mut elements = Elements { kept: Vec::new(), more: 0 };
                while elements.kept.len() < MAX_EVENTS {
                    let Some(element) = array.next_element()? else { return Ok(elements) };
                    elements.kept.push(element);
                }
                while array.next_element::<IgnoredAny>()?.is_some() {
                    elements.more += 1;
                }
                Ok(elements)
            }
        }
        deserializer.deserialize_seq(Reader)
    }
}

fn read<'a>(api: &Api, format: Format, text: &'a [u8]) -> Result<Submission<'a>, Problem> {
    if text.len() > api.limits.body_bytes {
        return Err(Problem::new(Kind::TooLarge, format!("an event may have at most {} bytes", api.limits.body_bytes)));
    }
    match format {
        Format::Array | Format::Lines => Ok(Submission::from_json(text)?),
        Format::CloudEvents => Ok(cloudevents::structured(text)?),
    }
}

/// `unread` says of each event why it could not be read; `taken` is what became of the others, in order.
fn answer(unread: &[Option<Problem>], taken: &[Result<Receipt, Problem>]) -> Response {
    let mut taken = taken.iter();
    let mut results = Vec::with_capacity(unread.len());
    for (index, unread) in unread.iter().enumerate() {
        results.push(match unread {
            Some(problem) => ResultView::rejected(index, problem),
            None => match taken.next().expect("every event that could be read has a result") {
                Ok(receipt) => ResultView::accepted(index, receipt),
                Err(problem) => ResultView::rejected(index, problem),
            },
        });
    }
    let rejected = results.iter().filter(|result| result.error.is_some()).count();
    json(StatusCode::ACCEPTED, &BatchView { accepted: results.len() - rejected, rejected, results })
}

impl ResultView<'_> {
    fn accepted(index: usize, receipt: &Receipt) -> ResultView<'_> {
        let (id, kind, created_at) = (Some(&*receipt.id), Some(&*receipt.kind), Some(&*receipt.created_at));
        ResultView { index, status: "accepted", id, kind, created_at, error: None }
    }

    fn rejected(index: usize, problem: &Problem) -> ResultView<'_> {
        ResultView { index, status: "rejected", id: None, kind: None, created_at: None, error: Some(problem.view()) }
    }
}
