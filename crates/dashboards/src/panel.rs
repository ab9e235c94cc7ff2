//! One panel of a dashboard.

use serde_json::{Value, json};

use crate::query::Query;

/// What a panel's numbers are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Seconds.
    Seconds,
    /// Things per second.
    PerSecond,
    /// A share of one.
    Share,
    /// A number of things.
    Number,
    /// Bytes.
    Bytes,
}

impl Unit {
    /// As Grafana calls it.
    fn name(self) -> &'static str {
        match self {
            Unit::Seconds => "s",
            Unit::PerSecond => "cps",
            Unit::Share => "percentunit",
            Unit::Number => "short",
            Unit::Bytes => "bytes",
        }
    }
}

/// How numbers are shown.
#[derive(Clone, Debug)]
pub(crate) enum Kind {
    Lines,
    /// Areas on top of each other.
    Stack,
    /// One large number.
    Stat,
    /// How many lay in which bucket.
    Heatmap,
    /// Words, in Markdown.
    Text(&'static str),
}

/// A panel.
#[derive(Clone, Debug)]
pub struct Panel {
    pub(crate) title: &'static str,
    /// What it shows, and what is good.
    pub(crate) says: &'static str,
    pub(crate) kind: Kind,
    pub(crate) unit: Unit,
    /// Of the 24 columns of a row.
    width: u32,
    pub(crate) queries: Vec<(Query, &'static str)>,
    /// From these values on, in ascending order, in these colours.
    pub(crate) steps: Vec<(f64, &'static str)>,
    is_logarithmic: bool,
}

const GOOD: &str = "green";
const WORSE: &str = "orange";
const BAD: &str = "red";

impl Panel {
    fn new(title: &'static str, says: &'static str, kind: Kind, unit: Unit) -> Panel {
        let width = match kind {
            Kind::Lines | Kind::Stack => 8,
            Kind::Stat => 4,
            Kind::Heatmap => 12,
            Kind::Text(_) => 24,
        };
        Panel { title, says, kind, unit, width, queries: Vec::new(), steps: Vec::new(), is_logarithmic: false }
    }

    pub(crate) fn lines(title: &'static str, unit: Unit, says: &'static str) -> Panel {
        Panel::new(title, says, Kind::Lines, unit)
    }

    pub(crate) fn stack(title: &'static str, unit: Unit, says: &'static str) -> Panel {
        Panel::new(title, says, Kind::Stack, unit)
    }

    pub(crate) fn stat(title: &'static str, unit: Unit, says: &'static str) -> Panel {
        Panel::new(title, says, Kind::Stat, unit)
    }

    /// Of the increase of a histogram's buckets, whose unit this is.
    pub(crate) fn heatmap(title: &'static str, unit: Unit, says: &'static str) -> Panel {
        Panel::new(title, says, Kind::Heatmap, unit)
    }

    pub(crate) fn text(title: &'static str, markdown: &'static str) -> Panel {
        Panel::new(title, "What this page can't show, and where it is.", Kind::Text(markdown), Unit::Number)
    }

    /// Shows what `query` answers; `legend` may name labels: `{{topic}}`.
    pub(crate) fn query(mut self, query: Query, legend: &'static str) -> Panel {
        self.queries.push((query, legend));
        self
    }

    /// This many of the 24 columns.
    pub(crate) fn wide(mut self, width: u32) -> Panel {
        self.width = width;
        self
    }

    /// Good below `worse`, bad from `bad` on.
    pub(crate) fn bad_above(mut self, worse: f64, bad: f64) -> Panel {
        self.steps = vec![(0.0, GOOD), (worse, WORSE), (bad, BAD)];
        self
    }

    /// Good from `good` on, bad below `worse`.
    pub(crate) fn bad_below(mut self, worse: f64, good: f64) -> Panel {
        self.steps = vec![(0.0, BAD), (worse, WORSE), (good, GOOD)];
        self
    }

    /// Each step up is ten times the one before.
    pub(crate) fn logarithmic(mut self) -> Panel {
        self.is_logarithmic = true;
        self
    }

    pub(crate) fn width(&self) -> u32 {
        self.width
    }

    pub(crate) fn height(&self) -> u32 {
        match self.kind {
            Kind::Stat => 4,
            Kind::Lines | Kind::Stack => 8,
            Kind::Heatmap => 9,
            Kind::Text(_) => 13,
        }
    }

    /// As Grafana reads it, at this place.
    pub(crate) fn json(&self, id: usize, x: u32, y: u32) -> Value {
        let mut panel = json!({
            "id": id,
            "title": self.title,
            "description": self.says,
            "gridPos": { "x": x, "y": y, "w": self.width, "h": self.height() },
            "type": self.kind_name(),
            "options": self.options(),
        });
        if !self.queries.is_empty() {
            panel["datasource"] = datasource();
            panel["targets"] = self.targets();
            panel["fieldConfig"] = json!({ "defaults": self.defaults(), "overrides": [] });
        }
        panel
    }

    fn kind_name(&self) -> &'static str {
        match self.kind {
            Kind::Lines | Kind::Stack => "timeseries",
            Kind::Stat => "stat",
            Kind::Heatmap => "heatmap",
            Kind::Text(_) => "text",
        }
    }

    fn targets(&self) -> Value {
        let instant = matches!(self.kind, Kind::Stat);
        let format = if matches!(self.kind, Kind::Heatmap) { "heatmap" } else { "time_series" };
        let target = |((query, legend), reference): (&(Query, &str), char)| {
            json!({
                "refId": reference, "datasource": datasource(), "editorMode": "code", "expr": query.to_string(),
                "legendFormat": legend, "format": format, "instant": instant, "range": !instant,
            })
        };
        self.queries.iter().zip('A'..='Z').map(target).collect()
    }

    fn options(&self) -> Value {
        match self.kind {
            Kind::Lines | Kind::Stack => json!({
                "legend": { "displayMode": "table", "placement": "bottom", "showLegend": true, "calcs": ["lastNotNull", "max"] },
                "tooltip": { "mode": "multi", "sort": "desc" },
            }),
            Kind::Stat => json!({
                "colorMode": if self.steps.is_empty() { "none" } else { "value" }, "graphMode": "none", "justifyMode": "auto",
                "orientation": "auto", "textMode": "auto", "wideLayout": true,
                "reduceOptions": { "calcs": ["lastNotNull"], "fields": "", "values": false },
            }),
            Kind::Heatmap => json!({
                "calculate": false, "cellGap": 1, "showValue": "never",
                "color": { "mode": "scheme", "scheme": "Oranges", "scale": "exponential", "exponent": 0.5, "steps": 64, "reverse": false },
                "filterValues": { "le": 1e-9 },
                "legend": { "show": true },
                "rowsFrame": { "layout": "auto" },
                "tooltip": { "mode": "single", "yHistogram": true, "showColorScale": false },
                "yAxis": { "axisPlacement": "left", "unit": self.unit.name(), "reverse": false },
            }),
            Kind::Text(markdown) => json!({ "mode": "markdown", "content": markdown }),
        }
    }

    fn defaults(&self) -> Value {
        let steps = match self.steps.as_slice() {
            [] => json!([{ "color": GOOD, "value": null }]),
            // The first colour holds for whatever is less, too.
            steps => (0..).zip(steps).map(|(n, (from, color))| json!({ "color": color, "value": (n > 0).then_some(from) })).collect(),
        };
        let thresholds = json!({ "mode": "absolute", "steps": steps });
        match self.kind {
            Kind::Lines | Kind::Stack => json!({
                "unit": self.unit.name(), "min": if self.is_logarithmic { Value::Null } else { json!(0) }, "thresholds": thresholds,
                "color": { "mode": "palette-classic" },
                "custom": {
                    "drawStyle": "line", "lineWidth": 1, "showPoints": "never", "spanNulls": false,
                    "fillOpacity": if matches!(self.kind, Kind::Stack) { 40 } else { 5 },
                    "stacking": { "group": "A", "mode": if matches!(self.kind, Kind::Stack) { "normal" } else { "none" } },
                    "scaleDistribution": if self.is_logarithmic { json!({ "type": "log", "log": 10 }) } else { json!({ "type": "linear" }) },
                    "thresholdsStyle": { "mode": if self.steps.is_empty() { "off" } else { "dashed" } },
                },
            }),
            Kind::Stat => json!({ "unit": self.unit.name(), "thresholds": thresholds, "color": { "mode": "thresholds" } }),
            Kind::Heatmap | Kind::Text(_) => json!({ "custom": { "scaleDistribution": { "type": "linear" } } }),
        }
    }
}

/// The Prometheus that the dashboard's reader chose.
pub(crate) fn datasource() -> Value {
    json!({ "type": "prometheus", "uid": "${datasource}" })
}
