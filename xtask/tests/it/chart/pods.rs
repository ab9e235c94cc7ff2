//! What the chart's pods may do, and that what they refer to is there.

use std::collections::BTreeSet;

use postrider_core::job::JobKind;
use serde_json::{Value, json};

use crate::tools::{helm, read, refused};

use super::rendered::{CHART, EVERYTHING, LEAST, Rendered, selects, text};

#[test]
fn every_pod_is_locked_down() {
    for rendered in Rendered::all() {
        for (_, pod) in rendered.pods() {
            assert_eq!(pod["automountServiceAccountToken"], false);
            assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
            assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
            let [container] = pod["containers"].as_array().unwrap().as_slice() else { panic!("one container") };
            let context = &container["securityContext"];
            assert_eq!((&context["readOnlyRootFilesystem"], &context["allowPrivilegeEscalation"]), (&json!(true), &json!(false)));
            assert_eq!(context["capabilities"]["drop"], json!(["ALL"]));
            assert!(container["resources"]["limits"].is_object() && !text(container, "/image").ends_with(':'), "{container}");
        }
    }
}

#[test]
fn a_pod_of_each_role_is_asked_how_it_is_and_has_time_to_end() {
    let defaults: toml::Table = read("crates/postrider/src/default.toml").parse().unwrap();
    let roles: BTreeSet<&str> = defaults["server"]["roles"].as_array().unwrap().iter().map(|role| role.as_str().unwrap()).collect();
    for (values, drain) in [(&[][..], defaults["server"]["drain_seconds"].as_integer().unwrap()), (&[EVERYTHING][..], 45)] {
        let rendered = Rendered::with(values);
        let mut found = BTreeSet::new();
        for (name, deployment) in rendered.kind("Deployment") {
            let pod = &deployment["spec"]["template"]["spec"];
            let container = &pod["containers"][0];
            let role = container["args"].as_array().unwrap().last().unwrap().as_str().unwrap();
            assert!(name.ends_with(role) && found.insert(role.to_owned()), "{name} does {role}");
            let pause = container
                .pointer("/lifecycle/preStop/exec/command/1")
                .map_or(0, |seconds| seconds.as_str().unwrap().parse::<i64>().unwrap());
            assert!(pod["terminationGracePeriodSeconds"].as_i64().unwrap() > drain + pause, "{name} is killed while it drains");
            for (probe, path) in [("startupProbe", "/livez"), ("livenessProbe", "/livez"), ("readinessProbe", "/readyz")] {
                assert_eq!(container[probe]["httpGet"], json!({ "path": path, "port": "admin" }));
            }
            assert!(container["ports"].as_array().unwrap().contains(&json!({ "name": "admin", "containerPort": 9464 })));
        }
        assert_eq!(found, roles.iter().map(|&role| role.to_owned()).collect::<BTreeSet<_>>());
    }
}

#[test]
fn what_a_pod_mounts_is_there() {
    for rendered in Rendered::all() {
        for (metadata, pod) in rendered.pods() {
            let mut volumes = BTreeSet::new();
            for volume in pod["volumes"].as_array().unwrap() {
                volumes.insert(text(volume, "/name"));
                if let Some(map) = volume.pointer("/configMap/name") {
                    let map = rendered.one("ConfigMap", map.as_str().unwrap());
                    // Before the release there is only what hooks have made.
                    let migrates = metadata["labels"]["app.kubernetes.io/component"] == "migrate";
                    assert_eq!(map["metadata"]["annotations"]["helm.sh/hook"].is_string(), migrates);
                }
                if let Some(claim) = volume.pointer("/persistentVolumeClaim/claimName").filter(|claim| **claim != "shared") {
                    let claim = rendered.one("PersistentVolumeClaim", claim.as_str().unwrap());
                    assert_eq!(claim["spec"]["accessModes"], json!(["ReadWriteMany"]));
                }
            }
            let mounts = pod["containers"][0]["volumeMounts"].as_array().unwrap();
            assert_eq!(mounts.iter().map(|mount| text(mount, "/name")).collect::<BTreeSet<_>>(), volumes);
            if let Some(account) = pod["serviceAccountName"].as_str().filter(|account| *account != "default") {
                assert_eq!(rendered.one("ServiceAccount", account)["automountServiceAccountToken"], false);
            }
        }
    }
}

