//! Debian packages of the fabric's programs.
//!
//! **Choice.** The packages are staged here and built by `dpkg-deb`, which every Debian has. A handful of files and
//! four short scripts need no other tool, and this takes seconds. cargo-deb would have to be compiled first.
//!
//! **Model.** [`PACKAGES`] lists the contents of each package. Units, settings, users and scripts are files in `packaging/`;
//! words between `@` are replaced. A package of a daemon has its settings in `/etc/NAME` (`NAME.conf` is a conffile),
//! keys in `/etc/NAME/tls`, state in `/var/lib/NAME`; it may have several services. The libc version that a package needs is read from its programs.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::{call, release, release_dir, root, target_dir};

/// What to build.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Where the packages go [default: target/packages]
    #[arg(long)]
    out: Option<PathBuf>,
    /// Programs to pack, instead of a release build
    #[arg(long)]
    bin_dir: Option<PathBuf>,
    /// Version of the packages [default: the workspace's]
    #[arg(long, default_value = env!("CARGO_PKG_VERSION"))]
    package_version: String,
    /// Do not compress: faster, several times as large
    #[arg(long)]
    fast: bool,
}

struct Package {
    name: &'static str,
    summary: &'static str,
    /// Programs, with their places.
    programs: &'static [(&'static str, &'static str)],
    /// Symbolic links: place and what it points to.
    links: &'static [(&'static str, &'static str)],
    /// Documents, as paths in the workspace.
    docs: &'static [&'static str],
    depends: &'static str,
    recommends: &'static str,
    daemon: Option<Daemon>,
}

struct Daemon {
    /// Its services. Each has a unit in `packaging/` and its state in `/var/lib`, under its own name. The first has the
    /// name of the package.
    services: &'static [&'static str],
    /// The user that the services run as; root if empty.
    user: &'static str,
    /// Whether an upgrade restarts the services.
    restarts: bool,
    /// Name of a store whose format decides which versions can be installed.
    store: Option<&'static str>,
}

/// What systemd parts a daemon's package needs.
const FOR_DAEMONS: &str = "systemd, init-system-helpers (>= 1.54), passwd";

const PACKAGES: &[Package] = &[
    Package {
        name: "fabric-controller",
        summary: "controller of a fabric of P4 switches and Linux hosts",
        programs: &[("fabric-controller", "/usr/bin/fabric-controller")],
        links: &[],
        docs: &["docs/controller.md", "docs/security.md", "fabricctl/lab/topology.yaml"],
        depends: FOR_DAEMONS,
        recommends: "fabricctl",
        daemon: Some(Daemon {
            services: &["fabric-controller"],
            user: "fabric-controller",
            restarts: true,
            store: Some("intent"),
        }),
    },
    Package {
        name: "vtep-agent",
        summary: "VXLAN tunnel end point and CNI plugin of a host in a fabric",
        programs: &[
            ("vtep-agent", "/usr/bin/vtep-agent"),
            ("vfabric-cni", "/usr/lib/cni/vfabric"),
            ("vfabric-multi", "/usr/lib/cni/vfabric-multi"),
        ],
        // Debian's container runtimes use the first folder, others the second.
        links: &[
            ("/opt/cni/bin/vfabric", "/usr/lib/cni/vfabric"),
            ("/opt/cni/bin/vfabric-multi", "/usr/lib/cni/vfabric-multi"),
        ],
        docs: &["docs/vtep-agent.md", "docs/pods.md"],
        depends: FOR_DAEMONS,
        recommends: "iproute2",
        daemon: Some(Daemon {
            services: &["vtep-agent", "vfabric-multi"],
            user: "",
            restarts: true,
            store: None,
        }),
    },
    Package {
        name: "p4-switch",
        summary: "P4 software switch with P4Runtime and gNMI, and its compiler",
        programs: &[
            ("p4-switch", "/usr/bin/p4-switch"),
            ("p4-compiler", "/usr/bin/p4-compiler"),
        ],
        links: &[],
        docs: &["docs/p4-switch.md", "docs/p4-compiler.md", "docs/for-bmv2-users.md"],
        depends: FOR_DAEMONS,
        recommends: "iproute2, ethtool",
        daemon: Some(Daemon {
            services: &["p4-switch"],
            user: "p4-switch",
            // The switch's ports would be down during a restart.
            restarts: false,
            store: None,
        }),
    },
    Package {
        name: "fabricctl",
        summary: "command line of a fabric, with its lab and checks",
        programs: &[("fabricctl", "/usr/bin/fabricctl")],
        links: &[],
        docs: &["docs/testing-your-fabric.md", "CHANGELOG.md"],
        depends: "",
        // For `fabricctl check` and `fabricctl lab`.
        recommends: "fabric-controller, vtep-agent, p4-switch, iproute2, ethtool, iputils-ping, nftables, procps, util-linux",
        daemon: None,
    },
];

