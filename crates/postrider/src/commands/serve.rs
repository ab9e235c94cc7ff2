//! `postrider serve`: a server as its configuration file says.

use std::path::PathBuf;

use crate::admin;
use crate::app::{self, App};
use crate::config::{Config, Role};
use crate::failure::Failure;
use crate::logging;

/// What `serve` takes.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The configuration file.
    #[arg(long)]
    config: PathBuf,
    /// What this process does, instead of what the file says.
    #[arg(long, value_delimiter = ',')]
    roles: Option<Vec<Role>>,
}

pub(crate) fn run(args: Args) -> Result<(), Failure> {
    let mut config = Config::load(Some(&args.config))?;
    if let Some(roles) = args.roles {
        config.server.roles = roles;
    }
    config.require_key()?;
    logging::start(&config.tracing);
    let admin = config.server.admin_listen.0.map(admin::bind).transpose()?;
    let app = App::build(config, admin)?;
    let stop = app::terminated()?;
    app.announce()?;
    app.run(stop)
}
