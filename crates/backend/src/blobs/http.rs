//! The HTTP under the protocol of S3: our own client and its TLS, as everywhere else.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http_body_util::BodyExt;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector as Tcp;
use hyper_util::client::legacy::{Client, Error};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpRequestBody, HttpResponse, HttpResponseBody, HttpService,
};
use rustls::ClientConfig;
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;

/// Longest wait for a connection, and for the head of an answer.
const CONNECT: Duration = Duration::from_secs(5);
const ANSWER: Duration = Duration::from_secs(30);
/// Idle connections that are kept, and for how long.
const MAX_IDLE: usize = 32;
const IDLE_FOR: Duration = Duration::from_secs(30);

/// Makes clients that share their connections.
#[derive(Clone)]
pub(super) struct Connector {
    client: Client<HttpsConnector<Tcp>, HttpRequestBody>,
    runtime: Arc<Own>,
}

/// Where connections live: callers come from runtimes that end at different times, and a connection would end with its own.
struct Own(Option<Runtime>);

impl Drop for Own {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connector")
    }
}

impl Connector {
    pub(super) fn new(mut tls: ClientConfig) -> io::Result<Connector> {
        tls.alpn_protocols.clear(); // the connector names them itself
        let mut tcp = Tcp::new();
        tcp.enforce_http(false);
        tcp.set_connect_timeout(Some(CONNECT));
        tcp.set_nodelay(true);
        let connector = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().wrap_connector(tcp);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_FOR)
            .pool_max_idle_per_host(MAX_IDLE)
            .build(connector);
        let runtime = Builder::new_multi_thread().worker_threads(1).thread_name("blobs-http").enable_all().build()?;
        Ok(Connector { client, runtime: Arc::new(Own(Some(runtime))) })
    }
}

impl HttpConnector for Connector {
    fn connect(&self, _options: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.clone()))
    }
}

#[async_trait]
impl HttpService for Connector {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let Some(runtime) = &self.runtime.0 else { return Err(HttpError::new(HttpErrorKind::Unknown, io::Error::other("it is closed"))) };
        let asked = runtime.spawn(timeout(ANSWER, self.client.request(request)));
        match asked.await {
            Ok(Ok(Ok(response))) => Ok(response.map(|body| HttpResponseBody::new(body.map_err(broken_off)))),
            Ok(Ok(Err(error))) => Err(HttpError::new(kind(&error), reason(&error))),
            Ok(Err(late)) => Err(HttpError::new(HttpErrorKind::Timeout, late)),
            Err(error) => Err(HttpError::new(HttpErrorKind::Unknown, error)),
        }
    }
}

/// Whether the request was sent, as far as that is known.
fn kind(error: &Error) -> HttpErrorKind {
    match error.is_connect() {
        true => HttpErrorKind::Connect,
        false => HttpErrorKind::Interrupted,
    }
}

fn broken_off(error: hyper::Error) -> HttpError {
    HttpError::new(HttpErrorKind::Interrupted, error)
}

/// The innermost reason, which is the one that says something.
fn reason(error: &Error) -> io::Error {
    let mut cause: &dyn std::error::Error = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    io::Error::other(cause.to_string())
}
