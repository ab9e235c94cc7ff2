//! An HTTP server that takes deliveries, verifies them, and answers as it was told.

mod arrival;
mod failing;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::header::{ALLOW, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use postrider_core::secret::Secret;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub(crate) use arrival::{Arrival, Signature, now};
pub(crate) use failing::Failing;

/// Largest body that is read, in bytes: the limit of an event, and room for what a delivery adds to it.
const MAX_BODY: usize = (1 << 20) + (64 << 10);
/// Connections at one time; further ones wait to be accepted.
const MAX_CONNECTIONS: usize = 256;
/// Longest wait for a request's head, and then for its body.
const READ_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest wait for answers under way when the server ends, beyond its own delay.
const LAST_ANSWERS: Duration = Duration::from_secs(5);
/// Wait after a failure to accept, such as too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How a receiver treats what arrives.
#[derive(Clone, Debug)]
pub(crate) struct Behaviour {
    /// Verifies signatures with it; a request that fails is answered 401.
    pub(crate) secret: Option<Secret>,
    /// Kept waiting before each answer.
    pub(crate) delay: Duration,
    /// The answer where nothing speaks against it.
    pub(crate) status: StatusCode,
    /// Which requests are answered 500 instead.
    pub(crate) failing: Failing,
}

/// A running receiver. Dropping it leaves it running; [`Receiver::stop`] ends it.
pub(crate) struct Receiver {
    address: SocketAddr,
    delay: Duration,
    stop: CancellationToken,
    server: JoinHandle<()>,
}

struct Shared {
    port: u16,
    behaviour: Behaviour,
    failures: failing::Failures,
    arrivals: mpsc::Sender<Arrival>,
}

impl Receiver {
    /// Starts to receive at `address`; port 0 takes a free one. What arrives is told to `arrivals` just before it is
    /// answered, and waits where nobody takes it. Errors: the address can't be bound.
    pub(crate) async fn start(address: SocketAddr, behaviour: Behaviour, arrivals: mpsc::Sender<Arrival>) -> io::Result<Receiver> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let delay = behaviour.delay;
        let failures = failing::Failures::new(behaviour.failing);
        let shared = Arc::new(Shared { port: address.port(), behaviour, failures, arrivals });
        let stop = CancellationToken::new();
        let server = tokio::spawn(serve(listener, shared, stop.clone()));
        Ok(Receiver { address, delay, stop, server })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes no more connections and finishes the answers that are under way.
    pub(crate) async fn stop(mut self) {
        self.stop.cancel();
        if tokio::time::timeout(self.delay + LAST_ANSWERS, &mut self.server).await.is_err() {
            self.server.abort();
        }
    }
}

async fn serve(listener: TcpListener, shared: Arc<Shared>, stop: CancellationToken) {
    let graceful = GracefulShutdown::new();
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let permit = room.clone().acquire_owned().await.expect("the semaphore is never closed");
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => break,
        };
        match accepted {
            Ok((stream, _)) => {
                let connection = hold(stream, shared.clone(), graceful.watcher());
                tokio::spawn(async move {
                    connection.await;
                    drop(permit);
                });
            }
            Err(error) => {
                eprintln!("a connection can't be accepted: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    graceful.shutdown().await;
}

async fn hold(stream: TcpStream, shared: Arc<Shared>, watcher: Watcher) {
    let service = service_fn(move |request| {
        let shared = shared.clone();
        async move { Ok::<_, Infallible>(shared.take(request).await) }
    });
    let connection =
        http1::Builder::new().timer(TokioTimer::new()).header_read_timeout(READ_TIMEOUT).serve_connection(TokioIo::new(stream), service);
    if let Err(error) = watcher.watch(connection).await {
        // The sender hung up, which is its right; it will try again.
        tracing::debug!(%error, "a connection broke off");
    }
}

impl Shared {
    async fn take(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        if request.method() != Method::POST {
            let mut response = answer(StatusCode::METHOD_NOT_ALLOWED, "deliveries are POSTed\n");
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
            return response;
        }
        let (head, body) = request.into_parts();
        let body = match tokio::time::timeout(READ_TIMEOUT, Limited::new(body, MAX_BODY).collect()).await {
            Ok(Ok(body)) => body.to_bytes(),
            Ok(Err(error)) if error.is::<LengthLimitError>() => {
                return answer(StatusCode::PAYLOAD_TOO_LARGE, "the body is longer than 1 MiB and 64 KiB\n");
            }
            Ok(Err(_)) => return answer(StatusCode::BAD_REQUEST, "the body broke off\n"),
            Err(_) => return answer(StatusCode::REQUEST_TIMEOUT, "the body did not arrive in time\n"),
        };
        let at = Instant::now();
        let signature = Signature::of(self.behaviour.secret.as_ref(), &head.headers, &body);
        let fails = self.failures.next(arrival::attempt(&head.headers));
        let status = match signature {
            Signature::Invalid(_) => StatusCode::UNAUTHORIZED,
            Signature::Valid | Signature::Unchecked if fails => StatusCode::INTERNAL_SERVER_ERROR,
            Signature::Valid | Signature::Unchecked => self.behaviour.status,
        };
        tokio::time::sleep(self.behaviour.delay).await;
        let arrival = Arrival { port: self.port, at, received_at: now(), signature, status, headers: head.headers, body };
        if self.arrivals.send(arrival).await.is_err() {
            return answer(StatusCode::SERVICE_UNAVAILABLE, "the receiver is ending\n");
        }
        answer(status, "")
    }
}

fn answer(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
    *response.status_mut() = status;
    response
}
