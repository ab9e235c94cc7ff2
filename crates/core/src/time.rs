//! Instants and spans in whole milliseconds, so that units can't be mixed.

use std::fmt;
use std::ops::{Add, Sub};

use serde::{Deserialize, Serialize};

/// An instant: milliseconds since the Unix epoch, never going backwards within a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Time(pub u64);

/// The length of a day; UTC has no other days here.
const DAY: u64 = 86_400_000;

/// A span of time in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Millis(pub u64);

impl Time {
    /// The span from `earlier` to this instant; zero when `earlier` is later.
    pub fn since(self, earlier: Time) -> Millis {
        Millis(self.0.saturating_sub(earlier.0))
    }

    /// The beginning of its month, in UTC.
    pub fn month(self) -> Time {
        let (days, (_, _, day)) = (self.0 / DAY, self.date());
        Time((days + 1 - day) * DAY)
    }

    /// The beginning of the month after its own, in UTC.
    pub fn next_month(self) -> Time {
        // No month has so many days, and none so few that this is the one after the next.
        Time(self.month().0 + 32 * DAY).month()
    }

    /// Year, month and day in UTC, the latter two from 1.
    fn date(self) -> (u64, u64, u64) {
        // Days to civil date, after Howard Hinnant's `civil_from_days` (public-domain algorithm).
        let z = self.0 / DAY + 719_468;
        let (era, doe) = (z / 146_097, z % 146_097);
        let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
        let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
        let mp = (5 * doy + 2) / 153;
        let day = doy - (153 * mp + 2) / 5 + 1;
        let month = if mp < 10 { mp + 3 } else { mp - 9 };
        (yoe + era * 400 + u64::from(month <= 2), month, day)
    }
}

impl Millis {
    /// A span of whole seconds.
    pub const fn from_secs(secs: u64) -> Millis {
        Millis(secs * 1000)
    }

    /// Multiplies by a fraction; used for jitter and shares.
    pub fn scaled(self, factor: f64) -> Millis {
        Millis((self.0 as f64 * factor) as u64)
    }
}

impl Add<Millis> for Time {
    type Output = Time;
    fn add(self, span: Millis) -> Time {
        Time(self.0.saturating_add(span.0))
    }
}

impl Sub<Millis> for Time {
    type Output = Time;
    fn sub(self, span: Millis) -> Time {
        Time(self.0.saturating_sub(span.0))
    }
}

impl Add for Millis {
    type Output = Millis;
    fn add(self, other: Millis) -> Millis {
        Millis(self.0.saturating_add(other.0))
    }
}

impl From<Millis> for std::time::Duration {
    fn from(span: Millis) -> Self {
        std::time::Duration::from_millis(span.0)
    }
}

impl fmt::Display for Time {
    /// RFC 3339 in UTC with milliseconds: `2026-11-22T12:00:00.000Z`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ((year, month, day), in_day) = (self.date(), self.0 % DAY);
        let (secs, ms) = (in_day / 1000, in_day % 1000);
        let (h, m, s) = (secs / 3600, secs / 60 % 60, secs % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{h:02}:{m:02}:{s:02}.{ms:03}Z")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_prints_as_rfc_3339() {
        assert_eq!(Time(0).to_string(), "1970-01-01T00:00:00.000Z");
        assert_eq!(Time(951_782_400_000).to_string(), "2000-02-29T00:00:00.000Z");
        assert_eq!(Time(1_795_348_800_123).to_string(), "2026-11-22T12:00:00.123Z");
    }

    #[test]
    fn a_month_begins_on_its_first_day() {
        let months = |at: u64| (Time(at).month().to_string(), Time(at).next_month().to_string());
        for (at, month, next) in [
            (0, "1970-01-01", "1970-02-01"),
            (951_782_400_000, "2000-02-01", "2000-03-01"),
            (951_868_799_999, "2000-02-01", "2000-03-01"),
            (951_868_800_000, "2000-03-01", "2000-04-01"),
            (1_795_348_800_123, "2026-11-01", "2026-12-01"),
            (1_798_761_599_999, "2026-12-01", "2027-01-01"),
        ] {
            assert_eq!(months(at), (format!("{month}T00:00:00.000Z"), format!("{next}T00:00:00.000Z")));
        }
    }
}
