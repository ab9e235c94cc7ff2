//! The configuration: defaults, a file, the environment, in this order.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use figment::Figment;
use figment::error::Kind;
use figment::providers::{Env, Format as _, Serialized, Toml};
use ipnet::IpNet;
use postrider_core::job::JobKind;
use postrider_core::pattern::check_type;
use postrider_core::secret::Secret;
use postrider_core::time::Millis;
use postrider_ingest::jobs::{OutsideKind, wrong_kind};
use postrider_ingest::{self as ingest, Reading, TypeOf};
use postrider_spans::SpanOptions;
use postrider_upstream::UpstreamOptions;
use serde::{Deserialize, Serialize};

use crate::failure::Failure;

/// Every key with its default and what it means.
pub(crate) const DEFAULTS: &str = include_str!("default.toml");

/// A batch that goes on for longer than its day, and the time to write its files, has failed.
const BATCH_LIMIT: Duration = Duration::from_secs(26 * 3600);
/// How long a job may run, in seconds.
const TIMEOUTS: RangeInclusive<u64> = 1..=86_400;
/// What the names of librdkafka's properties have in them whose values nobody is to see.
const SECRET_PROPERTIES: [&str; 7] = ["password", "passphrase", "secret", "ssl.key", "private.key", "oauthbearer.config", "jaas"];
/// What is text, however much like a number it looks in the environment.
const TEXTS: [&str; 8] = [
    "auth.bootstrap_key",
    "kafka.instance_id",
    "scylla.username",
    "scylla.password",
    "upstream.api_key",
    "otlp.service_name",
    "blobs.access_key_id",
    "blobs.secret_access_key",
];
/// The tables whose keys are not ours to name.
const FREE: [&str; 3] = ["jobs.timeouts.", "kafka.properties.", "otlp.headers."];
/// Most kinds of jobs that workers outside do.
const MAX_OUTSIDE: usize = 32;
const KEY_VARIABLE: &str = "POSTRIDER_API_KEY";
const KEY_FILE: &str = "api-key";

/// All settings; `default.toml` says what each means.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    pub(crate) backend: Backend,
    pub(crate) sources: Vec<Source>,
    pub(crate) server: Server,
    pub(crate) data: Data,
    pub(crate) kafka: Kafka,
    pub(crate) scylla: Scylla,
    pub(crate) blobs: Blobs,
    pub(crate) jobs: Jobs,
    pub(crate) evaluate: Evaluate,
    pub(crate) tts: Tts,
    pub(crate) http: Http,
    pub(crate) upstream: Upstream,
    pub(crate) batch: Batch,
    pub(crate) limits: Limits,
    pub(crate) auth: Auth,
    pub(crate) egress: Egress,
    pub(crate) tracing: Tracing,
    pub(crate) otlp: Otlp,
}

/// `backend`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Backend {
    /// Log and store in a folder of this machine.
    Embedded,
    /// Kafka and ScyllaDB.
    Cluster,
}

/// One of `[[sources]]`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Source {
    pub(crate) topic: String,
    pub(crate) tenant: String,
    pub(crate) format: SourceFormat,
    pub(crate) event_type: Option<String>,
}

/// What the values of a source are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum SourceFormat {
    /// An event, or its data.
    Json,
    /// CloudEvents.
    CloudEvents,
}

impl Source {
    /// How its records are read.
    pub(crate) fn reading(&self) -> Reading {
        let format = match (self.format, &self.event_type) {
            (SourceFormat::CloudEvents, _) => ingest::Format::CloudEvent,
            (SourceFormat::Json, None) => ingest::Format::Event,
            (SourceFormat::Json, Some(at)) if at.starts_with('/') => ingest::Format::Data(TypeOf::Pointer(at.clone())),
            (SourceFormat::Json, Some(fixed)) => ingest::Format::Data(TypeOf::Fixed(fixed.clone())),
        };
        Reading { tenant: Some(self.tenant.clone()), format }
    }
}

/// `[server]`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Server {
    pub(crate) listen: SocketAddr,
    pub(crate) public_url: String,
    pub(crate) admin_listen: AdminAddress,
    pub(crate) roles: Vec<Role>,
    pub(crate) workers: usize,
    pub(crate) drain_seconds: u64,
}

/// An address, or none.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AdminAddress(pub(crate) Option<SocketAddr>);

