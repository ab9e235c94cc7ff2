//! Chat completions, gathered from a stream of pieces.

use serde::{Deserialize, Deserializer, Serialize};

use crate::error::{UpstreamError, words};

/// What a model said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Completion {
    /// The upstream's id of it.
    pub id: String,
    /// The model that said it.
    pub model: String,
    /// The text.
    pub content: String,
    /// Why it ends: `stop`, `length`, `content_filter`.
    pub finish_reason: String,
    /// What it cost; zeros where the upstream does not say.
    pub usage: Usage,
    /// The upstream's name of the request (`x-request-id`).
    pub request_id: Option<String>,
}

/// Tokens of one completion.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Usage {
    /// Of what was asked.
    pub prompt_tokens: u64,
    /// Of what was answered.
    pub completion_tokens: u64,
    /// Both.
    pub total_tokens: u64,
}

impl Usage {
    /// Both, also where the upstream names only the parts.
    pub fn total(&self) -> u64 {
        self.total_tokens.max(self.prompt_tokens.saturating_add(self.completion_tokens))
    }
}

/// A piece of a stream, or a whole answer: both have this shape.
#[derive(Deserialize)]
struct Chunk {
    #[serde(default, deserialize_with = "or_default")]
    id: String,
    #[serde(default, deserialize_with = "or_default")]
    model: String,
    #[serde(default, deserialize_with = "or_default")]
    choices: Vec<Choice>,
    #[serde(default)]
    usage: Option<Usage>,
    #[serde(default)]
    error: Option<serde_json::Value>,
}

#[derive(Deserialize)]
struct Choice {
    #[serde(default)]
    index: u64,
    #[serde(default, alias = "message", deserialize_with = "or_default")]
    delta: Said,
    #[serde(default)]
    finish_reason: Option<String>,
}

#[derive(Default, Deserialize)]
struct Said {
    #[serde(default)]
    content: Option<String>,
}

/// Such servers say `null` for what they have not.
fn or_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(deserializer: D) -> Result<T, D::Error> {
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// A completion that grows.
#[derive(Default)]
pub(crate) struct Gathering {
    id: String,
    model: String,
    content: String,
    finish_reason: Option<String>,
    usage: Usage,
}

impl Gathering {
    /// Takes a piece, or a whole answer. Errors: it is none, or says that the upstream failed; without the `key`.
    pub(crate) fn take(&mut self, json: &[u8], key: &str) -> Result<(), UpstreamError> {
        let chunk: Chunk = serde_json::from_slice(json).map_err(|error| {
            // The reason may repeat what it is about.
            UpstreamError::Malformed(format!("no completion: {}", words(error.to_string().as_bytes(), key)))
        })?;
        if chunk.error.is_some() {
            return Err(UpstreamError::Failed { message: words(json, key), retry_after: None });
        }
        for (kept, given) in [(&mut self.id, chunk.id), (&mut self.model, chunk.model)] {
            if kept.is_empty() {
                *kept = given;
            }
        }
        self.usage = chunk.usage.unwrap_or(self.usage);
        for choice in chunk.choices.into_iter().filter(|choice| choice.index == 0) {
            self.content.push_str(choice.delta.content.as_deref().unwrap_or_default());
            self.finish_reason = choice.finish_reason.or(self.finish_reason.take());
        }
        Ok(())
    }

    /// The text so far.
    pub(crate) fn content(&self) -> &str {
        &self.content
    }

    /// What it has become. Errors: it broke off.
    pub(crate) fn finish(self, request_id: Option<String>) -> Result<Completion, UpstreamError> {
        let Gathering { id, model, content, finish_reason, usage } = self;
        let finish_reason = finish_reason.ok_or_else(|| UpstreamError::Cut("before it said why it ends".to_owned()))?;
        Ok(Completion { id, model, content, finish_reason, usage, request_id })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gathered(pieces: &[&str]) -> Result<Completion, UpstreamError> {
        let mut gathering = Gathering::default();
        for piece in pieces {
            gathering.take(piece.as_bytes(), "sk-secret")?;
        }
        gathering.finish(None)
    }

    #[test]
    fn a_stream_and_a_whole_answer_give_the_same() {
        let stream = gathered(&[
            r#"{"id":"c1","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}],"usage":null}"#,
            r#"{"id":"c1","model":"m","choices":[{"index":0,"delta":{"content":"Ak"}}]}"#,
            r#"{"id":"c1","model":"m","choices":[{"index":0,"delta":{"content":"kam"},"finish_reason":null},{"index":1,"delta":{"content":"no"}}]}"#,
            r#"{"id":"c1","model":"m","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#,
            r#"{"id":"c1","model":"m","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5,"details":{}}}"#,
        ]);
        let whole = gathered(&[
            r#"{"id":"c1","model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"Akkam"},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}}"#,
        ]);
        assert_eq!(stream, whole);
        let whole = whole.unwrap();
        assert_eq!((whole.content.as_str(), whole.usage.total_tokens), ("Akkam", 5));
    }

    #[test]
    fn what_breaks_off_fails_or_is_something_else_is_no_completion() {
        let code = |pieces| gathered(pieces).unwrap_err().code();
        assert_eq!(code(&[r#"{"choices":[{"delta":{"content":"a"}}]}"#]), "upstream_cut");
        assert_eq!(code(&["<html>"]), "upstream_malformed");
        assert_eq!(code(&[r#"{"choices":7}"#]), "upstream_malformed");
        let long = gathered(&[&format!(r#"{{"choices":"sk-secret{}"}}"#, "x".repeat(100_000))]).unwrap_err().to_string();
        assert!(long.len() < 1000 && !long.contains("sk-secret"), "{long}");
        let failed = gathered(&[r#"{"error":{"message":"overloaded sk-secret"}}"#]).unwrap_err();
        assert_eq!((failed.code(), failed.to_string().contains("sk-secret")), ("upstream_failed", false));
    }
}
