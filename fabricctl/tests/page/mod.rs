//! A page whose commands are run: in one shell, in the page's order, with the page's files.

use std::path::Path;
use std::process::Command;

/// Language and text of each fenced block.
pub(crate) fn blocks(page: &str) -> Vec<(&str, &str)> {
    let mut parts = page.split("\n```");
    parts.next();
    let mut blocks = Vec::new();
    while let Some(block) = parts.next() {
        blocks.push(block.split_once('\n').unwrap());
        parts.next();
    }
    blocks
}

/// Runs a page of `docs/` in namespaces of its own, after `prepare`; returns its output. Blocks of `sh` are run, those of
/// `yaml` whose first line names a file are written, those of `text` are for the reader.
///
/// Needs root, and the workspace's programs beside the test's own.
pub(crate) fn run(name: &str, prepare: &str) -> String {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(name);
    let page = std::fs::read_to_string(page).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let mut script = format!("set -eux\nmount -t tmpfs tmpfs /run\nip link set lo up\n{prepare}\n");
    for (language, text) in blocks(&page) {
        match language {
            "yaml" => {
                let file = text.lines().next().and_then(|l| l.strip_prefix("# "));
                let file = file.unwrap_or_else(|| panic!("{name}: a file without a name:\n{text}"));
                std::fs::write(dir.path().join(file), text).unwrap();
            }
            "sh" => script.extend([text, "\n"]),
            "text" => {}
            other => panic!("what to do with `{other}`?"),
        }
    }
    let programs = Path::new(env!("CARGO_BIN_EXE_fabricctl")).parent().unwrap();
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
    let mut inside = Command::new("unshare");
    inside.args([
        "--net",
        "--mount",
        "--pid",
        "--fork",
        "--kill-child",
        "--mount-proc",
        "--",
        "sh",
        "-c",
        &script,
    ]);
    for (variable, _) in std::env::vars_os() {
        if variable.to_string_lossy().starts_with("VFABRIC_") {
            inside.env_remove(variable);
        }
    }
    inside
        .env("PATH", path)
        .env("HOME", dir.path())
        .env("PROGRAMS", programs)
        .env_remove("XDG_CONFIG_HOME");
    let output = inside.current_dir(dir.path()).output().unwrap();
    let said = String::from_utf8_lossy(&[output.stdout.as_slice(), &output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{name}: {said}");
    said
}
