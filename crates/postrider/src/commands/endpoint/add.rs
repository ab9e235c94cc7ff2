//! `postrider endpoint add`

use std::collections::BTreeMap;

use postrider_core::pattern::Pattern;
use serde::Serialize;

use crate::failure::Failure;

/// What `endpoint add` takes.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Where deliveries are POSTed to.
    url: String,
    /// The events it wants: types, `prefix.*` or `*`, separated by commas. Left out: all.
    #[arg(long, value_delimiter = ',', value_name = "PATTERN,…")]
    events: Vec<Pattern>,
    /// The signing secret; made by the server where left out.
    #[arg(long)]
    secret: Option<String>,
    /// A note for people.
    #[arg(long)]
    description: Option<String>,
    /// A header sent with each delivery; may be given several times.
    #[arg(long = "header", value_name = "NAME=VALUE")]
    headers: Vec<String>,
    /// Most attempts a second.
    #[arg(long, value_name = "N")]
    rate_limit: Option<u32>,
    /// Most attempts at one time.
    #[arg(long, value_name = "N")]
    max_in_flight: Option<u16>,
    /// Whether events of one key wait for each other.
    #[arg(long, value_enum)]
    ordering: Option<Ordering>,
    /// Time-out of a whole exchange, in seconds.
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<u32>,
}

#[derive(Clone, Copy, Serialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
enum Ordering {
    /// As they come.
    None,
    /// One after the other.
    Key,
}

/// An endpoint as the API takes it.
#[derive(Serialize)]
pub(crate) struct NewEndpoint {
    url: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    events: Vec<Pattern>,
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    headers: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rate_limit: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_in_flight: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ordering: Option<Ordering>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timeout: Option<u32>,
}

impl Args {
    /// What is posted. Errors: a header without a `=`.
    pub(crate) fn body(self) -> Result<NewEndpoint, Failure> {
        let Args { url, events, secret, description, headers, rate_limit, max_in_flight, ordering, timeout } = self;
        let header = |text: String| match text.split_once('=') {
            Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
            None => Err(Failure::Usage(format!("--header `{text}` must have the form NAME=VALUE"))),
        };
        let headers = headers.into_iter().map(header).collect::<Result<_, _>>()?;
        Ok(NewEndpoint { url, events, secret, description, headers, rate_limit, max_in_flight, ordering, timeout })
    }
}
