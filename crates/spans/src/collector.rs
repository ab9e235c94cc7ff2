//! The receiver of spans, over OTLP/HTTP.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, RETRY_AFTER, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use postrider_egress::{EgressError, client_config};
use prost::Message as _;
use tokio::time::timeout;
use url::Url;

use crate::tracer::SpanOptions;

/// Most bytes of an answer that are read.
const MAX_ANSWER: usize = 64 << 10;
/// How long an idle connection is kept.
const IDLE_FOR: Duration = Duration::from_secs(30);
/// The longest wait that a receiver can ask for.
const MAX_WAIT: Duration = Duration::from_secs(30);

/// No spans can be sent with these options.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The address is none.
    #[error("otlp.endpoint must be an address such as http://127.0.0.1:4318, without name, password or query: {reason}")]
    Endpoint {
        /// What is wrong with it.
        reason: String,
    },
    /// A header can't be sent.
    #[error("otlp.headers: `{name}` is no header, or its value has characters that can't be sent")]
    Header {
        /// Which.
        name: String,
    },
    /// TLS can't be set up.
    #[error("{0}")]
    Tls(#[from] EgressError),
    /// The system gives no randomness.
    #[error("the system's randomness can't be read: {0}")]
    Randomness(#[from] getrandom::Error),
    /// It was called before.
    #[error("spans are taken by something else in this process")]
    Twice,
}

/// Why spans were not taken.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum SendError {
    /// The same request may succeed later.
    #[error("{reason}")]
    Passing { reason: String, wait: Option<Duration> },
    /// It never will.
    #[error("{reason}")]
    Lasting { reason: String },
}

/// Where spans are sent.
pub(crate) struct Collector {
    http: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    uri: Uri,
    headers: HeaderMap,
    timeout: Duration,
}

impl Collector {
    /// Nothing is connected yet.
    pub(crate) fn new(options: &SpanOptions) -> Result<Collector, OpenError> {
        let uri = uri(&options.endpoint).map_err(|reason| OpenError::Endpoint { reason })?;
        let mut headers = HeaderMap::new();
        for (name, value) in &options.headers {
            let wrong = || OpenError::Header { name: name.clone() };
            let key = HeaderName::from_bytes(name.as_bytes()).map_err(|_| wrong())?;
            let mut value = HeaderValue::from_str(value.reveal()).map_err(|_| wrong())?;
            value.set_sensitive(true);
            headers.insert(key, value);
        }
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
        headers.insert(USER_AGENT, HeaderValue::from_static(concat!("Postrider/", env!("CARGO_PKG_VERSION"))));
        let mut tls = (*client_config(options.extra_ca.as_deref())?).clone();
        tls.alpn_protocols.clear(); // the connector names them itself
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_connect_timeout(Some(options.timeout));
        tcp.set_nodelay(true);
        let connector = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().wrap_connector(tcp);
        let http = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_FOR)
            .pool_max_idle_per_host(1)
            .build(connector);
        Ok(Collector { http, uri, headers, timeout: options.timeout })
    }

    /// Sends a request once; returns how many of its spans were not taken.
    pub(crate) async fn send(&self, body: Bytes) -> Result<u64, SendError> {
        let passing = |reason: String| SendError::Passing { reason, wait: None };
        let mut request =
            Request::post(self.uri.clone()).body(Full::new(body)).map_err(|error| SendError::Lasting { reason: error.to_string() })?;
        *request.headers_mut() = self.headers.clone();
        let exchange = async {
            let response = self.http.request(request).await.map_err(|error| passing(innermost(&error)))?;
            let (head, body) = response.into_parts();
            let body = Limited::new(body, MAX_ANSWER).collect().await.map_err(|error| passing(innermost(&*error)))?.to_bytes();
            Ok(Response::from_parts(head, body))
        };
        let answer = timeout(self.timeout, exchange).await;
        let answer = answer.map_err(|_| passing(format!("no whole answer within {:?}", self.timeout)))??;
        judge(&answer)
    }
}

