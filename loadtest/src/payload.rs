//! The requests that carry events, and how an event is known again at the receiver.

use std::io::Write;
use std::net::SocketAddr;
use std::rc::Rc;

use memchr::memmem;
use postrider_core::rng::Rng;

use crate::endpoints::{EndpointNo, Endpoints};
use crate::ledger::Seq;
use crate::receiver::Receiver;

/// What stands before the sequence number in `data`; found by its bytes, so that no delivery needs to be parsed.
const MARK: &[u8] = b"\"load_seq\":\"";
/// Digits of a sequence number: fixed, so that every event has the same length.
const DIGITS: usize = 12;
/// Bytes of `data` beside the padding: `{"load_seq":"…","pad":""}`.
const FRAME: usize = 1 + MARK.len() + DIGITS + "\",\"pad\":\"\"}".len();
/// How far the window over the noise moves from event to event at most; makes bodies that don't compress together.
const SHIFT: usize = 64 * 1024;

/// The smallest `data` that holds a sequence number, in bytes.
pub(crate) const MIN_BYTES: usize = FRAME;

/// Where requests go and how large their events are.
pub(crate) struct Payload {
    head: Vec<u8>,
    batch: usize,
    noise: Vec<u8>,
    padding: usize,
    body: Vec<u8>,
    endpoints: Rc<Endpoints>,
    /// For jobs: where endpoints are.
    receiver: Option<SocketAddr>,
}

impl Payload {
    /// Requests to `host` with `batch` events of `bytes` bytes of `data` each; with a batch of 1, single-event ones.
    pub(crate) fn new(host: &str, api_key: &str, batch: usize, bytes: usize, endpoints: Rc<Endpoints>, seed: u64) -> Payload {
        let (path, media) = if batch == 1 { ("/v1/events", "application/json") } else { ("/v1/events/batch", "application/x-ndjson") };
        let head = head(path, media, host, api_key);
        let padding = bytes - FRAME;
        let mut rng = Rng::new(seed);
        let noise = (0..padding + SHIFT).map(|_| b"abcdefghijklmnopqrstuvwxyz012345"[(rng.bits() >> 59) as usize]).collect();
        Payload { head, batch, noise, padding, body: Vec::new(), endpoints, receiver: None }
    }

    /// Requests to `host` that submit one job each, which calls an endpoint of `receiver` back.
    pub(crate) fn of_jobs(host: &str, api_key: &str, receiver: SocketAddr, endpoints: Rc<Endpoints>) -> Payload {
        let head = head("/api/v1/async/evaluate", "application/json", host, api_key);
        Payload { head, receiver: Some(receiver), ..Payload::new(host, api_key, 1, MIN_BYTES, endpoints, 1) }
    }

    /// Events per request.
    pub(crate) fn batch(&self) -> usize {
        self.batch
    }

    /// Appends the request with the events from `first` on to `out`.
    pub(crate) fn render(&mut self, out: &mut Vec<u8>, first: Seq) {
        self.body.clear();
        for seq in (first.0..).map(Seq).take(self.batch) {
            self.event(seq, self.endpoints.of(seq));
        }
        out.extend_from_slice(&self.head);
        write!(out, "{}\r\n\r\n", self.body.len()).expect("a Vec takes every byte");
        out.extend_from_slice(&self.body);
    }

    /// The event as a line of its own, without its end.
    pub(crate) fn line(&mut self, seq: Seq) -> &[u8] {
        self.body.clear();
        self.event(seq, self.endpoints.of(seq));
        &self.body
    }

    fn event(&mut self, seq: Seq, endpoint: EndpointNo) {
        if let Some(receiver) = self.receiver {
            return self.job(seq, endpoint, receiver);
        }
        let shift = (seq.0 as usize).wrapping_mul(97) % SHIFT;
        let body = &mut self.body;
        write!(body, "{{\"type\":\"load.e{}\",\"data\":{{", endpoint.0).expect("a Vec takes every byte");
        body.extend_from_slice(MARK);
        write!(body, "{:0DIGITS$}\",\"pad\":\"", seq.0).expect("a Vec takes every byte");
        body.extend_from_slice(&self.noise[shift..shift + self.padding]);
        body.extend_from_slice(b"\"}}");
        if self.batch > 1 {
            body.push(b'\n');
        }
    }

