//! A response as its bytes come in (RFC 9112), judged by its status; of the body only the beginning is kept.
//!
//! Whatever a receiver sends costs a bounded amount of memory and, for each byte, a bounded amount of work.

use std::mem::{self, MaybeUninit};

use bytes::Bytes;
use httparse::{ParserConfig, Status};
use postrider_core::attempt::KEPT_BODY;

/// The largest head of a response, in bytes; also the most that its trailers may have.
const MAX_HEAD: usize = 64 * 1024;
/// Most headers of a response.
const MAX_HEADERS: usize = 100;
/// The longest line that says how large a chunk is, in bytes.
const MAX_CHUNK_LINE: usize = 4 * 1024;
/// What every response begins with that can be read.
const PROTOCOL: &[u8] = b"HTTP/1.";
/// The most that is read of a response body, in bytes.
const MAX_BODY: usize = 64 * 1024;
/// The most that is read in all: interim responses, what lies between chunks and trailers included.
const MAX_ALL: usize = 256 * 1024;
/// The longest `Retry-After` that is looked at, in bytes; a date has 29.
const MAX_RETRY_AFTER: usize = 64;

/// How much of a response is read, in bytes, and what of it is kept.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reading {
    /// Of its body, at most; the rest is cut off.
    body: usize,
    /// In all, at most.
    all: usize,
    /// Of its body.
    kept: usize,
    headers: KeptHeaders,
}

/// Whether headers are of use to anybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum KeptHeaders {
    None,
    All,
}

impl Reading {
    /// What matters is that it ends well; the beginning of its body is for people.
    pub(crate) const DELIVERY: Reading = Reading { body: MAX_BODY, all: MAX_ALL, kept: KEPT_BODY, headers: KeptHeaders::None };

    /// The whole is what was called for, if its body has no more than `most`. Chunks may take as much again as their content.
    pub(crate) fn whole(most: usize) -> Reading {
        Reading { body: most, all: most.saturating_mul(2).saturating_add(MAX_ALL), kept: most, headers: KeptHeaders::All }
    }
}

/// What has come of a response so far.
pub(crate) struct Response {
    reading: Reading,
    state: State,
    /// What is not understood yet: the head, or a line between chunks.
    pending: Vec<u8>,
    status: u16,
    retry_after: Option<String>,
    headers: Vec<(String, String)>,
    kept: Vec<u8>,
    /// There was more than is read.
    is_cut: bool,
    /// Of the body, in bytes.
    length: usize,
    /// In all, in bytes.
    taken: usize,
    /// Whether another request may follow on the connection.
    keeps: bool,
}

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Lines of the head; the one that is coming began at `line`.
    Head {
        line: usize,
    },
    /// So many bytes of a body whose length is known.
    Sized(u64),
    /// A body that ends with its connection.
    Endless,
    ChunkSize,
    Chunk(u64),
    /// The end of the line behind a chunk.
    ChunkEnd,
    /// Lines behind the last chunk; so many bytes of them have come.
    Trailers(usize),
    Whole,
}

/// How far a response is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// There is more to come.
    More,
    /// It is whole, or as much of it as is read.
    Whole,
}

/// A response as far as it matters.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answered {
    pub(crate) status: u16,
    pub(crate) retry_after: Option<String>,
    /// In lower case, in order; where they are kept.
    pub(crate) headers: Vec<(String, String)>,
    /// As much of it as is kept.
    pub(crate) body: Bytes,
    /// There was more than is read.
    pub(crate) is_cut: bool,
}

/// What came is no HTTP/1.x response.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Malformed {
    #[error("{0}")]
    Head(httparse::Error),
    #[error("its status is {0}")]
    Status(u16),
    #[error("its head is too large")]
    LargeHead,
    #[error("it does not end")]
    Endless,
    #[error("its content-length is no number, or several")]
    Length,
    #[error("a chunk of its body has no size, or does not end where it should")]
    Chunk,
}

impl Response {
    pub(crate) fn new(reading: Reading) -> Response {
        Response {
            reading,
            state: State::Head { line: 0 },
            pending: Vec::new(),
            status: 0,
            retry_after: None,
            headers: Vec::new(),
            kept: Vec::new(),
            is_cut: false,
            length: 0,
            taken: 0,
            keeps: false,
        }
    }

