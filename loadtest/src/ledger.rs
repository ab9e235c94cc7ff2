//! What was sent, accepted and received, event by event.

use std::collections::BTreeMap;
use std::ops::Range;
use std::rc::Rc;
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::clock::Micros;
use crate::endpoints::{EndpointNo, Endpoints, Temper};

/// Most events of one run; nine bytes of memory each.
pub(crate) const MAX_EVENTS: u64 = 50_000_000;

/// The longest latency that is told apart, in microseconds; longer ones count as this.
const MAX_LATENCY: u64 = 600_000_000;

/// An event of the run, in order of sending, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Seq(pub(crate) u64);

/// What is known of one event.
#[derive(Clone, Copy, Default)]
struct Marks(u8);

impl Marks {
    /// The server took it with a 202.
    const ACCEPTED: u8 = 1;
    /// It was received, and is or will be answered 2xx.
    const ARRIVED: u8 = 2;
    /// The 2xx was written.
    const ANSWERED: u8 = 4;

    fn has(self, mark: u8) -> bool {
        self.0 & mark != 0
    }

    /// Whether `mark` is new.
    fn set(&mut self, mark: u8) -> bool {
        let new = !self.has(mark);
        self.0 |= mark;
        new
    }
}

/// Sums over the whole run, warm-up included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Events handed to connections.
    pub(crate) sent: u64,
    /// Events answered 202.
    pub(crate) accepted: u64,
    /// Events that arrived at an endpoint that takes them.
    pub(crate) delivered: u64,
    /// Repeats of an event whose delivery had been answered 2xx.
    pub(crate) duplicated: u64,
    /// Events whose connection ended before the answer.
    pub(crate) unanswered: u64,
    /// Accepted events that have yet to arrive where they must.
    pub(crate) outstanding: u64,
    /// Deliveries that are no event of this run, or came to the wrong endpoint.
    pub(crate) stray: u64,
}

/// The fate of the accepted events of one temper that did not arrive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Missing {
    /// Their endpoint was still receiving others when the run ended, slower than was sent: the server may rightly hold them.
    pub(crate) queued: u64,
    /// Nothing explains their absence.
    pub(crate) lost: u64,
}

/// The book of a run.
///
/// Invariant: latencies count from the instant an event was due, whenever it was sent.
pub(crate) struct Ledger {
    endpoints: Rc<Endpoints>,
    due: Vec<Micros>,
    marks: Vec<Marks>,
    window: Range<Micros>,
    counts: Counts,
    refused: BTreeMap<u16, u64>,
    ingest: Histogram<u64>,
    delivery: Histogram<u64>,
    favourite: Histogram<u64>,
    recent: Histogram<u64>,
    accepted_by: BTreeMap<Temper, u64>,
    last_arrival: Vec<Micros>,
}

impl Ledger {
    /// An empty book that measures the events due within `window`.
    pub(crate) fn new(window: Range<Micros>, endpoints: Rc<Endpoints>) -> Ledger {
        let histogram = || Histogram::new_with_bounds(1, MAX_LATENCY, 3).expect("the bounds are valid");
        Ledger {
            due: Vec::new(),
            marks: Vec::new(),
            window,
            counts: Counts::default(),
            refused: BTreeMap::new(),
            ingest: histogram(),
            delivery: histogram(),
            favourite: histogram(),
            recent: histogram(),
            accepted_by: BTreeMap::new(),
            last_arrival: vec![Micros(0); endpoints.len()],
            endpoints,
        }
    }

    /// Enters `count` events that were due at `due` and are sent now; gives the first one's number.
    pub(crate) fn send(&mut self, count: usize, due: Micros) -> Seq {
        let first = Seq(self.due.len() as u64);
        self.due.resize(self.due.len() + count, due);
        self.marks.resize(self.marks.len() + count, Marks::default());
        self.counts.sent += count as u64;
        first
    }

    /// Enters `count` events that were produced before the run began, where no 202 is waited for; gives the first one's
    /// number.
    pub(crate) fn produced(&mut self, count: u64) -> Seq {
        let first = self.send(count as usize, Micros(0));
        (first.0..first.0 + count).map(Seq).for_each(|seq| self.take(seq));
        first
    }

    /// The event was answered 202 at `now`.
    pub(crate) fn accept(&mut self, seq: Seq, now: Micros) {
        self.take(seq);
        record(&mut self.ingest, &self.window, self.due[seq.0 as usize], now);
    }

    /// From now on the event must arrive.
    fn take(&mut self, seq: Seq) {
        let at = seq.0 as usize;
        self.counts.accepted += 1;
        let temper = self.endpoints.temper(self.endpoints.of(seq));
        *self.accepted_by.entry(temper).or_default() += 1;
        let marks = &mut self.marks[at];
        marks.set(Marks::ACCEPTED);
        if temper.is_reconciled() && !marks.has(Marks::ARRIVED) {
            self.counts.outstanding += 1;
        }
    }