impl<'de> Deserialize<'de> for AdminAddress {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<AdminAddress, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text.is_empty() {
            return Ok(AdminAddress(None));
        }
        let address = text.parse().map_err(|error| serde::de::Error::custom(format!("`{text}` is no address and port: {error}")))?;
        Ok(AdminAddress(Some(address)))
    }
}

impl Serialize for AdminAddress {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0.map(|address| address.to_string()).unwrap_or_default())
    }
}

/// What a process does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Role {
    /// Takes requests.
    Api,
    /// Routes events that the API left to it.
    Router,
    /// Sends deliveries.
    Deliver,
    /// Does jobs.
    Compute,
}

impl Role {
    /// As the configuration and metrics call it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Role::Api => "api",
            Role::Router => "router",
            Role::Deliver => "deliver",
            Role::Compute => "compute",
        }
    }
}

/// `[data]`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Data {
    pub(crate) dir: PathBuf,
    pub(crate) partitions: u16,
    pub(crate) retention_days: u32,
    pub(crate) min_free_mib: u64,
    pub(crate) segment_mib: u64,
}

/// `[kafka]`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Kafka {
    pub(crate) brokers: String,
    pub(crate) prefix: String,
    pub(crate) partitions: u16,
    pub(crate) replication_factor: u16,
    pub(crate) instance_id: String,
    /// Some are passwords.
    pub(crate) properties: BTreeMap<String, Secret>,
}

/// `[scylla]`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Scylla {
    pub(crate) nodes: Vec<String>,
    pub(crate) keyspace: String,
    pub(crate) replication_factor: u16,
    pub(crate) username: String,
    pub(crate) password: Secret,
    pub(crate) ca: PathBuf,
    pub(crate) datacenter: String,
}

/// `[blobs]`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Blobs {
    pub(crate) url: String,
    pub(crate) endpoint: String,
    pub(crate) region: String,
    pub(crate) access_key_id: String,
    pub(crate) secret_access_key: Secret,
}

/// Where blobs lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum BlobPlace {
    /// In a folder.
    Folder(PathBuf),
    /// In a bucket of S3, under names that begin with `prefix`.
    Bucket { bucket: String, prefix: String },
}

/// `[jobs]`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Jobs {
    pub(crate) retention_days: u32,
    pub(crate) per_second: u32,
    pub(crate) timeout_seconds: u64,
    pub(crate) lease_seconds: u64,
    pub(crate) outside: Vec<Outside>,
    pub(crate) timeouts: BTreeMap<String, u64>,
}

/// One of `[[jobs.outside]]`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Outside {
    pub(crate) kind: String,
    pub(crate) timeout_seconds: u64,
}

impl Jobs {
    /// How long a job of a kind may run.
    pub(crate) fn timeout(&self, kind: JobKind) -> Duration {
        match kind {
            // It has a day, and ends in good order when it is over.
            JobKind::Batch => BATCH_LIMIT,
            _other => Duration::from_secs(self.timeouts.get(kind.name()).copied().unwrap_or(self.timeout_seconds)),
        }
    }

    /// What workers outside do.
    pub(crate) fn kinds_outside(&self) -> Vec<OutsideKind> {
        let kind =
            |Outside { kind, timeout_seconds }: &Outside| OutsideKind { name: kind.clone(), patience: Millis::from_secs(*timeout_seconds) };
        self.outside.iter().map(kind).collect()
    }
}

/// `[evaluate]`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Evaluate {
    pub(crate) bert_model: PathBuf,
    pub(crate) concurrency: usize,
    pub(crate) threads: usize,
}

/// `[tts]`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Tts {
    pub(crate) engine: Engine,
    pub(crate) model: String,
    pub(crate) voice: String,
    pub(crate) program: PathBuf,
    pub(crate) concurrency: usize,
}

/// `[http]`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Http {
    pub(crate) concurrency: usize,
}

/// What speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) enum Engine {
    /// The program of this machine.
    #[serde(rename = "espeak-ng")]
    Espeak,
    /// The upstream.
    #[serde(rename = "openai")]
    OpenAi,
}

/// `[upstream]`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Upstream {
    pub(crate) base_url: String,
    pub(crate) api_key: Secret,
    pub(crate) timeout_seconds: u64,
    pub(crate) idle_seconds: u64,
    pub(crate) tries: u32,
    pub(crate) concurrency: usize,
    pub(crate) monthly_tokens: u64,
}

