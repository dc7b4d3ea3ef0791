//! Blank switches on a management network of namespaces: `p4-switch --ztp`, `fabric-provision` and `fabric-controller`, each a
//! process of its own; and a DHCP server of somebody else. Needs root, and the programs of `cargo build --workspace`.

#[allow(unreachable_pub)]
mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
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

/// The controller beside the provisioning server, which enrols switches by Bootz.
fn control(net: &Net) -> Process {
    control_with(net, &[("--bootz", "bootz.yaml")])
}

/// The controller with more options, each of which names a file.
fn control_with(net: &Net, more: &[(&str, &str)]) -> Process {
    let file = |name: &str| net.text(name);
    let args = [
        ("--topology", file("topology.yaml")),
        ("--data-dir", file("data")),
        ("--listen", "127.0.0.1:8443".into()),
        ("--agent-listen", "192.0.2.1:9443".into()),
        ("--tls-ca", file("ca.pem")),
        ("--tls-cert", file("controller/cert.pem")),
        ("--tls-key", file("controller/key.pem")),
        ("--token-file", file("token")),
    ];
    let more = more.iter().map(|(name, value)| (*name, file(value)));
    let args: Vec<(&str, String)> = args.into_iter().chain(more).collect();
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
    // Its client identifier is 00 and its serial number.
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

/// `fabricctl` on the controller's machine; what it prints.
fn operate(net: &Net, args: &[&str]) -> String {
    let (ca, token) = (net.text("ca.pem"), net.text("token"));
    let fixed = [
        "--server",
        "https://127.0.0.1:8443",
        "--ca",
        &ca,
        "--token-file",
        &token,
    ];
    net.server.run(&program("fabricctl"), &[&fixed[..], args].concat())
}

/// A machine without an IDevID.
fn deliver_plain(net: &Net, serial: &str, dir: &str) {
    fs::create_dir(net.path(dir)).unwrap();
    let text = format!(r#"{{"manufacturer":"Acme","model":"{MODEL}","serial":"{serial}"}}"#);
    net.write(&format!("{dir}/device.json"), &text);
}

/// A file with a token for a switch.
fn invite(net: &Net, switch: &str, file: &str) {
    net.write(file, &operate(net, &["switch", "token", switch]));
    fs::set_permissions(net.path(file), fs::Permissions::from_mode(0o600)).unwrap();
}

const CONTROLLER: &str = "https://192.0.2.1:9443";

/// A switch with a token, whose address is there already; it must end with an error, which is returned.
fn refused(net: &Net, machine: &Netns, dir: &str, token: &str) -> String {
    let (dir, token) = (net.text(dir), net.text(token));
    let args = ["--ztp", &dir, "--ztp-token", &token, "--ztp-controller", CONTROLLER];
    let ended = machine.command(&program("p4-switch"), &args).output().unwrap();
    let words = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(!ended.status.success(), "{words}");
    assert!(!Path::new(&dir).join("enrolled.json").exists(), "it keeps nothing");
    words
}

/// Events with this reason.
fn events(net: &Net, reason: &str) -> Vec<Value> {
    let all = get(net, "/v1/events?limit=1000").unwrap();
    let found = all["items"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|e| e["reason"] == reason);
    found.cloned().collect()
}

#[test]
fn a_switch_without_an_idevid_enrols_with_a_token_once_and_is_restarted() {
    let mut net = Net::new();
    fabric(&net);
    net.serve();
    let _controller = control_with(
        &net,
        &[
            ("--switch-authority", "enrol.pem"),
            ("--switch-authority-key", "enrol.key"),
        ],
    );
    until("the controller serves", || get(&net, "/v1/inventory"));
    let leaf = net.machine("leaf1", "02:aa:00:00:00:01");
    deliver_plain(&net, "AF39", "leaf");
    invite(&net, "leaf1", "leaf.token");
    let power_on = |net: &Net| {
        let (dir, token) = (net.text("leaf"), net.text("leaf.token"));
        let args = [
            "--ztp",
            &dir,
            "--ztp-interface",
            "eth0",
            "--ztp-token",
            &token,
            "--ztp-controller",
            CONTROLLER,
        ];
        start(net, &leaf, "p4-switch", "leaf.log", &args)
    };
    let runs = power_on(&net);
    in_sync(&net, "leaf1");
    let line = in_service(&net, "leaf1");
    let enrolled = line["steps"]
        .as_array()
        .unwrap()
        .iter()
        .find(|s| s["step"] == "enrolled")
        .unwrap();
    assert!(
        enrolled["detail"].as_str().unwrap().contains("serial number AF39"),
        "{line}"
    );

    // The token is replayed by a machine that says it is the same one.
    let thief = net.machine("thief", "02:dd:00:00:00:08");
    thief.ip("addr add 192.0.2.88/24 dev eth0");
    deliver_plain(&net, "AF39", "thief");
    let words = refused(&net, &thief, "thief", "leaf.token");
    assert!(words.contains("used by another key"), "{words}");
    // A token for another machine's serial number.
    deliver_plain(&net, "ZZ99", "other");
    invite(&net, "spine1", "spine.token");
    let words = refused(&net, &thief, "other", "spine.token");
    assert!(
        words.contains("for another machine") && !words.contains("AF40"),
        "{words}"
    );
    // A token that others can read is not sent at all.
    fs::set_permissions(net.path("spine.token"), fs::Permissions::from_mode(0o644)).unwrap();
    let words = refused(&net, &thief, "other", "spine.token");
    assert!(words.contains("0600"), "{words}");
    let noted = events(&net, "enrolment_refused");
    let about = |device: &str, words: &str| {
        let is_it = |e: &&Value| e["device"] == device && e["detail"].as_str().unwrap().contains(words);
        noted.iter().any(|e| is_it(&e) && e["object"] == "machine 192.0.2.88")
    };
    assert!(
        about("leaf1", "used by another key") && about("spine1", "ZZ99"),
        "{noted:?}"
    );

    // The switch loses power. After that it needs no token any more.
    drop(runs);
    fs::remove_file(net.path("leaf.token")).unwrap();
    let mut runs = power_on(&net);
    until("leaf1 is in service again", || {
        let line = get(&net, "/v1/inventory/switches/leaf1/provisioning")?;
        (line["in_service"] == true && line["arrivals"].as_u64()? >= 2).then_some(())
    });

    // The operator restarts the switch. The command waits until it has really started
    // again.
    let started = || get(&net, "/v1/inventory/switches/leaf1")?["machine"]["started_ms"].as_u64();
    let before = until("the controller has asked it", started);
    let said = operate(&net, &["switch", "reboot", "leaf1", "--reason", "a test"]);
    assert!(
        said.contains("drained and restarting") && said.contains("in service") && said.contains("not drained any more"),
        "{said}"
    );
    assert!(started().unwrap() > before);
    assert!(runs.0.try_wait().unwrap().is_none(), "the same process");
    let item = get(&net, "/v1/inventory/switches/leaf1").unwrap();
    assert!(
        item["state"] == "in_service" && item["machine"]["software"] == env!("CARGO_PKG_VERSION"),
        "{item}"
    );
    let noted = events(&net, "rebooting");
    assert!(
        noted.iter().any(|e| e["detail"] == "drained, then restarted: a test"),
        "{noted:?}"
    );
}

/// The steps at which the controller is killed, in order: first those that the provisioning server sees, then those of
/// the controller.
const STEPS: [&str; 11] = [
    "discovered",
    "leased",
    "challenged",
    "enrolled",
    "bootstrapping",
    "bootstrapped",
    "arbitrated",
    "pipeline_loaded",
    "read_back",
    "in_sync",
    "in_service",
];

#[test]
fn the_controller_is_killed_at_every_step_and_each_switch_comes_into_service() {
    let mut net = Net::new();
    let world = fabric(&net);
    let switches: Vec<String> = (0..STEPS.len()).map(|n| format!("leaf{n}")).collect();
    let entry = |(n, name): (usize, &String)| {
        format!(
            r#"  - {{ name: {name}, role: leaf, device_id: {id}, loopback_ipv4: 10.255.0.{id}, loopback_ipv6: "fd00:255::{id}", p4runtime: "192.0.2.{at}:9559", serial: AF{at}, mac: "02:aa:00:00:01:{at}" }}
"#,
            id = n + 1,
            at = n + 20,
        )
    };
    let entries: String = switches.iter().enumerate().map(entry).collect();
    net.write(
        "topology.yaml",
        &format!("fabric: {{ name: test }}\nswitches:\n{entries}"),
    );
    net.serve();
    let mut controller = control(&net);
    let mut running = Vec::new();
    for (n, (name, step)) in switches.iter().zip(STEPS).enumerate() {
        let at = n + 20;
        let machine = net.machine(name, &format!("02:aa:00:00:01:{at}"));
        deliver(&net, &world, &format!("AF{at}"), name);
        until("the controller serves", || get(&net, "/v1/inventory"));
        let process = power_on(&net, &machine, name);
        running.push((machine, process));
        let reached = || {
            let seen = net.steps(name).iter().any(|s| s == step);
            let line = || get(&net, &format!("/v1/inventory/switches/{name}/provisioning"));
            let of_controller = || {
                let line = line()?;
                line["steps"].as_array()?.iter().find(|s| s["step"] == step).map(drop)
            };
            seen.then_some(()).or_else(of_controller)
        };
        until(&format!("{name} has reached {step}"), reached);
        // Killed, as by a loss of power, and started again.
        drop(controller);
        controller = control(&net);
    }
    for name in &switches {
        in_service(&net, name);
    }
    // Nothing was given twice: each switch has its own address, and its own entry.
    let status = net.status();
    let leases = status["leases"].as_array().unwrap();
    let mut given: Vec<String> = leases
        .iter()
        .map(|l| format!("{} {}", l["holder"], l["address"]))
        .collect();
    given.sort();
    let mut expected: Vec<String> = switches
        .iter()
        .enumerate()
        .map(|(n, name)| format!("\"switch {name}\" \"192.0.2.{}\"", n + 20))
        .collect();
    expected.sort();
    assert_eq!(given, expected);
    // Nothing half enrolled stays: every switch has reported that it serves, and left no unfinished file.
    for name in &switches {
        until(&format!("{name} has reported"), || {
            net.path(&format!("{name}/reported")).exists().then_some(())
        });
        let left = fs::read_dir(net.path(name))
            .unwrap()
            .map(|f| f.unwrap().file_name().into_string().unwrap());
        let unfinished: Vec<String> = left.filter(|file| file.ends_with(".new")).collect();
        assert!(unfinished.is_empty(), "{name}: {unfinished:?}");
    }
    let clones = events(&net, "enrolment_refused");
    assert!(
        !clones.iter().any(|e| e["detail"].as_str().unwrap().contains("clone")),
        "{clones:?}"
    );
    drop(running);
}

/// A management network that gives addresses of IPv6 only: no pool of IPv4, and the switch's own address is one of IPv6.
const ONLY_SIX: &str = r#"
address: 192.0.2.1
interfaces: [mgmt0]
subnets:
  - subnet: 192.0.2.0/24
ipv6:
  address: 2001:db8:1::1
  subnets:
    - subnet: 2001:db8:1::/64
lease_seconds: 3600
state: state
"#;

#[test]
fn a_switch_boots_on_a_management_network_of_ipv6_alone() {
    let mut net = Net::new();
    let world = fabric(&net);
    net.write("provision.yaml", &format!("{ONLY_SIX}{BOOTZ_SERVER}"));
    net.write(
        "topology.yaml",
        r#"
fabric: { name: test }
switches:
  - { name: leaf1, role: leaf, device_id: 1, loopback_ipv4: 10.255.0.1, loopback_ipv6: "fd00:255::1", p4runtime: "[2001:db8:1::11]:9559", serial: AF39, model: x86_64-acme_s1-r0 }
"#,
    );
    net.server.ip("addr add 2001:db8:1::1/64 dev mgmt0 nodad");
    // The router of the network. Without router advertisements a switch does not know which addresses are on the
    // link.
    let router = net.server.command(
        "dnsmasq",
        &[
            "--keep-in-foreground",
            "--conf-file=/dev/null",
            "--port=0",
            "--user=root",
            "--pid-file",
            "--interface=mgmt0",
            "--enable-ra",
            "--ra-param=mgmt0,5",
            "--dhcp-range=2001:db8:1::,ra-only",
        ],
    );
    let _router = spawn(router);
    net.serve();
    let _controller = control(&net);
    let leaf = net.machine("leaf1", "02:aa:00:00:00:01");
    deliver(&net, &world, "AF39", "leaf");
    let runs = power_on(&net, &leaf, "leaf");
    in_sync(&net, "leaf1");
    in_service(&net, "leaf1");
    let addresses = leaf.run("ip", &["addr", "show", "dev", "eth0"]);
    assert!(
        addresses.contains("2001:db8:1::11/128") && !addresses.contains("inet "),
        "{addresses}"
    );
    let own = addresses.split("2001:db8:1::11/128").nth(1).unwrap();
    assert!(
        !own.lines().nth(1).unwrap().contains("forever"),
        "the kernel knows when the lease ends: {addresses}"
    );

    // A loss of power while the provisioning server is away: it comes back with the address that it had.
    drop(runs);
    net.kill();
    leaf.ip("-6 addr flush dev eth0 scope global");
    let lost = || {
        let all = get(&net, "/v1/switches")?;
        (all[0]["status"]["state"] == "disconnected").then_some(())
    };
    until("the controller has lost leaf1", lost);
    let _again = power_on(&net, &leaf, "leaf");
    in_sync(&net, "leaf1");
}
