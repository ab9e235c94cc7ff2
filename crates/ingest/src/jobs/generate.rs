//! Chats that a model is to complete.

use serde_json::{Map, Value};

use crate::submission::{Invalid, Problem};

/// Most bytes of a request.
const MAX_REQUEST: usize = 4 << 20;
/// Most messages of a chat.
const MAX_MESSAGES: usize = 10_000;
/// Longest name of a model, in bytes.
pub(super) const MAX_MODEL: usize = 200;
/// How an answer is sent to us is ours to say.
const OURS: [&str; 2] = ["stream", "stream_options"];
/// What would be answered in another form than as one text.
const OTHER: [&str; 6] = ["tools", "tool_choice", "functions", "function_call", "audio", "modalities"];

/// A request of the OpenAI chat completions API; passed on as it is, but for how it is to be answered.
#[derive(Clone, Debug)]
pub struct GenerateInput {
    /// `model`, `messages` and whatever else the upstream understands.
    pub request: Map<String, Value>,
}

impl GenerateInput {
    /// Reads `{model, messages, …}`; names everything that is wrong.
    pub fn from_json(bytes: &[u8]) -> Result<GenerateInput, Invalid> {
        if bytes.len() > MAX_REQUEST {
            return Err(Invalid::Fields(vec![Problem::new("", format!("has {} bytes; the most is {MAX_REQUEST}", bytes.len()))]));
        }
        let mut request: Map<String, Value> = Invalid::from_json(bytes)?;
        for ours in OURS {
            request.remove(ours);
        }
        let mut problems = Vec::new();
        problems.extend(wrong_model(request.get("model").and_then(Value::as_str)));
        let messages = request.get("messages").and_then(Value::as_array);
        let is_fine = messages.is_some_and(|all| (1..=MAX_MESSAGES).contains(&all.len()) && all.iter().all(Value::is_object));
        if !is_fine {
            problems.push(Problem::new(
                "messages",
                format!("must be 1 to {MAX_MESSAGES} objects, such as {{\"role\": \"user\", \"content\": \"…\"}}"),
            ));
        }
        if request.get("n").is_some_and(|n| *n != 1 && !n.is_null()) {
            problems.push(Problem::new("n", "must be 1: a job has one result; submit one job for each completion"));
        }
        for name in OTHER.into_iter().filter(|name| request.get(*name).is_some_and(|value| !value.is_null())) {
            problems.push(Problem::new(name, "is not possible in a job: its result is one text"));
        }
        if problems.is_empty() { Ok(GenerateInput { request }) } else { Err(Invalid::Fields(problems)) }
    }
}

/// What is wrong with the name of a model.
pub(super) fn wrong_model(model: Option<&str>) -> Option<Problem> {
    let is_fine = model.is_some_and(|model| (1..=MAX_MODEL).contains(&model.len()) && !model.chars().any(char::is_control));
    (!is_fine).then(|| Problem::new("model", format!("must name a model of the upstream server, in 1 to {MAX_MODEL} bytes")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn wrong(request: &Value) -> Vec<String> {
        match GenerateInput::from_json(request.to_string().as_bytes()) {
            Err(Invalid::Fields(problems)) => problems.into_iter().map(|problem| problem.field).collect(),
            other => panic!("{request} gave {other:?}"),
        }
    }

    #[test]
    fn a_request_is_passed_on_but_for_how_it_is_answered() {
        let request = json!({"model": "m", "messages": [{"role": "user", "content": "a"}], "temperature": 0.2, "stream": true, "n": 1, "tools": null});
        let input = GenerateInput::from_json(request.to_string().as_bytes()).unwrap();
        assert_eq!((input.request.get("temperature"), input.request.get("stream")), (Some(&json!(0.2)), None));
    }

    #[test]
    fn what_can_not_be_answered_as_one_text_is_refused() {
        assert_eq!(wrong(&json!({})), ["model", "messages"]);
        assert_eq!(wrong(&json!({"model": "", "messages": []})), ["model", "messages"]);
        assert_eq!(wrong(&json!({"model": "m", "messages": [7]})), ["messages"]);
        assert_eq!(wrong(&json!({"model": "m", "messages": [{}], "n": 2, "tools": [], "functions": []})), ["n", "tools", "functions"]);
        let large = json!({"model": "m", "messages": [{"content": "x".repeat(MAX_REQUEST)}]});
        assert_eq!(wrong(&large), [""]);
        assert!(GenerateInput::from_json(b"[]").is_err());
    }
}
