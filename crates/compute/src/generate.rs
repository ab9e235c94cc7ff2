//! The kind `generate`: a chat that the upstream completes.

use bytes::Bytes;
use postrider_core::id::JobId;
use postrider_core::job::Error;
use postrider_ingest::jobs::GenerateInput;
use postrider_upstream::{Completion, Upstream, UpstreamError};
use serde::Serialize;

use crate::budget;
use crate::progress::Progress;
use crate::worker::Shop;

/// Most bytes of a text that are told at once while it grows; what is more is told at its end.
const MAX_PIECE: usize = 64 << 10;

/// What is told of a text that grows.
#[derive(Serialize)]
struct Streaming<'a> {
    job_id: String,
    model: &'a str,
    /// How many bytes of the text were told before.
    offset: usize,
    /// What has come since.
    content: &'a str,
}

/// The result, and what `completion.finished` says.
#[derive(Serialize)]
struct Finished {
    completion_id: String,
    model: String,
    prompt_tokens: u64,
    completion_tokens: u64,
    total_tokens: u64,
    finish_reason: String,
    content: String,
    request_id: String,
}

/// Has the chat of `input` completed; gives the completion as JSON.
pub(crate) async fn run(shop: &Shop, (tenant, job): (&str, JobId), input: Bytes, progress: &Progress) -> Result<Vec<u8>, Error> {
    let GenerateInput { request } = GenerateInput::from_json(&input).map_err(|error| Error::new("invalid_input", error))?;
    let model = request.get("model").and_then(serde_json::Value::as_str).unwrap_or_default();
    let (mut told, mut seen) = (0, 0);
    let on_text = |text: &str| {
        match text.is_empty() {
            true => (told, seen) = (0, 0), // it begins, perhaps again
            false if !progress.has_word() => told = seen,
            false => {}
        }
        if (1..=MAX_PIECE).contains(&text.len().saturating_sub(told)) {
            progress.say(&Streaming { job_id: job.to_string(), model, offset: told, content: &text[told..] });
        }
        seen = text.len();
    };
    let upstream = upstream(shop)?;
    budget::check(shop, tenant).await?;
    let completion = upstream.chat(&request, on_text).await.map_err(failed)?;
    budget::spend(shop, tenant, completion.usage).await;
    let Completion { id, model, content, finish_reason, usage, request_id } = completion;
    let finished = Finished {
        completion_id: id,
        model,
        prompt_tokens: usage.prompt_tokens,
        completion_tokens: usage.completion_tokens,
        total_tokens: usage.total_tokens,
        finish_reason,
        content,
        request_id: request_id.unwrap_or_else(|| job.to_string()),
    };
    serde_json::to_vec(&finished).map_err(|error| Error::new("internal", error))
}

/// The upstream that is configured.
pub(crate) fn upstream(shop: &Shop) -> Result<&Upstream, Error> {
    shop.upstream.as_ref().ok_or_else(|| {
        let why = shop.jobs.kinds.upstream.as_ref().err().map_or("this worker has no upstream", String::as_str);
        Error::new("unavailable", why)
    })
}

/// What the job failed of.
pub(crate) fn failed(error: UpstreamError) -> Error {
    Error::new(error.code(), error)
}
