//! The answer to a batch: one result per event.

use serde::Deserialize;
use serde::de::IgnoredAny;

/// One event's result: taken when it has an id and no error.
#[derive(Deserialize)]
struct Outcome {
    id: Option<IgnoredAny>,
    error: Option<IgnoredAny>,
    errors: Option<IgnoredAny>,
}

impl Outcome {
    fn is_accepted(&self) -> bool {
        self.id.is_some() && self.error.is_none() && self.errors.is_none()
    }
}

/// The results in one object, for servers that answer a single JSON document.
#[derive(Deserialize)]
struct Wrapped {
    #[serde(alias = "events", alias = "data")]
    results: Vec<Outcome>,
}

/// Which of the events of a batch were accepted, in their order, as a 202's body says.
///
/// Reads a JSON array, an object with `results`, and NDJSON. A result that is missing or can't be read is not accepted.
pub(crate) fn accepted(body: &[u8]) -> impl Iterator<Item = bool> {
    let outcomes = serde_json::from_slice::<Vec<Outcome>>(body)
        .or_else(|_| serde_json::from_slice::<Wrapped>(body).map(|wrapped| wrapped.results))
        .map(|outcomes| outcomes.iter().map(Outcome::is_accepted).collect::<Vec<_>>())
        .unwrap_or_else(|_| lines(body));
    outcomes.into_iter().chain(std::iter::repeat(false))
}

fn lines(body: &[u8]) -> Vec<bool> {
    let lines = body.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty());
    lines.map(|line| serde_json::from_slice::<Outcome>(line).is_ok_and(|outcome| outcome.is_accepted())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_answer_is_read() {
        for body in [
            r#"[{"id":"a"},{"error":{"title":"no"}},{"id":"c","error":null}]"#,
            r#"{"results":[{"id":"a"},{"id":"b","errors":[]},{"id":"c"}]}"#,
            "{\"id\":\"a\"}\n{\"status\":422}\n{\"id\":\"c\"}\n",
            "{\"id\":\"a\"}\nnonsense\n{\"id\":\"c\"}",
        ] {
            let first: Vec<bool> = accepted(body.as_bytes()).take(4).collect();
            assert_eq!(first, [true, false, true, false], "{body}");
        }
    }

    #[test]
    fn an_answer_that_cannot_be_read_accepts_nothing() {
        for body in ["", "{}", "[1]", "<html>"] {
            assert_eq!(accepted(body.as_bytes()).take(2).collect::<Vec<_>>(), [false, false], "{body}");
        }
    }
}
