//! How Kafka is reached and used, and what librdkafka is told.

use std::collections::BTreeMap;
use std::fmt;

use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;

/// Most bytes that meta and payload of one record may have together, unless the property `message.max.bytes` is lower.
pub const MAX_RECORD: usize = 4 << 20;
/// What key, headers and Kafka's own framing take beside meta and payload; the largest tenant, event key and trace
/// context fit many times.
pub(super) const FRAMING: usize = 128 << 10;
/// Bytes of records that wait for their acknowledgement, unless the property `queue.buffering.max.kbytes` says else.
const QUEUE_KIB: u32 = 64 << 10;
/// Bytes that are fetched ahead, over all partitions of a reader.
const READ_AHEAD_KIB: usize = 16 << 10;

/// Properties that decide what postrider guarantees, and what to do instead of setting them.
const OWNED: [(&str, &str); 23] = [
    ("acks", "a record is acknowledged when all in-sync replicas have it"),
    ("request.required.acks", "a record is acknowledged when all in-sync replicas have it"),
    ("enable.idempotence", "a retried record must not be written twice"),
    ("enable.gapless.guarantee", "a record that timed out must not stop those behind it"),
    ("transactional.id", "records are not written in transactions"),
    ("message.timeout.ms", "an append is answered within its own time-out"),
    ("delivery.timeout.ms", "an append is answered within its own time-out"),
    ("delivery.report.only.error", "an append is answered when its records are acknowledged"),
    ("queue.buffering.max.messages", "set `queue.buffering.max.kbytes`"),
    ("enable.auto.commit", "offsets are committed when deliveries are finished"),
    ("auto.commit.enable", "offsets are committed when deliveries are finished"),
    ("enable.auto.offset.store", "offsets are committed when deliveries are finished"),
    ("isolation.level", "aborted transactions are never read"),
    ("enable.partition.eof", "the end of a partition is no event"),
    ("bootstrap.servers", "set `brokers`"),
    ("metadata.broker.list", "set `brokers`"),
    ("group.id", "groups are named after `prefix`"),
    ("group.instance.id", "set `instance_id`"),
    ("log.queue", "librdkafka's log lines go to postrider's log"),
    ("statistics.interval.ms", "the lag is taken from the statistics"),
    ("allow.auto.create.topics", "topics are made by `postrider migrate`"),
    ("test.mock.num.brokers", "a broker that forgets everything is no place for records"),
    ("plugin.library.paths", "no code is loaded at run time"),
];

/// How to reach Kafka and what to call things there.
#[derive(Clone)]
pub struct Options {
    /// Where brokers are asked for the others: `host:port`, separated by commas.
    pub brokers: String,
    /// What the names of topics and groups begin with.
    pub prefix: String,
    /// Handed to librdkafka as they are, for producer and consumers alike; they override what is chosen here.
    pub properties: BTreeMap<String, String>,
    /// Names this process within its groups, so that a restart within the session time-out moves no partitions
    /// (static membership). Unique among the processes; empty: partitions move when a process comes or goes.
    pub instance_id: String,
    /// Topics that others write, read as [`crate::log::Topic::Source`] by their place in this list.
    pub sources: Vec<String>,
    /// Kinds of jobs that workers outside do, whose topics are [`crate::log::Topic::Outside`] by their place in this list.
    pub outside: Vec<String>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            brokers: "127.0.0.1:9092".to_owned(),
            prefix: "postrider.".to_owned(),
            properties: BTreeMap::new(),
            instance_id: String::new(),
            sources: Vec::new(),
            outside: Vec::new(),
        }
    }
}

/// Properties by name only: a value may be a secret.
impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("brokers", &self.brokers)
            .field("prefix", &self.prefix)
            .field("properties", &self.properties.keys().collect::<Vec<_>>())
            .field("instance_id", &self.instance_id)
            .field("sources", &self.sources)
            .field("outside", &self.outside)
            .finish()
    }
}

/// A property can't be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum PropertyError {
    /// It would break a guarantee, or is set elsewhere.
    #[error("the Kafka property `{name}` can't be set: {reason}; remove it from `kafka.properties`")]
    Owned {
        /// The property.
        name: String,
        /// Why, or what to set instead.
        reason: &'static str,
    },
    /// librdkafka does not take it.
    #[error("the Kafka properties can't be used: {reason}")]
    Refused {
        /// In librdkafka's words; without the value.
        reason: String,
    },
    /// A file of the properties can't be used, or they contradict each other.
    #[error("a Kafka client can't be made with these properties: {reason}")]
    Contradiction {
        /// In librdkafka's words.
        reason: String,
    },
}

impl Options {
    /// Checks the properties without connecting to anything.
    ///
    /// Errors: the first property that postrider decides itself, or that librdkafka does not know.
    pub fn check(&self) -> Result<(), PropertyError> {
        for (name, reason) in OWNED {
            if self.properties.contains_key(name) {
                return Err(PropertyError::Owned { name: name.to_owned(), reason });
            }
        }
        for config in [self.producer(), self.member("check"), self.fetcher("check", 1)] {
            config.create_native_config().map_err(|error| unusable(&error))?;
        }
        Ok(())
    }

