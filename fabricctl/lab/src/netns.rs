//! Network namespaces and links, by iproute2's batch mode: one process for a whole fabric.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use nix::sched::{CloneFlags, setns};

use super::process;

/// Directory where iproute2 keeps named namespaces.
const NETNS_DIR: &str = "/run/netns";

fn path(name: &str) -> PathBuf {
    PathBuf::from(NETNS_DIR).join(name)
}

/// Runs `f` on a thread of its own inside the namespace. Sockets opened there stay in it,
/// and so do processes started there.
///
/// # Errors
/// The namespace does not exist, or `f` failed.
pub fn within<T: Send>(name: &str, f: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let file = File::open(path(name)).with_context(|| format!("namespace {name}"))?;
    std::thread::scope(|scope| {
        let work = scope.spawn(move || {
            setns(&file, CloneFlags::CLONE_NEWNET).with_context(|| format!("enter namespace {name}"))?;
            f()
        });
        work.join()
            .unwrap_or_else(|_| bail!("a thread inside namespace {name} panicked"))
    })
}

/// Sets kernel parameters of a namespace, given as (path below `/proc/sys/net`, value).
///
/// # Errors
/// A parameter does not exist.
pub fn sysctl(name: &str, parameters: &[(&str, &str)]) -> Result<()> {
    within(name, || {
        for (key, value) in parameters {
            let file = format!("/proc/sys/net/{key}");
            std::fs::write(&file, value).with_context(|| format!("set {file} to {value}"))?;
        }
        Ok(())
    })
}

/// Runs iproute2 commands, one a line, in the namespace or (`None`) outside of any.
///
/// # Errors
/// A line failed; the error contains the output of iproute2.
pub fn ip_batch(namespace: Option<&str>, script: &str) -> Result<()> {
    let mut command = process::command("ip");
    if let Some(name) = namespace {
        command.args(["-n", name]);
    }
    // It continues after an error, so that removing a lab removes as much as possible.
    command
        .args(["-force", "-batch", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let mut child = command.spawn().context("cannot run `ip` (Debian package iproute2)")?;
    let mut stdin = child.stdin.take().context("standard input of `ip`")?;
    stdin.write_all(script.as_bytes())?;
    drop(stdin);
    let output = child.wait_with_output()?;
    if output.status.success() {
        return Ok(());
    }
    bail!(
        "ip{}: {}",
        namespace.map(|n| format!(" -n {n}")).unwrap_or_default(),
        String::from_utf8_lossy(&output.stderr).trim()
    )
}

/// Runs a program inside a namespace and waits for it.
///
/// # Errors
/// It cannot be run, or it failed; the error contains its output.
pub fn run(name: &str, program: &str, args: &[&str]) -> Result<()> {
    let output = within(name, || {
        process::command(program)
            .args(args)
            .output()
            .with_context(|| format!("cannot run `{program}`"))
    })?;
    if !output.status.success() {
        bail!(
            "{program} {}: {}",
            args.join(" "),
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(())
}

/// Names of all namespaces that start with `prefix`.
pub fn list(prefix: &str) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(NETNS_DIR) else {
        return Vec::new();
    };
    let names = entries.flatten().filter_map(|e| e.file_name().into_string().ok());
    let mut names: Vec<String> = names.filter(|n| n.starts_with(prefix)).collect();
    names.sort();
    names
}

/// Processes inside the namespace.
pub fn processes(name: &str) -> Vec<i32> {
    let Ok(inode) = std::fs::metadata(path(name)).map(|m| m.ino()) else {
        return Vec::new();
    };
    let inside = |pid: &i32| std::fs::metadata(format!("/proc/{pid}/ns/net")).is_ok_and(|m| m.ino() == inode);
    all_processes().filter(inside).collect()
}

/// Every process of the machine.
pub(super) fn all_processes() -> impl Iterator<Item = i32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|e| e.file_name().to_str()?.parse().ok())
}
