//! A job as its sender gave it, checked.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use postrider_core::job::{Callback, Format, JobKind};
use postrider_core::pattern::Pattern;
use postrider_core::secret::{MAX_SECRET, Secret};
use postrider_egress::wrong_headers;
use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_json::value::RawValue;

use super::batch::BatchInput;
use super::experiment::ExperimentInput;
use super::generate::GenerateInput;
use super::http::HttpInput;
use super::input::{EvaluateInput, List};
use super::kinds::{Kind, Kinds};
use super::tts::TtsInput;
use crate::submission::{Invalid, MAX_URLS, Problem, wrong_metadata};

/// The highest priority; jobs without one have the middle.
const MAX_PRIORITY: u8 = 9;
const MIDDLE: u8 = 5;
/// Members that `include` or `exclude` may name, and the longest name of one in bytes.
const MAX_MEMBERS: usize = 32;
const MAX_MEMBER: usize = 64;
/// Most bytes of an input that goes to workers outside: all of it is in the record, which Kafka's clients take by default.
const MAX_OUTSIDE: usize = 768 << 10;
/// Longest time-out of a hook, in seconds.
const MAX_TIMEOUT: u32 = 120;
/// Unknown members that are named; of the others the same would be said.
const MAX_UNKNOWN: usize = 20;

/// A job that can be done, but for what only doing it shows.
#[derive(Clone)]
pub struct JobSubmission {
    /// What sort of work it is.
    pub kind: Kind,
    /// What it is to be done with: a JSON object of the kind's own shape.
    pub input: String,
    /// Who is told of its end; what its URLs are signed with is beside it.
    pub callback: Callback,
    /// What calls of its URLs are signed with, where not with the tenant's own secret.
    pub secret: Option<Secret>,
    /// Headers of calls of its URLs, beside ours.
    pub headers: BTreeMap<String, String>,
    /// Who is told of what happens meanwhile, too.
    pub hooks: Vec<NewHook>,
    /// From 0 to 9.
    pub priority: u8,
    /// The sender's own data, as JSON.
    pub metadata: Option<String>,
}

/// Without what may be a credential: the input and the values of headers.
impl fmt::Debug for JobSubmission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let JobSubmission { kind, input, callback, secret, headers, hooks, priority, metadata } = self;
        f.debug_struct("JobSubmission")
            .field("kind", kind)
            .field("input", &format_args!("{} bytes", input.len()))
            .field("callback", callback)
            .field("secret", secret)
            .field("headers", &headers.keys())
            .field("hooks", hooks)
            .field("priority", priority)
            .field("metadata", metadata)
            .finish()
    }
}

/// A URL that is told of some of a job's events.
#[derive(Clone, Debug)]
pub struct NewHook {
    /// Where it is.
    pub url: String,
    /// What it is signed with, where not with the tenant's own secret.
    pub secret: Option<Secret>,
    /// Longest time of attempts after the first, in seconds.
    pub timeout: Option<u32>,
    /// The events it wants; empty means all.
    pub events: Vec<Pattern>,
    /// What it is sent.
    pub format: Format,
}

/// A job is not taken.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Refused {
    /// It can't be done as it is.
    #[error("{0}")]
    Invalid(#[from] Invalid),
    /// Nothing is wrong with it, but this machine can't do such jobs.
    #[error("{0}")]
    Unavailable(String),
}

/// What stands beside a job's input.
#[derive(Deserialize)]
struct Beside<'a> {
    #[serde(default, borrow)]
    webhook_url: Option<Cow<'a, str>>,
    #[serde(default)]
    webhook_urls: Option<List<String, MAX_URLS>>,
    #[serde(default)]
    webhook: Option<Webhook>,
    #[serde(default)]
    webhooks: Option<List<RawHook, MAX_URLS>>,
    #[serde(default)]
    priority: Option<u64>,
    #[serde(default, borrow)]
    metadata: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Webhook {
    #[serde(default)]
    secret: Option<String>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    #[serde(default)]
    payload: Option<Payload>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Payload {
    #[serde(default)]
    include: Option<List<String, MAX_MEMBERS>>,
    #[serde(default)]
    exclude: Option<List<String, MAX_MEMBERS>>,
}

/// One of `webhooks`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawHook {
    url: String,
    #[serde(default)]
    events: Option<List<String, MAX_MEMBERS>>,
    #[serde(default)]
    secret: Option<String>,
    #[serde(default)]
    timeout: Option<u64>,
    #[serde(default)]
    template: Option<Format>,
}

