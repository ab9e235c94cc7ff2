//! Requests to one upstream.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue, USER_AGENT};
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use postrider_egress::client_config;
use serde_json::{Map, Value, json};
use tokio::time::{Duration, Instant, timeout_at};
use url::Url;

use crate::chat::{Completion, Gathering};
use crate::error::UpstreamError;
use crate::exchange::{Answer, Pieces, media_type, reason, refusal, request_id};
use crate::frames::Frames;
use crate::options::{OpenError, UpstreamOptions};
use crate::tries::Tries;

/// Longest event of a stream, in bytes; one piece of a text takes a few hundred.
const MAX_FRAME: usize = 4 << 20;
/// Idle connections that are kept, and for how long.
const MAX_IDLE: usize = 64;
const IDLE_FOR: Duration = Duration::from_secs(30);
/// The end of a stream of pieces.
const DONE: &str = "[DONE]";

/// Asks an OpenAI-compatible server; cheap to clone. Its connections belong to the Tokio runtime that opened them, so each
/// runtime needs one of its own.
///
/// Each request is sent up to `tries` times, with growing waits in between, while what fails may pass: no connection, a
/// time-out, an answer that breaks off, 408, 409, 429 and 5xx. A future that is dropped closes its connection.
#[derive(Clone)]
pub struct Upstream(Arc<Inner>);

struct Inner {
    http: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    base: Url,
    authorization: Option<HeaderValue>,
    options: UpstreamOptions,
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upstream").field("base", &self.0.base.as_str()).finish_non_exhaustive()
    }
}

/// A file that is being spoken.
pub struct Speech {
    /// What it is, without parameters, such as `audio/mpeg`.
    pub media_type: String,
    /// The upstream's name of the request.
    pub request_id: Option<String>,
    pieces: Pieces,
}

impl Speech {
    /// The next piece of the file; `None` at its end. Errors: it broke off, or is too large.
    pub async fn next(&mut self) -> Result<Option<Bytes>, UpstreamError> {
        self.pieces.next().await
    }
}

/// How long the beginning of an answer may take.
#[derive(Clone, Copy)]
enum Head {
    /// It comes at once, and the rest in pieces.
    Streamed,
    /// It comes when the whole is done.
    Whole,
}

