//! The command line, as people use it.

use std::io::Write;
use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio};

use vtep_agent::status::{Row, Status, socket};

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let state = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(socket(state.path())).unwrap();
    let row = |i: u32| Row {
        kind: "fdb".into(),
        vni: i,
        name: "02:00:00:00:00:01".into(),
        content: "at 192.0.2.1".into(),
        state: "applied".into(),
    };
    let status = Status {
        host: "h1".into(),
        uplink: "up0".into(),
        uplink_up: true,
        connected: true,
        epoch: 1,
        complete: true,
        // More output than a pipe holds.
        objects: (0..5000).map(row).collect(),
        overlay: "vfabric-h1".into(),
        repairs: vec![],
        losses: vec![],
        traffic: vec![],
        certificates: vec![],
        running: vec![],
    };
    let text = serde_json::to_vec(&status).unwrap();
    std::thread::spawn(move || {
        for client in listener.incoming() {
            client.unwrap().write_all(&text).unwrap();
        }
    });
    for flags in [&[][..], &["--json"]] {
        let mut child = Command::new(env!("CARGO_BIN_EXE_vtep-agent"))
            .args(["status", "--state-dir"])
            .arg(state.path())
            .args(flags)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let out = child.wait_with_output().unwrap();
        assert!(out.status.success(), "{:?}", out.status);
        assert_eq!(String::from_utf8(out.stderr).unwrap(), "");
    }
}