/// Builds all packages and prints their paths.
pub(crate) fn run(options: &Options) -> Result<()> {
    let bin_dir = match &options.bin_dir {
        Some(dir) => dir.clone(),
        None => {
            release::build(release::PRODUCT)?;
            release_dir()
        }
    };
    let out = options.out.clone().unwrap_or_else(|| target_dir().join("packages"));
    fs::create_dir_all(&out).with_context(|| out.display().to_string())?;
    for package in PACKAGES {
        let build = Build {
            package,
            version: &options.package_version,
            bin_dir: &bin_dir,
            stage: out.join(format!("{}.stage", package.name)),
        };
        let path = build.run(&out, options.fast);
        let path = path.with_context(|| format!("package {}", package.name))?;
        println!("{}", path.display());
    }
    Ok(())
}

struct Build<'a> {
    package: &'a Package,
    version: &'a str,
    bin_dir: &'a Path,
    /// The root of the package's files.
    stage: PathBuf,
}

impl Build<'_> {
    fn run(&self, out: &Path, fast: bool) -> Result<PathBuf> {
        let remove = |dir: &Path| match fs::remove_dir_all(dir) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        };
        remove(&self.stage)?;
        let architecture = output(Command::new("dpkg").arg("--print-architecture"))?;
        let libc = self.programs()?;
        self.documents()?;
        if let Some(daemon) = &self.package.daemon {
            self.daemon(daemon)?;
        }
        self.control(architecture.trim(), &libc)?;
        let name = format!("{}_{}_{}.deb", self.package.name, self.version, architecture.trim());
        let path = out.join(name);
        let mut build = Command::new("dpkg-deb");
        build.args(["--root-owner-group", "--build"]);
        build.arg(if fast { "-Znone" } else { "-Zxz" });
        build.arg(&self.stage).arg(&path).stdout(std::process::Stdio::null());
        call(&mut build)?;
        remove(&self.stage)?;
        Ok(path)
    }

    /// Packs the programs without debug information; returns the libc version that they need.
    fn programs(&self) -> Result<String> {
        let mut needed = Vec::new();
        for (program, place) in self.package.programs {
            let from = self.bin_dir.join(program);
            let to = self.place(place)?;
            call(Command::new("strip").args(["--strip-debug", "-o"]).arg(&to).arg(&from))
                .context("Debian package binutils is needed")?;
            fs::set_permissions(&to, fs::Permissions::from_mode(0o755))?;
            needed.push(libc_version(&to)?);
        }
        for (place, target) in self.package.links {
            symlink(target, self.place(place)?)?;
        }
        let (major, minor) = needed.into_iter().max().context("no programs")?;
        Ok(format!("{major}.{minor}"))
    }

    fn documents(&self) -> Result<()> {
        let doc = |name: &str| format!("/usr/share/doc/{}/{name}", self.package.name);
        let license = "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\
                       \nFiles: *\nCopyright: the authors of vfabric\nLicense: Apache-2.0\n\
                       \nLicense: Apache-2.0\n On Debian systems, see /usr/share/common-licenses/Apache-2.0.\n";
        self.write(&doc("copyright"), license, 0o644)?;
        for path in self.package.docs {
            let from = root().join(path);
            let text = fs::read_to_string(&from).with_context(|| from.display().to_string())?;
            let name = Path::new(path).file_name().unwrap_or_default().to_string_lossy();
            self.write(&doc(&name), &text, 0o644)?;
        }
        Ok(())
    }

    fn daemon(&self, daemon: &Daemon) -> Result<()> {
        let name = self.package.name;
        let units: Vec<String> = daemon.services.iter().map(|s| format!("{s}.service")).collect();
        for unit in &units {
            self.write(&format!("/lib/systemd/system/{unit}"), &self.read(unit)?, 0o644)?;
        }
        let states: Vec<String> = daemon.services.iter().map(|s| format!("/var/lib/{s}")).collect();
        self.write(&format!("/etc/{name}/{name}.conf"), &self.read("conf")?, 0o644)?;
        let tls = self.place(&format!("/etc/{name}/tls"))?;
        fs::create_dir_all(&tls)?;
        fs::set_permissions(tls, fs::Permissions::from_mode(0o700))?;
        if !daemon.user.is_empty() {
            self.write(
                &format!("/usr/lib/sysusers.d/{name}.conf"),
                &self.read("sysusers")?,
                0o644,
            )?;
        }
        self.write("/DEBIAN/conffiles", &format!("/etc/{name}/{name}.conf\n"), 0o644)?;
        let format = match daemon.store {
            None => String::new(),
            Some(_) => store_format(&self.bin_dir.join(name))?.to_string(),
        };
        for script in ["preinst", "postinst", "prerm", "postrm"] {
            if script == "preinst" && daemon.store.is_none() {
                continue;
            }
            let path = root().join("packaging/scripts").join(script);
            let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
            let text = fill(
                &text,
                &[
                    ("NAME", name),
                    ("VERSION", self.version),
                    ("USER", daemon.user),
                    ("RESTART", if daemon.restarts { "yes" } else { "no" }),
                    ("UNITS", &units.join(" ")),
                    ("STATE", &format!("/var/lib/{name}")),
                    ("STATES", &states.join(" ")),
                    ("STORE", daemon.store.unwrap_or_default()),
                    ("FORMAT", &format),
                ],
            )
            .with_context(|| path.display().to_string())?;
            self.write(&format!("/DEBIAN/{script}"), &text, 0o755)?;
        }
        Ok(())
    }

    fn control(&self, architecture: &str, libc: &str) -> Result<()> {
        let mut files = Vec::new();
        list(&self.stage, &self.stage, &mut files)?;
        files.sort();
        let octets: u64 = files
            .iter()
            .map(|f| fs::metadata(self.stage.join(f)).map_or(0, |m| m.len()))
            .sum();
        let sums = output(Command::new("md5sum").args(&files).current_dir(&self.stage))?;
        self.write("/DEBIAN/md5sums", &sums, 0o644)?;
        let libc = format!("libc6 (>= {libc}), libgcc-s1");
        let depends = [libc.as_str(), self.package.depends]
            .into_iter()
            .filter(|d| !d.is_empty());
        let control = format!(
            "Package: {}\nVersion: {}\nArchitecture: {architecture}\nMaintainer: vfabric maintainers <maintainers@vfabric.invalid>\n\
             Section: net\nPriority: optional\nInstalled-Size: {}\nDepends: {}\nRecommends: {}\nDescription: {}\n \
             Part of vfabric, which turns racks of P4 switches and Linux hosts into\n independent virtual data centres.\n",
            self.package.name,
            self.version,
            octets.div_ceil(1024),
            depends.collect::<Vec<_>>().join(", "),
            self.package.recommends,
            self.package.summary,
        );
        self.write("/DEBIAN/control", &control, 0o644)
    }

    /// A file of this package in `packaging/`.
    fn read(&self, file: &str) -> Result<String> {
        let path = root().join("packaging").join(self.package.name).join(file);
        fs::read_to_string(&path).with_context(|| path.display().to_string())
    }

    /// Where a file of the package is staged. Its folder exists afterwards.
    fn place(&self, path: &str) -> Result<PathBuf> {
        let place = self.stage.join(path.trim_start_matches('/'));
        fs::create_dir_all(place.parent().context("a path without a folder")?)?;
        Ok(place)
    }

    fn write(&self, path: &str, text: &str, mode: u32) -> Result<()> {
        let place = self.place(path)?;
        fs::write(&place, text).with_context(|| place.display().to_string())?;
        Ok(fs::set_permissions(place, fs::Permissions::from_mode(mode))?)
    }
}

