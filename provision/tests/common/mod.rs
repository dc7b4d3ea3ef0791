//! A management network of namespaces, the server in one of them, real DHCP clients in others. Needs root.

#![allow(dead_code, reason = "each test uses some of it")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

/// How long something that must happen may take on a loaded machine.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// User that the server becomes.
pub const USER: &str = "nobody";

/// Runs a program to its end.
pub fn output(program: &str, args: &[&str]) -> Output {
    let output = Command::new(program).args(args).output();
    output.unwrap_or_else(|error| panic!("{program}: {error} (Debian packages: see xtask/src/test.rs)"))
}

/// Runs a program that must succeed; what it prints.
pub fn run(program: &str, args: &[&str]) -> String {
    let output = output(program, args);
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{program} {args:?}: {out}{err}");
    out.into_owned()
}

/// Waits until something is there.
pub fn until<T>(what: &str, mut ready: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = ready() {
            return found;
        }
        assert!(began.elapsed() < PATIENCE, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A process that is killed when the value is dropped.
pub struct Process(pub Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A file system that is unmounted when the value is dropped.
pub struct Mount(PathBuf);

impl Mount {
    /// A small one in memory.
    pub fn small(path: &Path, octets: &str) -> Self {
        fs::create_dir_all(path).unwrap();
        run(
            "mount",
            &[
                "-t",
                "tmpfs",
                "-o",
                &format!("size={octets}"),
                "tmpfs",
                path.to_str().unwrap(),
            ],
        );
        Self(path.to_owned())
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).output();
    }
}

/// A named namespace.
pub struct Netns(String);

impl Netns {
    fn new(what: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "fp{}-{}-{what}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        run("ip", &["netns", "add", &name]);
        run("ip", &["-n", &name, "link", "set", "lo", "up"]);
        Self(name)
    }

    /// `ip` inside.
    pub fn ip(&self, args: &str) {
        let args: Vec<&str> = ["-n", &self.0].into_iter().chain(args.split(' ')).collect();
        run("ip", &args);
    }

    /// A command that runs inside.
    pub fn command(&self, program: &str, args: &[&str]) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.0, program]).args(args);
        command
    }

    /// Runs a program inside that must succeed.
    pub fn run(&self, program: &str, args: &[&str]) -> String {
        run("ip", &[&["netns", "exec", &self.0, program], args].concat())
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.0]).output();
    }
}

/// The network: a bridge, and the server on it at 192.0.2.1.
pub struct Net {
    pub dir: tempfile::TempDir,
    lan: Netns,
    pub server: Netns,
    running: Option<Process>,
    ports: u32,
}

pub const TOPOLOGY: &str = r#"
fabric: { name: lab }
switches:
  - { name: leaf1, role: leaf, device_id: 1, loopback_ipv4: 10.255.0.1, loopback_ipv6: "fd00:255::1", p4runtime: "192.0.2.11:9559", serial: AF39, mac: "02:aa:00:00:00:01", model: x86_64-acme_s1-r0, software: nos-1.0 }
  - { name: leaf2, role: leaf, device_id: 2, loopback_ipv4: 10.255.0.2, loopback_ipv6: "fd00:255::2", p4runtime: "203.0.113.12:9559", serial: AF40, software: nos-1.0 }
"#;

const SETTINGS: &str = r#"
address: 192.0.2.1
interfaces: [mgmt0]
tftp: true
subnets:
  - subnet: 192.0.2.0/24
    pool: { first: 192.0.2.100, last: 192.0.2.109 }
    routers: [192.0.2.254]
  - subnet: 198.51.100.0/24
    pool: { first: 198.51.100.100, last: 198.51.100.109 }
    routers: [198.51.100.1]
dns: [192.0.2.53]
ntp: [192.0.2.123]
domain: fabric.example
state: state
images: images
software:
  - { name: nos-1.0, image: nos-1.0.bin }
"#;

/// Content of the image: some blocks of 512 octets. Enough 8-octet blocks to make the block number wrap would be slow.
pub fn image() -> Vec<u8> {
    (0..512 * 40u32)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect()
}

