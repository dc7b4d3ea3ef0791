//! `vtep-agent cni install|uninstall`: installs and removes the CNI plugins and their configuration.
//!
//! A runtime may start a plugin or read a configuration at any moment: each file is written under another name and
//! renamed. The plugins are installed before the configuration that names them, and removed after it. A manifest beside
//! the plugins has the digest of each installed file. Files that somebody else has installed or changed are left alone.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The configuration's file name, which sorts before those of other networks.
const CONFIGURATION: &str = "10-vfabric.conflist";
const MANIFEST: &str = ".vfabric-manifest.json";
/// Programs beside ours, and the names under which runtimes start them.
const PLUGINS: [(&str, &str); 2] = [("vfabric-cni", "vfabric"), ("vfabric-multi", "vfabric-multi")];

#[derive(Subcommand)]
pub(crate) enum Verb {
    /// Installs the plugins and a configuration. A second run replaces the files of the first.
    Install {
        #[command(flatten)]
        folders: Folders,
        /// Folder of the programs `vfabric-cni` and `vfabric-multi` [default: that of this program].
        #[arg(long)]
        from: Option<PathBuf>,
        #[command(flatten)]
        conf: Conf,
        /// Socket of the agent for the CNI plugin.
        #[arg(long, default_value = vfabric_cni::protocol::SOCKET)]
        socket: PathBuf,
    },
    /// Removes the files that `install` has installed, unless somebody has changed them.
    Uninstall {
        #[command(flatten)]
        folders: Folders,
    },
}

#[derive(Args)]
pub(crate) struct Folders {
    /// Folder of the runtime's plugins.
    #[arg(long, default_value = "/opt/cni/bin")]
    bin_dir: PathBuf,
    /// Folder of the runtime's configurations.
    #[arg(long, default_value = "/etc/cni/net.d")]
    conf_dir: PathBuf,
}

#[derive(Args)]
pub(crate) struct Conf {
    /// A configuration list to install unchanged.
    #[arg(long, conflicts_with_all = ["vdc", "network"])]
    conf: Option<PathBuf>,
    /// Name of the CNI network.
    #[arg(long, default_value = "vfabric")]
    name: String,
    /// The vDC.
    #[arg(long, required_unless_present = "conf")]
    vdc: Option<String>,
    /// The tenant network.
    #[arg(long, required_unless_present = "conf")]
    network: Option<String>,
}

/// Digests of the installed files, by their paths.
#[derive(Default, Serialize, Deserialize)]
struct Manifest(BTreeMap<PathBuf, String>);

fn digest(octets: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, octets);
    digest.as_ref().iter().map(|b| format!("{b:02x}")).collect()
}

