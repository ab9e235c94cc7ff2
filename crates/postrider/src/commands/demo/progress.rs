//! What the demo shows while it runs, on standard error.

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::board::{Board, Row};
use super::cast::Temper;

/// Between two lines where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(1);

/// Shows a board again and again.
pub(crate) enum Progress {
    /// One bar for each receiver.
    Bars(Vec<ProgressBar>),
    /// A line a second.
    Lines {
        /// When the next one is due.
        due: Instant,
    },
}

impl Progress {
    /// Bars where standard error is a terminal, lines elsewhere.
    pub(crate) fn start(board: &Board) -> Progress {
        if !std::io::stderr().is_terminal() {
            return Progress::Lines { due: Instant::now() + LINE_EVERY };
        }
        let all = MultiProgress::new();
        let bar = |row: &Row| {
            let colour = if row.temper == Temper::Dead { "red" } else { "green" };
            let template = format!("{{prefix:>8}}  {{bar:32.{colour}/black.bright}}  {{pos:>5}}/{{len:<5}}  {{msg}}");
            let style = ProgressStyle::with_template(&template).expect("the template is valid").progress_chars("━━─");
            all.add(ProgressBar::new(0).with_style(style).with_prefix(row.temper.name()))
        };
        Progress::Bars(board.rows.iter().map(bar).collect())
    }

    /// Shows how things stand.
    pub(crate) fn draw(&mut self, board: &Board) {
        match self {
            Progress::Bars(bars) => {
                for (bar, row) in bars.iter().zip(&board.rows) {
                    bar.set_length(row.expected as u64);
                    bar.set_position(finished(row) as u64);
                    bar.set_message(words(row));
                }
            }
            Progress::Lines { due } if *due <= Instant::now() => {
                *due += LINE_EVERY;
                eprintln!("{}", line(board));
            }
            Progress::Lines { .. } => {}
        }
    }

    /// Shows the end and leaves it standing.
    pub(crate) fn finish(self, board: &Board) {
        let mut last = self;
        last.draw(board);
        match last {
            Progress::Bars(bars) => bars.iter().for_each(ProgressBar::abandon),
            Progress::Lines { .. } => eprintln!("{}", line(board)),
        }
    }
}

/// Deliveries that have come to an end, whichever.
fn finished(row: &Row) -> usize {
    row.delivered() + row.dead_lettered
}

fn words(row: &Row) -> String {
    match row.temper {
        Temper::Healthy | Temper::Slow => latency(row),
        Temper::Flaky => format!("{}, {} retries", latency(row), row.retried),
        Temper::Dead => format!("{} retries, {} dead-lettered", row.retried, row.dead_lettered),
    }
}

fn latency(row: &Row) -> String {
    match (row.latency_ms(50.0), row.latency_ms(99.0)) {
        (Some(p50), Some(p99)) => format!("p50 {p50:.1} ms, p99 {p99:.1} ms"),
        (None, _) | (_, None) => "waiting".to_owned(),
    }
}

fn line(board: &Board) -> String {
    let part = |row: &Row| format!("{} {}/{} ({})", row.temper.name(), finished(row), row.expected, words(row));
    format!("sent {}: {}", board.sent(), board.rows.iter().map(part).collect::<Vec<_>>().join("; "))
}
