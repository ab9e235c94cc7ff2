//! Who may speak to whom.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr};

use serde_json::{Value, json};

use crate::tools::read;

use super::rendered::{EVERYTHING, Rendered, selects, text};

/// The networks in arrays called `name` of the guard that refuses them in the program itself, as in `v4([10, 0, 0, 0], 8)`.
fn refused_by_the_guard() -> BTreeSet<String> {
    let source = read("crates/egress/src/guard.rs");
    let (_, lists) = source.split_once("const REFUSED_V4").unwrap();
    let (lists, _) = lists.split_once("const fn v4").unwrap();
    let mut networks = BTreeSet::new();
    for line in lists.lines().map(|line| line.split("//").next().unwrap().trim().trim_end_matches(',')) {
        let parts = |inside: &str| -> (Vec<u32>, u32) {
            let (parts, length) = inside.trim_end_matches(')').split_once("], ").unwrap();
            let number =
                |text: &str| text.strip_prefix("0x").map_or_else(|| text.parse::<u32>(), |hex| u32::from_str_radix(hex, 16)).unwrap();
            (parts.split(", ").map(number).collect(), number(length))
        };
        if let Some(inside) = line.strip_prefix("v4([") {
            let (parts, length) = parts(inside);
            let bits = parts.iter().fold(0, |bits, part| (bits << 8) | part);
            networks.insert(format!("{}/{length}", Ipv4Addr::from_bits(bits)));
        } else if let Some(inside) = line.strip_prefix("v6([") {
            let (parts, length) = parts(inside);
            let bits = parts.iter().fold(0, |bits: u128, part| (bits << 16) | u128::from(*part)) << 32;
            networks.insert(format!("{}/{length}", Ipv6Addr::from_bits(bits)));
        } else if line.contains("UNSPECIFIED") {
            networks.insert("::/128".to_owned());
        } else if line.contains("LOCALHOST") {
            networks.insert("::1/128".to_owned());
        } else {
            assert!(["];", ""].contains(&line) || line.ends_with("= ["), "{line}");
        }
    }
    networks
}

#[test]
fn senders_reach_what_the_program_lets_deliveries_reach() {
    let rendered = Rendered::with(&[EVERYTHING]);
    let policy = &rendered.one("NetworkPolicy", "everything-senders")["spec"];
    let blocks: Vec<&Value> = policy["egress"][0]["to"].as_array().unwrap().iter().map(|to| &to["ipBlock"]).collect();
    assert_eq!([&blocks[0]["cidr"], &blocks[1]["cidr"], &blocks[2]["cidr"]], ["0.0.0.0/0", "::/0", "10.1.0.0/16"]);
    let excepted = blocks.iter().filter_map(|block| block["except"].as_array()).flatten().map(|net| net.as_str().unwrap().to_owned());
    assert_eq!(excepted.collect::<BTreeSet<_>>(), refused_by_the_guard());
    let labels = |role: &str| {
        let (name, release) = ("app.kubernetes.io/name", "app.kubernetes.io/instance");
        json!({ name: "postrider", release: "demo", "app.kubernetes.io/component": role })
    };
    let reach = ["api", "router", "deliver", "compute", "migrate"].map(|role| selects(&policy["podSelector"], &labels(role)));
    assert_eq!(reach, [false, false, true, true, false]);
}

#[test]
fn nothing_is_let_in_but_clients_and_monitoring() {
    let rendered = Rendered::with(&[EVERYTHING]);
    let everywhere = &rendered.one("NetworkPolicy", "everything")["spec"];
    assert_eq!(everywhere["policyTypes"], json!(["Ingress", "Egress"]));
    for (metadata, _) in rendered.pods() {
        assert!(selects(&everywhere["podSelector"], &metadata["labels"]), "{metadata}");
    }
    let into = |policy: &Value| -> Vec<(String, Value)> {
        let rules = policy["ingress"].as_array().unwrap().iter();
        rules.map(|rule| (text(rule, "/ports/0/port").to_owned(), rule["from"].clone())).collect()
    };
    let monitoring = json!([{ "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": "monitoring" } } }]);
    assert_eq!(into(everywhere), [("admin".to_owned(), monitoring)]);
    let clients = json!([{ "podSelector": { "matchLabels": { "app": "shop" } } }]);
    assert_eq!(into(&rendered.one("NetworkPolicy", "everything-api")["spec"]), [("http".to_owned(), clients)]);
    // What both tell by name is what the containers call so.
    let api = &rendered.one("Deployment", "everything-api")["spec"]["template"]["spec"]["containers"][0]["ports"];
    assert_eq!(api, &json!([{ "name": "http", "containerPort": 8080 }, { "name": "admin", "containerPort": 9464 }]));
}
