//! What librdkafka calls back while a reader is polled. Nothing is done here; it is noted for the hub's next turn.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext, RebalanceProtocol};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{ClientContext, TopicPartitionList};
use serde::Deserialize;

use super::trouble::{self, Trouble};

/// The group gives or takes partitions. librdkafka waits until that is answered, and sends heartbeats meanwhile.
#[derive(Debug)]
pub(super) enum Turn {
    /// These are to be read.
    Assign(Vec<i32>),
    /// These are to be given up; at once where they already belong to others.
    Revoke { partitions: Vec<i32>, lost: bool },
}

/// What librdkafka knows of a partition.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(super) struct Standing {
    /// Records that wait to be taken.
    pub(super) fetchq_cnt: u64,
    /// What is fetched next.
    pub(super) next_offset: i64,
    /// The oldest that retention has kept.
    pub(super) lo_offset: i64,
    /// Behind the newest.
    pub(super) hi_offset: i64,
}

#[derive(Deserialize)]
struct Statistics {
    topics: BTreeMap<String, TopicStatistics>,
}

#[derive(Deserialize)]
struct TopicStatistics {
    partitions: BTreeMap<i32, Standing>,
}

/// Notes of one reader.
#[derive(Debug, Default)]
pub(super) struct Context {
    pub(super) trouble: Trouble,
    closing: AtomicBool,
    turns: Mutex<VecDeque<Turn>>,
    standings: Mutex<Option<BTreeMap<i32, Standing>>>,
}

impl Context {
    /// From now on whatever the group takes is given up at once.
    pub(super) fn close(&self) {
        self.closing.store(true, Ordering::Release);
    }

    pub(super) fn turn(&self) -> Option<Turn> {
        lock(&self.turns).pop_front()
    }

    /// The latest statistics by partition, once.
    pub(super) fn standings(&self) -> Option<BTreeMap<i32, Standing>> {
        lock(&self.standings).take()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        trouble::forward(level, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.trouble.note(&error, reason);
    }

    fn stats_raw(&self, statistics: &[u8]) {
        match serde_json::from_slice::<Statistics>(statistics) {
            Ok(statistics) => *lock(&self.standings) = statistics.topics.into_values().next().map(|topic| topic.partitions),
            Err(error) => tracing::debug!(%error, "librdkafka's statistics can't be read"),
        }
    }
}

impl ConsumerContext for Context {
    fn rebalance(&self, consumer: &BaseConsumer<Context>, code: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let given = code == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
        if self.closing.load(Ordering::Acquire) {
            let answered = if given { assign(consumer, list) } else { unassign(consumer, list) };
            if let Err(error) = answered {
                tracing::debug!(%error, "a rebalance while closing");
            }
            return;
        }
        let partitions = list.elements().iter().map(rdkafka::topic_partition_list::TopicPartitionListElem::partition).collect();
        let turn = if given { Turn::Assign(partitions) } else { Turn::Revoke { partitions, lost: consumer.assignment_lost() } };
        lock(&self.turns).push_back(turn);
    }
}

/// Starts to read `list`, in the way that the group's protocol wants.
pub(super) fn assign(consumer: &BaseConsumer<Context>, list: &TopicPartitionList) -> KafkaResult<()> {
    match consumer.rebalance_protocol() {
        RebalanceProtocol::Cooperative => consumer.incremental_assign(list),
        RebalanceProtocol::Eager | RebalanceProtocol::None => consumer.assign(list),
    }
}

/// Gives up `list`, in the way that the group's protocol wants.
pub(super) fn unassign(consumer: &BaseConsumer<Context>, list: &TopicPartitionList) -> KafkaResult<()> {
    match consumer.rebalance_protocol() {
        RebalanceProtocol::Cooperative => consumer.incremental_unassign(list),
        // Without increments the group takes everything at once.
        RebalanceProtocol::Eager | RebalanceProtocol::None => consumer.unassign(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics_are_read_for_what_the_lag_needs() {
        let context = Context::default();
        context.stats_raw(
            br#"{"name":"x","topics":{"t":{"topic":"t","partitions":{"0":{"partition":0,"fetchq_cnt":2,"next_offset":7,"lo_offset":-1001,
                "hi_offset":9,"more":true},"-1":{"partition":-1,"fetchq_cnt":0,"next_offset":-1001,"lo_offset":-1001,"hi_offset":-1001}}}}}"#,
        );
        let standings = context.standings().unwrap();
        assert_eq!((standings[&0].fetchq_cnt, standings[&0].hi_offset), (2, 9));
        assert!(context.standings().is_none(), "each is looked at once");
    }
}