/// The members of an object, none of them twice.
struct Members<'a>(BTreeMap<Cow<'a, str>, &'a RawValue>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Members<'a>, D::Error> {
        deserializer.deserialize_map(Once)
    }
}

struct Once;

impl<'de> Visitor<'de> for Once {
    type Value = Members<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
        let mut members = BTreeMap::new();
        while let Some((name, value)) = map.next_entry::<Cow<'de, str>, &'de RawValue>()? {
            if members.contains_key(&name) {
                return Err(A::Error::custom(format_args!("`{}` is given twice", shortened(&name))));
            }
            members.insert(name, value);
        }
        Ok(Members(members))
    }
}

/// The members that are not the kind's own.
const BESIDE: [&str; 6] = ["webhook_url", "webhook_urls", "webhook", "webhooks", "priority", "metadata"];

impl JobSubmission {
    /// Reads and checks `{kind, input, …}`.
    pub fn from_json(kinds: &Kinds, bytes: &[u8]) -> Result<JobSubmission, Refused> {
        let Members(mut members) = Invalid::from_json(bytes)?;
        let beside = split(&mut members);
        let (kind, input) = (members.remove("kind"), members.remove("input"));
        let mut problems: Vec<Problem> =
            members.keys().take(MAX_UNKNOWN).map(|name| Problem::new(shortened(name), "is not a field of this request")).collect();
        let kind = match kind.map(|kind| serde_json::from_str::<&str>(kind.get())) {
            Some(Ok(name)) => {
                kinds.named(name).ok_or_else(|| format!("`{}` is not a kind of job; there are {}", shortened(name), names(kinds)))
            }
            Some(Err(_)) => Err(format!("must be text: one of {}", names(kinds))),
            None => Err(format!("is missing; there are {}", names(kinds))),
        };
        let input = input.ok_or("is missing: an object with what the job is to be done with");
        match (kind, input) {
            (Ok(kind), Ok(input)) => finish(kinds, kind, input.get().to_owned(), beside, "input", problems),
            (kind, input) => {
                problems.extend(kind.err().map(|words| Problem::new("kind", words)));
                problems.extend(input.err().map(|words| Problem::new("input", words)));
                Err(Invalid::Fields(problems).into())
            }
        }
    }

    /// Reads and checks a job of `kind` whose input stands beside what else is said of it, in one object.
    pub fn flat(kinds: &Kinds, kind: JobKind, bytes: &[u8]) -> Result<JobSubmission, Refused> {
        let Members(mut members) = Invalid::from_json(bytes)?;
        let beside = split(&mut members);
        let input = serde_json::to_string(&members).map_err(|error| Invalid::Syntax(error.to_string()))?;
        finish(kinds, Kind::BuiltIn(kind), input, beside, "", Vec::new())
    }
}

/// Takes out what does not belong to the input.
fn split<'a>(members: &mut BTreeMap<Cow<'a, str>, &'a RawValue>) -> BTreeMap<&'static str, &'a RawValue> {
    BESIDE.into_iter().filter_map(|name| members.remove(name).map(|value| (name, value))).collect()
}

fn finish(
    kinds: &Kinds,
    kind: Kind,
    input: String,
    beside: BTreeMap<&'static str, &RawValue>,
    scope: &str,
    mut problems: Vec<Problem>,
) -> Result<JobSubmission, Refused> {
    let mut experiment = None;
    match check_input(kinds, kind, &input) {
        Ok(named) => experiment = named,
        Err(Refused::Invalid(invalid)) => problems.extend(scoped(invalid, scope)),
        Err(unavailable @ Refused::Unavailable(_)) => return Err(unavailable),
    }
    let beside = serde_json::to_string(&beside).map_err(|error| Invalid::Syntax(error.to_string()))?;
    let beside: Beside<'_> = match Invalid::from_json(beside.as_bytes()) {
        Ok(beside) => beside,
        Err(Invalid::Fields(more)) => {
            problems.extend(more);
            return Err(Invalid::Fields(problems).into());
        }
        Err(error) => return Err(error.into()),
    };
    let callback = Callback { experiment, ..callback(kinds, &beside, &mut problems) };
    let hooks = hooks((kinds, kind), &beside, &mut problems);
    let (secret, headers) = own(&beside, &mut problems);
    let priority = match beside.priority {
        None => MIDDLE,
        Some(priority) => u8::try_from(priority).ok().filter(|priority| *priority <= MAX_PRIORITY).unwrap_or_else(|| {
            problems.push(Problem::new("priority", format!("must be a whole number from 0 to {MAX_PRIORITY}")));
            MIDDLE
        }),
    };
    problems.extend(beside.metadata.and_then(wrong_metadata));
    let metadata = beside.metadata.map(|metadata| metadata.get().to_owned());
    match problems.is_empty() {
        true => Ok(JobSubmission { kind, input, callback, secret, headers, hooks, priority, metadata }),
        false => Err(Invalid::Fields(problems).into()),
    }
}

