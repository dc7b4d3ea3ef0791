//! The guest of a virtual machine: a Linux kernel of a distribution, and a root file system in memory that is made here.
//!
//! The root file system has a static busybox, the kernel's drivers for virtio, and a script that sets up the interface and writes
//! [`READY`] to the console. It is a cpio archive in the format "newc" (Linux, `driver-api/early-userspace/buffer-format`).

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, ensure};

use crate::process;

/// The line on the console after which the guest answers.
pub(super) const READY: &str = "the guest is ready";
/// Debian's package `busybox-static` has it.
const BUSYBOX: &str = "/bin/busybox";
/// A program that contains this needs a loader, and the guest has none.
const LOADER: &[u8] = b"/ld-linux";
/// Drivers of the interface. Each names the drivers that it depends on.
const DRIVERS: [&str; 2] = ["virtio_pci", "virtio_net"];
/// File modes of the archive: a directory, and a program.
const DIRECTORY: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;

/// A kernel below a folder that is laid out as the root of a system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Kernel {
    /// `boot/vmlinuz-VERSION`
    pub(super) image: PathBuf,
    /// `lib/modules/VERSION`; absent if everything is built in.
    modules: PathBuf,
}

impl Kernel {
    /// The newest kernel below the first folder that has one.
    pub(super) fn find<'a>(roots: impl IntoIterator<Item = &'a Path>) -> Option<Self> {
        let newest = |root: &Path| {
            let names = fs::read_dir(root.join("boot")).ok()?.flatten();
            let names = names.filter_map(|entry| entry.file_name().into_string().ok());
            let version = names.filter_map(|name| name.strip_prefix("vmlinuz-").map(str::to_owned));
            let version = version.max()?;
            Some(Self {
                image: root.join("boot").join(format!("vmlinuz-{version}")),
                modules: root.join("lib/modules").join(version),
            })
        };
        roots.into_iter().find_map(newest)
    }
}

/// Why no guest can be made on this machine.
pub(super) fn lacks() -> Option<String> {
    match fs::read(BUSYBOX) {
        Err(_) => Some(format!("`{BUSYBOX}` is not there (Debian's package busybox-static)")),
        Ok(program) if contains(&program, LOADER) => {
            Some(format!("`{BUSYBOX}` is not static (Debian's package busybox-static)"))
        }
        Ok(_) => None,
    }
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

/// Addresses of the guest, each with the length of its prefix and the gateway of its subnet.
pub(super) type Addresses = Vec<(IpAddr, u8, IpAddr)>;

/// Makes the root file system.
///
/// # Errors
/// A file cannot be read.
pub(super) fn root(kernel: &Kernel, addresses: &Addresses) -> Result<Vec<u8>> {
    let drivers = drivers(&kernel.modules)?;
    let names: Vec<&str> = drivers.iter().map(|(name, _)| name.as_str()).collect();
    let script = script(&names, addresses);
    let mut archive = Archive::default();
    for folder in ["bin", "drivers", "proc"] {
        archive.add(folder, DIRECTORY, &[]);
    }
    archive.add("bin/busybox", PROGRAM, &fs::read(BUSYBOX).context(BUSYBOX)?);
    archive.add("init", PROGRAM, script.as_bytes());
    for (name, driver) in &drivers {
        archive.add(&format!("drivers/{name}.ko"), PROGRAM, driver);
    }
    Ok(archive.end())
}

/// The first process of the guest. When a command fails, it ends, and the kernel stops with it.
fn script(drivers: &[&str], addresses: &Addresses) -> String {
    let mut lines = vec!["#!/bin/busybox sh".to_owned(), "set -e".into()];
    let mut run = |command: String| lines.push(format!("/bin/busybox {command}"));
    run("mount -t proc proc /proc".into());
    for driver in drivers {
        run(format!("insmod /drivers/{driver}.ko"));
    }
    // The guest must make no address of its own, because the port accepts only the
    // attachment's.
    for (option, value) in [("accept_dad", 0), ("accept_ra", 0), ("addr_gen_mode", 1)] {
        run(format!("sysctl -q -w net.ipv6.conf.eth0.{option}={value}"));
    }
    run("ip link set eth0 up".into());
    for (ip, length, gateway) in addresses {
        let family = if ip.is_ipv4() { "-4" } else { "-6" };
        run(format!("ip {family} address add {ip}/{length} dev eth0"));
        run(format!("ip {family} route add default via {gateway}"));
    }
    run(format!("echo {READY}"));
    lines.push("while :; do /bin/busybox sleep 1000; done\n".into());
    lines.join("\n")
}

/// The drivers that are not built into the kernel, in the order in which to load them.
fn drivers(modules: &Path) -> Result<Vec<(String, Vec<u8>)>> {
    let mut files = BTreeMap::new();
    if modules.exists() {
        find_modules(modules, &mut files)?;
    }
    let mut loaded = Vec::new();
    for name in DRIVERS {
        load(name, &files, &mut loaded)?;
    }
    Ok(loaded)
}

/// Adds a driver after those that it depends on. A driver without a file is built in.
fn load(name: &str, files: &BTreeMap<String, PathBuf>, loaded: &mut Vec<(String, Vec<u8>)>) -> Result<()> {
    let Some(path) = files
        .get(name)
        .filter(|_| loaded.iter().all(|(known, _)| known != name))
    else {
        return Ok(());
    };
    let driver = read_module(path).with_context(|| path.display().to_string())?;
    for needed in depends(&driver) {
        load(&needed, files, loaded)?;
    }
    loaded.push((name.to_owned(), driver));
    Ok(())
}

/// The files of all modules below a folder, by the modules' names.
fn find_modules(folder: &Path, files: &mut BTreeMap<String, PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let entry = entry?;
        let path = entry.path();
        // `build` and `source` are links to other places.
        if entry.file_type()?.is_dir() {
            find_modules(&path, files)?;
        } else if let Some((name, _)) = entry.file_name().to_string_lossy().split_once(".ko") {
            files.insert(name.replace('-', "_"), path);
        }
    }
    Ok(())
}

