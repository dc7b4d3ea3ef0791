//! A run has its own namespaces for network, mounts and processes, and for users if it is not started by root.
//!
//! So a lab's names and addresses are free in every run, several runs can work side by side, nothing outside is
//! touched, and the kernel removes everything when the run's first process ends, however it ends.

use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};
use nix::mount::{MsFlags, mount};

/// Set for the process inside: the run's name.
const INSIDE: &str = "VFABRIC_CHECK_RUN";

/// Name of the run, if this process is the one inside.
pub fn run() -> Option<String> {
    std::env::var(INSIDE).ok().filter(|_| std::process::id() == 1)
}

/// Runs this very command again, inside; returns its exit code.
///
/// # Errors
/// The namespaces cannot be made: says what is missing.
pub fn enter() -> Result<ExitCode> {
    let mut unshare = Command::new("unshare");
    unshare.args(["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]);
    if !nix::unistd::geteuid().is_root() {
        unshare.args(["--user", "--map-root-user"]);
    }
    let possible = unshare.arg("--").arg("true").output();
    let possible = possible.context("cannot run `unshare` (Debian package util-linux)")?;
    if !possible.status.success() {
        bail!(
            "this user cannot make namespaces: {}; run as root, or allow user namespaces (sysctl user.max_user_namespaces \
             above 0, kernel.unprivileged_userns_clone = 1 and kernel.apparmor_restrict_unprivileged_userns = 0 where they exist)",
            String::from_utf8_lossy(&possible.stderr).trim()
        );
    }
    let mut inside = Command::new(unshare.get_program());
    inside.args(unshare.get_args().take_while(|a| *a != "--"));
    inside
        .arg("--")
        .arg(std::env::current_exe()?)
        .args(std::env::args_os().skip(1));
    let status = inside
        .env(INSIDE, format!("check-{:016x}", rand::random::<u64>()))
        .status()?;
    let code = status.code().and_then(|c| u8::try_from(c).ok());
    match code {
        Some(code) => Ok(code.into()),
        None => bail!("the run ended by signal {:?}", status.signal()),
    }
}

/// Prepares the inside: a `/run` of its own, and loopback.
///
/// # Errors
/// The kernel refuses.
pub fn prepare() -> Result<()> {
    mount(Some("tmpfs"), "/run", Some("tmpfs"), MsFlags::empty(), None::<&str>).context("a /run of its own")?;
    crate::netns::ip_batch(None, "link set lo up")
}
