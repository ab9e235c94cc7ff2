//! What to run: the settings of command line and file, and the checked scenario made from them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use serde::Deserialize;

use crate::ledger::MAX_EVENTS;
use crate::payload::MIN_BYTES;
use crate::values::{Bad, Rate, Span};

/// Settings as they are given; what is not given has a default.
#[derive(Clone, Debug, Default, Deserialize, Args)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settings {
    /// The server under test [default: http://127.0.0.1:8080].
    #[arg(long)]
    url: Option<String>,
    /// Key that may send events and manage endpoints; with --spawn one is made up.
    #[arg(long, env = "POSTRIDER_API_KEY", hide_env_values = true)]
    api_key: Option<String>,
    /// Process of the server, whose CPU and memory are measured.
    #[arg(long)]
    server_pid: Option<u32>,
    /// Command line that starts a process of the server, such as "postrider dev --data DIR --listen 127.0.0.1:PORT";
    /// the first serves the API, more may follow.
    #[arg(long)]
    #[serde(default)]
    spawn: Vec<String>,
    /// Instead of requests, lets this command produce the events: it reads each as a line of JSON from its standard
    /// input, such as "kcat -P -b HOST:PORT -t postrider.events". All but the first --spawn start once it has ended.
    #[arg(long)]
    produce: Option<String>,
    /// How many events it produces [default: 1000000].
    #[arg(long)]
    events: Option<u64>,
    /// Events a second, or `max`: every connection always busy [default: 1000].
    #[arg(long)]
    rate: Option<Rate>,
    /// Connections to the server, one request at a time on each [default: 64].
    #[arg(long)]
    connections: Option<usize>,
    /// Events per request; 1 sends single events [default: 1].
    #[arg(long)]
    batch: Option<usize>,
    /// Submits jobs instead of events, each the evaluation of one pair that calls back one of the endpoints.
    #[arg(long)]
    #[serde(default)]
    jobs: bool,
    /// Endpoints to register [default: 100].
    #[arg(long)]
    endpoints: Option<usize>,
    /// Shares of endpoints that misbehave, such as hang=5%,fail=5%,close=1%,slow=2%,throttle=1%,flap=1%.
    #[arg(long)]
    bad: Option<Bad>,
    /// What a healthy endpoint takes to answer, in milliseconds [default: 0].
    #[arg(long)]
    delay: Option<u64>,
    /// Size of an event's `data`, in bytes [default: 1024].
    #[arg(long)]
    payload_bytes: Option<usize>,
    /// How long is measured, such as 30s [default: 30s].
    #[arg(long)]
    duration: Option<Span>,
    /// Load before that, not measured [default: 5s].
    #[arg(long)]
    warmup: Option<Span>,
    /// How long overdue events are still sent afterwards, and again how long the rest may take to arrive [default: 60s].
    #[arg(long)]
    drain_timeout: Option<Span>,
    /// Where the result is written, as JSON.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Decides which endpoints are bad and where each event goes [default: 1].
    #[arg(long)]
    seed: Option<u64>,
}

/// Why there is nothing to run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ScenarioError {
    /// The file can't be read.
    #[error("cannot read scenario {file}: {source}")]
    Unreadable {
        /// Its path.
        file: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not TOML, or has settings that don't exist.
    #[error("scenario {file}: {source}")]
    Invalid {
        /// Its path.
        file: PathBuf,
        /// What is wrong, with its line.
        source: toml::de::Error,
    },
    /// A setting is outside its limits.
    #[error("{name} must be from {least} to {most}, not {given}")]
    OutOfRange {
        /// The setting.
        name: &'static str,
        /// The smallest that is allowed.
        least: u64,
        /// The largest that is allowed.
        most: u64,
        /// What was given.
        given: u64,
    },
    /// Two settings exclude each other.
    #[error("spawn starts a server of its own and cannot be combined with {0}")]
    SpawnAnd(&'static str),
    /// A backlog is worked off by processes that start once it is there.
    #[error("produce needs two or more of spawn: one that serves the API, and those that work off what is produced")]
    ProduceAlone,
    /// There is no key.
    #[error("no API key: give --api-key or set POSTRIDER_API_KEY")]
    NoApiKey,
}

/// What to run, checked.
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    /// The server under test.
    pub(crate) target: Target,
    /// What produces the events ahead, where they are not sent as requests.
    pub(crate) backlog: Option<Backlog>,
    /// How fast events are due.
    pub(crate) rate: Rate,
    /// Connections to the server.
    pub(crate) connections: usize,
    /// What is sent.
    pub(crate) work: Work,
    /// Events per request.
    pub(crate) batch: usize,
    /// Endpoints to register.
    pub(crate) endpoints: usize,
    /// Shares of endpoints that are not healthy.
    pub(crate) bad: Bad,
    /// What a healthy endpoint takes to answer.
    pub(crate) delay: Duration,
    /// Size of an event's `data`.
    pub(crate) payload_bytes: usize,
    /// How long is measured.
    pub(crate) duration: Duration,
    /// Load before that.
    pub(crate) warmup: Duration,
    /// How long overdue events are still sent, and again how long the rest may take to arrive.
    pub(crate) drain_timeout: Duration,
    /// Where the result is written.
    pub(crate) out: Option<PathBuf>,
    /// Decides everything that is left to chance.
    pub(crate) seed: u64,
}

