//! Axes: where a value lies between two ends, and which values are named.

use super::words;

/// Named values of an axis, at most or so.
const TICKS: f64 = 6.0;

/// One axis of a chart.
#[derive(Clone, Debug)]
pub(super) struct Axis {
    scale: Scale,
    from: f64,
    to: f64,
    /// Values that have a line and a name.
    pub(super) ticks: Vec<(f64, String)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scale {
    Even,
    Logarithmic,
}

impl Axis {
    /// From zero to `most` or a little more; `name` writes a value.
    pub(super) fn even(most: f64, name: impl Fn(f64) -> String) -> Axis {
        let step = step(most.max(f64::MIN_POSITIVE) / TICKS);
        let count = (most / step).ceil().max(1.0);
        let ticks = (0..=count as u32).map(|i| f64::from(i) * step).map(|value| (value, name(value))).collect();
        Axis { scale: Scale::Even, from: 0.0, to: count * step, ticks }
    }

    /// The same in bytes, with steps that are even in MiB.
    pub(super) fn bytes(most: f64) -> Axis {
        let mib = f64::from(1 << 20);
        let axis = Axis::even(most / mib, |value| words::bytes(value * mib));
        Axis { to: axis.to * mib, ticks: axis.ticks.into_iter().map(|(value, name)| (value * mib, name)).collect(), ..axis }
    }

    /// Latencies in microseconds, each tenfold as far as the one before; both ends are above 0.
    pub(super) fn latency(least: f64, most: f64) -> Axis {
        let (from, to) = (10_f64.powf(least.log10().floor()), 10_f64.powf(most.log10().ceil()));
        let to = to.max(from * 10.0);
        let count = (to / from).log10().round() as i32;
        let ticks = (0..=count).map(|i| from * 10_f64.powi(i)).map(|value| (value, power(value))).collect();
        Axis { scale: Scale::Logarithmic, from, to, ticks }
    }

    /// Seconds of a run.
    pub(super) fn time(from: f64, to: f64) -> Axis {
        const STEPS: [f64; 14] = [1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1200.0, 1800.0, 3600.0, 7200.0];
        let wanted = (to - from) / TICKS;
        let step = STEPS.into_iter().find(|step| *step >= wanted).unwrap_or_else(|| (wanted / 3600.0).ceil() * 3600.0);
        let ticks = ((from / step).ceil() as i64..=(to / step).floor() as i64).map(|i| i as f64 * step);
        Axis { scale: Scale::Even, from, to: to.max(from + 1.0), ticks: ticks.map(|value| (value, words::span(value))).collect() }
    }

    /// Shares of all events, by how rare the rest is: 90 %, 99 % and 99.9 % lie evenly. Takes [`rarity`] of a share.
    pub(super) fn shares(most: f64) -> Axis {
        const NAMES: [&str; 8] = ["0", "90 %", "99 %", "99.9 %", "99.99 %", "99.999 %", "99.9999 %", "99.99999 %"];
        let to = most.clamp(1.0, 7.0);
        let half = (rarity(0.5), "50 %".to_owned());
        let ticks = (0_u8..).zip(NAMES).map(|(nines, name)| (f64::from(nines), name.to_owned())).take_while(|(nines, _)| *nines <= to);
        Axis { scale: Scale::Even, from: 0.0, to, ticks: ticks.chain([half]).collect() }
    }

    /// Where `value` lies: 0 at one end, 1 at the other, and no farther.
    pub(super) fn place(&self, value: f64) -> f64 {
        let place = match self.scale {
            Scale::Even => (value - self.from) / (self.to - self.from),
            Scale::Logarithmic => (value.max(self.from) / self.from).log10() / (self.to / self.from).log10(),
        };
        place.clamp(0.0, 1.0)
    }
}

/// How rare it is to be beyond `share` of all: 1 for one in ten, 2 for one in a hundred.
pub(super) fn rarity(share: f64) -> f64 {
    -(1.0 - share).max(1e-9).log10()
}

/// A step of 1, 2 or 5 times a power of ten, no smaller than `least`.
fn step(least: f64) -> f64 {
    let power = 10_f64.powf(least.log10().floor());
    [1.0, 2.0, 5.0, 10.0].into_iter().map(|digit| digit * power).find(|step| *step >= least * 0.999).unwrap_or(power * 10.0)
}

/// A power of ten of microseconds.
fn power(micros: f64) -> String {
    match micros {
        _ if micros < 999.0 => format!("{micros:.0} µs"),
        _ if micros < 999_999.0 => format!("{:.0} ms", micros / 1e3),
        _ => format!("{:.0} s", micros / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(axis: &Axis) -> Vec<&str> {
        axis.ticks.iter().map(|(_, name)| name.as_str()).collect()
    }

    #[test]
    fn axes_name_round_values_and_reach_both_ends() {
        assert_eq!(names(&Axis::even(4_300.0, words::number)), ["0", "1,000", "2,000", "3,000", "4,000", "5,000"]);
        assert_eq!(names(&Axis::even(0.0, words::number)).len(), 2);
        assert_eq!(names(&Axis::latency(600.0, 40_000.0)), ["100 µs", "1 ms", "10 ms", "100 ms"]);
        assert_eq!(names(&Axis::time(-5.0, 60.0)), ["0 s", "20 s", "40 s", "1 min"]);
        assert_eq!(names(&Axis::bytes(150e6)), ["0.0 MiB", "50 MiB", "100 MiB", "150 MiB"]);
        assert_eq!(names(&Axis::shares(2.5)), ["0", "90 %", "99 %", "50 %"]);
    }

    #[test]
    fn values_lie_between_the_ends() {
        let axis = Axis::latency(1_000.0, 100_000.0);
        assert!((axis.place(10_000.0) - 0.5).abs() < 1e-9);
        assert_eq!((axis.place(1.0), axis.place(1e9), axis.place(0.0)), (0.0, 1.0, 0.0));
        assert!((rarity(0.99) - 2.0).abs() < 1e-9 && rarity(1.0) < 10.0);
        assert!((Axis::time(0.0, 10.0).place(5.0) - 0.5).abs() < 1e-9);
    }
}
