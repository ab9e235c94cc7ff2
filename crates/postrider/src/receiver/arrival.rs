//! One request as it arrived.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use hyper::{HeaderMap, StatusCode};
use postrider_core::secret::Secret;
use postrider_core::sign;
use postrider_core::time::Time;

/// A delivery that arrived and was answered.
#[derive(Debug)]
pub(crate) struct Arrival {
    /// The receiver's port.
    pub(crate) port: u16,
    /// When its last byte was read, for measuring.
    pub(crate) at: Instant,
    /// When it was answered, for showing.
    pub(crate) received_at: Time,
    /// Whether it can be trusted.
    pub(crate) signature: Signature,
    /// What it was answered with.
    pub(crate) status: StatusCode,
    /// Its headers.
    pub(crate) headers: HeaderMap,
    /// Its body, as it was signed.
    pub(crate) body: Bytes,
}

/// What came of verifying a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Signature {
    /// Both schemes are right.
    Valid,
    /// One is wrong or missing.
    Invalid(String),
    /// The receiver has no secret.
    Unchecked,
}

impl Arrival {
    /// `webhook-id`, or a dash.
    pub(crate) fn id(&self) -> &str {
        text(&self.headers, "webhook-id").unwrap_or("-")
    }

    /// The event's type, or a dash.
    pub(crate) fn kind(&self) -> &str {
        text(&self.headers, "x-webhook-event").unwrap_or("-")
    }

    /// 1 for a delivery's first attempt.
    pub(crate) fn attempt(&self) -> u32 {
        attempt(&self.headers)
    }

    /// The header that ties a delivery to a request of its sender.
    pub(crate) fn correlation_id(&self) -> Option<&str> {
        text(&self.headers, "x-correlation-id")
    }
}

impl Signature {
    /// Verifies the Standard Webhooks signature and the `sha256=` one; both must be right.
    pub(crate) fn of(secret: Option<&Secret>, headers: &HeaderMap, body: &[u8]) -> Signature {
        match secret.map(|secret| verify(secret, headers, body)) {
            None => Signature::Unchecked,
            Some(Ok(())) => Signature::Valid,
            Some(Err(reason)) => Signature::Invalid(reason),
        }
    }
}

/// The time of day.
pub(crate) fn now() -> Time {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is set to after 1970");
    Time(since.as_millis() as u64)
}

/// The number of the attempt; 1 where the sender says nothing.
pub(crate) fn attempt(headers: &HeaderMap) -> u32 {
    text(headers, "x-webhook-attempt").and_then(|number| number.parse().ok()).unwrap_or(1)
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn verify(secret: &Secret, headers: &HeaderMap, body: &[u8]) -> Result<(), String> {
    let header = |name: &str| text(headers, name).ok_or_else(|| format!("there is no {name} header"));
    let timestamp = header("webhook-timestamp")?.parse().map_err(|_| "webhook-timestamp is no number of seconds".to_owned())?;
    let standard = sign::verify_standard(secret, header("webhook-id")?, timestamp, body, header("webhook-signature")?, now());
    standard.map_err(|error| format!("webhook-signature: {error}"))?;
    sign::verify_plain(secret, body, header("x-webhook-signature")?).map_err(|error| format!("x-webhook-signature: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signed(secret: &Secret, body: &[u8]) -> HeaderMap {
        let timestamp = now().0 / 1000;
        let signatures = sign::Signer::new(secret, []).sign("msg_1", timestamp, body);
        let mut headers = HeaderMap::new();
        headers.insert("webhook-id", "msg_1".parse().unwrap());
        headers.insert("webhook-timestamp", timestamp.to_string().parse().unwrap());
        headers.insert("webhook-signature", signatures.standard.parse().unwrap());
        headers.insert("x-webhook-signature", signatures.plain.parse().unwrap());
        headers
    }

    #[test]
    fn both_signatures_must_be_there_and_right() {
        let (secret, body) = (Secret::from_random([3; 32]), b"{}");
        assert_eq!(Signature::of(Some(&secret), &signed(&secret, body), body), Signature::Valid);
        assert_eq!(Signature::of(None, &HeaderMap::new(), body), Signature::Unchecked);
        for name in ["webhook-id", "webhook-timestamp", "webhook-signature", "x-webhook-signature"] {
            let mut headers = signed(&secret, body);
            headers.remove(name);
            let missing = Signature::Invalid(format!("there is no {name} header"));
            assert_eq!(Signature::of(Some(&secret), &headers, body), missing);
            headers.insert(name, "1".parse().unwrap());
            assert!(matches!(Signature::of(Some(&secret), &headers, body), Signature::Invalid(_)), "{name}");
        }
    }
}
