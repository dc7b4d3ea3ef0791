//! The directory of packages: `VERSION.package`, `VERSION.sha256`, and `activation.json`, the last activation.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use ring::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};

/// Prefix of a package that is being received. A number follows: the end of one may come after the beginning of the next.
const INCOMING: &str = "incoming.";
const ACTIVATION: &str = "activation.json";
/// Packages that are kept; the oldest one goes when another comes.
const KEPT: usize = 3;
/// Octets that are read at a time.
const PART: usize = 1 << 16;

/// An activation that was carried out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Activation {
    /// The version that is to run.
    pub version: String,
    /// The version that ran then.
    pub from: String,
}

/// The directory.
#[derive(Debug, Clone)]
pub struct Spool {
    dir: PathBuf,
    most_octets: u64,
}

/// A package that is being received; dropped before it is kept, it leaves nothing.
pub struct Incoming {
    spool: Spool,
    path: PathBuf,
    file: File,
    digest: Context,
    octets: u64,
    is_kept: bool,
}

fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

impl Spool {
    /// Opens the directory, or makes it. Unfinished files of an earlier process are removed.
    ///
    /// # Errors
    /// Of the file system.
    pub fn open(dir: &Path, most_octets: u64) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        let this = Self {
            dir: dir.to_owned(),
            most_octets,
        };
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            if entry
                .file_name()
                .to_str()
                .is_some_and(|name| name.starts_with(INCOMING))
            {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(this)
    }

    /// Largest package, in octets.
    pub fn most_octets(&self) -> u64 {
        self.most_octets
    }

    fn at(&self, version: &str, what: &str) -> PathBuf {
        self.dir.join(format!("{version}.{what}"))
    }

    /// Begins to receive a package.
    ///
    /// # Errors
    /// Of the file system.
    pub fn begin(&self) -> io::Result<Incoming> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let path = self
            .dir
            .join(format!("{INCOMING}{}", NUMBER.fetch_add(1, Ordering::Relaxed)));
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o644)
            .open(&path)?;
        Ok(Incoming {
            spool: self.clone(),
            path,
            file,
            digest: Context::new(&SHA256),
            octets: 0,
            is_kept: false,
        })
    }

    /// Where the package of a version is, if its content has the digest that it had when it was received.
    ///
    /// # Errors
    /// It is not there, or has changed.
    pub fn check(&self, version: &str) -> io::Result<PathBuf> {
        let path = self.at(version, "package");
        let mut file = File::open(&path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => io::Error::new(error.kind(), "no package of it was received"),
            _ => error,
        })?;
        let wanted = fs::read_to_string(self.at(version, "sha256"))?;
        let mut digest = Context::new(&SHA256);
        let mut part = vec![0; PART];
        loop {
            let read = file.read(&mut part)?;
            if read == 0 {
                break;
            }
            digest.update(part.get(..read).unwrap_or_default());
        }
        if hex(digest.finish().as_ref()) != wanted.trim() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "its package was changed on the disk",
            ));
        }
        Ok(path)
    }

    /// The last activation, if one was carried out.
    pub fn activation(&self) -> Option<Activation> {
        serde_json::from_slice(&fs::read(self.dir.join(ACTIVATION)).ok()?).ok()
    }

    /// Stores an activation.
    ///
    /// # Errors
    /// Of the file system.
    pub fn note_activation(&self, activation: &Activation) -> io::Result<()> {
        let new = self.dir.join("activation.new");
        let mut file = File::create(&new)?;
        file.write_all(&serde_json::to_vec(activation)?)?;
        file.sync_all()?;
        fs::rename(new, self.dir.join(ACTIVATION))?;
        self.sync()
    }

    /// Forgets the last activation.
    pub fn forget_activation(&self) {
        match fs::remove_file(self.dir.join(ACTIVATION)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(%error, "the last activation cannot be forgotten");
            }
            _ => {}
        }
    }

    fn sync(&self) -> io::Result<()> {
        File::open(&self.dir)?.sync_all()
    }

    /// Removes the oldest packages until there is room for one more; the one that was activated last stays.
    fn prune(&self) -> io::Result<()> {
        let active = self.activation().map(|activation| activation.version);
        let mut known = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            let name = entry.file_name();
            let version = name.to_str().and_then(|name| name.strip_suffix(".package"));
            if let Some(version) = version.filter(|version| Some(*version) != active.as_deref()) {
                known.push((entry.metadata()?.modified()?, version.to_owned()));
            }
        }
        known.sort();
        let room = KEPT - 1 - usize::from(active.is_some());
        let surplus = known.len().saturating_sub(room);
        for (_, version) in known.into_iter().take(surplus) {
            tracing::info!(version, "an old package is removed");
            fs::remove_file(self.at(&version, "package"))?;
            // A digest without its package means nothing.
            let _ = fs::remove_file(self.at(&version, "sha256"));
        }
        Ok(())
    }
}

