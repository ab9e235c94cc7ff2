//! What the lines of a batch's file must be.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt::Display;

use postrider_core::job::{Error, LineError};
use postrider_ingest::jobs::BatchEndpoint;
use serde::Deserialize;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use super::lines::Lines;

/// Most lines of a file.
const MAX_LINES: u32 = 50_000;
/// Longest `custom_id`, in bytes.
const MAX_ID: usize = 512;
/// Lines of which something wrong is named; then the rest is not read.
const MAX_NAMED: usize = 50;

/// A line of a batch's file. Members that are not known are left alone, as OpenAI does.
#[derive(Debug, Deserialize)]
pub(super) struct Request<'a> {
    #[serde(borrow)]
    pub(super) custom_id: Cow<'a, str>,
    #[serde(borrow)]
    method: Cow<'a, str>,
    #[serde(borrow)]
    url: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) body: &'a RawValue,
}

/// What is looked at of a request's body.
#[derive(Deserialize)]
struct Body<'a> {
    #[serde(default, borrow)]
    stream: Option<&'a RawValue>,
}

/// Reads the whole file; says how many lines there are, or what is wrong with which of them.
pub(super) async fn check(mut lines: Lines, endpoint: BatchEndpoint) -> Result<u32, Error> {
    let (mut total, mut wrong, mut ids) = (0, Vec::new(), HashSet::new());
    while let Some(line) = lines.next().await? {
        total += 1;
        if total > MAX_LINES {
            wrong.push(LineError {
                line: None,
                ..problem("too_many_lines", format_args!("a file may have at most {MAX_LINES} lines"), None)
            });
            break;
        }
        let found = read(&line.bytes).and_then(|request| check_line(&request, endpoint, &mut ids));
        if let Err(error) = found {
            wrong.push(LineError { line: Some(line.number), ..error });
        }
        if wrong.len() >= MAX_NAMED {
            break;
        }
    }
    if total == 0 {
        wrong.push(problem("empty_file", "the file has no lines", None));
    }
    if wrong.is_empty() { Ok(total) } else { Err(invalid(wrong)) }
}

/// Reads one line.
pub(super) fn read(line: &[u8]) -> Result<Request<'_>, LineError> {
    let text = std::str::from_utf8(line).map_err(|error| problem("invalid_json_line", format_args!("it is not UTF-8: {error}"), None))?;
    serde_json::from_str(text).map_err(|error| {
        let words = error.to_string();
        // The place is said without the line: as JSON it has only one.
        let words = words.split(" at line ").next().unwrap_or(&words).to_owned();
        match words.strip_prefix("missing field `").and_then(|rest| rest.split('`').next()) {
            Some(name) => problem("missing_required_parameter", &words, Some(name)),
            None if error.is_data() => problem("invalid_request", &words, None),
            None => problem("invalid_json_line", format_args!("it is not JSON: {words} at byte {}", error.column()), None),
        }
    })
}

fn check_line(request: &Request<'_>, endpoint: BatchEndpoint, ids: &mut HashSet<[u8; 16]>) -> Result<(), LineError> {
    let Request { custom_id, method, url, body } = request;
    if !(1..=MAX_ID).contains(&custom_id.len()) {
        return Err(problem("invalid_custom_id", format_args!("`custom_id` must have 1 to {MAX_ID} bytes"), Some("custom_id")));
    }
    if method != "POST" {
        return Err(problem("invalid_method", "`method` must be POST", Some("method")));
    }
    if url != endpoint.path() {
        return Err(problem("invalid_url", format_args!("`url` must be {}, as the batch's endpoint", endpoint.path()), Some("url")));
    }
    let is_object = body.get().starts_with('{');
    let Some(Body { stream }) = serde_json::from_str(body.get()).ok().filter(|_| is_object) else {
        return Err(problem("invalid_request", "`body` must be an object", Some("body")));
    };
    if stream.is_some_and(|stream| !matches!(stream.get(), "false" | "null")) {
        return Err(problem("invalid_request", "`stream` must be false: there is nobody to stream to", Some("body.stream")));
    }
    // Half of a hash tells them apart as well, and takes the same room for a long one as for a short one.
    let mut key = [0; 16];
    key.copy_from_slice(&Sha256::digest(custom_id.as_bytes())[..16]);
    if !ids.insert(key) {
        return Err(problem("duplicate_custom_id", "another line before it has this `custom_id`", Some("custom_id")));
    }
    Ok(())
}

/// The error of a file of which one line is wrong.
pub(super) fn wrong_line(line: u32, code: &str, message: impl Display, param: Option<&str>) -> Error {
    invalid(vec![LineError { line: Some(line), ..problem(code, message, param) }])
}

fn problem(code: &str, message: impl Display, param: Option<&str>) -> LineError {
    LineError { line: None, code: code.to_owned(), message: message.to_string(), param: param.map(str::to_owned) }
}

fn invalid(lines: Vec<LineError>) -> Error {
    let first = lines.first().map(|first| match first.line {
        Some(line) => format!(": line {line}: {}", first.message),
        None => format!(": {}", first.message),
    });
    Error { lines, ..Error::new("invalid_input_file", format_args!("the input file is wrong{}", first.unwrap_or_default())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_a_line_has_a_code_and_names_the_member() {
        let good = r#"{"custom_id":"a","method":"POST","url":"/v1/embeddings","body":{"model":"m","stream":false},"more":1}"#;
        let mut ids = HashSet::new();
        let mut check = |line: &[u8]| {
            let found = read(line).and_then(|request| check_line(&request, BatchEndpoint::Embeddings, &mut ids));
            found.map_err(|error| (error.code, error.param.unwrap_or_default()))
        };
        assert_eq!(check(good.as_bytes()), Ok(()));
        for (line, code, param) in [
            (good.to_owned(), "duplicate_custom_id", "custom_id"),
            (good.replace("\"a\"", "\"\""), "invalid_custom_id", "custom_id"),
            (good.replace("\"a\"", &format!("\"{}\"", "x".repeat(513))), "invalid_custom_id", "custom_id"),
            (good.replace("\"a\"", "7"), "invalid_request", ""),
            (good.replace("POST", "GET"), "invalid_method", "method"),
            (good.replace("embeddings", "responses"), "invalid_url", "url"),
            (good.replace("false", "true"), "invalid_request", "body.stream"),
            (good.replace(r#"{"model":"m","stream":false}"#, "[]"), "invalid_request", "body"),
            (good.replace("\"body\"", "\"bodies\""), "missing_required_parameter", "body"),
            (good.replace(',', ""), "invalid_json_line", ""),
            ("7".to_owned(), "invalid_request", ""),
        ] {
            assert_eq!(check(line.as_bytes()), Err((code.to_owned(), param.to_owned())), "{line}");
        }
        assert_eq!(check(b"{\"custom_id\":\"\xff\"}"), Err(("invalid_json_line".to_owned(), String::new())));
        assert_eq!(check(format!("{}{}", "[".repeat(100_000), "]".repeat(100_000)).as_bytes()).unwrap_err().0, "invalid_request");
    }
}
