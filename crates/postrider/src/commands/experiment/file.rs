//! An experiment's file.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use postrider_ingest::jobs::{ExperimentInput, FieldType, Pricing};
use serde::{Deserialize, Serialize};
use serde_saphyr::{Error, Location, Spanned};

use crate::failure::Failure;

/// Largest file that is read, in bytes.
const MAX_FILE: u64 = 1 << 20;
/// What webhooks of an experiment want where they do not say.
const EVENTS: [&str; 2] = ["generation.*", "persona.*"];

/// An experiment as it is written down. In texts, `${NAME}` stands for what the environment says.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    experiment_id: Option<Spanned<String>>,
    name: Spanned<String>,
    model: Spanned<String>,
    count: u32,
    prompt: Spanned<String>,
    fields: BTreeMap<String, FieldType>,
    #[serde(default)]
    temperature: Option<f64>,
    #[serde(default)]
    top_p: Option<f64>,
    #[serde(default)]
    max_tokens: Option<u32>,
    #[serde(default)]
    seed: Option<u32>,
    #[serde(default)]
    pricing: Option<Pricing>,
    #[serde(default)]
    webhooks: Vec<Webhook>,
}

/// Who is told.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Webhook {
    url: Spanned<String>,
    #[serde(default)]
    events: Option<Vec<Spanned<String>>>,
    #[serde(default)]
    secret: Option<Spanned<String>>,
    #[serde(default)]
    timeout: Option<u32>,
    #[serde(default)]
    template: Option<Spanned<String>>,
}

/// A job as the API takes it.
#[derive(Serialize)]
pub(super) struct Submission {
    kind: &'static str,
    input: ExperimentInput,
    webhooks: Vec<Hook>,
}

#[derive(Serialize)]
struct Hook {
    url: String,
    events: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timeout: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    template: Option<String>,
}

/// Something wrong at a place of the file.
struct Wrong {
    at: Option<Location>,
    words: String,
}

/// Reads a file; says how many personas there are to be. Errors name line and column.
pub(super) fn read(path: &Path, environment: impl Fn(&str) -> Option<String>) -> Result<(Submission, u32), Failure> {
    let unread = |error: std::io::Error| Failure::Usage(format!("{}: {error}", path.display()));
    let bytes = fs::metadata(path).map_err(unread)?.len();
    if bytes > MAX_FILE {
        return Err(Failure::Usage(format!("{}: has {bytes} bytes; the most is {MAX_FILE}", path.display())));
    }
    let text = fs::read_to_string(path).map_err(unread)?;
    let submission = parse(&text, &environment).map_err(|Wrong { at, words }| {
        let place = at.map(|at| format!(":{}:{}", at.line(), at.column())).unwrap_or_default();
        Failure::Usage(format!("{}{place}: {words}", path.display()))
    })?;
    let count = submission.input.count;
    Ok((submission, count))
}

fn parse(text: &str, environment: &impl Fn(&str) -> Option<String>) -> Result<Submission, Wrong> {
    let file: File = serde_saphyr::from_str(text).map_err(|error| explained(&error))?;
    let fill = |text: &Spanned<String>| filled(text, environment);
    let input = ExperimentInput {
        experiment_id: file.experiment_id.as_ref().map(fill).transpose()?,
        name: fill(&file.name)?,
        model: fill(&file.model)?,
        count: file.count,
        prompt: fill(&file.prompt)?,
        fields: file.fields,
        temperature: file.temperature,
        top_p: file.top_p,
        max_tokens: file.max_tokens,
        seed: file.seed,
        pricing: file.pricing,
    };
    let mut webhooks = Vec::new();
    for webhook in &file.webhooks {
        let events = match &webhook.events {
            Some(events) => events.iter().map(fill).collect::<Result<Vec<_>, _>>()?,
            None => EVENTS.map(str::to_owned).to_vec(),
        };
        let (secret, template) = (webhook.secret.as_ref().map(fill).transpose()?, webhook.template.as_ref().map(fill).transpose()?);
        webhooks.push(Hook { url: fill(&webhook.url)?, events, secret, timeout: webhook.timeout, template });
    }
    Ok(Submission { kind: "experiment", input, webhooks })
}

/// A text with what the environment says in the places of its `${NAME}`s. What is put in is not looked at again.
fn filled(text: &Spanned<String>, environment: &impl Fn(&str) -> Option<String>) -> Result<String, Wrong> {
    let wrong = |words: String| Wrong { at: Some(text.referenced), words };
    let (mut whole, mut rest) = (String::new(), text.value.as_str());
    while let Some((before, behind)) = rest.split_once("${") {
        let Some((name, behind)) = behind.split_once('}') else { return Err(wrong("`${` without its `}`".to_owned())) };
        let Some(value) = environment(name) else {
            return Err(wrong(format!("the environment has no variable `{name}`; set it, or write the value itself")));
        };
        whole.push_str(before);
        whole.push_str(&value);
        rest = behind;
    }
    whole.push_str(rest);
    Ok(whole)
}

