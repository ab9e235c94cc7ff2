//! Server-sent events, as far as the stream of attempts needs them.

use std::collections::VecDeque;
use std::time::Duration;

use anyhow::Context as _;
use reqwest::Response;

use super::answers::Attempted;

/// Longest event that is read, in bytes; an attempt takes less than 2 KiB.
const MAX_EVENT: usize = 256 * 1024;
/// A stream that is silent for longer is taken for dead: the server sends a comment now and then.
const SILENCE: Duration = Duration::from_secs(60);

/// Attempts as they end.
pub(crate) struct Feed {
    response: Response,
    frames: Frames,
}

/// What a feed tells.
#[derive(Debug)]
pub(crate) enum News {
    /// An attempt has ended.
    Attempt(Box<Attempted>),
    /// So many attempts were left out, because the reader was too slow.
    Missed(u64),
}

#[derive(serde::Deserialize)]
struct Lagged {
    missed: u64,
}

impl Feed {
    pub(super) fn new(response: Response) -> Feed {
        Feed { response, frames: Frames::default() }
    }

    /// Waits for news; what arrived is kept when the wait is given up.
    ///
    /// Errors: the connection ended, was silent for a minute, or carries something else; open another feed.
    pub(crate) async fn next(&mut self) -> anyhow::Result<News> {
        loop {
            while let Some(frame) = self.frames.pop() {
                let news = match frame.event.as_str() {
                    "delivery" => serde_json::from_str(&frame.data).map(|attempt| News::Attempt(Box::new(attempt))),
                    "lagged" => serde_json::from_str(&frame.data).map(|Lagged { missed }| News::Missed(missed)),
                    _ => continue, // a newer server may tell more
                };
                return news.with_context(|| format!("the stream's `{}` can't be read", frame.event));
            }
            let chunk = tokio::time::timeout(SILENCE, self.response.chunk()).await.context("the stream has fallen silent")?;
            let chunk = chunk.context("the stream broke off")?.context("the server ended the stream")?;
            self.frames.push(&chunk)?;
        }
    }
}

/// Cuts a byte stream into events (WHATWG HTML, "Server-sent events").
#[derive(Default)]
struct Frames {
    buffer: Vec<u8>,
    event: String,
    data: String,
    ready: VecDeque<Frame>,
}

#[derive(Debug, PartialEq, Eq)]
struct Frame {
    event: String,
    data: String,
}

impl Frames {
    /// Takes more bytes. Errors: one event is longer than any attempt could be.
    fn push(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        self.buffer.extend_from_slice(bytes);
        let mut from = 0;
        while let Some(length) = self.buffer[from..].iter().position(|byte| *byte == b'\n') {
            let line = String::from_utf8_lossy(&self.buffer[from..from + length]).trim_end_matches('\r').to_owned();
            from += length + 1;
            self.take(&line);
        }
        self.buffer.drain(..from);
        anyhow::ensure!(self.buffer.len() + self.data.len() <= MAX_EVENT, "an event of the stream is longer than {MAX_EVENT} bytes");
        Ok(())
    }

    fn pop(&mut self) -> Option<Frame> {
        self.ready.pop_front()
    }

    fn take(&mut self, line: &str) {
        if line.is_empty() {
            let frame = Frame { event: std::mem::take(&mut self.event), data: std::mem::take(&mut self.data) };
            if !frame.data.is_empty() {
                self.ready.push_back(frame);
            }
            return;
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.event),
            "data" => {
                if !self.data.is_empty() {
                    self.data.push('\n');
                }
                self.data.push_str(value);
            }
            _ => {} // comments, ids and retry hints, which a new connection does without
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_cut_at_any_byte_are_read_whole() {
        let stream = ": hello\n\nevent: delivery\ndata: {\"a\":\ndata: \"é\"}\n\nid: 3\r\nevent:ping\r\ndata:x\r\n\r\n".as_bytes();
        for cut in 0..stream.len() {
            let mut frames = Frames::default();
            frames.push(&stream[..cut]).unwrap();
            frames.push(&stream[cut..]).unwrap();
            let first = Frame { event: "delivery".into(), data: "{\"a\":\n\"é\"}".into() };
            let second = Frame { event: "ping".into(), data: "x".into() };
            assert_eq!([frames.pop(), frames.pop(), frames.pop()], [Some(first), Some(second), None], "cut at {cut}");
        }
    }

    #[test]
    fn an_endless_event_is_refused() {
        let mut frames = Frames::default();
        let line = vec![b'x'; MAX_EVENT];
        assert!(frames.push(&line).is_ok());
        assert!(frames.push(b"x").is_err());
    }
}