impl Net {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let (lan, server) = (Netns::new("lan"), Netns::new("srv"));
        lan.ip("link add br0 type bridge");
        lan.ip("link set br0 up");
        let mut net = Self {
            dir,
            lan,
            server,
            running: None,
            ports: 0,
        };
        let port = net.port();
        Self::cable(&net.lan, &port, &net.server, "mgmt0", None);
        net.lan.ip(&format!("link set {port} master br0"));
        net.server.ip("addr add 192.0.2.1/24 dev mgmt0");
        net.write("topology.yaml", TOPOLOGY);
        net.write("provision.yaml", SETTINGS);
        fs::create_dir(net.path("images")).unwrap();
        fs::write(net.path("images/nos-1.0.bin"), image()).unwrap();
        let sums = Command::new("sha256sum")
            .arg("nos-1.0.bin")
            .current_dir(net.path("images"))
            .output()
            .unwrap();
        fs::write(net.path("images/SHA256SUMS"), sums.stdout).unwrap();
        net
    }

    fn port(&mut self) -> String {
        self.ports += 1;
        format!("p{}", self.ports)
    }

    fn cable(a: &Netns, a_name: &str, b: &Netns, b_name: &str, mac: Option<&str>) {
        a.ip(&format!("link add {a_name} type veth peer name {b_name} netns {}", b.0));
        if let Some(mac) = mac {
            b.ip(&format!("link set {b_name} address {mac}"));
        }
        a.ip(&format!("link set {a_name} up"));
        b.ip(&format!("link set {b_name} up"));
    }

    /// A machine on the bridge.
    pub fn machine(&mut self, what: &str, mac: &str) -> Netns {
        let (machine, port) = (Netns::new(what), self.port());
        Self::cable(&self.lan, &port, &machine, "eth0", Some(mac));
        self.lan.ip(&format!("link set {port} master br0"));
        machine
    }

    /// A machine behind a router, which is at 192.0.2.254 and 198.51.100.1.
    pub fn behind_router(&mut self, mac: &str) -> (Netns, Netns) {
        let router = self.machine("rtr", "02:bb:00:00:00:01");
        let far = Netns::new("far");
        Self::cable(&router, "eth1", &far, "eth0", Some(mac));
        router.ip("addr add 192.0.2.254/24 dev eth0");
        router.ip("addr add 198.51.100.1/24 dev eth1");
        router.run("sysctl", &["-qw", "net.ipv4.ip_forward=1"]);
        self.server.ip("route add 198.51.100.0/24 via 192.0.2.254");
        (router, far)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    pub fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    /// Starts the server, and waits until it serves. Its log is `log` in the directory.
    pub fn serve(&mut self) {
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(self.path("log"))
            .unwrap();
        let (settings, topology) = (self.text("provision.yaml"), self.text("topology.yaml"));
        let args = [
            "serve",
            "--settings",
            &settings,
            "--inventory",
            &topology,
            "--user",
            USER,
        ];
        let mut command = self.server.command(env!("CARGO_BIN_EXE_fabric-provision"), &args);
        let child = command.stdin(Stdio::null()).stderr(log).spawn().unwrap();
        self.running = Some(Process(child));
        until("the server serves", || {
            let ended = self.running.as_mut().and_then(|p| p.0.try_wait().unwrap());
            assert!(ended.is_none(), "the server ended: {}", self.log());
            let asked = output(
                env!("CARGO_BIN_EXE_fabric-provision"),
                &["status", "--settings", &settings],
            );
            asked.status.success().then_some(())
        });
    }

    /// Kills the server.
    pub fn kill(&mut self) {
        self.running = None;
    }

    pub fn pid(&self) -> u32 {
        self.running.as_ref().unwrap().0.id()
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// A command of the server's operator.
    pub fn operate(&self, args: &[&str]) -> String {
        let settings = self.text("provision.yaml");
        run(
            env!("CARGO_BIN_EXE_fabric-provision"),
            &[&args[..1], &["--settings", &settings], &args[1..]].concat(),
        )
    }

    pub fn status(&self) -> Value {
        serde_json::from_str(&self.operate(&["status", "--json"])).unwrap()
    }

    /// Steps of a switch: what happened, in order.
    pub fn steps(&self, switch: &str) -> Vec<String> {
        let status = self.status();
        let steps = status["switches"][switch]["steps"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        steps.iter().map(|s| s["what"].as_str().unwrap().to_owned()).collect()
    }

    /// Busybox's client, which ONIE uses: asks until it has a lease, sets the address, and returns the options. `None`
    /// if all its attempts failed.
    pub fn udhcpc(&self, machine: &Netns, tries: u32, args: &[&str]) -> Option<Given> {
        let script = self.script(
            "udhcpc",
            "$1",
            "bound|renew",
            "ip addr flush dev eth0; ip addr add $ip/$mask dev eth0",
        );
        let tries = tries.to_string();
        let fixed = ["-f", "-q", "-n", "-i", "eth0", "-t", &tries, "-T", "1", "-s", &script.0];
        let output = machine.command("udhcpc", &[&fixed[..], args].concat()).output();
        let output = output.expect("udhcpc (Debian package udhcpc)");
        output
            .status
            .success()
            .then(|| Given(fs::read_to_string(&script.1).unwrap()))
    }

    /// ISC's client, which SONiC and Cumulus use, with extra lines of configuration; the process keeps the lease.
    pub fn dhclient(&self, machine: &Netns, configuration: &str) -> (Given, Process) {
        let take = "ip addr flush dev eth0; ip addr add $new_ip_address/$new_subnet_mask dev eth0";
        let script = self.script("dhclient", "$reason", "BOUND|RENEW|REBOOT", take);
        self.write("dhclient.conf", configuration);
        self.write("dhclient.leases", "");
        let (conf, leases, pid) = (
            self.text("dhclient.conf"),
            self.text("dhclient.leases"),
            self.text("dhclient.pid"),
        );
        let args = [
            "-4", "-d", "-q", "-cf", &conf, "-lf", &leases, "-pf", &pid, "-sf", &script.0, "eth0",
        ];
        let mut command = machine.command("dhclient", &args);
        let child = command
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("dhclient (isc-dhcp-client)");
        let process = Process(child);
        let given = until("dhclient has a lease", || fs::read_to_string(&script.1).ok());
        (Given(given), process)
    }

    /// A script for a client, and the file that it leaves when it is called for one of `events`.
    pub fn script(&self, name: &str, event: &str, events: &str, take: &str) -> (String, String) {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("{name}{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let given = self.text(&format!("{name}.given"));
        let text = format!(
            "#!/bin/sh\ncase \"{event}\" in {events}) {take}; env > {given}.new; mv {given}.new {given};; esac\n"
        );
        self.write(&name, &text);
        fs::set_permissions(self.path(&name), fs::Permissions::from_mode(0o755)).unwrap();
        (self.text(&name), given)
    }
}

/// What a client was given, as its script's environment.
#[derive(Debug)]
pub struct Given(pub String);

impl Given {
    pub fn get(&self, name: &str) -> &str {
        let value = self
            .0
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        value.unwrap_or_default()
    }
}
