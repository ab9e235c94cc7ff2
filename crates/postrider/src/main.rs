//! The `postrider` program: one binary for a laptop and for servers.
//!
//! Each command is one file in `commands`; [`app::App`] is the server that `dev`, `serve` and `demo` run.

mod admin;
mod app;
mod backend;
mod client;
mod commands;
mod config;
mod disk;
mod failure;
mod logging;
mod output;
mod receiver;
mod scrape;

use std::process::ExitCode;

use clap::Parser;

use commands::Cli;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::parse(); // wrong usage ends here with 2
    match cli.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {failure}");
            failure.code()
        }
    }
}
