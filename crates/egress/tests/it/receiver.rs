//! Receivers to send to, and what the tests share.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use postrider_core::attempt::{Answer, Failure, Report};
use postrider_core::time::Time;
use postrider_egress::{Headers, Options, Post, Sender, Target, check_url};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// When all test attempts begin: 2026-11-22T12:00:00Z.
pub(crate) const NOW: Time = Time(1_795_348_800_000);

pub(crate) const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// A local server that treats each connection as the test says, counting connections and requests.
pub(crate) struct Receiver {
    pub(crate) address: SocketAddr,
    connections: Arc<AtomicUsize>,
    requests: Arc<AtomicUsize>,
}

/// A connection as the receiver sees it.
pub(crate) struct Guest {
    pub(crate) stream: TcpStream,
    requests: Arc<AtomicUsize>,
}

impl Receiver {
    pub(crate) async fn start<S, F>(serve: S) -> Receiver
    where
        S: Fn(Guest) -> F + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let receiver = Receiver { address: listener.local_addr().unwrap(), connections: Arc::default(), requests: Arc::default() };
        let (connections, requests) = (receiver.connections.clone(), receiver.requests.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                connections.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(serve(Guest { stream, requests: requests.clone() }));
            }
        });
        receiver
    }

    /// Answers every request with `response`, on as many connections as are made, until they are closed.
    pub(crate) async fn answering(response: impl Into<Bytes>) -> Receiver {
        let response: Bytes = response.into();
        Receiver::start(move |mut guest| {
            let response = response.clone();
            async move {
                while guest.request().await.is_some() {
                    guest.write(&response).await;
                }
            }
        })
        .await
    }

    /// Answers the first request of a connection with `response` and closes it.
    pub(crate) async fn answering_once(response: impl Into<Bytes>) -> Receiver {
        let response: Bytes = response.into();
        Receiver::start(move |mut guest| {
            let response = response.clone();
            async move {
                guest.request().await;
                guest.write(&response).await;
            }
        })
        .await
    }

    pub(crate) fn target(&self) -> Target {
        target(&format!("http://{}/hook", self.address))
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    pub(crate) fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

impl Guest {
    pub(crate) async fn request(&mut self) -> Option<String> {
        let request = read_request(&mut self.stream).await?;
        self.requests.fetch_add(1, Ordering::SeqCst);
        Some(request)
    }

    /// Writes as much of `bytes` as the other side takes.
    pub(crate) async fn write(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).await.is_ok()
    }

    /// Holds the connection open until the other side closes it.
    pub(crate) async fn wait_for_close(&mut self) {
        while self.stream.read(&mut [0; 1024]).await.is_ok_and(|read| read > 0) {}
    }
}

/// One whole request, as text; None when the connection is closed.
pub(crate) async fn read_request(stream: &mut (impl AsyncRead + Unpin)) -> Option<String> {
    let mut bytes = Vec::new();
    loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
            let length: usize = head.split("content-length: ").nth(1)?.split("\r\n").next()?.parse().unwrap();
            if bytes.len() == end + 4 + length {
                return Some(String::from_utf8_lossy(&bytes).into_owned());
            }
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
}

/// A sender that may reach the local receivers, with otherwise these `options`.
pub(crate) fn sender_with(options: Options) -> Sender {
    Sender::new(Options { allow: vec!["127.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()], ..options }).unwrap()
}

pub(crate) fn sender() -> Sender {
    sender_with(Options::default())
}

pub(crate) fn target(url: &str) -> Target {
    check_url(url).unwrap()
}

pub(crate) fn post() -> Post {
    post_within(Duration::from_secs(10))
}

pub(crate) fn post_within(timeout: Duration) -> Post {
    Post { headers: Headers::default(), body: Bytes::from_static(b"{\"id\":1}"), connect_timeout: Duration::from_secs(5), timeout }
}

#[track_caller]
pub(crate) fn assert_status(report: &Report, expected: u16) {
    match &report.answer {
        Answer::Status { code, .. } => assert_eq!(*code, expected),
        Answer::Failed { failure, detail } => panic!("{failure:?}: {detail}"),
    }
}

/// Checks the sort of failure and returns its words.
#[track_caller]
pub(crate) fn assert_failed(report: &Report, expected: Failure) -> &str {
    match &report.answer {
        Answer::Status { code, .. } => panic!("status {code} instead of {expected:?}"),
        Answer::Failed { failure, detail } => {
            assert_eq!(*failure, expected, "{detail}");
            detail
        }
    }
}

/// Waits until `condition` holds; fails after ten seconds.
pub(crate) async fn eventually(what: &str, condition: impl Fn() -> bool) {
    let waiting = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), waiting).await.unwrap_or_else(|_| panic!("never: {what}"));
}
