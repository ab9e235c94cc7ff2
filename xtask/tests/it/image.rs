//! The container image. Without Docker nothing builds it here, but each of its steps is looked at.

use std::path::Path;
use std::process::Command;

use crate::tools::{accepted, postrider, read, root};

/// The Dockerfile's instructions, continued lines joined, comments left out.
fn instructions() -> Vec<(String, String)> {
    let text = read("deploy/Dockerfile");
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    let whole = lines.join("\n").replace("\\\n", " ");
    let split = |line: &str| line.split_once(' ').map(|(word, rest)| (word.to_owned(), rest.trim().to_owned()));
    whole.lines().filter_map(split).collect()
}

/// The last instruction of this name.
fn last(name: &str) -> String {
    instructions().into_iter().rev().find(|(word, _)| word == name).unwrap_or_else(|| panic!("there is no {name}")).1
}

#[test]
fn its_command_starts_the_program_which_then_misses_the_key() {
    let entry: Vec<String> = serde_json::from_str(&last("ENTRYPOINT")).unwrap();
    assert_eq!(entry, ["postrider"]);
    let copied = instructions().into_iter().filter(|(word, _)| word == "COPY").map(|(_, rest)| rest);
    let copied: Vec<(String, String)> = copied.filter_map(|rest| rest.split_once(' ').map(|(a, b)| (a.to_owned(), b.to_owned()))).collect();
    let command: Vec<String> = serde_json::from_str(&last("CMD")).unwrap();
    // Files of the image as they are in the repository.
    let here = |argument: &str| copied.iter().find(|(_, to)| to == argument).map_or(argument.to_owned(), |(from, _)| from.clone());
    let arguments: Vec<String> = command.iter().map(|argument| here(argument)).collect();
    assert!(arguments.contains(&"deploy/postrider.toml".to_owned()), "{command:?}");
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let run = postrider(&arguments).env("POSTRIDER__BLOBS__URL", "file:///var/lib/postrider/blobs").output().unwrap();
    let errors = String::from_utf8_lossy(&run.stderr);
    assert!(run.status.code() == Some(2) && errors.contains("POSTRIDER_API_KEY"), "{errors}");
}

#[test]
fn it_runs_as_a_user_by_number_and_has_no_more_than_it_needs() {
    assert!(last("USER").split(':').all(|id| id.parse::<u32>().is_ok_and(|id| id > 0)), "Kubernetes can't tell that it is not root");
    let installs: Vec<String> =
        instructions().into_iter().filter(|(_, rest)| rest.contains("apt-get install")).map(|(_, rest)| rest).collect();
    assert_eq!(installs.len(), 2, "one for each stage");
    for install in &installs {
        assert!(install.contains("--no-install-recommends") && install.contains("rm -rf /var/lib/apt/lists/*"), "{install}");
    }
    assert!(installs[1].contains("ca-certificates espeak-ng "), "{}", installs[1]);
}

/// Copies the files of `from` that Docker is sent.
fn copy(from: &Path, to: &Path) {
    if from.is_dir() {
        std::fs::create_dir_all(to).unwrap();
        for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
            copy(&entry.path(), &to.join(entry.file_name()));
        }
    } else {
        std::fs::copy(from, to).unwrap();
    }
}

#[test]
fn what_is_sent_to_docker_is_a_whole_workspace() {
    let context = tempfile::tempdir().unwrap();
    for path in read("deploy/Dockerfile.dockerignore").lines().filter_map(|line| line.strip_prefix('!')) {
        let to = context.path().join(path);
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        copy(&root().join(path), &to);
    }
    let build = instructions().into_iter().find(|(_, rest)| rest.contains("cargo build")).unwrap().1;
    assert!(build.contains("cargo build --release --locked -p postrider"), "{build}");
    // Every member and every dependency is found, and the lock file is right: what is left to the compiler.
    let tree = ["tree", "--locked", "--offline", "-p", "postrider", "--edges", "normal,build", "--depth", "1"];
    accepted(Command::new(env!("CARGO")).args(tree).current_dir(context.path()).output().unwrap());
    // Files that the sources take in.
    for (file, text) in sources(&context.path().join("crates")) {
        for taken in text.split("include_str!(\"").skip(1).map(|rest| rest.split('"').next().unwrap()) {
            assert!(file.parent().unwrap().join(taken).exists(), "{} takes in {taken}, which is not sent", file.display());
        }
    }
}

/// The sources of the program, not of its tests.
fn sources(folder: &Path) -> Vec<(std::path::PathBuf, String)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() && entry.file_name() != "tests" {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|kind| kind == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            found.push((path, text));
        }
    }
    found
}
