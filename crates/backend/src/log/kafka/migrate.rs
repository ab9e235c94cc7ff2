//! Makes the topics. Never lowers anything; safe to repeat.

use std::fmt;
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, ResourceSpecifier, TopicReplication, TopicResult};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::FromClientConfig;
use rdkafka::error::{KafkaResult, RDKafkaErrorCode};
use rdkafka::metadata::MetadataTopic;

use super::open::{OpenError, connect};
use super::options::{FRAMING, MAX_RECORD, Options, unusable};
use super::producer::Producer;
use crate::log::Topic;

/// Most that one request to the cluster may take.
const PATIENCE: Duration = Duration::from_secs(8);
/// A new topic is known to all brokers by then.
const SETTLE: Duration = Duration::from_secs(10);

/// Between looks at a new topic.
const LOOK: Duration = Duration::from_millis(20);

/// What the topics are to be like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Migration {
    /// Partitions of `events`, `deliveries`, `dead-letters` and the topics of jobs and their results; `config` and `live` have one, so that what
    /// is told there keeps its order.
    pub partitions: u16,
    /// Copies of each partition. From 3 on, new topics ask for two of them before a record is acknowledged.
    pub replication_factor: u16,
    /// Whether topics may grow whose keys then move to other partitions.
    pub grow: Grow,
}

/// Whether `events` and `deliveries` may be given more partitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grow {
    /// Not without being asked.
    Refuse,
    /// The procedure of docs/operations.md is being followed.
    Allow,
}

/// What was done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Migrated {
    /// Topics that were made.
    pub created: Vec<String>,
    /// Topics that got more partitions, and how many they have now.
    pub grown: Vec<(String, u16)>,
    /// Topics that were as they should be.
    pub unchanged: Vec<String>,
}

impl fmt::Display for Migrated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lines = Vec::new();
        lines.extend(self.created.iter().map(|topic| format!("created topic {topic}")));
        lines.extend(self.grown.iter().map(|(topic, count)| format!("topic {topic} has {count} partitions now")));
        lines.extend(self.unchanged.iter().map(|topic| format!("topic {topic} is as it should be")));
        f.write_str(&lines.join("\n"))
    }
}

/// The topics were not made, or not all of them.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// No connection.
    #[error(transparent)]
    Connect(#[from] OpenError),
    /// More than there is can't be taken away.
    #[error("topic {topic} has {found} partitions and Kafka can't lower that to {asked}; ask for at least {found}")]
    FewerPartitions {
        /// The topic.
        topic: String,
        /// How many it has.
        found: usize,
        /// How many were asked for.
        asked: u16,
    },
    /// Copies are not taken away.
    #[error("topic {topic} has replication factor {found}; lowering it to {asked} is refused, as it could lose records")]
    LowerReplication {
        /// The topic.
        topic: String,
        /// How many copies it has.
        found: usize,
        /// How many were asked for.
        asked: u16,
    },
    /// Copies can't be added by a client.
    #[error("topic {topic} has replication factor {found}, not {asked}; raise it with kafka-reassign-partitions, then run this again")]
    HigherReplication {
        /// The topic.
        topic: String,
        /// How many copies it has.
        found: usize,
        /// How many were asked for.
        asked: u16,
    },
    /// Keys would move to other partitions.
    #[error(
        "topic {topic} has {found} partitions; giving it {asked} moves keys to other partitions, which needs the procedure \
         \"Growing partitions\" of docs/operations.md"
    )]
    Growing {
        /// The topic.
        topic: String,
        /// How many it has.
        found: usize,
        /// How many were asked for.
        asked: u16,
    },
    /// A topic of that name is configured in another way.
    #[error("topic {topic} has {name}={found}, and postrider needs {needed}; change it with kafka-configs, then run this again")]
    Configured {
        /// The topic.
        topic: String,
        /// The setting.
        name: &'static str,
        /// What it is.
        found: String,
        /// What it must be.
        needed: String,
    },
    /// The cluster refused.
    #[error("Kafka did not {what}: {reason}")]
    Refused {
        /// What it was asked for.
        what: String,
        /// In its words.
        reason: String,
    },
}

type Admin = AdminClient<DefaultClientContext>;

/// Makes the topics that are missing and checks those that are there. What was refused is left as it was.
///
/// Needs a Tokio runtime, and blocks its thread for moments. Errors: each [`MigrateError`] says what to do.
pub async fn migrate(options: &Options, migration: Migration) -> Result<Migrated, MigrateError> {
    options.check().map_err(OpenError::from)?;
    // A producer says why it can't connect; a client for administration does not.
    let producer = Producer::new(options).map_err(OpenError::from)?;
    let metadata = connect(&producer, options)?;
    let admin: Admin = Admin::from_config(&options.client()).map_err(|error| OpenError::from(unusable(&error)))?;
    let mut migrated = Migrated::default();
    let mut growing = Vec::new();
    let mut missing = Vec::new();
    // All is checked before anything is changed.
    for topic in options.ours() {
        let name = options.topic(topic).expect("our own topics have names");
        let partitions = if matches!(topic, Topic::Config | Topic::Live) { 1 } else { migration.partitions };
        match metadata.topics().iter().find(|found| found.name() == name && !found.partitions().is_empty()) {
            None => missing.push((topic, name, partitions)),
            Some(found) => {
                if grows(topic, found, partitions, migration)? {
                    growing.push((name.clone(), partitions));
                } else {
                    migrated.unchanged.push(name.clone());
                }
                check_settings(&admin, topic, &name).await?;
            }
        }
    }
    for (topic, name, partitions) in missing {
        create(&admin, topic, &name, partitions, migration.replication_factor).await?;
        settled(&admin, &name).await?;
        migrated.created.push(name);
    }
    for (name, partitions) in growing {
        let asked = NewPartitions::new(&name, usize::from(partitions));
        let what = format!("give topic {name} {partitions} partitions");
        answered(&what, admin.create_partitions(&[asked], &request()).await)?;
        migrated.grown.push((name, partitions));
    }
    Ok(migrated)
}