/// `[batch]`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Batch {
    pub(crate) concurrency: usize,
    pub(crate) requests: usize,
    pub(crate) max_file_mib: u64,
}

/// `[limits]`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Limits {
    pub(crate) memory_mib: usize,
    pub(crate) in_flight: usize,
    pub(crate) connections: usize,
}

/// `[auth]`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Auth {
    pub(crate) bootstrap_key: Secret,
}

/// `[egress]`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Egress {
    pub(crate) allow: Vec<IpNet>,
    pub(crate) extra_ca: PathBuf,
}

/// `[tracing]`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Tracing {
    pub(crate) filter: String,
    pub(crate) format: Format,
}

/// `[otlp]`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Otlp {
    pub(crate) endpoint: String,
    pub(crate) sample_ratio: f64,
    pub(crate) service_name: String,
    pub(crate) timeout_seconds: u64,
    /// Most are keys.
    pub(crate) headers: BTreeMap<String, Secret>,
}

/// How logs look.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Format {
    /// For people.
    Text,
    /// For machines.
    Json,
}

impl Config {
    /// Merges defaults, `file` and the environment, and checks the whole. Errors name the key and where it came from.
    pub(crate) fn load(file: Option<&Path>) -> Result<Config, Failure> {
        let mut merged = Figment::from(Toml::string(DEFAULTS));
        if let Some(file) = file {
            let text = fs::read_to_string(file).with_context(|| format!("{} can't be read", file.display()))?;
            let table: toml::Table = text.parse().map_err(|error| Failure::Usage(malformed(file, &text, &error)))?;
            check_keys(&table, file)?;
            merged = merged.merge(Toml::string(&text));
        }
        merged = merged.merge(Env::prefixed("POSTRIDER__").split("__"));
        for key in TEXTS {
            let variable = format!("POSTRIDER__{}", key.to_uppercase().replace('.', "__"));
            if let Ok(text) = std::env::var(variable) {
                merged = merged.merge(Serialized::default(key, text));
            }
        }
        let mut config: Config = merged.extract().map_err(|error| Failure::Usage(explain(error)))?;
        if let Ok(key) = std::env::var(KEY_VARIABLE) {
            config.auth.bootstrap_key = Secret::new(key);
        }
        config.check()?;
        Ok(config)
    }

    /// For `demo`: everything in a temporary folder, on a free port, with receivers on this machine.
    pub(crate) fn for_demo(dir: &Path) -> Config {
        let mut config: Config = Figment::from(Toml::string(DEFAULTS)).extract().expect("the defaults are a configuration");
        config.data.dir = dir.to_owned();
        config.data.min_free_mib = 16;
        config.server.listen = SocketAddr::from(([127, 0, 0, 1], 0));
        config.auth.bootstrap_key = Secret::new("demo");
        config.allow_loopback();
        config
    }

    /// Lets deliveries reach this machine, as developers' receivers are on it.
    pub(crate) fn allow_loopback(&mut self) {
        let loopback = ["127.0.0.0/8", "::1/128"].map(|net| net.parse::<IpNet>().expect("a network"));
        self.egress.allow.extend(loopback);
    }

    /// Sees to an administrator's key where none is configured: the one kept in the data folder, or a new one.
    ///
    /// The folder must be open.
    pub(crate) fn ensure_key(&mut self) -> Result<(), Failure> {
        if !self.auth.bootstrap_key.reveal().is_empty() {
            return Ok(());
        }
        let path = self.data.dir.join(KEY_FILE);
        let key = match fs::read_to_string(&path) {
            Ok(kept) if !kept.trim().is_empty() => kept.trim().to_owned(),
            Ok(_) => make_key(&path)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => make_key(&path)?,
            Err(error) => return Err(anyhow::Error::new(error).context(format!("{} can't be read", path.display())).into()),
        };
        self.auth.bootstrap_key = Secret::new(key);
        Ok(())
    }

    /// Refuses a server that nobody could use.
    pub(crate) fn require_key(&self) -> Result<(), Failure> {
        if self.auth.bootstrap_key.reveal().is_empty() {
            let words = format!("auth.bootstrap_key is empty; set it in the file, or {KEY_VARIABLE} in the environment");
            return Err(Failure::Usage(words));
        }
        Ok(())
    }

