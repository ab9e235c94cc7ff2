//! The task that sends spans.

use std::time::Duration;

use bytes::Bytes;
use metrics::Counter;
use opentelemetry_proto::tonic::resource::v1::Resource;
use postrider_metrics::names;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::collector::{Collector, OpenError, SendError};
use crate::messages;
use crate::span::Span;
use crate::tracer::{SpanOptions, Tracer};

/// Most spans of one request.
const BATCH: usize = 512;
/// How long a request waits for more spans to go with it.
const GATHER: Duration = Duration::from_secs(1);
/// Least time between two requests: bounds what spans can cost, at some 5,000 a second, whatever callers ask to be recorded.
const PACE: Duration = Duration::from_millis(100);
/// Waits before a request is sent again where that may help. Meanwhile spans gather, and beyond what fits are dropped.
const PAUSES: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(4)];
/// How long what is left may take when the process ends.
const FINISH: Duration = Duration::from_secs(2);

/// Sends what this process records. [`Exporter::run`] does it.
pub struct Exporter {
    collector: Collector,
    resource: Resource,
    spans: mpsc::Receiver<Span>,
    sent: Counter,
    refused: Counter,
    standing: Standing,
}

/// Whether the last request was taken.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Standing {
    Taken,
    Refused,
}

/// Whether spans could be sent with these options, as far as that is known without sending any.
pub fn check(options: &SpanOptions) -> Result<(), OpenError> {
    Collector::new(options).map(drop)
}

/// Has all spans of this process that begin from now on sent by what is returned.
pub fn install(options: &SpanOptions) -> Result<Exporter, OpenError> {
    let collector = Collector::new(options)?;
    let (tracer, spans) = Tracer::new(options.ratio)?;
    let resource = messages::resource(&options.service, getrandom::u64()?);
    tracer.install().map_err(|_| OpenError::Twice)?;
    let [sent, refused] = ["sent", "refused"].map(|outcome| names::SPANS.counter(&[outcome]));
    Ok(Exporter { collector, resource, spans, sent, refused, standing: Standing::Taken })
}

impl Exporter {
    /// Sends spans until `stop`, and then those that are left, within two seconds.
    ///
    /// Runs on a Tokio runtime with IO and time, and nothing else waits for it.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut batch = Vec::with_capacity(BATCH);
        while let Some(()) = stop.run_until_cancelled(self.gather(&mut batch)).await {
            let paced = Instant::now() + PACE;
            let body = self.encode(&mut batch);
            if stop.run_until_cancelled(self.send(&body)).await.is_none() {
                // It may be on its way: whoever receives it twice knows it by its id.
                drop(timeout(FINISH, self.send_once(&body)).await);
                break;
            }
            stop.run_until_cancelled(sleep_until(paced)).await;
        }
        self.finish(batch).await;
    }

    /// Waits for spans, and then a little for others.
    async fn gather(&mut self, batch: &mut Vec<Span>) {
        self.spans.recv_many(batch, BATCH).await;
        let deadline = Instant::now() + GATHER;
        while batch.len() < BATCH {
            match timeout_at(deadline, self.spans.recv_many(batch, BATCH - batch.len())).await {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
        }
    }

    fn encode(&self, batch: &mut Vec<Span>) -> Request {
        let spans = batch.len() as u64;
        Request { spans, body: messages::encode(&self.resource, batch.drain(..)).into() }
    }

    /// Sends a request, again where that may help.
    async fn send(&mut self, request: &Request) {
        for pause in PAUSES {
            let Err(SendError::Passing { wait, .. }) = self.send_once(request).await else { return };
            sleep(wait.unwrap_or_default().max(pause)).await;
        }
        if let Err(SendError::Passing { .. }) = self.send_once(request).await {
            self.refused.increment(request.spans);
        }
    }

    async fn send_once(&mut self, request: &Request) -> Result<(), SendError> {
        let outcome = self.collector.send(request.body.clone()).await;
        let standing = if outcome.is_ok() { Standing::Taken } else { Standing::Refused };
        match (&outcome, self.standing) {
            (Err(error), Standing::Taken) => tracing::warn!(%error, "spans can't be sent; those that don't fit into memory are dropped"),
            (Ok(_), Standing::Refused) => tracing::info!("spans can be sent again"),
            (Ok(_), Standing::Taken) | (Err(_), Standing::Refused) => {}
        }
        self.standing = standing;
        match outcome {
            Ok(refused) => {
                self.refused.increment(refused);
                self.sent.increment(request.spans.saturating_sub(refused));
                Ok(())
            }
            Err(error) => {
                if matches!(error, SendError::Lasting { .. }) {
                    self.refused.increment(request.spans);
                }
                Err(error)
            }
        }
    }

    /// Sends what is left while there is time.
    async fn finish(&mut self, mut batch: Vec<Span>) {
        let deadline = Instant::now() + FINISH;
        loop {
            while batch.len() < BATCH
                && let Ok(span) = self.spans.try_recv()
            {
                batch.push(span);
            }
            if batch.is_empty() {
                return;
            }
            let request = self.encode(&mut batch);
            match timeout_at(deadline, self.send_once(&request)).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => return,
            }
        }
    }
}

/// What is sent at one time.
struct Request {
    spans: u64,
    body: Bytes,
}