/// The content of a module's file, unpacked.
fn read_module(path: &Path) -> Result<Vec<u8>> {
    let unpack = match path.extension().and_then(|e| e.to_str()) {
        Some("xz") => "xz",
        Some("zst") => "zstd",
        Some("gz") => "gzip",
        _ => return Ok(fs::read(path)?),
    };
    let mut command = process::command(unpack);
    command.args(["-d", "-c"]).stdin(fs::File::open(path)?);
    let output = command.stderr(Stdio::piped()).output();
    let output = output.with_context(|| format!("cannot run `{unpack}`"))?;
    ensure!(
        output.status.success(),
        "{unpack}: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(output.stdout)
}

/// The modules that a module depends on, as it says in its section `.modinfo` (strings that end with a zero).
fn depends(module: &[u8]) -> Vec<String> {
    let mut strings = module.split(|octet| *octet == 0);
    let named = strings.find_map(|string| string.strip_prefix(b"depends="));
    let named = String::from_utf8_lossy(named.unwrap_or_default()).into_owned();
    let names = named.split(',').filter(|name| !name.is_empty());
    names.map(|name| name.replace('-', "_")).collect()
}

/// An archive that the kernel unpacks into its root file system.
#[derive(Default)]
struct Archive {
    octets: Vec<u8>,
    entries: u32,
}

impl Archive {
    fn add(&mut self, name: &str, mode: u32, content: &[u8]) {
        self.entries += 1;
        let size = |length: usize| u32::try_from(length).unwrap_or(u32::MAX);
        // Inode, mode, owner and group, links, time, size, device, device of the file, length of the name, checksum (unused).
        let fields = [
            self.entries,
            mode,
            0,
            0,
            1,
            0,
            size(content.len()),
            0,
            0,
            0,
            0,
            size(name.len() + 1),
            0,
        ];
        self.octets.extend(b"070701");
        for field in fields {
            self.octets.extend(format!("{field:08x}").bytes());
        }
        self.octets.extend(name.bytes());
        self.octets.push(0);
        self.pad();
        self.octets.extend(content);
        self.pad();
    }

    /// Names and contents begin at multiples of four octets.
    fn pad(&mut self) {
        self.octets.resize(self.octets.len().next_multiple_of(4), 0);
    }

    fn end(mut self) -> Vec<u8> {
        self.add("TRAILER!!!", 0, &[]);
        self.octets
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpio_reads_the_archive() {
        let mut archive = Archive::default();
        archive.add("bin", DIRECTORY, &[]);
        archive.add("bin/a", PROGRAM, b"text of a");
        archive.add("init", PROGRAM, b"");
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("archive");
        fs::write(&file, archive.end()).unwrap();
        let mut cpio = process::command("busybox");
        cpio.args(["cpio", "-i"]).stdin(fs::File::open(&file).unwrap());
        let output = cpio.current_dir(folder.path()).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        assert_eq!(fs::read(folder.path().join("bin/a")).unwrap(), b"text of a");
        assert_eq!(fs::read(folder.path().join("init")).unwrap(), b"");
    }

    #[test]
    fn drivers_are_loaded_after_what_they_depend_on() {
        let folder = tempfile::tempdir().unwrap();
        let inside = folder.path().join("kernel/drivers");
        fs::create_dir_all(&inside).unwrap();
        for (file, depends) in [
            ("virtio_net.ko", "net-failover,virtio,virtio_ring"),
            ("virtio_pci.ko", "virtio,virtio_ring"),
            ("virtio.ko", "virtio_ring"),
            ("virtio_ring.ko", ""),
            ("net-failover.ko", ""),
            ("unused.ko", ""),
        ] {
            let text = format!("\x7fELF\0name=x\0depends={depends}\0vermagic=6\0");
            fs::write(inside.join(file), text).unwrap();
        }
        let names: Vec<String> = drivers(folder.path()).unwrap().into_iter().map(|(n, _)| n).collect();
        assert_eq!(
            names,
            ["virtio_ring", "virtio", "virtio_pci", "net_failover", "virtio_net"]
        );
        // A kernel with everything built in has no such files.
        assert!(drivers(&folder.path().join("absent")).unwrap().is_empty());
    }

    #[test]
    fn the_newest_kernel_of_the_first_folder_that_has_one_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        let (empty, full) = (folder.path().join("empty"), folder.path().join("full"));
        fs::create_dir_all(full.join("boot")).unwrap();
        for name in ["vmlinuz-6.1.0-9", "vmlinuz-6.12.0-1", "config-7"] {
            fs::write(full.join("boot").join(name), "").unwrap();
        }
        let found = Kernel::find([empty.as_path(), full.as_path()]).unwrap();
        assert_eq!(found.image, full.join("boot/vmlinuz-6.12.0-1"));
        assert_eq!(Kernel::find([empty.as_path()]), None);
    }
}
