//! Blank switches on a management network of namespaces: `p4-switch --ztp`, `fabric-provision` and `fabric-controller`, each a
//! process of its own; and a DHCP server of somebody else. Needs root, and the programs of `cargo build --workspace`.

#[allow(unreachable_pub)]
mod common;

use std::fs;
use std::path::Path;
use std::process::Stdio;

use common::{Net, Netns, Process, USER, until};
use fabric_bootz::testing::{World, signer};
use fabric_identity::testing::Authority;
use serde_json::Value;

const MODEL: &str = "x86_64-acme_s1-r0";
/// The administrator's token.
const TOKEN: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
/// The second switch has no MAC address in the inventory.
const TOPOLOGY: &str = r#"
fabric: { name: test }
switches:
  - { name: leaf1, role: leaf, device_id: 1, loopback_ipv4: 10.255.0.1, loopback_ipv6: "fd00:255::1", p4runtime: "192.0.2.11:9559", serial: AF39, mac: "02:aa:00:00:00:01", model: x86_64-acme_s1-r0 }
  - { name: spine1, role: spine, device_id: 2, loopback_ipv4: 10.255.0.2, loopback_ipv6: "fd00:255::2", p4runtime: "192.0.2.12:9559", serial: AF40 }
"#;
const BOOTZ_SERVER: &str = "
bootz_server: { port: 15006, owner: 192.0.2.1:15007, tls_ca: ca.pem, tls_cert: provision/cert.pem, tls_key: provision/key.pem }
";
const OWNER: &str = "
listen: 192.0.2.1:15007
manufacturers: maker.pem
vouchers: .
owner_certificate: owner.cms
owner_key: owner.key
authority_certificate: enrol.pem
authority_key: enrol.key
";

/// A program of the workspace.
fn program(name: &str) -> String {
    let programs = Path::new(env!("CARGO_BIN_EXE_fabric-provision")).parent().unwrap();
    programs.join(name).to_str().unwrap().to_owned()
}

/// Starts a process in a namespace, with its log in a file.
fn start(net: &Net, machine: &Netns, name: &str, log: &str, args: &[&str]) -> Process {
    let log = fs::File::options()
        .create(true)
        .append(true)
        .open(net.path(log))
        .unwrap();
    let mut command = machine.command(&program(name), args);
    Process(
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap(),
    )
}

/// A switch that is powered on. It knows its identity and its management interface.
fn power_on(net: &Net, machine: &Netns, dir: &str) -> Process {
    let (dir, log) = (net.text(dir), format!("{dir}.log"));
    start(
        net,
        machine,
        "p4-switch",
        &log,
        &["--ztp", &dir, "--ztp-interface", "eth0"],
    )
}

/// The network with the files of a whole fabric.
fn fabric(net: &Net) -> World {
    let world = World::new(net.dir.path());
    let (authority, enrolling) = (Authority::new(), signer("enrolment"));
    let both = format!("{}{}", authority.pem, enrolling.pem);
    net.write("ca.pem", &both);
    net.write("enrol.pem", &enrolling.pem);
    net.write("enrol.key", &enrolling.key);
    for who in ["controller", "provision"] {
        fs::create_dir(net.path(who)).unwrap();
        authority.issue(who).write(&both, &net.path(who));
    }
    common::run("chown", &["-R", USER, &net.text("provision")]);
    net.write("topology.yaml", TOPOLOGY);
    net.write("bootz.yaml", OWNER);
    net.write("token", TOKEN);
    let settings = fs::read_to_string(net.path("provision.yaml")).unwrap();
    net.write("provision.yaml", &format!("{settings}{BOOTZ_SERVER}"));
    world
}

