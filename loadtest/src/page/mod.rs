//! Results as something to look at: a page with plots, or tables in Markdown. No number in either is typed by hand.

mod axis;
mod chart;
mod figures;
mod html;
mod markdown;
mod table;
mod words;

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::Args;

use crate::report::Report;

/// Results that one page compares at most: as many as there are colours to tell them apart.
const MOST: usize = 8;

/// What `loadtest report` takes.
#[derive(Args)]
pub(crate) struct Options {
    /// Results of runs, as --out wrote them.
    results: Vec<PathBuf>,
    /// Where the report is written [default: standard output].
    #[arg(long, short)]
    out: Option<PathBuf>,
    /// Writes tables in Markdown instead of a page of HTML.
    #[arg(long)]
    markdown: bool,
}

/// Reads the results and writes the report.
///
/// Errors: a file can't be read or written, or is no result; too many results for one page, or none.
pub(crate) fn write(options: &Options) -> anyhow::Result<()> {
    let results = options.results.iter().map(|file| read(file)).collect::<anyhow::Result<Vec<Report>>>()?;
    let text = match (options.markdown, results.len()) {
        (true, _) => markdown::tables(&results),
        (false, 1..=MOST) => html::page(&results),
        (false, 0) => bail!("no results: name the files that --out wrote"),
        (false, count) => bail!("a page compares at most {MOST} results, not {count}; make several, or --markdown"),
    };
    match &options.out {
        Some(out) => fs::write(out, text).with_context(|| format!("cannot write {}", out.display())),
        None => std::io::stdout().write_all(text.as_bytes()).context("cannot write to standard output"),
    }
}

fn read(file: &Path) -> anyhow::Result<Report> {
    let json = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    serde_json::from_slice(&json).with_context(|| format!("{} is no result of this build's loadtest", file.display()))
}