/// What an answer says, by the rules of OTLP/HTTP.
fn judge(answer: &Response<Bytes>) -> Result<u64, SendError> {
    let status = answer.status();
    let reason = || format!("it answered {status}");
    match status.as_u16() {
        200..=299 => {
            // One that can't be read says nothing else than its status.
            let read = ExportTraceServiceResponse::decode(&answer.body()[..]).unwrap_or_default();
            let refused = read.partial_success.map_or(0, |partial| partial.rejected_spans);
            Ok(u64::try_from(refused).unwrap_or_default())
        }
        429 | 502 | 503 | 504 => {
            let asked = answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()).and_then(|text| text.parse().ok());
            Err(SendError::Passing { reason: reason(), wait: asked.map(|seconds| Duration::from_secs(seconds).min(MAX_WAIT)) })
        }
        _ => Err(SendError::Lasting { reason: reason() }),
    }
}

/// Where the receiver takes spans. Errors: without what was given, which may hold a secret.
fn uri(endpoint: &str) -> Result<Uri, String> {
    let mut url = Url::parse(endpoint).map_err(|error| error.to_string())?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err("it must begin with https:// or http://".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("a name or password in it is not sent; use otlp.headers".to_owned());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("it must end with its path".to_owned());
    }
    url.set_path(&format!("{}/v1/traces", url.path().trim_end_matches('/')));
    url.as_str().parse().map_err(|error: http::uri::InvalidUri| error.to_string())
}

/// The reason that says something.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use opentelemetry_proto::tonic::collector::trace::v1::ExportTracePartialSuccess;
    use postrider_core::secret::Secret;

    fn options(endpoint: &str, headers: &[(&str, &str)]) -> SpanOptions {
        SpanOptions {
            endpoint: endpoint.to_owned(),
            headers: headers.iter().map(|(name, value)| ((*name).to_owned(), Secret::new(*value))).collect(),
            ratio: 1.0,
            service: "postrider".to_owned(),
            timeout: Duration::from_secs(5),
            extra_ca: None,
        }
    }

    #[test]
    fn what_is_configured_wrong_is_said_without_secrets() {
        let words = |endpoint: &str, headers: &[(&str, &str)]| Collector::new(&options(endpoint, headers)).err().unwrap().to_string();
        for endpoint in ["", "collector:4318", "ftp://a", "http://a/?token=hidden", "http://me:hidden@a"] {
            let words = words(endpoint, &[]);
            assert!(words.contains("otlp.endpoint") && !words.contains("hidden"), "{words}");
        }
        for header in [("a b", "hidden"), ("x-key", "hidden\n")] {
            let words = words("http://a", &[header]);
            assert!(words.contains(header.0) && !words.contains("hidden"), "{words}");
        }
        assert!(!format!("{:?}", options("http://a", &[("x-key", "hidden")])).contains("hidden"));
        for (given, uri) in [("http://a:4318", "http://a:4318/v1/traces"), ("https://a/otlp/", "https://a/otlp/v1/traces")] {
            assert_eq!(Collector::new(&options(given, &[])).unwrap().uri, uri);
        }
    }

    #[test]
    fn answers_are_judged_by_the_rules() {
        let answer = |status: u16, after: &str, body: &[u8]| {
            judge(&Response::builder().status(status).header(RETRY_AFTER, after).body(Bytes::copy_from_slice(body)).unwrap())
        };
        let partial = ExportTracePartialSuccess { rejected_spans: 3, error_message: "no".to_owned() };
        let partial = ExportTraceServiceResponse { partial_success: Some(partial) }.encode_to_vec();
        assert_eq!((answer(200, "", b""), answer(200, "", &partial), answer(200, "", b"{}")), (Ok(0), Ok(3), Ok(0)));
        let wait = |status, after| match answer(status, after, b"") {
            Err(SendError::Passing { wait, .. }) => wait,
            other => panic!("{other:?}"),
        };
        assert_eq!((wait(503, "2"), wait(429, "9999"), wait(502, "soon")), (Some(Duration::from_secs(2)), Some(MAX_WAIT), None));
        for status in [400, 401, 404, 500] {
            assert!(matches!(answer(status, "", b""), Err(SendError::Lasting { .. })), "{status}");
        }
    }
}
