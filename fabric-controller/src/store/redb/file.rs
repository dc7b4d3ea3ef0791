//! Whether the open file is still the one at its path.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::Failure;

/// Device and inode of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Identity(u64, u64);

impl Identity {
    /// Of the file at a path.
    pub(super) fn of(path: &Path) -> Result<Self, Failure> {
        let found = std::fs::metadata(path).map_err(|e| Failure::Words(format!("is no longer there: {e}")))?;
        Ok(Self(found.dev(), found.ino()))
    }

    /// Fails if the file was deleted, moved away or replaced: what is written to it now would be lost with this process.
    pub(super) fn still_at(self, path: &Path) -> Result<(), Failure> {
        if Self::of(path)? == self {
            Ok(())
        } else {
            let words = "was replaced by another file while it was open: put the first one back, or start again";
            Err(Failure::Words(words.into()))
        }
    }
}
