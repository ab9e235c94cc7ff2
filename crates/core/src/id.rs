//! Identifiers. Time-ordered, so that an id alone names the time bucket its rows lie in.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::time::Time;

/// A time-ordered 128-bit number: 48 bits of milliseconds, then what makes it unique (UUID version 7, RFC 9562).
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Uid(pub u128);

impl Uid {
    /// Builds the id of instant `at`: `counter` (12 bits) orders ids of one millisecond, `random` makes them unique.
    pub fn new(at: Time, counter: u16, random: u64) -> Uid {
        let time = u128::from(at.0 & 0xFFFF_FFFF_FFFF) << 80;
        let version = 0x7_u128 << 76;
        let counter = u128::from(counter & 0x0FFF) << 64;
        let variant = 0b10_u128 << 62;
        Uid(time | version | counter | variant | u128::from(random >> 2))
    }

    /// The smallest id of instant `at`; the bound of a range over time.
    pub fn first_at(at: Time) -> Uid {
        Uid(u128::from(at.0 & 0xFFFF_FFFF_FFFF) << 80)
    }

    /// The instant the id was made.
    pub fn time(self) -> Time {
        Time((self.0 >> 80) as u64)
    }
}

/// An endpoint of a tenant: registered, or made from a URL that came with one event.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct EndpointId(pub Uid);

impl EndpointId {
    /// The endpoint of a URL that needs no registration: the same tenant and URL give the same id.
    pub fn of_url(tenant: &str, url: &str) -> EndpointId {
        use sha2::{Digest, Sha256};
        let mut hash = Sha256::new();
        hash.update((tenant.len() as u64).to_be_bytes());
        hash.update(tenant);
        hash.update(url);
        let digest = hash.finalize();
        let mut first = [0; 16];
        first.copy_from_slice(&digest[..16]);
        EndpointId(Uid(u128::from_be_bytes(first)))
    }
}

impl EndpointId {
    /// The endpoint of a URL that came with a secret, headers or a time-out (seconds) of its own: all the same give the same id.
    pub fn of_callback(
        tenant: &str,
        url: &str,
        secret: Option<&str>,
        headers: &BTreeMap<String, String>,
        timeout: Option<u32>,
    ) -> EndpointId {
        let named = headers.iter().flat_map(|(name, value)| [name.as_str(), value.as_str()]);
        let parts = [tenant, url, if secret.is_some() { "secret" } else { "" }, secret.unwrap_or_default()];
        let mut text = String::from("callback");
        for part in parts.into_iter().chain(named) {
            text.push_str(&format!(" {}:{part}", part.len()));
        }
        text.extend(timeout.map(|seconds| format!(" {seconds} s")));
        EndpointId::of_url(tenant, &text)
    }
}

/// One event on its way to one endpoint. The same on every retry, replay and repeat after a crash.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct DeliveryId {
    /// The event that is delivered.
    pub event: Uid,
    /// Where it is delivered to.
    pub endpoint: EndpointId,
}

/// A job.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct JobId(pub Uid);

/// A batch: a job under the name that OpenAI's clients know it by.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BatchId(pub JobId);

/// A file. What it is for is part of its id, so that a list of files can be narrowed by their names alone; and the files that
/// a job makes have ids that follow from the job's.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId {
    /// When it was made, or the job that made it, and a number of its own.
    pub number: Uid,
    /// What it is for.
    pub purpose: FilePurpose,
}

/// What a file is for, by OpenAI's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FilePurpose {
    /// Read by assistants.
    Assistants,
    /// The input of a batch.
    Batch,
    /// What a batch was answered.
    BatchOutput,
    /// The lines of a batch that failed.
    BatchErrors,
    /// Evaluation data.
    Evals,
    /// Training data.
    FineTune,
    /// Anything.
    UserData,
    /// Pictures.
    Vision,
}

impl FilePurpose {
    /// Every purpose.
    pub const ALL: [FilePurpose; 8] = [
        FilePurpose::Assistants,
        FilePurpose::Batch,
        FilePurpose::BatchOutput,
        FilePurpose::BatchErrors,
        FilePurpose::Evals,
        FilePurpose::FineTune,
        FilePurpose::UserData,
        FilePurpose::Vision,
    ];

