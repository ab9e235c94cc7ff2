//! The settings of command line and file, as they are given.

use std::path::{Path, PathBuf};

use clap::Args;
use serde::Deserialize;

use crate::fault::Fault;
use crate::scenario::{Backlog, ScenarioError, Target};
use crate::values::{Bad, Named, Percent, Rate, Span};

/// Settings as they are given; what is not given has a default.
#[derive(Clone, Debug, Default, Deserialize, Args)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settings {
    /// What the run is called in reports [default: the name of the scenario's file].
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// The server under test [default: http://127.0.0.1:8080].
    #[arg(long)]
    pub(crate) url: Option<String>,
    /// Key that may send events and manage endpoints; with --spawn one is made up.
    #[arg(long, env = "POSTRIDER_API_KEY", hide_env_values = true)]
    pub(crate) api_key: Option<String>,
    /// Process of the server, whose CPU and memory are measured.
    #[arg(long)]
    pub(crate) server_pid: Option<u32>,
    /// Command line that starts a process of the server, such as "postrider dev --data DIR --listen 127.0.0.1:PORT";
    /// the first serves the API, more may follow.
    #[arg(long)]
    #[serde(default)]
    pub(crate) spawn: Vec<String>,
    /// Instead of requests, lets this command produce the events: it reads each as a line of JSON from its standard
    /// input, such as "kcat -P -b HOST:PORT -t postrider.events". All but the first --spawn start once it has ended.
    #[arg(long)]
    pub(crate) produce: Option<String>,
    /// Starts this command first, sends it the events as fast as it takes them, and ends it; all of --spawn start
    /// afterwards. Such as "postrider serve --config FILE --roles api".
    #[arg(long)]
    pub(crate) fill: Option<String>,
    /// How many events wait when the processes start that are to work them off: with --produce or --fill, and one of
    /// them only.
    #[arg(long)]
    pub(crate) events: Option<u64>,
    /// Events a second, or `max`: every connection always busy [default: 1000].
    #[arg(long)]
    pub(crate) rate: Option<Rate>,
    /// Connections to the server, one request at a time on each [default: 64].
    #[arg(long)]
    pub(crate) connections: Option<usize>,
    /// Events per request; 1 sends single events [default: 1].
    #[arg(long)]
    pub(crate) batch: Option<usize>,
    /// Submits jobs instead of events, each the evaluation of one pair that calls back one of the endpoints.
    #[arg(long)]
    #[serde(default)]
    pub(crate) jobs: bool,
    /// Endpoints to register [default: 100].
    #[arg(long)]
    pub(crate) endpoints: Option<usize>,
    /// Shares of endpoints that misbehave, such as hang=5%,fail=5%,close=1%,slow=2%,throttle=1%,flap=1%.
    #[arg(long)]
    pub(crate) bad: Option<Bad>,
    /// Share of the events that one healthy endpoint gets, such as 50%; the rest is spread evenly [default: 0%].
    #[arg(long)]
    pub(crate) skew: Option<Percent>,
    /// What goes wrong when, and for how long: kill@WHEN+LENGTH ends a process of --spawn and starts it again,
    /// freeze@… stops and continues it, outage@… lets no receiver answer. WHEN counts from the end of the warm-up; the
    /// last process is meant, or kill:0@… the first. May be given repeatedly.
    #[arg(long = "fault")]
    #[serde(default)]
    pub(crate) faults: Vec<Fault>,
    /// What a healthy endpoint takes to answer, in milliseconds [default: 0].
    #[arg(long)]
    pub(crate) delay: Option<u64>,
    /// Size of an event's `data`, in bytes [default: 1024].
    #[arg(long)]
    pub(crate) payload_bytes: Option<usize>,
    /// How long is measured, such as 30s [default: 30s].
    #[arg(long)]
    pub(crate) duration: Option<Span>,
    /// Load before that, not measured [default: 5s].
    #[arg(long)]
    pub(crate) warmup: Option<Span>,
    /// How long overdue events are still sent afterwards, and again how long the rest may take to arrive [default: 60s].
    #[arg(long)]
    pub(crate) drain_timeout: Option<Span>,
    /// A folder whose size is measured, such as the server's data.
    #[arg(long)]
    pub(crate) disk: Option<PathBuf>,
    /// Another process whose CPU is measured, such as kafka=PID. May be given repeatedly.
    #[arg(long)]
    #[serde(default)]
    pub(crate) watch: Vec<Named>,
    /// Where the result is written, as JSON.
    #[arg(long)]
    pub(crate) out: Option<PathBuf>,
    /// Decides which endpoints are bad and where each event goes [default: 1].
    #[arg(long)]
    pub(crate) seed: Option<u64>,
}

impl Settings {
    /// Reads a scenario file; the run is called like it.
    pub(crate) fn read(file: &Path) -> Result<Settings, ScenarioError> {
        let text = std::fs::read_to_string(file).map_err(|source| ScenarioError::Unreadable { file: file.to_owned(), source })?;
        let settings: Settings = toml::from_str(&text).map_err(|source| ScenarioError::Invalid { file: file.to_owned(), source })?;
        let stem = || file.file_stem().map(|stem| stem.to_string_lossy().into_owned());
        Ok(Settings { name: settings.name.or_else(stem), ..settings })
    }

    /// These settings, and those of `file` for what is not given here.
    pub(crate) fn or(self, file: Settings) -> Settings {
        Settings {
            name: self.name.or(file.name),
            url: self.url.or(file.url),
            api_key: self.api_key.or(file.api_key),
            server_pid: self.server_pid.or(file.server_pid),
            spawn: if self.spawn.is_empty() { file.spawn } else { self.spawn },
            produce: self.produce.or(file.produce),
            fill: self.fill.or(file.fill),
            events: self.events.or(file.events),
            rate: self.rate.or(file.rate),
            connections: self.connections.or(file.connections),
            batch: self.batch.or(file.batch),
            jobs: self.jobs || file.jobs,
            endpoints: self.endpoints.or(file.endpoints),
            bad: self.bad.or(file.bad),
            skew: self.skew.or(file.skew),
            faults: if self.faults.is_empty() { file.faults } else { self.faults },
            delay: self.delay.or(file.delay),
            payload_bytes: self.payload_bytes.or(file.payload_bytes),
            duration: self.duration.or(file.duration),
            warmup: self.warmup.or(file.warmup),
            drain_timeout: self.drain_timeout.or(file.drain_timeout),
            disk: self.disk.or(file.disk),
            watch: if self.watch.is_empty() { file.watch } else { self.watch },
            out: self.out.or(file.out),
            seed: self.seed.or(file.seed),
        }
    }

    /// What waits when the run begins.
    pub(crate) fn backlog(&self) -> Result<Option<Backlog>, ScenarioError> {
        let backlog = match (self.produce.clone(), self.fill.clone(), self.events) {
            (None, None, None) => return Ok(None),
            (Some(command), None, Some(events)) => Backlog::Produced { command, events },
            (None, Some(command), Some(events)) => Backlog::Filled { command, events },
            (Some(_), Some(_), _) | (None, None, Some(_)) | (Some(_), None, None) | (None, Some(_), None) => {
                return Err(ScenarioError::HalfABacklog);
            }
        };
        Ok(Some(backlog))
    }

    /// Which server is loaded.
    pub(crate) fn target(&self) -> Result<Target, ScenarioError> {
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
