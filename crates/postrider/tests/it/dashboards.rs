//! What operators look at has data: every query of every panel, and what every alert compares, is asked of a real Prometheus that
//! scrapes a server at work. The same is done to one process and, in `cluster::dashboards`, to one for each role.

use std::fs;
use std::process::Command;
use std::time::Instant;

use postrider_dashboards::{alerts, recordings};
use serde_json::{Value, json};

use crate::jobs::{evaluation, submit};
use crate::prometheus::{Prometheus, program, root};
use crate::receiver::Receiver;
use crate::world::{Api, Home, KEY, PATIENCE, Server};

/// Spans go to a collector that is not there: that shows, too, and nothing else notices.
pub(crate) const SETTINGS: &str = "[otlp]\nendpoint = \"http://127.0.0.1:1\"\n";

/// Receivers of every temper.
pub(crate) struct Receivers {
    healthy: Receiver,
    _failing: Receiver,
}

/// Has everything begin that panels show: deliveries, retries, dead letters, a breaker that opens.
pub(crate) async fn register(api: &Api) -> Receivers {
    let (healthy, failing) = (Receiver::answering(200).await, Receiver::answering(500).await);
    api.register(&healthy, json!({ "events": ["good.*"] })).await;
    api.register(&failing, json!({ "events": ["bad.*"], "retry": { "schedule": [1] } })).await;
    let nobody = json!({ "url": "http://127.0.0.1:1/", "events": ["bad.*"], "retry": { "schedule": [3600] } });
    api.post("/v1/webhooks", nobody).await;
    Receivers { healthy, _failing: failing }
}

/// Some work of each sort, with jobs that end well and badly.
async fn work(api: &Api, receivers: &Receivers) {
    let events = |name: &str, count: u64| (0..count).map(|n| json!({ "type": name, "data": { "n": n } })).collect();
    api.send_all(events("good.one", 100)).await;
    api.send_all(events("bad.one", 20)).await;
    api.send(json!({ "type": "good.one", "data": {} })).await;
    submit(api, evaluation(5, &receivers.healthy)).await;
    let (long, other) = ("x".repeat(400_000), "y".repeat(400_000));
    let too_costly = json!({ "pairs": [{ "candidate": long, "references": [other] }], "metrics": ["levenshtein"] });
    submit(api, too_costly).await;
}

/// Every query that Grafana would ask for the dashboards of `deploy/`, with where it stands. As Grafana does, with its variables
/// filled in.
fn asked() -> Vec<(String, String)> {
    let mut asked = Vec::new();
    for file in fs::read_dir(root().join("deploy/grafana/dashboards")).unwrap() {
        let dashboard: Value = serde_json::from_str(&fs::read_to_string(file.unwrap().path()).unwrap()).unwrap();
        for panel in dashboard["panels"].as_array().unwrap() {
            for target in panel["targets"].as_array().into_iter().flatten() {
                let query = target["expr"].as_str().unwrap();
                let query = query.replace("$__rate_interval", "1m").replace("$__range", "1h").replace("$instance", ".*");
                asked.push((format!("{}, {}", dashboard["title"], panel["title"]), query));
            }
        }
    }
    assert!(asked.len() > 50, "{} queries", asked.len());
    asked
}

/// Waits until everything that dashboards and alerts ask for is answered with a number, while work goes on.
pub(crate) async fn assert_everything_has_data(prometheus: &Prometheus, api: &Api, receivers: &Receivers) {
    let recorded = recordings().into_iter().map(|one| (format!("recording {}", one.name), one.name));
    let sides = alerts().into_iter().flat_map(|alert| {
        // What is compared with was long ago; here nothing was.
        alert.sides().into_iter().map(|side| (alert.name.to_owned(), side.to_string().replace(" offset 10m", ""))).collect::<Vec<_>>()
    });
    let deadline = Instant::now() + PATIENCE;
    let mut without: Vec<(String, String)> = asked().into_iter().chain(recorded).chain(sides).collect();
    while !without.is_empty() {
        assert!(Instant::now() < deadline, "no data for {without:#?}");
        work(api, receivers).await;
        let asked = std::mem::take(&mut without);
        for (place, query) in asked {
            if !has_data(&prometheus.query(&query).await) {
                without.push((place, query));
            }
        }
    }
    for rule in prometheus.rules().await {
        assert_eq!(rule["health"], "ok", "{rule}");
        assert!(rule["state"] != "firing" || rule["labels"]["severity"] == "ticket", "{} fires although all is well", rule["name"]);
    }
}

