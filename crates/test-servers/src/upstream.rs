//! An OpenAI-compatible server: real HTTP, the real forms of answers, and the faults that such servers have.
//!
//! What each request is answered is its maker's to say, see [`Reply`]; [`FakeUpstream::asked`] tells what it was asked.

use std::fmt::Debug;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::HeaderMap;
use axum::response::Response;
use axum::serve::Listener;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::answer::answer;
use crate::certificates::Certificates;

/// Most bytes of a request.
const MOST: usize = 64 << 20;

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Asked {
    /// How many came before it.
    pub n: usize,
    /// Its path, such as `/v1/chat/completions`.
    pub path: String,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body; null where it is no JSON.
    pub body: Value,
}

impl Asked {
    /// What the last message says.
    pub fn prompt(&self) -> &str {
        let last = self.body["messages"].as_array().and_then(|messages| messages.last());
        last.and_then(|message| message["content"].as_str()).unwrap_or_default()
    }
}

/// What a request is answered.
#[derive(Clone, Debug)]
pub enum Reply {
    /// A completion with this text, whole or as a stream of words, as was asked for.
    Say(String),
    /// As `Say`, with so long a wait before each word.
    Slowly(Duration, String),
    /// A whole completion, also where a stream was asked for.
    Whole(String),
    /// This JSON.
    Json(u16, Value),
    /// An error of that status, in the usual form.
    Status(u16),
    /// 429 with this `Retry-After`.
    Limited(String),
    /// Nothing, ever.
    Hang,
    /// So many words, then nothing more.
    HangAfter(usize),
    /// So many words, then the end of the connection.
    CutAfter(usize),
    /// So many words, then a clean end without a reason.
    EndAfter(usize),
    /// So many words, then an error as an event.
    ErrorAfter(usize),
    /// 200, and no JSON.
    Garbage,
    /// An event that does not end.
    Endless,
    /// A file of this media type.
    File(&'static str, Vec<u8>),
    /// A redirect to this address.
    Redirect(String),
}

type Behaviour = Arc<dyn Fn(&Asked) -> Reply + Send + Sync>;

/// A server on this machine; gone when dropped.
pub struct FakeUpstream {
    address: SocketAddr,
    scheme: &'static str,
    asked: Arc<Mutex<Vec<Asked>>>,
    serving: JoinHandle<()>,
}

impl FakeUpstream {
    /// A server that answers each request as `behaviour` says.
    pub async fn start(behaviour: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> FakeUpstream {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        FakeUpstream::on(listener.local_addr().unwrap(), "http", listener, Arc::new(behaviour))
    }

    /// As [`FakeUpstream::start`], over TLS with this certificate.
    pub async fn start_tls(certificates: &Certificates, behaviour: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> FakeUpstream {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        FakeUpstream::on(address, "https", Tls::new(listener, certificates), Arc::new(behaviour))
    }

    fn on<L: Listener<Addr: Debug>>(address: SocketAddr, scheme: &'static str, listener: L, behaviour: Behaviour) -> FakeUpstream {
        let asked = Arc::<Mutex<Vec<Asked>>>::default();
        let router = Router::new().fallback(take).layer(DefaultBodyLimit::max(MOST)).with_state((asked.clone(), behaviour));
        let serving = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        FakeUpstream { address, scheme, asked, serving }
    }

    /// A server that says the same to everyone.
    pub async fn saying(text: &str) -> FakeUpstream {
        let text = text.to_owned();
        FakeUpstream::start(move |_| Reply::Say(text.clone())).await
    }

    /// For `upstream.base_url`.
    pub fn base_url(&self) -> String {
        format!("{}://{}/v1", self.scheme, self.address)
    }

    /// What it was asked so far, oldest first.
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// How much it was asked so far.
    pub fn count(&self) -> usize {
        self.asked.lock().unwrap().len()
    }
}

impl Drop for FakeUpstream {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn take(State((seen, behaviour)): State<(Arc<Mutex<Vec<Asked>>>, Behaviour)>, request: Request<Body>) -> Response {
    let (head, body) = request.into_parts();
    let body = axum::body::to_bytes(body, MOST).await.unwrap_or_default();
    let body = serde_json::from_slice(&body).unwrap_or_default();
    let asked = {
        let mut seen = seen.lock().unwrap();
        let asked = Asked { n: seen.len(), path: head.uri.path().to_owned(), headers: head.headers, body };
        seen.push(asked.clone());
        asked
    };
    answer(&asked, behaviour(&asked)).await
}

/// Takes connections whose handshake succeeds.
struct Tls {
    listener: TcpListener,
    acceptor: TlsAcceptor,
}

impl Tls {
    fn new(listener: TcpListener, certificates: &Certificates) -> Tls {
        let chain = CertificateDer::pem_file_iter(certificates.certificate()).unwrap().map(Result::unwrap).collect();
        let key = PrivateKeyDer::from_pem_file(certificates.key()).unwrap();
        let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider())).with_safe_default_protocol_versions();
        let config = builder.unwrap().with_no_client_auth().with_single_cert(chain, key).unwrap();
        Tls { listener, acceptor: TlsAcceptor::from(Arc::new(config)) }
    }
}

impl Listener for Tls {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let (stream, from) = self.listener.accept().await.unwrap();
            if let Ok(stream) = self.acceptor.accept(stream).await {
                return (stream, from);
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}
