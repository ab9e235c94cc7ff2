//! What is shown while a run goes on: one line that is written over on a terminal, else a line now and then.

use std::io::{IsTerminal as _, Write as _, stderr};
use std::time::Duration;

use crate::course::Interval;

/// How often there is a line where lines are kept.
const KEPT: Duration = Duration::from_secs(10);
/// Characters of the bar.
const BAR: usize = 20;

/// Shows how far a run is.
pub(crate) struct Progress {
    target: Target,
    /// Seconds from the run's beginning to the end of its measured window, where that is known.
    length: Option<f64>,
    next: f64,
}

/// Where it is shown.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Target {
    /// Somebody looks at it now.
    Terminal,
    /// Somebody may read it later.
    Log,
}

impl Progress {
    /// Shows on standard error how a run goes on, of `length` until the end of its measured window, where that is known.
    pub(crate) fn new(length: Option<Duration>) -> Progress {
        let target = if stderr().is_terminal() { Target::Terminal } else { Target::Log };
        Progress { target, length: length.map(|length| length.as_secs_f64()), next: KEPT.as_secs_f64() }
    }

    /// An interval has ended.
    pub(crate) fn show(&mut self, interval: &Interval) {
        let (bar, line) = (bar(interval.at_s, self.length), line(interval, self.length));
        match self.target {
            // Nobody can be told when standard error is gone, and the run is worth more than its progress.
            Target::Terminal => drop(write!(stderr(), "\r\x1b[K{bar} {line}")),
            Target::Log if interval.at_s >= self.next => {
                self.next = interval.at_s + KEPT.as_secs_f64();
                drop(writeln!(stderr(), "{line}"));
            }
            Target::Log => {}
        }
    }

    /// Nothing more is shown.
    pub(crate) fn finish(&self) {
        if self.target == Target::Terminal {
            drop(write!(stderr(), "\r\x1b[K"));
        }
    }
}

/// How much of the run is behind it; full while it drains, empty where nobody knows.
fn bar(at: f64, length: Option<f64>) -> String {
    let share = length.map_or(0.0, |length| (at / length).clamp(0.0, 1.0));
    let full = (share * BAR as f64) as usize;
    "█".repeat(full) + &"░".repeat(BAR - full)
}

fn line(interval: &Interval, length: Option<f64>) -> String {
    let when = match length {
        Some(length) if interval.at_s < length => format!("{:>4.0}/{length:.0} s", interval.at_s),
        Some(length) => format!("draining, {:.0} s", interval.at_s - length),
        None => format!("{:>4.0} s", interval.at_s),
    };
    let ms = |micros: u64| micros as f64 / 1e3;
    let latency = interval.latency_us.map(|latency| format!("  p50 {:.1} ms  p99 {:.1} ms", ms(latency.p50), ms(latency.p99)));
    let Interval { sent_per_s, accepted_per_s, delivered_per_s, waiting, outstanding, .. } = interval;
    let rates = format!("sent {sent_per_s:.0}/s  accepted {accepted_per_s:.0}  delivered {delivered_per_s:.0}");
    format!("{when}  {rates}  waiting {waiting}  outstanding {outstanding}{}", latency.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::course::Quantiles;

    #[test]
    fn a_line_says_how_far_the_run_is_and_how_it_goes() {
        let interval = Interval {
            at_s: 15.0,
            length_s: 1.0,
            sent_per_s: 1000.0,
            accepted_per_s: 999.0,
            delivered_per_s: 998.0,
            waiting: 1,
            outstanding: 2,
            latency_us: Some(Quantiles { p50: 1_500, p99: 9_000, max: 10_000 }),
            server_cores: None,
            loadtest_cores: 0.5,
            busy_cores: None,
            stolen_cores: None,
            rss_bytes: None,
            open_files: None,
            disk_bytes: None,
        };
        assert_eq!((bar(15.0, Some(60.0)).as_str(), bar(70.0, Some(60.0))), ("█████░░░░░░░░░░░░░░░", "█".repeat(20)));
        let expected = "  15/60 s  sent 1000/s  accepted 999  delivered 998  waiting 1  outstanding 2  p50 1.5 ms  p99 9.0 ms";
        assert_eq!(line(&interval, Some(60.0)), expected);
        assert!(line(&interval, Some(10.0)).starts_with("draining, 5 s  sent"));
        assert!(line(&Interval { latency_us: None, ..interval }, None).ends_with("outstanding 2"));
    }
}
