//! Where in a distributed trace something stands (W3C Trace Context, <https://www.w3.org/TR/trace-context/>).

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::id::{DeliveryId, Uid};
use crate::rng::Rng;

/// Longest `tracestate` that is handed on, in bytes; as much as the recommendation asks for.
const MAX_STATE: usize = 512;
/// Most members of a `tracestate`.
const MAX_MEMBERS: usize = 32;
/// Longest key and longest value of a member, in bytes.
const MAX_PART: usize = 256;
/// Length of a `traceparent` of version 00, in bytes.
const LENGTH: usize = 55;
/// The flag that says that whoever called has recorded its span.
const SAMPLED: u8 = 0b01;
/// Flags that are handed on: [`SAMPLED`], and that the trace's id is random (level 2 of the recommendation).
const KNOWN_FLAGS: u8 = 0b11;
const HEX: &[u8; 16] = b"0123456789abcdef";

/// A trace: all that one request led to. Never 0.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TraceId(pub u128);

/// One piece of work of a trace. Never 0.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SpanId(pub u64);

impl SpanId {
    /// One made of these bits.
    pub fn new(bits: u64) -> SpanId {
        SpanId(bits.max(1))
    }
}

/// What a `traceparent` says: the trace, who called in it, and whether that is recorded.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceParent {
    /// The trace.
    pub trace: TraceId,
    /// The work that led to what has this for its parent.
    pub span: SpanId,
    flags: u8,
}

/// A trace context as it is handed on: `traceparent`, and what others keep in `tracestate`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trace<'a> {
    /// `traceparent`.
    pub parent: TraceParent,
    /// `tracestate`: visible ASCII, spaces and tabs, at most 512 bytes.
    #[serde(borrow)]
    pub state: Option<&'a str>,
}

/// A [`Trace`] that is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptTrace {
    /// `traceparent`.
    pub parent: TraceParent,
    /// `tracestate`.
    pub state: Option<String>,
}

impl TraceParent {
    /// The first of a trace that begins with what has this number. Nobody called.
    pub fn root(number: Uid, span: SpanId, sampling: Sampling) -> TraceParent {
        let flags = match sampling {
            Sampling::Recorded => SAMPLED,
            Sampling::Left => 0,
        };
        TraceParent { trace: TraceId(number.0.max(1)), span, flags }
    }

    /// What an attempt of a delivery hands on whose event came without a trace: the event's number is the trace, each attempt
    /// a span of its own, and nobody records it.
    pub fn of_attempt(id: DeliveryId, attempt: u32) -> TraceParent {
        let bits = id.event.0 as u64 ^ (id.endpoint.0.0 as u64).rotate_left(32) ^ u64::from(attempt);
        TraceParent::root(id.event, SpanId::new(Rng::new(bits).bits()), Sampling::Left)
    }

    /// What a job hands on that came without a trace, as [`TraceParent::of_attempt`].
    pub fn of_job(number: Uid) -> TraceParent {
        TraceParent::root(number, SpanId::new(Rng::new(number.0 as u64).bits()), Sampling::Left)
    }

    /// Reads a `traceparent`; `None` where it is none. One of a version to come is read as far as this one goes.
    pub fn parse(text: &str) -> Option<TraceParent> {
        let bytes = text.as_bytes();
        let known = bytes.get(..LENGTH)?;
        let is_hyphened = [2, 35, 52].iter().all(|at| known[*at] == b'-');
        let version = hex(&known[..2])?;
        let is_whole = bytes.len() == LENGTH || (version > 0 && bytes[LENGTH] == b'-');
        if !is_hyphened || version == 0xff || !is_whole {
            return None;
        }
        let (trace, span) = (hex(&known[3..35])?, hex(&known[36..52])? as u64);
        let flags = hex(&known[53..])? as u8 & KNOWN_FLAGS;
        (trace != 0 && span != 0).then_some(TraceParent { trace: TraceId(trace), span: SpanId(span), flags })
    }

    /// Whether whoever called recorded its span, so that others should, too.
    pub fn is_sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// The same trace, as `span` hands it on.
    pub fn with_span(self, span: SpanId) -> TraceParent {
        TraceParent { span, ..self }
    }

    /// The flags that are handed on.
    pub fn flags(&self) -> u8 {
        self.flags
    }

    /// The `traceparent` header: ASCII.
    pub fn header(&self) -> [u8; LENGTH] {
        let mut text = [b'-'; LENGTH];
        (text[0], text[1]) = (b'0', b'0');
        write_hex(&mut text[3..35], self.trace.0);
        write_hex(&mut text[36..52], u128::from(self.span.0));
        write_hex(&mut text[53..], u128::from(self.flags));
        text
    }
}

/// Whether the spans of a trace are recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sampling {
    /// They are.
    Recorded,
    /// They are not.
    Left,
}

impl<'a> Trace<'a> {
    /// Reads what a request or record brought. Without a `traceparent` that is one there is no trace; a `tracestate` that is
    /// none is left away.
    pub fn read(parent: &str, state: Option<&'a str>) -> Option<Trace<'a>> {
        let parent = TraceParent::parse(parent)?;
        Some(Trace { parent, state: state.filter(|state| is_state(state)) })
    }

    /// The same trace, as `parent` hands it on.
    pub fn with_parent(self, parent: TraceParent) -> Trace<'a> {
        Trace { parent, ..self }
    }

