//! `fabricctl check` with real packets. Needs root, or a kernel that lets users make namespaces. Tests on bmv2 need
//! simple_switch_grpc on the PATH.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

/// The targets, as `--target` names them.
const OURS: &str = "p4-switch";
const BMV2: &str = "bmv2";

/// `fabricctl check` on the shipped lab's topology and intent.
fn command(before: &[&str], expect: &Path, more: &[&str]) -> Command {
    let lab = Path::new(env!("CARGO_MANIFEST_DIR")).join("lab");
    let program = [before, &[env!("CARGO_BIN_EXE_fabricctl"), "check"]].concat();
    let (first, rest) = program.split_first().unwrap();
    let mut command = Command::new(first);
    command.args(rest).arg("--topology").arg(lab.join("topology.yaml"));
    command.arg("--intent").arg(lab.join("intent.yaml"));
    command.arg("--expect").arg(expect).args(more);
    command
}

fn check(before: &[&str], expect: &Path, more: &[&str]) -> Output {
    command(before, expect, more).output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.as_slice(), &output.stderr].concat()).into_owned()
}

fn file(dir: &TempDir, text: &str) -> PathBuf {
    let path = dir.path().join("expect.yaml");
    std::fs::write(&path, text).unwrap();
    path
}

#[test]
fn expectations_written_from_an_intent_hold_for_a_user_without_rights() {
    holds_without_rights(OURS);
}

#[test]
#[ignore = "needs simple_switch_grpc on the PATH"]
fn expectations_written_from_an_intent_hold_on_bmv2() {
    holds_without_rights(BMV2);
}

fn holds_without_rights(target: &str) {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("expect.yaml");
    let written = check(&[], &path, &["--write"]);
    assert_eq!(written.status.code(), Some(0), "{}", said(&written));
    // An ordinary user: the kernel takes all capabilities away with the user id.
    let output = check(
        &["unshare", "--user", "--map-user=1000", "--map-group=1000"],
        &path,
        &["--target", target],
    );
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert!(
        said(&output).contains("blue/* never reaches red/*"),
        "{}",
        said(&output)
    );
    // An existing file is not overwritten.
    assert_eq!(check(&[], &path, &["--write"]).status.code(), Some(2));
}

#[test]
fn each_wrong_expectation_fails_in_its_own_row_and_runs_stand_side_by_side() {
    fails_in_its_own_row(OURS);
}

#[test]
#[ignore = "needs simple_switch_grpc on the PATH"]
fn each_wrong_expectation_fails_in_its_own_row_on_bmv2() {
    fails_in_its_own_row(BMV2);
}

fn fails_in_its_own_row(target: &str) {
    let text = "expect:
- { name: right, from: blue/web1, to: blue/web3, by: [ping, udp, tcp], through: [leaf1, 'spine*', leaf2] }
- { name: wrong reach, from: blue/web1, to: red/web2 }
- { name: wrong isolation, from: blue/web1, to: blue/db1, reach: false, by: [ping] }
- { name: wrong isolation by TCP, from: blue/web1, to: blue/db1, reach: false, by: [tcp] }
- { name: wrong TTL, from: blue/web1, to: blue/db1, ttl: 64 }
- { name: wrong MTU, from: blue/web1, to: blue/web2, mtu: 1400 }
- { name: wrong path, from: blue/web1, to: blue/db1, path: [target] }
- { name: wrong switches, from: blue/web1, to: blue/web3, through: [leaf1, leaf2] }
";
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let dir = TempDir::new().unwrap();
                let (junit, pcap) = (dir.path().join("junit.xml"), dir.path().join("pcap"));
                let files = ["--junit", junit.to_str().unwrap(), "--pcap", pcap.to_str().unwrap()];
                let more = [&["--target", target], files.as_slice()].concat();
                let output = check(&[], &file(&dir, text), &more);
                assert_eq!(output.status.code(), Some(1), "{}", said(&output));
                let xml = std::fs::read_to_string(&junit).unwrap();
                for (row, why) in [
                    ("wrong reach", "blue/web2 answered"),
                    ("wrong isolation", "packets arrived, expected none"),
                    ("wrong isolation by TCP", "connection was accepted"),
                    ("wrong TTL", "TTL on arrival is Some(63), expected 64"),
                    ("wrong MTU", "1401 octets arrives whole too"),
                    ("wrong path", "expected [&quot;target&quot;]"),
                    ("wrong switches", "went through"),
                ] {
                    let case = xml.split("<testcase ").find(|c| c.contains(&format!("name=\"{row}\"")));
                    assert!(
                        case.is_some_and(|c| c.contains("<failure") && c.contains(why)),
                        "{row}: {xml}"
                    );
                }
                assert!(xml.contains("tests=\"8\" failures=\"7\" errors=\"0\""), "{xml}");
                assert!(pcap.join("05-blue-db1.pcap").exists() && pcap.join("leaf1.log").exists());
                assert!(!pcap.join("01-blue-web1.pcap").exists());
            });
        }
    });
}