    /// `count` events were answered with another status than 202.
    pub(crate) fn refuse(&mut self, status: u16, count: u64) {
        *self.refused.entry(status).or_default() += count;
    }

    /// `count` events were sent, and the connection ended before an answer: nobody knows whether they count.
    pub(crate) fn unanswered(&mut self, count: u64) {
        self.counts.unanswered += count;
    }

    /// Event `seq` came to `endpoint` at `now`, which answers it 2xx.
    pub(crate) fn arrive(&mut self, seq: Seq, endpoint: EndpointNo, now: Micros) {
        let at = seq.0 as usize;
        if at >= self.due.len() || self.endpoints.of(seq) != endpoint {
            self.counts.stray += 1;
            return;
        }
        let temper = self.endpoints.temper(endpoint);
        if !temper.is_reconciled() {
            return;
        }
        self.last_arrival[endpoint.index()] = now;
        let marks = &mut self.marks[at];
        if marks.has(Marks::ANSWERED) {
            self.counts.duplicated += 1;
        }
        if !marks.set(Marks::ARRIVED) {
            return;
        }
        self.counts.delivered += 1;
        if marks.has(Marks::ACCEPTED) {
            self.counts.outstanding -= 1;
        }
        if temper == Temper::Healthy {
            let due = self.due[at];
            let all = if self.endpoints.is_favourite(endpoint) { &mut self.favourite } else { &mut self.delivery };
            record(all, &self.window, due, now);
            self.recent.saturating_record(waited(due, now));
        }
    }

    /// A delivery without a readable sequence number.
    pub(crate) fn stray(&mut self) {
        self.counts.stray += 1;
    }

    /// The 2xx for event `seq` was written.
    pub(crate) fn answer(&mut self, seq: Seq) {
        if let Some(marks) = self.marks.get_mut(seq.0 as usize) {
            marks.set(Marks::ANSWERED);
        }
    }

    /// The sums so far.
    pub(crate) fn counts(&self) -> Counts {
        self.counts
    }

    /// Events refused, by status.
    pub(crate) fn refused(&self) -> &BTreeMap<u16, u64> {
        &self.refused
    }

    /// From due to the 202, in microseconds.
    pub(crate) fn ingest(&self) -> &Histogram<u64> {
        &self.ingest
    }

    /// From due to the first arrival at a healthy endpoint, in microseconds; without the favourite, if there is one.
    pub(crate) fn delivery(&self) -> &Histogram<u64> {
        &self.delivery
    }

    /// The same for the favourite alone.
    pub(crate) fn favourite(&self) -> &Histogram<u64> {
        &self.favourite
    }

    /// From due to the first arrival at any healthy endpoint, of what arrived since [`Ledger::forget_recent`], whenever it
    /// was due.
    pub(crate) fn recent(&self) -> &Histogram<u64> {
        &self.recent
    }

    /// Begins a new interval.
    pub(crate) fn forget_recent(&mut self) {
        self.recent.reset();
    }

    /// How many events for endpoints of `temper` were accepted.
    pub(crate) fn accepted_by(&self, temper: Temper) -> u64 {
        self.accepted_by.get(&temper).copied().unwrap_or(0)
    }

    /// What of the accepted events has not arrived, by temper.
    ///
    /// A slow or flapping endpoint takes less than it is sent. What it misses counts as queued while it still received
    /// something within `grace` before `now`, else as lost.
    pub(crate) fn missing(&self, now: Micros, grace: Duration) -> BTreeMap<Temper, Missing> {
        let mut missing = BTreeMap::<Temper, Missing>::new();
        for (at, marks) in self.marks.iter().enumerate() {
            if !marks.has(Marks::ACCEPTED) || marks.has(Marks::ARRIVED) {
                continue;
            }
            let endpoint = self.endpoints.of(Seq(at as u64));
            let temper = self.endpoints.temper(endpoint);
            if !temper.is_reconciled() {
                continue;
            }
            let receiving = now.since(self.last_arrival[endpoint.index()]) <= grace;
            let fate = missing.entry(temper).or_default();
            if receiving && temper != Temper::Healthy { fate.queued += 1 } else { fate.lost += 1 }
        }
        missing
    }

    /// How many events arrived that were never answered 202: their answer was lost, or an error was one too many.
    pub(crate) fn unconfirmed(&self) -> u64 {
        self.marks.iter().filter(|marks| marks.has(Marks::ARRIVED) && !marks.has(Marks::ACCEPTED)).count() as u64
    }
}

fn record(histogram: &mut Histogram<u64>, window: &Range<Micros>, due: Micros, now: Micros) {
    if window.contains(&due) {
        histogram.saturating_record(waited(due, now));
    }
}