/// Writes a file so that others see it whole or not at all.
fn put(path: &Path, octets: &[u8], mode: u32) -> anyhow::Result<()> {
    let write = || -> io::Result<()> {
        let folder = path.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(folder)?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        // Runtimes ignore names that start with a dot.
        let new = folder.join(format!(".{name}.new"));
        let _ = fs::remove_file(&new);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&new)?;
        file.write_all(octets)?;
        file.sync_all()?;
        fs::rename(&new, path)?;
        File::open(folder)?.sync_all()
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

fn remove(path: &Path) -> anyhow::Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => {
            Err(e).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

impl Manifest {
    fn read(bin_dir: &Path) -> anyhow::Result<Self> {
        let path = bin_dir.join(MANIFEST);
        match fs::read(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(e) => Err(e).with_context(|| format!("cannot read {}", path.display())),
            Ok(text) => serde_json::from_slice(&text).with_context(|| format!("in {}", path.display())),
        }
    }

    fn write(&self, bin_dir: &Path) -> anyhow::Result<()> {
        put(&bin_dir.join(MANIFEST), &serde_json::to_vec_pretty(self)?, 0o644)
    }

    /// True if the file was installed by us, or does not exist.
    fn is_ours(&self, path: &Path) -> bool {
        match fs::read(path) {
            Err(e) => e.kind() == io::ErrorKind::NotFound && fs::symlink_metadata(path).is_err(),
            Ok(held) => self.0.get(path) == Some(&digest(&held)),
        }
    }
}

/// The configuration list.
fn configuration(conf: Conf, socket: &Path) -> anyhow::Result<Vec<u8>> {
    if let Some(path) = conf.conf {
        let text = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let list: Value = serde_json::from_slice(&text).with_context(|| format!("in {}", path.display()))?;
        let plugins = list["plugins"].as_array().map(Vec::as_slice).unwrap_or_default();
        let ours = |p: &Value| PLUGINS.iter().any(|(_, kind)| p["type"] == *kind);
        if !plugins.iter().any(ours) {
            bail!(
                "{}: plugins: expected one of type vfabric or vfabric-multi",
                path.display()
            );
        }
        return Ok(text);
    }
    let plugin = json!({ "type": "vfabric", "vdc": conf.vdc, "network": conf.network, "socket": socket,
        "capabilities": { "mac": true, "ips": true } });
    let list = json!({ "cniVersion": "1.0.0", "name": conf.name, "plugins": [plugin] });
    Ok(serde_json::to_vec_pretty(&list)?)
}

/// Carries out the command; returns what to print.
pub(crate) fn run(verb: Verb) -> anyhow::Result<String> {
    match verb {
        Verb::Install {
            folders,
            from,
            conf,
            socket,
        } => {
            let from = match from {
                Some(folder) => folder,
                None => {
                    let own = std::env::current_exe().context("the path of this program")?;
                    own.parent().context("the folder of this program")?.to_owned()
                }
            };
            install(&folders, &from, conf, &socket)
        }
        Verb::Uninstall { folders } => uninstall(&folders),
    }
}

fn install(folders: &Folders, from: &Path, conf: Conf, socket: &Path) -> anyhow::Result<String> {
    // Read and check everything before the first file changes.
    let mut files = Vec::new();
    for (program, name) in PLUGINS {
        let path = from.join(program);
        let octets = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        files.push((folders.bin_dir.join(name), octets, 0o755));
    }
    files.push((
        folders.conf_dir.join(CONFIGURATION),
        configuration(conf, socket)?,
        0o644,
    ));
    let mut manifest = Manifest::read(&folders.bin_dir)?;
    for (path, octets, _) in &files {
        let same = fs::read(path).is_ok_and(|held| held == *octets);
        if !same && !manifest.is_ours(path) {
            bail!(
                "{} exists already and was not installed by this command",
                path.display()
            );
        }
    }
    let mut said = Vec::new();
    for (path, octets, mode) in files {
        // Write the manifest first: it does no harm if it names a file that does not exist.
        manifest.0.insert(path.clone(), digest(&octets));
        manifest.write(&folders.bin_dir)?;
        put(&path, &octets, mode)?;
        said.push(format!("+ {}", path.display()));
    }
    Ok(said.join("\n"))
}

fn uninstall(folders: &Folders) -> anyhow::Result<String> {
    let mut manifest = Manifest::read(&folders.bin_dir)?;
    let (mut said, paths) = (Vec::new(), manifest.0.keys().cloned().collect::<Vec<_>>());
    let is_conf = |path: &PathBuf| path.file_name().is_some_and(|n| n == CONFIGURATION);
    let (conf, plugins): (Vec<_>, Vec<_>) = paths.into_iter().partition(is_conf);
    for path in conf.iter().chain(&plugins) {
        let there = fs::symlink_metadata(path).is_ok();
        if manifest.is_ours(path) {
            remove(path)?;
            if there {
                said.push(format!("- {}", path.display()));
            }
        } else {
            said.push(format!("{} was changed by somebody, so it stays", path.display()));
        }
        manifest.0.remove(path);
        if manifest.0.is_empty() {
            remove(&folders.bin_dir.join(MANIFEST))?;
        } else {
            manifest.write(&folders.bin_dir)?;
        }
    }
    Ok(if said.is_empty() {
        "nothing is installed".to_owned()
    } else {
        said.join("\n")
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    struct Place(tempfile::TempDir);

    impl Place {
        fn new() -> Self {
            let place = Self(tempfile::tempdir().unwrap());
            fs::create_dir(place.0.path().join("from")).unwrap();
            for (program, _) in PLUGINS {
                fs::write(place.0.path().join("from").join(program), program).unwrap();
            }
            place
        }

        fn folders(&self) -> Folders {
            Folders {
                bin_dir: self.0.path().join("bin"),
                conf_dir: self.0.path().join("conf"),
            }
        }

        fn install(&self, network: &str) -> anyhow::Result<String> {
            let conf = Conf {
                conf: None,
                name: "n".into(),
                vdc: Some("blue".into()),
                network: Some(network.into()),
            };
            install(&self.folders(), &self.0.path().join("from"), conf, Path::new("/s"))
        }

        fn files(&self) -> Vec<String> {
            let of = |folder: &str| fs::read_dir(self.0.path().join(folder)).into_iter().flatten().flatten();
            let mut names: Vec<String> = of("bin")
                .chain(of("conf"))
                .map(|f| f.file_name().into_string().unwrap())
                .collect();
            names.sort();
            names
        }
    }

    #[test]
    fn what_is_put_in_place_is_taken_away_and_nothing_else() {
        let place = Place::new();
        place.install("red").unwrap();
        place.install("green").unwrap();
        assert_eq!(place.files(), [MANIFEST, CONFIGURATION, "vfabric", "vfabric-multi"]);
        let mode = fs::metadata(place.0.path().join("bin/vfabric"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o755);
        let list: Value =
            serde_json::from_slice(&fs::read(place.0.path().join("conf").join(CONFIGURATION)).unwrap()).unwrap();
        assert_eq!(list["plugins"][0]["network"], "green");
        fs::write(place.0.path().join("bin/bridge"), "another").unwrap();
        uninstall(&place.folders()).unwrap();
        assert_eq!(place.files(), ["bridge"]);
        assert_eq!(uninstall(&place.folders()).unwrap(), "nothing is installed");
    }

    #[test]
    fn files_of_others_are_left_alone() {
        let place = Place::new();
        fs::create_dir(place.0.path().join("bin")).unwrap();
        let theirs = place.0.path().join("bin/vfabric");
        fs::write(&theirs, "packaged").unwrap();
        let refused = place.install("red").unwrap_err();
        assert!(refused.to_string().contains("was not installed"), "{refused}");
        assert_eq!(place.files(), ["vfabric"]);
        fs::remove_file(&theirs).unwrap();
        place.install("red").unwrap();
        fs::write(&theirs, "changed").unwrap();
        let said = uninstall(&place.folders()).unwrap();
        assert!(said.contains("was changed by somebody"), "{said}");
        assert_eq!(place.files(), ["vfabric"]);
        // If a program is missing, no file is installed.
        let other = Place::new();
        fs::remove_file(other.0.path().join("from/vfabric-multi")).unwrap();
        assert!(other.install("red").is_err());
        assert_eq!(other.files(), [""; 0]);
    }
}
