//! Appends: one idempotent producer for the whole process, one completion for each append.

use std::borrow::Cow;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use postrider_core::offsets::Offset;
use postrider_core::partition::Partition;
use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Message, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer as _, ProducerContext, ThreadedProducer};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::options::{Options, PropertyError, unusable};
use super::trouble::{self, Trouble};
use super::wire;
use crate::log::LogError;

/// An append is answered within this time.
pub(super) const TIMEOUT: Duration = Duration::from_secs(3);
/// What a queued record takes beside its bytes.
const PER_RECORD: usize = 512;

pub(super) type Client = ThreadedProducer<Context>;

/// What librdkafka calls back.
#[derive(Debug, Default)]
pub(super) struct Context {
    pub(super) trouble: Trouble,
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        trouble::forward(level, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.trouble.note(&error, reason);
    }
}

impl ProducerContext for Context {
    type DeliveryOpaque = Box<Ticket>;

    fn delivery(&self, result: &DeliveryResult<'_>, ticket: Box<Ticket>) {
        let Ticket { batch, index } = *ticket;
        match result {
            Ok(message) => batch.settle(index, Ok(wire::place(message))),
            Err((error, message)) => batch.settle(index, Err(refusal(error, message.topic()))),
        }
    }
}

/// One record's place in its append.
#[derive(Debug)]
pub(super) struct Ticket {
    batch: Arc<Batch>,
    index: usize,
}

/// The records of one append, until all of them are answered.
#[derive(Debug)]
struct Batch {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    left: usize,
    offsets: Vec<Offset>,
    refusal: Option<LogError>,
    done: Option<oneshot::Sender<Result<Vec<Offset>, LogError>>>,
    /// Room in the queue, given back with the last answer, however long the caller waits.
    room: Option<OwnedSemaphorePermit>,
}

impl Batch {
    fn settle(&self, index: usize, result: Result<Offset, LogError>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match result {
            Ok(offset) => state.offsets[index] = offset,
            Err(refusal) => drop(state.refusal.get_or_insert(refusal)),
        }
        state.left -= 1;
        if state.left > 0 {
            return;
        }
        state.room = None;
        let offsets = std::mem::take(&mut state.offsets);
        let answer = state.refusal.take().map_or(Ok(offsets), Err);
        if let Some(done) = state.done.take() {
            // Whoever asked may have gone.
            let _ = done.send(answer);
        }
    }
}

/// A record as it goes out.
pub(super) struct Outgoing<'a> {
    pub(super) topic: &'a str,
    pub(super) partition: Partition,
    pub(super) key: Option<Cow<'a, str>>,
    pub(super) headers: OwnedHeaders,
    pub(super) payload: &'a [u8],
    /// Bytes that it takes in the queue.
    pub(super) size: usize,
}

/// Sends records and says when they are durable.
pub(super) struct Producer {
    pub(super) client: Arc<Client>,
    room: Arc<Semaphore>,
    /// Bytes of `room` in all.
    size: u32,
}

impl Producer {
    pub(super) fn new(options: &Options) -> Result<Producer, PropertyError> {
        let client: Client = options.producer().create_with_context(Context::default()).map_err(|error| unusable(&error))?;
        let size = options.queue_kib() << 10;
        Ok(Producer { client: Arc::new(client), room: Arc::new(Semaphore::new(size as usize)), size })
    }

    /// Sends `records` and waits until all are durable. Nothing is sent before there is room for all.
    pub(super) async fn append(&self, records: Vec<Outgoing<'_>>) -> Result<Vec<Offset>, LogError> {
        let sent = async {
            let bytes = records.iter().map(|record| record.size + PER_RECORD).sum::<usize>();
            let bytes = u32::try_from(bytes).unwrap_or(u32::MAX).min(self.size);
            let room = self.room.clone().acquire_many_owned(bytes).await.expect("the semaphore is never closed");
            let answer = self.send(records, room);
            // The caller's log keeps the producer, so an answer comes.
            answer.await.unwrap_or_else(|_| Err(unavailable("the producer was closed".to_owned())))
        };
        match tokio::time::timeout(TIMEOUT, sent).await {
            Ok(answer) => answer,
            Err(_) => {
                let reason = self.client.context().trouble.latest().map_or_else(String::new, |(_, reason)| format!(": {reason}"));
                Err(unavailable(format!("Kafka did not acknowledge within {} s{reason}", TIMEOUT.as_secs())))
            }
        }
    }

    fn send(&self, records: Vec<Outgoing<'_>>, room: OwnedSemaphorePermit) -> oneshot::Receiver<Result<Vec<Offset>, LogError>> {
        let (done, answer) = oneshot::channel();
        let state = State {
            left: records.len(),
            offsets: vec![Offset::default(); records.len()],
            refusal: None,
            done: Some(done),
            room: Some(room),
        };
        let batch = Arc::new(Batch { state: Mutex::new(state) });
        for (index, Outgoing { topic, partition, key, headers, payload, size: _ }) in records.into_iter().enumerate() {
            let ticket = Box::new(Ticket { batch: batch.clone(), index });
            let mut message = BaseRecord::<str, [u8], _>::with_opaque_to(topic, ticket)
                .partition(i32::from(partition.0))
                .payload(payload)
                .headers(headers);
            message.key = key.as_deref();
            if let Err((error, message)) = self.client.send(message) {
                let Ticket { batch, index } = *message.delivery_opaque;
                batch.settle(index, Err(refusal(&error, topic)));
            }
        }
        answer
    }
}

fn unavailable(reason: String) -> LogError {
    LogError::Unavailable { reason }
}

fn refusal(error: &KafkaError, topic: &str) -> LogError {
    unavailable(match error.rdkafka_error_code() {
        Some(RDKafkaErrorCode::MessageSizeTooLarge) => {
            format!("the topic {topic} takes smaller records only; let `postrider migrate` check its max.message.bytes")
        }
        Some(RDKafkaErrorCode::MessageTimedOut) => format!("{topic} did not acknowledge within {} s", TIMEOUT.as_secs()),
        Some(code) => format!("{topic}: {code}"),
        None => format!("{topic}: {error}"),
    })
}
