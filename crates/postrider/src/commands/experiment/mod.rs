//! `postrider experiment`: has a model make up personas as a file says, and follows it.

mod file;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::anyhow;
use clap::Subcommand;
use serde_json::{Value, json};

use super::job::{bar, fetch, find};
use crate::client::{Client, Job, JobReceipt, Server, block_on};
use crate::failure::Failure;
use crate::output;

/// Between two looks at an experiment that runs.
const LOOK: Duration = Duration::from_millis(500);

/// What `experiment` takes.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
    /// Print what happens as JSON, one line for each.
    #[arg(long, global = true)]
    json: bool,
    #[command(flatten)]
    server: Server,
}

#[derive(Subcommand)]
enum Action {
    /// Run an experiment and follow it to its end; exits with 1 unless it was completed.
    Run {
        /// A YAML file: name, model, count, prompt, fields, and whom to tell (webhooks).
        file: PathBuf,
        /// Fetch the personas into this file, one JSON object a line.
        #[arg(long, short, value_name = "FILE")]
        output: Option<PathBuf>,
    },
}

pub(crate) fn run(args: Args) -> Result<(), Failure> {
    let Args { action: Action::Run { file, output }, json, server } = args;
    let (job, count) = file::read(&file, |name| std::env::var(name).ok())?;
    let client = Client::new(&server)?;
    block_on(async {
        let receipt: JobReceipt = client.post(&["v1", "jobs"], &job).await?;
        let id = receipt.job_id.as_str();
        if json {
            output::json(&receipt)?;
        } else {
            output::line(format!("experiment {} is {id}", file.display()))?;
        }
        let job = follow(&client, id, count, json).await?;
        ended(&client, &job, output.as_deref(), json).await
    })
}

/// Follows an experiment to its end, with a line for each persona.
async fn follow(client: &Client, id: &str, count: u32, json: bool) -> Result<Job, Failure> {
    let bar = bar(u64::from(count), "{spinner} {msg} [{wide_bar}] {pos} of {len}");
    let mut shown = 0;
    loop {
        let job = find(client, id).await?;
        let is_over = !matches!(job.status.as_str(), "pending" | "processing");
        let made = if job.status == "completed" { count } else { made(job.progress, count) };
        for number in shown + 1..=made {
            // Between lines on a terminal the bar stands.
            bar.suspend(|| match json {
                true => output::json(&json!({ "job_id": id, "persona": number, "of": count })),
                false => output::line(format!("persona {number} of {count}")),
            })?;
        }
        shown = shown.max(made);
        bar.set_message(job.status.clone());
        bar.set_position(u64::from(shown));
        if is_over {
            bar.finish_and_clear();
            return Ok(job);
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// How many personas are there at that progress: of a job's thousandths the last one is for keeping the file.
fn made(progress: f64, count: u32) -> u32 {
    let permille = (progress.clamp(0.0, 1.0) * 1000.0).round() as u64;
    u32::try_from((permille * u64::from(count)).div_ceil(999)).unwrap_or(count).min(count)
}

async fn ended(client: &Client, job: &Job, to: Option<&Path>, json: bool) -> Result<(), Failure> {
    if json {
        output::json(job)?;
    }
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    if job.status != "completed" {
        let why = job.rest.get("error").and_then(|error| error.get("message")).map(text).unwrap_or_default();
        return Err(anyhow!("{} is {}{}{why}", job.job_id, job.status, if why.is_empty() { "" } else { ": " }).into());
    }
    if let (Some(result), false) = (job.rest.get("result").and_then(Value::as_object), json) {
        for (name, value) in result.iter().filter(|(_, value)| !value.is_null()) {
            output::line(format!("{:<18} {}", name.replace('_', " "), text(value)))?;
        }
    }
    match to {
        Some(to) => fetch(client, &job.job_id, Some(to), json).await,
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_personas_follows_from_the_progress() {
        for count in [1, 2, 3, 7, 10, 64, 999, 1000] {
            for done in 0..=count {
                let permille = u64::from(done) * 999 / u64::from(count);
                let found = made(permille as f64 / 1000.0, count);
                assert!(found == done || count == 1000 && found + 1 == done, "{done} of {count} gave {found}");
            }
        }
    }
}
