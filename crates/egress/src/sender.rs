//! One worker thread's way out.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use postrider_core::attempt::{Answer, Failure, Report};
use postrider_core::time::{Millis, Time};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

use crate::connection::{Broken, Connection, Open};
use crate::dial::Dialer;
use crate::fault::{Deadline, Fault};
use crate::headers::Headers;
use crate::idle::Idle;
use crate::options::{EgressError, Options};
use crate::response::{Answered, Reading};
use crate::retry_after;
use crate::target::{Method, Target};

/// What to post, and how long it may take.
#[derive(Clone, Debug)]
pub struct Post {
    /// All headers but `host` and `content-length`, which the sender sets.
    pub headers: Headers,
    /// The body, sent as it is.
    pub body: Bytes,
    /// How long connecting over TCP may take, over all addresses of the receiver.
    pub connect_timeout: Duration,
    /// How long everything may take: waiting for a free connection, look-up, connecting, TLS, request and response
    /// with its body.
    pub timeout: Duration,
}

/// What a call was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The status code.
    pub status: u16,
    /// Names in lower case, in the order in which they came; what is not UTF-8 is replaced.
    pub headers: Vec<(String, String)>,
    /// The wait that `Retry-After` asks for.
    pub retry_after: Option<Millis>,
    /// The whole body.
    pub body: Bytes,
}

/// A call has no answer.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum CallError {
    /// It did not come.
    #[error("{detail}")]
    Failed {
        /// The sort of failure.
        failure: Failure,
        /// Words for whoever made the call; no secrets, no addresses inside our network.
        detail: String,
    },
    /// It was not read to its end.
    #[error("the answer's body has more than {most} bytes")]
    TooLarge {
        /// The most that was wanted, in bytes.
        most: usize,
    },
}

/// Posts to addresses that others chose, over connections of its own.
///
/// One per worker thread: any number of [`send`](Sender::send)s may run at once, up to
/// [`Options::max_connections`]. It must be used within one tokio runtime, with IO and time enabled.
pub struct Sender {
    dialer: Dialer,
    idle: Arc<Idle>,
    open: Arc<AtomicUsize>,
    max_connections: usize,
    /// One permit per exchange. With at most as many exchanges as connections, a new connection finds room by
    /// closing an idle one.
    exchanges: Semaphore,
}

impl Sender {
    /// Reads the certificates and the system's name server configuration.
    pub fn new(options: Options) -> Result<Sender, EgressError> {
        let max_connections = options.max_connections.clamp(1, Semaphore::MAX_PERMITS);
        Ok(Sender {
            dialer: Dialer::new(&options)?,
            idle: Idle::new(&options),
            open: Arc::default(),
            max_connections,
            exchanges: Semaphore::new(max_connections),
        })
    }

    /// Posts once and reports what came of it; `now` is when the attempt begins.
    ///
    /// The request goes out at most once: it is tried on another connection only when a kept one turns out to have
    /// been closed before a byte was written. Redirects are not followed. Dropping the future closes its connection.
    pub async fn send(&self, target: &Target, request: Post, now: Time) -> Report {
        let began = Instant::now();
        let (answer, body) = match self.exchange(target, Method::Post, request, Reading::DELIVERY, began).await {
            Ok(Answered { status, retry_after, body, .. }) => {
                let retry_after = retry_after.and_then(|value| retry_after::parse(&value, now));
                (Answer::Status { code: status, retry_after }, body)
            }
            Err(Fault { failure, detail }) => (Answer::Failed { failure, detail }, Bytes::new()),
        };
        let took = Millis(u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX));
        Report { started: now, took, answer, body }
    }

    /// Calls once and gives the whole answer, of at most `most` bytes of body. As [`Sender::send`] in all else.
    pub async fn call(&self, target: &Target, method: Method, request: Post, most: usize, now: Time) -> Result<Reply, CallError> {
        match self.exchange(target, method, request, Reading::whole(most), Instant::now()).await {
            Ok(Answered { is_cut: true, .. }) => Err(CallError::TooLarge { most }),
            Ok(Answered { status, retry_after, headers, body, is_cut: false }) => {
                let retry_after = retry_after.and_then(|value| retry_after::parse(&value, now));
                Ok(Reply { status, headers, retry_after, body })
            }
            Err(Fault { failure, detail }) => Err(CallError::Failed { failure, detail }),
        }
    }

    /// How many connections are open or being opened, idle ones included.
    pub fn open_connections(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    async fn exchange(&self, target: &Target, method: Method, post: Post, reading: Reading, began: Instant) -> Result<Answered, Fault> {
        let deadline = Deadline::new(began, post.timeout);
        let _permit = self.permit(deadline).await?;
        let mut request = target.request(method, &post.headers, post.body);
        loop {
            let kept = self.idle.take(target.origin());
            let fresh = kept.is_none();
            let mut connection = match kept {
                Some(connection) => connection,
                // Boxed, because it is rare and its state is large.
                None => Box::pin(self.connect(target, post.connect_timeout, deadline)).await?,
            };
            match deadline.hold("no whole answer", connection.exchange(request, reading)).await? {
                Ok(answered) => {
                    self.idle.put(target.origin(), connection);
                    return Ok(answered);
                }
                Err(Broken::Unsent(back)) if !fresh => request = back,
                Err(Broken::Unsent(_)) => {
                    return Err(Fault::new(Failure::Closed, "the receiver closed the connection before the request was sent"));
                }
                Err(Broken::Failed(fault)) => return Err(fault),
            }
        }
    }

    async fn permit(&self, deadline: Deadline) -> Result<SemaphorePermit<'_>, Fault> {
        let permit = match self.exchanges.try_acquire() {
            Ok(permit) => permit,
            Err(_) => {
                let free = deadline.hold("none of our connections became free", self.exchanges.acquire()).await?;
                free.expect("the semaphore is never closed")
            }
        };
        Ok(permit)
    }

    async fn connect(&self, target: &Target, timeout: Duration, deadline: Deadline) -> Result<Connection, Fault> {
        while self.open_connections() >= self.max_connections && self.idle.close_oldest() {}
        let open = Open::count(&self.open);
        let stream = self.dialer.dial(target.origin().place(), timeout, deadline).await?;
        Ok(Connection::new(stream, open))
    }
}
