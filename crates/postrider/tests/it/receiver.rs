//! Receivers as the tests want them: each remembers what it got and answers as it was told.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::HeaderMap;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};

use crate::world::eventually;

/// A request that a receiver got.
#[derive(Clone, Debug)]
pub(crate) struct Got {
    pub(crate) at: Instant,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// The number in the event's data, where there is one.
    pub(crate) n: Option<u64>,
    /// How long after the time in the event's data it came.
    pub(crate) latency: Option<Duration>,
    /// Whether it was answered 2xx.
    pub(crate) taken: bool,
}

impl Got {
    fn new(headers: HeaderMap, body: Bytes) -> Got {
        let data = serde_json::from_slice::<Value>(&body).map_or(Value::Null, |mut event| event["data"].take());
        let latency = data["at"].as_u64().map(|at| Duration::from_millis(unix_millis().saturating_sub(at)));
        Got { at: Instant::now(), headers, body, n: data["n"].as_u64(), latency, taken: false }
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).unwrap_or_else(|| panic!("{name} is missing")).to_str().unwrap()
    }

    pub(crate) fn number(&self, name: &str) -> u64 {
        self.header(name).parse().unwrap()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

pub(crate) fn unix_millis() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64
}

/// What a receiver does with a request.
pub(crate) enum Reply {
    Status(u16),
    /// A status with one header.
    With(u16, &'static str, String),
    /// A status, after a while.
    After(Duration, u16),
    /// Nothing, ever.
    Hang,
    /// Ends the connection.
    Close,
}

/// A server on this machine that takes deliveries; gone when dropped.
pub(crate) struct Receiver {
    address: SocketAddr,
    seen: Arc<Seen>,
    serving: JoinHandle<()>,
}

#[derive(Default)]
struct Seen {
    got: Mutex<Vec<Got>>,
    open: AtomicUsize,
    most_open: AtomicUsize,
}

type Behaviour = Arc<dyn Fn(&Got) -> Reply + Send + Sync>;

impl Receiver {
    /// A receiver that does with each request what `behaviour` says.
    pub(crate) async fn start(behaviour: impl Fn(&Got) -> Reply + Send + Sync + 'static) -> Receiver {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, seen) = (listener.local_addr().unwrap(), Arc::<Seen>::default());
        let serving = tokio::spawn(serve(listener, seen.clone(), Arc::new(behaviour)));
        Receiver { address, seen, serving }
    }

    pub(crate) async fn answering(status: u16) -> Receiver {
        Receiver::start(move |_| Reply::Status(status)).await
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    /// What it got so far, oldest first.
    pub(crate) fn got(&self) -> Vec<Got> {
        self.look(<[Got]>::to_vec)
    }

    /// Looks at what it got so far without copying it.
    pub(crate) fn look<T>(&self, look: impl FnOnce(&[Got]) -> T) -> T {
        look(&self.seen.got.lock().unwrap())
    }

    pub(crate) fn count(&self) -> usize {
        self.look(<[Got]>::len)
    }

    /// The numbers of the events it took, oldest first.
    pub(crate) fn taken(&self) -> Vec<u64> {
        self.look(|got| got.iter().filter(|got| got.taken).filter_map(|got| got.n).collect())
    }

    /// The most requests it ever had at one time.
    pub(crate) fn most_open(&self) -> usize {
        self.seen.most_open.load(Ordering::SeqCst)
    }

    /// Waits until it got `count` requests.
    pub(crate) async fn wait_until(&self, count: usize) {
        eventually(&format!("the receiver gets {count} requests"), async || (self.count() >= count).then_some(())).await;
    }

    /// Waits until it got `count` requests; returns them.
    pub(crate) async fn wait_for(&self, count: usize) -> Vec<Got> {
        self.wait_until(count).await;
        self.got()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn serve(listener: TcpListener, seen: Arc<Seen>, behaviour: Behaviour) {
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        let (seen, behaviour) = (seen.clone(), behaviour.clone());
        let service = service_fn(move |request| take(request, seen.clone(), behaviour.clone()));
        // How a connection ends is its client's business.
        connections.spawn(async { drop(http1::Builder::new().serve_connection(TokioIo::new(stream), service).await) });
        while connections.try_join_next().is_some() {}
    }
}

async fn take(request: Request<Incoming>, seen: Arc<Seen>, behaviour: Behaviour) -> io::Result<Response<Full<Bytes>>> {
    let _open = Open::count(seen.clone());
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    let mut got = Got::new(head.headers, body);
    let reply = behaviour(&got);
    got.taken = matches!(reply, Reply::Status(200..300) | Reply::After(_, 200..300));
    seen.got.lock().unwrap().push(got);
    let response = |status| Response::builder().status(status);
    let response = match reply {
        Reply::Status(status) => response(status),
        Reply::With(status, name, value) => response(status).header(name, value),
        Reply::After(wait, status) => {
            tokio::time::sleep(wait).await;
            response(status)
        }
        Reply::Hang => match std::future::pending::<Infallible>().await {},
        Reply::Close => return Err(io::ErrorKind::ConnectionAborted.into()),
    };
    Ok(response.body(Full::default()).unwrap())
}

/// A request that is under way.
struct Open(Arc<Seen>);

impl Open {
    fn count(seen: Arc<Seen>) -> Open {
        let open = seen.open.fetch_add(1, Ordering::SeqCst) + 1;
        seen.most_open.fetch_max(open, Ordering::SeqCst);
        Open(seen)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::SeqCst);
    }
}