    /// As requests and answers call it; both sorts of files that a batch makes have one name.
    pub fn name(self) -> &'static str {
        match self {
            FilePurpose::Assistants => "assistants",
            FilePurpose::Batch => "batch",
            FilePurpose::BatchOutput | FilePurpose::BatchErrors => "batch_output",
            FilePurpose::Evals => "evals",
            FilePurpose::FineTune => "fine-tune",
            FilePurpose::UserData => "user_data",
            FilePurpose::Vision => "vision",
        }
    }

    /// Its letter in a file's id.
    fn letter(self) -> char {
        match self {
            FilePurpose::Assistants => 'a',
            FilePurpose::Batch => 'b',
            FilePurpose::BatchOutput => 'o',
            FilePurpose::BatchErrors => 'e',
            FilePurpose::Evals => 'l',
            FilePurpose::FineTune => 'f',
            FilePurpose::UserData => 'u',
            FilePurpose::Vision => 'v',
        }
    }
}

/// The text is not an id of the kind that was asked for.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{text}` is not an id of the form `{prefix}…`")]
pub struct IdError {
    text: String,
    prefix: &'static str,
}

/// Crockford's base 32 in lower case: keeps the order of the numbers, has no look-alikes.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
const DIGITS: usize = 26;

fn encode(value: u128, out: &mut [u8; DIGITS]) {
    for (i, digit) in out.iter_mut().enumerate() {
        *digit = ALPHABET[(value >> (5 * (DIGITS - 1 - i)) & 31) as usize];
    }
}

fn decode(text: &[u8]) -> Option<u128> {
    if text.len() != DIGITS || text[0] > b'7' {
        return None; // 26 digits hold 130 bits; a larger first digit would overflow.
    }
    text.iter().try_fold(0_u128, |value, c| {
        let digit = ALPHABET.iter().position(|a| a == c)?;
        Some(value << 5 | digit as u128)
    })
}

fn write_uid(f: &mut fmt::Formatter<'_>, prefix: &str, uids: &[Uid]) -> fmt::Result {
    f.write_str(prefix)?;
    for uid in uids {
        let mut digits = [0; DIGITS];
        encode(uid.0, &mut digits);
        f.write_str(std::str::from_utf8(&digits).map_err(|_| fmt::Error)?)?;
    }
    Ok(())
}

fn parse<const N: usize>(text: &str, prefix: &'static str) -> Result<[Uid; N], IdError> {
    let error = || IdError { text: text.chars().take(80).collect(), prefix };
    let digits = text.strip_prefix(prefix).ok_or_else(error)?.as_bytes();
    if digits.len() != N * DIGITS {
        return Err(error());
    }
    let mut uids = [Uid(0); N];
    for (uid, digits) in uids.iter_mut().zip(digits.chunks(DIGITS)) {
        *uid = Uid(decode(digits).ok_or_else(error)?);
    }
    Ok(uids)
}

impl fmt::Display for Uid {
    /// The text of an event's own id: `evt_` and 26 digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_uid(f, "evt_", &[*self])
    }
}

impl FromStr for Uid {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Uid, IdError> {
        parse(text, "evt_").map(|[uid]| uid)
    }
}

impl fmt::Display for EndpointId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_uid(f, "ep_", &[self.0])
    }
}

impl FromStr for EndpointId {
    type Err = IdError;
    fn from_str(text: &str) -> Result<EndpointId, IdError> {
        parse(text, "ep_").map(|[uid]| EndpointId(uid))
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_uid(f, "job_", &[self.0])
    }
}

impl FromStr for JobId {
    type Err = IdError;
    fn from_str(text: &str) -> Result<JobId, IdError> {
        parse(text, "job_").map(|[uid]| JobId(uid))
    }
}

impl fmt::Display for BatchId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_uid(f, "batch_", &[self.0.0])
    }
}

impl FromStr for BatchId {
    type Err = IdError;
    fn from_str(text: &str) -> Result<BatchId, IdError> {
        parse(text, "batch_").map(|[uid]| BatchId(JobId(uid)))
    }
}

impl fmt::Display for FileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_uid(f, "file-", &[self.number])?;
        write!(f, "{}", self.purpose.letter())
    }
}