/// What is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    /// Events, each to one endpoint.
    Events,
    /// Jobs, each of which calls one endpoint back.
    Jobs,
}

/// Which server is loaded.
#[derive(Clone, Debug)]
pub(crate) enum Target {
    /// One that runs already.
    Running {
        /// `http://HOST:PORT`.
        url: String,
        /// A key that may send and manage.
        api_key: String,
        /// Its process, where it is to be measured.
        pid: Option<u32>,
    },
    /// One that is started for the run and ended after it; at least one command.
    Spawned {
        /// The command lines of its processes; the first serves the API.
        commands: Vec<String>,
        /// The key it is given; one is made up where it is `None`.
        api_key: Option<String>,
    },
}

/// Events that somebody else produces before the processes that work them off are started.
#[derive(Clone, Debug)]
pub(crate) struct Backlog {
    /// Reads one event a line from its standard input.
    pub(crate) command: String,
    /// How many it is given.
    pub(crate) events: u64,
}

impl Settings {
    /// Reads a scenario file.
    pub(crate) fn read(file: &Path) -> Result<Settings, ScenarioError> {
        let text = std::fs::read_to_string(file).map_err(|source| ScenarioError::Unreadable { file: file.to_owned(), source })?;
        toml::from_str(&text).map_err(|source| ScenarioError::Invalid { file: file.to_owned(), source })
    }

    /// These settings, and those of `file` for what is not given here.
    pub(crate) fn or(self, file: Settings) -> Settings {
        Settings {
            url: self.url.or(file.url),
            api_key: self.api_key.or(file.api_key),
            server_pid: self.server_pid.or(file.server_pid),
            spawn: if self.spawn.is_empty() { file.spawn } else { self.spawn },
            produce: self.produce.or(file.produce),
            events: self.events.or(file.events),
            rate: self.rate.or(file.rate),
            connections: self.connections.or(file.connections),
            batch: self.batch.or(file.batch),
            jobs: self.jobs || file.jobs,
            endpoints: self.endpoints.or(file.endpoints),
            bad: self.bad.or(file.bad),
            delay: self.delay.or(file.delay),
            payload_bytes: self.payload_bytes.or(file.payload_bytes),
            duration: self.duration.or(file.duration),
            warmup: self.warmup.or(file.warmup),
            drain_timeout: self.drain_timeout.or(file.drain_timeout),
            out: self.out.or(file.out),
            seed: self.seed.or(file.seed),
        }
    }

    fn target(&self) -> Result<Target, ScenarioError> {
        let api_key = self.api_key.clone();
        if !self.spawn.is_empty() {
            let conflict = self.url.as_ref().map(|_| "url").or(self.server_pid.map(|_| "server_pid"));
            let commands = self.spawn.clone();
            return conflict.map_or(Ok(Target::Spawned { commands, api_key }), |name| Err(ScenarioError::SpawnAnd(name)));
        }
        let url = self.url.clone().unwrap_or_else(|| "http://127.0.0.1:8080".to_owned());
        Ok(Target::Running { url, api_key: api_key.ok_or(ScenarioError::NoApiKey)?, pid: self.server_pid })
    }
}

impl TryFrom<Settings> for Scenario {
    type Error = ScenarioError;