    /// Takes in what came. Errors: it can't be read; the connection is of no more use then.
    pub(crate) fn take(&mut self, mut bytes: &[u8]) -> Result<Step, Malformed> {
        self.taken = self.taken.saturating_add(bytes.len());
        if self.taken > self.reading.all {
            self.cut();
            return if self.status == 0 { Err(Malformed::Endless) } else { Ok(Step::Whole) };
        }
        loop {
            match self.state {
                State::Whole => {
                    // Nobody asked for more than one response.
                    self.keeps &= bytes.is_empty();
                    return Ok(Step::Whole);
                }
                _ if bytes.is_empty() => return Ok(Step::More),
                State::Head { line } => self.head(&mut bytes, line)?,
                State::Sized(left) => {
                    let left = self.body(&mut bytes, left);
                    self.follow(if left == 0 { State::Whole } else { State::Sized(left) });
                }
                State::Endless => {
                    self.body(&mut bytes, u64::MAX);
                    self.follow(State::Endless);
                }
                State::ChunkSize => {
                    if let Some(line) = self.line(&mut bytes, MAX_CHUNK_LINE).map_err(|()| Malformed::Chunk)? {
                        self.state = chunk(&line)?;
                    }
                }
                State::Chunk(left) => {
                    let left = self.body(&mut bytes, left);
                    self.follow(if left == 0 { State::ChunkEnd } else { State::Chunk(left) });
                }
                State::ChunkEnd => {
                    if let Some(line) = self.line(&mut bytes, 2).map_err(|()| Malformed::Chunk)? {
                        self.state = if line == b"\r\n" { State::ChunkSize } else { return Err(Malformed::Chunk) };
                    }
                }
                State::Trailers(before) => {
                    if let Some(line) = self.line(&mut bytes, MAX_HEAD - before).map_err(|()| Malformed::LargeHead)? {
                        self.state = if is_empty_line(&line) { State::Whole } else { State::Trailers(before + line.len()) };
                    }
                }
            }
        }
    }

    /// The connection has ended: what came is whole only where nothing else says when it would be.
    pub(crate) fn ended(&self) -> bool {
        self.state == State::Endless
    }

    /// The response; to be asked once it is whole.
    pub(crate) fn answered(self) -> (Answered, bool) {
        let Response { status, retry_after, headers, kept, is_cut, keeps, .. } = self;
        (Answered { status, retry_after, headers, body: kept.into(), is_cut }, keeps)
    }

    /// Goes on with `state`, unless more of the body has come than is read.
    fn follow(&mut self, state: State) {
        self.state = state;
        if self.length > self.reading.body {
            self.cut();
        }
    }

    /// Reads no more of it.
    fn cut(&mut self) {
        self.state = State::Whole;
        self.is_cut = true;
        self.keeps = false;
    }

    /// Takes up to `left` bytes of the body; how many are still to come.
    fn body(&mut self, bytes: &mut &[u8], left: u64) -> u64 {
        let length = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
        let (part, rest) = bytes.split_at(length);
        *bytes = rest;
        self.length += part.len();
        let room = self.reading.kept - self.kept.len();
        self.kept.extend_from_slice(&part[..room.min(part.len())]);
        left - part.len() as u64
    }

    /// Moves bytes up to the end of a line to what is pending; whether there was one. Errors: it is longer than `most`.
    fn gather(&mut self, bytes: &mut &[u8], most: usize) -> Result<bool, ()> {
        let end = memchr::memchr(b'\n', bytes);
        let (part, rest) = bytes.split_at(end.map_or(bytes.len(), |at| at + 1));
        if self.pending.len() + part.len() > most {
            return Err(());
        }
        self.pending.extend_from_slice(part);
        *bytes = rest;
        Ok(end.is_some())
    }

    /// A whole line with its end.
    fn line(&mut self, bytes: &mut &[u8], most: usize) -> Result<Option<Vec<u8>>, ()> {
        Ok(self.gather(bytes, most)?.then(|| mem::take(&mut self.pending)))
    }

