//! The kind `experiment`: personas that the upstream makes up, one after the other.
//!
//! Each is kept among the blobs as soon as it is there, by whoever is first, and then told; so a worker that takes over
//! goes on where the other died, and no persona is told under two ids.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::stream;
use postrider_backend::blobs::BlobError;
use postrider_core::job::{Artifact, Counts, Error, Job, Output, State, Stored};
use postrider_core::time::Time;
use postrider_ingest::clock;
use postrider_ingest::jobs::{ExperimentInput, Jobs};
use postrider_upstream::Usage;
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Map, Value, json};

use crate::budget;
use crate::generate::{failed, upstream};
use crate::progress::Progress;
use crate::queue::Waiting;
use crate::worker::Shop;

/// How often a persona is asked for.
const TRIES: usize = 4;
/// Longest answer that is shown to the model again, in characters.
const MAX_SHOWN: usize = 4000;
/// Before what the store, the log or the blobs did not do is tried again.
const AGAIN: Duration = Duration::from_millis(250);

/// A persona as it is kept.
#[derive(Clone, Debug, Deserialize, Serialize)]
struct Persona {
    /// When it was made, in milliseconds since 1970.
    at: u64,
    persona: Map<String, Value>,
    /// Of all answers that it took.
    usage: Usage,
}

/// The result, and what `generation.completed` says.
#[derive(Serialize)]
struct Finished {
    persona_count: u32,
    duration_seconds: f64,
    /// Null where no prices are given.
    cost_usd: Option<f64>,
    output_path: String,
    prompt_tokens: u64,
    completion_tokens: u64,
}

struct Run<'a> {
    shop: &'a Shop,
    waiting: &'a Waiting,
    job: Job,
    input: ExperimentInput,
    /// What its events name.
    ids: Value,
}

/// Makes the personas of `input` up, and keeps the file in `folder`.
pub(crate) async fn run(shop: &Shop, waiting: &Waiting, folder: &str, input: Bytes, progress: &Progress) -> Result<Output, Error> {
    let input = ExperimentInput::from_json(&input).map_err(|error| Error::new("invalid_input", error))?;
    let job = row(shop, waiting).await?;
    let ids = Jobs::subject(waiting.job, &job);
    let run = Run { shop, waiting, job, input, ids };
    let (mut bytes, mut usage) = (0, Usage::default());
    // What another worker kept last it may not have told.
    let mut untold: Option<(u32, Persona)> = None;
    for index in 0..run.input.count {
        let persona = match run.kept(index).await? {
            Some(persona) => {
                untold = Some((index, persona.clone()));
                persona
            }
            None => {
                if let Some((index, persona)) = untold.take() {
                    run.tell(index, &persona).await;
                }
                let persona = run.make(index).await?;
                run.tell(index, &persona).await;
                persona
            }
        };
        bytes += line(&persona).len() as u64;
        usage.prompt_tokens += persona.usage.prompt_tokens;
        usage.completion_tokens += persona.usage.completion_tokens;
        let done = index + 1;
        let permille = u64::from(done) * 999 / u64::from(run.input.count);
        progress.set(Counts::of(usize::try_from(permille).unwrap_or(999), 1000));
        let mut detail = run.ids.clone();
        (detail["completed"], detail["total"]) = (json!(done), json!(run.input.count));
        progress.say(&detail);
    }
    if let Some((index, persona)) = untold.take() {
        run.tell(index, &persona).await;
    }
    let name = format!("{folder}/personas.ndjson");
    run.gather(&name).await?;
    let started = match run.job.state {
        State::Processing { started, .. } => started,
        State::Pending { .. } | State::Completed { .. } | State::Failed { .. } | State::Canceled { .. } => waiting.at,
    };
    let finished = Finished {
        persona_count: run.input.count,
        duration_seconds: clock::now().since(started).0 as f64 / 1000.0,
        cost_usd: run.input.pricing.map(|pricing| pricing.cost(usage.prompt_tokens, usage.completion_tokens)),
        output_path: format!("/v1/download/{}", waiting.job),
        prompt_tokens: usage.prompt_tokens,
        completion_tokens: usage.completion_tokens,
    };
    let result = serde_json::to_string(&finished).map_err(|error| Error::new("internal", error))?;
    let artifact = Artifact { name, bytes, media_type: "application/x-ndjson".to_owned() };
    Ok(Output { result: Some(Stored::Inline(result)), artifact: Some(artifact) })
}

