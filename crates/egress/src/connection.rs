//! One connection, driven by the exchange that uses it.

use std::future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::{Body, Frame, Incoming};
use hyper::client::conn::http1;
use hyper::header::{self, HeaderValue};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use postrider_core::attempt::KEPT_BODY;

use crate::fault::Fault;
use crate::stream::Stream;

/// The largest head of a response, in bytes. hyper bounds its headers to 100 by itself.
const MAX_HEAD: usize = 64 * 1024;

/// The most that is read of a response body, in bytes.
const MAX_BODY: usize = 64 * 1024;

/// Both halves of hyper's connection. Nothing is spawned: whoever holds it drives it, and dropping it closes it.
pub(crate) struct Connection {
    requests: http1::SendRequest<Full<Bytes>>,
    /// None once it has ended.
    io: Option<http1::Connection<TokioIo<Stream>, Full<Bytes>>>,
    _open: Open,
}

/// A response, judged by its status; the body is cut at [`KEPT_BODY`].
pub(crate) struct Answered {
    pub(crate) status: StatusCode,
    pub(crate) retry_after: Option<HeaderValue>,
    pub(crate) body: Bytes,
}

/// Why an exchange came to nothing.
pub(crate) enum Broken {
    /// The connection had ended before a byte of the request was written; here it is again.
    Unsent(Box<Request<Full<Bytes>>>),
    /// The receiver may have seen the request.
    Failed(Fault),
}

impl Connection {
    /// Boxed, because it moves between exchanges and those who keep it, and is over a kilobyte.
    pub(crate) async fn new(io: TokioIo<Stream>, open: Open) -> Result<Box<Connection>, Fault> {
        let handshake = http1::Builder::new().max_buf_size(MAX_HEAD).max_header_size(MAX_HEAD).handshake(io).await;
        let (requests, io) = handshake.map_err(|error| Fault::exchanging(&error))?;
        Ok(Box::new(Connection { requests, io: Some(io), _open: open }))
    }

    /// Whether a request may be sent: the connection is open as far as we know, and nothing is under way on it.
    pub(crate) fn is_idle(&mut self) -> bool {
        // Nobody waits for it now, so it should wake nobody.
        self.drive(&mut Context::from_waker(Waker::noop()));
        self.io.is_some() && self.requests.is_ready()
    }

    /// Sends `request` and reads its response.
    pub(crate) async fn exchange(&mut self, request: Request<Full<Bytes>>) -> Result<Answered, Broken> {
        let mut response = pin!(self.requests.try_send_request(request));
        let response = future::poll_fn(|cx| {
            self.drive(cx);
            // Only driving can complete it, so it needs no wake-up of its own.
            response.as_mut().poll(&mut Context::from_waker(Waker::noop()))
        });
        let (head, body) = match response.await {
            Ok(response) => response.into_parts(),
            Err(mut error) => {
                return Err(match error.take_message() {
                    Some(request) => Broken::Unsent(Box::new(request)),
                    None => Broken::Failed(Fault::exchanging(&error.into_error())),
                });
            }
        };
        let body = self.read(body).await.map_err(|error| Broken::Failed(Fault::exchanging(&error)))?;
        Ok(Answered { status: head.status, retry_after: head.headers.get(header::RETRY_AFTER).cloned(), body })
    }

    /// The beginning of `body`, once all of it has come; or the connection is closed because it is too long.
    async fn read(&mut self, mut body: Incoming) -> Result<Bytes, hyper::Error> {
        let mut kept = Vec::new();
        let mut length = 0;
        while let Some(chunk) = self.next_chunk(&mut body).await? {
            let room = KEPT_BODY - kept.len();
            kept.extend_from_slice(&chunk[..room.min(chunk.len())]);
            length += chunk.len();
            if length > MAX_BODY {
                self.io = None;
                break;
            }
        }
        Ok(kept.into())
    }

    async fn next_chunk(&mut self, body: &mut Incoming) -> Result<Option<Bytes>, hyper::Error> {
        loop {
            let frame = future::poll_fn(|cx| {
                let mut quiet = Context::from_waker(Waker::noop());
                // Asking tells hyper that there is room for more; then driving brings it.
                if let Poll::Ready(frame) = Pin::new(&mut *body).poll_frame(&mut quiet) {
                    return Poll::Ready(frame);
                }
                self.drive(cx);
                Pin::new(&mut *body).poll_frame(&mut quiet)
            });
            match frame.await.transpose()?.map(Frame::into_data) {
                None => return Ok(None),
                Some(Ok(chunk)) => return Ok(Some(chunk)),
                // Trailers say nothing to us.
                Some(Err(_trailers)) => {}
            }
        }
    }

    /// Lets the connection read and write as far as it can; whatever waits for it is then resolved or woken later.
    fn drive(&mut self, cx: &mut Context<'_>) {
        let Some(io) = &mut self.io else { return };
        if let Poll::Ready(end) = Pin::new(io).poll(cx) {
            if let Err(error) = end {
                // Nobody asked: an error that concerns a request is given to that request.
                tracing::debug!(%error, "a connection ended");
            }
            self.io = None;
        }
    }
}

/// Counts one open connection for as long as it lives.
pub(crate) struct Open(Arc<AtomicUsize>);

impl Open {
    pub(crate) fn count(counter: &Arc<AtomicUsize>) -> Open {
        counter.fetch_add(1, Ordering::Relaxed);
        Open(Arc::clone(counter))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