    /// Takes lines of the head; reads it when an empty one ends it.
    fn head(&mut self, bytes: &mut &[u8], line: usize) -> Result<(), Malformed> {
        let is_line = self.gather(bytes, MAX_HEAD).map_err(|()| Malformed::LargeHead)?;
        let begin = self.pending.len().min(PROTOCOL.len());
        if line == 0 && self.pending[..begin] != PROTOCOL[..begin] && !matches!(self.pending[0], b'\r' | b'\n') {
            return Err(Malformed::Head(httparse::Error::Version)); // no need to wait for more of it
        }
        if !is_line {
            return Ok(());
        }
        if is_empty_line(&self.pending[line..]) {
            if line == 0 {
                self.pending.clear(); // before the first it is passed over (RFC 9112, section 2.2)
            } else {
                let head = mem::take(&mut self.pending);
                self.state = self.read(&head)?;
            }
        } else {
            self.state = State::Head { line: self.pending.len() };
        }
        Ok(())
    }

    fn read(&mut self, head: &[u8]) -> Result<State, Malformed> {
        let mut headers = [const { MaybeUninit::uninit() }; MAX_HEADERS];
        let mut response = httparse::Response::new(&mut []);
        match ParserConfig::default().parse_response_with_uninit_headers(&mut response, head, &mut headers) {
            Ok(Status::Complete(_)) => {}
            Ok(Status::Partial) => return Err(Malformed::Head(httparse::Error::NewLine)),
            Err(error) => return Err(Malformed::Head(error)),
        }
        let (status, minor) = (response.code.unwrap_or_default(), response.version.unwrap_or_default());
        match status {
            // The protocol is another one from here on.
            101 => {
                self.status = status;
                return Ok(State::Whole);
            }
            // Interim: the response is still to come.
            100..200 => return Ok(State::Head { line: 0 }),
            200..1000 => self.status = status,
            _ => return Err(Malformed::Status(status)),
        }
        let frame = Frame::of(response.headers)?;
        if self.reading.headers == KeptHeaders::All {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            self.headers = response.headers.iter().map(|header| (header.name.to_ascii_lowercase(), text(header.value))).collect();
        }
        self.retry_after = frame.retry_after;
        self.keeps = !frame.says_close && (minor == 1 || frame.says_keep);
        if matches!(status, 204 | 304) {
            // It has no body. One that is announced may come all the same.
            self.keeps &= !frame.is_coded && frame.length.unwrap_or(0) == 0;
            return Ok(State::Whole);
        }
        // RFC 9112, section 6.3. Where both are given the receiver may have been deceived, and with HTTP/1.0 nobody
        // chunks: neither is trusted with another request.
        self.keeps &= !frame.is_coded || frame.is_chunked && frame.length.is_none() && minor == 1;
        Ok(match (frame.is_chunked, frame.is_coded, frame.length) {
            (true, ..) => State::ChunkSize,
            (false, true, _) | (false, false, None) => {
                self.keeps = false;
                State::Endless
            }
            (false, false, Some(0)) => State::Whole,
            (false, false, Some(length)) => State::Sized(length),
        })
    }
}

/// What the headers say about where the response ends, and what follows.
#[derive(Default)]
struct Frame {
    length: Option<u64>,
    /// There is a transfer coding.
    is_coded: bool,
    /// The last one is `chunked`.
    is_chunked: bool,
    says_close: bool,
    says_keep: bool,
    retry_after: Option<String>,
}

impl Frame {
    fn of(headers: &[httparse::Header<'_>]) -> Result<Frame, Malformed> {
        let mut frame = Frame::default();
        for header in headers {
            let is = |name: &str| header.name.eq_ignore_ascii_case(name);
            if is("content-length") {
                for value in elements(header.value) {
                    let length = number(value).ok_or(Malformed::Length)?;
                    if frame.length.replace(length).is_some_and(|other| other != length) {
                        return Err(Malformed::Length);
                    }
                }
            } else if is("transfer-encoding") {
                if let Some(last) = elements(header.value).filter(|coding| !coding.is_empty()).last() {
                    frame.is_coded = true;
                    frame.is_chunked = last.eq_ignore_ascii_case(b"chunked");
                }
            } else if is("connection") {
                frame.says_close |= elements(header.value).any(|option| option.eq_ignore_ascii_case(b"close"));
                frame.says_keep |= elements(header.value).any(|option| option.eq_ignore_ascii_case(b"keep-alive"));
            } else if is("retry-after") && frame.retry_after.is_none() && header.value.len() <= MAX_RETRY_AFTER {
                frame.retry_after = std::str::from_utf8(header.value).ok().map(str::to_owned);
            }
        }
        Ok(frame)
    }
}

/// The elements of a list (RFC 9110, section 5.6.1).
fn elements(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii)
}

fn number(text: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(text).ok()?;
    text.parse().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()))
}

