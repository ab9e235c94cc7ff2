//! `postrider migrate`: prepares Kafka and ScyllaDB, once and at every upgrade.

use std::path::PathBuf;

use postrider_backend::log::kafka::Grow;

use crate::backend;
use crate::config::{Backend, Config};
use crate::failure::Failure;
use crate::logging;

/// What `migrate` takes.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The configuration file.
    #[arg(long)]
    config: PathBuf,
    /// Give topics more partitions where the configuration says so; follow docs/operations.md, as keys move.
    #[arg(long)]
    grow: bool,
}

pub(crate) fn run(args: Args) -> Result<(), Failure> {
    let config = Config::load(Some(&args.config))?;
    if config.backend != Backend::Cluster {
        return Err(Failure::Usage("there is nothing to migrate: `backend` is not \"cluster\"".to_owned()));
    }
    logging::start(&config.tracing);
    println!("{}", backend::migrate(&config, if args.grow { Grow::Allow } else { Grow::Refuse })?);
    Ok(())
}
