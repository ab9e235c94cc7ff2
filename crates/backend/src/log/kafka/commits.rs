//! One commit for all partitions that have come further, one at a time, on a thread that may wait for the answer.
//!
//! librdkafka tells what came of a commit only to a caller that waits for it, which may take as long as a coordinator
//! is away; the hub must not.

use std::collections::BTreeMap;
use std::io;
use std::sync::mpsc::TryRecvError;
use std::sync::{Arc, Weak, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use postrider_core::partition::Partition;
use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::topic_partition_list::Offset as Place;

use super::context::Context;
use super::hub::Dealt;

/// Before a commit that was refused is sent again.
const AGAIN: Duration = Duration::from_millis(250);

const ENDED: &str = "the thread that commits has ended";

/// Partition, offset and metadata.
type Positions = Vec<(Partition, i64, String)>;

/// The commits of one reader.
pub(super) struct Commits {
    jobs: mpsc::SyncSender<Positions>,
    answers: mpsc::Receiver<Result<(), KafkaError>>,
    under_way: Vec<Partition>,
    /// Not before.
    rest: Option<Instant>,
}

impl Commits {
    /// Starts the thread, which ends when this is dropped.
    pub(super) fn start(consumer: &Arc<BaseConsumer<Context>>, topic: &str) -> io::Result<Commits> {
        let (jobs, positions) = mpsc::sync_channel(1);
        let (answer, answers) = mpsc::channel();
        let (consumer, topic) = (Arc::downgrade(consumer), topic.to_owned());
        thread::Builder::new().name("kafka-commits".into()).spawn(move || commit_all(&consumer, &topic, &positions, &answer))?;
        Ok(Commits { jobs, answers, under_way: Vec::new(), rest: None })
    }

    pub(super) fn none_under_way(&self) -> bool {
        self.under_way.is_empty()
    }

    /// Takes in what came of the last commit; what failed is sent again, unless the partition has gone.
    ///
    /// Errors: the thread has ended.
    pub(super) fn take_answer(&mut self, dealt: &BTreeMap<Partition, Dealt>) -> Result<(), String> {
        let answer = match self.answers.try_recv() {
            Ok(answer) => answer,
            Err(TryRecvError::Empty) => return Ok(()),
            Err(TryRecvError::Disconnected) => return Err(ENDED.to_owned()),
        };
        let partitions = std::mem::take(&mut self.under_way);
        if let Err(error) = answer {
            // While members come and go the group takes none for a moment.
            if error.rdkafka_error_code() != Some(RDKafkaErrorCode::RebalanceInProgress) {
                tracing::warn!(%error, partitions = partitions.len(), "Kafka took no commit; it is made again");
            }
            partitions.iter().filter_map(|partition| dealt.get(partition)).for_each(|dealt| dealt.slot.again());
            self.rest = Some(Instant::now() + AGAIN);
        }
        Ok(())
    }

    /// Sends what has not been sent. Errors: the thread has ended.
    pub(super) fn send(&mut self, dealt: &BTreeMap<Partition, Dealt>) -> Result<(), String> {
        if !self.under_way.is_empty() || self.rest.is_some_and(|rest| Instant::now() < rest) {
            return Ok(());
        }
        self.rest = None;
        let unsent =
            |(partition, dealt): (&Partition, &Dealt)| dealt.slot.unsent().map(|(offset, metadata)| (*partition, offset, metadata));
        let positions: Positions = dealt.iter().filter_map(unsent).collect();
        if positions.is_empty() {
            return Ok(());
        }
        self.under_way = positions.iter().map(|(partition, ..)| *partition).collect();
        self.jobs.send(positions).map_err(|_| ENDED.to_owned())
    }
}

fn commit_all(
    consumer: &Weak<BaseConsumer<Context>>,
    topic: &str,
    positions: &mpsc::Receiver<Positions>,
    answers: &mpsc::Sender<Result<(), KafkaError>>,
) {
    while let Ok(positions) = positions.recv() {
        let Some(consumer) = consumer.upgrade() else { return };
        let mut list = TopicPartitionList::new();
        let filled = positions.iter().try_for_each(|(partition, offset, metadata)| {
            let mut element = list.add_partition(topic, i32::from(partition.0));
            element.set_metadata(metadata);
            element.set_offset(Place::Offset(*offset))
        });
        let answer = filled.and_then(|()| consumer.commit(&list, CommitMode::Sync));
        drop(consumer);
        if answers.send(answer).is_err() {
            return;
        }
    }
}
