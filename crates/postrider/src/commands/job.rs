//! `postrider job`: submits jobs, follows them, fetches what they made.

use std::fs::{self, File};
use std::io::{self, IsTerminal as _, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use clap::Subcommand;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use serde_json::Value;

use super::trigger::read_json;
use crate::client::{Client, Job, JobReceipt, Jobs, Server, block_on};
use crate::failure::Failure;
use crate::output::{self, Table};

/// Between two looks at a job that is waited for.
const LOOK: Duration = Duration::from_millis(250);

/// What `job` takes.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
    /// Print the server's answer as JSON.
    #[arg(long, global = true)]
    json: bool,
    #[command(flatten)]
    server: Server,
}

#[derive(Subcommand)]
enum Action {
    /// Submit a job; prints its id.
    Submit(Submit),
    /// Show one job.
    Show {
        /// The job's id.
        id: String,
        /// Wait until it has ended; exits with 1 unless it was completed.
        #[arg(long)]
        wait: bool,
    },
    /// List jobs, newest first.
    List {
        /// In this state only: pending, processing, completed, failed or canceled.
        #[arg(long)]
        status: Option<String>,
        /// Of this kind only.
        #[arg(long)]
        kind: Option<String>,
        /// Most jobs to list.
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=250))]
        limit: u32,
    },
    /// Withdraw a job that has not ended.
    Cancel {
        /// The job's id.
        id: String,
    },
    /// Fetch what a job made: its file, or else its result.
    Download {
        /// The job's id.
        id: String,
        /// Where to; `-` for standard output. By default the job's id, with the ending of what it is.
        #[arg(long, short, value_name = "FILE")]
        output: Option<PathBuf>,
    },
}

/// What `job submit` takes.
#[derive(clap::Args)]
struct Submit {
    /// What sort of work: evaluate, tts, generate, experiment, batch, http, or a kind that the server's setting jobs.outside names.
    kind: String,
    /// What it is to be done with: JSON, `@FILE`, or `-` for standard input.
    #[arg(long, value_name = "JSON|@FILE|-", allow_hyphen_values = true)]
    input: String,
    /// A URL that is called when it ends; may be given more than once.
    #[arg(long, value_name = "URL")]
    webhook_url: Vec<String>,
    /// From 0 to 9; higher ones go first.
    #[arg(long)]
    priority: Option<u8>,
    /// A repeat with the same key and job within 24 h submits nothing.
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    /// Wait until it has ended, and show it; exits with 1 unless it was completed.
    #[arg(long)]
    wait: bool,
}

/// A job as the API takes it.
#[derive(Serialize)]
struct Submission<'a> {
    kind: &'a str,
    input: &'a Value,
    webhook_urls: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    priority: Option<u8>,
}

pub(crate) fn run(args: Args) -> Result<(), Failure> {
    let client = Client::new(&args.server)?;
    let json = args.json;
    block_on(async {
        match args.action {
            Action::Submit(submit) => submit_one(&client, &submit, json).await,
            Action::Show { id, wait: true } => wait_for(&client, &id, json).await,
            Action::Show { id, wait: false } => show(&find(&client, &id).await?, json),
            Action::List { status, kind, limit } => list(&client, status.as_deref(), kind.as_deref(), limit, json).await,
            Action::Cancel { id } => {
                let canceled: JobReceipt = client.delete_for(&["v1", "jobs", &id]).await?;
                if json { output::json(&canceled) } else { output::line(format!("{} is {}", canceled.job_id, canceled.status)) }
            }
            Action::Download { id, output } => fetch(&client, &id, output.as_deref(), json).await,
        }
    })
}

async fn submit_one(client: &Client, submit: &Submit, json: bool) -> Result<(), Failure> {
    let input = read_json("--input", &submit.input)?;
    let Submit { kind, webhook_url, priority, .. } = submit;
    let job = Submission { kind, input: &input, webhook_urls: webhook_url, priority: *priority };
    let path = ["v1", "jobs"];
    let receipt: JobReceipt = match &submit.idempotency_key {
        Some(key) => client.post_once(&path, &job, key).await?,
        None => client.post(&path, &job).await?,
    };
    match submit.wait {
        true => wait_for(client, &receipt.job_id, json).await,
        false if json => output::json(&receipt),
        false => output::line(&receipt.job_id),
    }
}

/// A job as it stands.
pub(super) async fn find(client: &Client, id: &str) -> Result<Job, Failure> {
    client.get(&["v1", "jobs", id], &[]).await
}