/// Whether the topic is to be given more partitions.
fn grows(topic: Topic, found: &MetadataTopic, asked: u16, migration: Migration) -> Result<bool, MigrateError> {
    let name = found.name().to_owned();
    let count = found.partitions().len();
    let copies = found.partitions().iter().map(|partition| partition.replicas().len()).min().unwrap_or(0);
    let wanted = usize::from(migration.replication_factor);
    if copies > wanted {
        return Err(MigrateError::LowerReplication { topic: name, found: copies, asked: migration.replication_factor });
    }
    if copies < wanted {
        return Err(MigrateError::HigherReplication { topic: name, found: copies, asked: migration.replication_factor });
    }
    if count > usize::from(asked) {
        return Err(MigrateError::FewerPartitions { topic: name, found: count, asked });
    }
    // Nothing rests on the partition of a dead letter or a job. What is said of a job is read in any order by then: one end counts.
    let is_free = matches!(topic, Topic::DeadLetters | Topic::Jobs(_) | Topic::Outside(_) | Topic::JobResults);
    if count < usize::from(asked) && !is_free && migration.grow == Grow::Refuse {
        return Err(MigrateError::Growing { topic: name, found: count, asked });
    }
    Ok(count < usize::from(asked))
}

fn largest() -> usize {
    MAX_RECORD + FRAMING
}

async fn create(admin: &Admin, topic: Topic, name: &str, partitions: u16, copies: u16) -> Result<(), MigrateError> {
    let largest = largest().to_string();
    let mut new = NewTopic::new(name, i32::from(partitions), TopicReplication::Fixed(i32::from(copies)));
    new = new.set("max.message.bytes", &largest).set("message.timestamp.type", "CreateTime");
    if topic == Topic::Config {
        new = new.set("cleanup.policy", "compact");
    }
    if topic == Topic::Live {
        // Read as it is written, or not at all.
        new = new.set("retention.ms", "600000").set("segment.ms", "600000");
    }
    if copies >= 3 {
        new = new.set("min.insync.replicas", "2");
    }
    let what = format!("create topic {name} with {partitions} partitions and replication factor {copies}");
    answered(&what, admin.create_topics(&[new], &request()).await)
}

/// Waits until the topic has leaders, so that whoever runs next finds it.
async fn settled(admin: &Admin, name: &str) -> Result<(), MigrateError> {
    let what = || format!("make topic {name} available");
    let deadline = Instant::now() + SETTLE;
    loop {
        let metadata = admin.inner().fetch_metadata(Some(name), PATIENCE);
        let metadata = metadata.map_err(|error| MigrateError::Refused { what: what(), reason: error.to_string() })?;
        let topic = metadata.topics().iter().find(|topic| topic.name() == name);
        let led = |topic: &MetadataTopic| !topic.partitions().is_empty() && topic.partitions().iter().all(|p| p.leader() >= 0);
        if topic.is_some_and(led) {
            return Ok(());
        }
        if Instant::now() > deadline {
            let reason = format!("it has no leaders after {} s", SETTLE.as_secs());
            return Err(MigrateError::Refused { what: what(), reason });
        }
        tokio::time::sleep(LOOK).await;
    }
}

async fn check_settings(admin: &Admin, topic: Topic, name: &str) -> Result<(), MigrateError> {
    let what = format!("tell the settings of topic {name}");
    let described = admin.describe_configs([&ResourceSpecifier::Topic(name)], &request()).await;
    let refused = |reason: String| MigrateError::Refused { what: what.clone(), reason };
    let described = described.map_err(|error| refused(error.to_string()))?;
    let Some(settings) = described.into_iter().next() else { return Err(refused("the answer is empty".to_owned())) };
    let settings = settings.map_err(|code| refused(code.to_string()))?;
    let wrong = |name_of: &'static str, found: &str, needed: &str| MigrateError::Configured {
        topic: name.to_owned(),
        name: name_of,
        found: found.to_owned(),
        needed: needed.to_owned(),
    };
    let value = |name: &str| settings.get(name).and_then(|entry| entry.value.as_deref());
    if let Some(policy) = value("cleanup.policy") {
        let compacts = policy.split(',').any(|policy| policy.trim() == "compact");
        if compacts != (topic == Topic::Config) {
            return Err(wrong("cleanup.policy", policy, if compacts { "delete" } else { "compact" }));
        }
    }
    match value("max.message.bytes") {
        Some(bytes) if bytes.parse().is_ok_and(|bytes: usize| bytes < largest()) => {
            Err(wrong("max.message.bytes", bytes, &format!("at least {}", largest())))
        }
        Some(_) | None => Ok(()),
    }
}

fn request() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(PATIENCE)).operation_timeout(Some(PATIENCE))
}

fn answered(what: &str, answer: KafkaResult<Vec<TopicResult>>) -> Result<(), MigrateError> {
    let refused = |reason: String| MigrateError::Refused { what: what.to_owned(), reason };
    for topic in answer.map_err(|error| refused(error.to_string()))? {
        if let Err((_, code)) = topic
            // Somebody else was faster.
            && code != RDKafkaErrorCode::TopicAlreadyExists
        {
            return Err(refused(code.to_string()));
        }
    }
    Ok(())
}
