//! What to run, checked.

use std::path::PathBuf;
use std::time::Duration;

use crate::fault::{self, Fault, FaultError};
use crate::ledger::MAX_EVENTS;
use crate::payload::MIN_BYTES;
use crate::settings::Settings;
use crate::values::{Bad, Named, Percent, Rate, Span};

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
    /// A backlog needs a number of events and one way to make it.
    #[error("events, with either produce or fill, makes a backlog; give the number and one of the two")]
    HalfABacklog,
    /// A backlog is worked off by processes that start once it is there.
    #[error("fill needs spawn: the processes that work off what it was filled with")]
    FillAlone,
    /// One of several event types can't have half of the load.
    #[error("skew needs two endpoints or more")]
    SkewAlone,
    /// A fault can't be carried out.
    #[error(transparent)]
    Fault(#[from] FaultError),
    /// There is no key.
    #[error("no API key: give --api-key or set POSTRIDER_API_KEY")]
    NoApiKey,
}

/// What to run, checked.
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    /// What it is called in reports.
    pub(crate) name: String,
    /// The server under test.
    pub(crate) target: Target,
    /// Events that wait already when the measured window begins.
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
    /// Share of the events that one endpoint gets beside its even part of the rest.
    pub(crate) skew: Percent,
    /// What goes wrong in the measured window.
    pub(crate) faults: Vec<Fault>,
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
    /// A folder whose size is measured.
    pub(crate) disk: Option<PathBuf>,
    /// Processes that are none of the server's and measured, too.
    pub(crate) watch: Vec<Named>,
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

/// Events that are there before the processes that work them off.
#[derive(Clone, Debug)]
pub(crate) enum Backlog {
    /// A program writes them to where the server reads them.
    Produced {
        /// Reads one event a line from its standard input.
        command: String,
        /// How many it is given.
        events: u64,
    },
    /// A process of the server accepts them and is ended before it, or any other, delivers them.
    Filled {
        /// Its command line.
        command: String,
        /// How many it is sent.
        events: u64,
    },
}

impl Target {
    /// How many processes are started for the run.
    fn commands(&self) -> usize {
        match self {
            Target::Running { .. } => 0,
            Target::Spawned { commands, .. } => commands.len(),
        }
    }
}

impl Backlog {
    /// How many events there are.
    pub(crate) fn events(&self) -> u64 {
        match self {
            Backlog::Produced { events, .. } | Backlog::Filled { events, .. } => *events,
        }
    }

    /// The command of the process that accepts them, where one does.
    pub(crate) fn filler(&self) -> Option<&str> {
        match self {
            Backlog::Produced { .. } => None,
            Backlog::Filled { command, .. } => Some(command),
        }
    }
}

impl TryFrom<Settings> for Scenario {
    type Error = ScenarioError;

    fn try_from(given: Settings) -> Result<Scenario, ScenarioError> {
        let span = |span: Option<Span>, default| span.map_or(Duration::from_secs(default), |span| span.0);
        let scenario = Scenario {
            target: given.target()?,
            backlog: given.backlog()?,
            name: given.name.unwrap_or_else(|| "load".to_owned()),
            rate: given.rate.unwrap_or(Rate::PerSecond(1000)),
            connections: given.connections.unwrap_or(64),
            work: if given.jobs { Work::Jobs } else { Work::Events },
            batch: given.batch.unwrap_or(1),
            endpoints: given.endpoints.unwrap_or(100),
            bad: given.bad.unwrap_or_default(),
            skew: given.skew.unwrap_or_default(),
            faults: given.faults,
            delay: Duration::from_millis(given.delay.unwrap_or(0)),
            payload_bytes: given.payload_bytes.unwrap_or(1024),
            duration: span(given.duration, 30),
            warmup: span(given.warmup, 5),
            drain_timeout: span(given.drain_timeout, 60),
            disk: given.disk,
            watch: given.watch,
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
        let processes = scenario.target.commands();
        match &scenario.backlog {
            Some(Backlog::Produced { .. }) if processes < 2 => return Err(ScenarioError::ProduceAlone),
            Some(Backlog::Filled { .. }) if processes < 1 => return Err(ScenarioError::FillAlone),
            Some(backlog) => within("events", backlog.events(), 1, MAX_EVENTS)?,
            None => {}
        }
        if scenario.skew.0 > 0.0 && scenario.endpoints < 2 {
            return Err(ScenarioError::SkewAlone);
        }
        fault::check(&scenario.faults, processes, scenario.backlog.is_none().then_some(scenario.duration))?;
        match scenario.rate {
            Rate::PerSecond(rate) if scenario.backlog.is_none() => {
                let seconds = (scenario.warmup + scenario.duration).as_secs();
                within("events of the whole run", u64::from(rate).saturating_mul(seconds), 1, MAX_EVENTS)?;
            }
            Rate::PerSecond(_) | Rate::Max => {}
        }
        Ok(scenario)
    }
}

fn within(name: &'static str, given: u64, least: u64, most: u64) -> Result<(), ScenarioError> {
    if (least..=most).contains(&given) { Ok(()) } else { Err(ScenarioError::OutOfRange { name, least, most, given }) }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

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
        assert!(refused("spawn = [\"x\"]\nproduce = \"kcat\"\nevents = 5").contains("two or more"));
        assert!(refused("api_key = \"k\"\nfill = \"x\"\nevents = 5").contains("fill needs spawn"));
        assert!(refused("api_key = \"k\"\nfill = \"x\"").contains("makes a backlog"));
        assert!(refused("spawn = [\"x\"]\nevents = 5").contains("makes a backlog"));
        assert!(refused("spawn = [\"x\"]\nfill = \"x\"\nevents = 0").contains("events must be from 1"));
        assert!(refused("api_key = \"k\"\nfaults = [\"kill@1s+1s\"]").contains("needs a process"));
        assert!(refused("api_key = \"k\"\nskew = \"50%\"\nendpoints = 1").contains("two endpoints"));
        assert!(refused("api_key = \"k\"\nbatch = 1001").contains("batch must be from 1 to 1000, not 1001"));
        assert!(refused("api_key = \"k\"\npayload_bytes = 3").contains("payload_bytes"));
        assert!(refused("api_key = \"k\"\nduration = \"10ms\"").contains("duration"));
        assert!(refused("api_key = \"k\"\nrate = 1000000\nduration = \"100m\"").contains("events of the whole run"));
    }
}
