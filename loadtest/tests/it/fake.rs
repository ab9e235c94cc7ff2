//! A bare webhook delivery server: takes events, delivers them at once, keeps nothing. With faults to order.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use postrider_core::secret::Secret;
use postrider_core::sign::Signer;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

/// What the server does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing.
    None,
    /// Answers 202 to one event in so many and never delivers it.
    LosesOneIn(u64),
    /// Delivers one event in so many twice.
    RepeatsOneIn(u64),
    /// Signs with another secret than it gave out.
    SignsWrongly,
    /// Takes so long to answer an event.
    Stalls(Duration),
    /// Answers 503 to one event in so many, and does not deliver it.
    RefusesOneIn(u64),
}

/// Whole exchange of one attempt; longer than a slow endpoint, shorter than a hanging one.
const TIMEOUT: Duration = Duration::from_secs(4);
const ATTEMPTS: usize = 10;
const PAUSE: Duration = Duration::from_millis(300);
const IN_FLIGHT: usize = 256;

/// Starts the server on a thread of its own, which lives as long as the process, and says where it listens.
pub(crate) fn start(fault: Fault) -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    listener.set_nonblocking(true).expect("a socket");
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let server = Arc::new(Server { fault, endpoints: Mutex::default(), events: AtomicU64::new(0) });
            let listener = TcpListener::from_std(listener).expect("a listener");
            loop {
                let (socket, _) = listener.accept().await.expect("a connection");
                tokio::spawn(Arc::clone(&server).serve(socket));
            }
        });
    });
    address
}

struct Server {
    fault: Fault,
    endpoints: Mutex<HashMap<String, Arc<Endpoint>>>,
    events: AtomicU64,
}

struct Endpoint {
    url: String,
    signer: Signer,
    idle: Mutex<Vec<TcpStream>>,
    slots: Semaphore,
}

#[derive(Deserialize)]
struct Registration {
    url: String,
    events: Vec<String>,
}

#[derive(Deserialize)]
struct Event<'a> {
    r#type: &'a str,
    #[serde(borrow)]
    data: &'a RawValue,
}

impl Server {
    /// Answers the requests of one connection until it ends.
    async fn serve(self: Arc<Server>, mut socket: TcpStream) {
        socket.set_nodelay(true).expect("a socket");
        let mut inbox = Vec::new();
        while let Ok((head, body)) = message(&mut socket, &mut inbox).await {
            let (status, answer) = self.answer(&head, &body).await;
            let response = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n\r\n{answer}", answer.len());
            if socket.write_all(response.as_bytes()).await.is_err() {
                return;
            }
        }
    }

