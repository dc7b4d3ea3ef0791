//! A redb file that can be used again after a full disk.
//!
//! After a disk error redb refuses everything until its file is opened again, and nobody knows whether the last
//! transaction is in the file. So the file is closed after an error, and opened again for the next call. Callers may
//! store the same thing twice.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use redb::Database;

/// The file.
pub struct Kept {
    path: PathBuf,
    /// None after an error, until it is opened again.
    open: Mutex<Option<Database>>,
}

impl Kept {
    /// Opens the file, or makes it; `prepare` makes its tables.
    ///
    /// # Errors
    /// redb's error.
    pub fn open(path: &Path, prepare: impl FnOnce(&Database) -> Result<(), redb::Error>) -> Result<Self, redb::Error> {
        let database = Database::create(path)?;
        prepare(&database)?;
        Ok(Self {
            path: path.to_owned(),
            open: Mutex::new(Some(database)),
        })
    }

    /// Runs `work` on the file, one call at a time. `failed` turns an error of redb into the caller's error type;
    /// `is_disk` recognises such errors.
    ///
    /// # Errors
    /// `work` fails, or the file cannot be opened again.
    pub fn with<T, E>(
        &self,
        failed: impl FnOnce(redb::Error) -> E,
        is_disk: impl FnOnce(&E) -> bool,
        work: impl FnOnce(&Database) -> Result<T, E>,
    ) -> Result<T, E> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let database = match open.take() {
            Some(database) => database,
            None => Database::create(&self.path).map_err(|error| failed(error.into()))?,
        };
        let done = work(&database);
        if !done.as_ref().is_err_and(is_disk) {
            *open = Some(database);
        }
        done
    }
}
