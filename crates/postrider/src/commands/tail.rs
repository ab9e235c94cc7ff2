//! `postrider tail`: deliveries as they happen.

use std::time::Duration;

use anyhow::Context as _;
use postrider_core::pattern::Pattern;

use crate::client::{Attempted, Client, Feed, News, Server, block_on};
use crate::failure::Failure;
use crate::output::{self, Paint};

/// Wait before the first attempt to reconnect; doubles up to the longest.
const FIRST_WAIT: Duration = Duration::from_millis(250);
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// What `tail` takes.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Deliveries to this endpoint only.
    #[arg(long, value_name = "ID")]
    endpoint: Option<String>,
    /// Deliveries of this type only; `prefix.*` is taken too.
    #[arg(long = "type", value_name = "TYPE")]
    kind: Option<Pattern>,
    /// End after so many.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Print one JSON object per line.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: Server,
}

pub(crate) fn run(args: Args) -> Result<(), Failure> {
    let client = Client::new(&args.server)?;
    block_on(async {
        tokio::select! {
            ended = follow(&client, &args) => ended,
            stopped = tokio::signal::ctrl_c() => Ok(stopped.context("Ctrl-C can't be waited for")?),
        }
    })
}

async fn follow(client: &Client, args: &Args) -> Result<(), Failure> {
    let paint = Paint::for_stdout();
    let mut feed = open(client, args).await?;
    eprintln!("following deliveries; Ctrl-C ends");
    let mut shown = 0;
    while args.count.is_none_or(|count| shown < count) {
        match feed.next().await {
            Ok(News::Attempt(attempt)) if args.kind.as_ref().is_none_or(|kind| kind.matches(&attempt.kind)) => {
                if args.json {
                    output::json(&attempt)?;
                } else {
                    output::line(text(&attempt, paint))?;
                }
                shown += 1;
            }
            Ok(News::Attempt(_)) => {}
            Ok(News::Missed(missed)) => eprintln!("{missed} deliveries were left out: they come faster than they are read"),
            Err(reason) => {
                eprintln!("{reason:#}; connecting again");
                feed = reopen(client, args).await?;
            }
        }
    }
    Ok(())
}

async fn open(client: &Client, args: &Args) -> Result<Feed, Failure> {
    match &args.endpoint {
        Some(endpoint) => client.feed(&[("webhook", endpoint)]).await,
        None => client.feed(&[]).await,
    }
}

/// Waits until the server is back, however long that takes. Errors: it refuses.
async fn reopen(client: &Client, args: &Args) -> Result<Feed, Failure> {
    let mut wait = FIRST_WAIT;
    loop {
        tokio::time::sleep(wait).await;
        match open(client, args).await {
            Err(Failure::Unreachable { .. }) => wait = (wait * 2).min(LONGEST_WAIT),
            opened => return opened,
        }
    }
}

fn text(attempt: &Attempted, paint: Paint) -> String {
    let Attempted { status, kind, webhook_id, event_id, .. } = attempt;
    let status = format!("{status:<9}");
    let status = match attempt.status.as_str() {
        "succeeded" => paint.good(status),
        "pending" => paint.waiting(status),
        _ => paint.bad(status),
    };
    let at = attempt.started_at.as_deref().and_then(|at| at.split_once('T')).map_or("-", |(_, time)| time);
    let code = attempt.status_code.map_or_else(|| "---".to_owned(), |code| code.to_string());
    let took = attempt.duration_ms.map_or_else(String::new, |ms| format!("  {ms} ms"));
    let error = attempt.error.as_deref().map_or_else(String::new, |error| format!("  {}", paint.bad(error)));
    let next = attempt.next_attempt_at.as_deref().map_or_else(String::new, |next| paint.faint(format!("  next {next}")));
    format!("{at}  {status}  {code}  {kind:<24}  {webhook_id}  {event_id}  attempt {}{took}{error}{next}", attempt.attempt)
}
