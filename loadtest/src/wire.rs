//! HTTP/1.1 as bytes: as much of RFC 9112 as a driver and a receiver on one machine need.

use std::borrow::Cow;

use memchr::{memchr, memchr_iter, memmem};

/// Longest head that is read, in bytes; longer ones are malformed.
const MAX_HEAD: usize = 64 * 1024;
/// Longest body that is read, in bytes; longer ones are malformed.
const MAX_BODY: usize = 16 * 1024 * 1024;

/// One whole request or response at the beginning of a buffer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Message<'a> {
    /// The first line, without its end.
    start: &'a [u8],
    /// The header lines, each with its end.
    head: &'a [u8],
    /// The content, without chunk framing.
    pub(crate) body: Cow<'a, [u8]>,
    /// Whether the sender ends the connection after this message.
    pub(crate) closes: bool,
    /// How many bytes of the buffer it took.
    pub(crate) used: usize,
}

/// What was received is not HTTP/1.1, or larger than the limits here.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an HTTP/1.1 message: {0}")]
pub(crate) struct Malformed(&'static str);

impl<'a> Message<'a> {
    /// Reads the first message of `buffer`; `None` while more bytes are needed.
    ///
    /// A message without `content-length` and `transfer-encoding` has no body.
    pub(crate) fn parse(buffer: &'a [u8]) -> Result<Option<Message<'a>>, Malformed> {
        let Some(head_end) = memmem::find(&buffer[..buffer.len().min(MAX_HEAD)], b"\r\n\r\n") else {
            return if buffer.len() < MAX_HEAD { Ok(None) } else { Err(Malformed("the head is too long")) };
        };
        let start_end = memmem::find(buffer, b"\r\n").expect("the end of the head is a line end too");
        let start = &buffer[..start_end];
        let head = &buffer[(start_end + 2).min(head_end + 2)..head_end + 2];
        let framing = Framing::of(head)?;
        let rest = &buffer[head_end + 4..];
        let (body, taken) = match framing.body {
            Body::Length(length) if rest.len() < length => return Ok(None),
            Body::Length(length) => (Cow::Borrowed(&rest[..length]), length),
            Body::Chunked => match unchunk(rest)? {
                Some((body, taken)) => (Cow::Owned(body), taken),
                None => return Ok(None),
            },
        };
        Ok(Some(Message { start, head, body, closes: framing.closes, used: head_end + 4 + taken }))
    }

    /// The target of a request, such as `/e/7`; empty where there is none.
    pub(crate) fn target(&self) -> &'a [u8] {
        self.start.split(|byte| *byte == b' ').nth(1).unwrap_or_default()
    }

    /// The status of a response.
    pub(crate) fn status(&self) -> Result<u16, Malformed> {
        let code = self.start.strip_prefix(b"HTTP/1.").and_then(|rest| rest.get(2..5));
        code.and_then(number).and_then(|code| u16::try_from(code).ok()).ok_or(Malformed("no status line"))
    }

    /// The value of header `name`, which is given in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&'a str> {
        let (_, value) = headers(self.head).find(|(found, _)| found.eq_ignore_ascii_case(name.as_bytes()))?;
        std::str::from_utf8(value).ok()
    }
}

enum Body {
    Length(usize),
    Chunked,
}

struct Framing {
    body: Body,
    closes: bool,
}

impl Framing {
    fn of(head: &[u8]) -> Result<Framing, Malformed> {
        let mut framing = Framing { body: Body::Length(0), closes: false };
        for (name, value) in headers(head) {
            // Lengths first: comparing every name with every candidate would cost more than all the rest.
            match name.len() {
                14 if name.eq_ignore_ascii_case(b"content-length") => {
                    let length = number(value).filter(|length| *length <= MAX_BODY).ok_or(Malformed("bad content-length"))?;
                    framing.body = Body::Length(length);
                }
                17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                    if !value.eq_ignore_ascii_case(b"chunked") {
                        return Err(Malformed("unknown transfer-encoding"));
                    }
                    framing.body = Body::Chunked;
                }
                10 if name.eq_ignore_ascii_case(b"connection") => framing.closes = value.eq_ignore_ascii_case(b"close"),
                _ => {}
            }
        }
        Ok(framing)
    }
}

fn headers(head: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let mut from = 0;
    memchr_iter(b'\n', head).filter_map(move |end| {
        let line = &head[from..end];
        from = end + 1;
        let colon = memchr(b':', line)?;
        Some((&line[..colon], line[colon + 1..].trim_ascii()))
    })
}

