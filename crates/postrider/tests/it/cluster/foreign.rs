//! Others write to Kafka with tools of their own: what is an event is delivered, what is not says why it isn't.

use std::process::Stdio;

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

use super::world::{Cluster, servers, tool};
use crate::receiver::Receiver;
use crate::world::eventually;

/// Writes lines with the console producer: headers, a tab, the key, a tab, the value.
pub(crate) async fn produce(servers: &Value, kafka: &str, topic: &str, lines: &[&str]) {
    let properties = [
        "--property",
        "parse.headers=true",
        "--property",
        "parse.key=true",
        "--property",
        "key.separator=\t",
        "--property",
        "headers.delimiter=\t",
    ];
    let args = [&["--bootstrap-server", kafka, "--topic", topic][..], &properties].concat();
    let mut child = tool(servers, "org.apache.kafka.tools.ConsoleProducer", &args)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all((lines.join("\n") + "\n").as_bytes()).await.unwrap();
    let done = child.wait_with_output().await.unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

/// Reads `count` records of a topic with the console consumer, with their headers.
pub(crate) async fn consume(servers: &Value, kafka: &str, topic: &str, count: usize) -> Vec<String> {
    let count_text = count.to_string();
    let args = [
        "--bootstrap-server",
        kafka,
        "--topic",
        topic,
        "--from-beginning",
        "--max-messages",
        &count_text,
        "--timeout-ms",
        "30000",
        "--property",
        "print.headers=true",
    ];
    let done = tool(servers, "org.apache.kafka.tools.consumer.ConsoleConsumer", &args).output().await.unwrap();
    let lines: Vec<String> = String::from_utf8_lossy(&done.stdout).lines().map(str::to_owned).collect();
    assert_eq!(lines.len(), count, "{}", String::from_utf8_lossy(&done.stderr));
    lines
}

#[tokio::test]
async fn what_others_write_is_delivered_and_garbage_is_told_apart() {
    let servers = servers();
    let unique = tempfile::tempdir().unwrap();
    let orders = format!("orders{}", unique.path().file_name().unwrap().to_str().unwrap().replace('.', ""));
    let kafka = servers["kafka"].as_str().unwrap();
    let create = ["--bootstrap-server", kafka, "--create", "--topic", &orders, "--partitions", "2", "--replication-factor", "1"];
    let created = tool(&servers, "org.apache.kafka.tools.TopicCommand", &create).output().await.unwrap();
    assert!(created.status.success(), "{}", String::from_utf8_lossy(&created.stderr));
    let source = format!("[[sources]]\ntopic = \"{orders}\"\ntenant = \"default\"\nformat = \"json\"\nevent_type = \"/kind\"\n");
    let cluster = Cluster::new(&source, 4).await;
    let node = cluster.start("api,router,deliver").await;
    let receiver = Receiver::answering(200).await;
    node.api().register(&receiver, json!({})).await;

    let events = format!("{}.events", cluster.name);
    let written = [
        "x:y\tk1\t{\"type\":\"plain.json\",\"data\":{\"n\":1}}",
        "content-type:application/cloudevents+json\tk2\t{\"specversion\":\"1.0\",\"id\":\"c1\",\"source\":\"/s\",\"type\":\"cloud.structured\",\"data\":{\"n\":2}}",
        "ce_specversion:1.0,ce_id:c2,ce_source:/s,ce_type:cloud.binary,content-type:application/json\tk3\t{\"n\":3}",
        "x:y\tk4\tthis is not JSON",
        "x:y\tk5\t{\"type\":\"no data\"}",
        "x:y\tk6\t{\"type\":\"after.garbage\",\"data\":{\"n\":4}}",
    ];
    produce(&servers, kafka, &events, &written).await;
    // The header that our own records have says nothing in a source.
    let bound = ["postrider:1\to1\t{\"kind\":\"order.paid\",\"total\":5}", "x:y\to2\t{\"total\":6}", "x:y\to3\t{\"kind\":\"order.sent\"}"];
    produce(&servers, kafka, &orders, &bound).await;

    let got = receiver.wait_for(6).await;
    let mut kinds: Vec<String> = got.iter().map(|got| got.header("x-webhook-event").to_owned()).collect();
    kinds.sort_unstable();
    assert_eq!(kinds, ["after.garbage", "cloud.binary", "cloud.structured", "order.paid", "order.sent", "plain.json"]);
    let paid = got.iter().find(|got| got.header("x-webhook-event") == "order.paid").unwrap().json();
    assert_eq!(paid["data"], json!({ "kind": "order.paid", "total": 5 }));
    let listed = async || Some(node.api().get("/v1/events?type=plain.json").await).filter(|list| list["events"].get(0).is_some());
    eventually("the event is listed", listed).await;

    let letters = consume(&servers, kafka, &format!("{}.dead-letters", cluster.name), 3).await;
    for (what, topic, reason) in [
        ("this is not JSON", &events, "the body is not JSON"),
        ("no data", &events, "data"),
        ("{\"total\":6}", &orders, "/kind: is missing"),
    ] {
        let letter = letters.iter().find(|letter| letter.contains(what)).unwrap_or_else(|| panic!("{what} is not in {letters:?}"));
        for part in [format!("failure-topic:{topic}"), "failure-partition:".to_owned(), "failure-offset:".to_owned(), reason.to_owned()] {
            assert!(letter.contains(&part), "{part} is not in {letter}");
        }
    }
}
