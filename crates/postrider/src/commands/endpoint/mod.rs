//! `postrider endpoint`: manages webhook endpoints.

mod add;
mod show;
mod test;

use std::io::{IsTerminal as _, Write as _};

use anyhow::{Context as _, anyhow};
use clap::Subcommand;
use serde_json::json;

use crate::client::{Client, Endpoint, Endpoints, RotatedSecret, Server, block_on};
use crate::failure::Failure;
use crate::output;

/// Endpoints of one page.
const PAGE: &str = "250";

/// What `endpoint` takes.
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
    /// Register an endpoint; prints its secret, which is not shown again by the other commands.
    Add(add::Args),
    /// List all endpoints.
    List,
    /// Show one endpoint.
    Show {
        /// The endpoint's id.
        id: String,
    },
    /// Send a sample, show both sides of the exchange, and judge what the receiver does.
    Test {
        /// The endpoint's id.
        id: String,
        /// The sample's event type.
        #[arg(long = "type", value_name = "TYPE")]
        kind: Option<String>,
    },
    /// Send deliveries again, beginning with those that wait.
    Enable {
        /// The endpoint's id.
        id: String,
    },
    /// Let deliveries wait.
    Disable {
        /// The endpoint's id.
        id: String,
    },
    /// Make a new secret; for a while deliveries are signed with both.
    RotateSecret {
        /// The endpoint's id.
        id: String,
    },
    /// Delete an endpoint and withdraw what waits for it.
    Delete {
        /// The endpoint's id.
        id: String,
        /// Don't ask.
        #[arg(long)]
        yes: bool,
    },
}

pub(crate) fn run(args: Args) -> Result<(), Failure> {
    let client = Client::new(&args.server)?;
    block_on(act(&client, args.action, args.json))
}

async fn act(client: &Client, action: Action, json: bool) -> Result<(), Failure> {
    match action {
        Action::Add(args) => {
            let endpoint: Endpoint = client.post(&["v1", "webhooks"], &args.body()?).await?;
            show::one(&endpoint, json)
        }
        Action::List => show::many(&all(client).await?, json),
        Action::Show { id } => {
            let endpoint: Endpoint = client.get(&["v1", "webhooks", &id], &[]).await?;
            show::one(&endpoint, json)
        }
        Action::Test { id, kind } => test::run(client, &id, kind.as_deref(), json).await,
        Action::Enable { id } => switch(client, &id, "enable", json).await,
        Action::Disable { id } => switch(client, &id, "disable", json).await,
        Action::RotateSecret { id } => rotate(client, &id, json).await,
        Action::Delete { id, yes } => {
            if !yes {
                confirm(&id)?;
            }
            client.delete(&["v1", "webhooks", &id]).await?;
            if json { output::json(&json!({ "id": id, "deleted": true })) } else { output::line(format!("{id} is deleted")) }
        }
    }
}

async fn all(client: &Client) -> Result<Vec<Endpoint>, Failure> {
    let mut endpoints = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let mut query = vec![("limit", PAGE)];
        query.extend(after.as_deref().map(|after| ("after", after)));
        let page: Endpoints = client.get(&["v1", "webhooks"], &query).await?;
        endpoints.extend(page.webhooks);
        after = page.next;
        if after.is_none() {
            return Ok(endpoints);
        }
    }
}

async fn switch(client: &Client, id: &str, verb: &str, json: bool) -> Result<(), Failure> {
    let endpoint: Endpoint = client.post(&["v1", "webhooks", id, verb], &json!({})).await?;
    if json { output::json(&endpoint) } else { output::line(format!("{id} is {}", endpoint.status)) }
}

async fn rotate(client: &Client, id: &str, json: bool) -> Result<(), Failure> {
    let rotated: RotatedSecret = client.post(&["v1", "webhooks", id, "rotate-secret"], &json!({})).await?;
    if json {
        return output::json(&rotated);
    }
    output::line(&rotated.secret)?;
    match rotated.previous_expires_at {
        Some(at) => output::line(format!("the former secret signs as well until {at}")),
        None => Ok(()),
    }
}

/// Asks whether `id` is to be deleted. Errors: no, or nobody is there to ask.
fn confirm(id: &str) -> Result<(), Failure> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::Usage("nobody can be asked here; confirm with --yes".to_owned()));
    }
    eprint!("delete {id} and withdraw what waits for it? [y/N] ");
    std::io::stderr().flush().context("the question can't be shown")?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).context("the answer can't be read")?;
    if matches!(answer.trim(), "y" | "Y" | "yes") { Ok(()) } else { Err(anyhow!("{id} is kept").into()) }
}