impl Upstream {
    /// Nothing is connected yet. Errors: what is configured can't be used.
    pub fn new(options: UpstreamOptions) -> Result<Upstream, OpenError> {
        let base = base(&options.base_url)?;
        let authorization = match options.api_key.reveal() {
            "" => None,
            key => {
                let mut value = HeaderValue::try_from(format!("Bearer {key}")).map_err(|_| OpenError::Key)?;
                value.set_sensitive(true);
                Some(value)
            }
        };
        let mut tls = (*client_config(options.extra_ca.as_deref())?).clone();
        tls.alpn_protocols.clear(); // the connector names them itself
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_connect_timeout(Some(options.connect));
        tcp.set_nodelay(true);
        let connector = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().wrap_connector(tcp);
        let http = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_FOR)
            .pool_max_idle_per_host(MAX_IDLE)
            .build(connector);
        Ok(Upstream(Arc::new(Inner { http, base, authorization, options })))
    }

    /// Has a chat completion made. `request` is passed on, but for how it is to be answered, which is ours to say.
    ///
    /// `on_text` hears the whole text so far whenever it grows, and an empty one at the beginning of each try.
    pub async fn chat(&self, request: &Map<String, Value>, mut on_text: impl FnMut(&str)) -> Result<Completion, UpstreamError> {
        let mut request = request.clone();
        request.insert("stream".to_owned(), Value::Bool(true));
        request.insert("stream_options".to_owned(), json!({ "include_usage": true }));
        let body = Bytes::from(Value::Object(request).to_string());
        self.patiently(async || {
            on_text("");
            self.chat_once(&body, &mut on_text).await
        })
        .await
    }

    async fn chat_once(&self, body: &Bytes, on_text: &mut impl FnMut(&str)) -> Result<Completion, UpstreamError> {
        let (response, deadline) = self.succeed("chat/completions", body, Head::Streamed).await?;
        let (name, kind) = (request_id(response.headers()), media_type(response.headers()));
        let (mut pieces, key) = (self.pieces(response, deadline), self.0.options.api_key.reveal());
        let mut gathering = Gathering::default();
        if kind != "text/event-stream" {
            gathering.take(&pieces.rest().await?, key)?;
            on_text(gathering.content());
            return gathering.finish(name);
        }
        let mut frames = Frames::new(MAX_FRAME);
        while let Some(piece) = pieces.next().await? {
            frames.push(&piece).map_err(|error| UpstreamError::Malformed(error.to_string()))?;
            let before = gathering.content().len();
            while let Some(frame) = frames.pop() {
                if frame.data.trim() == DONE {
                    return gathering.finish(name);
                }
                gathering.take(frame.data.as_bytes(), key)?;
            }
            if gathering.content().len() > before {
                on_text(gathering.content());
            }
        }
        gathering.finish(name)
    }

    /// Posts a JSON body to `path`, such as `/v1/embeddings`, and gives the answer as it is. Answers that may be others
    /// later (408, 409, 429, 5xx) are tried again, and then errors.
    pub async fn post(&self, path: &str, body: Bytes) -> Result<Answer, UpstreamError> {
        self.patiently(async || {
            let (response, deadline) = self.send(path, &body, Head::Whole).await?;
            let status = response.status().as_u16();
            if matches!(status, 408 | 409 | 429 | 500..) {
                return Err(self.refusal(response, deadline).await);
            }
            let request_id = request_id(response.headers());
            Ok(Answer { status, request_id, body: self.pieces(response, deadline).rest().await? })
        })
        .await
    }

    /// Has a text spoken: `request` is what `/audio/speech` takes. The file is read with [`Speech::next`].
    pub async fn speech(&self, request: &Map<String, Value>) -> Result<Speech, UpstreamError> {
        let body = Bytes::from(serde_json::to_vec(request).expect("a map of JSON has a JSON form"));
        self.patiently(async || {
            let (response, deadline) = self.succeed("audio/speech", &body, Head::Whole).await?;
            let (media_type, request_id) = (media_type(response.headers()), request_id(response.headers()));
            Ok(Speech { media_type, request_id, pieces: self.pieces(response, deadline) })
        })
        .await
    }

    /// Tries until it succeeds, fails for good, or was tried often enough.
    async fn patiently<T>(&self, mut attempt: impl AsyncFnMut() -> Result<T, UpstreamError>) -> Result<T, UpstreamError> {
        let mut tries = Tries::new(self.0.options.tries);
        loop {
            let error = match attempt().await {
                Ok(done) => return Ok(done),
                Err(error) => error,
            };
            // Without chance all wait equally long, which is no harm but to the upstream.
            let chance = getrandom::u32().map_or(1.0, |bits| f64::from(bits) / f64::from(u32::MAX));
            let Some(wait) = tries.after(&error, chance) else { return Err(error) };
            tracing::warn!(upstream = %self.0.base, %error, ?wait, "a request to the upstream failed; trying again");
            tokio::time::sleep(wait).await;
        }
    }

    /// As [`Upstream::send`]; only success is an answer.
    async fn succeed(&self, path: &str, body: &Bytes, head: Head) -> Result<(Response<Incoming>, Instant), UpstreamError> {
        let (response, deadline) = self.send(path, body, head).await?;
        if response.status().is_success() {
            return Ok((response, deadline));
        }
        Err(self.refusal(response, deadline).await)
    }

    /// Sends a request once; returns the head of the answer, and when its body must have been read.
    async fn send(&self, path: &str, body: &Bytes, head: Head) -> Result<(Response<Incoming>, Instant), UpstreamError> {
        let Inner { http, base, authorization, options } = &*self.0;
        let uri = join(base, path);
        let mut request = Request::post(uri.as_str())
            .header(CONTENT_TYPE, "application/json")
            .header(ACCEPT, "application/json, text/event-stream, audio/*")
            .header(USER_AGENT, concat!("Postrider/", env!("CARGO_PKG_VERSION")));
        if let Some(value) = authorization {
            request = request.header(AUTHORIZATION, value);
        }
        let request = request.body(Full::new(body.clone())).map_err(|error| UpstreamError::Unreachable(error.to_string()))?;
        let wait = match head {
            Head::Streamed => options.total.min(options.idle),
            Head::Whole => options.total,
        };
        let begun = Instant::now();
        let deadline = begun + options.total;
        let answered = timeout_at(begun + wait, http.request(request)).await;
        let silent = |_| UpstreamError::TimedOut(format!("it did not begin to answer within {} s", wait.as_secs_f64()));
        match answered.map_err(silent)? {
            Ok(response) => Ok((response, deadline)),
            Err(error) if error.is_connect() => Err(UpstreamError::Unreachable(reason(&error))),
            Err(error) => Err(UpstreamError::Cut(reason(&error))),
        }
    }

    fn pieces(&self, response: Response<Incoming>, deadline: Instant) -> Pieces {
        let UpstreamOptions { idle, max_bytes, .. } = self.0.options;
        Pieces::new(response.into_body(), idle, deadline, max_bytes)
    }

    async fn refusal(&self, response: Response<Incoming>, deadline: Instant) -> UpstreamError {
        refusal(response, self.0.options.idle, deadline, self.0.options.api_key.reveal()).await
    }
}

