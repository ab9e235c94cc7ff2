//! What topics and groups are called.

use crate::log::{Group, Topic};

use super::Options;

impl Options {
    /// The topics that are postrider's own.
    pub(super) fn ours(&self) -> impl Iterator<Item = Topic> {
        let outside = (0..self.outside.len()).filter_map(|index| u16::try_from(index).ok()).map(Topic::Outside);
        Topic::ALL.into_iter().chain(outside).chain([Topic::JobResults, Topic::Config, Topic::Live])
    }

    /// The name of `topic`; `None` for a source or a kind that is not configured.
    pub(super) fn topic(&self, topic: Topic) -> Option<String> {
        let name = match topic {
            Topic::Events => "events",
            Topic::Deliveries => "deliveries",
            Topic::DeadLetters => "dead-letters",
            Topic::Jobs(kind) => return Some(format!("{}jobs.{}", self.prefix, kind.name())),
            Topic::Outside(index) => {
                let kind = self.outside.get(usize::from(index))?;
                return Some(format!("{}jobs.{kind}", self.prefix));
            }
            Topic::JobResults => "job-results",
            Topic::Config => "config",
            Topic::Live => "live",
            Topic::Source(index) => return self.sources.get(usize::from(index)).cloned(),
        };
        Some(format!("{}{name}", self.prefix))
    }

    /// The name of `group` as reader of the topic called `topic`. Each topic has a group of its own, so that a
    /// rebalance of one does not touch the others.
    pub(super) fn group(&self, group: Group, topic: &str) -> String {
        let topic = topic.strip_prefix(&self.prefix).unwrap_or(topic);
        format!("{}{}.{topic}", self.prefix, group.name())
    }
}
