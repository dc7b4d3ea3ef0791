//! An intent file of tens of thousands of objects.

mod controller;

use std::fmt::Write as _;
use std::process::{Command, Stdio};

use controller::{Controller, ended};

#[test]
fn a_file_of_26_000_objects_is_one_transaction() {
    let mut text = "vdcs:\n- name: big\n  networks:\n".to_owned();
    for i in 0..20_000 {
        writeln!(text, "  - name: n{i}\n    subnets:\n    - cidr: 10.0.0.0/24").unwrap();
    }
    text.push_str("  attachments:\n");
    for i in 0..6_000 {
        let (network, host) = (i * 3, i % 4 + 1);
        writeln!(
            text,
            "  - name: a{i}\n    network: n{network}\n    ips: [10.0.0.10]\n    place: {{ host: {{ host: host{host}, netns: w{i}, interface: eth0 }} }}"
        )
        .unwrap();
    }
    let c = Controller::start("info");
    std::fs::write(c.path("big.yaml"), text).unwrap();
    // Standard error is a terminal, as for people; standard output goes into a file.
    let apply = format!(
        "stty cols 120; {} --config client.yaml apply -f big.yaml --wait 0 > out",
        env!("CARGO_BIN_EXE_fabricctl")
    );
    let mut terminal = Command::new("script");
    terminal.args(["--quiet", "--return", "--command", &apply, "/dev/null"]);
    let (code, shown, _) = ended(
        &terminal
            .current_dir(c.dir.path())
            .stdin(Stdio::null())
            .output()
            .unwrap(),
    );
    assert_eq!(code, 0, "{shown}");
    assert!(shown.contains("applying 26001 objects"), "{shown:?}");
    let out = std::fs::read_to_string(c.path("out")).unwrap();
    assert_eq!(out.lines().filter(|l| l.starts_with("+ ")).count(), 26_001);
    let status = c.ok("status");
    assert!(status.contains("20000") && status.contains("6000"), "{status}");
}
