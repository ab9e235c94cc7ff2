//! `postrider demo`: a server, receivers of all tempers, real input, a summary.

mod board;
mod cast;
mod evaluation;
mod play;
mod progress;
pub(crate) mod samples;
mod summary;

use std::pin::pin;
use std::thread;

use anyhow::{Context as _, anyhow};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::client::{Client, Server, block_on};
use crate::config::Config;
use crate::failure::Failure;
use crate::output;

use cast::{Member, TEMPERS};
use evaluation::Evaluation;
use play::Play;

/// Arrivals that wait to be counted; further ones wait to be answered.
const WAITING: usize = 1024;

/// What `demo` takes.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Go on serving afterwards, until Ctrl-C.
    #[arg(long)]
    keep: bool,
    /// How many events to send.
    #[arg(long, default_value_t = 240, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    events: u32,
    /// Send them as fast as they are taken, instead of at a pace that can be watched.
    #[arg(long)]
    fast: bool,
    /// Print the summary as JSON.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: Args) -> Result<(), Failure> {
    let folder = tempfile::Builder::new().prefix("postrider-demo-").tempdir().context("a temporary folder can't be made")?;
    let app = App::build(Config::for_demo(folder.path()), None)?;
    let (url, key) = (app.url(), app.key().clone());
    let stop = CancellationToken::new();
    let running = {
        let stop = stop.clone();
        let serve = thread::Builder::new().name("demo-server".to_owned()).spawn(move || app.run(stop));
        serve.context("a thread can't be started")?
    };
    let greeting = args.keep.then(|| format!("serving on at {url}, API key {}; Ctrl-C ends it", key.reveal()));
    let shown = Client::new(&Server::new(url, &key)).and_then(|client| block_on(show(&client, &args, greeting)));
    stop.cancel();
    let served = running.join().map_err(|_| anyhow!("the server panicked"))?;
    served?; // a server that broke down is why the rest failed
    folder.close().context("the temporary folder can't be removed")?;
    shown
}

/// Plays the demo with Ctrl-C in mind; with a `greeting`, goes on afterwards.
async fn show(client: &Client, args: &Args, greeting: Option<String>) -> Result<(), Failure> {
    let mut interrupted = pin!(tokio::signal::ctrl_c());
    let (sender, mut arrivals) = mpsc::channel(WAITING);
    let mut cast = Vec::new();
    for temper in TEMPERS {
        cast.push(Member::join(temper, client, sender.clone()).await?);
    }
    let play = Play::new(args.events, args.fast);
    let both = async {
        let (played, evaluated) = tokio::join!(play.run(client, &cast, &mut arrivals), Evaluation::run(client));
        Ok::<_, Failure>(played?.with(evaluated?))
    };
    let summary = tokio::select! {
        played = both => played?,
        stopped = &mut interrupted => {
            stopped.context("Ctrl-C can't be waited for")?;
            return Err(anyhow!("interrupted").into());
        }
    };
    summary.print(args.json)?;
    if let Some(greeting) = greeting {
        match args.json {
            true => eprintln!("{greeting}"),
            false => output::line(greeting)?,
        }
        loop {
            tokio::select! {
                arrival = arrivals.recv() => drop(arrival.context("the receivers have stopped")?),
                stopped = &mut interrupted => break stopped.context("Ctrl-C can't be waited for")?,
            }
        }
    }
    arrivals.close();
    for member in cast {
        member.leave().await;
    }
    summary.verdict()
}
