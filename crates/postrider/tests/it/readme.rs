//! Every command that the README and the first steps of docs/operations.md show does what it says.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::world::PATIENCE;

/// The commands of a document's `console` blocks, continued lines joined.
fn commands(document: &str) -> Vec<String> {
    let text = fs::read_to_string(root().join(document)).unwrap();
    let blocks = text.split("```console\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    let lines: Vec<String> = blocks.flat_map(|block| block.replace("\\\n", " ").lines().map(str::to_owned).collect::<Vec<_>>()).collect();
    lines.iter().filter_map(|line| line.strip_prefix("$ ")).map(str::to_owned).collect()
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
    for command in commands("README.md") {
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

#[test]
fn from_a_clone_to_metrics_takes_the_commands_of_the_operators_page() {
    let (api, receiver, admin) = (free_port(), free_port(), free_port());
    let folder = tempfile::tempdir().unwrap();
    let mut background = Background(Vec::new());
    let shell = |command: &str| {
        let mut shell = shell(command, folder.path(), api);
        shell.env("POSTRIDER__SERVER__ADMIN_LISTEN", format!("127.0.0.1:{admin}"));
        shell
    };
    let mut shown = String::new();
    for command in commands("docs/operations.md") {
        if command.starts_with("cargo ") || command.starts_with("export ") {
            continue;
        }
        let command = command.replace("target/release/postrider", env!("CARGO_BIN_EXE_postrider")).replace("9464", &admin.to_string());
        let command = command.replace("4000", &receiver.to_string()).replace(" dev ", &format!(" dev --listen 127.0.0.1:{api} "));
        if let Some(command) = command.strip_suffix('&') {
            let mut child = shell(&format!("exec {command}")).stdout(Stdio::piped()).spawn().unwrap();
            let mut first = String::new();
            BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut first).unwrap();
            assert!(first.starts_with("listening on http://127.0.0.1:"), "{command}: {first}");
            background.0.push(child);
        } else {
            // A person takes longer to type the next command than the last one takes to have its effect.
            let deadline = Instant::now() + PATIENCE;
            loop {
                let done = shell(&command).output().unwrap();
                shown = String::from_utf8(done.stdout).unwrap();
                let enough = !command.starts_with("curl ") || shown.contains("webhook_delivery_total{result=\"success\"} 100");
                if done.status.success() && enough {
                    break;
                }
                let errors = String::from_utf8_lossy(&done.stderr);
                assert!(command.starts_with("curl ") && Instant::now() < deadline, "{command}: {shown}{errors}");
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }
    assert!(shown.contains("webhook_delivery_total"), "the last command shows what was delivered");
}
