//! The Debian packages, in a Debian of their own with a real systemd: installed, started, upgraded, downgraded, removed,
//! purged. Needs root, debootstrap and systemd-analyze.

mod machine;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use fabric_identity::testing::Authority;
use machine::{Machine, Root, run};

/// Versions of the packages that are built: the second is an upgrade.
const VERSIONS: [&str; 2] = ["0.1.0", "0.2.0"];
const DAEMONS: [&str; 3] = ["fabric-controller", "p4-switch", "vtep-agent"];
/// The follower of pods, in the package of the agent: another service without settings of its own.
const FOLLOWER: &str = "vfabric-multi";
const PACKAGES: [&str; 4] = ["fabric-controller", "fabricctl", "p4-switch", "vtep-agent"];

#[test]
fn units_leave_little_to_an_attacker() {
    let dir = tempfile::tempdir().unwrap();
    let packages = DAEMONS.into_iter().zip(DAEMONS).chain([("vtep-agent", FOLLOWER)]);
    for (package, name) in packages {
        let file = format!("{name}.service");
        let unit = dir.path().join(&file);
        std::fs::copy(workspace().join("packaging").join(package).join(file), &unit).unwrap();
        let (judged, text) = run(Command::new("systemd-analyze")
            .args(["security", "--offline=true", "--no-pager", "--threshold=29"])
            .arg(&unit));
        assert!(judged, "{name}: an exposure of 3.0 or more: {text}");
    }
}

#[test]
fn packages_install_run_upgrade_and_leave_nothing_behind() {
    let root = Root::new();
    let packages = VERSIONS.map(|version| build(root.path(), version));
    let before = root.files();

    let (installed, text) = root.dpkg(&["--install"], &packages[0]);
    assert!(installed, "{text}");
    programs_run(&root);
    let (is_there, text) = root.command("getent", &["passwd", "fabric-controller", "p4-switch"]);
    assert!(is_there, "users: {text}");
    settings(&root);

    let machine = root.boot();
    services_run(&machine);
    a_service_that_hangs_is_started_again(&machine);
    upgrade(&machine, &packages);
    downgrade(&machine, &packages);
    removal(&machine, &before);
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

/// Builds all packages from the programs beside xtask; returns their names in the root's `/packages`.
fn build(root: &Path, version: &str) -> Vec<String> {
    let xtask = Path::new(env!("CARGO_BIN_EXE_xtask"));
    let (built, text) = run(Command::new(xtask)
        .args(["package", "--fast", "--package-version", version, "--bin-dir"])
        .arg(xtask.parent().unwrap())
        .arg("--out")
        .arg(root.join("packages")));
    assert!(built, "{text}\nPrograms are built by `cargo build --workspace`.");
    let paths: Vec<String> = text
        .lines()
        .filter(|l| l.ends_with(".deb"))
        .map(|l| format!("/packages/{}", Path::new(l).file_name().unwrap().to_string_lossy()))
        .collect();
    assert_eq!(paths.len(), PACKAGES.len(), "{text}");
    paths
}

fn programs_run(root: &Root) {
    for program in [
        "fabric-controller",
        "vtep-agent",
        "p4-switch",
        "p4-compiler",
        "fabricctl",
    ] {
        let (good, text) = root.command(program, &["--version"]);
        assert!(good && text.contains(env!("CARGO_PKG_VERSION")), "{program}: {text}");
    }
    // CNI plugins have no options (CNI specification, section 3).
    for plugin in [
        "/usr/lib/cni/vfabric",
        "/opt/cni/bin/vfabric",
        "/usr/lib/cni/vfabric-multi",
        "/opt/cni/bin/vfabric-multi",
    ] {
        let (good, text) = root.command(
            "sh",
            &[
                "-c",
                &format!("echo '{{\"cniVersion\":\"1.0.0\"}}' | CNI_COMMAND=VERSION {plugin}"),
            ],
        );
        assert!(good && text.contains("supportedVersions"), "{plugin}: {text}");
    }
}

/// What an administrator adds to the packaged settings: certificates and the topology.
fn settings(root: &Root) {
    let authority = Authority::new();
    for (name, subject, owner) in [
        ("fabric-controller", "controller", "fabric-controller"),
        ("p4-switch", "switch/leaf1", "p4-switch"),
        ("vtep-agent", "host/host1", "root"),
    ] {
        let issued = authority.issue(subject);
        for (file, text) in [("ca", &authority.pem), ("cert", &issued.cert), ("key", &issued.key)] {
            root.write(&format!("etc/{name}/tls/{file}.pem"), text, owner);
        }
    }
    let example = std::fs::read_to_string(root.path().join("usr/share/doc/fabric-controller/topology.yaml")).unwrap();
    // The authority of the test vouches for a fabric of this name.
    let topology = example.replace("name: lab", "name: test");
    root.write("etc/fabric-controller/topology.yaml", &topology, "fabric-controller");
    let list = r#"{"cniVersion":"1.0.0","name":"pods","plugins":[{"type":"vfabric-multi","pods":"/etc/vfabric/pods",
        "delegates":[{"cniVersion":"1.0.0","name":"blue","type":"vfabric","vdc":"blue","network":"web"}]}]}"#;
    for (file, text) in CATALOG.into_iter().zip([list, ""]) {
        std::fs::create_dir_all(root.path().join(file).parent().unwrap()).unwrap();
        root.write(file, text, "root");
    }
}

/// The configuration of the meta plugin, and a file of pods without pods.
const CATALOG: [&str; 2] = ["etc/cni/net.d/00-vfabric-multi.conflist", "etc/vfabric/pods/none.yaml"];

