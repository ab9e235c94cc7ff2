//! A real Prometheus that scrapes what a test runs. `cargo xtask test` sees to the program.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use reqwest::Client;
use serde_json::Value;
use tempfile::TempDir;

use crate::world::eventually;

/// The top of the repository.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// A program of Prometheus' package.
pub(crate) fn program(name: &str) -> PathBuf {
    let path = root().join("target/test-prometheus/usr/bin").join(name);
    assert!(path.exists(), "{} is missing; `cargo xtask test` unpacks it", path.display());
    path
}

/// A running Prometheus with the rules of `deploy/`; ended when dropped.
pub(crate) struct Prometheus {
    child: Child,
    url: String,
    http: Client,
    _folder: TempDir,
}

impl Prometheus {
    /// One that scrapes these addresses twice a second.
    pub(crate) async fn scraping(targets: &[String]) -> Prometheus {
        let folder = tempfile::tempdir().unwrap();
        let (rules, config) = (root().join("deploy/prometheus/rules.yml"), folder.path().join("prometheus.yml"));
        let quoted: Vec<String> = targets.iter().map(|target| format!("{target:?}")).collect();
        let settings = format!(
            "global: {{ scrape_interval: 500ms, scrape_timeout: 500ms, evaluation_interval: 1s }}\nrule_files: [{:?}]\n\
             scrape_configs:\n  - job_name: postrider\n    static_configs: [{{ targets: [{}] }}]\n",
            rules,
            quoted.join(", ")
        );
        fs::write(&config, settings).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let child = Command::new(program("prometheus"))
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
            .arg(format!("--web.listen-address={port}"))
            .arg(format!("--web.console.templates={}", root().join("deploy/prometheus/consoles").display()))
            .stdout(Stdio::null())
            .stderr(fs::File::create(folder.path().join("log")).unwrap())
            .spawn()
            .unwrap();
        let prometheus = Prometheus { child, url: format!("http://{port}"), http: Client::new(), _folder: folder };
        let ready = async || {
            prometheus.http.get(format!("{}/-/ready", prometheus.url)).send().await.is_ok_and(|answer| answer.status().is_success())
        };
        eventually("Prometheus is ready", async || ready().await.then_some(())).await;
        prometheus
    }

    /// What the query answers now, one value for each series. Panics where Prometheus does not understand it.
    pub(crate) async fn query(&self, query: &str) -> Vec<Value> {
        let url = url::Url::parse_with_params(&format!("{}/api/v1/query", self.url), [("query", query)]).unwrap();
        let answer = self.http.get(url).send().await.unwrap();
        let answer: Value = answer.json().await.unwrap();
        assert_eq!(answer["status"], "success", "{query}: {answer}");
        answer["data"]["result"].as_array().unwrap().clone()
    }

    /// One of its consoles.
    pub(crate) async fn console(&self, name: &str) -> String {
        let answer = self.http.get(format!("{}/consoles/{name}", self.url)).send().await.unwrap();
        let (status, page) = (answer.status(), answer.text().await.unwrap());
        assert!(status.is_success(), "{name}: {page}");
        page
    }

    /// What it says of each rule: its name, and whether it could be evaluated.
    pub(crate) async fn rules(&self) -> Vec<Value> {
        let answer: Value = self.http.get(format!("{}/api/v1/rules", self.url)).send().await.unwrap().json().await.unwrap();
        let groups = answer["data"]["groups"].as_array().unwrap();
        groups.iter().flat_map(|group| group["rules"].as_array().unwrap().clone()).collect()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        // One that has ended can't be killed, which is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