/// Joins the chunks at the beginning of `rest`; `None` while the last one is not there.
fn unchunk(rest: &[u8]) -> Result<Option<(Vec<u8>, usize)>, Malformed> {
    let mut body = Vec::new();
    let mut at = 0;
    loop {
        let Some(line) = memmem::find(&rest[at..], b"\r\n") else { return Ok(None) };
        let size = rest[at..at + line].split(|byte| *byte == b';').next().unwrap_or_default();
        let size = hex(size.trim_ascii()).filter(|size| body.len() + size <= MAX_BODY).ok_or(Malformed("bad chunk size"))?;
        at += line + 2;
        if size == 0 {
            return Ok(trailer_end(&rest[at..]).map(|taken| (body, at + taken)));
        }
        let Some(chunk) = rest.get(at..at + size + 2) else { return Ok(None) };
        if !chunk.ends_with(b"\r\n") {
            return Err(Malformed("a chunk is longer than its size"));
        }
        body.extend_from_slice(&chunk[..size]);
        at += size + 2;
    }
}

/// Where the trailer section ends, behind the last chunk; `None` while it has not.
fn trailer_end(rest: &[u8]) -> Option<usize> {
    if rest.starts_with(b"\r\n") { Some(2) } else { memmem::find(rest, b"\r\n\r\n").map(|end| end + 4) }
}

/// A decimal number of at most nine digits.
fn number(digits: &[u8]) -> Option<usize> {
    let valid = (1..=9).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit);
    valid.then(|| digits.iter().fold(0, |sum, digit| sum * 10 + usize::from(digit - b'0')))
}

fn hex(digits: &[u8]) -> Option<usize> {
    let valid = (1..=8).contains(&digits.len());
    let digit = |sum: usize, digit: &u8| Some(sum * 16 + char::from(*digit).to_digit(16)? as usize);
    if valid { digits.iter().try_fold(0, digit) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZED: &[u8] = b"POST /e/12 HTTP/1.1\r\nHost: h\r\nWebhook-Id: evt_1\r\nContent-Length: 5\r\n\r\nhello";
    const CHUNKED: &[u8] = b"POST /e/3 HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n3;x=y\r\nhel\r\n2\r\nlo\r\n0\r\nt: 1\r\n\r\n";
    const PLAIN: &[u8] = b"HTTP/1.1 202 Accepted\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}";

    #[test]
    fn a_message_split_at_any_byte_is_read_once_it_is_whole() {
        for whole in [SIZED, CHUNKED, PLAIN] {
            for cut in 0..whole.len() {
                assert_eq!(Message::parse(&whole[..cut]), Ok(None), "cut at {cut}");
            }
            let mut followed = whole.to_vec();
            followed.extend_from_slice(b"POST /next");
            let message = Message::parse(&followed).expect("valid").expect("whole");
            assert_eq!(message.used, whole.len());
        }
    }

    #[test]
    fn requests_give_target_headers_and_body() {
        let message = Message::parse(SIZED).expect("valid").expect("whole");
        assert_eq!((message.target(), &*message.body, message.closes), (&b"/e/12"[..], &b"hello"[..], false));
        assert_eq!(message.header("webhook-id"), Some("evt_1"));
        assert_eq!(message.header("webhook"), None);
        let chunked = Message::parse(CHUNKED).expect("valid").expect("whole");
        assert_eq!(&*chunked.body, b"hello");
    }

    #[test]
    fn responses_give_status_and_whether_the_connection_ends() {
        let message = Message::parse(PLAIN).expect("valid").expect("whole");
        assert_eq!((message.status(), message.closes), (Ok(202), true));
        let bare = Message::parse(b"HTTP/1.1 204 No Content\r\n\r\n").expect("valid").expect("whole");
        assert_eq!((bare.status(), bare.body.len()), (Ok(204), 0));
    }

    #[test]
    fn what_is_not_http_is_refused() {
        for bad in [
            &b"POST / HTTP/1.1\r\ncontent-length: x\r\n\r\n"[..],
            b"POST / HTTP/1.1\r\ncontent-length: 99999999999\r\n\r\n",
            b"POST / HTTP/1.1\r\ntransfer-encoding: gzip\r\n\r\n",
            b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
            b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n1\r\nabc",
        ] {
            assert!(Message::parse(bad).is_err(), "{}", String::from_utf8_lossy(bad));
        }
        assert!(Message::parse(&vec![b'a'; MAX_HEAD]).is_err());
        let odd = Message::parse(b"\r\n\r\n").expect("framed").expect("whole");
        assert!(odd.status().is_err() && odd.target().is_empty());
    }
}
