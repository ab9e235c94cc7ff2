//! A log in Kafka, from connecting to closing.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use postrider_core::offsets::Offset;
use postrider_core::partition::Partition;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::metadata::Metadata;
use rdkafka::producer::Producer as _;

use super::consumer::{self, Consumer};
use super::gate::{self, Gate};
use super::lag::Lag;
use super::options::{Options, PropertyError};
use super::producer::Producer;
use super::tail::Tail;
use super::trouble::{Kind, Trouble};
use super::wire;
use crate::log::{Append, Group, LogError, Topic};

/// Opening fails after this time.
const CONNECT: Duration = Duration::from_secs(9);
/// Between looks at what librdkafka complains of.
const LOOK: Duration = Duration::from_millis(500);

/// A log can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The options can't be used.
    #[error(transparent)]
    Property(#[from] PropertyError),
    /// No broker answers.
    #[error("no Kafka broker at {brokers} answers: {reason}; check `kafka.brokers` and that the broker runs")]
    Unreachable {
        /// As configured.
        brokers: String,
        /// In librdkafka's words.
        reason: String,
    },
    /// The brokers do not take the credentials, or do not let them do what is needed.
    #[error("the Kafka brokers at {brokers} refuse the credentials: {reason}; check the `sasl.*` properties and what the user may do")]
    Refused {
        /// As configured.
        brokers: String,
        /// In librdkafka's words.
        reason: String,
    },
    /// No TLS connection can be made.
    #[error("no TLS connection to the Kafka brokers at {brokers} can be made: {reason}; check `security.protocol` and `ssl.ca.location`")]
    Tls {
        /// As configured.
        brokers: String,
        /// In librdkafka's words.
        reason: String,
    },
    /// A topic is not there.
    #[error(
        "the Kafka topic `{topic}` does not exist, or this user may not see it; run `postrider migrate`, or create it if others write to it"
    )]
    MissingTopic {
        /// Its name.
        topic: String,
    },
    /// A topic has more partitions than can be counted.
    #[error("the Kafka topic `{topic}` has {count} partitions, more than 65,535")]
    TooManyPartitions {
        /// Its name.
        topic: String,
        /// How many.
        count: usize,
    },
    /// The system starts no thread.
    #[error("a thread for Kafka can't be started: {0}")]
    Thread(#[from] std::io::Error),
}

/// A log in Kafka. Cloning is cheap.
///
/// With the last clone the producer goes; appends that nobody waits for any more may be lost then.
#[derive(Clone)]
pub struct Log {
    inner: Arc<Inner>,
}

struct Inner {
    options: Options,
    topics: BTreeMap<Topic, Known>,
    max_record: usize,
    producer: Producer,
    gate: Arc<Gate>,
    /// Of the readers that were made.
    lags: Mutex<Vec<(Group, Topic, Weak<Lag>)>>,
}

/// A topic that is there.
struct Known {
    name: String,
    partitions: u16,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.gate.stop();
    }
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log").field("options", &self.inner.options).finish_non_exhaustive()
    }
}

impl Log {
    /// Connects to the brokers and looks the topics up. Blocks, for 10 s at most.
    ///
    /// Errors: each [`OpenError`] says what to do.
    pub fn open(options: Options) -> Result<Log, OpenError> {
        options.check()?;
        let producer = Producer::new(&options)?;
        let metadata = connect(&producer, &options)?;
        let mut topics = BTreeMap::new();
        let sources = (0..options.sources.len()).filter_map(|index| u16::try_from(index).ok()).map(Topic::Source);
        for topic in options.ours().chain(sources) {
            let name = options.topic(topic).expect("only configured sources are asked for");
            let count = count_partitions(&metadata, &name).ok_or_else(|| OpenError::MissingTopic { topic: name.clone() })?;
            let partitions = u16::try_from(count).map_err(|_| OpenError::TooManyPartitions { topic: name.clone(), count })?;
            topics.insert(topic, Known { name, partitions });
        }
        let gate = Arc::new(Gate::default());
        let probe = options.topic(Topic::Deliveries).expect("deliveries have a topic");
        let (watched, client) = (gate.clone(), Arc::downgrade(&producer.client));
        thread::Builder::new().name("kafka-probe".into()).spawn(move || gate::watch(&watched, &client, &probe))?;
        let inner = Inner { max_record: options.max_record(), options, topics, producer, gate, lags: Mutex::default() };
        Ok(Log { inner: Arc::new(inner) })
    }

    pub(in crate::log) fn partitions(&self, topic: Topic) -> u16 {
        self.inner.topics.get(&topic).map_or(0, |known| known.partitions)
    }

    pub(in crate::log) fn name(&self, topic: Topic) -> String {
        self.inner.topics.get(&topic).map(|known| known.name.clone()).unwrap_or_default()
    }

    pub(in crate::log) fn max_record(&self) -> usize {
        self.inner.max_record
    }

    pub(in crate::log) async fn append(&self, records: &[Append]) -> Result<Vec<Offset>, LogError> {
        let mut outgoing = Vec::with_capacity(records.len());
        for record in records {
            let known = self.known(record.topic, record.partition)?;
            outgoing.push(wire::dress(&known.name, record));
        }
        if outgoing.is_empty() {
            return Ok(Vec::new());
        }
        self.health().map_err(|reason| LogError::Unavailable { reason })?;
        self.inner.producer.append(outgoing).await
    }