/// Every service of the packages.
fn services() -> impl Iterator<Item = &'static str> {
    DAEMONS.into_iter().chain([FOLLOWER])
}

fn services_run(machine: &Machine) {
    machine.uplink("eth0", "192.0.2.11/24");
    for name in services() {
        machine.systemctl(&["restart", name]);
        // A start is complete when the daemon has reported that it is ready.
        assert_eq!(machine.show(name, "ActiveState"), "active", "{}", machine.log(name));
        assert_eq!(machine.show(name, "UnitFileState"), "enabled", "{name}");
    }
    for (name, user) in [("fabric-controller", "fabric-controller"), ("p4-switch", "p4-switch")] {
        let owner = machine.owner(&machine.show(name, "MainPID"));
        assert_eq!(machine.root.command("id", &["-u", user]).1.trim(), owner, "{name}");
    }
    let made = machine
        .root
        .command("stat", &["-c", "%a %U", "/var/lib/fabric-controller/admin.token"]);
    assert_eq!(
        made.1.trim(),
        "600 fabric-controller",
        "the first token of an administrator"
    );
    let listening = machine.listening();
    for port in [8443, 8444, 9559] {
        assert!(listening.contains(&port), "{listening:?}");
    }
    // Namespaces of tenants outlive the agent, and everybody sees them.
    let overlay = machine
        .namespace("vfabric-host1")
        .expect("the agent's namespace has a name");
    machine.systemctl(&["restart", "vtep-agent"]);
    assert_eq!(machine.namespace("vfabric-host1"), Some(overlay));
}

/// With a short watchdog, a working service stays, and a frozen one is restarted.
fn a_service_that_hangs_is_started_again(machine: &Machine) {
    for name in services() {
        machine.drop_in(name, "[Service]\nWatchdogSec=3\nWatchdogSignal=SIGKILL\n");
        machine.systemctl(&["restart", name]);
        let fed = machine.show(name, "WatchdogTimestampMonotonic");
        let later = || machine.show(name, "WatchdogTimestampMonotonic") != fed;
        machine.wait_for(&format!("{name} says that it is alive"), later);
        let pid = machine.show(name, "MainPID");
        machine.stop_process(&pid);
        let replaced = || machine.show(name, "NRestarts") == "1" && machine.show(name, "ActiveState") == "active";
        machine.wait_for(&format!("{name} is started again"), replaced);
        machine.drop_in(name, "");
        machine.systemctl(&["restart", name]);
    }
}

fn upgrade(machine: &Machine, packages: &[Vec<String>; 2]) {
    let conf = "/etc/p4-switch/p4-switch.conf";
    let changed = format!("{}# changed here\n", machine.root.read(conf));
    std::fs::write(machine.root.path().join(&conf[1..]), &changed).unwrap();
    let pids: Vec<String> = services().map(|name| machine.show(name, "MainPID")).collect();
    let (upgraded, text) = machine.dpkg(&["--install"], &packages[1]);
    assert!(upgraded, "{text}");
    for (name, pid) in services().zip(pids) {
        assert_eq!(machine.show(name, "ActiveState"), "active", "{}", machine.log(name));
        // Only the switch would interrupt packets.
        let is_same = machine.show(name, "MainPID") == pid;
        assert_eq!(is_same, name == "p4-switch", "{name}");
    }
    for name in DAEMONS {
        assert_eq!(machine.version(name), VERSIONS[1]);
    }
    assert_eq!(machine.root.read(conf), changed, "settings are kept");
}

fn downgrade(machine: &Machine, packages: &[Vec<String>; 2]) {
    let format = "/var/lib/fabric-controller/intent.format";
    let ours = machine.root.read(format);
    std::fs::write(machine.root.path().join(&format[1..]), "99\n").unwrap();
    let (downgraded, text) = machine.dpkg(&["--install"], &packages[0]);
    assert!(!downgraded && text.contains("has format 99"), "{text}");
    assert_eq!(machine.version("fabric-controller"), VERSIONS[1]);
    assert_eq!(machine.show("fabric-controller", "ActiveState"), "active");
    // The file has the format of the store, so a version never refuses a store that it has written itself.
    std::fs::write(machine.root.path().join(&format[1..]), ours).unwrap();
    let (downgraded, text) = machine.dpkg(&["--install"], &packages[0]);
    assert!(downgraded, "{text}");
    assert_eq!(machine.version("fabric-controller"), VERSIONS[0]);
    assert_eq!(machine.show("fabric-controller", "ActiveState"), "active");
}

fn removal(machine: &Machine, before: &BTreeSet<String>) {
    let names = PACKAGES.map(str::to_owned);
    let (removed, text) = machine.dpkg(&["--remove"], &names);
    assert!(removed, "{text}");
    for name in services() {
        assert_eq!(machine.show(name, "ActiveState"), "inactive", "{name}");
    }
    for name in DAEMONS {
        let kept = machine.root.read(&format!("/etc/{name}/{name}.conf"));
        assert!(kept.contains("OPTIONS="), "{name}");
    }
    let (purged, text) = machine.dpkg(&["--purge"], &names);
    assert!(purged, "{text}");
    // The administrator's own files: packages do not know them.
    for dir in ["etc/cni", "etc/vfabric"] {
        std::fs::remove_dir_all(machine.root.path().join(dir)).unwrap();
    }
    let after = machine.root.files();
    let left: Vec<_> = after.difference(before).collect();
    assert!(left.is_empty(), "left behind: {left:#?}");
    let (found, text) = machine
        .root
        .command("getent", &["passwd", "fabric-controller", "p4-switch"]);
    assert!(!found && text.is_empty(), "{text}");
}
