//! `postrider config`: checks a configuration file, or shows what is in force.

use std::path::PathBuf;

use crate::backend;
use crate::config::{Config, DEFAULTS};
use crate::failure::Failure;

/// What to do with the configuration.
#[derive(clap::Subcommand)]
pub(crate) enum Args {
    /// Check a file; the first error is named with its key.
    Check {
        /// The configuration file.
        file: PathBuf,
    },
    /// Print the merged configuration, secrets masked.
    Show {
        /// A configuration file to merge.
        #[arg(long)]
        config: Option<PathBuf>,
        /// Print the documented defaults instead.
        #[arg(long, conflicts_with = "config")]
        default: bool,
    },
}

pub(crate) fn run(args: Args) -> Result<(), Failure> {
    match args {
        Args::Check { file } => {
            backend::check(&Config::load(Some(&file))?)?;
            println!("{} is fine", file.display());
        }
        Args::Show { default: true, .. } => print!("{DEFAULTS}"),
        Args::Show { config, .. } => print!("{}", Config::load(config.as_deref())?.masked()?),
    }
    Ok(())
}
