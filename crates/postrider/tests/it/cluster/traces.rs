//! A trace that begins with a program that writes to Kafka leads through two processes to who receives.

use serde_json::json;

use super::foreign::produce;
use super::world::{Cluster, address, servers};
use crate::collector::{Collector, parts, send};
use crate::receiver::Receiver;
use crate::traces::{CALLER, TRACE};

#[tokio::test]
async fn a_trace_leads_from_a_record_through_processes_to_the_receiver() {
    let (servers, collector) = (servers(), Collector::start().await);
    let cluster = Cluster::new(&collector.settings(0.0), 2).await;
    let router = cluster.start("router").await;
    let node = cluster.start("api,deliver").await;
    let receiver = Receiver::answering(200).await;
    node.api().register(&receiver, json!({})).await;

    let record = format!("traceparent:00-{TRACE}-{CALLER}-01,tracestate:rojo=1\tk\t{{\"type\":\"a.b\",\"data\":{{}}}}");
    let kafka = address(&servers, "kafka");
    produce(&servers, &kafka, &format!("{}.events", cluster.name), &[&record]).await;
    let got = &receiver.wait_for(1).await[0];
    let route = &collector.named(TRACE, "route event", 1).await[0];
    let deliver = &collector.named(TRACE, "deliver", 1).await[0];
    assert_eq!((&route["parent"], &deliver["parent"]), (&json!(CALLER), &route["span"]));
    assert_eq!((&route["kind"], &route["attributes"]["postrider.deliveries"]), (&json!("SPAN_KIND_CONSUMER"), &json!(1)));
    assert_eq!(route["attributes"]["postrider.event.id"], deliver["attributes"]["postrider.event.id"]);
    assert_ne!(route["resource"]["service.instance.id"], deliver["resource"]["service.instance.id"]);
    let [_, trace, span, flags] = parts(got.header("traceparent"));
    assert_eq!((trace.as_str(), json!(span), flags.as_str()), (TRACE, deliver["span"].clone(), "01"));
    assert_eq!(got.header("tracestate"), "rojo=1");

    // What the API takes and nobody wants is left to the router, in the same trace.
    let other = TRACE.replace('4', "5");
    let paused = node.api().get("/v1/webhooks").await["webhooks"][0]["id"].as_str().unwrap().to_owned();
    node.api().delete(&format!("/v1/webhooks/{paused}")).await;
    send(&node.api(), "c.d", &[("traceparent", &format!("00-{other}-{CALLER}-01"))]).await;
    let ingest = &collector.named(&other, "ingest event", 1).await[0];
    let route = &collector.named(&other, "route event", 1).await[0];
    assert_eq!((&ingest["parent"], &route["parent"]), (&json!(CALLER), &ingest["span"]));
    drop(router);
}