    /// The configuration as TOML with its secrets hidden.
    pub(crate) fn masked(&self) -> Result<String, Failure> {
        let mut shown = self.clone();
        let secret_properties =
            shown.kafka.properties.iter_mut().filter(|(name, _)| SECRET_PROPERTIES.iter().any(|part| name.contains(part)));
        let own =
            [&mut shown.auth.bootstrap_key, &mut shown.scylla.password, &mut shown.blobs.secret_access_key, &mut shown.upstream.api_key];
        let secrets = secret_properties.map(|(_, value)| value).chain(own).chain(shown.otlp.headers.values_mut());
        for secret in secrets.filter(|secret| !secret.reveal().is_empty()) {
            *secret = Secret::new("********");
        }
        Ok(toml::to_string(&shown).context("the configuration can't be shown")?)
    }

    fn check(&self) -> Result<(), Failure> {
        let wrong = |key: &str, words: &str| Err(Failure::Usage(format!("{key} {words}")));
        match self {
            _ if self.server.roles.is_empty() => wrong("server.roles", "must name at least one role"),
            _ if !(1..=1024).contains(&self.data.partitions) => wrong("data.partitions", "must lie between 1 and 1024"),
            _ if !(1..=3650).contains(&self.data.retention_days) => wrong("data.retention_days", "must lie between 1 and 3650"),
            _ if !(1..=3650).contains(&self.jobs.retention_days) => wrong("jobs.retention_days", "must lie between 1 and 3650"),
            _ if self.jobs.per_second == 0 => wrong("jobs.per_second", "must be at least 1"),
            _ if !TIMEOUTS.contains(&self.jobs.timeout_seconds) => wrong("jobs.timeout_seconds", "must lie between 1 and 86400"),
            _ if let Some(words) = self.wrong_timeout() => wrong("jobs.timeouts", &words),
            _ if !(3..=3600).contains(&self.jobs.lease_seconds) => wrong("jobs.lease_seconds", "must lie between 3 and 3600"),
            _ if !(1..=1024).contains(&self.evaluate.concurrency) => wrong("evaluate.concurrency", "must lie between 1 and 1024"),
            _ if self.tts.program.as_os_str().is_empty() => wrong("tts.program", "must name a program, such as espeak-ng"),
            _ if self.tts.engine == Engine::OpenAi && (self.tts.model.is_empty() || self.tts.voice.is_empty()) => {
                wrong("tts.model", "and tts.voice must be named for the engine openai, such as tts-1 and alloy")
            }
            _ if self.tts.concurrency > 1024 => wrong("tts.concurrency", "must be at most 1024"),
            _ if !(1..=86_400).contains(&self.upstream.timeout_seconds) => {
                wrong("upstream.timeout_seconds", "must lie between 1 and 86400")
            }
            _ if !(1..=86_400).contains(&self.upstream.idle_seconds) => wrong("upstream.idle_seconds", "must lie between 1 and 86400"),
            _ if !(1..=20).contains(&self.upstream.tries) => wrong("upstream.tries", "must lie between 1 and 20"),
            _ if !(1..=1024).contains(&self.upstream.concurrency) => wrong("upstream.concurrency", "must lie between 1 and 1024"),
            _ if !(1..=1024).contains(&self.batch.concurrency) => wrong("batch.concurrency", "must lie between 1 and 1024"),
            _ if !(1..=1024).contains(&self.batch.requests) => wrong("batch.requests", "must lie between 1 and 1024"),
            _ if !(1..=4096).contains(&self.batch.max_file_mib) => wrong("batch.max_file_mib", "must lie between 1 and 4096"),
            _ if let Err(words) = self.upstream() => Err(Failure::Usage(words)),
            _ if self.evaluate.threads > 1024 => wrong("evaluate.threads", "must be at most 1024"),
            _ if !(1..=4096).contains(&self.http.concurrency) => wrong("http.concurrency", "must lie between 1 and 4096"),
            _ if !self.jobs.outside.is_empty() && self.backend == Backend::Embedded => {
                wrong("jobs.outside", "needs backend = \"cluster\": workers outside are given their jobs through Kafka")
            }
            _ if let Some(words) = self.wrong_outside() => wrong("jobs.outside", &words),
            _ if let Some(words) = self.wrong_blobs() => wrong("blobs.url", &words),
            _ if let Some(words) = self.wrong_public_url() => wrong("server.public_url", &words),
            _ if !(1..=4096).contains(&self.data.segment_mib) => wrong("data.segment_mib", "must lie between 1 and 4096"),
            _ if !(16..=1 << 20).contains(&self.limits.memory_mib) => wrong("limits.memory_mib", "must lie between 16 and 1048576"),
            _ if self.limits.in_flight < usize::from(self.data.partitions.max(self.kafka.partitions)) => {
                wrong("limits.in_flight", "must be at least data.partitions and kafka.partitions, so that each can send")
            }
            _ if self.limits.connections < self.limits.in_flight => {
                wrong("limits.connections", "must be at least limits.in_flight, as each attempt has a connection")
            }
            _ if !(1..=1024).contains(&self.kafka.partitions) => wrong("kafka.partitions", "must lie between 1 and 1024"),
            _ if self.kafka.replication_factor == 0 => wrong("kafka.replication_factor", "must be at least 1"),
            _ if self.scylla.replication_factor == 0 => wrong("scylla.replication_factor", "must be at least 1"),
            _ if self.scylla.nodes.is_empty() => wrong("scylla.nodes", "must name at least one server"),
            _ if !self.sources.is_empty() && self.backend == Backend::Embedded => {
                wrong("sources", "need backend = \"cluster\": they are Kafka topics")
            }
            _ if let Some(words) = self.wrong_source() => wrong("sources", &words),
            _ if self.sources.iter().any(|source| source.format == SourceFormat::CloudEvents && source.event_type.is_some()) => {
                wrong("sources.event_type", "is for format = \"json\": a CloudEvent has a type of its own")
            }
            _ if tracing_subscriber::EnvFilter::try_new(&self.tracing.filter).is_err() => {
                wrong("tracing.filter", "is not a filter, such as \"info\" or \"postrider_engine=debug,info\"")
            }
            _ if !(0.0..=1.0).contains(&self.otlp.sample_ratio) => wrong("otlp.sample_ratio", "must lie between 0 and 1"),
            _ if !(1..=60).contains(&self.otlp.timeout_seconds) => wrong("otlp.timeout_seconds", "must lie between 1 and 60"),
            _ if let Some(Err(error)) = self.spans().as_ref().map(postrider_spans::check) => Err(Failure::Usage(error.to_string())),
            _ => Ok(()),
        }
    }
}

