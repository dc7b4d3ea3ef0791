//! Our switch and our fabric under Mininet. Needs root, and Debian's packages mininet and python3-yaml, for Debian's Python.
//! Mininet gives links names that are the same in every run, so one test does everything, one after the other.

use std::path::Path;
use std::process::Command;

/// Debian's Python, which has Debian's Mininet.
const PYTHON: &str = "/usr/bin/python3";
/// The programs that a fabric needs.
const PROGRAMS: [&str; 5] = [
    "fabric-controller",
    "fabricctl",
    "p4-compiler",
    "p4-switch",
    "vtep-agent",
];

/// Runs one of our scripts to its end; it must print `ok`.
fn passes(script: &str, args: &[&str]) {
    let found = Command::new(PYTHON).args(["-c", "import mininet, yaml"]).status();
    assert!(
        found.is_ok_and(|s| s.success()),
        "Debian's package mininet or python3-yaml is missing; `cargo xtask test` installs them"
    );
    let programs = Path::new(env!("CARGO_BIN_EXE_exercise")).parent().unwrap();
    for program in PROGRAMS {
        let path = programs.join(program);
        assert!(path.is_file(), "{}: build the whole workspace", path.display());
    }
    let mut command = Command::new(PYTHON);
    command.arg(script).args(args);
    command.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("mininet"));
    command.env("VFABRIC_BIN", programs).env("PYTHONDONTWRITEBYTECODE", "1");
    let output = command.output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(
        output.status.success() && said.trim_end().ends_with("ok"),
        "{command:?}: {said}"
    );
}

#[test]
fn mininet_runs_our_switch_and_our_fabric() {
    passes("test_exercise.py", &[]);
    passes("test_exercise.py", &["--own-namespace"]);
    passes("test_custom.py", &[]);
    passes("test_fabric.py", &[]);
}

#[test]
#[ignore = "needs simple_switch_grpc on the PATH"]
fn mininet_runs_our_fabric_on_bmv2() {
    passes("test_fabric.py", &["simple_switch_grpc"]);
}
