//! What a receiver gets right and wrong, told from one response.

use postrider_core::attempt::{Answer, Failure, KEPT_BODY, Report};
use postrider_core::endpoint::FIRST_TIMEOUT;
use serde::Serialize;
use utoipa::ToSchema;

/// Whether a receiver works, and each thing it gets right or wrong.
#[derive(Serialize, ToSchema)]
pub(super) struct Verdict {
    /// Whether all of it is right.
    ok: bool,
    checks: Vec<Check>,
}

/// One thing that a receiver gets right or wrong.
#[derive(Serialize, ToSchema)]
pub(super) struct Check {
    /// `connection`, `tls`, `redirect`, `status`, `speed` or `body`.
    name: &'static str,
    /// Whether it is right.
    ok: bool,
    /// What was found, and what to do about it.
    message: String,
}

fn right(name: &'static str, message: impl Into<String>) -> Check {
    Check { name, ok: true, message: message.into() }
}

fn wrong(name: &'static str, message: impl Into<String>) -> Check {
    Check { name, ok: false, message: message.into() }
}

/// Judges the answer of the receiver at `url`.
pub(super) fn judge(url: &str, report: &Report) -> Verdict {
    let mut checks = Vec::new();
    match &report.answer {
        Answer::Failed { failure, detail } => checks.push(failed(*failure, detail)),
        Answer::Status { code, .. } => {
            checks.push(right("connection", "it was reached and answered"));
            checks.push(tls(url));
            checks.extend(redirect(*code));
            checks.push(status(*code));
            checks.push(body(&report.body));
        }
    }
    checks.push(speed(report));
    Verdict { ok: checks.iter().all(|check| check.ok), checks }
}

fn failed(failure: Failure, detail: &str) -> Check {
    match failure {
        Failure::Tls => wrong("tls", detail),
        Failure::Timeout | Failure::Dns | Failure::Connect | Failure::Closed | Failure::Forbidden | Failure::Protocol => {
            wrong("connection", detail)
        }
    }
}

fn tls(url: &str) -> Check {
    if url.starts_with("https:") {
        right("tls", "its certificate is valid")
    } else {
        right("tls", "the URL is plain http: use https wherever others could listen")
    }
}

fn redirect(code: u16) -> Option<Check> {
    let message = format!("it redirects ({code}), which is never followed: register the URL that it leads to");
    (300..400).contains(&code).then(|| wrong("redirect", message))
}

fn status(code: u16) -> Check {
    match code {
        200..=299 => right("status", format!("{code} counts as received")),
        401 | 403 => wrong("status", format!("{code}: it wants credentials; set them in `headers`, or verify the signature instead")),
        404 | 405 => wrong("status", format!("{code}: nothing takes a POST at this path")),
        410 => wrong("status", "410 disables the endpoint"),
        429 => wrong("status", "429: it refuses for too many requests; set a `rate_limit`"),
        _other => wrong("status", format!("{code} counts as a failure: answer 2xx as soon as the event is stored")),
    }
}

fn body(body: &[u8]) -> Check {
    let start = body.trim_ascii_start();
    let begins = |tag: &[u8]| start.get(..tag.len()).is_some_and(|start| start.eq_ignore_ascii_case(tag));
    if begins(b"<!doctype html") || begins(b"<html") {
        return wrong("body", "it answers with a web page: the URL may lead to a login or an error page instead of the receiver");
    }
    if body.len() >= KEPT_BODY {
        return wrong("body", "its response is long, and at most 64 KiB are read: an empty one is enough");
    }
    right("body", "its response is short")
}

fn speed(report: &Report) -> Check {
    let took = report.took.0;
    if report.took > FIRST_TIMEOUT {
        return wrong("speed", format!("it took {took} ms; a first attempt is given {} ms: answer first, work later", FIRST_TIMEOUT.0));
    }
    right("speed", format!("it took {took} ms"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use postrider_core::time::{Millis, Time};

    fn wrongs(answer: Answer, took: u64, body: &'static str) -> Vec<&'static str> {
        let report = Report { started: Time(0), took: Millis(took), answer, body: Bytes::from_static(body.as_bytes()) };
        let verdict = judge("https://a.example/", &report);
        let wrongs: Vec<_> = verdict.checks.iter().filter(|check| !check.ok).map(|check| check.name).collect();
        assert_eq!(verdict.ok, wrongs.is_empty());
        wrongs
    }

    #[test]
    fn each_mistake_is_named() {
        let status = |code| Answer::Status { code, retry_after: None };
        assert!(wrongs(status(204), 10, "").is_empty());
        assert_eq!(wrongs(status(302), 10, ""), ["redirect", "status"]);
        assert_eq!(wrongs(status(500), 6000, "<!DOCTYPE html>"), ["status", "body", "speed"]);
        let failed = |failure| Answer::Failed { failure, detail: "x".to_owned() };
        assert_eq!(wrongs(failed(Failure::Tls), 10, ""), ["tls"]);
        assert_eq!(wrongs(failed(Failure::Timeout), 15_000, ""), ["connection", "speed"]);
    }
}