impl Config {
    /// Where blobs lie, if that can be read.
    pub(crate) fn blob_place(&self) -> Option<BlobPlace> {
        if self.blobs.url.is_empty() {
            return Some(BlobPlace::Folder(self.data.dir.join("blobs")));
        }
        let url = url::Url::parse(&self.blobs.url).ok()?;
        match url.scheme() {
            "file" => url.to_file_path().ok().map(BlobPlace::Folder),
            "s3" if url.username().is_empty()
                && url.password().is_none()
                && url.port().is_none()
                && url.query().is_none()
                && url.fragment().is_none() =>
            {
                Some(BlobPlace::Bucket { bucket: url.host_str()?.to_owned(), prefix: url.path().trim_matches('/').to_owned() })
            }
            _ => None,
        }
    }

    /// The upstream that jobs ask, if one is configured. Errors: what is wrong with it.
    pub(crate) fn upstream(&self) -> Result<Option<postrider_upstream::Upstream>, String> {
        let Upstream { base_url, api_key, timeout_seconds, idle_seconds, tries, concurrency: _, monthly_tokens: _ } = &self.upstream;
        if base_url.is_empty() {
            return Ok(None);
        }
        let options = UpstreamOptions {
            base_url: base_url.clone(),
            api_key: api_key.clone(),
            idle: Duration::from_secs(*idle_seconds),
            total: Duration::from_secs(*timeout_seconds),
            tries: *tries,
            extra_ca: self.extra_ca(),
            ..UpstreamOptions::default()
        };
        postrider_upstream::Upstream::new(options).map(Some).map_err(|error| error.to_string())
    }

