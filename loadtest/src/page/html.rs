//! One page that holds everything: tables, plots and the commands that made them, and loads nothing from elsewhere.

use std::fmt::Write as _;

use super::chart::{Chart, escaped};
use super::figures::charts;
use super::table::{self, Table};
use crate::report::{Report, Verdict};

const STYLE: &str = include_str!("page.css");

/// The page about `results`; at least one.
pub(super) fn page(results: &[Report]) -> String {
    let names: Vec<&str> = results.iter().map(|result| result.name.as_str()).collect();
    let title = format!("Load test: {}", names.join(", "));
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{}</title>\n<style>\n{STYLE}",
        escaped(&title)
    );
    for run in 0..results.len() {
        put(&mut page, format_args!(".run{run} {{ stroke: var(--run{run}); }} .key{run} {{ background: var(--run{run}); }}\n"));
    }
    put(&mut page, format_args!("</style>\n</head>\n<body>\n<main>\n<h1>{}</h1>\n", escaped(&title)));
    for machine in table::machines(results) {
        put(&mut page, format_args!("<p class=\"soft\">{}</p>\n", escaped(&machine)));
    }
    page.push_str("<h2>Results</h2>\n");
    put(&mut page, format_args!("{}", html(&table::runs(results), Keys::Shown)));
    for result in results.iter().filter(|result| result.verdict() == Verdict::Broken) {
        put(&mut page, format_args!("<p class=\"broken\">{}: {}</p>\n", escaped(&result.name), table::broken(result)));
    }
    for (heading, table) in [("Faults", table::faults(results)), ("From beginning to end", table::trends(results))] {
        if !table.rows.is_empty() {
            put(&mut page, format_args!("<h2>{heading}</h2>\n{}", html(&table, Keys::Hidden)));
        }
    }
    page.push_str("<h2>Plots</h2>\n<p class=\"legend\">");
    for (run, result) in results.iter().enumerate() {
        put(&mut page, format_args!("<span class=\"key key{run}\"></span>{}", escaped(&result.name)));
    }
    page.push_str("</p>\n<div class=\"charts\">\n");
    for chart in charts(results) {
        figure(&mut page, &chart);
    }
    page.push_str("</div>\n<h2>How they were made</h2>\n");
    for (run, result) in results.iter().enumerate() {
        put(&mut page, format_args!("<details open>\n<summary><span class=\"key key{run}\"></span>{}</summary>\n", escaped(&result.name)));
        put(&mut page, format_args!("<pre>{}</pre>\n", escaped(&result.command)));
        put(&mut page, format_args!("{}</details>\n", html(&table::endpoints(result), Keys::Hidden)));
    }
    page.push_str("</main>\n</body>\n</html>\n");
    page
}

/// Whether each row of a table begins with its run's colour.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Keys {
    Shown,
    Hidden,
}

fn html(table: &Table, keys: Keys) -> String {
    let mut out = String::from("<div class=\"scroll\"><table>\n<tr>");
    table.head.iter().for_each(|head| put(&mut out, format_args!("<th>{}</th>", escaped(head))));
    out.push_str("</tr>\n");
    for (run, row) in table.rows.iter().enumerate() {
        out.push_str("<tr>");
        for (column, cell) in row.iter().enumerate() {
            let key = if keys == Keys::Shown && column == 0 { format!("<span class=\"key key{run}\"></span>") } else { String::new() };
            put(&mut out, format_args!("<td>{key}{}</td>", escaped(cell)));
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</table></div>\n");
    out
}

fn figure(page: &mut String, chart: &Chart) {
    let (title, note, svg) = (escaped(chart.title), escaped(chart.note), chart.svg());
    put(page, format_args!("<figure>\n<figcaption><h3>{title}</h3><p>{note}</p></figcaption>\n{svg}\n</figure>\n"));
}

fn put(out: &mut String, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a String takes every character");
}