/// Regular files below `folder`, relative to `stage`, without the package's own.
fn list(stage: &Path, folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let path = entry.path();
        let kind = entry.file_type()?;
        if kind.is_dir() && entry.file_name() != "DEBIAN" {
            list(stage, &path, files)?;
        } else if kind.is_file() {
            files.push(path.strip_prefix(stage)?.to_owned());
        }
    }
    Ok(())
}

/// Replaces `@WORD@`.
fn fill(text: &str, words: &[(&str, &str)]) -> Result<String> {
    let mut parts = text.split('@');
    let mut filled = parts.next().unwrap_or_default().to_owned();
    while let Some(word) = parts.next() {
        let value = words.iter().find(|(w, _)| *w == word);
        filled.push_str(value.with_context(|| format!("`@{word}@` is unknown"))?.1);
        filled.push_str(parts.next().context("an `@` is alone")?);
    }
    Ok(filled)
}

/// The greatest version among the symbol versions of glibc that a program refers to.
fn libc_version(program: &Path) -> Result<(u32, u32)> {
    let text = output(Command::new("readelf").arg("--version-info").arg(program))?;
    let newest = newest(&text);
    newest.with_context(|| format!("{} needs no libc", program.display()))
}

/// Finds the greatest version in the output of readelf, which has words such as `Name: GLIBC_2.34`.
fn newest(text: &str) -> Option<(u32, u32)> {
    let version = |rest: &str| {
        let word = rest.split_whitespace().next()?;
        let mut numbers = word.split('.');
        // A version such as `2.2.5` counts as 2.2.
        Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
    };
    text.split("Name: GLIBC_").skip(1).filter_map(version).max()
}

