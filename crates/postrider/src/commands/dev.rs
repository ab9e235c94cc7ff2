//! `postrider dev`: a durable server for a developer's machine, with nothing to configure.

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::admin;
use crate::app::{self, App};
use crate::config::Config;
use crate::failure::Failure;
use crate::logging;

/// What `dev` takes.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The data folder.
    #[arg(long, default_value = "./.postrider")]
    data: PathBuf,
    /// Address of the API; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// A configuration file to start from.
    #[arg(long)]
    config: Option<PathBuf>,
}

pub(crate) fn run(args: Args) -> Result<(), Failure> {
    let mut config = Config::load(args.config.as_deref())?;
    config.data.dir = args.data;
    config.server.listen = args.listen;
    config.allow_loopback();
    logging::start(&config.tracing);
    // A second server on the same machine goes without.
    let admin = config.server.admin_listen.0.and_then(|address| {
        let bound = admin::bind(address);
        bound.inspect_err(|error| eprintln!("/livez and /readyz are not served: {error:#}")).ok()
    });
    let app = App::build(config, admin)?;
    let stop = app::terminated()?;
    app.announce()?;
    println!("API key: {}", app.key().reveal());
    app.run(stop)
}
