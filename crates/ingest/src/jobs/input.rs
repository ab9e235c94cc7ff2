//! What the kinds of jobs are to be done with.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use postrider_evaluate::{MAX_BYTES, Metric, Options, Pair, Stemming};
use serde::de::{self, Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::kinds::{Bert, Kinds};
use crate::submission::{Invalid, Problem};

/// Most pairs of one evaluation.
const MAX_PAIRS: usize = 100_000;
/// Most references of one pair.
const MAX_REFERENCES: usize = 64;
/// Most names of metrics; there are fewer to choose from.
const MAX_METRICS: usize = 64;
/// Pairs of which something wrong is named; of the others it would be the same.
const MAX_NAMED: usize = 20;

/// An evaluation: which texts, and by what.
#[derive(Clone, Debug)]
pub struct EvaluateInput {
    /// At least one, at most 100,000.
    pub pairs: Vec<Pair>,
    /// At least one, unless `bert` is asked for.
    pub metrics: Vec<Metric>,
    /// Where a metric leaves a choice.
    pub options: Options,
    /// How `bert_score` is computed, if it is asked for.
    pub bert: Option<BertOptions>,
    /// What is answered.
    pub detail: Detail,
}

/// Where `bert_score` leaves a choice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BertOptions {
    /// After which layer of the model embeddings are compared; the last one unless given.
    pub layer: Option<usize>,
    /// Whether tokens that are rare among the references count more.
    pub idf: bool,
}

/// The metric that needs a model.
const BERT_SCORE: &str = "bert_score";

/// What an evaluation is answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Detail {
    /// The corpus's scores and each pair's.
    #[default]
    Pairs,
    /// The corpus's only.
    Corpus,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw<'a> {
    #[serde(default, borrow)]
    pairs: Option<List<RawPair<'a>, MAX_PAIRS>>,
    #[serde(default)]
    candidates: Option<List<String, MAX_PAIRS>>,
    #[serde(default)]
    references: Option<List<References, MAX_PAIRS>>,
    #[serde(borrow)]
    metrics: List<Cow<'a, str>, MAX_METRICS>,
    #[serde(default)]
    stemming: bool,
    #[serde(default)]
    bert_score: Option<BertOptions>,
    #[serde(default)]
    detail: Detail,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPair<'a> {
    #[serde(borrow)]
    candidate: Cow<'a, str>,
    references: References,
}

/// A list of at most `MOST`: it is refused where it grows longer, not once it fills the memory.
pub(super) struct List<T, const MOST: usize>(pub(super) Vec<T>);

impl<'de, T: Deserialize<'de>, const MOST: usize> Deserialize<'de> for List<T, MOST> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<List<T, MOST>, D::Error> {
        deserializer.deserialize_seq(Bounded::<T, MOST>(PhantomData)).map(List)
    }
}

struct Bounded<T, const MOST: usize>(PhantomData<T>);

impl<'de, T: Deserialize<'de>, const MOST: usize> Visitor<'de> for Bounded<T, MOST> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a list of at most {MOST}")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Vec<T>, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = sequence.next_element()? {
            if items.len() == MOST {
                return Err(A::Error::custom(format_args!("must be at most {MOST}")));
            }
            items.push(item);
        }
        Ok(items)
    }
}

/// One reference, or several.
struct References(Vec<String>);

impl<'de> Deserialize<'de> for References {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<References, D::Error> {
        deserializer.deserialize_any(OneOrMany)
    }
}

struct OneOrMany;

impl<'de> Visitor<'de> for OneOrMany {
    type Value = References;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a text or a list of at most {MAX_REFERENCES} texts")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<References, E> {
        Ok(References(vec![text.to_owned()]))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, sequence: A) -> Result<References, A::Error> {
        Bounded::<String, MAX_REFERENCES>(PhantomData).visit_seq(sequence).map(References)
    }
}

impl EvaluateInput {
    /// Reads `{pairs, metrics, …}`, or `{candidates, references, metrics, …}`; names everything that is wrong.
    pub fn from_json(kinds: &Kinds, bytes: &[u8]) -> Result<EvaluateInput, Invalid> {
        let raw: Raw<'_> = Invalid::from_json(bytes)?;
        let mut problems = Vec::new();
        let (metrics, wants_bert) = metrics(kinds, &raw.metrics.0, &mut problems);
        let bert = wants_bert.then(|| raw.bert_score.unwrap_or_default());
        let pairs: Vec<Pair> = match (raw.pairs, raw.candidates, raw.references) {
            (Some(List(pairs)), None, None) => {
                let pair = |RawPair { candidate, references }| Pair { candidate: candidate.into_owned(), references: references.0 };
                pairs.into_iter().map(pair).collect()
            }
            (None, Some(List(candidates)), Some(List(references))) => {
                if candidates.len() != references.len() {
                    let (texts, given) = (candidates.len(), references.len());
                    problems.push(Problem::new("references", format!("must be as many as there are candidates: {texts}, not {given}")));
                }
                candidates.into_iter().zip(references).map(|(candidate, References(references))| Pair { candidate, references }).collect()
            }
            _other => {
                problems.push(Problem::new("pairs", "must be given, or else `candidates` with `references`"));
                return Err(Invalid::Fields(problems));
            }
        };
        check_pairs(&pairs, &mut problems);
        if !problems.is_empty() {
            return Err(Invalid::Fields(problems));
        }
        let stemming = if raw.stemming { Stemming::Porter } else { Stemming::Off };
        Ok(EvaluateInput { pairs, metrics, options: Options { stemming }, bert, detail: raw.detail })
    }
}

