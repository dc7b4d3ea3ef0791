//! The benchmark of zero touch, with few switches: all of them come into service, and a wrong cable is named. Needs root.

use std::process::Command;

#[test]
fn blank_switches_come_into_service_and_a_wrong_cable_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let json = dir.path().join("figures.json");
    let mut command = Command::new(env!("CARGO_BIN_EXE_fabricctl"));
    command
        .args(["lab", "boot", "--small", "--dir"])
        .arg(dir.path().join("fabric"));
    let output = command.arg("--json").arg(&json).output().unwrap();
    let words = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(output.status.success(), "{words}");
    let rows: serde_json::Value = serde_json::from_slice(&std::fs::read(json).unwrap()).unwrap();
    for (row, links, processes) in [
        ("6 blank switches in memory", 8.0, 0.0),
        ("3 blank p4-switch processes", 2.0, 3.0),
    ] {
        let figure = |name: &str| {
            rows[row][name]
                .as_f64()
                .unwrap_or_else(|| panic!("no {name} of {row}: {rows:#}"))
        };
        assert!(figure("all in service_s") > 0.0);
        assert_eq!(figure("links that probes crossed_"), links, "{rows:#}");
        assert_eq!(figure("whole processes among them_"), processes, "{rows:#}");
    }
    assert!(
        rows["a wrong cable"]["named after the link came up_s"]
            .as_f64()
            .is_some_and(|s| s > 0.0),
        "{rows:#}"
    );
}