    /// For a client that neither writes nor reads records.
    pub(super) fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set_log_level(RDKafkaLogLevel::Info);
        config.set("bootstrap.servers", &self.brokers).set("client.id", "postrider");
        // A broker that comes back is found again soon, and not hammered meanwhile.
        config.set("reconnect.backoff.ms", "50").set("reconnect.backoff.max.ms", "1000");
        config.set("socket.keepalive.enable", "true").set("allow.auto.create.topics", "false");
        self.overridden(config)
    }

    pub(super) fn producer(&self) -> ClientConfig {
        let mut config = self.client();
        config.set("enable.idempotence", "true").set("acks", "all").set("compression.type", "none");
        config.set("linger.ms", "5");
        config.set("message.max.bytes", (MAX_RECORD + FRAMING).to_string());
        config.set("message.timeout.ms", super::producer::TIMEOUT.as_millis().to_string());
        let mut config = self.overridden(config);
        // Bounded in front of it, where records can wait: librdkafka's own queue would refuse them.
        config.set("queue.buffering.max.kbytes", "2147483647").set("queue.buffering.max.messages", "0");
        config
    }

    /// For a client that joins the group `group` and commits, and fetches nothing.
    pub(super) fn member(&self, group: &str) -> ClientConfig {
        let mut config = self.consumer(group);
        if !self.instance_id.is_empty() {
            config.set("group.instance.id", &self.instance_id);
        }
        if self.properties.get("group.protocol").is_none_or(|protocol| protocol == "classic") {
            // With the protocol of KIP-848 these are the broker's to decide.
            config.set("partition.assignment.strategy", "cooperative-sticky");
            config.set("session.timeout.ms", "10000").set("heartbeat.interval.ms", "1000");
        }
        self.overridden(config)
    }

    /// For a client that fetches some of `partitions` partitions, and begins where `group` has come to.
    pub(super) fn fetcher(&self, group: &str, partitions: usize) -> ClientConfig {
        let mut config = self.consumer(group);
        config.set("auto.offset.reset", "earliest").set("isolation.level", "read_committed");
        // A fetch costs the same whatever it brings: it waits a little for more than a record or two.
        config.set("fetch.min.bytes", "16384").set("fetch.wait.max.ms", "10");
        config.set("fetch.queue.backoff.ms", "20").set("fetch.error.backoff.ms", "100");
        // Each partition has a queue of its own, and this is the bound of one.
        let ahead = (READ_AHEAD_KIB / partitions.max(1)).clamp(256, 4 << 10);
        config.set("queued.max.messages.kbytes", ahead.to_string());
        config.set("max.partition.fetch.bytes", (ahead << 10).to_string());
        config.set("statistics.interval.ms", super::lag::INTERVAL.as_millis().to_string());
        self.overridden(config)
    }

    fn consumer(&self, group: &str) -> ClientConfig {
        let mut config = self.client();
        config.set("group.id", group).set("enable.auto.commit", "false").set("enable.auto.offset.store", "false");
        config
    }

    fn overridden(&self, mut config: ClientConfig) -> ClientConfig {
        for (name, value) in &self.properties {
            config.set(name, value);
        }
        config
    }

    /// KiB of records that may wait for their acknowledgement.
    pub(super) fn queue_kib(&self) -> u32 {
        let given = self.properties.get("queue.buffering.max.kbytes").and_then(|kib| kib.parse().ok());
        given.unwrap_or(QUEUE_KIB).clamp(1, 1 << 20)
    }

    /// Most bytes of meta and payload.
    pub(super) fn max_record(&self) -> usize {
        let given = self.properties.get("message.max.bytes").and_then(|bytes| bytes.parse::<usize>().ok());
        given.map_or(MAX_RECORD, |bytes| bytes.saturating_sub(FRAMING.min(bytes / 4)).min(MAX_RECORD))
    }
}

/// Why a client could not be made. The value stays out of it, as it may be a secret.
pub(super) fn unusable(error: &rdkafka::error::KafkaError) -> PropertyError {
    match error {
        rdkafka::error::KafkaError::ClientConfig(_, reason, name, value) => {
            let reason = if value.is_empty() { reason.clone() } else { reason.replace(value.as_str(), "…") };
            PropertyError::Refused { reason: format!("`{name}`: {reason}") }
        }
        other => PropertyError::Contradiction { reason: other.to_string() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(name: &str, value: &str) -> Options {
        Options { properties: BTreeMap::from([(name.to_owned(), value.to_owned())]), ..Options::default() }
    }

    #[test]
    fn what_guarantees_rest_on_can_not_be_set_and_the_error_says_so() {
        assert_eq!(Options::default().check(), Ok(()));
        for (name, _) in OWNED {
            let error = with(name, "1").check().unwrap_err();
            assert!(matches!(&error, PropertyError::Owned { name: named, .. } if named == name), "{error}");
        }
    }

    #[test]
    fn an_unknown_property_is_named_and_its_value_is_not() {
        let error = with("sasl.passwort", "geheim").check().unwrap_err().to_string();
        assert!(error.contains("sasl.passwort") && !error.contains("geheim"), "{error}");
        let error = with("security.protocol", "geheim").check().unwrap_err().to_string();
        assert!(error.contains("security.protocol") && !error.contains("geheim"), "{error}");
        assert!(!format!("{:?}", with("sasl.password", "geheim")).contains("geheim"));
    }

    #[test]
    fn properties_override_what_is_chosen_here() {
        let options = with("linger.ms", "50");
        assert_eq!(options.producer().get("linger.ms"), Some("50"));
        assert_eq!(options.fetcher("g", 64).get("queued.max.messages.kbytes"), Some("256"));
        let new = with("group.protocol", "consumer");
        assert_eq!(new.member("g").get("session.timeout.ms"), None);
        assert_eq!(with("message.max.bytes", "1000000").max_record(), 1_000_000 - FRAMING);
    }
}
