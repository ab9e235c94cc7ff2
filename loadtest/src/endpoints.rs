//! The endpoints of a run: how each behaves, what signs its deliveries, and which event goes where.

use std::time::Duration;

use postrider_core::rng::Rng;
use postrider_core::secret::Secret;
use serde::Serialize;

use crate::clock::Micros;
use crate::ledger::Seq;

/// How long a hanging endpoint keeps its answer back; longer than any sensible time-out.
const HANG: Duration = Duration::from_secs(30);
/// How long a slow endpoint takes; within the time-out of a first attempt.
const SLOW: Duration = Duration::from_secs(2);

/// Parts that all events are divided into to give some of them to the favourite.
const WHOLE: u64 = 1 << 32;

/// How an endpoint behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Temper {
    /// 200, after the delay of the scenario.
    Healthy,
    /// 200 after [`SLOW`].
    Slow,
    /// 200 in even seconds of the run, 503 in odd ones.
    Flap,
    /// 429 with `Retry-After: 1`, always.
    Throttle,
    /// 500, always.
    Fail,
    /// 200 after [`HANG`].
    Hang,
    /// Ends the connection once the request was read.
    Close,
}

/// What an endpoint does about one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    /// Answers, `after` the request was read.
    Answer {
        /// The whole response.
        response: &'static [u8],
        /// How long it is kept back.
        after: Duration,
        /// Whether it counts as a delivery that arrived.
        success: bool,
    },
    /// Ends the connection without an answer.
    HangUp,
}

impl Temper {
    /// Every temper, in the order of reports.
    pub(crate) const ALL: [Temper; 7] =
        [Temper::Healthy, Temper::Slow, Temper::Flap, Temper::Throttle, Temper::Fail, Temper::Hang, Temper::Close];

    /// Its name in scenarios and reports.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Temper::Healthy => "healthy",
            Temper::Slow => "slow",
            Temper::Flap => "flap",
            Temper::Throttle => "throttle",
            Temper::Fail => "fail",
            Temper::Hang => "hang",
            Temper::Close => "close",
        }
    }

    /// Whether every accepted event must arrive there in the end.
    pub(crate) fn is_reconciled(self) -> bool {
        match self {
            Temper::Healthy | Temper::Slow | Temper::Flap => true,
            Temper::Throttle | Temper::Fail | Temper::Hang | Temper::Close => false,
        }
    }

    /// What it does about a request read at `now`; `delay` is a healthy endpoint's.
    pub(crate) fn reply(self, now: Micros, delay: Duration) -> Reply {
        const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
        const UNAVAILABLE: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n";
        const BUSY: &[u8] = b"HTTP/1.1 429 Too Many Requests\r\nretry-after: 1\r\ncontent-length: 0\r\n\r\n";
        const ERROR: &[u8] = b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\n\r\n";
        let success = |after| Reply::Answer { response: OK, after, success: true };
        let failure = |response| Reply::Answer { response, after: Duration::ZERO, success: false };
        match self {
            Temper::Healthy => success(delay),
            Temper::Slow => success(SLOW),
            Temper::Flap if (now.0 / 1_000_000).is_multiple_of(2) => success(Duration::ZERO),
            Temper::Flap => failure(UNAVAILABLE),
            Temper::Throttle => failure(BUSY),
            Temper::Fail => failure(ERROR),
            Temper::Hang => success(HANG),
            Temper::Close => Reply::HangUp,
        }
    }
}

/// An endpoint's place among those of the run, from 0; its events are of type `load.e<i>`, its path is `/e/<i>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct EndpointNo(pub(crate) u32);

impl EndpointNo {
    /// The index into tables by endpoint.
    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }
}

/// All endpoints of a run.
pub(crate) struct Endpoints {
    tempers: Vec<Temper>,
    secrets: Vec<Secret>,
    seed: u64,
    favourite: Option<Favourite>,
}

/// The endpoint that gets more than the others.
#[derive(Clone, Copy)]
struct Favourite {
    endpoint: EndpointNo,
    /// How many of 2^32 events it gets beside its even part of the rest.
    share: u64,
}

impl Endpoints {
    /// `count` endpoints; each of `shares` gives its temper to that fraction of them, to one at least, chosen by `seed`.
    /// The rest are healthy.
    pub(crate) fn new(count: usize, shares: &[(Temper, f64)], seed: u64) -> Endpoints {
        let mut rng = Rng::new(seed);
        let mut order: Vec<usize> = (0..count).collect();
        for i in (1..count).rev() {
            order.swap(i, rng.below(i as u64 + 1) as usize);
        }
        let mut tempers = vec![Temper::Healthy; count];
        let mut rest = order.into_iter();
        for (temper, share) in shares.iter().filter(|(_, share)| *share > 0.0) {
            let wanted = (share * count as f64).round().max(1.0) as usize;
            rest.by_ref().take(wanted).for_each(|i| tempers[i] = *temper);
        }
        Endpoints { tempers, secrets: Vec::new(), seed, favourite: None }
    }

