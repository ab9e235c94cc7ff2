//! A trace leads from who sends over each attempt to who receives, and whoever takes its spans is never waited for.

use std::net::TcpListener;
use std::str::FromStr;

use postrider_core::id::Uid;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::collector::{Collector, parts, send, settings};
use crate::jobs::calls;
use crate::metrics::scrape;
use crate::receiver::{Receiver, Reply};
use crate::world::{Home, Server, answer, eventually};

pub(crate) const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
pub(crate) const CALLER: &str = "00f067aa0ba902b7";

fn sampled() -> String {
    format!("00-{TRACE}-{CALLER}-01")
}

/// Fails the first attempt of each delivery.
async fn flaky() -> Receiver {
    Receiver::start(|got| Reply::Status(if got.number("x-webhook-attempt") == 1 { 500 } else { 200 })).await
}

#[tokio::test]
async fn a_trace_leads_from_the_request_over_each_attempt_to_the_receiver() {
    let collector = Collector::start().await;
    let mut server = Server::at(Home::new(&collector.settings(0.0))).await;
    let receiver = flaky().await;
    let endpoint = server.api.register(&receiver, json!({ "retry": { "schedule": [1, 1] } })).await;
    let event = send(&server.api, "a.b", &[("traceparent", &sampled()), ("tracestate", "rojo=1,congo=t61rcWkgMzE")]).await;

    let got = receiver.wait_for(2).await;
    let ingest = &collector.named(TRACE, "ingest event", 1).await[0];
    let attempts = collector.named(TRACE, "deliver", 2).await;
    assert_eq!((&ingest["parent"], &ingest["kind"]), (&json!(CALLER), &json!("SPAN_KIND_SERVER")));
    assert_eq!(ingest["attributes"], json!({ "postrider.tenant": "default", "postrider.event.id": event, "postrider.event.type": "a.b" }));
    for (attempt, (span, got)) in attempts.iter().zip(&got).enumerate() {
        let [version, trace, parent, flags] = parts(got.header("traceparent"));
        assert_eq!((version.as_str(), trace.as_str(), flags.as_str()), ("00", TRACE, "01"));
        assert_eq!(got.header("tracestate"), "rojo=1,congo=t61rcWkgMzE");
        assert_eq!((&span["span"], &span["parent"]), (&json!(parent), &ingest["span"]), "{span}");
        assert_eq!((&span["kind"], &span["state"]), (&json!("SPAN_KIND_CLIENT"), &json!("rojo=1,congo=t61rcWkgMzE")));
        assert_eq!(span["resource"]["service.name"], "postrider");
        let said = &span["attributes"];
        assert_eq!((&said["postrider.event.id"], &said["postrider.endpoint.id"]), (&json!(event), &endpoint["id"]));
        assert_eq!((&said["postrider.delivery.id"], &said["postrider.tenant"]), (&json!(got.header("webhook-id")), &json!("default")));
        assert_eq!(said["postrider.attempt"], attempt + 1);
        assert_eq!((&said["http.response.status_code"], &span["failed"]), (&json!([500, 200][attempt]), &json!(attempt == 0)));
    }
    assert_ne!(attempts[0]["span"], attempts[1]["span"]);
    server.stop().await;
}

#[tokio::test]
async fn what_is_not_sampled_is_handed_on_and_recorded_nowhere() {
    let collector = Collector::start().await;
    let mut server = Server::at(Home::new(&collector.settings(0.0))).await;
    let receiver = flaky().await;
    server.api.register(&receiver, json!({ "events": ["a.*"], "retry": { "schedule": [1] } })).await;
    let left = format!("00-{TRACE}-{CALLER}-00");
    send(&server.api, "a.left", &[("traceparent", &left), ("tracestate", "a=1")]).await;
    let plain = send(&server.api, "a.plain", &[]).await;
    let odd = send(&server.api, "a.odd", &[("traceparent", "00-garbage"), ("tracestate", "a=1")]).await;

    let got = receiver.wait_for(6).await;
    let of = |kind: &str| got.iter().filter(|got| got.header("x-webhook-event") == kind).collect::<Vec<_>>();
    for got in of("a.left") {
        assert_eq!((got.header("traceparent"), got.header("tracestate")), (left.as_str(), "a=1"));
    }
    for (kind, event) in [("a.plain", plain), ("a.odd", odd)] {
        let number = Uid::from_str(&event).unwrap().0;
        let found = of(kind);
        let spans: Vec<String> = found
            .iter()
            .map(|got| {
                let [_, trace, span, flags] = parts(got.header("traceparent"));
                assert_eq!((trace, flags.as_str(), got.headers.get("tracestate")), (format!("{number:032x}"), "00", None));
                span
            })
            .collect();
        assert!(spans.len() == 2 && spans[0] != spans[1], "{spans:?}");
    }
    // What is left is sent before the process ends.
    send(&server.api, "b", &[("traceparent", &format!("00-{}-{CALLER}-01", TRACE.replace('4', "5")))]).await;
    server.stop().await;
    assert_eq!(collector.named(&TRACE.replace('4', "5"), "ingest event", 1).await.len(), 1);
    assert!(collector.spans(TRACE).is_empty());
}