fn callback(kinds: &Kinds, beside: &Beside<'_>, problems: &mut Vec<Problem>) -> Callback {
    let listed = beside.webhook_urls.iter().flat_map(|List(urls)| urls);
    let one = beside.webhook_url.iter().map(|url| ("webhook_url".to_owned(), url.as_ref()));
    let many = listed.enumerate().map(|(i, url)| (format!("webhook_urls.{i}"), url.as_str()));
    if one.clone().count() + many.clone().count() > MAX_URLS {
        problems.push(Problem::new("webhook_urls", format!("must name at most {MAX_URLS} URLs")));
        return Callback::default();
    }
    let mut urls: Vec<String> = Vec::new();
    for (field, url) in one.chain(many) {
        if let Err(words) = kinds.target(url) {
            problems.push(Problem::new(field, words));
        } else if !urls.iter().any(|known| known == url) {
            urls.push(url.to_owned());
        }
    }
    let payload = beside.webhook.as_ref().and_then(|webhook| webhook.payload.as_ref());
    let include = payload.and_then(|payload| payload.include.as_ref()).map(|List(members)| members.clone());
    let exclude = payload.and_then(|payload| payload.exclude.as_ref()).map(|List(members)| members.clone()).unwrap_or_default();
    for (field, members) in [("webhook.payload.include", include.as_deref().unwrap_or_default()), ("webhook.payload.exclude", &exclude)] {
        if members.iter().any(|member| member.len() > MAX_MEMBER) {
            problems.push(Problem::new(field, format!("must name members of at most {MAX_MEMBER} bytes")));
        }
    }
    Callback { urls, include, exclude, ..Callback::default() }
}

/// Who is told of what happens meanwhile.
fn hooks((kinds, kind): (&Kinds, Kind), beside: &Beside<'_>, problems: &mut Vec<Problem>) -> Vec<NewHook> {
    let usual = match kind {
        Kind::BuiltIn(JobKind::Experiment) => Format::Experiment,
        Kind::BuiltIn(JobKind::Evaluate | JobKind::Tts | JobKind::Generate | JobKind::Batch | JobKind::Http) | Kind::Outside(_) => {
            Format::Event
        }
    };
    let mut hooks = Vec::new();
    for (index, hook) in beside.webhooks.iter().flat_map(|List(hooks)| hooks).enumerate() {
        let mut wrong = |field: &str, words: String| problems.push(Problem::new(format!("webhooks.{index}.{field}"), words));
        if let Err(words) = kinds.target(&hook.url) {
            wrong("url", words);
        }
        let mut events = Vec::new();
        for (at, pattern) in hook.events.iter().flat_map(|List(events)| events).enumerate() {
            match pattern.parse::<Pattern>() {
                Ok(pattern) => events.push(pattern),
                Err(error) => wrong(&format!("events.{at}"), error.to_string()),
            }
        }
        let secret = hook.secret.as_deref().and_then(Secret::chosen);
        if hook.secret.is_some() && secret.is_none() {
            wrong("secret", format!("must be 1 to {MAX_SECRET} visible ASCII characters"));
        }
        let timeout = hook.timeout.and_then(|seconds| u32::try_from(seconds).ok()).filter(|seconds| (1..=MAX_TIMEOUT).contains(seconds));
        if hook.timeout.is_some() && timeout.is_none() {
            wrong("timeout", format!("must be a whole number of seconds from 1 to {MAX_TIMEOUT}"));
        }
        hooks.push(NewHook { url: hook.url.clone(), secret, timeout, events, format: hook.template.unwrap_or(usual) });
    }
    hooks
}

/// The secret and the headers that came with the URLs.
fn own(beside: &Beside<'_>, problems: &mut Vec<Problem>) -> (Option<Secret>, BTreeMap<String, String>) {
    let Some(webhook) = &beside.webhook else { return (None, BTreeMap::new()) };
    let secret = webhook.secret.as_deref().and_then(Secret::chosen);
    if webhook.secret.is_some() && secret.is_none() {
        problems.push(Problem::new("webhook.secret", format!("must be 1 to {MAX_SECRET} visible ASCII characters")));
    }
    let wrong = wrong_headers(webhook.headers.iter().map(|(name, value)| (name.as_str(), Some(value.as_str()))));
    problems.extend(wrong.into_iter().map(|(name, words)| {
        Problem::new(name.map_or_else(|| "webhook.headers".to_owned(), |name| format!("webhook.headers.{name}")), words)
    }));
    (secret, webhook.headers.clone())
}