#[test]
fn only_roles_with_jobs_have_the_blobs() {
    for (_, deployment) in Rendered::with(&[]).kind("Deployment") {
        let component = text(deployment, "/metadata/labels/app.kubernetes.io~1component");
        let mounts = deployment["spec"]["template"]["spec"]["containers"][0]["volumeMounts"].as_array().unwrap();
        let blobs = mounts.iter().any(|mount| mount["mountPath"] == "/var/lib/postrider");
        assert_eq!(blobs, ["api", "compute"].contains(&component), "{component}");
    }
}

#[test]
fn blobs_in_a_bucket_need_no_volume() {
    let rendered = Rendered::with(&[LEAST]);
    assert!(rendered.kind("PersistentVolumeClaim").is_empty() && !rendered.text.contains("/var/lib/postrider"), "{}", rendered.text);
    let config = text(rendered.kind("ConfigMap")[0].1, "/data/postrider.toml");
    assert!(config.contains("url = \"s3://artifacts/hooks\""), "{config}");
    let elsewhere = refused(&helm(&["template", "x", CHART, "--set", "config.blobs.url=file:///elsewhere"]));
    assert!(elsewhere.contains("config.blobs.url is file:///elsewhere"), "{elsewhere}");
}

#[test]
fn selectors_select_what_they_are_for() {
    for rendered in Rendered::all() {
        let pods = rendered.pods();
        let selected = |selector: &Value| -> Vec<&str> {
            let chosen = pods.iter().filter(|(metadata, _)| selects(selector, &metadata["labels"]));
            chosen.map(|(metadata, _)| text(metadata, "/labels/app.kubernetes.io~1component")).collect()
        };
        for kind in ["Deployment", "PodDisruptionBudget"] {
            for (name, object) in rendered.kind(kind) {
                let component = text(object, "/metadata/labels/app.kubernetes.io~1component");
                assert_eq!(selected(&object["spec"]["selector"]), [component], "{kind} {name}");
            }
        }
        for (_, service) in rendered.kind("Service") {
            assert_eq!(selected(&json!({ "matchLabels": service["spec"]["selector"] })), ["api"]);
        }
        for (_, monitor) in rendered.kind("PodMonitor") {
            assert_eq!(selected(&monitor["spec"]["selector"]), ["api", "router", "deliver", "compute"]);
        }
    }
}

#[test]
fn what_scales_by_lag_reads_the_topics_and_groups_of_its_role() {
    let rendered = Rendered::with(&[EVERYTHING]);
    let watched = |role: &str| -> BTreeSet<(String, String)> {
        let triggers = rendered.one("ScaledObject", &format!("everything-{role}"))["spec"]["triggers"].as_array().unwrap();
        let pair = |trigger| (text(trigger, "/metadata/topic").to_owned(), text(trigger, "/metadata/consumerGroup").to_owned());
        triggers.iter().map(pair).collect()
    };
    let named = |topic: &str, group: &str| (topic.to_owned(), group.to_owned());
    assert_eq!(watched("deliver"), BTreeSet::from([named("hooks.deliveries", "hooks.deliver.deliveries")]));
    let router = ["hooks.events", "orders", "bills"];
    assert_eq!(
        watched("router"),
        BTreeSet::from(router.map(|topic| named(topic, &format!("hooks.router.{}", topic.trim_start_matches("hooks.")))))
    );
    let jobs = JobKind::ALL.map(|kind| format!("jobs.{}", kind.name()));
    assert_eq!(watched("compute"), BTreeSet::from(jobs.map(|topic| named(&format!("hooks.{topic}"), &format!("hooks.compute.{topic}")))));
    // Who scales decides how many there are.
    for (_, deployment) in rendered.kind("Deployment") {
        assert!(deployment["spec"]["replicas"].is_null());
    }
    for (_, deployment) in Rendered::with(&[LEAST]).kind("Deployment") {
        assert_eq!(deployment["spec"]["replicas"], 1);
    }
}
