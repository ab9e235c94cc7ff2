//! `postrider trigger`: sends events through the API.

use std::io::Read as _;

use anyhow::{Context as _, anyhow};
use serde::Serialize;
use serde_json::{Value, json};

use super::demo::samples;
use crate::client::{BatchItem, BatchReceipt, Client, Receipt, Server, block_on};
use crate::failure::Failure;
use crate::output;

/// Most events that the server takes at once, and bytes that are sent at once: half of what it takes.
const BATCH: u32 = 1000;
const BATCH_BYTES: usize = 8 << 20;

/// What `trigger` takes.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The event's type, such as `order.created`.
    #[arg(value_name = "TYPE")]
    kind: String,
    /// The event's data: JSON, `@FILE`, or `-` for standard input. Left out: a sample of that type, or `{}`.
    #[arg(long, value_name = "JSON|@FILE|-", allow_hyphen_values = true)]
    data: Option<String>,
    /// Ordering key.
    #[arg(long)]
    key: Option<String>,
    /// How many events to send.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    count: u32,
    /// The event's id; a second event with it is the same event.
    #[arg(long, conflicts_with = "count")]
    id: Option<String>,
    /// A repeat with the same key and event within 24 h sends nothing.
    #[arg(long, conflicts_with = "count")]
    idempotency_key: Option<String>,
    /// Print the server's answers as JSON, one line for each event.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: Server,
}

/// An event as the API takes it.
#[derive(Serialize)]
struct Event<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    data: &'a Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
}

pub(crate) fn run(args: Args) -> Result<(), Failure> {
    let data = data(&args)?;
    let client = Client::new(&args.server)?;
    let event = Event { kind: &args.kind, data: &data, key: args.key.as_deref(), id: args.id.as_deref() };
    block_on(async {
        match args.count {
            1 => send_one(&client, &event, &args).await,
            count => send_many(&client, &event, count, args.json).await,
        }
    })
}

async fn send_one(client: &Client, event: &Event<'_>, args: &Args) -> Result<(), Failure> {
    let path = ["v1", "events"];
    let receipt: Receipt = match &args.idempotency_key {
        Some(key) => client.post_once(&path, event, key).await?,
        None => client.post(&path, event).await?,
    };
    if args.json { output::json(&receipt) } else { output::line(&receipt.id) }
}

async fn send_many(client: &Client, event: &Event<'_>, count: u32, json: bool) -> Result<(), Failure> {
    let bytes = serde_json::to_vec(event).context("the event can't be written")?.len();
    let most = u32::try_from(BATCH_BYTES / bytes).unwrap_or(BATCH).clamp(1, BATCH);
    let mut left = count;
    let mut rejected = 0;
    while left > 0 {
        let size = left.min(most);
        let batch: Vec<&Event<'_>> = (0..size).map(|_| event).collect();
        let receipt: BatchReceipt = client.post(&["v1", "events", "batch"], &batch).await?;
        for item in &receipt.results {
            show(item, json)?;
        }
        rejected += receipt.rejected;
        left -= size;
    }
    if rejected == 0 { Ok(()) } else { Err(anyhow!("{rejected} of {count} events were rejected").into()) }
}

fn show(item: &BatchItem, json: bool) -> Result<(), Failure> {
    if json {
        return output::json(item);
    }
    match (&item.id, &item.error) {
        (Some(id), _) => output::line(id),
        (None, error) => {
            let detail = error.as_ref().and_then(|problem| problem.get("detail")?.as_str()).unwrap_or("no reason is given");
            eprintln!("event {} was rejected: {detail}", item.index);
            Ok(())
        }
    }
}

/// The event's data as the command line gives it.
fn data(args: &Args) -> Result<Value, Failure> {
    match args.data.as_deref() {
        None => Ok(samples::data_of(&args.kind).unwrap_or_else(|| json!({}))),
        Some(given) => read_json("--data", given),
    }
}

/// What the value of `option` stands for: JSON as it is, that of `@FILE`, or of standard input for `-`.
pub(crate) fn read_json(option: &str, given: &str) -> Result<Value, Failure> {
    let (text, place) = match (given, given.strip_prefix('@')) {
        ("-", _) => {
            let mut text = String::new();
            std::io::stdin().lock().read_to_string(&mut text).context("standard input can't be read")?;
            (text, "standard input")
        }
        (_, Some(file)) => {
            let read = std::fs::read_to_string(file);
            (read.map_err(|error| Failure::Usage(format!("{option} @{file}: {error}")))?, file)
        }
        (text, None) => (text.to_owned(), option),
    };
    serde_json::from_str(&text).map_err(|error| Failure::Usage(format!("{place} is not JSON: {error}")))
}
