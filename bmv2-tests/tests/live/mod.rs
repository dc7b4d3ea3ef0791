//! A controller as a separate process, with an empty store and switches that do not exist.

#![allow(dead_code, reason = "each test uses some of it")]

use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use fabric_identity::Files;
use fabric_identity::testing::Authority;
use vfabric_api::client::Client;
use vfabric_api::ident::Name;

/// Two leaves, at addresses where nothing listens.
const TOPOLOGY: &str = r#"
fabric: { name: test }
switches:
  - { name: leaf1, role: leaf, device_id: 1, loopback_ipv4: 10.255.0.1, loopback_ipv6: "fd00:255::1", p4runtime: "127.0.0.1:1", access_ports: [10, 11] }
  - { name: leaf2, role: leaf, device_id: 2, loopback_ipv4: 10.255.0.2, loopback_ipv6: "fd00:255::2", p4runtime: "127.0.0.1:2", access_ports: [10, 11] }
hosts:
  - { name: host1, uplink: { switch: leaf1, port: 5 }, mac: "02:00:00:00:01:01", vtep_ipv4: 10.255.1.1, vtep_ipv6: "fd00:255:1::1" }
"#;
/// The administrator's token.
pub(crate) const TOKEN: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
/// Longest time for a start; on an idle machine it takes much less.
const PATIENCE: Duration = Duration::from_secs(60);

/// A controller that runs; it ends with this.
pub(crate) struct Live {
    pub(crate) dir: tempfile::TempDir,
    process: Child,
    authority: Authority,
    files: Files,
    pub(crate) url: String,
    pub(crate) ca: PathBuf,
    pub(crate) admin: Client,
}

impl Drop for Live {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A name.
pub(crate) fn name(text: &str) -> Name {
    text.parse().unwrap()
}

/// The program.
pub(crate) fn program() -> PathBuf {
    let programs = Path::new(env!("CARGO_BIN_EXE_exercise")).parent().unwrap();
    programs.join("fabric-controller")
}

/// Starts a process over what is in a directory, and waits until it says that it serves. Returns it with its address.
fn spawn(dir: &Path, files: &Files) -> (Child, String) {
    let at = |name: &str| dir.join(name);
    // The file may exist from an earlier start.
    let _ = std::fs::remove_file(at("notify"));
    let notices = UnixDatagram::bind(at("notify")).unwrap();
    notices.set_read_timeout(Some(PATIENCE)).unwrap();
    let log = std::fs::File::create(at("log")).unwrap();
    let process = Command::new(program())
        .arg("--topology")
        .arg(at("topology.yaml"))
        .arg("--data-dir")
        .arg(at("data"))
        .args(["--listen", "127.0.0.1:0", "--agent-listen", "127.0.0.1:0"])
        // The rate limit of tenants' requests is not tested here.
        .args(["--tenant-rate", "100000", "--tenant-burst", "100000"])
        .arg("--tls-ca")
        .arg(&files.ca)
        .arg("--tls-cert")
        .arg(&files.cert)
        .arg("--tls-key")
        .arg(&files.key)
        .arg("--token-file")
        .arg(at("token"))
        .env("NOTIFY_SOCKET", at("notify"))
        .stdin(Stdio::null())
        .stderr(log)
        .spawn()
        .expect("the controller is built with the workspace");
    let log = || std::fs::read_to_string(at("log")).unwrap_or_default();
    let mut said = [0; 4096];
    loop {
        let length = notices
            .recv(&mut said)
            .unwrap_or_else(|error| panic!("the controller does not serve ({error}): {}", log()));
        if said[..length].split(|b| *b == b'\n').any(|line| line == b"READY=1") {
            break;
        }
    }
    let log = log();
    let rest = log
        .lines()
        .find_map(|line| line.split_once(" serving rest=")?.1.split(' ').next());
    let rest = rest.unwrap_or_else(|| panic!("the log does not say where it serves: {log}"));
    (process, format!("https://{rest}"))
}

impl Live {
    /// A controller with an empty store.
    pub(crate) fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::new();
        let files = authority.issue("controller").write(&authority.pem, dir.path());
        std::fs::write(dir.path().join("topology.yaml"), TOPOLOGY).unwrap();
        std::fs::write(dir.path().join("token"), TOKEN).unwrap();
        let (process, url) = spawn(dir.path(), &files);
        let admin = Client::new(&url, authority.pem.as_bytes(), TOKEN).unwrap();
        Self {
            process,
            ca: files.ca.clone(),
            url,
            admin,
            authority,
            files,
            dir,
        }
    }

    /// A file or directory beside the store's.
    pub(crate) fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Ends the process at once (SIGKILL).
    pub(crate) fn kill(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    /// Starts it again over the same store.
    pub(crate) fn start_again(&mut self) {
        let (process, url) = spawn(self.dir.path(), &self.files);
        self.process = process;
        self.admin = Client::new(&url, self.authority.pem.as_bytes(), TOKEN).unwrap();
        self.url = url;
    }

    /// Asks it to end (SIGTERM), and waits until it has. Returns whether it ended well.
    pub(crate) fn stop(&mut self) -> bool {
        let asked = Command::new("kill").arg(self.process.id().to_string()).status();
        assert!(asked.unwrap().success());
        self.process.wait().unwrap().success()
    }
}
