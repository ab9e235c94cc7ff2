//! What goes wrong between us and an upstream.

use std::time::Duration;

/// Longest text of an upstream that is repeated, in characters.
const MOST_WORDS: usize = 500;

/// An upstream did not do what it was asked, however often it was tried.
///
/// The words name neither its address nor the key: whoever asked for the work reads them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UpstreamError {
    /// There is no connection.
    #[error("the upstream server can't be reached ({0}); its operator should look whether it runs, and at upstream.base_url")]
    Unreachable(String),
    /// It fell silent, or took too long.
    #[error("the upstream server gave no whole answer: {0}; try again, or ask for less")]
    TimedOut(String),
    /// The answer broke off.
    #[error("the upstream server's answer broke off ({0}); try again")]
    Cut(String),
    /// It is asked too much (429).
    #[error("the upstream server is asked too much: {message}; wait, or raise its limits")]
    RateLimited {
        /// What it says.
        message: String,
        /// When it may be asked again, if it says so.
        retry_after: Option<Duration>,
    },
    /// It does not accept the key (401, 403).
    #[error("the upstream server does not let us in ({status}): {message}; its operator should look at upstream.api_key")]
    Unauthorized {
        /// The status.
        status: u16,
        /// What it says.
        message: String,
    },
    /// It does not do what was asked for (another 4xx, or a redirect).
    #[error("the upstream server refused the request ({status}): {message}")]
    Refused {
        /// The status.
        status: u16,
        /// What it says.
        message: String,
    },
    /// It failed (5xx, or an error in the middle of an answer).
    #[error("the upstream server failed: {message}; try again")]
    Failed {
        /// What it says.
        message: String,
        /// When it may be asked again, if it says so.
        retry_after: Option<Duration>,
    },
    /// What it answers is something else.
    #[error("the upstream server answered something else than was asked for: {0}")]
    Malformed(String),
    /// The answer does not end.
    #[error("the upstream server's answer is longer than {0} bytes; ask for less")]
    TooLarge(usize),
}

impl UpstreamError {
    /// For programs: lower case, with underscores.
    pub fn code(&self) -> &'static str {
        match self {
            UpstreamError::Unreachable(_) => "upstream_unreachable",
            UpstreamError::TimedOut(_) => "upstream_timeout",
            UpstreamError::Cut(_) => "upstream_cut",
            UpstreamError::RateLimited { .. } => "upstream_rate_limited",
            UpstreamError::Unauthorized { .. } => "upstream_unauthorized",
            UpstreamError::Refused { .. } => "upstream_refused",
            UpstreamError::Failed { .. } => "upstream_failed",
            UpstreamError::Malformed(_) => "upstream_malformed",
            UpstreamError::TooLarge(_) => "upstream_too_large",
        }
    }

    /// Whether the same request may succeed later.
    pub(crate) fn may_pass(&self) -> bool {
        match self {
            UpstreamError::Unreachable(_)
            | UpstreamError::TimedOut(_)
            | UpstreamError::Cut(_)
            | UpstreamError::RateLimited { .. }
            | UpstreamError::Failed { .. } => true,
            UpstreamError::Unauthorized { .. }
            | UpstreamError::Refused { .. }
            | UpstreamError::Malformed(_)
            | UpstreamError::TooLarge(_) => false,
        }
    }

    /// How long it asks to be left alone.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            UpstreamError::RateLimited { retry_after, .. } | UpstreamError::Failed { retry_after, .. } => *retry_after,
            UpstreamError::Unreachable(_)
            | UpstreamError::TimedOut(_)
            | UpstreamError::Cut(_)
            | UpstreamError::Unauthorized { .. }
            | UpstreamError::Refused { .. }
            | UpstreamError::Malformed(_)
            | UpstreamError::TooLarge(_) => None,
        }
    }

    /// What an answer of `status` that is no success means.
    pub(crate) fn of_status(status: u16, message: String, retry_after: Option<Duration>) -> UpstreamError {
        match status {
            429 => UpstreamError::RateLimited { message, retry_after },
            401 | 403 => UpstreamError::Unauthorized { status, message },
            408 | 409 | 500.. => UpstreamError::Failed { message: format!("{status}, {message}"), retry_after },
            status => UpstreamError::Refused { status, message },
        }
    }
}

/// What a body that is no success says, in a few words; `key` is not repeated.
pub(crate) fn words(body: &[u8], key: &str) -> String {
    let json = serde_json::from_slice::<serde_json::Value>(body).ok();
    let said = json.as_ref().and_then(|json| said(json).map(str::to_owned));
    let text = said.unwrap_or_else(|| String::from_utf8_lossy(body).into_owned());
    let text = if key.is_empty() { text } else { text.replace(key, "…") };
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MOST_WORDS).collect();
    match text.trim() {
        "" => "without a word".to_owned(),
        text => text.to_owned(),
    }
}

/// The message of an error in the forms that such servers have.
fn said(json: &serde_json::Value) -> Option<&str> {
    let error = json.get("error").unwrap_or(json);
    error.as_str().or_else(|| error.get("message")?.as_str()).or_else(|| json.get("detail")?.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_it_says_is_repeated_in_few_words_and_without_the_key() {
        let openai = br#"{"error":{"message":"Incorrect API key provided: sk-very-secret.","type":"x","code":null}}"#;
        assert_eq!(words(openai, "sk-very-secret"), "Incorrect API key provided: ….");
        assert_eq!(words(br#"{"error":"no such model"}"#, ""), "no such model");
        assert_eq!(words(br#"{"detail":"Not Found"}"#, "k"), "Not Found");
        assert_eq!(words(b"<html>\x1b[31m", "k"), "<html> [31m");
        assert_eq!(words(b"  ", "k"), "without a word");
        assert_eq!(words(&[b'x'; 9000], "k").len(), MOST_WORDS);
    }
}
