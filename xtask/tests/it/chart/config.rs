//! The configuration file that the chart writes, and the schema of the values that it is written from.

use std::fs;

use serde_json::{Map, Value, json};

use crate::tools::{accepted, postrider, read, schemas};

use super::rendered::{CHART, EVERYTHING, Rendered, text};

/// Keys that are no values: the chart sets them, they are of the embedded backend, or they are secrets.
const NOT_VALUES: [&str; 13] = [
    "backend",
    "server.listen",
    "server.admin_listen",
    "server.roles",
    "data.dir",
    "data.partitions",
    "data.min_free_mib",
    "data.segment_mib",
    "kafka.instance_id",
    "scylla.password",
    "blobs.secret_access_key",
    "upstream.api_key",
    "auth.bootstrap_key",
];

/// `postrider config COMMAND…` with `file` behind it, with each variable that comes from a Secret set to something.
fn config(command: &[&str], file: &str, rendered: &Rendered) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("postrider.toml");
    fs::write(&path, file).unwrap();
    let mut run = postrider(&[&["config"][..], command, &[path.to_str().unwrap()]].concat());
    for (_, pod) in rendered.pods() {
        for variable in pod["containers"][0]["env"].as_array().unwrap() {
            let name = text(variable, "/name");
            run.env(name, if name.ends_with("PROPERTIES") { r#"{"sasl.password"="hidden"}"# } else { "hidden" });
        }
    }
    accepted(run.output().unwrap())
}

#[test]
fn postrider_takes_the_file() {
    for rendered in Rendered::all() {
        let files = rendered.kind("ConfigMap");
        assert!(!files.is_empty());
        for (name, map) in &files {
            let file = text(map, "/data/postrider.toml");
            config(&["check"], file, &rendered);
            assert_eq!(file, text(files[0].1, "/data/postrider.toml"), "{name} differs");
        }
    }
}

#[test]
fn what_the_values_say_is_in_force() {
    let rendered = Rendered::with(&[EVERYTHING]);
    let file = text(rendered.one("ConfigMap", "everything"), "/data/postrider.toml");
    let shown = config(&["show", "--config"], file, &rendered);
    assert!(!shown.contains("hidden"), "{shown}");
    let shown: toml::Table = shown.parse().unwrap();
    let shown = serde_json::to_value(shown).unwrap();
    let values: Value = serde_saphyr::from_str(&read(EVERYTHING)).unwrap();
    assert_within(&values["config"], &shown);
    assert_eq!(shown["backend"], "cluster");
    assert_eq!(shown["kafka"]["properties"]["sasl.password"], "********", "merged with the file's");
    assert_eq!(shown["server"]["admin_listen"], "0.0.0.0:9464");
}

#[test]
fn the_values_of_the_documentation_are_fine() {
    let page = read("docs/operations.md");
    let (_, block) = page.split_once("   ```yaml\n").unwrap();
    let values: Vec<&str> = block.split("   ```").next().unwrap().lines().map(|line| line.strip_prefix("   ").unwrap()).collect();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("values.yaml");
    fs::write(&path, values.join("\n")).unwrap();
    let rendered = Rendered::with(&[path.to_str().unwrap()]);
    accepted(schemas("kubernetes", &rendered.text));
    config(&["check"], text(rendered.kind("ConfigMap")[0].1, "/data/postrider.toml"), &rendered);
}

/// Every value of `part` is that of `whole`.
#[track_caller]
fn assert_within(part: &Value, whole: &Value) {
    match part {
        Value::Object(members) => members.iter().for_each(|(key, value)| assert_within(value, &whole[key])),
        Value::Array(items) => items.iter().enumerate().for_each(|(index, item)| assert_within(item, &whole[index])),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => assert_eq!(part, whole),
    }
}

/// What `values.schema.json` must say of the keys of `table`, which lies at `path`.
fn schema(path: &str, table: &toml::Table) -> Value {
    let mut properties = Map::new();
    for (key, value) in table {
        let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        if NOT_VALUES.contains(&path.as_str()) {
            continue;
        }
        let object = |members: Value| json!({ "type": "object", "additionalProperties": false, "properties": members });
        let string = json!({ "type": "string" });
        let of = match (path.as_str(), value) {
            ("kafka.properties", _) => {
                let secret = r"password|passphrase|secret|key\.pem|private\.key|oauthbearer\.config|jaas";
                json!({ "type": "object", "additionalProperties": string, "propertyNames": { "not": { "pattern": secret } } })
            }
            ("sources", _) => {
                let keys = ["topic", "tenant", "format", "event_type"].map(|key| (key.to_owned(), string.clone()));
                json!({ "type": "array", "items": object(Map::from_iter(keys).into()) })
            }
            ("jobs.timeouts", _) => json!({ "type": "object", "additionalProperties": { "type": "integer", "minimum": 1 } }),
            ("jobs.outside", _) => {
                let keys = json!({ "kind": string, "timeout_seconds": { "type": "integer" } });
                json!({ "type": "array", "items": object(keys) })
            }
            (_, toml::Value::Table(inner)) => match schema(&path, inner) {
                empty if empty["properties"] == json!({}) => continue,
                inner => inner,
            },
            (_, toml::Value::Array(_)) => json!({ "type": "array", "items": string }),
            (_, toml::Value::String(_)) => string,
            (_, toml::Value::Boolean(_)) => json!({ "type": "boolean" }),
            (_, toml::Value::Integer(_)) => json!({ "type": "integer", "minimum": 0 }),
            (_, toml::Value::Float(_)) => json!({ "type": "number", "minimum": 0 }),
            (_, toml::Value::Datetime(_)) => panic!("{path} is a date, which no value of a chart can be"),
        };
        properties.insert(key.clone(), of);
    }
    json!({ "type": "object", "additionalProperties": false, "properties": properties })
}

#[test]
fn the_values_know_every_key_that_can_be_set_and_no_other() {
    let defaults: toml::Table = read("crates/postrider/src/default.toml").parse().unwrap();
    let written: Value = serde_json::from_str(&read(format!("{CHART}/values.schema.json"))).unwrap();
    let expected = schema("", &defaults);
    let pretty = serde_json::to_string_pretty(&expected).unwrap();
    assert!(written["properties"]["config"] == expected, "`config` in {CHART}/values.schema.json must be:\n{pretty}");
}
