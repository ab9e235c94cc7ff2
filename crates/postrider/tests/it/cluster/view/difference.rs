//! Where two JSON values differ.

use serde_json::Value;

/// Fails with the first place where they differ.
#[track_caller]
pub(super) fn assert_same(what: &str, embedded: &Value, cluster: &Value) {
    if let Some(found) = first(what, embedded, cluster) {
        panic!("{found}");
    }
}

fn first(path: &str, embedded: &Value, cluster: &Value) -> Option<String> {
    match (embedded, cluster) {
        (Value::Object(one), Value::Object(other)) => {
            let names = one.keys().chain(other.keys().filter(|name| !one.contains_key(*name)));
            let at =
                |name: &String| first(&format!("{path} › {name}"), one.get(name).unwrap_or(&ABSENT), other.get(name).unwrap_or(&ABSENT));
            names.into_iter().find_map(at)
        }
        (Value::Array(one), Value::Array(other)) if one.len() == other.len() => {
            one.iter().zip(other).enumerate().find_map(|(i, (one, other))| first(&format!("{path} › {i}"), one, other))
        }
        (Value::Array(one), Value::Array(other)) => Some(format!(
            "{path}: {} and {} items\n  embedded only: {:#}\n  cluster only: {:#}",
            one.len(),
            other.len(),
            without(one, other),
            without(other, one),
        )),
        (one, other) if one == other => None,
        (one, other) => Some(format!("{path}\n  embedded: {one:#}\n  cluster:  {other:#}")),
    }
}

/// What is in `these` oftener than in `others`.
fn without(these: &[Value], others: &[Value]) -> Value {
    let mut others = others.to_vec();
    let is_missing = |item: &&Value| match others.iter().position(|other| other == *item) {
        Some(found) => {
            others.swap_remove(found);
            false
        }
        None => true,
    };
    these.iter().filter(is_missing).cloned().collect()
}

/// Stands for a member that one of the two does not have.
static ABSENT: Value = Value::Null;
