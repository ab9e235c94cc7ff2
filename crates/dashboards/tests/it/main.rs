//! What operators look at is what the code makes of the metrics that there are.

// Helpers of tests are not tests, so clippy.toml's exception does not reach them.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use postrider_dashboards::{Severity, alerts, dashboards, files, recordings};
use postrider_metrics::ALL;
use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

#[test]
fn files_are_what_the_code_makes() {
    let advice = "run `cargo run -p postrider-dashboards --example write`";
    for (path, made) in files() {
        let written = fs::read_to_string(root().join(&path)).unwrap_or_else(|error| panic!("{path}: {error}; {advice}"));
        // How a dashboard's members are ordered depends on the features of serde_json, which other crates choose.
        match path.ends_with(".json") {
            true => assert_eq!(
                serde_json::from_str::<Value>(&written).unwrap(),
                serde_json::from_str::<Value>(&made).unwrap(),
                "{path}: {advice}"
            ),
            false => assert_eq!(written, made, "{path}: {advice}"),
        }
    }
    let made: BTreeSet<String> = files().into_iter().map(|(path, _)| path).collect();
    for folder in ["deploy/grafana/dashboards", "deploy/prometheus/consoles"] {
        for file in fs::read_dir(root().join(folder)).unwrap() {
            let name = format!("{folder}/{}", file.unwrap().file_name().into_string().unwrap());
            assert!(made.contains(&name), "nobody makes {name}");
        }
    }
}

#[test]
fn every_panel_says_what_it_shows_and_has_its_place() {
    for dashboard in dashboards() {
        let json = dashboard.json();
        let panels = json["panels"].as_array().unwrap();
        let mut taken = BTreeSet::new();
        for panel in panels {
            let number = |key: &str| panel["gridPos"][key].as_u64().unwrap();
            for (x, y) in
                (number("x")..number("x") + number("w")).flat_map(|x| (number("y")..number("y") + number("h")).map(move |y| (x, y)))
            {
                assert!(x < 24 && taken.insert((x, y)), "{}: {} lies on another", dashboard.title, panel["title"]);
            }
            if panel["type"] != "row" {
                assert!(!panel["description"].as_str().unwrap().is_empty() && !panel["title"].as_str().unwrap().is_empty(), "{panel}");
            }
        }
        let ids: BTreeSet<u64> = panels.iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
        assert_eq!(ids.len(), panels.len());
    }
}

#[test]
fn every_metric_of_our_own_is_looked_at() {
    let asked: String = dashboards().iter().map(|dashboard| dashboard.json().to_string()).collect();
    let watched: String = recordings().iter().map(|one| one.query.to_string()).chain(alerts().iter().map(|one| one.expression())).collect();
    for metric in ALL.iter().filter(|metric| !metric.name.starts_with("process_")) {
        assert!(asked.contains(metric.name) || watched.contains(metric.name), "no panel and no alert looks at {}", metric.name);
    }
}

#[test]
fn every_alert_has_a_section_for_whoever_is_woken() {
    let page = fs::read_to_string(root().join("docs/operations.md")).unwrap();
    let sections: BTreeSet<&str> =
        page.lines().filter_map(|line| line.strip_prefix("### ")).filter(|title| title.starts_with("Postrider")).collect();
    let names: BTreeSet<&str> = alerts().iter().map(|alert| alert.name).collect();
    assert_eq!(sections, names);
    assert!(alerts().iter().filter(|alert| alert.severity == Severity::Page).count() < 10, "who is woken by everything wakes for nothing");
}