    fn known(&self, topic: Topic, partition: Partition) -> Result<&Known, LogError> {
        let known = self.inner.topics.get(&topic);
        let count = known.map_or(0, |known| known.partitions);
        known.filter(|_| partition.0 < count).ok_or(LogError::NoPartition { topic, partition, count })
    }

    pub(in crate::log) fn consumers(
        &self,
        group: Group,
        topic: Topic,
        count: usize,
        batch_bytes: usize,
    ) -> Result<Vec<Consumer>, LogError> {
        let known = self.known(topic, Partition(0))?;
        let reader = consumer::Reader {
            options: self.inner.options.clone(),
            group: self.inner.options.group(group, &known.name),
            topic,
            name: known.name.clone(),
            partitions: known.partitions,
            batch_bytes,
        };
        let (consumers, lag) = consumer::start(reader, count)?;
        let mut lags = self.inner.lags.lock().unwrap_or_else(PoisonError::into_inner);
        lags.retain(|(_, _, lag)| lag.strong_count() > 0);
        lags.push((group, topic, Arc::downgrade(&lag)));
        Ok(consumers)
    }

    pub(in crate::log) fn health(&self) -> Result<(), String> {
        self.inner.gate.open()
    }

    /// Records; of the partitions that this process reads.
    pub(in crate::log) fn lag(&self, group: Group, topic: Topic) -> u64 {
        self.lag_of(group, topic).iter().map(|lag| lag.unfinished()).sum()
    }

    /// As [`Log::lag`], without what has been handed out.
    pub(in crate::log) fn unread(&self, group: Group, topic: Topic) -> u64 {
        self.lag_of(group, topic).iter().map(|lag| lag.unread()).sum()
    }

    fn lag_of(&self, group: Group, topic: Topic) -> Vec<Arc<Lag>> {
        let lags = self.inner.lags.lock().unwrap_or_else(PoisonError::into_inner);
        let of_this = lags.iter().filter(|(g, t, _)| (*g, *t) == (group, topic));
        of_this.filter_map(|(_, _, lag)| lag.upgrade()).collect()
    }

    pub(in crate::log) async fn announce(&self, key: &str, value: Bytes) -> Result<(), LogError> {
        self.tell(Topic::Config, &[(key.to_owned(), value)]).await
    }

    pub(in crate::log) async fn changes(&self) -> Result<Tail, LogError> {
        self.tail(Topic::Config).await
    }

    pub(in crate::log) async fn show(&self, news: &[(String, Bytes)]) -> Result<(), LogError> {
        self.tell(Topic::Live, news).await
    }

    pub(in crate::log) async fn follow(&self) -> Result<Tail, LogError> {
        self.tail(Topic::Live).await
    }

    async fn tell(&self, topic: Topic, news: &[(String, Bytes)]) -> Result<(), LogError> {
        let partitions = self.partitions(topic);
        self.health().map_err(|reason| LogError::Unavailable { reason })?;
        let mut records = Vec::with_capacity(news.len());
        for (key, value) in news {
            let partition = postrider_core::partition::of_key(key.as_bytes(), partitions);
            records.push(wire::change(&self.known(topic, partition)?.name, partition, key, value));
        }
        self.inner.producer.append(records).await.map(drop)
    }

    async fn tail(&self, topic: Topic) -> Result<Tail, LogError> {
        let known = self.known(topic, Partition(0))?;
        Tail::start(&self.inner.options, &known.name, known.partitions).await
    }
}

/// Asks for the metadata of all topics until a broker answers or it is clear that none will.
pub(super) fn connect(producer: &Producer, options: &Options) -> Result<Metadata, OpenError> {
    let deadline = Instant::now() + CONNECT;
    let trouble = &producer.client.context().trouble;
    loop {
        match producer.client.client().fetch_metadata(None, LOOK.min(deadline.saturating_duration_since(Instant::now()))) {
            Ok(metadata) => return Ok(metadata),
            Err(error) => {
                let complaint = trouble.latest();
                let hopeless = complaint.as_ref().is_some_and(|(kind, _)| matches!(kind, Kind::Authentication | Kind::Tls));
                if hopeless || Instant::now() >= deadline || !may_pass(&error) {
                    return Err(not_connected(options, trouble, &error));
                }
            }
        }
    }
}

fn may_pass(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            RDKafkaErrorCode::OperationTimedOut
                | RDKafkaErrorCode::BrokerTransportFailure
                | RDKafkaErrorCode::AllBrokersDown
                | RDKafkaErrorCode::RequestTimedOut
                | RDKafkaErrorCode::LeaderNotAvailable
                | RDKafkaErrorCode::Resolve
        )
    )
}

fn not_connected(options: &Options, trouble: &Trouble, error: &KafkaError) -> OpenError {
    let brokers = options.brokers.clone();
    match trouble.latest() {
        Some((Kind::Authentication, reason)) => OpenError::Refused { brokers, reason },
        Some((Kind::Tls, reason)) => OpenError::Tls { brokers, reason },
        Some((Kind::Resolve | Kind::Unreachable | Kind::Other, reason)) => OpenError::Unreachable { brokers, reason },
        None => OpenError::Unreachable { brokers, reason: error.to_string() },
    }
}

/// How many partitions the topic called `name` has; `None` when it isn't there.
fn count_partitions(metadata: &Metadata, name: &str) -> Option<usize> {
    let topic = metadata.topics().iter().find(|topic| topic.name() == name)?;
    (topic.error().is_none() && !topic.partitions().is_empty()).then(|| topic.partitions().len())
}