fn waited(due: Micros, now: Micros) -> u64 {
    (now.since(due).as_micros() as u64).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRACE: Duration = Duration::from_secs(10);

    fn with(shares: &[(Temper, f64)]) -> Ledger {
        Ledger::new(Micros(100)..Micros(1_000), Rc::new(Endpoints::new(1, shares, 1)))
    }

    #[test]
    fn what_was_accepted_and_never_arrived_is_lost() {
        let mut ledger = with(&[]);
        let first = ledger.send(3, Micros(200));
        for seq in 0..2 {
            ledger.accept(Seq(first.0 + seq), Micros(300));
        }
        ledger.arrive(Seq(1), EndpointNo(0), Micros(400));
        assert_eq!(ledger.counts().outstanding, 1);
        let missing = ledger.missing(Micros(500), GRACE);
        assert_eq!(missing[&Temper::Healthy], Missing { queued: 0, lost: 1 });
    }

    #[test]
    fn an_arrival_may_come_before_its_202() {
        let mut ledger = with(&[]);
        ledger.send(1, Micros(200));
        ledger.arrive(Seq(0), EndpointNo(0), Micros(250));
        assert_eq!(ledger.unconfirmed(), 1);
        ledger.accept(Seq(0), Micros(260));
        assert_eq!((ledger.counts().outstanding, ledger.unconfirmed()), (0, 0));
        assert!(ledger.missing(Micros(500), GRACE).is_empty());
    }

    #[test]
    fn a_repeat_is_a_duplicate_only_once_the_first_was_answered() {
        let mut ledger = with(&[]);
        ledger.send(1, Micros(200));
        ledger.arrive(Seq(0), EndpointNo(0), Micros(300));
        ledger.arrive(Seq(0), EndpointNo(0), Micros(310));
        assert_eq!(ledger.counts().duplicated, 0);
        ledger.answer(Seq(0));
        ledger.arrive(Seq(0), EndpointNo(0), Micros(320));
        assert_eq!((ledger.counts().duplicated, ledger.counts().delivered), (1, 1));
    }

    #[test]
    fn latency_counts_from_when_the_event_was_due_and_only_in_the_window() {
        let mut ledger = with(&[]);
        ledger.send(1, Micros(99));
        ledger.send(1, Micros(100));
        ledger.send(1, Micros(1_000));
        for seq in 0..3 {
            ledger.arrive(Seq(seq), EndpointNo(0), Micros(1_100));
        }
        assert_eq!((ledger.delivery().len(), ledger.delivery().max()), (1, 1_000));
        assert_eq!(ledger.recent().len(), 3);
        ledger.forget_recent();
        assert_eq!(ledger.recent().len(), 0);
    }

    #[test]
    fn what_goes_to_a_favourite_is_measured_apart() {
        let mut endpoints = Endpoints::new(2, &[], 1);
        endpoints.favour(0.5);
        let mut ledger = Ledger::new(Micros(0)..Micros(1_000), Rc::new(endpoints));
        ledger.send(100, Micros(0));
        for seq in (0..100).map(Seq) {
            ledger.arrive(seq, ledger.endpoints.of(seq), Micros(10));
        }
        let (others, favourite) = (ledger.delivery().len(), ledger.favourite().len());
        assert!(others + favourite == 100 && favourite > others, "{favourite} and {others}");
    }

    #[test]
    fn strays_are_counted_and_change_nothing_else() {
        let mut ledger = with(&[]);
        ledger.arrive(Seq(7), EndpointNo(0), Micros(1));
        ledger.answer(Seq(7));
        assert_eq!(ledger.counts(), Counts { stray: 1, ..Counts::default() });
    }

    #[test]
    fn a_slow_endpoint_that_still_receives_has_queued_not_lost() {
        let mut ledger = with(&[(Temper::Slow, 1.0)]);
        ledger.send(2, Micros(200));
        ledger.accept(Seq(0), Micros(300));
        ledger.accept(Seq(1), Micros(300));
        ledger.arrive(Seq(0), EndpointNo(0), Micros(5_000));
        let soon = ledger.missing(Micros(6_000), GRACE);
        assert_eq!(soon[&Temper::Slow], Missing { queued: 1, lost: 0 });
        let later = ledger.missing(Micros(5_001) + GRACE, GRACE);
        assert_eq!(later[&Temper::Slow], Missing { queued: 0, lost: 1 });
    }

    #[test]
    fn endpoints_that_take_nothing_lose_nothing() {
        let mut ledger = with(&[(Temper::Fail, 1.0)]);
        ledger.send(1, Micros(200));
        ledger.accept(Seq(0), Micros(300));
        assert_eq!((ledger.counts().outstanding, ledger.accepted_by(Temper::Fail)), (0, 1));
        assert!(ledger.missing(Micros(500), GRACE).is_empty());
    }
}
