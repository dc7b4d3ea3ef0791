//! Files and directories that belong to their owner alone.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use nix::sys::stat::{Mode, umask};

use crate::error::IdentityError;

/// The rights of everybody but the owner.
const OTHERS: u32 = 0o077;

/// From now on, what this process creates is readable and writable by its owner alone (0600, directories 0700).
pub fn private_files() {
    umask(Mode::S_IRWXG | Mode::S_IRWXO);
}

/// Creates a directory with mode 0700, or removes the rights of others from an existing one.
///
/// # Errors
/// [`IdentityError::Private`].
pub fn private_directory(path: &Path) -> Result<(), IdentityError> {
    let fail = |source| IdentityError::Private {
        path: path.to_owned(),
        source,
    };
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(fail)?;
    let mode = std::fs::metadata(path).map_err(fail)?.permissions().mode();
    if mode & OTHERS != 0 {
        tracing::warn!(path = %path.display(), "others could read this directory; its mode is now 0700");
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700)).map_err(fail)?;
    }
    Ok(())
}

/// Writes a file that only its owner can read, and replaces an existing one. When this returns, the whole file is on the
/// disk.
///
/// # Errors
/// The system reports an error; an existing file is then unchanged.
pub fn write_private(path: &Path, content: &[u8]) -> std::io::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let beside = Path::new(&beside);
    // Overwrites a file that a killed process may have left half written.
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(beside)?;
    file.write_all(content)?;
    file.sync_all()?;
    std::fs::rename(beside, path)?;
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => File::open(parent)?.sync_all(),
        _ => Ok(()),
    }
}

/// Whether nobody but its owner can read or write a file.
///
/// # Errors
/// The system cannot read the file's mode.
pub fn is_private(path: &Path) -> std::io::Result<bool> {
    Ok(std::fs::metadata(path)?.permissions().mode() & OTHERS == 0)
}

/// Warns of a key that others can read.
pub(crate) fn warn_if_readable(key: &Path) {
    if is_private(key).is_ok_and(|is_private| !is_private) {
        tracing::warn!(path = %key.display(), "others can read this private key; its mode should be 0600");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_as_a_whole_and_is_its_owners_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        // Left half written by a process that was killed.
        std::fs::write(dir.path().join("key.new"), "half of a longer one").unwrap();
        write_private(&path, b"first").unwrap();
        write_private(&path, b"2nd").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"2nd");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        assert!(write_private(&dir.path().join("nowhere/key"), b"x").is_err());
    }

    #[test]
    fn a_directory_is_made_private_whether_or_not_it_exists() {
        let dir = tempfile::tempdir().unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let new = dir.path().join("a/b");
        private_directory(&new).unwrap();
        assert_eq!(mode(&new), 0o700);
        let open = dir.path().join("open");
        std::fs::create_dir(&open).unwrap();
        std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o755)).unwrap();
        private_directory(&open).unwrap();
        assert_eq!(mode(&open), 0o700);
    }
}
