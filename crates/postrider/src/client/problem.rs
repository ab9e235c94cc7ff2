//! A refusal in the server's words.

use std::fmt;

use reqwest::StatusCode;
use serde::Deserialize;

/// A problem document (RFC 9457) as far as a person wants to read it.
#[derive(Debug, Deserialize)]
pub(crate) struct Problem {
    title: String,
    #[serde(default)]
    status: u16,
    #[serde(default)]
    detail: Option<String>,
    #[serde(default)]
    request_id: Option<String>,
    #[serde(default)]
    errors: Vec<FieldError>,
}

#[derive(Debug, Deserialize)]
struct FieldError {
    field: String,
    message: String,
}

impl Problem {
    /// Reads the body of a refusal; one that is no problem document is shown by its beginning.
    pub(crate) fn read(status: StatusCode, body: &[u8]) -> Problem {
        serde_json::from_slice(body).map(|problem| Problem { status: status.as_u16(), ..problem }).unwrap_or_else(|_| Problem {
            title: status.canonical_reason().unwrap_or("the server refuses").to_owned(),
            status: status.as_u16(),
            detail: Some(String::from_utf8_lossy(body).chars().take(200).collect::<String>()).filter(|text| !text.trim().is_empty()),
            request_id: None,
            errors: Vec::new(),
        })
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.title, self.status)?;
        if let Some(detail) = &self.detail {
            write!(f, ": {detail}")?;
        }
        for error in &self.errors {
            write!(f, "\n  {}: {}", error.field, error.message)?;
        }
        if let Some(id) = &self.request_id {
            write!(f, "\n  request {id}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_names_its_fields_and_its_request() {
        let body = br#"{"type":"urn:x","title":"Fields are wrong","status":422,"detail":"`url` must be http","request_id":"req_1",
            "errors":[{"field":"url","message":"must be http or https"}]}"#;
        let words = Problem::read(StatusCode::UNPROCESSABLE_ENTITY, body).to_string();
        assert_eq!(words, "Fields are wrong (422): `url` must be http\n  url: must be http or https\n  request req_1");
    }

    #[test]
    fn what_is_no_problem_document_is_shown_by_its_beginning() {
        assert_eq!(Problem::read(StatusCode::BAD_GATEWAY, b"upstream is away").to_string(), "Bad Gateway (502): upstream is away");
        assert_eq!(Problem::read(StatusCode::BAD_GATEWAY, b"").to_string(), "Bad Gateway (502)");
    }
}