    /// What is said in `metadata` stands in the call, too.
    fn job(&mut self, seq: Seq, endpoint: EndpointNo, receiver: SocketAddr) {
        let (url, secret) = (Receiver::url(receiver, endpoint), self.endpoints.secret(endpoint).reveal());
        let body = &mut self.body;
        body.extend_from_slice(
            b"{\"candidates\":[\"the cat sat on the mat\"],\"references\":[\"a cat sat on the mat\"],\"metrics\":[\"f1\"],",
        );
        write!(body, "\"webhook_url\":\"{url}\",\"webhook\":{{\"secret\":\"{secret}\"}},\"metadata\":{{").expect("a Vec takes every byte");
        body.extend_from_slice(MARK);
        write!(body, "{:0DIGITS$}\"}}}}", seq.0).expect("a Vec takes every byte");
    }
}

fn head(path: &str, media: &str, host: &str, api_key: &str) -> Vec<u8> {
    format!("POST {path} HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {api_key}\r\ncontent-type: {media}\r\ncontent-length: ")
        .into_bytes()
}

/// The sequence number in a delivery's body, where it has one.
///
/// It is looked for as it was sent: a server passes `data` on untouched.
pub(crate) fn sequence(body: &[u8]) -> Option<Seq> {
    let from = memmem::find(body, MARK)? + MARK.len();
    let digits = std::str::from_utf8(body.get(from..from + DIGITS)?).ok()?;
    digits.parse().ok().map(Seq)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Message;
    use postrider_core::secret::Secret;

    #[test]
    fn an_event_has_the_size_asked_for_and_is_known_again() {
        for bytes in [MIN_BYTES, 1024] {
            let endpoints = Rc::new(Endpoints::new(3, &[], 1));
            let mut request = Vec::new();
            Payload::new("h:1", "key", 1, bytes, Rc::clone(&endpoints), 1).render(&mut request, Seq(41));
            let message = Message::parse(&request).expect("valid").expect("whole");
            let event: serde_json::Value = serde_json::from_slice(&message.body).expect("JSON");
            assert_eq!(event["data"].to_string().len(), bytes);
            assert_eq!(event["type"], format!("load.e{}", endpoints.of(Seq(41)).0));
            assert_eq!(sequence(&message.body), Some(Seq(41)));
            assert_eq!(message.header("authorization"), Some("Bearer key"));
        }
    }

    #[test]
    fn a_job_calls_its_endpoint_back_and_is_known_again() {
        let mut endpoints = Endpoints::new(3, &[], 1);
        endpoints.set_secrets(["a", "b", "c"].map(Secret::new).to_vec());
        let endpoints = Rc::new(endpoints);
        let (mut request, receiver) = (Vec::new(), SocketAddr::from(([127, 0, 0, 1], 9)));
        Payload::of_jobs("h:1", "key", receiver, Rc::clone(&endpoints)).render(&mut request, Seq(41));
        let message = Message::parse(&request).expect("valid").expect("whole");
        let job: serde_json::Value = serde_json::from_slice(&message.body).expect("JSON");
        assert_eq!(job["webhook_url"], Receiver::url(receiver, endpoints.of(Seq(41))));
        assert_eq!(sequence(job["metadata"].to_string().as_bytes()), Some(Seq(41)));
    }

    #[test]
    fn a_batch_is_one_event_a_line() {
        let endpoints = Rc::new(Endpoints::new(3, &[], 1));
        let mut request = Vec::new();
        Payload::new("h:1", "key", 3, 100, endpoints, 1).render(&mut request, Seq(5));
        let message = Message::parse(&request).expect("valid").expect("whole");
        let lines = message.body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        assert_eq!(lines.map(sequence).collect::<Vec<_>>(), [Some(Seq(5)), Some(Seq(6)), Some(Seq(7))]);
    }

    #[test]
    fn bodies_without_a_number_have_none() {
        for body in [&b""[..], b"{}", b"\"load_seq\":\"12", b"\"load_seq\":\"00000000000x\""] {
            assert_eq!(sequence(body), None);
        }
    }
}