#[test]
fn what_a_fault_costs_is_judged_and_the_fault_mended() {
    faults_are_judged(OURS);
}

#[test]
#[ignore = "needs simple_switch_grpc on the PATH"]
fn what_a_fault_costs_is_judged_on_bmv2() {
    faults_are_judged(BMV2);
}

fn faults_are_judged(target: &str) {
    let dir = TempDir::new().unwrap();
    let text = "expect:
- { from: blue/web1, to: blue/web3, under: kill_controller }
- { from: blue/web1, to: blue/web3, under: { cut_link: 'leaf1:1' }, through: [leaf1, spine2, leaf2] }
- { from: blue/web1, to: blue/web3, under: { kill_switch: spine1 }, through: [leaf1, spine2, leaf2] }
- { from: blue/web1, to: blue/web3, under: { kill_agent: host1 } }
- { name: wrong, from: blue/web1, to: blue/web3, under: { kill_switch: leaf2 }, lost: 0 }
- { name: none, from: blue/web1, to: blue/web3, under: { kill_switch: leaf2 }, reach: false }
- { name: mute, from: blue/web1, to: red/web2, under: { kill_switch: leaf1 }, reach: false, by: [ping, tcp] }
- { from: blue/web1, to: blue/web3 }
";
    let output = check(&[], &file(&dir, text), &["--target", target]);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains("6 passed, 2 failed"), "{}", said(&output));
    // Nothing arrives, but for a reason that proves nothing about isolation.
    for what in ["blue/web1 gets no frame to a switch", "TCP: nothing was tested"] {
        assert!(said(&output).contains(what), "{}", said(&output));
    }
}

#[test]
fn without_bmv2_a_run_ends_with_2_and_says_what_is_missing() {
    let dir = TempDir::new().unwrap();
    let expect = file(&dir, "expect: [{from: blue/web1, to: blue/web2}]");
    let folders = std::env::var_os("PATH").unwrap();
    let folders = std::env::split_paths(&folders).filter(|f| !f.join("simple_switch_grpc").exists());
    let mut run = command(&[], &expect, &["--target", BMV2]);
    let output = run
        .env("PATH", std::env::join_paths(folders).unwrap())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    assert!(
        said(&output).contains("`simple_switch_grpc` is not on the PATH; leave out --target bmv2"),
        "{}",
        said(&output)
    );
}

#[test]
fn a_run_that_cannot_be_made_ends_with_2_and_names_the_field() {
    let dir = TempDir::new().unwrap();
    for (text, says) in [
        (
            "expect: [{from: blue/web1, to: blue/web9}]",
            "no attachment `blue/web9`",
        ),
        ("expect: [{from: blue/web1, to: blue/web2, speed: 1}]", "speed"),
        (
            "expect: [{from: blue/web1, to: blue/web2, under: {kill_switch: spine9}}]",
            "`spine9` is unknown",
        ),
    ] {
        let output = check(&[], &file(&dir, text), &[]);
        assert_eq!(output.status.code(), Some(2), "{}", said(&output));
        assert!(said(&output).contains(says), "{}", said(&output));
    }
}
