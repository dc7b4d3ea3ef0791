//! The command as a user runs it: with a program, on capture files, without a controller.

use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use p4_switch::port::pcap::format::{Packet, Reader, write_header, write_packet};

const PROGRAM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/crossover.json");

fn switch() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_p4-switch"));
    // Any free port; the tests do not speak to it.
    command.args(["--grpc-server-addr", "127.0.0.1:0"]);
    command
}

fn capture(path: &Path, packets: &[Packet]) {
    let mut file = File::create(path).unwrap();
    write_header(&mut file).unwrap();
    for packet in packets {
        write_packet(&mut file, packet.time, &packet.frame).unwrap();
    }
}

fn frames(path: &Path) -> Vec<Vec<u8>> {
    let Ok(mut reader) = Reader::new(File::open(path).unwrap()) else {
        return Vec::new();
    };
    // The last packet may be half written.
    std::iter::from_fn(|| reader.next_packet().ok().flatten())
        .map(|p| p.frame)
        .collect()
}

#[test]
fn a_program_forwards_between_capture_files() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let packets: Vec<_> = (0..500u32)
        .map(|n| Packet {
            time: Duration::from_millis(n.into()),
            frame: n.to_be_bytes().repeat(16 + n as usize % 300),
        })
        .collect();
    capture(&path("in.pcap"), &packets);
    let mut child = switch()
        .args(["--pcap-in", &format!("1={}", path("in.pcap").display())])
        .args(["--pcap-out", &format!("2={}", path("out.pcap").display())])
        .args([
            "--log-file",
            &path("log").display().to_string(),
            "--threads",
            "2",
            PROGRAM,
        ])
        .spawn()
        .unwrap();
    while !path("out.pcap").exists() || frames(&path("out.pcap")).len() < packets.len() {
        assert_eq!(
            child.try_wait().unwrap(),
            None,
            "{:?}",
            std::fs::read_to_string(path("log.txt"))
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    let id = nix::unistd::Pid::from_raw(child.id() as i32);
    nix::sys::signal::kill(id, nix::sys::signal::Signal::SIGTERM).unwrap();
    assert!(child.wait().unwrap().success(), "SIGTERM ends it successfully");
    let sent: Vec<_> = packets.into_iter().map(|p| p.frame).collect();
    assert_eq!(frames(&path("out.pcap")), sent);
    assert!(std::fs::read_to_string(path("log.txt")).unwrap().contains("serving"));
}

/// Runs until it fails; returns its output.
fn fails(arguments: &[&str]) -> String {
    let output = switch().args(arguments).stdin(Stdio::null()).output().unwrap();
    assert!(!output.status.success(), "{arguments:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn what_cannot_be_started_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let damaged = dir.path().join("damaged");
    std::fs::write(&damaged, "{}}").unwrap();
    let damaged = damaged.display().to_string();
    let said = |arguments: &[&str], words: &[&str]| {
        let text = fails(arguments);
        for word in words {
            assert!(text.contains(word), "{arguments:?}: {word:?} is missing in: {text}");
        }
    };
    said(&["--no-p4", "-i", "1@nothere0"], &["nothere0", "no such device"]);
    said(&["nothere.json"], &["nothere.json"]);
    said(&[&damaged], &["damaged"]);
    said(&[PROGRAM, "--p4info", PROGRAM], &["crossover.json", "P4Info"]);
    said(&["--pcap-in", &format!("1={damaged}")], &["damaged", "not a pcap file"]);
    said(&["--log-file", "/nowhere/log", "--no-p4"], &["--log-file /nowhere/log"]);
    said(
        &["--pcap-out", "1=/nowhere/out.pcap", "--no-p4"],
        &["/nowhere/out.pcap"],
    );
}

#[test]
fn a_trace_tells_of_each_packet() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    let packet = Packet {
        time: Duration::ZERO,
        frame: vec![7; 60],
    };
    capture(&dir.path().join("in.pcap"), &[packet.clone(), packet]);
    let child = switch()
        .args(["--pcap-in", &format!("1={}", path("in.pcap"))])
        .args(["--pcap-out", &format!("2={}", path("out.pcap"))])
        .args(["--log-file", &path("log"), "--trace", PROGRAM])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    while frames_written(&dir.path().join("out.pcap")) < 2 {
        std::thread::sleep(Duration::from_millis(20));
    }
    let id = nix::unistd::Pid::from_raw(child.id() as i32);
    nix::sys::signal::kill(id, nix::sys::signal::Signal::SIGTERM).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    // The file is complete, although the switch was ended at once.
    for line in [
        "#1 in  port 1, 60 octets",
        "  egress  port 2",
        "#2 out port 2, 60 octets",
    ] {
        assert!(text.lines().any(|l| l == line), "{line:?} is missing in:\n{text}");
    }
}

fn frames_written(path: &Path) -> usize {
    if path.exists() { frames(path).len() } else { 0 }
}

/// Runs `test` on a thread in a new network namespace with a loopback device, where all ports are free. Needs root.
fn in_namespace(test: impl FnOnce() + Send + 'static) {
    let thread = std::thread::spawn(move || {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("root may make namespaces");
        let up = Command::new("ip").args(["link", "set", "lo", "up"]).status();
        assert!(up.expect("iproute2 is installed").success());
        test();
    });
    thread.join().unwrap();
}

#[test]
fn under_the_names_of_bmv2_it_is_what_they_stand_for() {
    in_namespace(|| {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        for name in ["simple_switch_grpc", "simple_switch_CLI"] {
            std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_p4-switch"), path(name)).unwrap();
        }
        let mut child = Command::new(path("simple_switch_grpc"))
            .current_dir(dir.path())
            .args([
                "--pcap",
                ".",
                "--nanolog",
                "ipc:///tmp/bm-log.ipc",
                "--log-file",
                "s1",
                "--thrift-port",
                "9090",
            ])
            .args([PROGRAM, "--", "--cpu-port", "255"])
            .spawn()
            .unwrap();
        // As tools that wait for the switch do.
        while std::net::TcpStream::connect("127.0.0.1:9090").is_err() {
            assert_eq!(child.try_wait().unwrap(), None, "it runs");
            std::thread::sleep(Duration::from_millis(20));
        }
        std::fs::write(
            path("s1-commands.txt"),
            "show_actions\nset_queue_depth 5 1\nfrobnicate\n",
        )
        .unwrap();
        let output = Command::new(path("simple_switch_CLI"))
            .stdin(std::fs::File::open(path("s1-commands.txt")).unwrap())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{output:?}");
        assert!(said.contains("Error: frobnicate"), "{said}");
        let id = nix::unistd::Pid::from_raw(child.id() as i32);
        nix::sys::signal::kill(id, nix::sys::signal::Signal::SIGTERM).unwrap();
        assert!(child.wait().unwrap().success());
        let log = std::fs::read_to_string(path("s1.txt")).unwrap();
        for words in ["--nanolog has no effect", "0.0.0.0:9559", "device_id=0"] {
            assert!(log.contains(words), "{words:?} is missing in:\n{log}");
        }
        let output = Command::new(path("simple_switch_CLI"))
            .stdin(Stdio::null())
            .args(["--thrift-port", "9090"])
            .output()
            .unwrap();
        assert!(!output.status.success());
        assert!(String::from_utf8_lossy(&output.stderr).contains("9090"), "{output:?}");
    });
}
