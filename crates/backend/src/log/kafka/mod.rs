//! The log in Kafka: topics named after a prefix, one producer for the process, one reader for each group and topic.
//!
//! An [`Offset`](postrider_core::offsets::Offset) is a record's own in its partition. A record is acknowledged when all in-sync replicas have it.
//! The group's progress in a partition is the offset that is committed, with what is finished above it as the
//! commit's metadata.
//!
//! Read [`Options`], `producer` (how appends are answered) and `hub` (how partitions come and go) first.

mod commits;
mod consumer;
mod context;
mod gate;
mod hub;
mod inbox;
mod lag;
mod migrate;
mod open;
mod options;
mod producer;
mod slot;
mod tail;
mod topics;
mod trouble;
mod wire;

pub use consumer::Consumer;
pub use migrate::{Grow, MigrateError, Migrated, Migration, migrate};
pub use open::{Log, OpenError};
pub use options::{MAX_RECORD, Options, PropertyError};
pub use tail::Tail;
