//! One line after the other to the upstream, some at a time.

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use postrider_core::id::{BatchId, JobId};
use postrider_core::job::Error;
use postrider_core::time::Time;
use postrider_ingest::clock;
use postrider_upstream::{Answer as Reply, Upstream, UpstreamError, Usage};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

use super::check::read;
use super::lines::{Line, Lines};
use super::parts::{Answer, Outcome, Seen};
use crate::budget;
use crate::worker::Shop;

/// What is kept of an answer that is no JSON, in characters.
const MAX_TEXT: usize = 2000;

/// How the lines of one batch are asked.
pub(super) struct Ask<'a> {
    pub(super) shop: &'a Shop,
    pub(super) upstream: &'a Upstream,
    pub(super) tenant: &'a str,
    pub(super) id: JobId,
    /// Where all of them go.
    pub(super) path: &'static str,
    /// Lines that are not answered by then fail.
    pub(super) deadline: Time,
}

/// A line of an output or error file.
#[derive(Serialize)]
struct Said<'a> {
    id: String,
    custom_id: &'a str,
    response: Option<Response<'a>>,
    error: Option<Failure<'a>>,
}

#[derive(Serialize)]
struct Response<'a> {
    status_code: u16,
    request_id: &'a str,
    body: Box<RawValue>,
}

#[derive(Serialize)]
struct Failure<'a> {
    code: &'a str,
    message: &'a str,
}

impl Ask<'_> {
    /// Asks all lines that are not `seen`, as many at a time as all batches may together; answers come in the order in which they are given. An error
    /// means that the file can't be read.
    pub(super) fn all(&self, lines: Lines, seen: Seen) -> impl Stream<Item = Result<Answer, Error>> {
        // A line is read once it may be asked, so that lines do not fill the memory.
        let next = move |(mut lines, seen): (Lines, Seen)| async move {
            let permit = match self.shop.cores.clone().acquire_owned().await {
                Ok(permit) => permit,
                Err(error) => return Some((Err(Error::new("internal", error)), (lines, seen))),
            };
            loop {
                match lines.next().await {
                    Ok(None) => return None,
                    Ok(Some(line)) if seen.has(line.number) => {}
                    Ok(Some(line)) => return Some((Ok((line, permit)), (lines, seen))),
                    Err(error) => return Some((Err(error), (lines, seen))),
                }
            }
        };
        let answer = |line: Result<(Line, OwnedSemaphorePermit), Error>| async {
            let (line, _permit) = line?;
            self.one(&line).await
        };
        stream::unfold((lines, seen), next).map(answer).buffer_unordered(self.shop.options.threads.max(1))
    }

    async fn one(&self, line: &Line) -> Result<Answer, Error> {
        let gone = |_| Error::new("internal", format_args!("line {} is another than it was", line.number));
        let request = read(&line.bytes).map_err(gone)?;
        let body = line.bytes.slice_ref(request.body.get().as_bytes());
        let id = format!("{}_{}", BatchId(self.id).to_string().replacen("batch_", "batch_req_", 1), line.number);
        let said = |response, error| Said { id, custom_id: &request.custom_id, response, error };
        if let Err(error) = budget::check(self.shop, self.tenant).await {
            let failure = Failure { code: &error.code, message: &error.message };
            return answer(line, Outcome::Failed, &said(None, Some(failure)));
        }
        let left = self.deadline.since(clock::now());
        let replied = match left.0 {
            0 => None,
            _some => timeout(left.into(), self.upstream.post(self.path, body)).await.ok(),
        };
        if let Some(Ok(reply)) = &replied {
            budget::spend(self.shop, self.tenant, usage(&reply.body)).await;
        }
        let (outcome, said) = match &replied {
            None => {
                let message = "the batch's completion window ended before this request was answered";
                (Outcome::Failed, said(None, Some(Failure { code: "batch_expired", message })))
            }
            Some(Err(error)) => return answer(line, Outcome::Failed, &said(None, Some(failure(error, &error.to_string())))),
            // What it says may repeat the key, which is the operator's.
            Some(Ok(Reply { status: status @ (401 | 403), .. })) => {
                let message = format!("the upstream server does not let us in ({status}); its operator should look at upstream.api_key");
                let failure = Failure { code: "upstream_unauthorized", message: &message };
                return answer(line, Outcome::Failed, &said(None, Some(failure)));
            }
            Some(Ok(reply)) => {
                let (body, is_json) = match json(&reply.body) {
                    Some(body) => (body, true),
                    None => (text(&reply.body), false),
                };
                let outcome = if is_json && (200..300).contains(&reply.status) { Outcome::Answered } else { Outcome::Failed };
                let request_id = reply.request_id.as_deref().unwrap_or_default();
                (outcome, said(Some(Response { status_code: reply.status, request_id, body }), None))
            }
        };
        answer(line, outcome, &said)
    }
}

