//! Exercises in the form of p4lang's tutorials and of p4-utils run unchanged. Needs root, `ip`, `tc`, `ethtool` and
//! `ping`.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

fn exercise() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_exercise"));
    let switch = Path::new(env!("CARGO_BIN_EXE_exercise")).with_file_name("p4-switch");
    assert!(switch.is_file(), "{}: build the whole workspace", switch.display());
    command.arg("run");
    command
}

fn triangle() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("exercises/triangle")
}

fn text(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// Namespaces of the run of a process.
fn left_over(pid: u32) -> Vec<String> {
    let entries = std::fs::read_dir("/run/netns").into_iter().flatten().flatten();
    let names = entries.filter_map(|e| e.file_name().into_string().ok());
    names
        .filter(|n| n.starts_with(&format!("ex{pid}-")) || n.starts_with(&format!("ex{pid}.")))
        .collect()
}

#[test]
fn every_host_reaches_every_other_and_runs_stand_beside_each_other() {
    let start = || {
        let mut command = exercise();
        command
            .arg(triangle())
            .arg("--check")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command.spawn().unwrap()
    };
    let runs = [start(), start()];
    for run in runs {
        let pid = run.id();
        let output = run.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", text(&output));
        assert!(text(&output).contains("6 of 6 pings answered"), "{}", text(&output));
        assert_eq!(left_over(pid), Vec::<String>::new());
    }
}

#[test]
fn a_p4app_of_p4_utils_runs_as_it_is() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("exercises/pair");
    let output = exercise().arg(folder).arg("--check").output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    assert!(text(&output).contains("6 of 6 pings answered"), "{}", text(&output));
}

fn leaves() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("exercises/leaves")
}

#[test]
fn the_network_of_a_netcfg_of_onos_runs_as_it_is() {
    let program = leaves().join("patch.p4");
    let mut command = exercise();
    let output = command.arg(leaves()).arg("--check").arg("--program").arg(program);
    let output = output.output().unwrap();
    let said = text(&output);
    assert!(output.status.success(), "{said}");
    // Two hosts, by IPv4 and by IPv6; the third is nowhere.
    assert!(said.contains("4 of 4 pings answered"), "{said}");
    assert!(said.contains("h3 has no location"), "{said}");
    assert!(said.contains("leaf2: grpc://192.0.2.2:50001 device id 7"), "{said}");
}

#[test]
fn a_controller_finds_the_switches_of_a_netcfg_where_it_says_and_brings_the_program() {
    let dir = tempfile::tempdir().unwrap();
    for file in ["netcfg.json", "runtime.json"] {
        std::fs::copy(leaves().join(file), dir.path().join(file)).unwrap();
    }
    let options = p4_compiler::Options::default();
    let made = bmv2_tests::program::compile(&leaves().join("patch.p4"), &options).unwrap();
    std::fs::write(dir.path().join("patch.json"), made.json).unwrap();
    std::fs::write(dir.path().join("patch.p4.p4info.txtpb"), made.p4info_text).unwrap();
    let load = |address: &str, device_id: u64| {
        let (program, runtime) = (env!("CARGO_BIN_EXE_exercise"), dir.path().join("runtime.json"));
        let runtime = runtime.display();
        format!("{program} load {runtime} --address {address} --device-id {device_id}")
    };
    let ping = |from: u8, to: u8| format!("ip netns exec $EXERCISE_PREFIX-h{from} ping -n -q -c1 -W2 10.0.0.{to}");
    let script = [
        format!("! {}", ping(1, 2)),
        load("127.0.0.1:50001", 1),
        load("192.0.2.2:50001", 7),
        // The kernel still waits for a reply to the address request of the first attempt.
        "ip -n $EXERCISE_PREFIX-h1 neigh flush dev eth0".to_owned(),
        ping(1, 2),
        // Its link is not in the file.
        format!(
            "ip -n $EXERCISE_PREFIX-h3 addr add 10.0.0.3/24 dev eth0 && ! {}",
            ping(3, 1)
        ),
        "exit 9".to_owned(),
    ];
    let mut command = exercise();
    let output = command.arg(dir.path()).args(["--link", "h3,leaf1/4"]);
    let output = output.args(["--run", &script.join(" && ")]).output().unwrap();
    assert_eq!(output.status.code(), Some(9), "{}", text(&output));
}

#[test]
fn a_users_command_finds_hosts_and_switches_and_its_status_is_passed_on() {
    // What s1 replicates reaches both neighbours, which have no route for it; the switches' servers are on 127.0.0.1.
    let script =
        "ss -ltn | grep -q 127.0.0.1:50053 && ip netns exec $EXERCISE_PREFIX-h1 ping -c1 -W2 10.0.3.3 && exit 7";
    let output = exercise().arg(triangle()).args(["--run", script]).output().unwrap();
    assert_eq!(output.status.code(), Some(7), "{}", text(&output));
}

#[test]
fn a_wrong_runtime_file_is_named_with_the_place_and_nothing_stays() {
    let dir = tempfile::tempdir().unwrap();
    for file in [
        "triangle.p4",
        "topology.json",
        "s1-runtime.json",
        "s2-runtime.json",
        "s3-commands.txt",
    ] {
        std::fs::copy(triangle().join(file), dir.path().join(file)).unwrap();
    }
    let change = |file: &str, from: &str, to: &str| {
        let path = dir.path().join(file);
        let text = std::fs::read_to_string(triangle().join(file)).unwrap();
        assert!(text.contains(from), "{file}: {from}");
        std::fs::write(path, text.replacen(from, to, 1)).unwrap();
    };
    for (file, from, to, expected) in [
        (
            "s2-runtime.json",
            "hdr.ipv4.dst_addr",
            "hdr.ipv4.dst",
            "no match field `hdr.ipv4.dst`; there are hdr.ipv4.dst_addr",
        ),
        (
            "s2-runtime.json",
            "\"port\": 1",
            "\"port\": 512",
            "512 does not fit into 9 bits",
        ),
        (
            "s2-runtime.json",
            "TriangleIngress.drop",
            "TriangleIngress.lose",
            "TriangleIngress.lose",
        ),
        ("s2-runtime.json", "table_entries", "entries", "unknown field `entries`"),
        ("s3-commands.txt", "10.0.3.3/32", "10.0.3.3.3/32", "10.0.3.3.3"),
        ("topology.json", "s1-p1", "s9-p1", "no switch is called s9"),
    ] {
        change(file, from, to);
        let run = exercise()
            .arg(dir.path())
            .arg("--check")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let pid = run.id();
        let output = run.wait_with_output().unwrap();
        assert!(!output.status.success(), "{file}: {to} was taken");
        assert!(text(&output).contains(expected), "{file}: {to}: {}", text(&output));
        assert_eq!(left_over(pid), Vec::<String>::new());
        change(file, from, from);
    }
}

#[test]
fn a_signal_takes_everything_down() {
    let mut run = exercise().arg(triangle()).stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(run.stdout.take().unwrap()).lines();
    assert!(lines.map_while(Result::ok).any(|l| l.starts_with("Ctrl-C")));
    assert_eq!(left_over(run.id()).len(), 4);
    let pid = nix::unistd::Pid::from_raw(run.id().cast_signed());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    assert!(run.wait().unwrap().success());
    assert_eq!(left_over(run.id()), Vec::<String>::new());
}
