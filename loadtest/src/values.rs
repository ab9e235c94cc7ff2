//! The values settings are made of, and how they are written.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use crate::endpoints::Temper;

/// How fast events are due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rate {
    /// So many a second, whatever the server does (open loop).
    PerSecond(u32),
    /// The next as soon as a connection is free (closed loop).
    Max,
}

/// A span of time with its unit: `500ms`, `30s`, `2m`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span(pub(crate) Duration);

/// Shares of endpoints that are not healthy, each from 0 to 1, together at most 1.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Bad(pub(crate) Vec<(Temper, f64)>);

/// A value that can't be read, and what would be.
#[derive(Debug, PartialEq, thiserror::Error)]
pub(crate) enum ValueError {
    #[error("`{0}` is not a rate; write events a second (20000) or `max`")]
    Rate(String),
    #[error("`{0}` is not a span of time; write 500ms, 30s or 2m")]
    Span(String),
    #[error("`{0}` is not a share of endpoints; write NAME=PERCENT%, such as hang=5%")]
    Share(String),
    #[error("`{0}` is no behaviour; known are slow, flap, throttle, fail, hang and close")]
    Temper(String),
    #[error("{0} is given twice")]
    Twice(&'static str),
    #[error("the shares of bad endpoints add up to more than 100%")]
    TooMany,
}

impl FromStr for Rate {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Rate, ValueError> {
        match text.parse() {
            Ok(rate) if rate > 0 => Ok(Rate::PerSecond(rate)),
            _ if text == "max" => Ok(Rate::Max),
            _ => Err(ValueError::Rate(text.to_owned())),
        }
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Rate::PerSecond(rate) => write!(f, "{rate}"),
            Rate::Max => f.write_str("max"),
        }
    }
}

impl FromStr for Span {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Span, ValueError> {
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let unit = match unit {
            "ms" => Some(1),
            "s" => Some(1_000),
            "m" => Some(60_000),
            _ => None,
        };
        let millis = number.parse::<u64>().ok().zip(unit).and_then(|(number, unit)| number.checked_mul(unit));
        millis.map(|millis| Span(Duration::from_millis(millis))).ok_or_else(|| ValueError::Span(text.to_owned()))
    }
}

impl FromStr for Bad {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Bad, ValueError> {
        let mut shares: Vec<(Temper, f64)> = Vec::new();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let invalid = || ValueError::Share(part.to_owned());
            let (name, percent) = part.split_once('=').ok_or_else(invalid)?;
            let percent: f64 = percent.strip_suffix('%').and_then(|number| number.parse().ok()).ok_or_else(invalid)?;
            if !(0.0..=100.0).contains(&percent) {
                return Err(invalid());
            }
            let known = Temper::ALL.into_iter().find(|temper| temper.name() == name && *temper != Temper::Healthy);
            let temper = known.ok_or_else(|| ValueError::Temper(name.to_owned()))?;
            if shares.iter().any(|(other, _)| *other == temper) {
                return Err(ValueError::Twice(temper.name()));
            }
            shares.push((temper, percent / 100.0));
        }
        if shares.iter().map(|(_, share)| share).sum::<f64>() > 1.0 + f64::EPSILON {
            return Err(ValueError::TooMany);
        }
        Ok(Bad(shares))
    }
}

impl fmt::Display for Bad {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shares: Vec<String> = self.0.iter().map(|(temper, share)| format!("{}={}%", temper.name(), share * 100.0)).collect();
        f.write_str(&shares.join(","))
    }
}

/// In a file a rate may be a number or a text.
impl<'de> Deserialize<'de> for Rate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Rate, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Word {
            Number(u64),
            Text(String),
        }
        let text = match Word::deserialize(deserializer)? {
            Word::Number(number) => number.to_string(),
            Word::Text(text) => text,
        };
        text.parse().map_err(D::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Span, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Bad {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Bad, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_and_spans_are_read_with_their_units() {
        assert_eq!("20000".parse(), Ok(Rate::PerSecond(20_000)));
        assert_eq!("max".parse(), Ok(Rate::Max));
        for bad in ["", "0", "-1", "fast", "1.5"] {
            assert_eq!(bad.parse::<Rate>(), Err(ValueError::Rate(bad.to_owned())));
        }
        assert_eq!("500ms".parse(), Ok(Span(Duration::from_millis(500))));
        assert_eq!("2m".parse(), Ok(Span(Duration::from_secs(120))));
        for bad in ["", "5", "s", "5h", "1.5s", "99999999999999999999s", "999999999999999999m"] {
            assert_eq!(bad.parse::<Span>(), Err(ValueError::Span(bad.to_owned())));
        }
    }

    #[test]
    fn shares_are_read_and_written_alike() {
        let bad: Bad = "hang=5%, slow=0.5%".parse().expect("valid");
        assert_eq!(bad, Bad(vec![(Temper::Hang, 0.05), (Temper::Slow, 0.005)]));
        assert_eq!(bad.to_string(), "hang=5%,slow=0.5%");
        assert_eq!("".parse(), Ok(Bad::default()));
    }

    #[test]
    fn shares_that_make_no_sense_are_refused() {
        for (text, error) in [
            ("hang", ValueError::Share("hang".to_owned())),
            ("hang=5", ValueError::Share("hang=5".to_owned())),
            ("hang=NaN%", ValueError::Share("hang=NaN%".to_owned())),
            ("hang=-1%", ValueError::Share("hang=-1%".to_owned())),
            ("eat=5%", ValueError::Temper("eat".to_owned())),
            ("healthy=5%", ValueError::Temper("healthy".to_owned())),
            ("hang=5%,hang=5%", ValueError::Twice("hang")),
            ("hang=60%,fail=60%", ValueError::TooMany),
        ] {
            assert_eq!(text.parse::<Bad>(), Err(error), "{text}");
        }
    }
}