/// What all paths begin with, as it is configured.
fn base(given: &str) -> Result<Url, OpenError> {
    let wrong = |reason: &str| OpenError::Url { given: given.to_owned(), reason: reason.to_owned() };
    let base = Url::parse(given).map_err(|error| wrong(&error.to_string()))?;
    match base.scheme() {
        "http" | "https" => {}
        _ => return Err(wrong("it must begin with https:// or http://")),
    }
    // Not repeated where it may hold a secret.
    let secret = |reason: &str| OpenError::Url { given: "…".to_owned(), reason: reason.to_owned() };
    if !base.username().is_empty() || base.password().is_some() {
        return Err(secret("a name or password in it is not sent; use upstream.api_key"));
    }
    if base.query().is_some() || base.fragment().is_some() {
        return Err(secret("it must end with its path; what follows `?` or `#` is not sent"));
    }
    Ok(base)
}

/// Where `path` is: `/v1/x` as batches name it, or `x`. The base stands for `/v1`, whatever its own path is.
fn join(base: &Url, path: &str) -> Url {
    let rest = path.trim_start_matches('/');
    let rest = rest.strip_prefix("v1/").unwrap_or(rest);
    let mut url = base.clone();
    url.set_path(&format!("{}/{rest}", base.path().trim_end_matches('/')));
    url
}

#[cfg(test)]
mod tests {
    use super::*;
    use postrider_core::secret::Secret;

    #[test]
    fn paths_are_joined_as_batches_name_them() {
        for (given, path, joined) in [
            ("http://a/v1", "chat/completions", "http://a/v1/chat/completions"),
            ("http://a/v1/", "/v1/chat/completions", "http://a/v1/chat/completions"),
            ("http://a", "/v1/embeddings", "http://a/embeddings"),
            ("https://a:8443/openai/v1", "/v1/embeddings", "https://a:8443/openai/v1/embeddings"),
        ] {
            assert_eq!(join(&base(given).unwrap(), path).as_str(), joined);
        }
    }

    #[test]
    fn what_is_configured_wrong_is_said_without_secrets() {
        let open = |url: &str, key: &str| {
            Upstream::new(UpstreamOptions { base_url: url.to_owned(), api_key: Secret::new(key), ..UpstreamOptions::default() })
        };
        for url in ["", "api.openai.com/v1", "ftp://a/v1", "http://a/v1?key=7"] {
            let words = open(url, "k").unwrap_err().to_string();
            assert!(words.contains("upstream.base_url"), "{words}");
        }
        for url in ["https://me:hidden@a/v1", "https://a/v1?key=hidden", "https://a/v1#hidden"] {
            let words = open(url, "k").unwrap_err().to_string();
            assert!(!words.contains("hidden"), "{words}");
        }
        assert!(matches!(open("https://a/v1", "a\nb"), Err(OpenError::Key)));
        assert!(!format!("{:?}", open("https://a/v1", "sk-hidden").unwrap()).contains("hidden"));
    }
}