/// The controller beside the provisioning server.
fn control(net: &Net) -> Process {
    let file = |name: &str| net.text(name);
    let args = [
        ("--topology", file("topology.yaml")),
        ("--data-dir", file("data")),
        ("--listen", "127.0.0.1:8443".into()),
        ("--agent-listen", "127.0.0.1:9443".into()),
        ("--tls-ca", file("ca.pem")),
        ("--tls-cert", file("controller/cert.pem")),
        ("--tls-key", file("controller/key.pem")),
        ("--token-file", file("token")),
        ("--bootz", file("bootz.yaml")),
    ];
    let args: Vec<&str> = args.iter().flat_map(|(name, value)| [*name, value.as_str()]).collect();
    start(net, &net.server, "fabric-controller", "controller.log", &args)
}

/// What the controller's API says.
fn get(net: &Net, path: &str) -> Option<Value> {
    let (ca, token) = (net.text("ca.pem"), format!("authorization: Bearer {TOKEN}"));
    let url = format!("https://127.0.0.1:8443{path}");
    let output = net
        .server
        .command("curl", &["-sf", "--cacert", &ca, "-H", &token, &url])
        .output();
    serde_json::from_slice(&output.unwrap().stdout).ok()
}

/// Waits until the controller has loaded the switch's pipeline, and read back that it holds what it should.
fn in_sync(net: &Net, switch: &str) {
    let is_so = || {
        let all = get(net, "/v1/switches")?;
        let found = all.as_array()?.iter().find(|s| s["name"] == switch)?;
        (found["status"]["state"] == "in_sync").then_some(())
    };
    until(&format!("{switch} is in sync"), is_so);
}

/// The time line of a switch that has come into service.
fn in_service(net: &Net, switch: &str) -> Value {
    let line =
        || get(net, &format!("/v1/inventory/switches/{switch}/provisioning")).filter(|l| l["in_service"] == true);
    until(&format!("{switch} is in service"), line)
}

fn deliver(net: &Net, world: &World, serial: &str, dir: &str) {
    world.deliver(&world.maker.device(serial), &net.path(dir));
    world.lay_down(serial, &world.voucher_text(serial, ""));
}

#[test]
fn blank_switches_are_powered_on_and_get_their_pipelines() {
    let mut net = Net::new();
    let world = fabric(&net);
    net.serve();
    let leaf = net.machine("leaf1", "02:aa:00:00:00:01");
    let spine = net.machine("spine1", "02:cc:00:00:00:02");
    deliver(&net, &world, "AF39", "leaf");
    deliver(&net, &world, "AF40", "spine");
    // The controller is not there yet: switches wait for it.
    let leaf_runs = power_on(&net, &leaf, "leaf");
    until("leaf1 was refused", || {
        net.steps("leaf1").iter().any(|s| s == "refused").then_some(())
    });
    let _controller = control(&net);
    in_sync(&net, "leaf1");
    let _spine_runs = power_on(&net, &spine, "spine");
    in_sync(&net, "spine1");
    for (machine, address) in [(&leaf, "192.0.2.11/24"), (&spine, "192.0.2.12/24")] {
        let addresses = machine.run("ip", &["-4", "addr", "show", "dev", "eth0"]);
        assert!(
            addresses.contains(address) && !addresses.contains("valid_lft forever"),
            "{addresses}"
        );
        let routes = machine.run("ip", &["route"]);
        assert!(routes.contains("default via 192.0.2.254"), "{routes}");
    }
    assert_eq!(
        net.steps("spine1"),
        [
            "discovered",
            "leased",
            "challenged",
            "enrolled",
            "bootstrapping",
            "challenged",
            "bootstrapped"
        ]
    );

    // The controller shows every step, including those that the provisioning server saw.
    let line = in_service(&net, "spine1");
    let step = |step: &str| line["steps"].as_array().unwrap().iter().position(|s| s["step"] == step);
    let seen = ["discovered", "leased", "enrolled", "bootstrapped"];
    let own = [
        "arbitrated",
        "pipeline_loaded",
        "read_back",
        "in_sync",
        "cabling_checked",
        "in_service",
    ];
    for way in [seen.as_slice(), own.as_slice()] {
        let places: Vec<_> = way
            .iter()
            .map(|s| step(s).unwrap_or_else(|| panic!("{s}: {line}")))
            .collect();
        assert!(places.is_sorted(), "{line}");
    }
    assert!(
        line["took_ms"].as_u64().is_some_and(|ms| ms > 0) && line["arrivals"] == 1,
        "{line}"
    );

    // A machine that the inventory does not name gets nothing, and the operator sees it.
    deliver(&net, &world, "ZZ99", "stranger");
    let stranger = net.machine("box", "02:dd:00:00:00:07");
    let _stranger_runs = power_on(&net, &stranger, "stranger");
    let event = || {
        let all = get(&net, "/v1/events?limit=1000")?;
        let events = all["items"].as_array()?.clone();
        events.into_iter().find(|e| e["object"] == "machine 02:dd:00:00:00:07")
    };
    let event = until("the stranger is an event", event);
    assert_eq!(
        (event["reason"].as_str(), event["warning"].as_bool()),
        (Some("enrolment_refused"), Some(true))
    );
    let detail = event["detail"].as_str().unwrap();
    assert!(detail.contains("ZZ99") && detail.contains(MODEL), "{detail}");
    assert!(!stranger.run("ip", &["-4", "addr"]).contains("eth0"));

    // A loss of power while the provisioning server is away: the switch comes back with the address that it had.
    drop(leaf_runs);
    net.kill();
    leaf.ip("addr flush dev eth0");
    let lost = || {
        let all = get(&net, "/v1/switches")?;
        let leaf = all.as_array()?.iter().find(|s| s["name"] == "leaf1")?;
        (leaf["status"]["state"] == "disconnected").then_some(())
    };
    until("the controller has lost leaf1", lost);
    let _again = power_on(&net, &leaf, "leaf");
    in_sync(&net, "leaf1");
    assert_eq!(in_service(&net, "leaf1")["arrivals"], 2);
}

