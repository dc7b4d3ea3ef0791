//! Our switch under Mininet. Needs root and Debian's package mininet, for Debian's Python.

use std::path::Path;
use std::process::Command;

/// Debian's Python, which has Debian's Mininet.
const PYTHON: &str = "/usr/bin/python3";

/// Mininet gives links names that are the same in every run, so one test does everything, one after the other.
#[test]
fn mininet_runs_our_switch() {
    let found = Command::new(PYTHON).args(["-c", "import mininet"]).status();
    assert!(
        found.is_ok_and(|s| s.success()),
        "Debian's package mininet is missing; `cargo xtask test` installs it"
    );
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("mininet");
    let programs = Path::new(env!("CARGO_BIN_EXE_exercise")).parent().unwrap();
    let run = |command: &mut Command| {
        let output = command
            .current_dir(&folder)
            .env("VFABRIC_BIN", programs)
            .output()
            .unwrap();
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said).into_owned();
        assert!(output.status.success(), "{command:?}: {said}");
        said
    };
    for place in [None, Some("--own-namespace")] {
        let said = run(Command::new(PYTHON).arg("test_exercise.py").args(place));
        assert!(said.contains("ok"), "{said}");
    }
    let said = run(Command::new(PYTHON).arg("test_custom.py"));
    assert!(said.contains("ok"), "{said}");
}
