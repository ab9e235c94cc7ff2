//! Quantities as people read them.

/// Microseconds as milliseconds or seconds, with three digits or so.
pub(super) fn latency(micros: f64) -> String {
    match micros / 1e3 {
        ms if ms < 10.0 => format!("{ms:.2} ms"),
        ms if ms < 100.0 => format!("{ms:.1} ms"),
        ms if ms < 1_000.0 => format!("{ms:.0} ms"),
        ms => format!("{:.1} s", ms / 1e3),
    }
}

/// Bytes as MiB or GiB.
pub(super) fn bytes(bytes: f64) -> String {
    match bytes / f64::from(1 << 20) {
        mib if mib.abs() < 10.0 => format!("{mib:.1} MiB"),
        mib if mib.abs() < 10_240.0 => format!("{mib:.0} MiB"),
        mib => format!("{:.1} GiB", mib / 1024.0),
    }
}

/// Seconds as seconds, minutes or hours, whichever leaves nothing over.
pub(super) fn span(seconds: f64) -> String {
    match seconds.abs() as u64 {
        whole if whole >= 3600 && whole.is_multiple_of(3600) => format!("{:.0} h", seconds / 3600.0),
        whole if whole >= 60 && whole.is_multiple_of(60) => format!("{:.0} min", seconds / 60.0),
        _ => format!("{} s", (seconds * 10.0).round() / 10.0),
    }
}

/// A number without decimals, in groups of three digits.
pub(super) fn grouped(number: f64) -> String {
    let digits = format!("{:.0}", number.abs());
    let sign = if number <= -0.5 { "−" } else { "" };
    let groups = digits.as_bytes().rchunks(3).rev().map(|group| group.iter().copied().map(char::from).collect::<String>());
    format!("{sign}{}", groups.collect::<Vec<_>>().join(","))
}

/// A number that may be small.
pub(super) fn number(number: f64) -> String {
    if number.abs() >= 100.0 || number.fract() == 0.0 { grouped(number) } else { format!("{number:.1}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_have_the_unit_that_fits() {
        assert_eq!([2_130.0, 21_300.0, 213_000.0, 2_130_000.0].map(latency), ["2.13 ms", "21.3 ms", "213 ms", "2.1 s"]);
        assert_eq!([1e6, 200e6, 2e10].map(bytes), ["1.0 MiB", "191 MiB", "18.6 GiB"]);
        assert_eq!([30.0, 90.0, 120.0, -10.0, 7200.0, 2.5].map(span), ["30 s", "90 s", "2 min", "-10 s", "2 h", "2.5 s"]);
        assert_eq!([0.0, 999.4, 1000.0, 1_234_567.0, -1000.0].map(grouped), ["0", "999", "1,000", "1,234,567", "−1,000"]);
        assert_eq!([0.25, 4.0, 1234.5].map(number), ["0.2", "4", "1,234"]);
    }
}
