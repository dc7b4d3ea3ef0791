//! Network namespaces and veths for one run; they are removed when it ends.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::Error;

/// The generator's devices.
pub(in crate::bench) const SEND: &str = "g1";
pub(in crate::bench) const RECEIVE: &str = "g2";

/// A namespace for switches, with ports 1 and 2 on `p1` and `p2`; their peers `g1` and `g2` are in the namespace of
/// the thread that made this.
pub(super) struct Bed {
    namespace: String,
    dir: PathBuf,
}

/// Runs iproute2.
pub(in crate::bench) fn ip(arguments: &str) -> Result<(), Error> {
    let output = Command::new("ip").args(arguments.split(' ')).output();
    let output = output.map_err(|error| format!("iproute2's `ip`: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("ip {arguments}: {}", String::from_utf8_lossy(&output.stderr).trim()).into())
}

/// Names of namespaces, before the number of the process that made them.
const PREFIX: &str = "p4bench-";

/// Removes namespaces of runs that were killed.
fn remove_leftovers() {
    let names = std::fs::read_dir("/run/netns").into_iter().flatten().flatten();
    for name in names.filter_map(|entry| entry.file_name().into_string().ok()) {
        let process = name.strip_prefix(PREFIX);
        if process.is_some_and(|id| !Path::new("/proc").join(id).exists()) {
            // Somebody else may have removed it first.
            let _ = ip(&format!("netns del {name}"));
        }
    }
}

impl Bed {
    /// Moves this thread to a namespace of its own, and makes the namespace for switches.
    ///
    /// # Errors
    /// Not root, or no iproute2.
    pub(super) fn new() -> Result<Self, Error> {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET)
            .map_err(|error| format!("a network namespace cannot be made (are you root?): {error}"))?;
        remove_leftovers();
        let namespace = format!("{PREFIX}{}", std::process::id());
        let dir = std::env::temp_dir().join(&namespace);
        ip(&format!("netns add {namespace}"))?;
        // From here on, dropping `bed` removes the namespace.
        let bed = Self { namespace, dir };
        std::fs::create_dir_all(&bed.dir)?;
        let own = nix::unistd::gettid();
        let namespace = &bed.namespace;
        for port in [1, 2] {
            ip(&format!(
                "-n {namespace} link add p{port} type veth peer name g{port} netns {own}"
            ))?;
            // Nothing else sends on these links.
            for link in [format!("-n {namespace} link set p{port}"), format!("link set g{port}")] {
                ip(&format!("{link} addrgenmode none"))?;
                ip(&format!("{link} up"))?;
            }
        }
        Ok(bed)
    }

    /// Writes a file for switches to read.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(super) fn file(&self, name: &str, content: &[u8]) -> Result<PathBuf, Error> {
        let path = self.dir.join(name);
        std::fs::write(&path, content).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(path)
    }

    /// A command in the switches' namespace.
    pub(super) fn command(&self, program: &Path) -> Command {
        // It also mounts the namespace's own /sys, where simple_switch_grpc looks for its interfaces.
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace]).arg(program);
        command
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        if let Err(error) = ip(&format!("netns del {}", self.namespace)) {
            eprintln!("{error}");
        }
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}
