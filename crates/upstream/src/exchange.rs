//! One answer as it comes in.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use postrider_core::time::Time;
use postrider_egress::parse_retry_after;
use tokio::time::{Instant, timeout_at};

use crate::error::{UpstreamError, words};

/// Bytes of an answer that is no success that are read.
const MOST_OF_ERROR: usize = 64 << 10;
/// Longest name of a request that is believed, in bytes.
const MOST_OF_ID: usize = 200;

/// What an upstream answers to a request that is passed through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// Its own name of the request (`x-request-id`).
    pub request_id: Option<String>,
    /// The whole body.
    pub body: Bytes,
}

/// The body of an answer, in pieces.
pub(crate) struct Pieces {
    body: Incoming,
    idle: Duration,
    /// When the whole exchange must be over.
    deadline: Instant,
    most: usize,
    left: usize,
}

impl Pieces {
    pub(crate) fn new(body: Incoming, idle: Duration, deadline: Instant, most: usize) -> Pieces {
        Pieces { body, idle, deadline, most, left: most }
    }

    /// The next piece; `None` at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, UpstreamError> {
        loop {
            let until = self.deadline.min(Instant::now() + self.idle);
            let frame = timeout_at(until, self.body.frame()).await.map_err(|_| match until == self.deadline {
                true => UpstreamError::TimedOut("it took too long in all".to_owned()),
                false => UpstreamError::TimedOut(format!("it fell silent for {} s in the middle", self.idle.as_secs_f64())),
            })?;
            let frame = match frame {
                None => return Ok(None),
                Some(frame) => frame.map_err(|error| UpstreamError::Cut(reason(&error)))?,
            };
            let Ok(piece) = frame.into_data() else { continue };
            self.left = self.left.checked_sub(piece.len()).ok_or(UpstreamError::TooLarge(self.most))?;
            return Ok(Some(piece));
        }
    }

    /// The rest of it.
    pub(crate) async fn rest(mut self) -> Result<Bytes, UpstreamError> {
        let mut whole = BytesMut::new();
        while let Some(piece) = self.next().await? {
            whole.extend_from_slice(&piece);
        }
        Ok(whole.freeze())
    }
}

/// What an answer that is no success says.
pub(crate) async fn refusal(response: Response<Incoming>, idle: Duration, deadline: Instant, key: &str) -> UpstreamError {
    let (head, body) = response.into_parts();
    let mut pieces = Pieces::new(body, idle, deadline, MOST_OF_ERROR);
    let mut said = BytesMut::new();
    // The status is the answer; of a body that breaks off what there is.
    while let Ok(Some(piece)) = pieces.next().await {
        said.extend_from_slice(&piece);
    }
    UpstreamError::of_status(head.status.as_u16(), words(&said, key), retry_after(&head.headers))
}

pub(crate) fn request_id(headers: &HeaderMap) -> Option<String> {
    let given = headers.get("x-request-id")?.to_str().ok()?;
    (1..=MOST_OF_ID).contains(&given.len()).then(|| given.to_owned())
}

/// The media type without its parameters, in lower case.
pub(crate) fn media_type(headers: &HeaderMap) -> String {
    let given = headers.get(CONTENT_TYPE).and_then(|given| given.to_str().ok()).unwrap_or_default();
    given.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now = Time(u64::try_from(now.as_millis()).unwrap_or(u64::MAX));
    parse_retry_after(headers.get(RETRY_AFTER)?.to_str().ok()?, now).map(Duration::from)
}

/// The innermost reason, which is the one that says something.
pub(crate) fn reason(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}
