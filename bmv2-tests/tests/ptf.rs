//! PTF, the P4 testing framework, on our switch: the platform and the base class of `python/ptf`, and the suite of the
//! fabric's own pipeline. Needs root and the Python environment `ptf`.

use std::fs;
use std::path::Path;
use std::process::Command;

use fabric_pipeline::Pipeline;

/// Runs the suite of the leaf on a switch, in a network namespace of its own; returns what PTF said.
fn leaf_suite(switch: &Path, only: &[&str]) -> (bool, String) {
    let dir = tempfile::tempdir().unwrap();
    let (json, info) = (dir.path().join("leaf.json"), dir.path().join("leaf.p4info.bin"));
    fs::write(&json, Pipeline::LEAF.json).unwrap();
    fs::write(&info, Pipeline::LEAF.p4info).unwrap();
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    let ptf = tests.join("python/ptf");
    let reasons = tests.join("../p4/fabric/include/drop_reasons.p4");
    let python = bmv2_tests::venv::python("ptf").unwrap();
    let log = dir.path().join("switch.log");
    let platform = format!("switch={};ports=1,3,4,10-12;log={}", switch.display(), log.display());
    let params = format!("p4info={info:?};config={json:?};reasons={reasons:?}");
    let mut command = Command::new("unshare");
    command.args(["--net", "sh", "-c", "ip link set lo up && exec \"$@\"", "sh"]);
    command.arg(python.with_file_name("ptf")).args(only);
    command.arg("--test-dir").arg(ptf.join("fabric"));
    command.arg("--pypath").arg(&ptf);
    command.arg("--platform-dir").arg(ptf.join("platforms"));
    command.args(["--platform", "p4_switch", "--platform-args", &platform]);
    command.args(["--test-order", "lexico", "--test-params", &params]);
    // protobuf's own code does not read what this version of the package was generated with.
    command.env("PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION", "python");
    command.env("PYTHONDONTWRITEBYTECODE", "1");
    let output = command.current_dir(dir.path()).output().unwrap();
    let mut said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    said += &fs::read_to_string(log).unwrap_or_default();
    (output.status.success(), said)
}

#[test]
fn every_table_and_drop_reason_of_the_leaf_on_our_switch() {
    let programs = Path::new(env!("CARGO_BIN_EXE_exercise")).parent().unwrap();
    let (good, said) = leaf_suite(&programs.join("p4-switch"), &[]);
    assert!(good && said.contains("Ran 25 tests"), "{said}");
}

#[test]
fn coverage_fails_when_tests_are_missing() {
    let programs = Path::new(env!("CARGO_BIN_EXE_exercise")).parent().unwrap();
    let (good, said) = leaf_suite(&programs.join("p4-switch"), &["leaf.TransitIPv4", "leaf.ZCoverage"]);
    assert!(!good && said.contains("drop reasons that nothing met"), "{said}");
}

#[test]
#[ignore = "needs simple_switch_grpc on the PATH"]
fn every_table_and_drop_reason_of_the_leaf_on_bmv2() {
    let (good, said) = leaf_suite(Path::new("simple_switch_grpc"), &[]);
    assert!(good, "{said}");
}
