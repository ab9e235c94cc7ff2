//! What commands print: tables for people, JSON for machines.

use std::fmt::{self, Display};
use std::io::{self, IsTerminal, Write};

use anyhow::Context as _;
use serde::Serialize;

use crate::failure::Failure;

/// Prints one line at once, also into a pipe. Errors: nobody reads it any more.
pub(crate) fn line(text: impl Display) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    writeln!(out, "{text}").and_then(|()| out.flush()).context("standard output can't be written")?;
    Ok(())
}

/// Prints `value` as JSON on one line.
pub(crate) fn json(value: &impl Serialize) -> Result<(), Failure> {
    line(serde_json::to_string(value).context("the answer can't be shown as JSON")?)
}

/// Columns as wide as their widest cell; the first row is the heading.
pub(crate) struct Table<const N: usize> {
    rows: Vec<[String; N]>,
}

impl<const N: usize> Table<N> {
    /// A table with these column headings.
    pub(crate) fn new(headings: [&str; N]) -> Table<N> {
        Table { rows: vec![headings.map(str::to_owned)] }
    }

    /// Adds a row.
    pub(crate) fn row(&mut self, cells: [String; N]) {
        self.rows.push(cells);
    }
}

impl<const N: usize> Display for Table<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = |column: usize| self.rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: [usize; N] = std::array::from_fn(width);
        for (i, row) in self.rows.iter().enumerate() {
            let cells: Vec<String> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
            let newline = if i == 0 { "" } else { "\n" };
            write!(f, "{newline}{}", cells.join("  ").trim_end())?;
        }
        Ok(())
    }
}

/// Colours, where someone sees them.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Paint {
    /// ANSI escapes.
    Colours,
    /// Nothing but the text.
    Plain,
}

impl Paint {
    /// Colours where standard output is a terminal and `NO_COLOR` (no-color.org) is not set.
    pub(crate) fn for_stdout() -> Paint {
        let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        if io::stdout().is_terminal() && !unwanted { Paint::Colours } else { Paint::Plain }
    }

    /// For what went well.
    pub(crate) fn good(self, text: impl Display) -> String {
        self.wrap("32", text)
    }

    /// For what waits.
    pub(crate) fn waiting(self, text: impl Display) -> String {
        self.wrap("33", text)
    }

    /// For what went wrong.
    pub(crate) fn bad(self, text: impl Display) -> String {
        self.wrap("31", text)
    }

    /// For what matters less.
    pub(crate) fn faint(self, text: impl Display) -> String {
        self.wrap("2", text)
    }

    fn wrap(self, code: &str, text: impl Display) -> String {
        match self {
            Paint::Colours => format!("\x1b[{code}m{text}\x1b[0m"),
            Paint::Plain => text.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_lines_have_no_trailing_spaces() {
        let mut table = Table::new(["ID", "URL"]);
        table.row(["ep_é".to_owned(), "http://a/".to_owned()]);
        table.row(["x".to_owned(), "-".to_owned()]);
        assert_eq!(table.to_string(), "ID    URL\nep_é  http://a/\nx     -");
    }

    #[test]
    fn plain_text_has_no_escapes() {
        assert_eq!((Paint::Plain.good("ok"), Paint::Colours.bad(500)), ("ok".to_owned(), "\x1b[31m500\x1b[0m".to_owned()));
    }
}