/// Follows a job to its end, which it shows.
async fn wait_for(client: &Client, id: &str, json: bool) -> Result<(), Failure> {
    let bar = bar(1000, "{spinner} {msg} [{wide_bar}] {percent}%");
    let job = loop {
        let job = find(client, id).await?;
        bar.set_message(job.status.clone());
        bar.set_position((job.progress.clamp(0.0, 1.0) * 1000.0) as u64);
        match job.status.as_str() {
            "pending" | "processing" => tokio::time::sleep(LOOK).await,
            _ended => break job,
        }
    };
    bar.finish_and_clear();
    show(&job, json)?;
    match job.status.as_str() {
        "completed" => Ok(()),
        status => Err(anyhow!("{id} is {status}").into()),
    }
}

fn show(job: &Job, json: bool) -> Result<(), Failure> {
    if json {
        return output::json(job);
    }
    let mut table = Table::new(["JOB", job.job_id.as_str()]);
    let mut row = |name: &str, value: String| table.row([name.to_owned(), value]);
    row("kind", job.kind.clone());
    row("status", job.status.clone());
    row("progress", format!("{:.0} %", job.progress * 100.0));
    row("created", job.created_at.clone());
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    for name in ["started_at", "completed_at", "audio_url", "file_url", "result_url", "error", "webhook_delivery"] {
        if let Some(value) = job.rest.get(name).filter(|value| !value.is_null()) {
            row(name.trim_end_matches("_at"), text(value));
        }
    }
    output::line(table)?;
    match job.rest.get("result") {
        // Of an evaluation what counts for all pairs; the rest is a matter for --json and download.
        Some(result) => output::line(serde_json::to_string_pretty(result.get("corpus").unwrap_or(result)).context("it can't be shown")?),
        None => Ok(()),
    }
}

async fn list(client: &Client, status: Option<&str>, kind: Option<&str>, limit: u32, json: bool) -> Result<(), Failure> {
    let limit = limit.to_string();
    let mut query = vec![("limit", limit.as_str())];
    query.extend(status.map(|status| ("status", status)));
    query.extend(kind.map(|kind| ("kind", kind)));
    let found: Jobs = client.get(&["v1", "jobs"], &query).await?;
    if json {
        return output::json(&found);
    }
    let mut table = Table::new(["JOB", "KIND", "STATUS", "PROGRESS", "CREATED"]);
    for job in found.jobs {
        table.row([job.job_id, job.kind, job.status, format!("{:.0} %", job.progress * 100.0), job.created_at]);
    }
    output::line(table)
}

/// Fetches what a job made into a file.
pub(super) async fn fetch(client: &Client, id: &str, to: Option<&Path>, json: bool) -> Result<(), Failure> {
    let mut response = client.open(&["v1", "download", id]).await?;
    let ending = match response.headers().get("content-type").and_then(|given| given.to_str().ok()) {
        Some("application/json") => "json",
        Some("audio/wav") => "wav",
        Some("audio/ogg") => "ogg",
        Some("application/x-ndjson") => "ndjson",
        Some(_) | None => "bin",
    };
    let to = to.map_or_else(|| PathBuf::from(format!("{id}.{ending}")), Path::to_owned);
    let bar = bar(response.content_length().unwrap_or_default(), "{spinner} {bytes} of {total_bytes} [{wide_bar}] {bytes_per_sec}");
    if to.as_os_str() == "-" {
        let mut out = io::stdout().lock();
        while let Some(piece) = client.next(&mut response).await? {
            out.write_all(&piece).context("standard output can't be written")?;
        }
        out.flush().context("standard output can't be written")?;
        return Ok(());
    }
    // Under another name until it is whole.
    let part = to.with_added_extension("part");
    let unwritten = || format!("{} can't be written", part.display());
    let mut file = File::create(&part).with_context(unwritten)?;
    while let Some(piece) = client.next(&mut response).await? {
        file.write_all(&piece).with_context(unwritten)?;
        bar.inc(piece.len() as u64);
    }
    file.sync_all().with_context(unwritten)?;
    fs::rename(&part, &to).with_context(unwritten)?;
    bar.finish_and_clear();
    let path = to.display().to_string();
    if json { output::json(&serde_json::json!({ "file": path })) } else { output::line(path) }
}

/// A bar on standard error, where somebody sees it.
pub(super) fn bar(length: u64, template: &str) -> ProgressBar {
    let target = if io::stderr().is_terminal() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let style = ProgressStyle::with_template(template).expect("the template is valid");
    let bar = ProgressBar::with_draw_target(Some(length), target).with_style(style);
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}