/// Whether the input can be worked with; the name of its experiment, if it has one.
fn check_input(kinds: &Kinds, kind: Kind, input: &str) -> Result<Option<String>, Refused> {
    let kind = match kind {
        Kind::BuiltIn(kind) => kind,
        Kind::Outside(_) => return Ok(check_outside(input).map(|()| None)?),
    };
    if let Some(why) = kinds.unavailable(kind) {
        return Err(Refused::Unavailable(why.to_owned()));
    }
    match kind {
        JobKind::Evaluate => EvaluateInput::from_json(kinds, input.as_bytes()).map(drop)?,
        JobKind::Tts => TtsInput::from_json(kinds, input.as_bytes()).map(drop)?,
        JobKind::Http => HttpInput::from_json(kinds, input.as_bytes()).map(drop)?,
        JobKind::Batch => BatchInput::from_json(input.as_bytes()).map(drop)?,
        JobKind::Generate => GenerateInput::from_json(input.as_bytes()).map(drop)?,
        JobKind::Experiment => return Ok(ExperimentInput::from_json(input.as_bytes())?.experiment_id),
    }
    Ok(None)
}

/// Whether a worker outside can be given the input: what it says is between the sender and the worker.
fn check_outside(input: &str) -> Result<(), Invalid> {
    if input.len() > MAX_OUTSIDE {
        let words =
            format!("has {} bytes; for this kind the most is {MAX_OUTSIDE}: put what is larger where its worker finds it", input.len());
        return Err(Invalid::Fields(vec![Problem::new("", words)]));
    }
    match Invalid::from_json::<Value>(input.as_bytes())? {
        Value::Object(_) => Ok(()),
        _other => Err(Invalid::Fields(vec![Problem::new("", "must be an object")])),
    }
}

fn scoped(invalid: Invalid, scope: &str) -> Vec<Problem> {
    let within = |field: String| match (scope.is_empty(), field.is_empty()) {
        (true, _) => field,
        (false, true) => scope.to_owned(),
        (false, false) => format!("{scope}.{field}"),
    };
    match invalid {
        Invalid::Fields(problems) => problems.into_iter().map(|p| Problem::new(within(p.field), p.message)).collect(),
        Invalid::Syntax(words) => vec![Problem::new(within(String::new()), words)],
    }
}

fn names(kinds: &Kinds) -> String {
    kinds.names().collect::<Vec<_>>().join(", ")
}

