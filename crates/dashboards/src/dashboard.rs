//! A dashboard as Grafana reads it from a file.

use postrider_metrics::names;
use serde_json::{Value, json};

use crate::panel::{Panel, datasource};

/// The form of Grafana 12's files; later versions read it, too.
const SCHEMA: u32 = 41;
/// Columns that a row has.
const COLUMNS: u32 = 24;
/// Which dashboards link to each other.
const TAG: &str = "postrider";

/// A page of panels.
#[derive(Clone, Debug)]
pub struct Dashboard {
    /// Its file's name, and what its address ends with.
    pub name: &'static str,
    /// What Grafana lists it as.
    pub title: &'static str,
    /// What it is for.
    pub says: &'static str,
    /// From top to bottom.
    pub rows: Vec<Row>,
}

/// Panels under a heading.
#[derive(Clone, Debug)]
pub struct Row {
    /// The heading.
    pub title: &'static str,
    /// From left to right; those that find no room go below.
    pub panels: Vec<Panel>,
}

impl Dashboard {
    /// The file.
    pub fn json(&self) -> Value {
        json!({
            "uid": format!("postrider-{}", self.name),
            "title": self.title,
            "description": self.says,
            "tags": [TAG],
            "schemaVersion": SCHEMA,
            "version": 1,
            "editable": true,
            "graphTooltip": 1,
            "refresh": "30s",
            "time": { "from": "now-1h", "to": "now" },
            "timezone": "browser",
            "links": [{
                "type": "dashboards", "tags": [TAG], "title": "Postrider", "asDropdown": false, "includeVars": true, "keepTime": true,
                "targetBlank": false, "icon": "external link", "tooltip": "", "url": "",
            }],
            "annotations": { "list": [] },
            "templating": { "list": [source(), instances()] },
            "panels": self.panels(),
        })
    }

    fn panels(&self) -> Vec<Value> {
        let mut panels = Vec::new();
        let mut y = 0;
        for row in &self.rows {
            let heading = json!({
                "id": panels.len() + 1, "type": "row", "title": row.title, "collapsed": false, "panels": [],
                "gridPos": { "x": 0, "y": y, "w": COLUMNS, "h": 1 },
            });
            panels.push(heading);
            y += 1;
            let (mut x, mut height) = (0, 0);
            for panel in &row.panels {
                if x + panel.width() > COLUMNS {
                    (x, y, height) = (0, y + height, 0);
                }
                panels.push(panel.json(panels.len() + 1, x, y));
                x += panel.width();
                height = height.max(panel.height());
            }
            y += height;
        }
        panels
    }
}

/// Which Prometheus is asked.
fn source() -> Value {
    json!({
        "name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus", "regex": "", "refresh": 1,
        "hide": 0, "multi": false, "includeAll": false, "options": [], "current": {},
    })
}

/// Which processes are shown.
fn instances() -> Value {
    let query = format!("label_values({}, instance)", names::BUILD.name);
    json!({
        "name": "instance", "label": "Process", "type": "query", "datasource": datasource(), "definition": query,
        "query": { "query": query, "refId": "instances" }, "regex": "", "refresh": 2, "sort": 1,
        "hide": 0, "multi": true, "includeAll": true, "options": [], "current": { "text": ["All"], "value": ["$__all"] },
    })
}
