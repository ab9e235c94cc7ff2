//! One attempt: look the endpoint up, sign, post, report.

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use postrider_backend::directory::Directory;
use postrider_core::attempt::{Answer, Failure, Report};
use postrider_core::id::DeliveryId;
use postrider_core::record::Envelope;
use postrider_core::shard::Attempt;
use postrider_core::time::Millis;
use postrider_core::trace::TraceParent;
use postrider_egress::{Message, Post, Sender, delivery_headers};
use postrider_ingest::clock;
use postrider_spans::{Kind, Span, attribute, handed_on};

use crate::targets::{Prepared, Targets, resolve};
use postrider_backend::log::Tenure;

/// Longest that connecting may take.
const CONNECT: Duration = Duration::from_secs(1);
/// Before an endpoint that could not be looked up is looked up again.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// What a worker sends with.
pub(crate) struct Outlet {
    pub(crate) sender: Sender,
    pub(crate) targets: Targets,
    pub(crate) directory: Directory,
}

/// An attempt that ended.
pub(crate) struct Landed {
    pub(crate) tenure: Tenure,
    pub(crate) id: DeliveryId,
    pub(crate) report: Report,
}

/// Makes one attempt. Ends within its time-out, but for a store that can't say where to send.
pub(crate) async fn make(outlet: Rc<Outlet>, tenure: Tenure, attempt: Attempt) -> Landed {
    let id = attempt.delivery.id;
    let report = match Envelope::decode(&attempt.delivery.meta) {
        Ok(envelope) => match prepared(&outlet, &envelope).await {
            Some(prepared) => post(&outlet.sender, &prepared, &envelope, &attempt).await,
            None => unsent("the endpoint was deleted, or its URL can't be used"),
        },
        Err(error) => unsent(&error.to_string()),
    };
    Landed { tenure, id, report }
}

async fn prepared(outlet: &Outlet, envelope: &Envelope<'_>) -> Option<Rc<Prepared>> {
    if let Some(ready) = outlet.targets.get(envelope.endpoint, clock::now()) {
        return Some(ready);
    }
    loop {
        match resolve(&outlet.directory, envelope.tenant, envelope.endpoint, envelope.url).await {
            Ok(endpoint) => return endpoint.and_then(|endpoint| outlet.targets.prepare(&endpoint, clock::now())),
            // Not the receiver's fault, so it costs the delivery nothing but time.
            Err(error) => tracing::warn!(%error, endpoint = %envelope.endpoint, "an endpoint can't be looked up; trying again"),
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

async fn post(sender: &Sender, prepared: &Prepared, envelope: &Envelope<'_>, attempt: &Attempt) -> Report {
    let now = clock::now();
    let body = &attempt.delivery.payload;
    let id = attempt.delivery.id;
    let span = envelope.trace.and_then(|given| Span::child("deliver", Kind::Client, given));
    let unrecorded = || TraceParent::of_attempt(id, attempt.number).into();
    let trace = handed_on(span.as_ref(), envelope.trace).unwrap_or_else(unrecorded);
    let message = Message {
        id: &id.to_string(),
        timestamp: now.0 / 1000,
        kind: envelope.kind,
        attempt: attempt.number,
        correlation_id: envelope.correlation_id,
        trace,
        body,
    };
    let headers = delivery_headers(&prepared.signer, &message, &prepared.headers);
    let timeout = attempt.timeout.into();
    let report = sender.send(&prepared.target, Post { headers, body: body.clone(), connect_timeout: CONNECT, timeout }, now).await;
    if let Some(span) = span {
        note(span, envelope, attempt.number, &report.answer);
    }
    report
}

/// Ends the span of an attempt.
fn note(mut span: Span, envelope: &Envelope<'_>, attempt: u32, answer: &Answer) {
    span.set(attribute::TENANT, envelope.tenant);
    span.set(attribute::EVENT, envelope.event.to_string());
    span.set(attribute::EVENT_TYPE, envelope.kind);
    span.set(attribute::DELIVERY, envelope.id().to_string());
    span.set(attribute::ENDPOINT, envelope.endpoint.to_string());
    span.set(attribute::ATTEMPT, attempt);
    match answer {
        Answer::Status { code, .. } => {
            span.set(attribute::STATUS, u32::from(*code));
            if !answer.is_success() {
                span.set(attribute::ERROR, code.to_string());
                span.fail(&format!("the receiver answered {code}"));
            }
        }
        Answer::Failed { failure, detail } => {
            span.set(attribute::ERROR, failure.name());
            span.fail(detail);
        }
    }
    span.end();
}

fn unsent(why: &str) -> Report {
    let answer = Answer::Failed { failure: Failure::Connect, detail: why.to_owned() };
    Report { started: clock::now(), took: Millis(0), answer, body: Bytes::new() }
}
