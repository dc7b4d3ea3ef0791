//! Debian packages.

use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use crate::call;

/// Installs missing packages, and prints their names first.
pub(crate) fn install(packages: &[&str]) -> Result<()> {
    let missing: Vec<&str> = packages.iter().copied().filter(|p| !is_installed(p)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    eprintln!("installing Debian packages: {}", missing.join(" "));
    let apt = || {
        let mut apt = Command::new("apt-get");
        apt.env("DEBIAN_FRONTEND", "noninteractive")
            .args(["-q", "-y"])
            .stdout(Stdio::null());
        apt
    };
    call(apt().arg("update"))?;
    call(apt().args(["install", "--no-install-recommends"]).args(&missing))
        .with_context(|| format!("needed: {}", missing.join(" ")))
}

fn is_installed(package: &str) -> bool {
    let query = Command::new("dpkg-query")
        .args(["-W", "-f", "${db:Status-Status}", package])
        .output();
    query.is_ok_and(|o| o.stdout == b"installed")
}
