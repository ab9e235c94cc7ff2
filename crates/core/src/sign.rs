//! The two signature schemes that every delivery carries, for senders and receivers.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::secret::Secret;
use crate::time::{Millis, Time};

/// How far a receiver lets `webhook-timestamp` lie from its own clock (Standard Webhooks: five minutes).
pub const TOLERANCE: Millis = Millis::from_secs(300);

/// Keys made ready once per endpoint, so that an attempt only hashes its own bytes.
#[derive(Clone)]
pub struct Signer {
    standard: Vec<Hmac<Sha256>>,
    plain: Hmac<Sha256>,
}

/// The values of `webhook-signature` and `X-Webhook-Signature`.
#[derive(Debug, PartialEq, Eq)]
pub struct Signatures {
    /// `v1,` and base64, one per live secret, separated by spaces.
    pub standard: String,
    /// `sha256=` and hex, made with the newest secret.
    pub plain: String,
}

impl Signer {
    /// Signs with `newest` and, while it rotates, with the `older` secrets that are still accepted.
    pub fn new<'a>(newest: &Secret, older: impl IntoIterator<Item = &'a Secret>) -> Signer {
        let mut standard = vec![keyed(&newest.standard_key())];
        standard.extend(older.into_iter().map(|secret| keyed(&secret.standard_key())));
        Signer { standard, plain: keyed(newest.reveal().as_bytes()) }
    }

    /// Signs `body` as message `id` sent at `timestamp` (Unix seconds).
    ///
    /// Standard Webhooks 1.0.0 signs `id.timestamp.body`; the plain scheme signs the body alone.
    pub fn sign(&self, id: &str, timestamp: u64, body: &[u8]) -> Signatures {
        let prefix = format!("{id}.{timestamp}.");
        let mut standard = String::with_capacity(self.standard.len() * 48);
        for key in &self.standard {
            if !standard.is_empty() {
                standard.push(' ');
            }
            standard.push_str("v1,");
            STANDARD.encode_string(mac(key, &[prefix.as_bytes(), body]), &mut standard);
        }
        let mut plain = String::with_capacity(71);
        plain.push_str("sha256=");
        for byte in mac(&self.plain, &[body]) {
            const HEX: &[u8; 16] = b"0123456789abcdef";
            plain.push(HEX[usize::from(byte >> 4)] as char);
            plain.push(HEX[usize::from(byte & 15)] as char);
        }
        Signatures { standard, plain }
    }
}

/// Why a receiver must not trust a request.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum VerifyError {
    /// The timestamp is further from the receiver's clock than [`TOLERANCE`].
    #[error("webhook-timestamp {timestamp} is more than 5 minutes away from the clock; a replayed request, or a clock that is off")]
    Stale {
        /// What the header said, in Unix seconds.
        timestamp: u64,
    },
    /// No signature in the header was made with the secret.
    #[error("no signature matches the body; check the secret, and that the raw body is verified before parsing")]
    Mismatch,
}

/// Verifies the Standard Webhooks signature of a received request against one secret.
pub fn verify_standard(secret: &Secret, id: &str, timestamp: u64, body: &[u8], header: &str, now: Time) -> Result<(), VerifyError> {
    if (now.0 / 1000).abs_diff(timestamp) > TOLERANCE.0 / 1000 {
        return Err(VerifyError::Stale { timestamp });
    }
    let key = keyed(&secret.standard_key());
    let prefix = format!("{id}.{timestamp}.");
    let matches = header
        .split(' ')
        .filter_map(|part| part.strip_prefix("v1,"))
        .any(|encoded| STANDARD.decode(encoded).is_ok_and(|given| updated(&key, &[prefix.as_bytes(), body]).verify_slice(&given).is_ok()));
    if matches { Ok(()) } else { Err(VerifyError::Mismatch) }
}

/// Verifies the `sha256=` signature (hex HMAC of the raw body) against one secret.
pub fn verify_plain(secret: &Secret, body: &[u8], header: &str) -> Result<(), VerifyError> {
    let given = header.strip_prefix("sha256=").and_then(unhex).ok_or(VerifyError::Mismatch)?;
    updated(&keyed(secret.reveal().as_bytes()), &[body]).verify_slice(&given).map_err(|_| VerifyError::Mismatch)
}

fn keyed(key: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(key).expect("HMAC takes keys of any length")
}

fn updated(key: &Hmac<Sha256>, parts: &[&[u8]]) -> Hmac<Sha256> {
    let mut mac = key.clone();
    for part in parts {
        mac.update(part);
    }
    mac
}

fn mac(key: &Hmac<Sha256>, parts: &[&[u8]]) -> [u8; 32] {
    updated(key, parts).finalize().into_bytes().into()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    let nibble = |c: u8| (c as char).to_digit(16).map(|d| d as u8);
    digits.chunks(2).map(|pair| Some(nibble(pair[0])? << 4 | nibble(pair[1])?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &[u8] = br#"{"email":"test@example.com","username":"test_user"}"#;
    const ID: &str = "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk";
    const AT: u64 = 1_649_367_553;

    #[test]
    fn the_published_vector_holds() {
        let signer = Signer::new(&Secret::new("whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"), []);
        assert_eq!(signer.sign(ID, AT, BODY).standard, "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=");
    }

    #[test]
    fn every_form_of_secret_verifies_and_no_other_does() {
        let now = Time(AT * 1000);
        for text in ["whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD", "whsec_my_secret_key", "plain text", "C2FVsBQIhrscChlQIMV+b5sSYspob7oD"] {
            let (secret, other) = (Secret::new(text), Secret::from_random([7; 32]));
            let signed = Signer::new(&other, [&secret]).sign(ID, AT, BODY);
            for known in [&secret, &other] {
                assert_eq!(verify_standard(known, ID, AT, BODY, &signed.standard, now), Ok(()));
            }
            assert_eq!(verify_plain(&other, BODY, &signed.plain), Ok(()));
            assert_eq!(verify_plain(&secret, BODY, &signed.plain), Err(VerifyError::Mismatch));
            assert_eq!(verify_standard(&secret, ID, AT, b"{}", &signed.standard, now), Err(VerifyError::Mismatch));
            assert!(matches!(verify_standard(&secret, ID, AT, BODY, &signed.standard, Time(0)), Err(VerifyError::Stale { .. })));
        }
    }

    #[test]
    fn hostile_headers_are_refused() {
        let secret = Secret::new("s");
        for header in ["", "sha256=", "sha256=zz", "sha256=é", "sha256=abc", "md5=00"] {
            assert_eq!(verify_plain(&secret, BODY, header), Err(VerifyError::Mismatch), "{header}");
        }
    }
}
