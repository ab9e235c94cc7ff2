//! `RESULTS.md`: what is measured and how, and the tables of the results that there are.

use std::fmt::Write as _;

use super::table::{self, Table};
use crate::report::{Report, Verdict};

/// What stands before the tables.
const HEAD: &str = include_str!("results.md");

/// The whole document; without results, only how to make some.
pub(super) fn tables(results: &[Report]) -> String {
    let mut text = HEAD.to_owned();
    if results.is_empty() {
        return text;
    }
    text.push_str("\n## The machine\n\n");
    table::machines(results).iter().for_each(|machine| put(&mut text, format_args!("{}\n", cell(machine))));
    let tables =
        [("Runs", table::runs(results)), ("What faults did", table::faults(results)), ("From beginning to end", table::trends(results))];
    for (heading, table) in tables.iter().filter(|(_, table)| !table.rows.is_empty()) {
        put(&mut text, format_args!("\n## {heading}\n\n{}", markdown(table)));
    }
    for result in results.iter().filter(|result| result.verdict() == Verdict::Broken) {
        put(&mut text, format_args!("\n**{} is broken**: {}.\n", cell(&result.name), table::broken(result)));
    }
    text.push_str("\n## Commands\n\n```console\n");
    results.iter().for_each(|result| put(&mut text, format_args!("$ {}\n", result.command.replace('\n', " "))));
    text.push_str("```\n");
    text
}

fn markdown(table: &Table) -> String {
    let row = |cells: &[String]| format!("| {} |\n", cells.iter().map(|text| cell(text)).collect::<Vec<_>>().join(" | "));
    let rule = format!("|---|{}\n", "---:|".repeat(table.head.len() - 1));
    table.rows.iter().fold(row(&table.head) + &rule, |text, cells| text + &row(cells))
}

/// Text that stays within its cell.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

fn put(out: &mut String, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a String takes every character");
}
