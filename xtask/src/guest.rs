//! What the lab's virtual machine needs: QEMU, and a Linux kernel with its modules.
//!
//! The kernel comes from a distribution. It is unpacked below the target folder and not installed, so this machine
//! still boots its own kernel.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::{call, packages, target_dir};

/// Packages of the machine itself.
const PACKAGES: &[&str] = &["qemu-system-x86", "busybox-static"];
/// Packages that depend on a small kernel: Debian's, and Ubuntu's.
const KERNELS: [&str; 2] = ["linux-image-cloud-amd64", "linux-image-virtual"];
/// How the names of a kernel's package and, if separate, of its modules' package begin; a version follows.
const IMAGE: &str = "linux-image-";
const MODULES: &str = "linux-modules-";

/// Installs what the virtual machine needs, and returns the folder with its kernel.
pub(crate) fn prepare() -> Result<PathBuf> {
    packages::install(PACKAGES)?;
    let folder = target_dir().join("guest");
    if folder.exists() {
        return Ok(folder);
    }
    let packages = match kernel() {
        Some(packages) => packages,
        None => {
            call(Command::new("apt-get").args(["-q", "update"]).stdout(Stdio::null()))?;
            kernel().with_context(|| format!("no registry has {}", KERNELS.join(" or ")))?
        }
    };
    eprintln!("unpacking for the virtual machine: {}", packages.join(" "));
    let new = target_dir().join("guest.new");
    if new.exists() {
        std::fs::remove_dir_all(&new)?;
    }
    let fetched = new.join("packages");
    std::fs::create_dir_all(&fetched)?;
    let mut apt = Command::new("apt-get");
    call(apt.args(["-q", "download"]).args(&packages).current_dir(&fetched))?;
    unpack(&fetched, &new)?;
    std::fs::remove_dir_all(&fetched)?;
    // Rename at the end, so that the folder exists only when the kernel is complete.
    std::fs::rename(&new, &folder)?;
    Ok(folder)
}

fn unpack(packages: &Path, into: &Path) -> Result<()> {
    for package in std::fs::read_dir(packages)? {
        call(Command::new("dpkg").arg("-x").arg(package?.path()).arg(into))?;
    }
    if !into.join("boot").exists() {
        bail!("no kernel in the packages");
    }
    Ok(())
}

/// The packages of a kernel.
fn kernel() -> Option<Vec<String>> {
    let image = KERNELS.iter().find_map(|name| depends(name, IMAGE))?;
    let modules = depends(&image, MODULES);
    Some([image].into_iter().chain(modules).collect())
}

/// The first package on which `package` depends and whose name is `beginning` and a
/// version.
fn depends(package: &str, beginning: &str) -> Option<String> {
    let output = Command::new("apt-cache").args(["depends", package]).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut names = text.lines().filter_map(|line| line.trim().strip_prefix("Depends: "));
    let is_version = |name: &&str| {
        let version = name.strip_prefix(beginning).unwrap_or_default();
        version.starts_with(|c: char| c.is_ascii_digit())
    };
    names.find(is_version).map(str::to_owned)
}
