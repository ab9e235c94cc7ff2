//! Reports made of the results of runs.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use crate::code;
use crate::fake::{self, Fault};

fn loadtest(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_loadtest")).args(arguments).env("POSTRIDER_API_KEY", "k3y-of-mine").output().expect("it runs")
}

fn text(path: &Path) -> &str {
    path.to_str().expect("folders of tests have plain names")
}

#[test]
fn a_page_and_tables_compare_runs() {
    let folder = tempfile::tempdir().expect("a folder");
    let url = format!("http://{}", fake::start(Fault::None));
    let [first, second, page] = ["first.json", "second.json", "page.html"].map(|name| folder.path().join(name));
    for (name, out) in [("plain", &first), ("<b>|odd", &second)] {
        let options = ["--url", &url, "--api-key", "k3y-of-mine", "--rate", "200", "--duration", "2s", "--warmup", "0s"];
        let more = ["--endpoints", "5", "--name", name, "--fault", "outage@500ms+200ms", "--out", text(out)];
        let run = loadtest(&[&options[..], &more].concat());
        assert_eq!(code(&run), 0, "{}", String::from_utf8_lossy(&run.stderr));
        assert!(!fs::read_to_string(out).expect("a result").contains("k3y-of-mine"), "a key in the result");
    }

    assert_eq!(code(&loadtest(&["report", text(&first), text(&second), "-o", text(&page)])), 0);
    let html = fs::read_to_string(&page).expect("a page");
    for expected in ["plain", "&lt;b&gt;|odd", "<polyline", "run1", "Latency of deliveries", "<title>outage</title>", "--api-key ***"] {
        assert!(html.contains(expected), "{expected} in {html}");
    }
    for foreign in ["<script", "src=", "href=", "url(", "<b>", "NaN", "k3y-of-mine"] {
        assert!(!html.contains(foreign), "{foreign} in {html}");
    }

    let tables = loadtest(&["report", "--markdown", text(&first), text(&second)]);
    let tables = String::from_utf8(tables.stdout).expect("text");
    assert!(tables.contains("| plain | 200/s |") && tables.contains("| <b>\\|odd | 200/s |") && tables.contains("| outage |"), "{tables}");
}

#[test]
fn what_cannot_be_reported_is_said_in_words() {
    let folder = tempfile::tempdir().expect("a folder");
    let other = folder.path().join("other.json");
    fs::write(&other, "{}").expect("written");
    for (arguments, words) in [
        (vec!["report"], "no results"),
        (vec!["report", "/nowhere.json"], "cannot read /nowhere.json"),
        (vec!["report", text(&other)], "is no result of this build"),
    ] {
        let run = loadtest(&arguments);
        let said = String::from_utf8_lossy(&run.stderr);
        assert!(code(&run) == 1 && said.contains(words), "{arguments:?}: {said}");
    }
}

/// Its tables are of the runs that were made, its head is of this build.
#[test]
fn the_document_of_results_is_as_it_is_written() {
    let head = loadtest(&["report", "--markdown"]);
    let document = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("RESULTS.md")).expect("the document");
    assert!(document.starts_with(&String::from_utf8(head.stdout).expect("text")), "write RESULTS.md anew");
}