    /// Where spans are sent, if they are.
    pub(crate) fn spans(&self) -> Option<SpanOptions> {
        let Otlp { endpoint, sample_ratio, service_name, timeout_seconds, headers } = &self.otlp;
        (!endpoint.is_empty()).then(|| SpanOptions {
            endpoint: endpoint.clone(),
            headers: headers.iter().map(|(name, value)| (name.clone(), value.clone())).collect(),
            ratio: *sample_ratio,
            service: service_name.clone(),
            timeout: Duration::from_secs(*timeout_seconds),
            extra_ca: self.extra_ca(),
        })
    }

    /// What is trusted beside the public authorities.
    pub(crate) fn extra_ca(&self) -> Option<PathBuf> {
        Some(self.egress.extra_ca.clone()).filter(|path| !path.as_os_str().is_empty())
    }

    fn wrong_blobs(&self) -> Option<String> {
        let needs = self.server.roles.iter().any(|role| matches!(role, Role::Api | Role::Compute));
        if self.backend == Backend::Cluster && self.blobs.url.is_empty() && needs {
            let words = "must name what all processes of the cluster share: a folder, such as file:///var/lib/postrider/blobs, or s3://bucket/prefix";
            return Some(words.to_owned());
        }
        let place = self.blob_place();
        let is_key_halved = self.blobs.access_key_id.is_empty() != self.blobs.secret_access_key.reveal().is_empty();
        match place {
            Some(BlobPlace::Bucket { .. }) if is_key_halved => Some(
                "is in a bucket, for which blobs.access_key_id and blobs.secret_access_key are either both set or both empty".to_owned(),
            ),
            Some(BlobPlace::Bucket { .. }) if !is_server(&self.blobs.endpoint) => Some(
                "is in a bucket, for which blobs.endpoint is a server, such as https://s3.example.com, without a name or password"
                    .to_owned(),
            ),
            Some(BlobPlace::Bucket { .. } | BlobPlace::Folder(_)) => None,
            // Not repeated: a name or password in it is a secret.
            None if self.blobs.url.contains('@') => {
                Some("has an @: a bucket is s3://bucket/prefix, and its key has settings of its own".to_owned())
            }
            None => {
                Some(format!("is `{}`, neither a folder such as file:///var/lib/postrider/blobs nor s3://bucket/prefix", self.blobs.url))
            }
        }
    }

    /// What links begin with.
    pub(crate) fn public_url(&self, listen: Option<SocketAddr>) -> String {
        match self.server.public_url.trim_end_matches('/') {
            "" => format!("http://{}", listen.unwrap_or(self.server.listen)),
            given => given.to_owned(),
        }
    }

    /// What is wrong with the times of single kinds, if anything.
    fn wrong_timeout(&self) -> Option<String> {
        self.jobs.timeouts.iter().find_map(|(kind, seconds)| match JobKind::named(kind) {
            Some(JobKind::Batch) => Some("can't name batch, which always has a day".to_owned()),
            Some(_) => (!TIMEOUTS.contains(seconds)).then(|| format!("must lie between 1 and 86400, and `{kind}` does not")),
            None => {
                let known = JobKind::ALL.into_iter().filter(|kind| *kind != JobKind::Batch).map(JobKind::name).collect::<Vec<_>>();
                Some(format!("names `{kind}`; it can name {} (a kind of jobs.outside has a time in its own table)", known.join(", ")))
            }
        })
    }

    /// What is wrong with the kinds that workers outside do, if anything.
    fn wrong_outside(&self) -> Option<String> {
        let outside = &self.jobs.outside;
        if outside.len() > MAX_OUTSIDE {
            return Some(format!("must name at most {MAX_OUTSIDE} kinds, as each has a thread of its own"));
        }
        outside.iter().enumerate().find_map(|(index, Outside { kind, timeout_seconds })| {
            let words = match wrong_kind(kind) {
                Some(words) => words,
                None if outside[..index].iter().any(|other| other.kind == *kind) => "is named twice".to_owned(),
                None if !TIMEOUTS.contains(timeout_seconds) => "needs timeout_seconds between 1 and 86400".to_owned(),
                None => return None,
            };
            Some(format!("names the kind `{kind}`, which {words}"))
        })
    }

