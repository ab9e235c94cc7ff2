//! `docker-compose.yml` and what it refers to fit together. The Compose specification says what else may stand in it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;

use crate::tools::{accepted, postrider, read, root, schemas};

#[derive(Deserialize)]
struct Compose {
    services: BTreeMap<String, Service>,
    volumes: BTreeMap<String, Option<BTreeMap<String, String>>>,
}

#[derive(Deserialize)]
struct Service {
    image: String,
    build: Option<Build>,
    command: Option<String>,
    restart: Option<String>,
    healthcheck: Option<serde_json::Value>,
    #[serde(default)]
    environment: BTreeMap<String, String>,
    #[serde(default)]
    depends_on: BTreeMap<String, Dependency>,
    #[serde(default)]
    volumes: Vec<String>,
}

#[derive(Deserialize)]
struct Build {
    context: PathBuf,
    dockerfile: PathBuf,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Condition {
    ServiceHealthy,
    ServiceCompletedSuccessfully,
}

#[derive(Deserialize)]
struct Dependency {
    condition: Condition,
}

fn compose() -> Compose {
    serde_saphyr::from_str(&read("docker-compose.yml")).expect("docker-compose.yml is as it is read here")
}

#[test]
fn services_wait_for_what_they_can_wait_for() {
    let compose = compose();
    for (name, service) in &compose.services {
        for (other, dependency) in &service.depends_on {
            let awaited = compose.services.get(other).unwrap_or_else(|| panic!("{name} waits for {other}, which does not exist"));
            match dependency.condition {
                Condition::ServiceHealthy => assert!(awaited.healthcheck.is_some(), "{name} waits for {other} to be healthy"),
                Condition::ServiceCompletedSuccessfully => {
                    assert_eq!(awaited.restart.as_deref(), Some("no"), "{name} waits for {other} to end");
                }
            }
        }
        for volume in &service.volumes {
            let source = volume.split(':').next().unwrap();
            if source.starts_with("./") {
                assert!(root().join(source).exists() && volume.ends_with(":ro"), "{name} mounts {volume}");
                continue;
            }
            assert!(compose.volumes.contains_key(source), "{name} uses the volume {source}, which does not exist");
        }
        assert!(service.build.is_some() || service.image.contains(':'), "the image of {name} has no version");
    }
}

#[test]
fn every_role_has_a_service() {
    let defaults: toml::Table = read("crates/postrider/src/default.toml").parse().unwrap();
    for role in defaults["server"]["roles"].as_array().unwrap() {
        let role = role.as_str().unwrap();
        let command = compose().services[role].command.clone().unwrap();
        assert!(command.ends_with(&format!("--roles {role}")), "{command}");
    }
}

#[test]
fn variables_and_files_set_keys_that_exist() {
    let defaults: toml::Table = read("crates/postrider/src/default.toml").parse().unwrap();
    let known = |section: &str, key: &str| defaults.get(section).and_then(|section| section.get(key)).is_some();
    for (name, service) in &compose().services {
        for variable in service.environment.keys().filter_map(|variable| variable.strip_prefix("POSTRIDER__")) {
            let (section, key) = variable.split_once("__").unwrap();
            assert!(known(&section.to_lowercase(), &key.to_lowercase()), "{name} sets {variable}");
        }
    }
    let image: toml::Table = read("deploy/postrider.toml").parse().unwrap();
    for (section, value) in &image {
        assert!(defaults.contains_key(section), "deploy/postrider.toml sets {section}");
        for key in value.as_table().into_iter().flat_map(toml::Table::keys) {
            assert!(known(section, key), "deploy/postrider.toml sets {section}.{key}");
        }
    }
}

#[test]
fn the_image_is_built_from_files_that_exist() {
    let services = compose().services;
    let builds: Vec<&Build> = services.values().filter_map(|service| service.build.as_ref()).collect();
    assert!(!builds.is_empty());
    for build in builds {
        let dockerfile = read(build.context.join(&build.dockerfile));
        for line in dockerfile.lines().filter_map(|line| line.strip_prefix("COPY ")).filter(|line| !line.starts_with("--from")) {
            let source = line.split(' ').next().unwrap();
            assert!(root().join(source).exists(), "the image needs {source}");
        }
        let sent = read(build.context.join(format!("{}.dockerignore", build.dockerfile.display())));
        for path in sent.lines().filter_map(|line| line.strip_prefix('!')) {
            assert!(root().join(path).exists(), "the image is to be sent {path}");
        }
    }
}

#[test]
fn it_is_what_the_compose_specification_takes() {
    let text = read("docker-compose.yml");
    let names: Vec<String> = compose().services.into_keys().collect();
    let mut found: Vec<String> = accepted(schemas("compose", &text)).lines().map(str::to_owned).collect();
    found.sort();
    assert_eq!(found, names);
    for (right, wrong) in [("stop_grace_period: 30s", "stop_grace_period: 30x"), ("read_only: true", "readonly: true")] {
        assert!(text.contains(right));
        assert!(!schemas("compose", &text.replace(right, wrong)).status.success(), "{wrong} is accepted");
    }
}

/// `${NAME:-default}`, and text without any.
fn without_variables(value: &str) -> String {
    match value.strip_prefix("${") {
        Some(rest) => rest.trim_end_matches('}').split_once(":-").expect("a variable has a default").1.to_owned(),
        None => value.to_owned(),
    }
}

#[test]
fn every_process_has_a_configuration_that_is_fine() {
    let compose = compose();
    let ours: Vec<&Service> = compose.services.values().filter(|service| service.build.is_some()).collect();
    assert_eq!(ours.len(), 5, "migrate and four roles");
    for service in ours {
        let environment = service.environment.iter().map(|(name, value)| (name.clone(), without_variables(value)));
        let mut check = postrider(&["config", "check", "deploy/postrider.toml"]);
        accepted(check.envs(environment).output().unwrap());
        let command = service.command.as_deref().unwrap();
        assert!(command.contains("--config /etc/postrider/postrider.toml"), "{command}");
        if let Some(check) = &service.healthcheck {
            assert_eq!(check["test"], serde_json::json!(["CMD", "postrider", "health"]));
            accepted(postrider(&["health", "--help"]).output().unwrap());
        }
    }
}