#[test]
fn a_switch_takes_its_address_from_somebody_elses_server_too() {
    let mut net = Net::new();
    let world = World::new(net.dir.path());
    deliver(&net, &world, "AF39", "leaf");
    let leases = net.text("dnsmasq.leases");
    let dnsmasq = net.server.command(
        "dnsmasq",
        &[
            "--keep-in-foreground",
            "--conf-file=/dev/null",
            "--port=0",
            "--user=root",
            "--pid-file",
            "--interface=mgmt0",
            "--bind-interfaces",
            "--dhcp-authoritative",
            "--dhcp-range=192.0.2.200,192.0.2.210,2m",
            "--dhcp-option=option:router",
            &format!("--dhcp-leasefile={leases}"),
        ],
    );
    let _dnsmasq = spawn(dnsmasq);
    let leaf = net.machine("leaf1", "02:aa:00:00:00:01");
    // Replies to an interface without an address would not reach an ordinary socket.
    leaf.run("sysctl", &["-qw", "net.ipv4.conf.all.rp_filter=1"]);
    let runs = power_on(&net, &leaf, "leaf");
    let leased = || fs::read_to_string(net.path("leaf/lease.json")).ok();
    let lease: Value = serde_json::from_str(&until("it has a lease", leased)).unwrap();
    let address = lease["lease"]["address"].as_str().unwrap().to_owned();
    assert!(leaf.run("ip", &["addr"]).contains(&format!("{address}/24")));
    let theirs = fs::read_to_string(&leases).unwrap();
    // Its identifier is its serial number: 00 before it.
    assert!(
        theirs.contains(&address) && theirs.contains("00:41:46:33:39"),
        "{theirs}"
    );
    // This DHCP server names no Bootz server: the switch logs that and keeps asking.
    let says = || {
        fs::read_to_string(net.path("leaf.log"))
            .ok()?
            .contains("no Bootz server")
            .then_some(())
    };
    until("it says what is missing", says);
    drop(runs);
}

fn spawn(mut command: std::process::Command) -> Process {
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    Process(child.expect("dnsmasq (Debian package dnsmasq-base)"))
}
