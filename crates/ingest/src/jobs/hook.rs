//! What the hooks of a job are sent.

use postrider_core::id::JobId;
use postrider_core::job::{Format, Job};
use postrider_core::time::Time;
use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::own::{experiment_id, run_id};

/// Longest text for Slack, in characters; it takes 40,000.
const MAX_TEXT: usize = 3000;

/// An event of an experiment.
#[derive(Serialize)]
struct ExperimentBody<'a> {
    event: &'a str,
    timestamp: String,
    experiment_id: String,
    run_id: String,
    data: &'a RawValue,
}

#[derive(Serialize)]
struct SlackBody {
    text: String,
}

/// The body of an event of type `kind`, where it is another than endpoints get.
pub(super) fn body(format: Format, id: JobId, job: &Job, kind: &str, at: Time, data: &RawValue) -> Option<String> {
    let json = match format {
        Format::Event => return None,
        Format::Experiment => {
            let (experiment_id, run_id) = (experiment_id(id, job), run_id(id));
            serde_json::to_string(&ExperimentBody { event: kind, timestamp: at.to_string(), experiment_id, run_id, data })
        }
        Format::Slack => serde_json::to_string(&SlackBody { text: text(kind, id, job, data) }),
    };
    Some(json.expect("texts and JSON always have a JSON form"))
}

/// One line for people: what happened to what, and what is said of it in single words and numbers.
fn text(kind: &str, id: JobId, job: &Job, data: &RawValue) -> String {
    let subject = job.callback.experiment.clone().unwrap_or_else(|| id.to_string());
    let data: Value = serde_json::from_str(data.get()).unwrap_or_default();
    let mut said = Vec::new();
    for (name, value) in data.as_object().into_iter().flatten() {
        match value {
            Value::Null | Value::Array(_) => {}
            Value::Object(inner) => said.extend(inner.get("message").and_then(Value::as_str).map(|words| format!("{name} {words}"))),
            Value::String(words) => said.push(format!("{name} {words}")),
            Value::Bool(_) | Value::Number(_) => said.push(format!("{name} {value}")),
        }
    }
    let text = format!("*{kind}* {subject}: {}", said.join(", "));
    let text: String = text.chars().take(MAX_TEXT).collect();
    // As Slack asks for (docs: "Formatting text for app surfaces", escaping).
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use postrider_core::id::Uid;
    use postrider_core::job::{Callback, Counts, State};
    use postrider_core::trace::TraceParent;

    fn job(experiment: Option<&str>) -> Job {
        Job {
            version: 0,
            kind: "experiment".to_owned(),
            input: None,
            callback: Callback { experiment: experiment.map(str::to_owned), ..Callback::default() },
            metadata: None,
            priority: 5,
            trace: TraceParent::of_job(Uid(1)).into(),
            counts: Counts::default(),
            state: State::Pending { claims: 0 },
            told: false,
        }
    }

    #[test]
    fn an_experiment_s_body_names_experiment_and_run() {
        let data = RawValue::from_string(r#"{"persona_count":3,"cost_usd":0.42}"#.to_owned()).unwrap();
        let body = |job: &Job| body(Format::Experiment, JobId(Uid(1)), job, "generation.completed", Time(1000), &data).unwrap();
        assert_eq!(
            body(&job(Some("exp-abc123"))),
            concat!(
                r#"{"event":"generation.completed","timestamp":"1970-01-01T00:00:01.000Z","experiment_id":"exp-abc123","#,
                r#""run_id":"run_00000000000000000000000001","data":{"persona_count":3,"cost_usd":0.42}}"#
            )
        );
        assert!(body(&job(None)).contains(r#""experiment_id":"exp_00000000000000000000000001""#));
    }

    #[test]
    fn slack_gets_one_line_that_nobody_can_put_links_into() {
        let data = r#"{"persona_count":3,"name":"<!channel> & co","error":{"code":"x","message":"it broke"},"list":[1]}"#;
        let data = RawValue::from_string(data.to_owned()).unwrap();
        let body = body(Format::Slack, JobId(Uid(1)), &job(Some("exp")), "generation.failed", Time(0), &data).unwrap();
        assert_eq!(body, r#"{"text":"*generation.failed* exp: error it broke, name &lt;!channel&gt; &amp; co, persona_count 3"}"#);
    }
}