/// The greatest format of stores that a controller reads, from its version.
fn store_format(controller: &Path) -> Result<u64> {
    let text = output(Command::new(controller).arg("--version"))?;
    let found = text
        .split_once("(store format ")
        .and_then(|(_, rest)| rest.split_once(')'));
    let number = found.and_then(|(n, _)| n.parse().ok());
    number.with_context(|| format!("{} --version names no store format: {text}", controller.display()))
}

fn output(command: &mut Command) -> Result<String> {
    let shown = format!("{command:?}");
    let output = command.output().with_context(|| format!("cannot start {shown}"))?;
    if !output.status.success() {
        bail!(
            "{shown} ended with {}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(String::from_utf8(output.stdout)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_symbol_decides() {
        let text =
            "Name: GLIBC_2.2.5  Flags: none\nName: GLIBC_2.34  x\nName: GLIBC_2.9\nName: GLIBC_PRIVATE\nName: GCC_9.9";
        assert_eq!(newest(text), Some((2, 34)));
        assert_eq!(newest(""), None);
    }

    #[test]
    fn unknown_words_are_mistakes() {
        assert_eq!(fill("a @N@ b", &[("N", "1")]).unwrap(), "a 1 b");
        assert!(fill("a @M@ b", &[("N", "1")]).is_err());
        assert!(fill("a@b", &[]).is_err());
    }
}
