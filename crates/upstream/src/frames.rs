//! Server-sent events, cut out of a stream of bytes (WHATWG HTML, "Server-sent events").

use std::collections::VecDeque;

/// Cuts a byte stream into events; holds no more of an event than it may.
pub struct Frames {
    most: usize,
    buffer: Vec<u8>,
    event: String,
    data: String,
    ready: VecDeque<Frame>,
}

/// One event of a stream.
#[derive(Debug, PartialEq, Eq)]
pub struct Frame {
    /// Its type; empty where it has none.
    pub event: String,
    /// Its lines of data.
    pub data: String,
}

/// One event is longer than any should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an event of the stream is longer than {0} bytes")]
pub struct TooLong(pub usize);

impl Frames {
    /// For events of at most `most` bytes.
    pub fn new(most: usize) -> Frames {
        Frames { most, buffer: Vec::new(), event: String::new(), data: String::new(), ready: VecDeque::new() }
    }

    /// Takes more bytes.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), TooLong> {
        let mut search = self.buffer.len();
        self.buffer.extend_from_slice(bytes);
        let mut from = 0;
        while let Some(length) = self.buffer[search..].iter().position(|byte| *byte == b'\n') {
            let end = search + length;
            let line = String::from_utf8_lossy(&self.buffer[from..end]).trim_end_matches('\r').to_owned();
            from = end + 1;
            search = from;
            self.take(&line);
            if self.data.len() > self.most {
                return Err(TooLong(self.most));
            }
        }
        self.buffer.drain(..from);
        if self.buffer.len() + self.data.len() > self.most {
            return Err(TooLong(self.most));
        }
        Ok(())
    }

    /// The next whole event, if there is one.
    pub fn pop(&mut self) -> Option<Frame> {
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

    const MOST: usize = 1000;

    #[test]
    fn events_cut_at_any_byte_are_read_whole() {
        let stream = ": hello\n\nevent: delivery\ndata: {\"a\":\ndata: \"é\"}\n\nid: 3\r\nevent:ping\r\ndata:x\r\n\r\n".as_bytes();
        for cut in 0..stream.len() {
            let mut frames = Frames::new(MOST);
            frames.push(&stream[..cut]).unwrap();
            frames.push(&stream[cut..]).unwrap();
            let first = Frame { event: "delivery".into(), data: "{\"a\":\n\"é\"}".into() };
            let second = Frame { event: "ping".into(), data: "x".into() };
            assert_eq!([frames.pop(), frames.pop(), frames.pop()], [Some(first), Some(second), None], "cut at {cut}");
        }
    }

    #[test]
    fn an_endless_event_is_refused() {
        let mut frames = Frames::new(MOST);
        assert_eq!(frames.push(&[b'x'; MOST]), Ok(()));
        assert_eq!(frames.push(b"x"), Err(TooLong(MOST)));
        let mut frames = Frames::new(MOST);
        assert_eq!(frames.push("data: 0123456789\n".repeat(200).as_bytes()), Err(TooLong(MOST)));
    }
}
