//! What is done to the server or its receivers in the course of a run, and when.

use std::collections::VecDeque;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use crate::clock::Micros;
use crate::values::{Span, ValueError};

/// A disturbance with a beginning and an end, written `WHAT@WHEN+LENGTH`, such as `kill@30s+10s`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    /// What is done.
    pub(crate) what: What,
    /// When it begins, counted from the beginning of the measured window.
    pub(crate) at: Duration,
    /// When it is over, counted from its beginning.
    pub(crate) lasts: Duration,
}

/// What a fault is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// A process gets SIGKILL; its command is run again at the end.
    Kill(Member),
    /// A process gets SIGSTOP, and SIGCONT at the end.
    Freeze(Member),
    /// Every receiver ends the connection of every request, whatever its temper.
    Outage,
}

/// Which of the server's processes, in the order of `spawn`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Member {
    /// The one with this number, from 0.
    Number(usize),
    /// The last: of several one that serves no requests of the driver, of one that one.
    Last,
}

/// Faults that can't be carried out.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FaultError {
    /// It needs a process that was not started here.
    #[error("{0} needs a process that loadtest starts itself: give spawn, and at least {1} of it")]
    NoProcess(Fault, usize),
    /// It would not be over when the measured window is.
    #[error("{0} ends after the measured window, which is {1} s long; what the server makes of it would not be seen")]
    TooLate(Fault, u64),
    /// Two of them would be about the same thing at the same time.
    #[error("{0} and {1} overlap")]
    Overlap(Fault, Fault),
}

/// One of the two instants of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Edge {
    /// It begins.
    Begin,
    /// It is over.
    End,
}

/// The faults of a run, in the order in which they come.
pub(crate) struct Faults {
    ahead: VecDeque<(Micros, Edge, Fault)>,
}

impl Member {
    /// Its number among `count` processes.
    pub(crate) fn of(self, count: usize) -> usize {
        match self {
            Member::Number(number) => number,
            Member::Last => count.saturating_sub(1),
        }
    }
}

impl Fault {
    /// The instant of its end, counted from the beginning of the measured window.
    pub(crate) fn end(&self) -> Duration {
        self.at.saturating_add(self.lasts)
    }

    /// The process it is about, of `count`.
    fn member(&self, count: usize) -> Option<usize> {
        match self.what {
            What::Kill(member) | What::Freeze(member) => Some(member.of(count)),
            What::Outage => None,
        }
    }
}

/// Whether `faults` can be carried out with `processes` of our own, within a measured window of `window` where it has an end.
pub(crate) fn check(faults: &[Fault], processes: usize, window: Option<Duration>) -> Result<(), FaultError> {
    for (i, fault) in faults.iter().enumerate() {
        match fault.member(processes) {
            Some(number) if number >= processes => return Err(FaultError::NoProcess(*fault, number + 1)),
            Some(_) | None => {}
        }
        if let Some(window) = window.filter(|window| fault.end() > *window) {
            return Err(FaultError::TooLate(*fault, window.as_secs()));
        }
        let clashes =
            |other: &&Fault| other.member(processes) == fault.member(processes) && other.at <= fault.end() && fault.at <= other.end();
        if let Some(other) = faults[..i].iter().find(clashes) {
            return Err(FaultError::Overlap(*other, *fault));
        }
    }
    Ok(())
}

impl Faults {
    /// `faults`, in a window that begins at `from`.
    pub(crate) fn new(faults: &[Fault], from: Micros) -> Faults {
        let edges = |fault: &Fault| [(from + fault.at, Edge::Begin, *fault), (from + fault.end(), Edge::End, *fault)];
        let mut ahead: Vec<_> = faults.iter().flat_map(edges).collect();
        ahead.sort_by_key(|(at, _, _)| *at);
        Faults { ahead: ahead.into() }
    }

    /// When [`Faults::due`] has something.
    pub(crate) fn next_wakeup(&self) -> Option<Micros> {
        self.ahead.front().map(|(at, _, _)| *at)
    }

