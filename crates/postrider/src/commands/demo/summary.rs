//! What came of the demo.

use std::time::Duration;

use anyhow::anyhow;
use serde::Serialize;

use super::board::{Board, Row};
use super::cast::Temper;
use super::evaluation::Evaluation;
use crate::failure::Failure;
use crate::output::{self, Table};

/// The figures, for machines as they are.
#[derive(Serialize)]
pub(crate) struct Summary {
    /// Whether every delivery to the healthy receiver arrived, and every signature anywhere was right.
    ok: bool,
    /// Events handed to the API.
    sent: usize,
    /// From the first event to the last delivery.
    seconds: f64,
    receivers: Vec<Line>,
    /// Of a job that ran meanwhile.
    evaluation: Option<Evaluation>,
}

#[derive(Serialize)]
struct Line {
    receiver: &'static str,
    deliveries: usize,
    delivered: usize,
    retried: usize,
    dead_lettered: usize,
    signatures_verified: usize,
    signatures_wrong: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    wrong_because: Option<String>,
    latency_p50_ms: Option<f64>,
    latency_p99_ms: Option<f64>,
}

impl Summary {
    /// Sums `board` up after `took`.
    pub(crate) fn of(board: &Board, took: Duration) -> Summary {
        let right = |row: &Row| row.invalid == 0 && (row.temper != Temper::Healthy || row.delivered() == row.expected);
        Summary {
            ok: board.rows.iter().all(right),
            sent: board.sent(),
            seconds: took.as_secs_f64(),
            receivers: board.rows.iter().map(Line::of).collect(),
            evaluation: None,
        }
    }

    /// The same with a job that ran meanwhile.
    pub(crate) fn with(self, evaluation: Evaluation) -> Summary {
        Summary { evaluation: Some(evaluation), ..self }
    }

    /// Prints it.
    pub(crate) fn print(&self, json: bool) -> Result<(), Failure> {
        if json {
            return output::json(self);
        }
        let mut table = Table::new(["RECEIVER", "DELIVERIES", "DELIVERED", "RETRIED", "DEAD-LETTERED", "VERIFIED", "P50", "P99"]);
        for line in &self.receivers {
            table.row(line.cells());
        }
        let sum = |of: fn(&Line) -> usize| self.receivers.iter().map(of).sum::<usize>();
        output::line(format!("\n{table}\n"))?;
        if let Some(evaluation) = &self.evaluation {
            output::line(evaluation.line())?;
        }
        output::line(format!(
            "{} events sent in {:.1} s: {} delivered, {} retried, {} dead-lettered, {} signatures verified, {} wrong",
            self.sent,
            self.seconds,
            sum(|line| line.delivered),
            sum(|line| line.retried),
            sum(|line| line.dead_lettered),
            sum(|line| line.signatures_verified),
            sum(|line| line.signatures_wrong),
        ))
    }

    /// Errors: something that must arrive and be verified was not.
    pub(crate) fn verdict(&self) -> Result<(), Failure> {
        if self.ok {
            return Ok(());
        }
        let wrong = self.receivers.iter().find_map(|line| line.wrong_because.as_ref().map(|reason| (line.receiver, reason)));
        match wrong {
            Some((receiver, reason)) => Err(anyhow!("the {receiver} receiver got a wrong signature: {reason}").into()),
            None => Err(anyhow!("not every delivery to the healthy receiver arrived").into()),
        }
    }
}

impl Line {
    fn of(row: &Row) -> Line {
        Line {
            receiver: row.temper.name(),
            deliveries: row.expected,
            delivered: row.delivered(),
            retried: row.retried,
            dead_lettered: row.dead_lettered,
            signatures_verified: row.verified,
            signatures_wrong: row.invalid,
            wrong_because: row.reason.clone(),
            latency_p50_ms: row.latency_ms(50.0),
            latency_p99_ms: row.latency_ms(99.0),
        }
    }

    fn cells(&self) -> [String; 8] {
        let ms = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |ms| format!("{ms:.1} ms"));
        [
            self.receiver.to_owned(),
            self.deliveries.to_string(),
            self.delivered.to_string(),
            self.retried.to_string(),
            self.dead_lettered.to_string(),
            self.signatures_verified.to_string(),
            ms(self.latency_p50_ms),
            ms(self.latency_p99_ms),
        ]
    }
}
