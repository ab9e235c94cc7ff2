//! What topics and groups are called.

use crate::log::{Group, Topic};

use super::Options;

impl Options {
    /// The name of `topic`; `None` for a source that is not configured.
    pub(super) fn topic(&self, topic: Topic) -> Option<String> {
        let name = match topic {
            Topic::Events => "events",
            Topic::Deliveries => "deliveries",
            Topic::DeadLetters => "dead-letters",
            Topic::Jobs(kind) => return Some(format!("{}jobs.{}", self.prefix, kind.name())),
            Topic::Config => "config",
            Topic::Live => "live",
            Topic::Source(index) => return self.sources.get(usize::from(index)).cloned(),
        };
        Some(format!("{}{name}", self.prefix))
    }

    /// The name of `group` as reader of the topic called `topic`. Each topic has a group of its own, so that a
    /// rebalance of one does not touch the others.
    pub(super) fn group(&self, group: Group, topic: &str) -> String {
        let name = match group {
            Group::Router => "router",
            Group::Deliver => "deliver",
            Group::Compute => "compute",
        };
        let topic = topic.strip_prefix(&self.prefix).unwrap_or(topic);
        format!("{}{name}.{topic}", self.prefix)
    }
}