/// The metrics of these names, and whether `bert_score` is among them.
fn metrics(kinds: &Kinds, names: &[Cow<'_, str>], problems: &mut Vec<Problem>) -> (Vec<Metric>, bool) {
    if names.is_empty() {
        problems.push(Problem::new("metrics", format!("must name 1 to {MAX_METRICS} of {}, {BERT_SCORE}", Metric::KNOWN.join(", "))));
    }
    let (mut metrics, mut wants_bert) = (Vec::new(), false);
    for (index, name) in names.iter().enumerate() {
        let words = match (Metric::parse(name), kinds.bert) {
            (Ok(found), _) => {
                metrics.extend_from_slice(found);
                continue;
            }
            (Err(_), Bert::Configured) if name == BERT_SCORE => {
                wants_bert = true;
                continue;
            }
            (Err(_), Bert::Missing) if name == BERT_SCORE => {
                "needs a model: the server's setting evaluate.bert_model must name a folder with config.json, tokenizer.json and \
                 model.safetensors"
                    .to_owned()
            }
            (Err(error), _) => format!("{error}, {BERT_SCORE}"),
        };
        problems.push(Problem::new(format!("metrics.{index}"), words));
    }
    (metrics, wants_bert)
}

fn check_pairs(pairs: &[Pair], problems: &mut Vec<Problem>) {
    if pairs.is_empty() {
        problems.push(Problem::new("pairs", format!("must be 1 to {MAX_PAIRS}, not none")));
        return;
    }
    let wrong = pairs.iter().enumerate().filter_map(|(index, pair)| {
        let longest = pair.references.iter().chain([&pair.candidate]).map(String::len).max().unwrap_or_default();
        let words = match pair.references.len() {
            0 => "must have at least one reference".to_owned(),
            _ if longest > MAX_BYTES => format!("has a text of {longest} bytes; the most is {MAX_BYTES}"),
            _ => return None,
        };
        Some(Problem::new(format!("pairs.{index}"), words))
    });
    problems.extend(wrong.take(MAX_NAMED));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(bert: Bert) -> Kinds {
        let (guard, outside) = (postrider_egress::Guard::default(), Vec::new());
        Kinds { speech: Err("install it".to_owned()), bert, upstream: Ok(()), guard, outside }
    }

    fn read(json: &str) -> Result<EvaluateInput, Invalid> {
        EvaluateInput::from_json(&kinds(Bert::Missing), json.as_bytes())
    }

    fn wrong(json: &str) -> Vec<(String, String)> {
        match read(json) {
            Err(Invalid::Fields(problems)) => problems.into_iter().map(|p| (p.field, p.message)).collect(),
            other => panic!("{json} gave {other:?}"),
        }
    }

    #[test]
    fn pairs_can_be_given_in_rows_or_columns() {
        let rows =
            read(r#"{"pairs":[{"candidate":"a","references":["b","c"]},{"candidate":"","references":"d"}],"metrics":["rouge","bleu"]}"#);
        let columns = read(r#"{"candidates":["a",""],"references":[["b","c"],"d"],"metrics":["bleu","rouge"],"detail":"corpus"}"#);
        let (rows, columns) = (rows.unwrap(), columns.unwrap());
        assert_eq!(rows.pairs, columns.pairs);
        assert_eq!((rows.metrics.len(), rows.detail, columns.detail), (5, Detail::Pairs, Detail::Corpus));
    }

    #[test]
    fn bert_score_needs_a_model_and_has_options_of_its_own() {
        let json = r#"{"candidates":["a"],"references":["b"],"metrics":["bert_score"],"bert_score":{"layer":5,"idf":true}}"#;
        let missing = wrong(json);
        assert_eq!(missing[0].0, "metrics.0");
        assert!(missing[0].1.contains("evaluate.bert_model"), "{missing:?}");
        let input = EvaluateInput::from_json(&kinds(Bert::Configured), json.as_bytes()).unwrap();
        assert_eq!((input.metrics.len(), input.bert), (0, Some(BertOptions { layer: Some(5), idf: true })));
    }

    #[test]
    fn what_is_wrong_is_named_with_what_would_be_right() {
        let unknown = wrong(r#"{"pairs":[{"candidate":"a","references":["b"]}],"metrics":["blue"]}"#);
        assert_eq!(unknown[0].0, "metrics.0");
        assert!(unknown[0].1.contains("chrf++"), "{unknown:?}");
        let fields = |json| wrong(json).into_iter().map(|(field, _)| field).collect::<Vec<_>>();
        assert_eq!(fields(r#"{"pairs":[],"metrics":[]}"#), ["metrics", "pairs"]);
        assert_eq!(fields(r#"{"metrics":["bleu"]}"#), ["pairs"]);
        assert_eq!(fields(r#"{"candidates":["a"],"references":[],"metrics":["bleu"]}"#), ["references", "pairs"]);
        assert_eq!(fields(r#"{"pairs":[{"candidate":"a","references":[]}],"metrics":["f1"]}"#), ["pairs.0"]);
        assert_eq!(fields(r#"{"pairs":[{"candidate":"a","references":7}],"metrics":["f1"]}"#), ["pairs[0].references"]);
        assert_eq!(fields(r#"{"pairs":[{"candidate":"a"}],"metrics":["f1"]}"#), ["references"]);
        let many = format!(r#"{{"candidates":[{0}"a"],"references":[{0}"a"],"metrics":["bleu"]}}"#, r#""a","#.repeat(MAX_PAIRS));
        assert_eq!(wrong(&many), [("candidates".to_owned(), format!("must be at most {MAX_PAIRS}"))]);
        let many =
            format!(r#"{{"pairs":[{{"candidate":"a","references":[{}"a"]}}],"metrics":["bleu"]}}"#, r#""a","#.repeat(MAX_REFERENCES));
        assert_eq!(fields(&many), ["pairs[0].references"]);
    }
}
