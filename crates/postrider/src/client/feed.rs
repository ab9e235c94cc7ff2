//! Server-sent events, as far as the stream of attempts needs them.

use std::time::Duration;

use anyhow::Context as _;
use postrider_upstream::Frames;
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
        Feed { response, frames: Frames::new(MAX_EVENT) }
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