    fn try_from(given: Settings) -> Result<Scenario, ScenarioError> {
        let span = |span: Option<Span>, default| span.map_or(Duration::from_secs(default), |span| span.0);
        let scenario = Scenario {
            target: given.target()?,
            backlog: given.produce.map(|command| Backlog { command, events: given.events.unwrap_or(1_000_000) }),
            rate: given.rate.unwrap_or(Rate::PerSecond(1000)),
            connections: given.connections.unwrap_or(64),
            work: if given.jobs { Work::Jobs } else { Work::Events },
            batch: given.batch.unwrap_or(1),
            endpoints: given.endpoints.unwrap_or(100),
            bad: given.bad.unwrap_or_default(),
            delay: Duration::from_millis(given.delay.unwrap_or(0)),
            payload_bytes: given.payload_bytes.unwrap_or(1024),
            duration: span(given.duration, 30),
            warmup: span(given.warmup, 5),
            drain_timeout: span(given.drain_timeout, 60),
            out: given.out,
            seed: given.seed.unwrap_or(1),
        };
        within("connections", scenario.connections as u64, 1, 10_000)?;
        within("batch", scenario.batch as u64, 1, 1_000)?;
        within("endpoints", scenario.endpoints as u64, 1, 100_000)?;
        within("delay", scenario.delay.as_millis() as u64, 0, 60_000)?;
        within("payload_bytes", scenario.payload_bytes as u64, MIN_BYTES as u64, 1_000_000)?;
        within("duration in seconds", scenario.duration.as_secs(), 1, 86_400)?;
        if scenario.work == Work::Jobs {
            within("batch, of jobs,", scenario.batch as u64, 1, 1)?;
        }
        if let Some(Backlog { events, .. }) = scenario.backlog {
            within("events", events, 1, MAX_EVENTS)?;
            if !matches!(&scenario.target, Target::Spawned { commands, .. } if commands.len() > 1) {
                return Err(ScenarioError::ProduceAlone);
            }
        }
        match scenario.rate {
            Rate::PerSecond(rate) => {
                let seconds = (scenario.warmup + scenario.duration).as_secs();
                within("events of the whole run", u64::from(rate).saturating_mul(seconds), 1, MAX_EVENTS)?;
            }
            Rate::Max => {}
        }
        Ok(scenario)
    }
}

fn within(name: &'static str, given: u64, least: u64, most: u64) -> Result<(), ScenarioError> {
    if (least..=most).contains(&given) { Ok(()) } else { Err(ScenarioError::OutOfRange { name, least, most, given }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> Settings {
        toml::from_str(text).expect("a valid scenario")
    }

    #[test]
    fn the_command_line_overrides_the_file_and_defaults_fill_the_rest() {
        let line = Settings { rate: Some(Rate::Max), api_key: Some("k".to_owned()), ..Settings::default() };
        let scenario = Scenario::try_from(line.or(file("rate = 5\nendpoints = 3\nbad = \"fail=10%\"\nduration = \"2s\""))).expect("valid");
        assert_eq!((scenario.rate, scenario.endpoints, scenario.connections), (Rate::Max, 3, 64));
        assert_eq!((scenario.duration, scenario.warmup), (Duration::from_secs(2), Duration::from_secs(5)));
        assert_eq!(scenario.bad, "fail=10%".parse().expect("valid"));
    }

    #[test]
    fn a_file_with_unknown_or_unreadable_settings_is_refused_in_words() {
        for (text, words) in
            [("rte = 5", "unknown field `rte`"), ("rate = \"fast\"", "is not a rate"), ("bad = \"eat=1%\"", "known are slow")]
        {
            let error = toml::from_str::<Settings>(text).expect_err(text).to_string();
            assert!(error.contains(words), "{error}");
        }
        assert!(matches!(Settings::read(Path::new("/nowhere/at/all")), Err(ScenarioError::Unreadable { .. })));
    }

    #[test]
    fn what_contradicts_or_exceeds_the_limits_is_refused() {
        let refused = |text: &str| Scenario::try_from(file(text)).expect_err(text).to_string();
        assert!(refused("").contains("no API key"));
        assert!(refused("spawn = [\"x\"]\nurl = \"http://h\"").contains("combined with url"));
        assert!(refused("spawn = [\"x\"]\nproduce = \"kcat\"").contains("two or more"));
        assert!(refused("api_key = \"k\"\nbatch = 1001").contains("batch must be from 1 to 1000, not 1001"));
        assert!(refused("api_key = \"k\"\npayload_bytes = 3").contains("payload_bytes"));
        assert!(refused("api_key = \"k\"\nduration = \"10ms\"").contains("duration"));
        assert!(refused("api_key = \"k\"\nrate = 1000000\nduration = \"100m\"").contains("events of the whole run"));
    }
}
