//! What is wrong is said at start, within ten seconds, in words that tell what to do.

use std::time::{Duration, Instant};

use super::world::{Cluster, address, servers};

/// Runs `serve`, or `migrate`, which must fail in time with these words.
async fn refused(cluster: &Cluster, args: &[&str], environment: &[(&str, &str)], words: &[&str]) {
    let started = Instant::now();
    let config = cluster.config();
    let mut process = cluster.run(&[args, &["--config", &config]].concat(), environment);
    let status = process.ended().await;
    let took = started.elapsed();
    let errors = process.errors();
    assert!(!status.success(), "it started: {}", process.output());
    for word in words {
        assert!(errors.contains(word), "`{word}` is not in: {errors}");
    }
    assert!(took < Duration::from_secs(11), "it took {took:?}");
}

#[tokio::test]
async fn servers_that_are_not_there_or_not_ready_are_named() {
    let servers = servers();
    let (kafka, cql) = (address(&servers, "kafka"), address(&servers, "cql"));
    let nowhere = "127.0.0.1:1";

    let no_kafka = Cluster::configured(nowhere, &cql, "", 4);
    refused(&no_kafka, &["serve"], &[], &["127.0.0.1:1", "kafka.brokers"]).await;
    let no_cql = Cluster::new("", 4).await;
    refused(&no_cql, &["serve"], &[("POSTRIDER__SCYLLA__NODES", "[\"127.0.0.1:1\"]")], &["127.0.0.1:1"]).await;

    let not_migrated = Cluster::configured(&kafka, &cql, "", 4);
    refused(&not_migrated, &["serve"], &[], &["does not exist", "postrider migrate"]).await;
    let migrated = Cluster::new("", 4).await;
    refused(&migrated, &["serve"], &[("POSTRIDER__SCYLLA__KEYSPACE", "nobody_made_it")], &["nobody_made_it", "run the migration"]).await;
    refused(&migrated, &["serve"], &[("POSTRIDER__KAFKA__PREFIX", "nobody.made.it.")], &["nobody.made.it.", "migrate"]).await;
    refused(&migrated, &["migrate"], &[("POSTRIDER__KAFKA__PARTITIONS", "2")], &["4 partitions"]).await;
    refused(&migrated, &["migrate"], &[("POSTRIDER__KAFKA__PARTITIONS", "8")], &["docs/operations.md"]).await;
    refused(&migrated, &["migrate"], &[("POSTRIDER__SCYLLA__REPLICATION_FACTOR", "3")], &["replication"]).await;

    let wrong_source =
        Cluster::configured(&kafka, &cql, "[[sources]]\ntopic = \"nobody-made-it\"\ntenant = \"default\"\nformat = \"json\"", 4);
    refused(&wrong_source, &["migrate"], &[("POSTRIDER__KAFKA__BROKERS", nowhere)], &["127.0.0.1:1"]).await;
}

#[tokio::test]
async fn wrong_credentials_are_told_from_servers_that_are_not_there() {
    let servers = servers();
    let brokers = address(&servers, "kafka_sasl_ssl");
    let cluster = Cluster::configured(&brokers, &address(&servers, "cql"), "", 4);
    let mut settings = std::fs::read_to_string(cluster.config()).unwrap();
    let properties = format!(
        "[kafka.properties]\n\"security.protocol\" = \"sasl_ssl\"\n\"ssl.ca.location\" = \"{}\"\n\"sasl.mechanism\" = \"SCRAM-SHA-512\"\n\
         \"sasl.username\" = \"{}\"\n\"sasl.password\" = \"not the password\"\n",
        address(&servers, "kafka_ca"),
        address(&servers, "kafka_user"),
    );
    settings.push_str(&properties);
    std::fs::write(cluster.config(), settings).unwrap();
    refused(&cluster, &["serve"], &[], &["refuse the credentials"]).await;
    let shown = std::process::Command::new(env!("CARGO_BIN_EXE_postrider"))
        .args(["config", "show", "--config", &cluster.config()])
        .output()
        .unwrap();
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.contains("sasl.username") && shown.contains("********") && !shown.contains("not the password"), "{shown}");
}
