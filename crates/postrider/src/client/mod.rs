//! The HTTP API as the client commands use it.

mod answers;
mod feed;
mod problem;

use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use postrider_core::secret::Secret;
use reqwest::{Method, RequestBuilder, Response, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::failure::Failure;

pub(crate) use answers::{
    Attempted, BatchItem, BatchReceipt, Endpoint, Endpoints, Job, JobReceipt, Jobs, Receipt, Replayed, RotatedSecret, TestReport,
};
pub(crate) use feed::{Feed, News};

use problem::Problem;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Longest wait for a whole answer; a page of a replay is the slowest.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// Where the server is and which key opens it: options of every client command.
#[derive(Clone, clap::Args)]
pub(crate) struct Server {
    /// The server's address.
    #[arg(id = "server", long, value_name = "URL", env = "POSTRIDER_URL", default_value = "http://127.0.0.1:8080", global = true)]
    address: String,
    /// The API key; better given in the environment, where other users can't see it.
    #[arg(long, value_name = "KEY", env = "POSTRIDER_API_KEY", hide_env_values = true, global = true)]
    api_key: Option<String>,
}

impl Server {
    /// A server that was not named on the command line.
    pub(crate) fn new(address: String, key: &Secret) -> Server {
        Server { address, api_key: Some(key.reveal().to_owned()) }
    }
}

/// Speaks to one server with one key.
///
/// Every call fails with [`Failure::Unreachable`] where no server answers in time, and with the problem document's
/// words where it refuses.
#[derive(Clone)]
pub(crate) struct Client {
    http: reqwest::Client,
    base: Url,
    key: Option<Secret>,
}

impl Client {
    /// Errors: the address is no `http` URL.
    pub(crate) fn new(server: &Server) -> Result<Client, Failure> {
        let base: Url = server.address.parse().map_err(|error| Failure::Usage(format!("POSTRIDER_URL `{}`: {error}", server.address)))?;
        match base.scheme() {
            "http" => {}
            "https" => return Err(Failure::Usage(format!("{base}: the commands speak plain http; reach the server from its own network"))),
            other => return Err(Failure::Usage(format!("POSTRIDER_URL must begin with http://, not {other}:"))),
        }
        let http = reqwest::Client::builder().connect_timeout(CONNECT_TIMEOUT).build().context("the HTTP client can't start")?;
        Ok(Client { http, base, key: server.api_key.as_deref().map(Secret::new) })
    }

    /// Reads what is at `path`, given in segments.
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &[&str], query: &[(&str, &str)]) -> Result<T, Failure> {
        let mut url = self.url(path);
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        self.answer(self.request(Method::GET, url)).await
    }

    /// Posts `body` as JSON to `path`.
    pub(crate) async fn post<T: DeserializeOwned>(&self, path: &[&str], body: &impl Serialize) -> Result<T, Failure> {
        self.answer(self.request(Method::POST, self.url(path)).json(body)).await
    }

    /// Posts `body` with an `Idempotency-Key`, so that a repeat within a day changes nothing.
    pub(crate) async fn post_once<T: DeserializeOwned>(&self, path: &[&str], body: &impl Serialize, key: &str) -> Result<T, Failure> {
        self.answer(self.request(Method::POST, self.url(path)).header("idempotency-key", key).json(body)).await
    }

    /// Deletes what is at `path`.
    pub(crate) async fn delete(&self, path: &[&str]) -> Result<(), Failure> {
        self.send(self.request(Method::DELETE, self.url(path)).timeout(ANSWER_TIMEOUT)).await.map(drop)
    }

    /// Deletes what is at `path`, and says what the server answers.
    pub(crate) async fn delete_for<T: DeserializeOwned>(&self, path: &[&str]) -> Result<T, Failure> {
        self.answer(self.request(Method::DELETE, self.url(path))).await
    }

    /// Begins to read a file.
    pub(crate) async fn open(&self, path: &[&str]) -> Result<Response, Failure> {
        let opening = self.send(self.request(Method::GET, self.url(path)));
        tokio::time::timeout(ANSWER_TIMEOUT, opening).await.map_err(|_| self.unreachable("it does not answer".to_owned()))?
    }

    /// The next piece of a file; `None` at its end.
    pub(crate) async fn next(&self, response: &mut Response) -> Result<Option<Bytes>, Failure> {
        let reading = tokio::time::timeout(ANSWER_TIMEOUT, response.chunk()).await;
        reading.map_err(|_| self.unreachable("it stopped in the middle of a file".to_owned()))?.map_err(|error| self.failed(error))
    }

    /// Opens the stream of attempts as they happen.
    pub(crate) async fn feed(&self, query: &[(&str, &str)]) -> Result<Feed, Failure> {
        let mut url = self.url(&["v1", "events", "stream"]);
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let opening = self.send(self.request(Method::GET, url).header("accept", "text/event-stream"));
        let response =
            tokio::time::timeout(ANSWER_TIMEOUT, opening).await.map_err(|_| self.unreachable("it does not answer".to_owned()))??;
        Ok(Feed::new(response))
    }

    fn url(&self, path: &[&str]) -> Url {
        let mut url = self.base.clone();
        url.path_segments_mut().expect("http URLs have paths").pop_if_empty().extend(path);
        url
    }

    fn request(&self, method: Method, url: Url) -> RequestBuilder {
        let request = self.http.request(method, url);
        match &self.key {
            Some(key) => request.bearer_auth(key.reveal()),
            None => request,
        }
    }

    async fn answer<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, Failure> {
        let response = self.send(request.timeout(ANSWER_TIMEOUT)).await?;
        let body = response.bytes().await.map_err(|error| self.failed(error))?;
        Ok(serde_json::from_slice(&body).with_context(|| format!("{} answers something else than expected", self.base))?)
    }

    async fn send(&self, request: RequestBuilder) -> Result<Response, Failure> {
        let response = request.send().await.map_err(|error| self.failed(error))?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let body = response.bytes().await.map_err(|error| self.failed(error))?;
        let mut words = Problem::read(status, &body).to_string();
        if status == reqwest::StatusCode::UNAUTHORIZED && self.key.is_none() {
            words.push_str("\nset POSTRIDER_API_KEY; `postrider dev` prints the key");
        }
        Err(Failure::Failed(anyhow::Error::msg(words)))
    }

    fn failed(&self, error: reqwest::Error) -> Failure {
        if error.is_timeout() && !error.is_connect() {
            return self.unreachable("it does not answer in time".to_owned());
        }
        let cause = cause(&error);
        if error.is_builder() {
            return Failure::Usage(format!("the request can't be made: {cause}"));
        }
        self.unreachable(cause)
    }

    fn unreachable(&self, reason: String) -> Failure {
        let advice = "start one with `postrider dev`, or name another with POSTRIDER_URL";
        Failure::Unreachable { url: self.base.to_string(), reason, advice }
    }
}

/// What lies at the bottom of an error of the HTTP client, whose own words only repeat the URL.
pub(crate) fn cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}

/// Runs a command that waits, on this thread.
pub(crate) fn block_on<T>(command: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("no event loop can be started")?;
    runtime.block_on(command)
}