fn failure<'a>(error: &UpstreamError, message: &'a str) -> Failure<'a> {
    Failure { code: error.code(), message }
}

fn answer(line: &Line, outcome: Outcome, said: &Said<'_>) -> Result<Answer, Error> {
    let json = serde_json::to_vec(said).map_err(|error| Error::new("internal", error))?;
    Ok(Answer { line: line.number, outcome, json })
}

/// What the upstream says that an answer took, whatever sort of answer it is; zeros where it does not.
fn usage(body: &[u8]) -> Usage {
    #[derive(Deserialize)]
    struct Counted {
        usage: Option<Usage>,
    }
    serde_json::from_slice(body).ok().and_then(|counted: Counted| counted.usage).unwrap_or_default()
}

/// A body as it is, but on one line. Between the tokens of JSON an end of a line is as good as a space; within them there is none.
fn json(body: &Bytes) -> Option<Box<RawValue>> {
    let mut text = String::from_utf8(body.to_vec()).ok()?;
    if text.contains(['\n', '\r']) {
        // Checked before, as a text that is no JSON may become some.
        serde_json::from_str::<&RawValue>(&text).ok()?;
        text = text.replace(['\n', '\r'], " ");
    }
    RawValue::from_string(text.trim().to_owned()).ok()
}

/// The beginning of a body that is no JSON, as a JSON string.
fn text(body: &[u8]) -> Box<RawValue> {
    let text: String = String::from_utf8_lossy(body).chars().take(MAX_TEXT).collect();
    serde_json::value::to_raw_value(&text).expect("a text has a JSON form")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_stays_as_it_is_on_one_line() {
        let one = |body: &'static str| json(&Bytes::from_static(body.as_bytes())).map(|json| json.get().to_owned());
        assert_eq!(one("{\n  \"b\": 1.0,\r\n \"a\": \"x\\ny\"\n}\n").as_deref(), Some("{   \"b\": 1.0,   \"a\": \"x\\ny\" }"));
        assert_eq!(one("[1e400, 12345678901234567890123]").as_deref(), Some("[1e400, 12345678901234567890123]"));
        for broken in ["", "{", "\"a\nb\"", "1\n2", "<html>"] {
            assert_eq!(one(broken), None, "{broken:?}");
        }
        let total = |body: &str| usage(body.as_bytes()).total();
        assert_eq!(total(r#"{"usage":{"prompt_tokens":3,"total_tokens":5}}"#), 5);
        assert_eq!(total(r#"{"usage":{"input_tokens":3,"output_tokens":4,"total_tokens":7}}"#), 7);
        assert_eq!(total(r#"{"usage":{"prompt_tokens":3,"completion_tokens":1}}"#), 4);
        assert_eq!([r#"{"usage":null}"#, r#"{"usage":{"total_tokens":-1}}"#, "{}", "<html>"].map(total), [0; 4]);
        assert_eq!(text(b"<a>\n\xff").get(), "\"<a>\\n\u{fffd}\"");
    }
}
