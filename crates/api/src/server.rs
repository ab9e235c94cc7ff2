//! HTTP/1.1 on one listener: connections within bounds, and an orderly end.

use std::io;
use std::pin::pin;
use std::time::Duration;

use axum::Router;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};

/// Connections of one listener; further ones are not accepted until one ends.
const MAX_CONNECTIONS: usize = 10_000;
/// Time-out of a request's head, and of the wait for it on an open connection.
const HEAD_LIMIT: Duration = Duration::from_secs(10);
/// Most bytes that are buffered of a connection, and so the largest head of a request.
const MAX_BUFFER: usize = 64 * 1024;
/// Before accepting again, when the system refuses to (such as for want of file descriptors).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Tells what runs on a connection that the server is stopping; an extension of each request.
#[derive(Clone)]
pub(crate) struct Closing(watch::Receiver<bool>);

impl Closing {
    /// Waits until the server stops.
    pub(crate) async fn begun(&mut self) {
        // An error means that the server is gone, which is the same.
        let _ = self.0.wait_for(|closing| *closing).await;
    }
}

/// Serves `router` on `listener` until `stop`, then finishes what is under way.
///
/// For one worker thread: run one per thread, each with a listener of its own on the same port. After `stop` nothing
/// is accepted, connections are closed after the request in flight, and what has not ended after `drain` is cut.
/// Errors: the listener can't be used at all.
pub async fn serve(listener: TcpListener, router: Router, stop: impl Future<Output = ()>, drain: Duration) -> io::Result<()> {
    listener.local_addr()?;
    let (closing, closed) = watch::channel(false);
    let mut connections = JoinSet::new();
    let mut stop = pin!(stop);
    loop {
        tokio::select! {
            biased;
            () = &mut stop => break,
            Some(ended) = connections.join_next() => note(ended),
            accepted = listener.accept(), if connections.len() < MAX_CONNECTIONS => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(connection(stream, router.clone(), closed.clone()));
                }
                Err(error) if is_of_one_connection(&error) => tracing::debug!(%error, "a connection was gone before it was accepted"),
                Err(error) => {
                    tracing::warn!(%error, "no connections can be accepted; trying again");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    drop(listener);
    closing.send_replace(true);
    let finish = async {
        while let Some(ended) = connections.join_next().await {
            note(ended);
        }
    };
    if tokio::time::timeout(drain, finish).await.is_err() {
        tracing::warn!(connections = connections.len(), "cutting connections that did not end within {drain:?}");
        connections.shutdown().await;
    }
    Ok(())
}

async fn connection(stream: TcpStream, router: Router, closed: watch::Receiver<bool>) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a connection ended at once");
        return;
    }
    let mut closing = Closing(closed);
    let (router, told) = (TowerToHyperService::new(router), closing.clone());
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(told.clone());
        router.call(request)
    });
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(HEAD_LIMIT).max_buf_size(MAX_BUFFER);
    let mut connection = pin!(server.serve_connection(TokioIo::new(stream), service));
    let ended = tokio::select! {
        biased;
        ended = connection.as_mut() => ended,
        () = closing.begun() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended");
    }
}

fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionRefused)
}

/// A panic ends its own connection only, but not quietly.
fn note(ended: Result<(), JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "a connection's task died");
    }
}
