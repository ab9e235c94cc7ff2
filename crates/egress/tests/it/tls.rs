//! TLS against a real server with certificates of our own making.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use postrider_core::attempt::Failure;
use postrider_egress::{EgressError, Options, Sender};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::{HandshakeKind, ServerConfig};
use tempfile::NamedTempFile;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::receiver::{NOW, OK, Receiver, assert_failed, assert_status, post, post_within, read_request, sender, sender_with, target};
use crate::responses::large_body;

/// A receiver for `localhost` whose certificate only `authority` vouches for.
struct TlsReceiver {
    address: SocketAddr,
    authority: NamedTempFile,
    full: Arc<AtomicUsize>,
    resumed: Arc<AtomicUsize>,
    last: Arc<Mutex<String>>,
}

impl TlsReceiver {
    /// Serves one connection at a time.
    async fn start() -> TlsReceiver {
        let (config, authority) = certificates();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let receiver = TlsReceiver {
            address: listener.local_addr().unwrap(),
            authority,
            full: Arc::default(),
            resumed: Arc::default(),
            last: Arc::default(),
        };
        let (full, resumed, last) = (receiver.full.clone(), receiver.resumed.clone(), receiver.last.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // A client that distrusts us ends the handshake.
                let Ok(mut stream) = acceptor.accept(stream).await else { continue };
                let kind = if stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed) { &resumed } else { &full };
                kind.fetch_add(1, Ordering::SeqCst);
                while let Some(request) = read_request(&mut stream).await {
                    *last.lock().unwrap() = request;
                    stream.write_all(OK).await.unwrap();
                }
            }
        });
        receiver
    }

    fn url(&self, host: &str) -> String {
        format!("https://{host}:{}/", self.address.port())
    }

    fn trusted(&self) -> Sender {
        self.trusted_with(Options::default())
    }

    fn trusted_with(&self, options: Options) -> Sender {
        sender_with(Options { extra_ca: Some(self.authority.path().to_owned()), ..options })
    }
}

fn certificates() -> (ServerConfig, NamedTempFile) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(params.self_signed(&key).unwrap().pem().as_bytes()).unwrap();
    let authority = Issuer::new(params, key);

    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(vec!["localhost".to_owned()]).unwrap().signed_by(&key, &authority).unwrap();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], key)
        .unwrap();
    (config, file)
}

#[tokio::test]
async fn a_trusted_receiver_is_reached_and_its_connection_kept() {
    let receiver = TlsReceiver::start().await;
    let sender = receiver.trusted();
    for _ in 0..5 {
        assert_status(&sender.send(&target(&receiver.url("localhost")), post(), NOW).await, 200);
    }
    assert_eq!(receiver.full.load(Ordering::SeqCst) + receiver.resumed.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_large_body_is_sent_whole() {
    let receiver = TlsReceiver::start().await;
    let mut post = post();
    post.body = large_body();
    let sender = receiver.trusted();
    for _ in 0..2 {
        assert_status(&sender.send(&target(&receiver.url("localhost")), post.clone(), NOW).await, 200);
        assert!(std::mem::take(&mut *receiver.last.lock().unwrap()).as_bytes().ends_with(&post.body), "the body was altered on its way");
    }
    assert_eq!(receiver.full.load(Ordering::SeqCst) + receiver.resumed.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn the_session_is_resumed_on_a_new_connection() {
    let receiver = TlsReceiver::start().await;
    let sender = receiver.trusted_with(Options { max_idle: 0, ..Options::default() });
    for _ in 0..3 {
        assert_status(&sender.send(&target(&receiver.url("localhost")), post(), NOW).await, 200);
    }
    assert_eq!((receiver.full.load(Ordering::SeqCst), receiver.resumed.load(Ordering::SeqCst)), (1, 2));
}

#[tokio::test]
async fn an_unknown_authority_is_a_tls_failure() {
    let receiver = TlsReceiver::start().await;
    let report = sender().send(&target(&receiver.url("localhost")), post(), NOW).await;
    let detail = assert_failed(&report, Failure::Tls);
    assert!(detail.contains("UnknownIssuer"), "{detail}");
}

#[tokio::test]
async fn a_certificate_for_another_name_is_a_tls_failure() {
    let receiver = TlsReceiver::start().await;
    let report = receiver.trusted().send(&target(&receiver.url("127.0.0.1")), post(), NOW).await;
    let detail = assert_failed(&report, Failure::Tls);
    assert!(detail.contains("not valid for name"), "{detail}");
}

#[tokio::test]
async fn a_receiver_that_does_not_speak_tls_is_a_tls_failure() {
    for response in ["HTTP/1.1 400 Bad Request\r\n\r\n", ""] {
        let receiver = Receiver::start(move |mut guest| async move {
            guest.write(response.as_bytes()).await;
        })
        .await;
        let report = sender().send(&target(&format!("https://{}/", receiver.address)), post(), NOW).await;
        assert_failed(&report, Failure::Tls);
    }
}

#[tokio::test]
async fn a_handshake_that_hangs_ends_at_the_deadline() {
    let receiver = Receiver::start(|mut guest| async move { guest.wait_for_close().await }).await;
    let url = format!("https://{}/", receiver.address);
    let report = sender().send(&target(&url), post_within(Duration::from_millis(100)), NOW).await;
    assert_eq!(assert_failed(&report, Failure::Timeout), "no TLS handshake within 100ms");
}

#[test]
fn a_file_of_authorities_that_cannot_be_used_is_named() {
    let empty = NamedTempFile::new().unwrap();
    for path in [empty.path(), "/nonexistent/ca.pem".as_ref()] {
        let made = Sender::new(Options { extra_ca: Some(path.to_owned()), ..Options::default() });
        let error = made.err().expect("refused");
        assert!(matches!(&error, EgressError::ExtraCa { path: named, .. } if named == path), "{error}");
    }
}
