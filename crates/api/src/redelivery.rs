//! Trying deliveries again, one or many.

use bytes::Bytes;
use postrider_backend::store::{DeliverySummary, Event, state_of};
use postrider_core::attempt::DeliveryState;
use postrider_core::id::DeliveryId;
use postrider_core::record::Command;
use postrider_ingest::Redelivery;

use crate::api::{Api, TENANT};
use crate::problem::{Kind, Problem};

/// Commands of one append, and the bytes of their bodies after which it is made; so many are in memory at once.
const APPEND: usize = 256;
const APPEND_BYTES: usize = 4 << 20;

/// What replays collect before they hand it on.
#[derive(Default)]
pub(crate) struct Replays {
    waiting: Vec<Owned>,
    bytes: usize,
    done: usize,
}

struct Owned {
    command: Command,
    id: DeliveryId,
    kind: String,
    key: Option<String>,
    correlation_id: Option<String>,
    url: Option<String>,
    attempts: u32,
    body: Bytes,
}

impl Replays {
    /// Has a delivery of `event` made again, or sooner if it is still waiting.
    pub(crate) async fn add(&mut self, api: &Api, event: &Event, delivery: &DeliverySummary) -> Result<(), Problem> {
        let command = command(delivery.state);
        let body = if command == Command::Replay { body(event)? } else { Bytes::new() };
        let target = event.row.targets.iter().find(|target| target.endpoint == delivery.id.endpoint);
        self.bytes += body.len();
        self.waiting.push(Owned {
            command,
            id: delivery.id,
            kind: event.row.kind.clone(),
            key: event.row.key.clone(),
            correlation_id: event.row.correlation_id.clone(),
            url: target.and_then(|target| target.url.clone()),
            attempts: delivery.last.as_ref().map_or(0, |last| last.n),
            body,
        });
        if self.waiting.len() >= APPEND || self.bytes >= APPEND_BYTES {
            self.append(api).await?;
        }
        Ok(())
    }

    /// Hands on the rest and says how many deliveries are made again. Durable when it returns.
    pub(crate) async fn finish(mut self, api: &Api) -> Result<usize, Problem> {
        self.append(api).await?;
        Ok(self.done)
    }

    async fn append(&mut self, api: &Api) -> Result<(), Problem> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        let commands: Vec<Redelivery<'_>> = self.waiting.iter().map(Owned::borrow).collect();
        api.ingest.command(TENANT, &commands).await?;
        self.done += self.waiting.len();
        self.waiting.clear();
        self.bytes = 0;
        Ok(())
    }
}

impl Owned {
    fn borrow(&self) -> Redelivery<'_> {
        Redelivery {
            command: self.command,
            id: self.id,
            kind: &self.kind,
            key: self.key.as_deref(),
            correlation_id: self.correlation_id.as_deref(),
            url: self.url.as_deref(),
            attempts: self.attempts,
            body: self.body.clone(),
        }
    }
}

/// What has a delivery made again.
fn command(state: DeliveryState) -> Command {
    match state {
        DeliveryState::Pending => Command::Retry,
        DeliveryState::Succeeded | DeliveryState::Failed | DeliveryState::Canceled => Command::Replay,
    }
}

/// What receivers of an event get.
fn body(event: &Event) -> Result<Bytes, Problem> {
    event.body.clone().ok_or_else(|| Problem::new(Kind::Gone, format!("the body of event {} is no longer kept", event.id)))
}

/// How a delivery of a known event stands.
pub(crate) async fn summary(api: &Api, event: &Event, id: DeliveryId) -> Result<DeliverySummary, Problem> {
    let mut history = api.store.attempts(TENANT, id).await?;
    let last = history.attempts.pop();
    let state = state_of(last.as_ref().map(|attempt| &attempt.row), history.end.as_ref());
    Ok(DeliverySummary { id, kind: event.row.kind.clone(), state, last, end: history.end })
}
