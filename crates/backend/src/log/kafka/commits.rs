//! One commit for all partitions that have come further, one at a time.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use postrider_core::partition::Partition;
use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::topic_partition_list::Offset as Place;

use super::context::Context;
use super::hub::Dealt;

/// Before a commit that was refused is sent again.
const AGAIN: Duration = Duration::from_millis(250);
/// An answer that has not come by then does not come.
const PATIENCE: Duration = Duration::from_secs(15);

/// The commits of one reader.
#[derive(Debug, Default)]
pub(super) struct Commits {
    under_way: Option<(Vec<Partition>, Instant)>,
    /// Not before.
    rest: Option<Instant>,
}

impl Commits {
    pub(super) fn none_under_way(&self) -> bool {
        self.under_way.is_none()
    }

    /// Takes in what came of the last commit; what failed is sent again, unless the partition has gone.
    pub(super) fn take_answers(&mut self, context: &Context, dealt: &BTreeMap<Partition, Dealt>) {
        for answer in context.committed() {
            self.under_way = None;
            for (number, code) in answer.failed {
                tracing::debug!(partition = number, %code, "a commit was refused; it is made again");
                self.rest = Some(Instant::now() + AGAIN);
                if let Some(dealt) = u16::try_from(number).ok().and_then(|number| dealt.get(&Partition(number))) {
                    dealt.slot.again();
                }
            }
        }
        if let Some((partitions, _)) = self.under_way.take_if(|(_, since)| since.elapsed() > PATIENCE) {
            tracing::warn!("Kafka did not answer a commit; it is made again");
            partitions.iter().filter_map(|partition| dealt.get(partition)).for_each(|dealt| dealt.slot.again());
        }
    }

    /// Sends what has not been sent.
    pub(super) fn send(&mut self, consumer: &BaseConsumer<Context>, topic: &str, dealt: &BTreeMap<Partition, Dealt>) {
        if self.under_way.is_some() || self.rest.is_some_and(|rest| Instant::now() < rest) {
            return;
        }
        self.rest = None;
        let mut list = TopicPartitionList::new();
        let mut partitions = Vec::new();
        for (partition, dealt) in dealt {
            let Some((offset, metadata)) = dealt.slot.unsent() else { continue };
            let mut element = list.add_partition(topic, i32::from(partition.0));
            element.set_metadata(metadata);
            // Refuses only what is no offset.
            if element.set_offset(Place::Offset(offset)).is_ok() {
                partitions.push(*partition);
            }
        }
        if partitions.is_empty() {
            return;
        }
        match consumer.commit(&list, CommitMode::Async) {
            Ok(()) => self.under_way = Some((partitions, Instant::now())),
            Err(error) => {
                tracing::debug!(%error, "a commit can't be sent; it is made again");
                partitions.iter().filter_map(|partition| dealt.get(partition)).for_each(|dealt| dealt.slot.again());
                self.rest = Some(Instant::now() + AGAIN);
            }
        }
    }
}
