//! Experiments: personas that a model is to make up.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::generate::wrong_model;
use crate::submission::{Invalid, Problem};

/// Most personas of one experiment.
const MAX_COUNT: u32 = 1000;
/// Most fields of a persona, and the longest name of one in bytes.
const MAX_FIELDS: usize = 64;
const MAX_FIELD: usize = 64;
/// Longest name of an experiment and longest prompt, in bytes.
const MAX_NAME: usize = 200;
const MAX_PROMPT: usize = 64 << 10;
/// Longest answer that may be a persona, in bytes: it is told whole.
const MAX_PERSONA: usize = 64 << 10;
/// Longest reason that an answer is none, in characters: it may repeat the answer.
const MAX_REASON: usize = 300;
/// Most texts of a list.
const MAX_LIST: usize = 100;

/// An experiment.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ExperimentInput {
    /// What its events call it; otherwise by the job's id.
    #[serde(default)]
    pub experiment_id: Option<String>,
    /// For people.
    pub name: String,
    /// Which model of the upstream makes the personas up.
    pub model: String,
    /// How many.
    pub count: u32,
    /// What they are to be like.
    pub prompt: String,
    /// What each must have.
    pub fields: BTreeMap<String, FieldType>,
    /// Passed on.
    #[serde(default)]
    pub temperature: Option<f64>,
    /// Passed on.
    #[serde(default)]
    pub top_p: Option<f64>,
    /// Passed on.
    #[serde(default)]
    pub max_tokens: Option<u32>,
    /// Passed on, and counted up from persona to persona.
    #[serde(default)]
    pub seed: Option<u32>,
    /// What tokens cost.
    #[serde(default)]
    pub pricing: Option<Pricing>,
}

/// What a field of a persona is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub enum FieldType {
    /// A text that is not empty.
    #[serde(rename = "text")]
    Text,
    /// A whole number.
    #[serde(rename = "integer")]
    Integer,
    /// A number.
    #[serde(rename = "number")]
    Number,
    /// True or false.
    #[serde(rename = "boolean")]
    Boolean,
    /// Up to 100 texts.
    #[serde(rename = "list of text")]
    List,
}

/// A field by its name.
pub type Field<'a> = (&'a str, FieldType);

/// What a model's tokens cost.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Pricing {
    /// US dollars for a million tokens of what is asked.
    pub prompt_usd_per_million: f64,
    /// US dollars for a million tokens of what is answered.
    pub completion_usd_per_million: f64,
}

impl Pricing {
    /// What so many tokens cost in US dollars, to a millionth.
    pub fn cost(&self, prompt_tokens: u64, completion_tokens: u64) -> f64 {
        let millionths = prompt_tokens as f64 * self.prompt_usd_per_million + completion_tokens as f64 * self.completion_usd_per_million;
        millionths.round() / 1e6
    }
}

impl FieldType {
    /// For people, and for models.
    pub fn words(self) -> &'static str {
        match self {
            FieldType::Text => "text",
            FieldType::Integer => "integer",
            FieldType::Number => "number",
            FieldType::Boolean => "true or false",
            FieldType::List => "list of texts",
        }
    }

    fn fits(self, value: &Value) -> bool {
        match self {
            FieldType::Text => is_text(value),
            FieldType::Integer => value.is_i64() || value.is_u64(),
            FieldType::Number => value.is_number(),
            FieldType::Boolean => value.is_boolean(),
            FieldType::List => value.as_array().is_some_and(|list| list.len() <= MAX_LIST && list.iter().all(is_text)),
        }
    }
}

fn is_text(value: &Value) -> bool {
    value.as_str().is_some_and(|text| !text.trim().is_empty())
}