    fn wrong_public_url(&self) -> Option<String> {
        let given = &self.server.public_url;
        let is_web = url::Url::parse(given).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.query().is_none());
        (!given.is_empty() && !is_web).then(|| format!("is `{given}`, not an address such as https://postrider.example.com"))
    }

    /// What is wrong with the topics that others write, if anything: of two readers of one topic each would get a part.
    fn wrong_source(&self) -> Option<String> {
        let topics: Vec<&str> = self.sources.iter().map(|source| source.topic.as_str()).collect();
        for (index, source) in self.sources.iter().enumerate() {
            let topic = source.topic.as_str();
            if topic.is_empty() || topics[..index].contains(&topic) {
                return Some(format!("must each have a topic of their own, and `{topic}` is not"));
            }
            if !self.kafka.prefix.is_empty() && topic.starts_with(&self.kafka.prefix) || topic == "events" {
                return Some(format!("must not read `{topic}`: names like that are for Postrider's own topics and groups"));
            }
            if source.tenant.is_empty() {
                return Some(format!("must name a tenant, and `{topic}` names none"));
            }
            let fixed = source.event_type.as_deref().filter(|kind| !kind.starts_with('/'));
            if let Some(Err(error)) = fixed.map(check_type) {
                return Some(format!("need an event_type that is a JSON pointer or a type; that of `{topic}`: {error}"));
            }
        }
        None
    }
}

/// Makes a key and writes it where only this user can read it.
fn make_key(path: &Path) -> Result<String, Failure> {
    let mut bytes = [0; 24];
    getrandom::fill(&mut bytes).context("the system's randomness can't be read")?;
    let key = bytes.iter().fold("sk_".to_owned(), |text, byte| format!("{text}{byte:02x}"));
    let written = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
    let written = written.and_then(|mut file| writeln!(file, "{key}").and_then(|()| file.sync_all()));
    written.with_context(|| format!("{} can't be written", path.display()))?;
    Ok(key)
}

/// Refuses keys that the defaults don't have, naming the nearest that they do.
fn check_keys(table: &toml::Table, file: &Path) -> Result<(), Failure> {
    let defaults: toml::Table = DEFAULTS.parse().expect("the defaults are TOML");
    let known = paths(&defaults);
    for path in paths(table) {
        if !known.contains(&path) && !FREE.iter().any(|table| path.starts_with(table)) {
            let nearest = known.iter().max_by(|a, b| strsim::jaro_winkler(a, &path).total_cmp(&strsim::jaro_winkler(b, &path)));
            let hint = nearest.map(|key| format!("; the nearest key is `{key}`")).unwrap_or_default();
            return Err(Failure::Usage(format!("{}: unknown key `{path}`{hint}", file.display())));
        }
    }
    Ok(())
}

/// The dotted paths of all keys.
fn paths(table: &toml::Table) -> Vec<String> {
    let mut all = Vec::new();
    for (key, value) in table {
        match value {
            toml::Value::Table(inner) => all.extend(paths(inner).into_iter().map(|path| format!("{key}.{path}"))),
            _ => all.push(key.clone()),
        }
    }
    all
}

/// Where a file is no TOML, and why. Not the line itself: a secret may stand there.
fn malformed(file: &Path, text: &str, error: &toml::de::Error) -> String {
    let line = error.span().map(|span| format!(", line {}", 1 + text[..span.start.min(text.len())].matches('\n').count()));
    format!("{}{}: {}", file.display(), line.unwrap_or_default(), error.message())
}

/// The errors of reading the merged configuration, each with its key and its source.
fn explain(error: figment::Error) -> String {
    let one = |error: figment::Error| {
        let key = if error.path.is_empty() { String::new() } else { format!("{}: ", error.path.join(".")) };
        let source =
            error.metadata.as_ref().filter(|m| m.name.contains("environment")).map(|_| " (from the environment)").unwrap_or_default();
        let words = match error.kind {
            // Without the value, which may be a secret.
            Kind::InvalidType(_, expected) | Kind::InvalidValue(_, expected) => format!("must be {expected}"),
            kind => kind.to_string(),
        };
        format!("{key}{words}{source}")
    };
    error.into_iter().map(one).collect::<Vec<_>>().join("\n")
}
/// Whether it can be where a bucket is: nothing, for Amazon's, or a server's URL.
fn is_server(endpoint: &str) -> bool {
    endpoint.is_empty()
        || url::Url::parse(endpoint)
            .is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.username().is_empty() && url.password().is_none())
}
