//! A dashboard as a page that Prometheus makes by itself (`--web.console.templates`), where there is no Grafana: every number as
//! it stands, with a link to its course.

use std::fmt::Write;

use crate::dashboard::Dashboard;
use crate::panel::{Kind, Panel, Unit};
use crate::query::Query;

/// In the place of what Grafana fills in: a minute has four scrapes.
const STEP: &str = "1m";
const SHOWN: &str = "1h";

const STYLE: &str = "\
body { font: 15px/1.4 system-ui, sans-serif; margin: 1em 2em; background: #fff; color: #222 }
nav a { margin-right: 1.5em }
.row { display: grid; grid-template-columns: repeat(auto-fill, minmax(20em, 1fr)); gap: 1em }
section { border: 1px solid #ccc; border-radius: 4px; padding: 0 1em }
table { width: 100% }
td:last-child { text-align: right; font-variant-numeric: tabular-nums; font-weight: bold }
section p { color: #555; font-size: 13px }
.green { color: #177a2b } .orange { color: #a85b00 } .red { color: #c01525 }
";

impl Dashboard {
    /// The page, with links to the `others`.
    pub fn console(&self, others: &[Dashboard]) -> String {
        let mut page = format!(
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta http-equiv=\"refresh\" content=\"15\">\n\
             <title>{0}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<nav>\n",
            escaped(self.title)
        );
        for other in others {
            line(&mut page, format_args!("<a href=\"{}.html\">{}</a>", other.name, escaped(other.title)));
        }
        line(&mut page, format_args!("</nav>\n<h1>{}</h1>\n<p>{}</p>", escaped(self.title), escaped(self.says)));
        for row in &self.rows {
            line(&mut page, format_args!("<h2>{}</h2>\n<div class=\"row\">", escaped(row.title)));
            row.panels.iter().for_each(|panel| panel.section(&mut page));
            line(&mut page, format_args!("</div>"));
        }
        page.push_str("</body>\n</html>\n");
        page
    }
}

impl Panel {
    fn section(&self, page: &mut String) {
        line(page, format_args!("<section>\n<h3>{}</h3>", escaped(self.title)));
        if let Kind::Text(words) = self.kind {
            line(page, format_args!("<pre>{}</pre>", escaped(words)));
        }
        line(page, format_args!("<table>"));
        for (query, legend) in &self.queries {
            let expression = expression(query);
            if matches!(self.kind, Kind::Heatmap) {
                line(page, format_args!("<tr><td colspan=\"2\"><a href=\"{{{{ graphLink `{expression}` }}}}\">its course</a></td></tr>"));
                continue;
            }
            let (name, sorted) = name(legend);
            line(page, format_args!("{{{{ range query `{expression}`{sorted} }}}}"));
            let link = format!("<a href=\"{{{{ graphLink `{expression}` }}}}\">{name}</a>");
            // Of nothing there is no share, and no other is equal to it.
            let number =
                format!("{{{{ if ne .Value .Value }}}}<td>–</td>{{{{ else }}}}<td{}>{}</td>{{{{ end }}}}", self.color(), self.unit.shown());
            line(page, format_args!("<tr><td>{link}</td>{number}</tr>"));
            line(
                page,
                format_args!("{{{{ else }}}}\n<tr><td>{link}</td><td>none</td></tr>\n{{{{ end }}}}", link = link_without(&link, &name)),
            );
        }
        line(page, format_args!("</table>\n<p>{}</p>\n</section>", escaped(self.says)));
    }

    /// The class of a number by its steps.
    fn color(&self) -> String {
        let Some(((_, least), above)) = self.steps.split_first().map(|(first, rest)| (*first, rest)) else { return String::new() };
        let mut class = String::new();
        for (n, (from, color)) in above.iter().rev().enumerate() {
            let word = if n == 0 { "if" } else { "else if" };
            class += &format!("{{{{ {word} ge .Value {from:?} }}}}{color}");
        }
        format!(" class=\"{class}{{{{ else }}}}{least}{{{{ end }}}}\"")
    }
}

impl Unit {
    /// A number of it, in words.
    fn shown(self) -> &'static str {
        match self {
            Unit::Seconds => "{{ humanizeDuration .Value }}",
            Unit::PerSecond => "{{ humanize .Value }}/s",
            Unit::Share => "{{ humanizePercentage .Value }}",
            Unit::Number => "{{ humanize .Value }}",
            Unit::Bytes => "{{ humanize1024 .Value }}B",
        }
    }
}

/// A query without what only Grafana knows; it stands between backquotes.
fn expression(query: &Query) -> String {
    let expression = query.to_string().replace("$__rate_interval", STEP).replace("$__range", SHOWN).replace("$instance", ".*");
    assert!(!expression.contains(['`', '$']), "a console can't ask {expression}");
    expression
}

/// A series' name out of its labels, and how series are put in its order.
fn name(legend: &str) -> (String, String) {
    match legend.split_once("{{").and_then(|(_, rest)| rest.split_once("}}")) {
        Some((label, _)) => (escaped(legend).replace("{{", "{{ .Labels.").replace("}}", " }}"), format!(" | sortByLabel \"{label}\"")),
        None if legend.is_empty() => ("now".to_owned(), String::new()),
        None => (escaped(legend), String::new()),
    }
}

/// The link where there is no series to name it.
fn link_without(link: &str, name: &str) -> String {
    match name.contains("{{") {
        true => link.replace(name, "nothing yet"),
        false => link.to_owned(),
    }
}

fn line(page: &mut String, text: std::fmt::Arguments<'_>) {
    writeln!(page, "{text}").expect("a text takes whatever is written");
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