impl ExperimentInput {
    /// Reads `{name, model, count, prompt, fields, …}`; names everything that is wrong.
    pub fn from_json(bytes: &[u8]) -> Result<ExperimentInput, Invalid> {
        let input: ExperimentInput = Invalid::from_json(bytes)?;
        let mut problems = Vec::new();
        let mut must = |is_so: bool, field: &str, words: String| {
            if !is_so {
                problems.push(Problem::new(field, words));
            }
        };
        let is_id = |id: &String| (1..=MAX_NAME).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic());
        must(input.experiment_id.as_ref().is_none_or(is_id), "experiment_id", format!("must be 1 to {MAX_NAME} visible ASCII characters"));
        must((1..=MAX_NAME).contains(&input.name.len()), "name", format!("must have 1 to {MAX_NAME} bytes"));
        must((1..=MAX_COUNT).contains(&input.count), "count", format!("must be 1 to {MAX_COUNT}"));
        must(
            (1..=MAX_PROMPT).contains(&input.prompt.len()) && !input.prompt.trim().is_empty(),
            "prompt",
            format!("must say in 1 to {MAX_PROMPT} bytes what the personas are to be like"),
        );
        must((1..=MAX_FIELDS).contains(&input.fields.len()), "fields", format!("must be 1 to {MAX_FIELDS}"));
        let is_name = |name: &String| (1..=MAX_FIELD).contains(&name.len()) && !name.chars().any(char::is_control);
        must(input.fields.keys().all(is_name), "fields", format!("must have names of 1 to {MAX_FIELD} bytes"));
        must(input.temperature.is_none_or(|t| (0.0..=2.0).contains(&t)), "temperature", "must lie between 0 and 2".to_owned());
        must(input.top_p.is_none_or(|p| (0.0..=1.0).contains(&p)), "top_p", "must lie between 0 and 1".to_owned());
        must(input.max_tokens != Some(0), "max_tokens", "must be at least 1".to_owned());
        let is_price = |price: f64| (0.0..=1e6).contains(&price);
        let prices = input.pricing.is_none_or(|p| is_price(p.prompt_usd_per_million) && is_price(p.completion_usd_per_million));
        must(prices, "pricing", "must be prices of 0 to 1000000 US dollars".to_owned());
        problems.extend(wrong_model(Some(&input.model)));
        if problems.is_empty() { Ok(input) } else { Err(Invalid::Fields(problems)) }
    }

    /// The fields of a persona, in order.
    pub fn fields(&self) -> impl Iterator<Item = Field<'_>> {
        self.fields.iter().map(|(name, kind)| (name.as_str(), *kind))
    }

    /// The persona that a model's answer is: its fields, and nothing else. Errors: what is wrong with it, for the model.
    pub fn persona(&self, answer: &str) -> Result<Map<String, Value>, String> {
        if answer.len() > MAX_PERSONA {
            return Err(format!("that is longer than {MAX_PERSONA} bytes"));
        }
        let mut object: Map<String, Value> = serde_json::from_str(unfenced(answer)).map_err(|error| {
            let reason: String = error.to_string().chars().take(MAX_REASON).collect();
            format!("that is not one JSON object: {reason}")
        })?;
        let mut persona = Map::new();
        for (name, kind) in self.fields() {
            match object.remove(name) {
                Some(value) if kind.fits(&value) => _ = persona.insert(name.to_owned(), value),
                Some(_) => return Err(format!("`{name}` must be of the type {}", kind.words())),
                None => return Err(format!("`{name}` is missing")),
            }
        }
        Ok(persona)
    }
}

/// What stands in a code block, as models like to answer.
fn unfenced(answer: &str) -> &str {
    let text = answer.trim();
    let inner = text.strip_prefix("```").and_then(|text| text.strip_suffix("```"));
    inner.map_or(text, |inner| inner.strip_prefix("json").unwrap_or(inner).trim())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn experiment() -> Value {
        json!({
            "experiment_id": "exp-1", "name": "a", "model": "m", "count": 3, "prompt": "farmers",
            "fields": {"name": "text", "age": "integer", "crops": "list of text"},
        })
    }

    fn read(value: &Value) -> Result<ExperimentInput, Invalid> {
        ExperimentInput::from_json(value.to_string().as_bytes())
    }

    #[test]
    fn a_persona_has_its_fields_and_nothing_else() {
        let input = read(&experiment()).unwrap();
        let good = json!({"name": "Chaltu", "age": 33, "crops": ["teff"], "mood": "good"}).to_string();
        let persona = input.persona(&format!("```json\n{good}\n```")).unwrap();
        assert_eq!(Value::Object(persona), json!({"name": "Chaltu", "age": 33, "crops": ["teff"]}));
        for (bad, words) in [
            ("Chaltu is 33.", "one JSON object"),
            ("[1]", "one JSON object"),
            (&format!("\"{}\"", "x".repeat(5000)), "one JSON object"),
            (&format!("{good}{}", " ".repeat(MAX_PERSONA)), "longer than"),
            (r#"{"name":"a","crops":[]}"#, "`age` is missing"),
            (r#"{"name":"a","age":"33","crops":[]}"#, "`age` must be of the type integer"),
            (r#"{"name":" ","age":1,"crops":[]}"#, "`name`"),
            (r#"{"name":"a","age":1,"crops":[1]}"#, "`crops`"),
        ] {
            let error = input.persona(bad).unwrap_err();
            assert!(error.contains(words) && error.len() < 1000, "{bad}: {error}");
        }
    }

    #[test]
    fn everything_wrong_is_named() {
        let mut wrong = experiment();
        for (field, value) in
            [("count", json!(0)), ("temperature", json!(3)), ("fields", json!({})), ("model", json!("")), ("prompt", json!(" "))]
        {
            wrong[field] = value;
        }
        let Err(Invalid::Fields(problems)) = read(&wrong) else { panic!("it was taken") };
        assert_eq!(
            problems.into_iter().map(|problem| problem.field).collect::<Vec<_>>(),
            ["count", "prompt", "fields", "temperature", "model"]
        );
        let mut unknown = experiment();
        unknown["fields"]["age"] = json!("date");
        assert!(read(&unknown).unwrap_err().to_string().contains("list of text"));
    }

    #[test]
    fn costs_are_of_both_directions() {
        let pricing = Pricing { prompt_usd_per_million: 2.5, completion_usd_per_million: 10.0 };
        assert_eq!(pricing.cost(100_000, 17_000), 0.42);
        assert_eq!(pricing.cost(0, 0), 0.0);
    }
}