/// What is wrong with a file, with the nearest of the keys that there are. Lines of it are not repeated: a secret may stand there.
fn explained(error: &Error) -> Wrong {
    let error = error.without_snippet();
    let nearest = |given: &str, known: &[&str]| {
        let likeness = |name: &str| strsim::jaro_winkler(name, given);
        let nearest = known.iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
        nearest.map(|name| format!("; the nearest is `{name}`")).unwrap_or_default()
    };
    let words = match error {
        Error::SerdeUnknownField { field, expected, .. } => format!("unknown key `{field}`{}", nearest(field, expected)),
        Error::SerdeUnknownVariant { variant, expected, .. } => {
            format!("`{variant}` is none of {}{}", expected.join(", "), nearest(variant, expected))
        }
        Error::SerdeMissingField { field, .. } => format!("`{field}` is missing"),
        other => {
            // Its own words end with the place, which stands before ours.
            let words = other.to_string();
            let first = words.lines().next().unwrap_or_default();
            first.split(" at line ").next().unwrap_or(first).to_owned()
        }
    };
    Wrong { at: error.location(), words }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const FILE: &str = r#"# An experiment with ${NOTHING} in a comment.
experiment_id: exp-abc123
name: Farmers
model: "${MODEL}"
count: 3
prompt: |
  Farmers of ${PLACE},
  all of them different.
fields:
  name: text
  age: integer
  crops: list of text
temperature: 0.9
pricing: {prompt_usd_per_million: 2.5, completion_usd_per_million: 10}
webhooks:
  - url: "https://example.com/webhook"
    events: ["generation.completed", "generation.failed"]
    secret: "${WEBHOOK_SECRET}"
    timeout: 30
  - url: "https://slack.com/api/webhook"
    template: slack  # Use Slack-formatted payload
"#;

    fn environment(name: &str) -> Option<String> {
        let value = match name {
            "MODEL" => "m-1",
            "PLACE" => "Jimma",
            "WEBHOOK_SECRET" => "s3cret ${MODEL}: #",
            _ => return None,
        };
        Some(value.to_owned())
    }

    fn wrong(text: &str) -> (u64, u64, String) {
        match parse(text, &environment) {
            Err(Wrong { at: Some(at), words }) => (at.line(), at.column(), words),
            Err(Wrong { at: None, words }) => (0, 0, words),
            Ok(_) => panic!("it was taken"),
        }
    }

    #[test]
    fn the_file_of_the_documentation_becomes_a_job() {
        let job = serde_json::to_value(parse(FILE, &environment).unwrap_or_else(|wrong| panic!("{}", wrong.words))).unwrap();
        assert_eq!(job["kind"], "experiment");
        assert_eq!((&job["input"]["model"], &job["input"]["count"]), (&json!("m-1"), &json!(3)));
        assert_eq!(job["input"]["prompt"], "Farmers of Jimma,\nall of them different.\n");
        assert_eq!(job["input"]["fields"], json!({ "name": "text", "age": "integer", "crops": "list of text" }));
        assert_eq!((&job["webhooks"][0]["secret"], &job["webhooks"][0]["timeout"]), (&json!("s3cret ${MODEL}: #"), &json!(30)));
        assert_eq!(job["webhooks"][1], json!({ "url": "https://slack.com/api/webhook", "events": EVENTS, "template": "slack" }));
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place_and_without_secrets() {
        let unset = FILE.replace("WEBHOOK_SECRET", "WEBHOOK_SECRT");
        assert_eq!(
            wrong(&unset),
            (18, 13, "the environment has no variable `WEBHOOK_SECRT`; set it, or write the value itself".to_owned())
        );
        let (line, column, words) = wrong(&FILE.replace("temperature:", "temprature:"));
        assert_eq!((line, column, words.as_str()), (13, 1, "unknown key `temprature`; the nearest is `temperature`"));
        let (line, _, words) = wrong(&FILE.replace("timeout:", "time_out:"));
        assert_eq!((line, words.as_str()), (19, "unknown key `time_out`; the nearest is `timeout`"));
        let (line, _, words) = wrong(&FILE.replace("age: integer", "age: intger"));
        assert_eq!(line, 11);
        assert!(words.contains("`intger`") && words.contains("the nearest is `integer`"), "{words}");
        let (_, _, words) = wrong(&FILE.replace("name: Farmers\n", ""));
        assert_eq!(words, "`name` is missing");
        let (line, _, words) = wrong(&FILE.replace("secret: \"${WEBHOOK_SECRET}\"", "secret: [hidden"));
        assert!(line > 0 && !words.contains("hidden"), "{words}");
        let (line, _, _) = wrong(&FILE.replace("count: 3", "count: three"));
        assert_eq!(line, 5);
    }
}