#[tokio::test]
async fn an_event_without_a_trace_begins_one_where_its_share_is_recorded() {
    let collector = Collector::start().await;
    let server = Server::at(Home::new(&collector.settings(1.0))).await;
    let receiver = Receiver::answering(200).await;
    server.api.register(&receiver, json!({})).await;
    let event = send(&server.api, "a.b", &[]).await;
    let trace = format!("{:032x}", Uid::from_str(&event).unwrap().0);
    let ingest = &collector.named(&trace, "ingest event", 1).await[0];
    let deliver = &collector.named(&trace, "deliver", 1).await[0];
    assert_eq!((&ingest["parent"], &deliver["parent"]), (&json!(""), &ingest["span"]));
    let expected = format!("00-{trace}-{}-01", deliver["span"].as_str().unwrap());
    assert_eq!(receiver.wait_for(1).await[0].header("traceparent"), expected);

    // Nobody wants it: the router keeps it.
    let event = send(&server.api, "c.d", &[]).await;
    let trace = format!("{:032x}", Uid::from_str(&event).unwrap().0);
    assert_eq!(collector.named(&trace, "deliver", 1).await.len(), 1);
}

#[tokio::test]
async fn a_job_s_calls_are_part_of_its_run_and_that_of_the_request() {
    let collector = Collector::start().await;
    let server = Server::at(Home::new(&collector.settings(0.0))).await;
    let (receiver, called) = (Receiver::answering(200).await, Receiver::answering(200).await);
    let job = json!({ "kind": "http", "input": { "url": called.url() }, "webhook_url": receiver.url() });
    let request = server.api.request(Method::POST, "/v1/jobs").header("traceparent", sampled()).header("tracestate", "a=1").json(&job);
    let (status, accepted) = answer(request).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{accepted}");
    let id = accepted["job_id"].as_str().unwrap();
    let made = eventually("the job's call", async || calls(&receiver).remove(id)).await;

    let ingest = &collector.named(TRACE, "ingest job", 1).await[0];
    let run = &collector.named(TRACE, "run job", 1).await[0];
    let deliver = &collector.named(TRACE, "deliver", 1).await[0];
    assert_eq!((&ingest["parent"], &run["parent"], &deliver["parent"]), (&json!(CALLER), &ingest["span"], &run["span"]));
    let said = json!({ "postrider.tenant": "default", "postrider.job.id": id, "postrider.job.kind": "http" });
    assert_eq!((&run["attributes"], &run["failed"], &run["kind"]), (&said, &json!(false), &json!("SPAN_KIND_CONSUMER")));
    let handed_on = |span: &Value| format!("00-{TRACE}-{}-01", span["span"].as_str().unwrap());
    assert_eq!(made[0].header("traceparent"), handed_on(deliver));
    assert_eq!(made[0].header("tracestate"), "a=1");
    assert_eq!(called.wait_for(1).await[0].header("traceparent"), handed_on(run));

    // One that comes without a trace has one of its own, in all that is told of it.
    let accepted = server.api.post("/v1/jobs", job).await;
    let id = accepted["job_id"].as_str().unwrap();
    let made = eventually("the job's call", async || calls(&receiver).remove(id)).await;
    let [_, trace, _, flags] = parts(made[0].header("traceparent"));
    assert_eq!((trace.as_str(), flags.as_str()), (&*parts(called.wait_for(2).await[1].header("traceparent"))[1], "00"));
}

#[tokio::test]
async fn a_collector_that_hangs_refuses_or_is_gone_is_not_felt() {
    const EVENTS: usize = 3000;
    let (hanging, failing) = (Receiver::start(|_| Reply::Hang).await, Receiver::answering(500).await);
    let gone = format!("http://{}", TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap());
    for (endpoint, outcome) in [(hanging.url(), "dropped"), (failing.url(), "refused"), (gone, "dropped")] {
        let endpoint = endpoint.trim_end_matches("/hook");
        let settings = format!("[server]\nadmin_listen = \"127.0.0.1:0\"\n{}", settings(endpoint, 1.0));
        let mut server = Server::at(Home::new(&settings)).await;
        let receiver = Receiver::answering(200).await;
        server.api.register(&receiver, json!({})).await;
        for batch in 0..EVENTS / 1000 {
            server.api.send_all((0..1000).map(|n| json!({ "type": "a.b", "data": { "n": 1000 * batch + n } })).collect()).await;
        }
        receiver.wait_until(EVENTS).await;
        let admin = server.admin().await;
        let series = format!("postrider_spans_total{{outcome=\"{outcome}\"}}");
        eventually(&format!("spans are {outcome}"), async || scrape(&admin).await.get(&series).filter(|count| **count > 0.0).copied())
            .await;
        assert!(!scrape(&admin).await.get("postrider_spans_total{outcome=\"sent\"}").is_some_and(|count| *count > 0.0));
        let said = server.process.errors().matches("spans can't be sent").count();
        assert!(said <= 1, "it was said {said} times");
        server.stop().await;
    }
}
