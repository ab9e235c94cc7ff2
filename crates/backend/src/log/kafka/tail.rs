//! Follows the topic of configuration changes, or of attempts, from now on, outside of any group.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::Offset as Place;
use rdkafka::{ClientContext, Message, TopicPartitionList};
use tokio::sync::{mpsc, oneshot};

use super::options::{Options, unusable};
use super::trouble::{self, Trouble};
use crate::log::LogError;

/// Records that wait to be taken; the thread waits with the next.
const QUEUE: usize = 1024;
/// Between looks whether anybody still listens.
const LOOK: Duration = Duration::from_millis(100);
/// Most that finding the end of one partition may take.
const ASK: Duration = Duration::from_secs(4);

#[derive(Debug, Default)]
struct Context {
    trouble: Trouble,
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        trouble::forward(level, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.trouble.note(&error, reason);
    }
}

impl ConsumerContext for Context {}

/// What is told in one topic since it was made, in order. Nothing is left out while it is held.
#[derive(Debug)]
pub struct Tail {
    changes: mpsc::Receiver<(String, Bytes)>,
}

impl Tail {
    /// Begins with the first record that is written after this has returned.
    pub(super) async fn start(options: &Options, topic: &str, partitions: u16) -> Result<Tail, LogError> {
        // The name is never seen in Kafka, as nothing joins and nothing commits.
        let mut config = options.fetcher(&format!("{}tail", options.prefix), usize::from(partitions));
        config.set("statistics.interval.ms", "0"); // nobody asks how far it is behind
        let (sender, changes) = mpsc::channel(QUEUE);
        let (ready, started) = oneshot::channel();
        let topic = topic.to_owned();
        let follow = move || {
            let consumer = config.create_with_context(Context::default()).map_err(|error| unusable(&error).to_string());
            let begun = consumer.and_then(|consumer: BaseConsumer<Context>| {
                begin(&consumer, &topic, partitions).map(|()| consumer).map_err(|error| format!("{topic}: {error}"))
            });
            match begun {
                Ok(consumer) => {
                    if ready.send(Ok(())).is_ok() {
                        run(&consumer, &sender);
                    }
                }
                Err(reason) => drop(ready.send(Err(reason))),
            }
        };
        let unavailable = |reason| LogError::Unavailable { reason };
        let spawned = thread::Builder::new().name("kafka-tail".into()).spawn(follow);
        spawned.map_err(|error| unavailable(format!("a thread for Kafka can't be started: {error}")))?;
        match started.await {
            Ok(begun) => begun.map_err(unavailable)?,
            Err(_) => return Err(unavailable("the thread that follows a topic has ended".to_owned())),
        }
        Ok(Tail { changes })
    }

    /// Waits for the next record: the key and the value it was told with; empty where it was removed.
    ///
    /// Cancelling loses nothing. Errors: [`LogError::Unavailable`] when nothing more will come; some may be
    /// missed from then on until another tail is started.
    pub async fn next(&mut self) -> Result<(String, Bytes), LogError> {
        let change = self.changes.recv().await;
        change.ok_or_else(|| LogError::Unavailable { reason: "the thread that follows a topic has ended".to_owned() })
    }
}

/// Stands at the end of every partition.
fn begin(consumer: &BaseConsumer<Context>, topic: &str, partitions: u16) -> Result<(), KafkaError> {
    let mut list = TopicPartitionList::new();
    for partition in 0..i32::from(partitions) {
        let (_, end) = consumer.fetch_watermarks(topic, partition, ASK)?;
        list.add_partition_offset(topic, partition, Place::Offset(end))?;
    }
    consumer.assign(&list)
}

fn run(consumer: &BaseConsumer<Context>, changes: &mpsc::Sender<(String, Bytes)>) {
    let context: &Arc<Context> = consumer.context();
    while !changes.is_closed() {
        match consumer.poll(LOOK) {
            Some(Ok(message)) => {
                let key = message.key().and_then(|key| std::str::from_utf8(key).ok());
                let Some(key) = key else {
                    tracing::warn!(offset = message.offset(), "a record has no readable key; it is skipped");
                    continue;
                };
                let change = (key.to_owned(), Bytes::copy_from_slice(message.payload().unwrap_or_default()));
                if changes.blocking_send(change).is_err() {
                    return;
                }
            }
            Some(Err(error)) => {
                let reason = context.trouble.latest().map_or_else(|| error.to_string(), |(_, reason)| reason);
                tracing::warn!(reason, "what processes tell each other can't be read at the moment; trying again");
            }
            None => {}
        }
    }
}