/// What follows a line that says how large a chunk is.
fn chunk(line: &[u8]) -> Result<State, Malformed> {
    // The parser takes no digits for none.
    if !line.first().is_some_and(u8::is_ascii_hexdigit) {
        return Err(Malformed::Chunk);
    }
    match httparse::parse_chunk_size(line) {
        Ok(Status::Complete((_, 0))) => Ok(State::Trailers(0)),
        Ok(Status::Complete((_, size))) => Ok(State::Chunk(size)),
        Ok(Status::Partial) | Err(_) => Err(Malformed::Chunk),
    }
}

fn is_empty_line(line: &[u8]) -> bool {
    matches!(line, b"\r\n" | b"\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHUNKED: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, Chunked,\r\n\r\n";

    /// Feeds `text` in pieces of `piece` bytes.
    fn read_in(text: &[u8], piece: usize) -> Result<(Step, Response), Malformed> {
        let mut response = Response::new(Reading::DELIVERY);
        let mut step = Step::More;
        for part in text.chunks(piece) {
            step = response.take(part)?;
        }
        Ok((step, response))
    }

    /// The status, the body and whether the connection is kept; `None` while there is more to come.
    fn read(text: &str) -> Result<Option<(u16, String, bool)>, Malformed> {
        let whole = |(step, response): (Step, Response)| {
            (step == Step::Whole).then(|| {
                let (answered, keeps) = response.answered();
                (answered.status, String::from_utf8_lossy(&answered.body).into_owned(), keeps)
            })
        };
        let at_once = read_in(text.as_bytes(), text.len()).map(whole);
        for piece in 1..text.len().min(9) {
            assert_eq!(read_in(text.as_bytes(), piece).map(whole), at_once, "{text:?} in pieces of {piece}");
        }
        at_once
    }

    #[test]
    fn a_response_ends_where_it_says_and_the_connection_is_kept_where_nothing_speaks_against_it() {
        let chunked = |rest: &str| format!("{CHUNKED}{rest}");
        for (text, status, body, keeps) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", 200, "ok", true),
            ("HTTP/1.1 200\ncontent-length: 0\n\n", 200, "", true),
            ("\r\nHTTP/1.1 200 OK\r\ncontent-length: 2, 2\r\n\r\nok", 200, "ok", true),
            ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1", 200, "ok", false),
            ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: x, Close\r\n\r\nok", 200, "ok", false),
            ("HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok", 200, "ok", false),
            ("HTTP/1.0 200 OK\r\ncontent-length: 2\r\nconnection: keep-alive\r\n\r\nok", 200, "ok", true),
            ("HTTP/1.0 200 OK\r\ncontent-length: 2\r\nconnection: keep-alive, close\r\n\r\nok", 200, "ok", false),
            ("HTTP/1.1 304 Not Modified\r\ncontent-length: 0\r\n\r\n", 304, "", true),
            ("HTTP/1.1 304 Not Modified\r\ncontent-length: 9\r\n\r\n", 304, "", false),
            ("HTTP/1.1 204 No Content\r\ntransfer-encoding: chunked\r\n\r\n", 204, "", false),
            ("HTTP/1.1 101 Go\r\ncontent-length: 9\r\n\r\n", 101, "", false),
            ("HTTP/1.1 102 Wait\r\ncontent-length: 9\r\n\r\nHTTP/1.1 204 No\r\n\r\n", 204, "", true),
            (&chunked("2\r\nok\r\n0\r\n\r\n"), 200, "ok", true),
            (&chunked("01 ;a=\"b\"\r\no\r\n1\r\nk\r\n000\r\na: b\r\nc: d\r\n\r\n"), 200, "ok", true),
            ("HTTP/1.1 200 OK\r\ncontent-length: 9\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", 200, "ok", false),
            ("HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", 200, "", false),
        ] {
            assert_eq!(read(text), Ok(Some((status, body.to_owned(), keeps))), "{text:?}");
        }
    }

    #[test]
    fn what_ends_with_its_connection_is_whole_then_and_nothing_else_is() {
        for (text, whole) in [
            ("HTTP/1.1 200 OK\r\n\r\nall", true),
            ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked, gzip\r\ncontent-length: 1\r\n\r\nall", true),
            ("HTTP/1.1 200 OK\r\n", false),
            ("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhal", false),
            (&format!("{CHUNKED}3\r\nhal"), false),
            (&format!("{CHUNKED}0\r\nx: "), false),
            ("HTTP/1.1 100 Continue\r\n\r\n", false),
        ] {
            let (step, response) = read_in(text.as_bytes(), text.len()).unwrap();
            assert_eq!((step, response.ended()), (Step::More, whole), "{text:?}");
        }
    }

    #[test]
    fn what_is_no_response_is_refused() {
        let length = |text: &str| format!("HTTP/1.1 200 OK\r\n{text}\r\n\r\n");
        for text in [
            "SSH-2.0-OpenSSH_9.6\r\n\r\n".to_owned(),
            "HTTP/2 200\r\n\r\n".to_owned(),
            "HTTP/1.1 099 Low\r\n\r\n".to_owned(),
            length("a : b"),
            length("a: b\r\n folded"),
            length("content-length: 1\r\ncontent-length: 2"),
            length("content-length: 1, 2"),
            length("content-length: +1"),
            length("content-length: -1"),
            length("content-length: 99999999999999999999"),
            length("content-length:"),
            format!("{CHUNKED}x\r\n"),
            format!("{CHUNKED}\r\n"),
            format!("{CHUNKED}fffffffffffffffff\r\n"),
            format!("{CHUNKED}1\r\nokay\r\n"),
            format!("{CHUNKED}1;{}\r\n", "x".repeat(MAX_CHUNK_LINE)),
            format!("{CHUNKED}0\r\n{}", "a: b\r\n".repeat(MAX_HEAD / 6 + 1)),
            format!("HTTP/1.1 200 OK\r\n{}", "a: b\r\n".repeat(MAX_HEAD / 6 + 1)),
        ] {
            assert!(read(&text).is_err(), "{:?}", &text[..text.len().min(80)]);
        }
    }

    #[test]
    fn only_the_beginning_of_a_body_is_kept_and_no_more_is_read_than_the_most() {
        let long = "x".repeat(MAX_BODY);
        let (step, response) = read_in(format!("HTTP/1.1 200 OK\r\ncontent-length: {MAX_BODY}\r\n\r\n{long}").as_bytes(), 4096).unwrap();
        let (answered, keeps) = response.answered();
        assert_eq!((step, answered.body.len(), keeps), (Step::Whole, KEPT_BODY, true));
        let (step, response) = read_in(format!("HTTP/1.1 200 OK\r\ncontent-length: 9999999\r\n\r\n{long}x").as_bytes(), 4096).unwrap();
        let (answered, keeps) = response.answered();
        assert_eq!((step, answered.body.len(), keeps), (Step::Whole, KEPT_BODY, false));
    }

    #[test]
    fn what_does_not_end_is_given_up_before_it_costs_much() {
        let endless = |begin: &str, part: &str| {
            let mut response = Response::new(Reading::DELIVERY);
            let mut step = response.take(begin.as_bytes());
            for _ in 0..=MAX_ALL / part.len() {
                if step != Ok(Step::More) {
                    break;
                }
                step = response.take(part.as_bytes());
            }
            (step, response.answered().1)
        };
        assert_eq!(endless("", "\r\n"), (Err(Malformed::Endless), false));
        assert_eq!(endless("", "HTTP/1.1 102 Wait\r\n\r\n"), (Err(Malformed::Endless), false));
        let extension = format!("1;{}\r\nx\r\n", "x".repeat(MAX_CHUNK_LINE - 4));
        assert_eq!(endless(CHUNKED, &extension), (Ok(Step::Whole), false));
    }

    #[test]
    fn garbage_of_any_kind_ends_in_an_answer_or_an_error() {
        let seed = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-length: 3\r\nretry-after: 1\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
        let mut state = 1_u64;
        let mut random = move |below: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % below
        };
        for _ in 0..20_000 {
            let mut text = seed.to_vec();
            for _ in 0..random(6) {
                let at = random(text.len());
                match random(3) {
                    0 => text[at] = random(256) as u8,
                    1 => drop(text.remove(at)),
                    _ => text.insert(at, b"\r\n0:, "[random(6)]),
                }
            }
            let at_once = read_in(&text, text.len()).map(|(step, response)| (step, response.answered()));
            let in_pieces = read_in(&text, 1 + random(7)).map(|(step, response)| (step, response.answered()));
            assert_eq!(at_once, in_pieces, "{:?}", String::from_utf8_lossy(&text));
        }
    }
}
