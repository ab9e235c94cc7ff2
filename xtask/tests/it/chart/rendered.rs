//! The chart as Helm renders it.

use serde_json::Value;

use crate::tools::{accepted, helm};

pub(super) const CHART: &str = "deploy/helm/postrider";
pub(super) const EVERYTHING: &str = "deploy/helm/postrider/ci/everything-values.yaml";
pub(super) const LEAST: &str = "deploy/helm/postrider/ci/least-values.yaml";

/// The objects that a release consists of.
pub(super) struct Rendered {
    pub(super) text: String,
    pub(super) objects: Vec<Value>,
}

impl Rendered {
    /// Values files that the chart is tried with.
    pub(super) const VALUES: [&[&str]; 3] = [&[], &[EVERYTHING], &[LEAST]];

    pub(super) fn with(values: &[&str]) -> Rendered {
        let given: Vec<&str> = values.iter().flat_map(|file| ["--values", *file]).collect();
        let text = accepted(helm(&[&["template", "demo", CHART, "--namespace", "hooks"][..], &given].concat()));
        let objects: Vec<Value> = serde_saphyr::from_multiple(&text).expect("Helm renders YAML");
        Rendered { text, objects: objects.into_iter().filter(|object| !object.is_null()).collect() }
    }

    pub(super) fn all() -> Vec<Rendered> {
        Rendered::VALUES.map(Rendered::with).into()
    }

    /// Objects of one kind, by name.
    pub(super) fn kind(&self, kind: &str) -> Vec<(&str, &Value)> {
        let named = |object| (text(object, "/metadata/name"), object);
        self.objects.iter().filter(|object| object["kind"] == kind).map(named).collect()
    }

    pub(super) fn one(&self, kind: &str, name: &str) -> &Value {
        self.kind(kind).into_iter().find(|(found, _)| *found == name).unwrap_or_else(|| panic!("there is no {kind} {name}")).1
    }

    /// The metadata and the specification of each pod: those of roles, and that of the migration.
    pub(super) fn pods(&self) -> Vec<(&Value, &Value)> {
        let makers = self.kind("Deployment").into_iter().chain(self.kind("Job"));
        makers.map(|(_, maker)| &maker["spec"]["template"]).map(|pod| (&pod["metadata"], &pod["spec"])).collect()
    }
}

/// The text at a JSON pointer.
#[track_caller]
pub(super) fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_else(|| panic!("no text at {pointer} of {object}"))
}

/// Whether a selector with `matchLabels`, and `matchExpressions` that use `In`, selects what has these labels.
pub(super) fn selects(selector: &Value, labels: &Value) -> bool {
    let equal = selector["matchLabels"].as_object().is_none_or(|wanted| wanted.iter().all(|(key, value)| labels[key] == *value));
    let within = |expression: &Value| {
        assert_eq!(expression["operator"], "In");
        expression["values"].as_array().unwrap().contains(&labels[text(expression, "/key")])
    };
    equal && selector["matchExpressions"].as_array().is_none_or(|expressions| expressions.iter().all(within))
}
