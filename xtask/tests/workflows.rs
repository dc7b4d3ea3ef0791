//! The GitHub workflows: zizmor finds nothing, and every command that they call exists.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

fn run(command: &mut Command) -> (bool, String) {
    let output = command
        .output()
        .unwrap_or_else(|e| panic!("cannot start {command:?}: {e}"));
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

/// Each workflow with its file's name.
fn workflows() -> Vec<(String, Value)> {
    let files = fs::read_dir(root().join(".github/workflows")).unwrap();
    let read = |entry: std::io::Result<fs::DirEntry>| {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let text = fs::read_to_string(&path).unwrap();
        (name, serde_saphyr::from_str(&text).unwrap())
    };
    let all: Vec<_> = files.map(read).collect();
    assert!(all.len() >= 3);
    all
}

/// Every step of every job, and every job that calls a workflow.
fn steps(workflow: &Value) -> Vec<&Value> {
    let jobs = workflow["jobs"].as_object().unwrap();
    let of = |job| {
        let job: &Value = job;
        let steps = job["steps"].as_array().into_iter().flatten();
        steps.chain([job])
    };
    jobs.values().flat_map(of).collect()
}

#[test]
fn zizmor_finds_nothing() {
    let zizmor = Path::new(env!("CARGO_TARGET_TMPDIR")).join("../venv/zizmor/bin/zizmor");
    assert!(
        zizmor.exists(),
        "{} is missing: `cargo xtask venv` makes it",
        zizmor.display()
    );
    let mut judge = Command::new(zizmor);
    judge.args(["--offline", "--pedantic", "--strict-collection", "--no-progress"]);
    let (good, text) = run(judge.arg(root().join(".github")));
    assert!(good, "{text}");
}

#[test]
fn actions_are_pinned_by_commit_and_rights_are_least() {
    for (file, workflow) in workflows() {
        assert_eq!(workflow["permissions"], serde_json::json!({}), "{file}");
        assert!(workflow["concurrency"]["group"].is_string(), "{file}");
        for (name, job) in workflow["jobs"].as_object().unwrap() {
            let writes = job["permissions"]
                .as_object()
                .unwrap()
                .values()
                .any(|right| right == "write");
            assert_eq!(writes, file == "release.yml", "{file}: {name}");
        }
        for uses in steps(&workflow).iter().filter_map(|step| step["uses"].as_str()) {
            let commit = uses.split_once('@').map(|(_, c)| c);
            let is_commit = commit.is_some_and(|c| c.len() == 40 && c.bytes().all(|b| b.is_ascii_hexdigit()));
            assert!(is_commit || uses.starts_with("./"), "{file}: {uses}");
        }
    }
}

#[test]
fn scripts_are_shell_and_call_tasks_that_exist() {
    let mut tasks = 0;
    for (file, workflow) in workflows() {
        for script in steps(&workflow).iter().filter_map(|step| step["run"].as_str()) {
            let (good, text) = run(Command::new("bash").args(["-n", "-c", script]));
            assert!(good, "{file}: {script}: {text}");
            for line in script.lines().filter_map(|l| l.split_once("cargo xtask ")) {
                let task = line.1.split_whitespace().next().unwrap();
                let (known, text) = run(Command::new(env!("CARGO_BIN_EXE_xtask")).args([task, "--help"]));
                assert!(known, "{file}: {task}: {text}");
                tasks += 1;
            }
        }
    }
    assert!(tasks >= 3);
}
