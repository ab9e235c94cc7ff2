//! Links to what a job made: they need no API key, and expire.

use std::fmt;

use postrider_core::id::JobId;
use postrider_core::secret::Secret;
use postrider_core::sign::{Signer, verify_plain};
use postrider_core::time::{Millis, Time};

/// How long a link holds; what it leads to may be gone before.
const LINK_LIFE: Millis = Millis::from_secs(7 * 86_400);

/// How far ahead another process's clock may be.
const CLOCKS: Millis = Millis::from_secs(600);
const SCHEME: &str = "sha256=";

/// Leave to download what a job made, signed with a secret of its tenant. Shown as the query of the link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link<'a> {
    /// Whose job it is.
    pub tenant: &'a str,
    /// Until when it holds, in Unix seconds.
    pub expires: u64,
    /// Hexadecimal HMAC-SHA256.
    pub signature: String,
}

/// A link that leads nowhere.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
pub enum LinkError {
    /// Its time is over.
    #[error("the link has expired; ask for the job again, it has a new one")]
    Expired,
    /// It was not made here, or was changed.
    #[error("the link's signature is wrong; use it exactly as it was sent")]
    Forged,
}

impl<'a> Link<'a> {
    /// Leave to download what `job` made, for [`LINK_LIFE`].
    pub fn new(secret: &Secret, tenant: &'a str, job: JobId, now: Time) -> Link<'a> {
        let expires = (now + LINK_LIFE).0 / 1000;
        let signed = Signer::new(secret, []).sign("", 0, text(tenant, job, expires).as_bytes()).plain;
        Link { tenant, expires, signature: signed.trim_start_matches(SCHEME).to_owned() }
    }

    /// Whether it was made for `job` with one of `secrets`, and still holds.
    pub fn check<'s>(&self, secrets: impl IntoIterator<Item = &'s Secret>, job: JobId, now: Time) -> Result<(), LinkError> {
        let (text, signature) = (text(self.tenant, job, self.expires), format!("{SCHEME}{}", self.signature));
        if !secrets.into_iter().any(|secret| verify_plain(secret, text.as_bytes(), &signature).is_ok()) {
            return Err(LinkError::Forged);
        }
        // Who has the secret can sign any time; we never sign one that lies further ahead.
        match self.expires {
            expires if now.0 / 1000 > expires => Err(LinkError::Expired),
            expires if expires > (now + LINK_LIFE + CLOCKS).0 / 1000 => Err(LinkError::Forged),
            _fine => Ok(()),
        }
    }
}

impl fmt::Display for Link<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tenant: String = url_encoded(self.tenant);
        write!(f, "tenant={tenant}&expires={}&signature={}", self.expires, self.signature)
    }
}

fn text(tenant: &str, job: JobId, expires: u64) -> String {
    // The id's length is fixed and the tenant comes last, so no two links share a text.
    format!("download {job} {expires} {tenant}")
}

fn url_encoded(text: &str) -> String {
    url::form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use postrider_core::id::Uid;

    #[test]
    fn a_link_holds_for_its_job_and_tenant_and_time_only() {
        let (secret, other) = (Secret::new("whsec_a"), Secret::new("whsec_b"));
        let (job, now) = (JobId(Uid(7)), Time(1_000_000));
        let link = Link::new(&secret, "a b", job, now);
        assert_eq!(link.check([&other, &secret], job, now), Ok(()));
        assert_eq!(link.check([&secret], job, now + LINK_LIFE + Millis(2000)), Err(LinkError::Expired));
        let forged = [
            link.check([&other], job, now),
            link.check([&secret], JobId(Uid(8)), now),
            Link { tenant: "a", ..link.clone() }.check([&secret], job, now),
            Link { expires: link.expires + 1, ..link.clone() }.check([&secret], job, now),
            Link { signature: String::new(), ..link.clone() }.check([&secret], job, now),
            Link::new(&secret, "a b", job, now + LINK_LIFE).check([&secret], job, now),
        ];
        assert_eq!(forged, [Err(LinkError::Forged); 6]);
        assert!(link.to_string().starts_with("tenant=a+b&expires=605800&signature="), "{link}");
    }
}