impl Run<'_> {
    /// Where a persona lies: with the job, not with one of its workers.
    fn name(&self, index: u32) -> String {
        format!("{}/personas/{index:06}.json", Jobs::folder(self.waiting.job))
    }

    /// A persona that was made before, by this worker or another.
    async fn kept(&self, index: u32) -> Result<Option<Persona>, Error> {
        let name = self.name(index);
        let json = match patiently(|| self.shop.blobs.get(&name)).await {
            Ok(json) => json,
            Err(BlobError::Missing { .. }) => return Ok(None),
            Err(error @ (BlobError::Invalid { .. } | BlobError::Unavailable(_))) => return Err(Error::new("internal", error)),
        };
        let read = serde_json::from_slice(&json);
        read.map(Some).map_err(|error| Error::new("internal", format_args!("persona {index} can't be read again: {error}")))
    }

    /// Has a persona made up, and keeps it; should another worker have kept one meanwhile, it is that one.
    async fn make(&self, index: u32) -> Result<Persona, Error> {
        let (persona, usage) = self.ask(index).await?;
        let persona = Persona { at: clock::now().0, persona, usage };
        let json = Bytes::from(serde_json::to_vec(&persona).map_err(|error| Error::new("internal", error))?);
        let name = self.name(index);
        match patiently(|| self.shop.blobs.put_new(&name, json.clone())).await {
            Ok(true) => Ok(persona),
            Ok(false) => self.kept(index).await?.ok_or_else(|| Error::new("internal", format_args!("persona {index} is gone"))),
            Err(error) => Err(Error::new("internal", error)),
        }
    }

    /// Asks the upstream until it answers with a persona, and tells it what was wrong meanwhile.
    async fn ask(&self, index: u32) -> Result<(Map<String, Value>, Usage), Error> {
        let (mut request, mut usage) = (self.request(index), Usage::default());
        let (upstream, tenant) = (upstream(self.shop)?, self.waiting.tenant.as_str());
        let mut wrong = String::new();
        for _ in 0..TRIES {
            budget::check(self.shop, tenant).await?;
            let completion = upstream.chat(&request, |_| {}).await.map_err(failed)?;
            budget::spend(self.shop, tenant, completion.usage).await;
            usage.prompt_tokens += completion.usage.prompt_tokens;
            usage.completion_tokens += completion.usage.completion_tokens;
            usage.total_tokens += completion.usage.total_tokens;
            match self.input.persona(&completion.content) {
                Ok(persona) => return Ok((persona, usage)),
                Err(words) => wrong = words,
            }
            tracing::info!(job = %self.waiting.job, index, wrong, "a model's answer is no persona; asking again");
            if let Some(Value::Array(messages)) = request.get_mut("messages") {
                messages.truncate(2);
                let shown: String = completion.content.chars().take(MAX_SHOWN).collect();
                messages.push(json!({ "role": "assistant", "content": shown }));
                messages.push(json!({ "role": "user", "content": format!("No: {wrong}. Answer with the whole JSON object again.") }));
            }
        }
        Err(Error::new(
            "invalid_persona",
            format_args!("the model gave no persona {} in {TRIES} answers; the last time {wrong}", index + 1),
        ))
    }

    fn request(&self, index: u32) -> Map<String, Value> {
        let ExperimentInput { model, prompt, count, temperature, top_p, max_tokens, seed, .. } = &self.input;
        let fields: Vec<String> = self.input.fields().map(|(name, kind)| format!("{} ({})", json!(name), kind.words())).collect();
        let system = format!(
            "You make up personas. Answer with one JSON object and nothing else. It has exactly these members: {}.",
            fields.join(", ")
        );
        let user = format!("{prompt}\n\nThis is persona {} of {count}; make it unlike the others.", index + 1);
        let mut request = Map::new();
        let mut put = |name: &str, value: Option<Value>| {
            if let Some(value) = value {
                request.insert(name.to_owned(), value);
            }
        };
        put("model", Some(json!(model)));
        put("messages", Some(json!([{ "role": "system", "content": system }, { "role": "user", "content": user }])));
        put("response_format", Some(json!({ "type": "json_object" })));
        put("temperature", temperature.map(Value::from));
        put("top_p", top_p.map(Value::from));
        put("max_tokens", max_tokens.map(Value::from));
        put("seed", seed.map(|seed| Value::from(u64::from(seed) + u64::from(index))));
        request
    }

    /// Tells of a persona; repeats have the same ids.
    async fn tell(&self, index: u32, persona: &Persona) {
        let Run { shop, waiting, job, ids, .. } = self;
        let mut data = ids.clone();
        (data["index"], data["total"]) = (json!(index + 1), json!(self.input.count));
        data["persona"] = Value::Object(persona.persona.clone());
        let data: Box<RawValue> = to_raw_value(&data).expect("JSON has a JSON form");
        let part = ("persona.created", u64::from(index), Time(persona.at));
        while let Err(error) = shop.jobs.tell_part(&waiting.tenant, waiting.job, job, part, &data).await {
            tracing::warn!(%error, job = %waiting.job, "a persona can't be told; trying again");
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// Writes all personas into one file, a line for each.
    async fn gather(&self, name: &str) -> Result<(), Error> {
        loop {
            let lines = stream::try_unfold(0, |index| async move {
                if index == self.input.count {
                    return Ok(None);
                }
                let persona = self.kept(index).await.map_err(|error| error.message)?;
                let persona = persona.ok_or_else(|| format!("persona {index} is gone"))?;
                Ok::<_, String>(Some((line(&persona), index + 1)))
            });
            match self.shop.blobs.put_stream(name, lines).await {
                Ok(()) => return Ok(()),
                Err(error @ BlobError::Unavailable(_)) => {
                    tracing::warn!(%error, job = %self.waiting.job, "an experiment's file can't be kept; trying again");
                }
                Err(error @ (BlobError::Missing { .. } | BlobError::Invalid { .. })) => return Err(Error::new("internal", error)),
            }
            tokio::time::sleep(AGAIN).await;
        }
    }
}

fn line(persona: &Persona) -> Bytes {
    let mut line = BytesMut::from(Value::Object(persona.persona.clone()).to_string().as_bytes());
    line.extend_from_slice(b"\n");
    line.freeze()
}

/// The job's row, which this worker has just claimed.
async fn row(shop: &Shop, waiting: &Waiting) -> Result<Job, Error> {
    loop {
        match shop.store.job(&waiting.tenant, waiting.job).await {
            Ok(Some(job)) => return Ok(job),
            Ok(None) => return Err(Error::new("internal", "the job's row is gone")),
            Err(error) => tracing::warn!(%error, job = %waiting.job, "a job can't be looked up; trying again"),
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// Asks the blobs until they are available.
async fn patiently<T, F: Future<Output = Result<T, BlobError>>>(ask: impl Fn() -> F) -> Result<T, BlobError> {
    loop {
        match ask().await {
            Err(error @ BlobError::Unavailable(_)) => tracing::warn!(%error, "a persona can't be kept or read; trying again"),
            answer => return answer,
        }
        tokio::time::sleep(AGAIN).await;
    }
}
