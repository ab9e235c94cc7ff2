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

/// A share of the events, from 0 to below 1.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Percent(pub(crate) f64);

/// A process that is none of the server's, and what it is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Named {
    /// Its name in reports.
    pub(crate) name: String,
    /// Its number.
    pub(crate) pid: u32,
}

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
    #[error("`{0}` is no fault; write kill@WHEN+LENGTH, freeze@… or outage@…, such as kill@30s+10s, or kill:1@30s+10s for process 1")]
    Fault(String),
    #[error("`{0}` is not a share of the events; write a percentage below 100%, such as 50%")]
    Percent(String),
    #[error("`{0}` names no process; write NAME=PID, such as kafka=1234")]
    Named(String),
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

/// In the largest unit that leaves nothing over.
impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_millis() {
            millis if millis > 0 && millis.is_multiple_of(60_000) => write!(f, "{}m", millis / 60_000),
            millis if millis > 0 && millis.is_multiple_of(1_000) => write!(f, "{}s", millis / 1_000),
            millis => write!(f, "{millis}ms"),
        }
    }
}

impl FromStr for Percent {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Percent, ValueError> {
        let percent = text.strip_suffix('%').and_then(|number| number.parse::<f64>().ok()).filter(|percent| (0.0..100.0).contains(percent));
        percent.map(|percent| Percent(percent / 100.0)).ok_or_else(|| ValueError::Percent(text.to_owned()))
    }
}

impl FromStr for Named {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Named, ValueError> {
        let named = text.split_once('=').and_then(|(name, pid)| Some(Named { name: name.to_owned(), pid: pid.parse().ok()? }));
        named.filter(|named| !named.name.is_empty()).ok_or_else(|| ValueError::Named(text.to_owned()))
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

impl<'de> Deserialize<'de> for Percent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Percent, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Named {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Named, D::Error> {
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
    fn percentages_and_processes_are_read_or_refused() {
        assert_eq!("50%".parse(), Ok(Percent(0.5)));
        for bad in ["", "50", "100%", "-1%", "NaN%"] {
            assert_eq!(bad.parse::<Percent>(), Err(ValueError::Percent(bad.to_owned())));
        }
        assert_eq!("kafka=7".parse(), Ok(Named { name: "kafka".to_owned(), pid: 7 }));
        for bad in ["", "kafka", "=7", "kafka=x"] {
            assert_eq!(bad.parse::<Named>(), Err(ValueError::Named(bad.to_owned())));
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
