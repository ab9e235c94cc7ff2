//! The demo from the first event to the last delivery.

use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use super::board::{Board, Row};
use super::cast::{Member, Temper};
use super::progress::Progress;
use super::samples::{self, Sample};
use super::summary::Summary;
use crate::client::{BatchReceipt, Client, News};
use crate::failure::Failure;
use crate::receiver::Arrival;

/// Longest the whole may take.
const DEADLINE: Duration = Duration::from_secs(50);
/// Longest wait for the dead receiver's deliveries to be given up, once everything else has arrived.
const PATIENCE: Duration = Duration::from_secs(15);
/// Between two looks at how things stand.
const LOOK: Duration = Duration::from_millis(100);
/// Batches on their way to the API at one time.
const POSTING: usize = 4;

/// What is sent, and how fast.
pub(crate) struct Play {
    events: std::vec::IntoIter<Sample>,
    /// Events of one batch.
    batch: usize,
    /// Between two batches.
    pause: Duration,
}

impl Play {
    /// Sends `count` of the samples, beginning again where they end.
    pub(crate) fn new(count: u32, fast: bool) -> Play {
        let samples = samples::all();
        // The dead receiver's events come once: ever more failures would rightly open its breaker, which spares it
        // attempts, and the dead letters would come minutes later.
        let again = samples.iter().filter(|sample| sample.kind != "usage.limit_exceeded").cycle();
        let events: Vec<Sample> = samples.iter().chain(again).take(count as usize).cloned().collect();
        let (batch, pause) = if fast { (100, Duration::from_millis(5)) } else { (3, Duration::from_millis(50)) };
        Play { events: events.into_iter(), batch, pause }
    }

    /// Sends everything and waits for it to arrive at `cast`.
    ///
    /// Errors: it did not in time, the server refused an event, or it is gone.
    pub(crate) async fn run(
        mut self,
        client: &Client,
        cast: &[Member],
        arrivals: &mut mpsc::Receiver<Arrival>,
    ) -> Result<Summary, Failure> {
        let dead = cast.iter().find(|member| member.temper == Temper::Dead).expect("the cast has a dead receiver");
        let mut feed = client.feed(&[("webhook", &dead.endpoint)]).await?;
        let mut board = Board::new(cast.iter().map(|member| Row::new(member.temper, member.port, member.events.clone())).collect());
        let mut progress = Progress::start(&board);
        let mut posting = JoinSet::new();
        let (mut pace, mut look) = (tokio::time::interval(self.pause), tokio::time::interval(LOOK));
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let started = Instant::now();
        let mut arrived = None;
        loop {
            tokio::select! {
                arrival = arrivals.recv() => board.arrive(&arrival.context("the receivers have stopped")?),
                news = feed.next() => match news? {
                    News::Attempt(attempt) => board.attempt(&attempt),
                    News::Missed(_) => {} // the dead letters may be counted too low; nothing else hangs on it
                },
                Some(posted) = posting.join_next() => posted.context("sending broke down")??,
                _ = pace.tick(), if self.events.len() > 0 && posting.len() < POSTING => {
                    let batch = self.batch(&mut board);
                    posting.spawn(post(client.clone(), batch));
                }
                _ = look.tick() => {
                    progress.draw(&board);
                    if started.elapsed() > DEADLINE {
                        progress.finish(&board);
                        return Err(too_late(&board));
                    }
                }
            }
            if arrived.is_none() && self.events.len() == 0 && posting.is_empty() && board.delivered() {
                arrived = Some(Instant::now());
            }
            if arrived.is_some_and(|at| board.given_up() || at.elapsed() > PATIENCE) {
                progress.finish(&board);
                return Ok(Summary::of(&board, started.elapsed()));
            }
        }
    }

    /// The next events, entered in the board.
    fn batch(&mut self, board: &mut Board) -> Vec<Sample> {
        let now = Instant::now();
        let numbered = |mut sample: Sample| {
            sample.correlation_id = Some(board.send(&sample.kind, now).text());
            sample
        };
        self.events.by_ref().take(self.batch).map(numbered).collect()
    }
}

async fn post(client: Client, batch: Vec<Sample>) -> Result<(), Failure> {
    let receipt: BatchReceipt = client.post(&["v1", "events", "batch"], &batch).await?;
    match receipt.results.iter().find_map(|result| result.error.as_ref()) {
        None => Ok(()),
        Some(error) => Err(anyhow!("{} of {} events were rejected: {error}", receipt.rejected, batch.len()).into()),
    }
}

fn too_late(board: &Board) -> Failure {
    let short = |row: &Row| format!("{} has {} of {}", row.temper.name(), row.delivered(), row.expected);
    let missing = board.rows.iter().filter(|row| row.temper != Temper::Dead && row.delivered() < row.expected);
    let missing: Vec<String> = missing.map(short).collect();
    anyhow!("not everything arrived within {} s: {}", DEADLINE.as_secs(), missing.join(", ")).into()
}
