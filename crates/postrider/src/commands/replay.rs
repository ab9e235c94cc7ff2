//! `postrider replay`: delivers again what an endpoint missed.

use std::io::IsTerminal as _;
use std::str::FromStr;
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use postrider_core::time::{Millis, Time};
use serde::Serialize;
use serde_json::json;

use crate::client::{Client, Replayed, Server, block_on};
use crate::failure::Failure;
use crate::output;
use crate::receiver::now;

/// Deliveries of one request.
const PAGE: u32 = 250;

/// What `replay` takes.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The endpoint.
    #[arg(long, value_name = "ID")]
    endpoint: String,
    /// Events accepted at or after this instant: RFC 3339, or how long ago, such as `30m`, `2h`, `7d`.
    #[arg(long, value_name = "T")]
    since: Moment,
    /// Events accepted before this instant; all until now where left out.
    #[arg(long, value_name = "T")]
    until: Option<Moment>,
    /// Which deliveries.
    #[arg(long, value_enum, default_value_t = Which::Failed)]
    status: Which,
    /// Print the count as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: Server,
}

/// Which deliveries are made again.
#[derive(Clone, Copy, Debug, Serialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
enum Which {
    /// Those that were given up.
    Failed,
    /// All of them.
    All,
}

/// An instant as a person names it.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Moment {
    At(DateTime<Utc>),
    Ago(Millis),
}

/// A page of a replay as the API takes it.
#[derive(Serialize)]
struct Page<'a> {
    since: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<&'a str>,
    status: Which,
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<&'a str>,
    limit: u32,
}

pub(crate) fn run(args: Args) -> Result<(), Failure> {
    let client = Client::new(&args.server)?;
    block_on(replay(&client, &args))
}

async fn replay(client: &Client, args: &Args) -> Result<(), Failure> {
    let now = now();
    let (since, until) = (args.since.rfc_3339(now), args.until.as_ref().map(|until| until.rfc_3339(now)));
    let progress = progress();
    let mut total = 0;
    let mut after: Option<String> = None;
    loop {
        let page = Page { since: &since, until: until.as_deref(), status: args.status, after: after.as_deref(), limit: PAGE };
        let answer: Replayed = client.post(&["v1", "webhooks", &args.endpoint, "replay"], &page).await?;
        total += answer.replayed;
        progress.set_position(total);
        after = answer.next;
        if after.is_none() {
            break;
        }
    }
    progress.finish_and_clear();
    match total {
        _ if args.json => output::json(&json!({ "replayed": total })),
        1 => output::line("1 delivery is made again"),
        total => output::line(format!("{total} deliveries are made again")),
    }
}

fn progress() -> ProgressBar {
    let target = if std::io::stderr().is_terminal() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let style = ProgressStyle::with_template("{spinner} {pos} deliveries queued, {per_sec}").expect("the template is valid");
    let progress = ProgressBar::with_draw_target(None, target).with_style(style);
    progress.enable_steady_tick(Duration::from_millis(100));
    progress
}

impl Moment {
    fn rfc_3339(&self, now: Time) -> String {
        match self {
            Moment::At(at) => at.to_rfc3339_opts(SecondsFormat::AutoSi, true),
            Moment::Ago(span) => (now - *span).to_string(),
        }
    }
}

impl FromStr for Moment {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Moment, &'static str> {
        const FORMS: &str = "must be RFC 3339, such as 2026-01-31T12:00:00Z, or how long ago: 45s, 30m, 2h, 7d";
        if let Ok(at) = DateTime::parse_from_rfc3339(text) {
            return Ok(Moment::At(at.with_timezone(&Utc)));
        }
        let unit = text.chars().next_back().ok_or(FORMS)?;
        let secs: u64 = match unit {
            's' => 1,
            'm' => 60,
            'h' => 3600,
            'd' => 86_400,
            _ => return Err(FORMS),
        };
        let count: u64 = text[..text.len() - 1].parse().map_err(|_| FORMS)?;
        count.checked_mul(secs * 1000).map(|span| Moment::Ago(Millis(span))).ok_or(FORMS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_are_given_absolutely_or_looking_back() {
        let now = Time(1_795_348_800_000);
        let shown = |text: &str| text.parse::<Moment>().map(|moment| moment.rfc_3339(now));
        assert_eq!(shown("2h").unwrap(), "2026-11-22T10:00:00.000Z");
        assert_eq!(shown("7d").unwrap(), "2026-11-15T12:00:00.000Z");
        assert_eq!(shown("2026-11-22T13:00:00+01:00").unwrap(), "2026-11-22T12:00:00Z");
        for wrong in ["", "h", "-2h", "2 h", "yesterday", "2026-11-22", "99999999999999999999d", "9999999999999999999d", "2é"] {
            assert!(wrong.parse::<Moment>().is_err(), "{wrong}");
        }
    }
}
