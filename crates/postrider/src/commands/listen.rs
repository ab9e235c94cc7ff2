//! `postrider listen`: a receiver for a developer's machine.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use hyper::StatusCode;
use postrider_core::secret::Secret;
use serde::Serialize;
use serde_json::Value;
use tokio::sync::mpsc;

use crate::client::block_on;
use crate::failure::Failure;
use crate::output::{self, Paint};
use crate::receiver::{Arrival, Behaviour, Failing, Receiver, Signature};

/// Arrivals that wait to be printed; further ones wait to be answered.
const WAITING: usize = 64;

/// What `listen` takes.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Port to listen on; 0 takes a free one.
    #[arg(long, default_value_t = 4000)]
    port: u16,
    /// Address to listen on.
    #[arg(long, default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    host: IpAddr,
    /// Verify signatures with this secret; requests that fail are answered 401.
    #[arg(long)]
    secret: Option<String>,
    /// End after so many deliveries were answered 2xx: with 0, or with 1 if any signature was wrong.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Answer the first so many requests with 500.
    #[arg(long, value_name = "K", default_value_t = 0)]
    fail_first: u64,
    /// Wait so many milliseconds before each answer.
    #[arg(long, value_name = "MS", default_value_t = 0, value_parser = clap::value_parser!(u64).range(..=600_000))]
    delay: u64,
    /// Answer with this status.
    #[arg(long, value_name = "CODE", default_value_t = 200, value_parser = clap::value_parser!(u16).range(200..=599))]
    status: u16,
    /// Print one JSON object per delivery, and nothing else on standard output.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: Args) -> Result<(), Failure> {
    block_on(listen(args))
}

async fn listen(args: Args) -> Result<(), Failure> {
    let behaviour = Behaviour {
        secret: args.secret.map(Secret::new),
        delay: Duration::from_millis(args.delay),
        status: StatusCode::from_u16(args.status).expect("the command line allows statuses only"),
        failing: if args.fail_first == 0 { Failing::Never } else { Failing::First(args.fail_first) },
    };
    let address = SocketAddr::new(args.host, args.port);
    let (sender, mut arrivals) = mpsc::channel(WAITING);
    let started = Receiver::start(address, behaviour, sender).await;
    let receiver = started.with_context(|| format!("can't listen on {address}; choose another --port"))?;
    let format = if args.json { Format::Json } else { Format::Text(Paint::for_stdout()) };
    format.greet(receiver.address())?;
    let mut tally = Tally::default();
    loop {
        tokio::select! {
            arrival = arrivals.recv() => {
                let arrival = arrival.context("the receiver has stopped")?;
                tally.count(&arrival);
                format.print(&arrival)?;
            }
            stopped = tokio::signal::ctrl_c() => {
                stopped.context("Ctrl-C can't be waited for")?;
                arrivals.close();
                receiver.stop().await;
                return Ok(());
            }
        }
        if args.count.is_some_and(|count| tally.answered >= count) {
            break;
        }
    }
    arrivals.close(); // what comes now is answered 503, and is not taken without being shown
    receiver.stop().await;
    match tally.invalid {
        0 => Ok(()),
        invalid => Err(anyhow!("{invalid} of {} requests had a wrong signature", tally.requests).into()),
    }
}

/// What arrived so far.
#[derive(Default)]
struct Tally {
    requests: u64,
    answered: u64,
    invalid: u64,
}

impl Tally {
    fn count(&mut self, arrival: &Arrival) {
        self.requests += 1;
        self.answered += u64::from(arrival.status.is_success());
        self.invalid += u64::from(matches!(arrival.signature, Signature::Invalid(_)));
    }
}

/// How deliveries are shown.
enum Format {
    Text(Paint),
    Json,
}

#[derive(Serialize)]
struct Shown<'a> {
    id: &'a str,
    #[serde(rename = "type")]
    kind: &'a str,
    attempt: u32,
    signature: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    status: u16,
    body: Value,
    received_at: String,
    headers: BTreeMap<&'a str, String>,
}

impl Format {
    fn greet(&self, address: SocketAddr) -> Result<(), Failure> {
        let words = format!("listening on http://{address}");
        match self {
            Format::Text(_) => output::line(words),
            Format::Json => {
                eprintln!("{words}");
                Ok(())
            }
        }
    }

    fn print(&self, arrival: &Arrival) -> Result<(), Failure> {
        match self {
            Format::Text(paint) => output::line(text(arrival, *paint)),
            Format::Json => output::json(&Shown::of(arrival)),
        }
    }
}

fn text(arrival: &Arrival, paint: Paint) -> String {
    let signature = match &arrival.signature {
        Signature::Valid => paint.good("signature ok"),
        Signature::Invalid(reason) => paint.bad(format!("signature BAD ({reason})")),
        Signature::Unchecked => paint.faint("signature unchecked"),
    };
    let status = arrival.status.as_u16();
    let status = if arrival.status.is_success() { paint.good(status) } else { paint.bad(status) };
    let (at, kind, id) = (arrival.received_at.to_string(), arrival.kind(), arrival.id());
    format!("{}  {kind:<24}  {id}  attempt {}  {signature}  {} B  -> {status}", &at[11..], arrival.attempt(), arrival.body.len())
}

impl<'a> Shown<'a> {
    fn of(arrival: &'a Arrival) -> Shown<'a> {
        let (signature, reason) = match &arrival.signature {
            Signature::Valid => ("valid", None),
            Signature::Invalid(reason) => ("invalid", Some(reason.as_str())),
            Signature::Unchecked => ("unchecked", None),
        };
        let header = |(name, value): (&'a hyper::header::HeaderName, &hyper::header::HeaderValue)| {
            (name.as_str(), String::from_utf8_lossy(value.as_bytes()).into_owned())
        };
        Shown {
            id: arrival.id(),
            kind: arrival.kind(),
            attempt: arrival.attempt(),
            signature,
            reason,
            status: arrival.status.as_u16(),
            body: serde_json::from_slice(&arrival.body).unwrap_or_else(|_| String::from_utf8_lossy(&arrival.body).into()),
            received_at: arrival.received_at.to_string(),
            headers: arrival.headers.iter().map(header).collect(),
        }
    }
}
