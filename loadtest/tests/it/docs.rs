//! Every command about `loadtest` that docs/performance.md shows for measuring does what it says.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::code;

#[test]
fn the_commands_for_measuring_work() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("it lies in the workspace");
    let text = fs::read_to_string(root.join("docs/performance.md")).expect("the document");
    let (_, section) = text.split_once("## Measuring it yourself").expect("the section");
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let config = "[server]\nlisten = \"127.0.0.1:0\"\nadmin_listen = \"127.0.0.1:0\"\n[egress]\nallow = [\"127.0.0.0/8\"]\n";
    fs::write(folder.path().join("FILE"), format!("backend = \"embedded\"\n{config}[data]\ndir = {data:?}\n")).expect("written");
    let programs = Path::new(env!("CARGO_BIN_EXE_loadtest")).parent().expect("a folder of programs");
    assert!(programs.join("postrider").exists(), "run `cargo build -p postrider` first");

    let joined = section.replace("\\\n", " ");
    let commands: Vec<&str> = joined.lines().filter_map(|line| line.strip_prefix("$ target/release/loadtest ")).collect();
    assert_eq!(commands.len(), 4, "steady, drain, rebalance, report");
    for command in commands {
        // Shorter, and with folders of this test's own.
        let short = match command {
            command if command.starts_with("report") => "",
            command if command.contains("drain") => "--events 500 --endpoints 20",
            command if command.contains("rebalance") => "--rate 100 --warmup 500ms --duration 5s --endpoints 20 --fault kill@1s+1s",
            _ => "--rate 100 --warmup 500ms --duration 2s --endpoints 20",
        };
        let command = format!("target/release/loadtest {command} {short}").replace("target/release", &programs.display().to_string());
        let command = command.replace("loadtest/scenarios", &root.join("loadtest/scenarios").display().to_string());
        let command = command.replace("/tmp/pr", &folder.path().join("pr").display().to_string());
        let run = Command::new("sh").args(["-c", &command]).current_dir(folder.path()).env_remove("POSTRIDER_API_KEY").output();
        let run = run.expect("it runs");
        assert_eq!(code(&run), 0, "{command}: {}{}", String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    }
    assert!(fs::read_to_string(folder.path().join("report.html")).expect("a page").contains("rebalance"));
}
