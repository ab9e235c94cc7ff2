//! What Prometheus is told is what took place.

use std::collections::BTreeMap;

use postrider_metrics::ALL;
use serde_json::json;

use crate::receiver::Receiver;
use crate::world::{Home, Server, eventually};

/// The value of each series.
pub(crate) type Series = BTreeMap<String, f64>;

pub(crate) async fn scrape(admin: &str) -> Series {
    let page = reqwest::get(format!("http://{admin}/metrics")).await.unwrap().text().await.unwrap();
    let series = page.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).map(|line| {
        let (name, value) = line.rsplit_once(' ').expect("a name and a value");
        (name.to_owned(), value.parse().unwrap())
    });
    series.collect()
}

#[tokio::test]
async fn what_an_operator_sees_is_what_took_place() {
    let mut server = Server::at(Home::new("[server]\nadmin_listen = \"127.0.0.1:0\"\n")).await;
    let admin = server.admin().await;
    let (healthy, dead) = (Receiver::answering(200).await, Receiver::answering(500).await);
    server.api.register(&healthy, json!({ "events": ["a.*"] })).await;
    server.api.register(&dead, json!({ "events": ["b.*"], "retry": { "schedule": [1] } })).await;
    server.api.send_all((0..20).map(|n| json!({ "type": "a.one", "data": { "n": n } })).collect()).await;
    server.api.send(json!({ "type": "b.one", "data": {} })).await;
    let pairs = json!([{ "candidate": "a cat", "references": ["the cat"] }]);
    let job = json!({ "kind": "evaluate", "input": { "pairs": pairs, "metrics": ["bleu"] }, "webhook_url": healthy.url() });
    server.api.post("/v1/jobs", job).await;
    let wanted = [
        // 20 events and the job's call.
        ("webhook_delivery_total{result=\"success\"}", 21.0),
        ("webhook_delivery_total{result=\"failure\"}", 1.0),
        ("webhook_retry_total", 1.0),
        ("postrider_attempts_total{outcome=\"success\"}", 21.0),
        ("postrider_attempts_total{outcome=\"refused\"}", 2.0),
        ("postrider_attempt_duration_seconds_count{outcome=\"refused\"}", 2.0),
        ("postrider_delivery_latency_seconds_count", 21.0),
        ("postrider_delivery_latency_seconds_bucket{le=\"172800\"}", 21.0),
        ("postrider_dead_letters_total{reason=\"exhausted\"}", 1.0),
        ("postrider_events_ingested_total{source=\"api\"}", 21.0),
        // The job waited, ran, ended; and a delivery was given up.
        ("postrider_events_ingested_total{source=\"job\"}", 3.0),
        ("postrider_events_ingested_total{source=\"postrider\"}", 1.0),
        ("job_status_total{kind=\"evaluate\",status=\"completed\"}", 1.0),
        ("job_processing_duration_seconds_count{kind=\"evaluate\",status=\"completed\"}", 1.0),
        ("postrider_in_flight", 0.0),
        ("postrider_breaker_state{state=\"open\"}", 0.0),
    ];
    let shown = eventually("everything is counted", async || {
        let shown = scrape(&admin).await;
        wanted.iter().all(|(name, value)| shown.get(*name) == Some(value)).then_some(shown)
    });
    let shown = shown.await;
    for series in shown.keys() {
        let name = series.split('{').next().unwrap();
        let stem = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
        assert!(ALL.iter().any(|known| [stem, name].contains(&known.name)), "{series} is not documented");
        assert!(!["ep_", "evt_", "job_0", "default"].iter().any(|id| series.contains(&format!("\"{id}"))), "{series} holds an id");
    }
    server.stop().await;
}
