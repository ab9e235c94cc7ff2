//! What is wrong is said at start, within ten seconds, in words that tell what to do.

use std::time::{Duration, Instant};

use postrider_test_servers::Certificates;
use serde_json::json;

use super::servers::{Server, Servers};
use super::world::{Cluster, address, servers};
use crate::receiver::Receiver;
use crate::world::eventually;

/// A password that nobody has.
const WRONG: &str = "not the password";

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
    let secret = environment.iter().find(|(name, value)| name.ends_with("PASSWORD") && *value == WRONG);
    assert!(secret.is_none() || !errors.contains(WRONG), "it shows a secret: {errors}");
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

/// A CQL server that speaks TLS only: who trusts its authority and knows the password works with it; everyone else hears why not.
#[tokio::test]
async fn a_cql_server_that_asks_who_one_is_lets_in_those_it_knows() {
    let own = Servers::start_secure_cql().await;
    let (kafka, cql) = (address(&servers(), "kafka"), own.address(Server::Cql));
    let cluster = Cluster::configured(&kafka, &cql, "", 4);
    let (authority, stranger) = (own.cql_authority(), Certificates::new());
    let user = ("POSTRIDER__SCYLLA__USERNAME", "cassandra");
    let (password, ca) = (("POSTRIDER__SCYLLA__PASSWORD", "cassandra"), ("POSTRIDER__SCYLLA__CA", authority.as_str()));
    let right = [user, password, ca];
    // It makes its user some seconds after it begins to listen.
    eventually("it is let in", async || {
        let mut migrate = cluster.run(&["migrate", "--config", &cluster.config()], &right);
        migrate.ended().await.success().then_some(())
    })
    .await;
    let nobody = ("POSTRIDER__SCYLLA__USERNAME", "nobody");
    refused(
        &cluster,
        &["serve"],
        &[user, ("POSTRIDER__SCYLLA__PASSWORD", WRONG), ca],
        &["refuses the login", "check the user and the password"],
    )
    .await;
    refused(&cluster, &["serve"], &[nobody, password, ca], &["refuses the login", "check the user and the password"]).await;
    refused(&cluster, &["serve"], &[user, password], &[&cql]).await;
    let other = stranger.authority().display().to_string();
    refused(&cluster, &["serve"], &[user, password, ("POSTRIDER__SCYLLA__CA", &other)], &[&cql, "certificate"]).await;
    let mut settings = std::fs::read_to_string(cluster.config()).unwrap();
    settings =
        settings.replace("[scylla]\n", &format!("[scylla]\nusername = \"cassandra\"\npassword = \"cassandra\"\nca = {authority:?}\n"));
    std::fs::write(cluster.config(), settings).unwrap();
    let node = cluster.start("api,router,deliver").await;
    let (api, receiver) = (node.api(), Receiver::answering(200).await);
    api.register(&receiver, json!({})).await;
    let event = api.send(json!({ "type": "a.b", "data": 1 })).await;
    receiver.wait_for(1).await;
    api.until_delivery_is(&event, "succeeded").await;
}
