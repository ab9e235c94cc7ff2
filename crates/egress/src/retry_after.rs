//! The `Retry-After` header (RFC 9110 section 10.2.3).

use std::time::UNIX_EPOCH;

use postrider_core::time::{Millis, Time};

/// The wait that `value` asks for at `now`: whole seconds, or a date. A date that has passed is a wait of zero.
/// None where it is neither.
pub fn parse(value: &str, now: Time) -> Option<Millis> {
    let text = value.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than fit mean: as long as can be said.
        let secs: u64 = text.parse().unwrap_or(u64::MAX);
        return Some(Millis(secs.saturating_mul(1000)));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    let since_epoch = date.duration_since(UNIX_EPOCH).ok()?;
    Some(Time(u64::try_from(since_epoch.as_millis()).ok()?).since(now))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_and_all_three_forms_of_dates_are_read() {
        // Sun, 06 Nov 1994 08:49:37 GMT, the date of RFC 9110.
        let date = Time(784_111_777_000);
        for (text, now, wait) in [
            ("120", Time(0), Some(Millis(120_000))),
            (" 0 ", Time(0), Some(Millis(0))),
            ("99999999999999999999999", Time(0), Some(Millis(u64::MAX))),
            ("Sun, 06 Nov 1994 08:49:37 GMT", date - Millis(1500), Some(Millis(1500))),
            ("Sunday, 06-Nov-94 08:49:37 GMT", date - Millis(1500), Some(Millis(1500))),
            ("Sun Nov  6 08:49:37 1994", date - Millis(1500), Some(Millis(1500))),
            ("Sun, 06 Nov 1994 08:49:37 GMT", date + Millis(1), Some(Millis(0))),
            ("-1", Time(0), None),
            ("1.5", Time(0), None),
            ("soon", Time(0), None),
            ("", Time(0), None),
        ] {
            assert_eq!(parse(text, now), wait, "{text:?}");
        }
    }
}
