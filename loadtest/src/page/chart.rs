//! A chart as SVG: two axes, lines of several runs, and spans of time in which something was wrong.

use std::fmt::Write as _;

use super::axis::Axis;

/// The size of a chart, in its own units.
const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 300.0;
/// What names of values take up, on the left and below; and what stays free on the other sides.
const LEFT: f64 = 68.0;
const BELOW: f64 = 28.0;
const FREE: f64 = 12.0;

/// What a chart shows.
pub(super) struct Chart {
    /// What it is about.
    pub(super) title: &'static str,
    /// What its lines mean, where the title does not say.
    pub(super) note: &'static str,
    /// From left to right.
    pub(super) x: Axis,
    /// From the bottom up.
    pub(super) y: Axis,
    /// Its lines.
    pub(super) lines: Vec<Line>,
    /// Spans of the x axis that are marked.
    pub(super) spans: Vec<Span>,
}

/// A line; where a value is `None` it has a gap.
pub(super) struct Line {
    /// Which run it is of: decides its colour.
    pub(super) run: usize,
    /// How it stands out.
    pub(super) weight: Weight,
    /// Its points, from left to right.
    pub(super) points: Vec<(f64, Option<f64>)>,
}

/// How a line stands out from the others of its run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Weight {
    /// The one to look at.
    Strong,
    /// One beside it.
    Light,
}

/// A span of the x axis, and what it stands for.
pub(super) struct Span {
    /// Its beginning.
    pub(super) from: f64,
    /// Its end.
    pub(super) to: f64,
    /// What happened in it; shown where the pointer rests.
    pub(super) name: String,
}

impl Chart {
    /// The chart as an `svg` element; its colours are those of the page.
    pub(super) fn svg(&self) -> String {
        let mut svg = format!(r#"<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{}">"#, escaped(self.title));
        for span in &self.spans {
            let (from, to) = (self.across(span.from), self.across(span.to).max(self.across(span.from) + 1.5));
            let (width, height) = (to - from, HEIGHT - BELOW - FREE);
            put(&mut svg, format_args!(r#"<rect class="span" x="{from:.1}" y="{FREE}" width="{width:.1}" height="{height}">"#));
            put(&mut svg, format_args!("<title>{}</title></rect>", escaped(&span.name)));
        }
        let (right, bottom) = (WIDTH - FREE, HEIGHT - BELOW);
        for (value, name) in &self.y.ticks {
            let (y, x) = (self.up(*value), LEFT - 8.0);
            put(&mut svg, format_args!(r#"<line class="grid" x1="{LEFT}" y1="{y:.1}" x2="{right}" y2="{y:.1}"/>"#));
            put(&mut svg, format_args!(r#"<text x="{x}" y="{:.1}" text-anchor="end">{}</text>"#, y + 4.0, escaped(name)));
        }
        for (value, name) in &self.x.ticks {
            let x = self.across(*value);
            put(&mut svg, format_args!(r#"<line class="tick" x1="{x:.1}" y1="{bottom}" x2="{x:.1}" y2="{}"/>"#, bottom + 4.0));
            put(&mut svg, format_args!(r#"<text x="{x:.1}" y="{}" text-anchor="middle">{}</text>"#, HEIGHT - 8.0, escaped(name)));
        }
        for line in &self.lines {
            let weight = match line.weight {
                Weight::Strong => "strong",
                Weight::Light => "light",
            };
            for part in line.points.split(|(_, value)| value.is_none()).filter(|part| !part.is_empty()) {
                put(&mut svg, format_args!(r#"<polyline class="line {weight} run{}" points=""#, line.run));
                for (x, y) in part.iter().filter_map(|(x, y)| Some((*x, (*y)?))) {
                    put(&mut svg, format_args!("{:.1},{:.1} ", self.across(x), self.up(y)));
                }
                // A lone point would not be seen.
                if let [(x, Some(y))] = part {
                    put(&mut svg, format_args!("{:.1},{:.1}", self.across(*x) + 1.0, self.up(*y)));
                }
                svg.push_str("\"/>");
            }
        }
        svg.push_str("</svg>");
        svg
    }

    fn across(&self, value: f64) -> f64 {
        LEFT + self.x.place(value) * (WIDTH - LEFT - FREE)
    }

    fn up(&self, value: f64) -> f64 {
        HEIGHT - BELOW - self.y.place(value) * (HEIGHT - BELOW - FREE)
    }
}

/// Text as it may stand in HTML and SVG, in elements and in attributes.
pub(super) fn escaped(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut out, c| {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
        out
    })
}

fn put(out: &mut String, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a String takes every character");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_a_gap_where_there_is_no_value() {
        let points = vec![(0.0, Some(1.0)), (1.0, Some(2.0)), (2.0, None), (3.0, Some(1.0))];
        let chart = Chart {
            title: "A & B",
            note: "",
            x: Axis::time(0.0, 4.0),
            y: Axis::even(2.0, |value| value.to_string()),
            lines: vec![Line { run: 3, weight: Weight::Light, points }],
            spans: vec![Span { from: 1.0, to: 2.0, name: "<kill>".to_owned() }],
        };
        let svg = chart.svg();
        assert_eq!(svg.matches("<polyline class=\"line light run3\"").count(), 2, "{svg}");
        assert!(svg.contains("A &amp; B") && svg.contains("<title>&lt;kill&gt;</title>") && svg.ends_with("</svg>"), "{svg}");
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    }
}