    async fn answer(&self, head: &str, body: &[u8]) -> (u16, String) {
        let mut words = head.split(' ');
        match (words.next(), words.next()) {
            _ if head.contains("Bearer wrong\r") => (401, r#"{"title":"no such key"}"#.to_owned()),
            (Some("POST"), Some("/v1/webhooks")) => self.register(body),
            (Some("DELETE"), Some(path)) if path.starts_with("/v1/webhooks/") => (204, String::new()),
            (Some("POST"), Some("/v1/events")) => {
                if let Fault::Stalls(span) = self.fault {
                    sleep(span).await;
                }
                self.take(body)
            }
            (Some("POST"), Some("/v1/events/batch")) => {
                let lines = body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
                (202, lines.map(|line| self.take(line).1 + "\n").collect())
            }
            (_, _) => (404, String::new()),
        }
    }

    fn register(&self, body: &[u8]) -> (u16, String) {
        let registration: Registration = serde_json::from_slice(body).expect("a registration");
        let secret = Secret::from_random([7; 32]);
        let used = if self.fault == Fault::SignsWrongly { Secret::from_random([8; 32]) } else { secret.clone() };
        let endpoint = Endpoint {
            url: registration.url.clone(),
            signer: Signer::new(&used, []),
            idle: Mutex::default(),
            slots: Semaphore::new(IN_FLIGHT),
        };
        let event = registration.events.first().expect("one event type").clone();
        let answer = serde_json::json!({ "id": format!("ep_{event}"), "url": registration.url, "secret": secret.reveal() });
        lock(&self.endpoints).insert(event, Arc::new(endpoint));
        (201, answer.to_string())
    }

    fn take(&self, body: &[u8]) -> (u16, String) {
        let Ok(event) = serde_json::from_slice::<Event<'_>>(body) else { return (422, r#"{"error":"unreadable"}"#.to_owned()) };
        let number = self.events.fetch_add(1, Ordering::Relaxed);
        let hits = |one_in: u64| number % one_in == one_in - 1;
        let copies = match self.fault {
            Fault::RefusesOneIn(one_in) if hits(one_in) => return (503, r#"{"error":"busy"}"#.to_owned()),
            Fault::LosesOneIn(one_in) if hits(one_in) => 0,
            Fault::RepeatsOneIn(one_in) if hits(one_in) => 2,
            Fault::None | Fault::LosesOneIn(_) | Fault::RepeatsOneIn(_) => 1,
            Fault::SignsWrongly | Fault::Stalls(_) | Fault::RefusesOneIn(_) => 1,
        };
        let delivery = format!(r#"{{"id":"evt_{number}","type":"{}","data":{}}}"#, event.r#type, event.data);
        if let Some(endpoint) = lock(&self.endpoints).get(event.r#type).map(Arc::clone) {
            tokio::spawn(async move {
                for _ in 0..copies {
                    endpoint.deliver(number, &delivery).await;
                }
            });
        }
        (202, format!(r#"{{"id":"evt_{number}"}}"#))
    }
}

impl Endpoint {
    /// Tries until a 2xx, a few times.
    async fn deliver(&self, number: u64, body: &str) {
        for _ in 0..ATTEMPTS {
            let _slot = self.slots.acquire().await.expect("never closed");
            if let Ok(Ok(true)) = timeout(TIMEOUT, self.attempt(number, body)).await {
                return;
            }
            drop(_slot);
            sleep(PAUSE).await;
        }
    }

    async fn attempt(&self, number: u64, body: &str) -> io::Result<bool> {
        let (host, path) = self.url.strip_prefix("http://").and_then(|rest| rest.split_once('/')).expect("a URL");
        let idle = lock(&self.idle).pop();
        let mut socket = match idle {
            Some(socket) => socket,
            None => TcpStream::connect(host).await?,
        };
        socket.set_nodelay(true)?;
        let timestamp = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
        let id = format!("evt_{number}");
        let signature = self.signer.sign(&id, timestamp, body.as_bytes()).standard;
        let request = format!(
            "POST /{path} HTTP/1.1\r\nhost: {host}\r\nwebhook-id: {id}\r\nwebhook-timestamp: {timestamp}\r\n\
             webhook-signature: {signature}\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        socket.write_all(request.as_bytes()).await?;
        let (head, _) = message(&mut socket, &mut Vec::new()).await?;
        lock(&self.idle).push(socket);
        Ok(head.starts_with("HTTP/1.1 2"))
    }
}

/// Reads the next message: its head, and its body by `content-length`.
async fn message(socket: &mut TcpStream, inbox: &mut Vec<u8>) -> io::Result<(String, Vec<u8>)> {
    let mut part = [0; 16 * 1024];
    loop {
        if let Some(end) = memchr::memmem::find(inbox, b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&inbox[..end + 2]).into_owned();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok()).unwrap_or(0);
            if inbox.len() >= end + 4 + length {
                let body = inbox[end + 4..end + 4 + length].to_vec();
                inbox.drain(..end + 4 + length);
                return Ok((head, body));
            }
        }
        match socket.read(&mut part).await? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => inbox.extend_from_slice(&part[..count]),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no holder panics")
}