    /// The next that begins or ends at `now` or should have; to be called until there is none.
    pub(crate) fn due(&mut self, now: Micros) -> Option<(Edge, Fault)> {
        let (_, edge, fault) = self.ahead.pop_front_if(|(at, _, _)| *at <= now)?;
        Some((edge, fault))
    }
}

impl FromStr for Fault {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Fault, ValueError> {
        let invalid = || ValueError::Fault(text.to_owned());
        let (what, when) = text.split_once('@').ok_or_else(invalid)?;
        let (at, lasts) = when.split_once('+').ok_or_else(invalid)?;
        let (Span(at), Span(lasts)) = (at.parse()?, lasts.parse()?);
        let (what, member) = match what.split_once(':') {
            Some((what, number)) => (what, Member::Number(number.parse().map_err(|_| invalid())?)),
            None => (what, Member::Last),
        };
        let what = match (what, member) {
            ("kill", member) => What::Kill(member),
            ("freeze", member) => What::Freeze(member),
            ("outage", Member::Last) => What::Outage,
            (_, _) => return Err(invalid()),
        };
        Ok(Fault { what, at, lasts })
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, member) = match self {
            What::Kill(member) => ("kill", Some(*member)),
            What::Freeze(member) => ("freeze", Some(*member)),
            What::Outage => ("outage", None),
        };
        f.write_str(name)?;
        match member {
            Some(Member::Number(number)) => write!(f, ":{number}"),
            Some(Member::Last) | None => Ok(()),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}+{}", self.what, Span(self.at), Span(self.lasts))
    }
}

impl<'de> Deserialize<'de> for Fault {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Fault, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults<const N: usize>(texts: [&str; N]) -> [Fault; N] {
        texts.map(|text| text.parse().expect(text))
    }

    #[test]
    fn faults_are_read_and_written_alike() {
        for text in ["kill@30s+10s", "kill:2@500ms+1m", "freeze@0ms+5s", "outage@2m+1m"] {
            assert_eq!(text.parse::<Fault>().expect(text).to_string(), text);
        }
        for bad in ["", "kill", "kill@3s", "kill@3+4s", "eat@1s+1s", "kill:x@1s+1s", "outage:1@1s+1s"] {
            assert!(bad.parse::<Fault>().is_err(), "{bad}");
        }
    }

    #[test]
    fn what_cannot_be_carried_out_is_refused() {
        let window = Some(Duration::from_secs(60));
        let [kill, third, late, outage] = faults(["kill@10s+5s", "kill:2@10s+5s", "outage@58s+5s", "outage@12s+5s"]);
        assert_eq!(check(&[kill, outage], 1, window), Ok(()));
        assert_eq!(check(&[kill], 0, window), Err(FaultError::NoProcess(kill, 1)));
        assert_eq!(check(&[third], 2, window), Err(FaultError::NoProcess(third, 3)));
        assert_eq!(check(&[late], 0, window), Err(FaultError::TooLate(late, 60)));
        assert_eq!(check(&[late], 0, None), Ok(()));
        let [freeze] = faults(["freeze:1@15s+1s"]);
        assert_eq!(check(&[kill, freeze], 2, window), Err(FaultError::Overlap(kill, freeze)));
        assert_eq!(check(&[kill, freeze], 3, window), Ok(()));
    }

    #[test]
    fn edges_come_in_the_order_of_time_and_once() {
        let [kill, outage] = faults(["kill@2s+3s", "outage@1s+2s"]);
        let mut ahead = Faults::new(&[kill, outage], Micros(1_000_000));
        assert_eq!((ahead.next_wakeup(), ahead.due(Micros(1_999_999))), (Some(Micros(2_000_000)), None));
        let order: Vec<_> = std::iter::from_fn(|| ahead.due(Micros(10_000_000))).collect();
        assert_eq!(order, [(Edge::Begin, outage), (Edge::Begin, kill), (Edge::End, outage), (Edge::End, kill)]);
    }
}