impl FromStr for FileId {
    type Err = IdError;
    fn from_str(text: &str) -> Result<FileId, IdError> {
        let error = || IdError { text: text.chars().take(80).collect(), prefix: "file-" };
        let letter = text.chars().next_back().ok_or_else(error)?;
        let purpose = FilePurpose::ALL.into_iter().find(|purpose| purpose.letter() == letter).ok_or_else(error)?;
        let [number] = parse(&text[..text.len() - letter.len_utf8()], "file-").map_err(|_| error())?;
        Ok(FileId { number, purpose })
    }
}

impl fmt::Display for DeliveryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_uid(f, "dlv_", &[self.event, self.endpoint.0])
    }
}

impl FromStr for DeliveryId {
    type Err = IdError;
    fn from_str(text: &str) -> Result<DeliveryId, IdError> {
        parse(text, "dlv_").map(|[event, endpoint]| DeliveryId { event, endpoint: EndpointId(endpoint) })
    }
}

macro_rules! debug_as_display {
    ($($id:ty),*) => { $(impl fmt::Debug for $id {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { fmt::Display::fmt(self, f) }
    })* };
}
debug_as_display!(Uid, EndpointId, JobId, BatchId, FileId, DeliveryId);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_survive_their_text_and_keep_their_order() {
        let early = Uid::new(Time(1_700_000_000_000), 7, 42);
        let late = Uid::new(Time(1_700_000_000_001), 0, 1);
        assert!(early < late && early.to_string() < late.to_string());
        assert_eq!(early.to_string().parse(), Ok(early));
        assert_eq!(early.time(), Time(1_700_000_000_000));
        let delivery = DeliveryId { event: early, endpoint: EndpointId::of_url("default", "http://a/") };
        assert_eq!(delivery.to_string().parse(), Ok(delivery));
        assert_eq!(BatchId(JobId(early)).to_string().parse(), Ok(BatchId(JobId(early))));
        let mut files = std::collections::BTreeSet::new();
        for purpose in FilePurpose::ALL {
            let file = FileId { number: early, purpose };
            assert_eq!(file.to_string().parse(), Ok(file));
            assert!(files.insert(file.to_string()));
        }
    }

    #[test]
    fn foreign_text_is_refused() {
        for text in
            ["", "evt_", "ep_0", "evt_zzzzzzzzzzzzzzzzzzzzzzzzzz", "evt_0000000000000000000000000u", "evt_é0000000000000000000000000"]
        {
            assert!(text.parse::<Uid>().is_err(), "{text}");
        }
        for text in [
            "",
            "file-",
            "file-b",
            "é",
            "file-00000000000000000000000000",
            "file-00000000000000000000000000x",
            "file-0000000000000000000000000b",
        ] {
            assert!(text.parse::<FileId>().is_err(), "{text}");
        }
    }

    #[test]
    fn callbacks_share_an_endpoint_only_if_all_of_them_is_the_same() {
        let headers = |pairs: &[(&str, &str)]| pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect::<BTreeMap<_, _>>();
        let none = BTreeMap::new();
        let ids = [
            EndpointId::of_url("a", "http://x/"),
            EndpointId::of_callback("a", "http://x/", Some("s"), &none, None),
            EndpointId::of_callback("b", "http://x/", Some("s"), &none, None),
            EndpointId::of_callback("a", "http://x/y", Some("s"), &none, None),
            EndpointId::of_callback("a", "http://x/", Some("t"), &none, None),
            EndpointId::of_callback("a", "http://x/", None, &headers(&[("x", "1")]), None),
            EndpointId::of_callback("a", "http://x/", Some("s"), &headers(&[("x", "1")]), None),
            EndpointId::of_callback("a", "http://x/", Some("s"), &headers(&[("x", "1 1:y 1:2")]), None),
            EndpointId::of_callback("a", "http://x/", Some("s"), &headers(&[("x", "1"), ("y", "2")]), None),
            EndpointId::of_callback("a", "http://x/", Some("s"), &none, Some(7)),
        ];
        assert_eq!(ids.iter().collect::<std::collections::BTreeSet<_>>().len(), ids.len());
        assert_eq!(ids[1], EndpointId::of_callback("a", "http://x/", Some("s"), &none, None));
    }

    #[test]
    fn tenants_with_one_url_have_endpoints_of_their_own() {
        assert_ne!(EndpointId::of_url("a", "bhttp://x/"), EndpointId::of_url("ab", "http://x/"));
    }
}
