//! Which kinds of jobs this machine can take and do, and why not the others.

use std::path::Path;

use postrider_backend::log::Topic;
use postrider_core::job::JobKind;
use postrider_core::time::Millis;
use postrider_egress::{Guard, Target, check_url};
use postrider_speech::Espeak;

/// Longest name of a kind, in bytes.
pub const MAX_KIND: usize = 64;

/// A sort of work, whoever does it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// This program does.
    BuiltIn(JobKind),
    /// Workers outside do. Its place among the configured ones.
    Outside(u16),
}

impl Kind {
    /// Where its jobs wait.
    pub fn topic(self) -> Topic {
        match self {
            Kind::BuiltIn(kind) => Topic::Jobs(kind),
            Kind::Outside(index) => Topic::Outside(index),
        }
    }
}

/// A sort of work that programs of others do, over Kafka.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutsideKind {
    /// See [`wrong_kind`].
    pub name: String,
    /// A job has failed of which nothing was heard for so long.
    pub patience: Millis,
}

/// What is wrong with the name of a kind that workers outside do, if anything: it becomes part of a topic's name.
pub fn wrong_kind(name: &str) -> Option<String> {
    let is_plain = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'_' | b'-'));
    match JobKind::named(name) {
        Some(_) => Some("is a kind that postrider does itself".to_owned()),
        None if !is_plain || name.is_empty() || name.len() > MAX_KIND => Some(format!("must be 1 to {MAX_KIND} of a-z, 0-9, _ and -")),
        None => None,
    }
}

/// What kinds need beside this program.
#[derive(Clone, Debug)]
pub struct Kinds {
    /// What speaks, for `tts`; or else what to install or configure.
    pub speech: Result<Speech, String>,
    /// Whether a model is configured for the metric `bert_score`.
    pub bert: Bert,
    /// What may be called.
    pub guard: Guard,
    /// What workers outside do.
    pub outside: Vec<OutsideKind>,
    /// Whether kinds can be done that ask an upstream; or else what to configure.
    pub upstream: Result<(), String>,
}

/// What speaks texts.
#[derive(Clone, Debug)]
pub enum Speech {
    /// The program of this machine.
    Espeak(Espeak),
    /// The upstream.
    Upstream {
        /// Its model.
        model: String,
        /// The voice where a job names none.
        voice: String,
    },
}

/// Whether `bert_score` can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bert {
    /// It can.
    Configured,
    /// No model's folder is named.
    Missing,
}

impl Kinds {
    /// Reads a URL that is to be called for a job; or says why it can't be.
    pub(super) fn target(&self, url: &str) -> Result<Target, String> {
        let target = check_url(url).map_err(|error| error.to_string())?;
        match target.literal().is_none_or(|address| self.guard.permits(address)) {
            true => Ok(target),
            false => {
                Err("leads to a private, local or reserved address; the operator can permit it with the setting [egress] allow".to_owned())
            }
        }
    }

    /// The kind of that name.
    pub fn named(&self, name: &str) -> Option<Kind> {
        let outside = || self.outside.iter().zip(0..).find(|(kind, _)| kind.name == name).map(|(_, index)| Kind::Outside(index));
        JobKind::named(name).map(Kind::BuiltIn).or_else(outside)
    }

    /// What workers outside do under that name.
    pub fn outside(&self, name: &str) -> Option<&OutsideKind> {
        self.outside.iter().find(|kind| kind.name == name)
    }

    /// The names of all kinds.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let built_in = JobKind::ALL.into_iter().map(|kind| -> &str { kind.name() });
        built_in.chain(self.outside.iter().map(|kind| kind.name.as_str()))
    }

    /// As requests and rows call it.
    pub fn name(&self, kind: Kind) -> &str {
        match kind {
            Kind::BuiltIn(kind) => kind.name(),
            Kind::Outside(index) => &self.outside[usize::from(index)].name,
        }
    }

    /// The kinds that are done here, or seen to.
    pub fn available(&self) -> impl Iterator<Item = Kind> {
        let here = JobKind::ALL.into_iter().filter(|kind| self.unavailable(*kind).is_none()).map(Kind::BuiltIn);
        here.chain((0..self.outside.len()).filter_map(|index| u16::try_from(index).ok()).map(Kind::Outside))
    }

    /// Looks for the program that speaks: of that name, or at that path. Errors: what to install.
    ///
    /// Needs a Tokio runtime. Ends within seconds.
    pub async fn find_espeak(program: &Path) -> Result<Speech, String> {
        Espeak::find(Some(program)).await.map(Speech::Espeak).map_err(|error| error.to_string())
    }

    /// Why jobs of `kind` can be neither taken nor done here, if so.
    pub fn unavailable(&self, kind: JobKind) -> Option<&str> {
        match kind {
            JobKind::Evaluate | JobKind::Http => None,
            JobKind::Tts => self.speech.as_ref().err().map(String::as_str),
            JobKind::Generate | JobKind::Experiment | JobKind::Batch => self.upstream.as_ref().err().map(String::as_str),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_outside_has_a_name_that_can_be_part_of_a_topics() {
        for good in ["transcribe", "a", "ocr-2_x", &"k".repeat(MAX_KIND)] {
            assert_eq!(wrong_kind(good), None, "{good}");
        }
        for bad in ["", "Transcribe", "a.b", "a b", "../x", "é", "a\n", "tts", "http", &"k".repeat(MAX_KIND + 1)] {
            assert!(wrong_kind(bad).is_some(), "{bad}");
        }
    }
}
