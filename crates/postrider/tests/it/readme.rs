//! Every command that the README and the first steps of docs/operations.md show does what it says.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::world::PATIENCE;

/// The commands of each of a document's `console` blocks, continued lines joined.
fn blocks(document: &str) -> Vec<Vec<String>> {
    let text = fs::read_to_string(root().join(document)).unwrap();
    let blocks = text.split("```console\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    let commands = |block: &str| {
        let block = block.replace("\\\n", " ");
        block.lines().filter_map(|line| line.strip_prefix("$ ")).map(str::to_owned).collect()
    };
    blocks.map(commands).collect()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().parent().unwrap()
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Background commands, ended with the test.
struct Background(Vec<Child>);

impl Drop for Background {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn shell(command: &str, folder: &Path, api: u16) -> Command {
    let mut shell = Command::new("bash");
    shell.args(["-euc", command]).current_dir(folder);
    shell.env("POSTRIDER_API_KEY", "secret").env("POSTRIDER_URL", format!("http://127.0.0.1:{api}"));
    shell
}

#[test]
fn its_five_minutes_work() {
    let (api, receiver) = (free_port(), free_port());
    let folder = tempfile::tempdir().unwrap();
    let mut background = Background(Vec::new());
    let mut ran = 0;
    for command in blocks("README.md").concat() {
        // Building, testing and the demo have their own places; ports are this test's own.
        if command.starts_with("cargo ") || command.starts_with("export ") {
            continue;
        }
        let command = command.replace("target/release/postrider", env!("CARGO_BIN_EXE_postrider"));
        let command = command.replace("8080", &api.to_string()).replace("4000", &receiver.to_string());
        ran += 1;
        if let Some(command) = command.strip_suffix('&') {
            let command = command.replace(" dev ", &format!(" dev --listen 127.0.0.1:{api} "));
            let mut child = shell(&format!("exec {command}"), folder.path(), api).stdout(Stdio::piped()).spawn().unwrap();
            let mut first = String::new();
            BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut first).unwrap();
            assert!(first.starts_with("listening on http://127.0.0.1:"), "{command}: {first}");
            background.0.push(child);
        } else {
            let done = shell(&command, folder.path(), api).output().unwrap();
            assert!(done.status.success(), "{command}: {}", String::from_utf8_lossy(&done.stderr));
            if command.starts_with("curl ") {
                let answer = String::from_utf8(done.stdout).unwrap();
                let event = answer.starts_with(r#"{"id":"evt_"#) && answer.contains(r#""type":"order.created""#);
                let job = answer.starts_with(r#"{"job_id":"job_"#) && answer.contains(r#""webhook_configured":true"#);
                assert!(if command.contains("/v1/events") { event } else { job }, "{answer}");
            }
        }
    }
    assert_eq!(ran, 6, "dev, listen, endpoint add, trigger, curl for an event and for a job");
    let mut line = [0; 1];
    background.0[1].stdout.as_mut().unwrap().read_exact(&mut line).unwrap(); // a delivery came
}

/// Which of the page's ways to a server is gone.
#[derive(Clone, Copy)]
enum Way {
    Embedded,
    Cluster,
}

#[test]
fn from_a_clone_to_a_dashboard_with_one_process() {
    from_a_clone_to_a_dashboard(Way::Embedded, |command| command);
}

#[test]
fn from_a_clone_to_a_dashboard_on_kafka_and_cassandra() {
    let file = std::env::var("POSTRIDER_TEST_SERVERS").expect("`cargo xtask test` starts the servers");
    let folder = Path::new(&file).parent().unwrap().display().to_string();
    from_a_clone_to_a_dashboard(Way::Cluster, move |command| command.replace("target/servers", &folder));
}

/// Runs what docs/operations.md shows, as a person would: ports and folders are the test's own, Prometheus looks every second
/// instead of four times a minute, and what loads the server for minutes does so for seconds.
fn from_a_clone_to_a_dashboard(way: Way, adapted: impl Fn(String) -> String) {
    let (api, admin, web) = (free_port(), free_port(), free_port());
    let folder = tempfile::tempdir().unwrap();
    let prometheus = folder.path().join("deploy/prometheus");
    fs::create_dir_all(prometheus.join("consoles")).unwrap();
    for path in ["embedded.yml", "rules.yml", "consoles/delivery.html"] {
        let text = fs::read_to_string(root().join("deploy/prometheus").join(path)).unwrap();
        let text = text.replace("9464", &admin.to_string()).replace("_interval: 15s", "_interval: 1s");
        fs::write(prometheus.join(path), text).unwrap();
    }
    let [build, embedded, cluster, look] = blocks("docs/operations.md").try_into().expect("four steps of the page");
    assert!(build[0] == "cargo build --release -p postrider -p loadtest" && build[1] == "export POSTRIDER_API_KEY=secret", "{build:?}");
    let started = match way {
        Way::Embedded => embedded,
        Way::Cluster => cluster,
    };
    let programs = Path::new(env!("CARGO_BIN_EXE_postrider")).parent().unwrap();
    let path = format!("{}:{}", root().join("target/test-prometheus/usr/bin").display(), std::env::var("PATH").unwrap());
    let name = format!("t{}", folder.path().file_name().unwrap().to_str().unwrap().trim_start_matches(".tmp").to_ascii_lowercase());
    let shell = |command: &str| {
        let mut shell = shell(command, folder.path(), api);
        shell.env("PATH", &path).env("POSTRIDER__SERVER__ADMIN_LISTEN", format!("127.0.0.1:{admin}"));
        shell.env("POSTRIDER__KAFKA__PREFIX", format!("{name}.")).env("POSTRIDER__SCYLLA__KEYSPACE", &name);
        shell.env("POSTRIDER__SERVER__LISTEN", format!("127.0.0.1:{api}"));
        shell
    };
    let mut background = Background(Vec::new());
    for command in started.into_iter().chain(look) {
        if command.starts_with("cargo ") {
            continue; // which has brought this test to life
        }
        let command = adapted(command).replace("target/release", programs.to_str().unwrap()).replace("9091", &web.to_string());
        let command = command.replace("/tmp/", &format!("{}/", folder.path().display())).replace("--duration 3m", "--duration 10s");
        let command = command.replace(" dev ", &format!(" dev --listen 127.0.0.1:{api} "));
        let command = command.replace("--rate 100 ", &format!("--url http://127.0.0.1:{api} --rate 100 "));
        if let Some(command) = command.strip_suffix('&') {
            let mut child = shell(&format!("exec {command}")).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
            if command.contains("/postrider ") {
                let mut lines = BufReader::new(child.stdout.as_mut().unwrap()).lines().map(Result::unwrap);
                assert!(lines.any(|line| line.starts_with("listening on http://127.0.0.1:")), "{command} does not listen");
            } else {
                // A person takes longer to type the next command than it takes to start.
                let deadline = Instant::now() + PATIENCE;
                while !shell(&format!("curl -sf http://127.0.0.1:{web}/-/ready")).output().unwrap().status.success() {
                    assert!(Instant::now() < deadline, "{command} is not ready");
                    std::thread::sleep(Duration::from_millis(50));
                }
            }
            background.0.push(child);
        } else {
            let done = shell(&command).output().unwrap();
            assert!(done.status.success(), "{command}: {}", String::from_utf8_lossy(&done.stderr));
        }
    }
    assert_eq!(background.0.len(), 2, "a server and a Prometheus");
    let page = shell(&format!("curl -sf http://127.0.0.1:{web}/consoles/delivery.html")).output().unwrap();
    let page = String::from_utf8(page.stdout).unwrap();
    for (title, number) in [("Within 10 s", "100%"), ("Within 1 s", "%"), ("Events that came in", "/s"), ("Deliveries that ended", "/s")] {
        let (_, panel) = page.split_once(&format!("<h3>{title}</h3>")).unwrap_or_else(|| panic!("{title} is not there: {page}"));
        let panel = panel.split("</section>").next().unwrap();
        assert!(panel.contains(&format!("{number}</td>")) && !panel.contains("NaN"), "{title}: {panel}");
    }
}
