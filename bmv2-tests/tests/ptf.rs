//! PTF, the P4 testing framework, on our switch: the platform and the base class of `python/ptf`, and the suites of the
//! fabric's own pipelines. Needs root and the Python environment `ptf`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use fabric_pipeline::Pipeline;

/// A suite: its module, the program that it tests, the ports that it uses, and how many tests it has.
struct Suite(&'static str, Pipeline, &'static str, usize);

const LEAF: Suite = Suite("leaf", Pipeline::LEAF, "1,3,4,10-12", 27);
const SPINE: Suite = Suite("spine", Pipeline::SPINE, "1,3-5", 9);

/// Environment variable that identifies a run.
const RUN: &str = "VFABRIC_PTF_RUN";
/// Longest time until a switch ends; on an idle machine it takes much less.
const PATIENCE: Duration = Duration::from_secs(30);

/// Whether a process of a run still exists.
fn is_running(run: &Path) -> bool {
    let wanted = format!("{RUN}={}", run.display());
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let environments = processes.filter_map(|p| fs::read(p.path().join("environ")).ok());
    let has = |e: Vec<u8>| e.split(|b| *b == 0).any(|v| v == wanted.as_bytes());
    environments.into_iter().any(has)
}

/// Runs tests of a suite on a switch, in a network namespace of its own; returns what PTF said.
fn run(suite: &Suite, switch: &Path, only: &[&str]) -> (bool, String) {
    let Suite(_, program, ports, _) = suite;
    let dir = tempfile::tempdir().unwrap();
    let (json, info) = (dir.path().join("program.json"), dir.path().join("program.p4info.bin"));
    fs::write(&json, program.json).unwrap();
    fs::write(&info, program.p4info).unwrap();
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    let ptf = tests.join("python/ptf");
    let reasons = tests.join("../p4/fabric/include/drop_reasons.p4");
    let python = bmv2_tests::venv::python("ptf").unwrap();
    let log = dir.path().join("switch.log");
    let platform = format!("switch={};ports={ports};log={}", switch.display(), log.display());
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
    // The switch inherits the variable, by which it is found.
    command.env(RUN, dir.path());
    let output = command.current_dir(dir.path()).output().unwrap();
    let started = Instant::now();
    while is_running(dir.path()) {
        assert!(started.elapsed() < PATIENCE, "the switch outlives its run");
        std::thread::sleep(Duration::from_millis(50));
    }
    let mut said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    said += &fs::read_to_string(log).unwrap_or_default();
    (output.status.success(), said)
}

fn p4_switch() -> PathBuf {
    Path::new(env!("CARGO_BIN_EXE_exercise")).with_file_name("p4-switch")
}

/// Runs all of a suite.
fn passes(suite: &Suite, switch: &Path) {
    let (good, said) = run(suite, switch, &[suite.0]);
    assert!(good && said.contains(&format!("Ran {} tests", suite.3)), "{said}");
}

#[test]
fn every_table_and_drop_reason_of_the_leaf_on_our_switch() {
    passes(&LEAF, &p4_switch());
}

#[test]
fn every_table_and_drop_reason_of_the_spine_on_our_switch() {
    passes(&SPINE, &p4_switch());
}

#[test]
fn coverage_fails_when_tests_are_missing() {
    let (good, said) = run(&LEAF, &p4_switch(), &["leaf.TransitIPv4", "leaf.ZCoverage"]);
    assert!(!good && said.contains("drop reasons that nothing met"), "{said}");
}

#[test]
#[ignore = "needs simple_switch_grpc on the PATH"]
fn every_table_and_drop_reason_on_bmv2() {
    for suite in [LEAF, SPINE] {
        passes(&suite, Path::new("simple_switch_grpc"));
    }
}