impl Incoming {
    /// Octets that were written.
    pub fn octets(&self) -> u64 {
        self.octets
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Adds a part.
    ///
    /// # Errors
    /// Of the file system.
    pub fn write(mut self, part: &[u8]) -> io::Result<Self> {
        self.file.write_all(part)?;
        self.digest.update(part);
        self.octets += part.len() as u64;
        Ok(self)
    }

    /// Waits until it is on the disk.
    ///
    /// # Errors
    /// Of the file system.
    pub fn sync(self) -> io::Result<Self> {
        self.file.sync_all()?;
        Ok(self)
    }

    /// Keeps it under the name of its version; returns its SHA-256.
    ///
    /// # Errors
    /// Of the file system.
    pub fn keep(mut self, version: &str) -> io::Result<String> {
        let sha256 = hex(self.digest.clone().finish().as_ref());
        self.spool.prune()?;
        // The package comes last: it counts only with its digest.
        fs::write(self.spool.at(version, "sha256"), format!("{sha256}\n"))?;
        fs::rename(&self.path, self.spool.at(version, "package"))?;
        self.is_kept = true;
        self.spool.sync()?;
        Ok(sha256)
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if !self.is_kept
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::warn!(%error, "a package that was not received whole cannot be removed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(spool: &Spool, version: &str) -> String {
        let incoming = spool
            .begin()
            .unwrap()
            .write(b"a ")
            .unwrap()
            .write(version.as_bytes())
            .unwrap();
        incoming.sync().unwrap().keep(version).unwrap()
    }

    fn names(dir: &Path) -> Vec<String> {
        let entries = fs::read_dir(dir).unwrap();
        let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_package_is_there_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let spool = Spool::open(dir.path(), 100).unwrap();
        drop(spool.begin().unwrap().write(b"half").unwrap());
        assert!(names(dir.path()).is_empty());
        fs::write(dir.path().join("incoming.7"), "left by a crash").unwrap();
        let spool = Spool::open(dir.path(), 100).unwrap();
        assert!(names(dir.path()).is_empty());
        let sha256 = put(&spool, "2.0");
        assert_eq!(names(dir.path()), ["2.0.package", "2.0.sha256"]);
        assert_eq!(sha256.len(), 64);
        assert_eq!(fs::read(spool.check("2.0").unwrap()).unwrap(), b"a 2.0");
        assert!(spool.check("3.0").unwrap_err().to_string().contains("was received"));
        fs::write(dir.path().join("2.0.package"), "a 2.1").unwrap();
        assert!(spool.check("2.0").unwrap_err().to_string().contains("changed"));
    }

    #[test]
    fn old_packages_go_and_the_active_one_stays() {
        let dir = tempfile::tempdir().unwrap();
        let spool = Spool::open(dir.path(), 100).unwrap();
        put(&spool, "1");
        let activation = Activation {
            version: "1".into(),
            from: "0".into(),
        };
        spool.note_activation(&activation).unwrap();
        assert_eq!(spool.activation(), Some(activation));
        for version in ["2", "3", "4", "5"] {
            put(&spool, version);
            assert!(spool.check("1").is_ok() && spool.check(version).is_ok(), "{version}");
        }
        assert_eq!(
            names(dir.path())
                .iter()
                .filter(|name| name.ends_with(".package"))
                .count(),
            KEPT
        );
        spool.forget_activation();
        spool.forget_activation();
        assert_eq!(spool.activation(), None);
    }
}
