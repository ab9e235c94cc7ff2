//! The Helm chart: what it renders is what Kubernetes and Postrider take, and fits together.

mod config;
mod network;
mod pods;
mod rendered;

use serde_json::Value;

use crate::tools::{accepted, helm, read, refused, schemas};

use rendered::{CHART, EVERYTHING, Rendered};

#[test]
fn helm_finds_nothing_wrong_with_it() {
    for values in Rendered::VALUES {
        let given: Vec<&str> = values.iter().flat_map(|file| ["--values", *file]).collect();
        accepted(helm(&[&["lint", "--strict", CHART][..], &given].concat()));
    }
}

#[test]
fn its_image_is_this_versions() {
    let version = |file: &str, key: &str| {
        let text = read(file);
        let line = text.lines().find(|line| line.starts_with(key)).unwrap_or_else(|| panic!("{file} has no {key}")).to_owned();
        line.split('"').nth(1).unwrap().to_owned()
    };
    assert_eq!(version(&format!("{CHART}/Chart.yaml"), "appVersion:"), version("Cargo.toml", "version = "));
}

#[test]
fn kubernetes_takes_what_it_renders() {
    for rendered in Rendered::all() {
        let taken = accepted(schemas("kubernetes", &rendered.text));
        assert_eq!(taken.lines().count(), rendered.objects.len(), "{taken}");
    }
}

#[test]
fn the_schemas_would_refuse_what_kubernetes_does_not_know() {
    let text = Rendered::with(&[EVERYTHING]).text;
    for (right, wrong) in [
        ("revisionHistoryLimit: 3", "revisionHistoryLimits: 3"),
        ("pathType: Prefix", "pathType: [Prefix]"),
        ("maxReplicaCount: 64", "maxReplicas: 64"),
        ("podMetricsEndpoints:", "endpoints:"),
    ] {
        assert!(text.contains(right), "{right}");
        refused(&schemas("kubernetes", &text.replacen(right, wrong, 1)));
    }
}

#[test]
fn a_value_that_it_does_not_know_is_refused() {
    for (wrong, named) in [
        ("nonsense=1", "nonsense"),
        ("config.kafka.partition=3", "partition"),
        ("config.kafka.partitions=many", "/config/kafka/partitions"),
        ("config.server.listen=0.0.0.0:80", "listen"),
        ("roles.api.replica=3", "replica"),
        ("roles.sender.replicas=3", "sender"),
        ("roles.api.autoscaling.by=lag", "roles.api.autoscaling.by"),
    ] {
        let errors = refused(&helm(&["template", CHART, "--set", wrong]));
        assert!(errors.contains(named), "{wrong}: {errors}");
    }
}

#[test]
fn secrets_among_the_values_are_refused() {
    for wrong in [
        "config.auth.bootstrap_key=x",
        "config.scylla.password=x",
        "config.upstream.api_key=x",
        "config.blobs.secret_access_key=x",
        r"config.kafka.properties.sasl\.password=x",
        "defaults.env.POSTRIDER_API_KEY=x",
        "roles.deliver.env.POSTRIDER__SCYLLA__PASSWORD=x",
        "secrets.POSTRIDER_API_KEY=x",
    ] {
        refused(&helm(&["template", CHART, "--set", wrong]));
    }
    // Every variable that can hold one comes from a Secret.
    for rendered in Rendered::all() {
        for (_, pod) in rendered.pods() {
            let container = &pod["containers"][0];
            for variable in container["env"].as_array().unwrap().iter().filter(|one| one["name"].as_str().unwrap().starts_with("POSTRIDER"))
            {
                assert!(variable["valueFrom"]["secretKeyRef"].is_object() && variable["value"] == Value::Null, "{variable}");
            }
        }
    }
}
