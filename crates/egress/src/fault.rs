//! Why there was no usable response, in words for the endpoint's owner.

use std::error::Error;
use std::io;
use std::iter;
use std::time::Duration;

use postrider_core::attempt::Failure;
use tokio::time::{Instant, timeout_at};

use crate::response::Malformed;

/// A failed attempt. `detail` tells nothing of our network: no resolved address, no name server.
#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) failure: Failure,
    pub(crate) detail: String,
}

impl Fault {
    pub(crate) fn new(failure: Failure, detail: impl Into<String>) -> Fault {
        Fault { failure, detail: detail.into() }
    }

    pub(crate) fn forbidden() -> Fault {
        Fault::new(
            Failure::Forbidden,
            "the URL leads to a private, local or reserved address, which deliveries must not reach; \
             the operator can permit it with the setting [egress] allow",
        )
    }

    pub(crate) fn connecting(error: &io::Error) -> Fault {
        let detail = match error.kind() {
            io::ErrorKind::ConnectionRefused => "connection refused by the receiver".to_owned(),
            io::ErrorKind::ConnectionReset => "connection reset by the receiver while connecting".to_owned(),
            io::ErrorKind::NetworkUnreachable | io::ErrorKind::HostUnreachable => "the receiver's host is unreachable".to_owned(),
            io::ErrorKind::TimedOut => "the receiver's host did not answer".to_owned(),
            kind => format!("could not connect: {kind}"),
        };
        Fault::new(Failure::Connect, detail)
    }

    pub(crate) fn handshake(error: &io::Error) -> Fault {
        let detail = match cause::<rustls::Error>(error) {
            Some(words) => format!("the TLS handshake failed: {words}"),
            None => "the receiver ended the connection during the TLS handshake".to_owned(),
        };
        Fault::new(Failure::Tls, detail)
    }

    /// Reading or writing failed.
    pub(crate) fn exchanging(error: &io::Error) -> Fault {
        match cause::<rustls::Error>(error) {
            Some(words) => Fault::new(Failure::Tls, format!("TLS failed: {words}")),
            None => Fault::ended(),
        }
    }

    pub(crate) fn malformed(what: &Malformed) -> Fault {
        Fault::new(Failure::Protocol, format!("the answer can't be read as HTTP/1.1: {what}"))
    }

    pub(crate) fn ended() -> Fault {
        Fault::new(Failure::Closed, "the receiver closed the connection before its answer was complete")
    }
}

/// The first `E` among `error` and its causes.
fn cause<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    iter::successors(Some(error), |&error| match error.downcast_ref::<io::Error>() {
        // `source` of an IO error leaves out the error that it wraps itself.
        Some(io) => io.get_ref().map(|inner| inner as &(dyn Error + 'static)),
        None => error.source(),
    })
    .find_map(|error| error.downcast_ref::<E>())
}

/// No exchange may take longer, whatever is asked for.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// When an exchange must be over.
#[derive(Clone, Copy)]
pub(crate) struct Deadline {
    at: Instant,
    allowed: Duration,
}

impl Deadline {
    pub(crate) fn new(began: Instant, allowed: Duration) -> Deadline {
        let allowed = allowed.min(LONGEST);
        Deadline { at: began + allowed, allowed }
    }

    /// Waits for `work` until then; `missing` names what was waited for in vain.
    pub(crate) async fn hold<W: Future>(self, missing: &str, work: W) -> Result<W::Output, Fault> {
        timeout_at(self.at, work).await.map_err(|_| Fault::new(Failure::Timeout, format!("{missing} within {:?}", self.allowed)))
    }

    /// What is left, but at most `limit`.
    pub(crate) fn at_most(self, limit: Duration) -> Duration {
        limit.min(self.at.saturating_duration_since(Instant::now()))
    }
}
