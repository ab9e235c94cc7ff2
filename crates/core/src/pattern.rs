//! Which events an endpoint wants: `*`, `prefix.*`, or an exact type.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Longest event type and pattern, in bytes.
pub const MAX_TYPE: usize = 128;

/// One entry of an endpoint's `events`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Pattern {
    /// `*`: every event.
    All,
    /// `a.b.*`: every type that begins with `a.b.`; holds the prefix with its dot.
    Prefix(String),
    /// One type, to the letter.
    Exact(String),
}

/// The text is no event type, or no pattern over event types.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum TypeError {
    /// Characters outside the alphabet, empty, or a misplaced `*`.
    #[error("must be dotted words of A-Z a-z 0-9 _ - (such as `order.created`){0}")]
    Form(&'static str),
    /// Over [`MAX_TYPE`] bytes.
    #[error("must have at most 128 characters")]
    Long,
}

/// Checks an event type: dotted `[A-Za-z0-9_-]` words, up to [`MAX_TYPE`] bytes.
pub fn check_type(text: &str) -> Result<(), TypeError> {
    if text.len() > MAX_TYPE {
        return Err(TypeError::Long);
    }
    let word = |w: &str| !w.is_empty() && w.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'_' || c == b'-');
    if text.split('.').all(word) { Ok(()) } else { Err(TypeError::Form("")) }
}

impl Pattern {
    /// Whether an event of type `kind` is wanted.
    pub fn matches(&self, kind: &str) -> bool {
        match self {
            Pattern::All => true,
            Pattern::Prefix(prefix) => kind.starts_with(prefix.as_str()),
            Pattern::Exact(exact) => kind == exact,
        }
    }
}

impl FromStr for Pattern {
    type Err = TypeError;
    fn from_str(text: &str) -> Result<Pattern, TypeError> {
        const HINT: &str = ", optionally ending in `.*`, or `*` alone";
        if text == "*" {
            return Ok(Pattern::All);
        }
        let (words, is_prefix) = match text.strip_suffix(".*") {
            Some(words) => (words, true),
            None => (text, false),
        };
        match check_type(words) {
            Ok(()) if is_prefix => Ok(Pattern::Prefix(format!("{words}."))),
            Ok(()) => Ok(Pattern::Exact(words.to_owned())),
            Err(TypeError::Form(_)) => Err(TypeError::Form(HINT)),
            Err(TypeError::Long) => Err(TypeError::Long),
        }
    }
}

impl TryFrom<String> for Pattern {
    type Error = TypeError;
    fn try_from(text: String) -> Result<Pattern, TypeError> {
        text.parse()
    }
}

impl From<Pattern> for String {
    fn from(pattern: Pattern) -> String {
        pattern.to_string()
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Pattern::All => f.write_str("*"),
            Pattern::Prefix(prefix) => write!(f, "{prefix}*"),
            Pattern::Exact(exact) => f.write_str(exact),
        }
    }
}

/// The patterns of many endpoints, indexed: a lookup costs the type's words, not the number of endpoints.
#[derive(Debug)]
pub struct Routes<T> {
    exact: BTreeMap<String, Vec<T>>,
    prefix: BTreeMap<String, Vec<T>>,
    all: Vec<T>,
}

impl<T: Clone + Ord> Routes<T> {
    /// Indexes `targets` by their patterns; a target without patterns wants every event.
    pub fn new<'a>(targets: impl IntoIterator<Item = (T, &'a [Pattern])>) -> Routes<T> {
        let mut routes = Routes { exact: BTreeMap::new(), prefix: BTreeMap::new(), all: Vec::new() };
        for (target, patterns) in targets {
            if patterns.is_empty() {
                routes.all.push(target.clone());
            }
            for pattern in patterns {
                match pattern {
                    Pattern::All => routes.all.push(target.clone()),
                    Pattern::Prefix(prefix) => routes.prefix.entry(prefix.clone()).or_default().push(target.clone()),
                    Pattern::Exact(exact) => routes.exact.entry(exact.clone()).or_default().push(target.clone()),
                }
            }
        }
        routes
    }

    /// The targets that want events of type `kind`, each once, in order.
    pub fn matching(&self, kind: &str) -> Vec<T> {
        let mut found = self.all.clone();
        found.extend(self.exact.get(kind).into_iter().flatten().cloned());
        for (dot, _) in kind.match_indices('.') {
            found.extend(self.prefix.get(&kind[..=dot]).into_iter().flatten().cloned());
        }
        if found.len() > 1 {
            found.sort();
            found.dedup();
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patterns(texts: &[&str]) -> Vec<Pattern> {
        texts.iter().map(|t| t.parse().expect("a pattern")).collect()
    }

    #[test]
    fn patterns_match_whole_words_only() {
        let batch: Pattern = "batch.*".parse().expect("a pattern");
        assert!(batch.matches("batch.completed") && batch.matches("batch.a.b"));
        assert!(!batch.matches("batch") && !batch.matches("batches.completed"));
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for text in ["", "*.a", "a*", "a..b", ".a", "a.", "a b", "a.*.b", "é", "**"] {
            assert!(text.parse::<Pattern>().is_err(), "{text}");
        }
        assert_eq!("x".repeat(129).parse::<Pattern>(), Err(TypeError::Long));
    }

    #[test]
    fn routes_agree_with_the_patterns_one_by_one() {
        let endpoints = [patterns(&["*"]), patterns(&["a.*", "a.b"]), patterns(&["a.b"]), patterns(&[]), patterns(&["c"])];
        let routes = Routes::new(endpoints.iter().enumerate().map(|(i, p)| (i, p.as_slice())));
        for kind in ["a", "a.b", "a.b.c", "c", "d.e"] {
            let wanted: Vec<usize> =
                endpoints.iter().enumerate().filter(|(_, p)| p.is_empty() || p.iter().any(|p| p.matches(kind))).map(|(i, _)| i).collect();
            assert_eq!(routes.matching(kind), wanted, "{kind}");
        }
    }
}