    /// A copy to keep.
    pub fn kept(self) -> KeptTrace {
        KeptTrace { parent: self.parent, state: self.state.map(str::to_owned) }
    }
}

impl From<TraceParent> for Trace<'_> {
    fn from(parent: TraceParent) -> Self {
        Trace { parent, state: None }
    }
}

impl From<TraceParent> for KeptTrace {
    fn from(parent: TraceParent) -> KeptTrace {
        KeptTrace { parent, state: None }
    }
}

impl KeptTrace {
    /// To be handed on.
    pub fn get(&self) -> Trace<'_> {
        Trace { parent: self.parent, state: self.state.as_deref() }
    }
}

/// Whether it is a list of members `key=value`, as short as it must be.
fn is_state(text: &str) -> bool {
    let is_key = |key: &str| {
        let begins = key.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
        let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-*/@".contains(&byte);
        begins && key.len() <= MAX_PART && key.bytes().all(fits)
    };
    let is_value = |value: &str| {
        let fits = |byte: u8| (b' '..=b'~').contains(&byte) && byte != b'=';
        (1..=MAX_PART).contains(&value.len()) && value.bytes().all(fits)
    };
    let is_member = |member: &str| member.split_once('=').is_some_and(|(key, value)| is_key(key) && is_value(value));
    let members = || text.split(',').map(|member| member.trim_matches([' ', '\t'])).filter(|member| !member.is_empty());
    text.len() <= MAX_STATE && members().next().is_some() && members().count() <= MAX_MEMBERS && members().all(is_member)
}

/// At most 32 digits, in lower case as the recommendation has them.
fn hex(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0, |number: u128, digit| {
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _other => return None,
        };
        Some(number << 4 | u128::from(value))
    })
}

fn write_hex(place: &mut [u8], number: u128) {
    for (digit, shift) in place.iter_mut().rev().zip((0..).step_by(4)) {
        *digit = HEX[(number >> shift) as usize & 0xf];
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl fmt::Debug for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(str::from_utf8(&self.header()).expect("a header of ASCII"))
    }
}

impl fmt::Debug for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::id::EndpointId;
    use crate::time::Time;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn only_a_well_formed_trace_context_is_handed_on() {
        let parsed = TraceParent::parse(GOOD).expect("it is one");
        assert_eq!((parsed.to_string().as_str(), parsed.is_sampled()), (GOOD, true));
        for bad in [
            &GOOD.to_uppercase(),
            &GOOD[..54],
            &GOOD.replace("00f067aa0ba902b7", "0000000000000000"),
            &GOOD.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)),
            &GOOD.replace("-00f0", "_00f0"),
            &GOOD.replace("00-4", "ff-4"),
            &format!("{GOOD}-00"),
            &format!(" {GOOD}"),
            "",
        ] {
            assert_eq!(TraceParent::parse(bad), None, "{bad}");
        }
        // A version to come may have more behind what is known, and flags that say nothing here.
        let newer = format!("{}fd-more", GOOD.replace("00-4", "cc-4").trim_end_matches("01"));
        assert_eq!(TraceParent::parse(&newer), Some(parsed));
        assert_eq!(TraceParent::parse(&newer.replace("-more", "x")), None);
        let left = TraceParent::parse(&GOOD.replace("-01", "-02")).expect("it is one");
        assert!(!left.is_sampled() && left.to_string().ends_with("-02"));
    }

    #[test]
    fn a_state_is_a_bounded_list_of_members() {
        let state = |text| Trace::read(GOOD, Some(text)).expect("the parent is one").state;
        for good in ["a=1", "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE", "t@v=x y, 2=b", "a=1 ,\tb=2,,"] {
            assert_eq!(state(good), Some(good));
        }
        let (long, many) = (format!("a={}", "x".repeat(300)), ["a=1"; 33].join(","));
        for bad in ["", ",", "a", "A=1", "a=", "=1", "a=b=c", "a=\u{e9}", "a=1\r\nb: c", &long, &many, &["a=12345678"; 60].join(",")] {
            assert_eq!(state(bad), None, "{bad}");
        }
        assert_eq!(Trace::read("garbage", Some("a=1")), None);
    }

    #[test]
    fn every_attempt_has_a_span_of_its_own_in_the_trace_of_its_event() {
        let id = |endpoint| DeliveryId { event: Uid::new(Time(1_700_000_000_000), 3, 77), endpoint: EndpointId::of_url("t", endpoint) };
        let all = [(id("a"), 1), (id("a"), 2), (id("b"), 1), (id("b"), 2)].map(|(id, attempt)| TraceParent::of_attempt(id, attempt));
        assert!(all.iter().all(|parent| parent.trace == TraceId(id("a").event.0) && !parent.is_sampled()));
        let spans: std::collections::BTreeSet<u64> = all.iter().map(|parent| parent.span.0).collect();
        assert_eq!(spans.len(), 4);
        assert_eq!(all[0], TraceParent::of_attempt(id("a"), 1));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(trace in 1u128.., span in 1u64.., flags in 0u8..4) {
            let parent = TraceParent { trace: TraceId(trace), span: SpanId(span), flags };
            prop_assert_eq!(TraceParent::parse(&parent.to_string()), Some(parent));
        }

        #[test]
        fn nothing_makes_it_panic(text in ".{0,80}") {
            let _ = TraceParent::parse(&text);
            let _ = is_state(&text);
        }
    }
}