fn shortened(text: &str) -> String {
    text.chars().take(100).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jobs::{Bert, OutsideKind};
    use postrider_core::time::Millis;
    use postrider_egress::Guard;
    use serde_json::json;

    fn none() -> Kinds {
        let outside = vec![OutsideKind { name: "transcribe".to_owned(), patience: Millis(1000) }];
        let speech = Err("install it".to_owned());
        Kinds { speech, bert: Bert::Missing, upstream: Ok(()), guard: Guard::default(), outside }
    }

    fn wrong(result: Result<JobSubmission, Refused>) -> Vec<String> {
        match result {
            Err(Refused::Invalid(Invalid::Fields(problems))) => problems.into_iter().map(|p| p.field).collect(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn both_forms_of_a_request_give_one_job() {
        let input = json!({"pairs": [{"candidate": "a", "references": ["b"]}], "metrics": ["bleu"]});
        let nested = json!({"kind": "evaluate", "input": input, "webhook_url": "https://a.example/", "priority": 9});
        let mut flat = input.clone();
        flat["webhook_urls"] = json!(["https://a.example/", "https://a.example/"]);
        flat["priority"] = json!(9);
        let nested = JobSubmission::from_json(&none(), nested.to_string().as_bytes()).unwrap();
        let flat = JobSubmission::flat(&none(), JobKind::Evaluate, flat.to_string().as_bytes()).unwrap();
        for job in [&nested, &flat] {
            assert_eq!(serde_json::from_str::<Value>(&job.input).unwrap(), input);
            assert_eq!((job.priority, job.callback.urls.as_slice()), (9, &["https://a.example/".to_owned()][..]));
        }
    }

    #[test]
    fn what_is_done_outside_takes_any_object_that_a_record_has_room_for() {
        let job = json!({"kind": "transcribe", "input": {"any": [1, {"thing": null}]}});
        let job = JobSubmission::from_json(&none(), job.to_string().as_bytes()).unwrap();
        assert_eq!((job.kind, job.input.as_str()), (Kind::Outside(0), r#"{"any":[1,{"thing":null}]}"#));
        assert!(!format!("{job:?}").contains("thing"), "an input may be a secret");
        let deep = format!("{}1{}", r#"{"a":"#.repeat(200), "}".repeat(200));
        for input in ["[1]", "7", "null", &deep, &json!({ "a": "x".repeat(MAX_OUTSIDE) }).to_string()] {
            let job = format!(r#"{{"kind":"transcribe","input":{input}}}"#);
            assert_eq!(wrong(JobSubmission::from_json(&none(), job.as_bytes())), ["input"], "{input:.40}");
        }
        let unknown = JobSubmission::from_json(&none(), br#"{"kind":"translate","input":{}}"#).unwrap_err().to_string();
        assert!(unknown.contains("evaluate, tts, generate, experiment, batch, http, transcribe"), "{unknown}");
    }

    #[test]
    fn hooks_are_checked_and_get_what_their_kind_usually_sends() {
        let job = json!({
            "kind": "generate", "input": {"model": "m", "messages": [{"role": "user", "content": "a"}]},
            "webhooks": [
                {"url": "https://a.example/", "events": ["completion.*"], "secret": "s", "timeout": 30},
                {"url": "https://b.example/", "template": "slack"},
            ],
        });
        let job = JobSubmission::from_json(&none(), job.to_string().as_bytes()).unwrap();
        assert_eq!((job.hooks[0].format, job.hooks[0].timeout, job.hooks[0].events.len()), (Format::Event, Some(30), 1));
        assert_eq!((job.hooks[1].format, job.hooks[1].events.len()), (Format::Slack, 0));
        assert!(!format!("{:?}", job.hooks).contains("\"s\""));
        let job = json!({
            "kind": "generate", "input": {"model": "m", "messages": []},
            "webhooks": [{"url": "ftp://a/", "events": ["a..b"], "secret": "", "timeout": 0}],
        });
        assert_eq!(
            wrong(JobSubmission::from_json(&none(), job.to_string().as_bytes())),
            ["input.messages", "webhooks.0.url", "webhooks.0.events.0", "webhooks.0.secret", "webhooks.0.timeout"]
        );
    }

    #[test]
    fn everything_wrong_is_named() {
        let job = json!({"kind": "evaluate", "input": {"pairs": [], "metrics": ["bleu"]}, "webhook_url": "ftp://a/",
            "webhook": {"secret": "a b", "headers": {"host": "x"}, "payload": {"exclude": ["results"]}}, "priority": 10, "metadata": 3});
        let found = wrong(JobSubmission::from_json(&none(), job.to_string().as_bytes()));
        assert_eq!(found, ["input.pairs", "webhook_url", "webhook.secret", "webhook.headers.host", "priority", "metadata"]);
        assert_eq!(wrong(JobSubmission::from_json(&none(), br#"{"kind":"dance","mystery":1}"#)), ["mystery", "kind", "input"]);
        assert_eq!(
            wrong(JobSubmission::flat(&none(), JobKind::Evaluate, br#"{"metrics":["bleu"],"webhook_url":7}"#)),
            ["pairs", "webhook_url"]
        );
        let twice = br#"{"kind":"evaluate","input":{},"webhook_url":"https://a/","webhook_url":"https://b/"}"#;
        let twice = JobSubmission::from_json(&none(), twice).expect_err("it is ambiguous").to_string();
        assert!(twice.contains("`webhook_url` is given twice"), "{twice}");
        let urls: Vec<String> = (0..100_000).map(|n| format!("https://a/{n}")).collect();
        let many = json!({"candidates": ["a"], "references": ["b"], "metrics": ["f1"], "webhook_urls": urls}).to_string();
        assert_eq!(wrong(JobSubmission::flat(&none(), JobKind::Evaluate, many.as_bytes())), ["webhook_urls"]);
        assert!(matches!(JobSubmission::from_json(&none(), b"\xff"), Err(Refused::Invalid(Invalid::Syntax(_)))));
        let speech = JobSubmission::from_json(&none(), br#"{"kind":"tts","input":{"text":"a","language":"om"}}"#);
        assert!(matches!(&speech, Err(Refused::Unavailable(why)) if why == "install it"), "{speech:?}");
    }
}