    /// Lets one healthy endpoint have `share` of the events, which is below 1, and its even part of the rest.
    pub(crate) fn favour(&mut self, share: f64) {
        let healthy = self.tempers.iter().position(|temper| *temper == Temper::Healthy);
        let share = (share * WHOLE as f64) as u64;
        self.favourite = healthy.filter(|_| share > 0).map(|endpoint| Favourite { endpoint: EndpointNo(endpoint as u32), share });
    }

    /// Whether `endpoint` gets more than the others.
    pub(crate) fn is_favourite(&self, endpoint: EndpointNo) -> bool {
        self.favourite.is_some_and(|favourite| favourite.endpoint == endpoint)
    }

    /// Takes the secrets given at registration, in order of the endpoints.
    pub(crate) fn set_secrets(&mut self, secrets: Vec<Secret>) {
        assert_eq!(secrets.len(), self.tempers.len(), "one secret per endpoint");
        self.secrets = secrets;
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.tempers.len()
    }

    /// The endpoint numbered `number`, where there is one.
    pub(crate) fn find(&self, number: usize) -> Option<EndpointNo> {
        (number < self.tempers.len()).then_some(EndpointNo(number as u32))
    }

    /// The endpoint that event `seq` is for: any, evenly but for the favourite, and always the same for one seed.
    pub(crate) fn of(&self, seq: Seq) -> EndpointNo {
        let mut rng = Rng::new(self.seed ^ seq.0.rotate_left(32));
        let even = EndpointNo(rng.below(self.tempers.len() as u64) as u32);
        match self.favourite {
            Some(favourite) if rng.below(WHOLE) < favourite.share => favourite.endpoint,
            Some(_) | None => even,
        }
    }

    /// How an endpoint behaves.
    pub(crate) fn temper(&self, endpoint: EndpointNo) -> Temper {
        self.tempers[endpoint.index()]
    }

    /// What signs an endpoint's deliveries.
    pub(crate) fn secret(&self, endpoint: EndpointNo) -> &Secret {
        &self.secrets[endpoint.index()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(endpoints: &Endpoints, temper: Temper) -> usize {
        endpoints.tempers.iter().filter(|found| **found == temper).count()
    }

    #[test]
    fn shares_are_met_exactly_and_none_is_rounded_away() {
        let endpoints = Endpoints::new(100, &[(Temper::Hang, 0.05), (Temper::Close, 0.001), (Temper::Fail, 0.0)], 7);
        assert_eq!(count(&endpoints, Temper::Hang), 5);
        assert_eq!(count(&endpoints, Temper::Close), 1);
        assert_eq!(count(&endpoints, Temper::Fail), 0);
        assert_eq!(count(&endpoints, Temper::Healthy), 94);
        assert_eq!(count(&Endpoints::new(3, &[(Temper::Hang, 1.0)], 7), Temper::Hang), 3);
    }

    #[test]
    fn a_favourite_has_its_share_and_the_rest_is_even() {
        let mut endpoints = Endpoints::new(10, &[(Temper::Fail, 0.5)], 1);
        endpoints.favour(0.5);
        let mut hits = [0_u32; 10];
        (0..10_000).for_each(|seq| hits[endpoints.of(Seq(seq)).index()] += 1);
        let favourite = (0..10).map(EndpointNo).find(|endpoint| endpoints.is_favourite(*endpoint)).expect("one is");
        assert_eq!(endpoints.temper(favourite), Temper::Healthy);
        for (endpoint, hits) in (0..10).map(EndpointNo).zip(hits) {
            let expected = if endpoint == favourite { 5_200..5_800 } else { 400..600 };
            assert!(expected.contains(&hits), "{hits} for {endpoint:?}");
        }
    }

    #[test]
    fn events_spread_evenly_and_repeatably() {
        let endpoints = Endpoints::new(10, &[], 1);
        let mut hits = [0_u32; 10];
        for seq in 0..10_000 {
            hits[endpoints.of(Seq(seq)).index()] += 1;
            assert_eq!(endpoints.of(Seq(seq)), Endpoints::new(10, &[], 1).of(Seq(seq)));
        }
        assert!(hits.iter().all(|hits| (850..1150).contains(hits)), "{hits:?}");
    }
}