/// Prometheus makes the same dashboards by itself, and each number is there.
async fn assert_consoles_have_data(prometheus: &Prometheus) {
    for file in fs::read_dir(root().join("deploy/prometheus/consoles")).unwrap() {
        let name = file.unwrap().file_name().into_string().unwrap();
        let page = prometheus.console(&name).await;
        assert!(!page.contains("nothing yet") && !page.contains("<td>none</td>") && !page.contains("NaN"), "{name}: {page}");
        let numbers = page.matches("<td class=").count() + page.matches("<td>").count();
        assert!(numbers >= 10, "{name} has {numbers} numbers: {page}");
    }
    let page = prometheus.console("delivery.html").await;
    let (_, objective) = page.split_once("<h3>Within 10 s</h3>").unwrap();
    let (objective, _) = objective.split_once("</section>").unwrap();
    assert!(objective.contains("<td class=\"green\">100%</td>"), "{objective}");
}

/// Whether a query is answered with numbers. Where nothing was counted a share is none, which a panel shows as nothing.
fn has_data(series: &[Value]) -> bool {
    series.iter().any(|one| one["value"][1].as_str().is_some_and(|value| value != "NaN"))
}

#[tokio::test]
async fn every_panel_and_alert_has_data_of_one_process() {
    let server = Server::at(Home::new(&format!("[server]\nadmin_listen = \"127.0.0.1:0\"\n{SETTINGS}"))).await;
    let admin = server.admin().await;
    let prometheus = Prometheus::scraping(&[admin]).await;
    let receivers = register(&server.api).await;
    assert_everything_has_data(&prometheus, &server.api, &receivers).await;
    assert_consoles_have_data(&prometheus).await;
}

#[tokio::test]
async fn what_the_page_of_an_endpoint_advises_can_be_done() {
    let dashboard: Value =
        serde_json::from_str(&fs::read_to_string(root().join("deploy/grafana/dashboards/endpoint.json")).unwrap()).unwrap();
    let mut texts = dashboard["panels"].as_array().unwrap().iter().filter_map(|panel| panel["options"]["content"].as_str());
    let text = texts.next().unwrap().to_owned();
    let server = Server::start().await;
    let receiver = Receiver::answering(200).await;
    let endpoint = server.api.register(&receiver, json!({})).await["id"].as_str().unwrap().to_owned();
    let mut ran = 0;
    for command in text.lines().filter_map(|line| line.strip_prefix("$ postrider ")) {
        let command = command.replace("ENDPOINT", &endpoint);
        let mut program = tokio::process::Command::new(env!("CARGO_BIN_EXE_postrider"));
        program.args(command.split(' ')).env("POSTRIDER_URL", format!("http://{}", server.address)).env("POSTRIDER_API_KEY", KEY);
        let output = program.output().await.unwrap();
        assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
        ran += 1;
    }
    assert_eq!(ran, 3);
    let api = server.api.get("/openapi.json").await;
    for call in text.lines().filter_map(|line| line.strip_prefix("| `")).map(|rest| rest.split('`').next().unwrap()) {
        let (method, path) = call.split_once(' ').unwrap();
        assert!(api["paths"][path][method.to_lowercase()].is_object(), "{call} does not exist");
    }
}

#[test]
fn rules_are_valid_and_fire_when_they_should() {
    for args in [
        ["check", "config", "deploy/prometheus/prometheus.yml"],
        ["check", "rules", "deploy/prometheus/rules.yml"],
        ["test", "rules", "deploy/prometheus/tests.yml"],
    ] {
        let output = Command::new(program("promtool")).args(args).current_dir(root()).output().unwrap();
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{args:?}: {said}");
    }
    let tests = fs::read_to_string(root().join("deploy/prometheus/tests.yml")).unwrap();
    for alert in alerts() {
        let asked: Vec<&str> = tests.split("alertname: ").filter(|rest| rest.starts_with(alert.name)).collect();
        assert!(asked.len() >= 2, "nothing tests that {} fires, and that it does not", alert.name);
    }
}
