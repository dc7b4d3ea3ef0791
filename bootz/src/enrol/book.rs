//! Bindings: which key belongs to which switch. They are in a file of their own beside the store, because a rollback of
//! intent must not bring an old key back.

use std::path::Path;

use redb::{Database, ReadableDatabase as _, ReadableTable as _, TableDefinition};
use serde::{Deserialize, Serialize};

use super::kept::Kept;

/// Identity of a switch to its binding, as JSON.
const BINDINGS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("bindings");

/// The device that is bound to a switch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Binding {
    /// Serial number of the device, folded.
    pub serial: String,
    /// SHA-256 of its IDevID key.
    pub fingerprint: String,
    /// When it was bound, in seconds since 1970.
    pub since: u64,
    /// When its latest certificate expires, in seconds since 1970; zero before the first.
    pub not_after: u64,
    /// Its last report.
    #[serde(default)]
    pub report: Option<Report>,
}

/// The step that a device reports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// When, in seconds since 1970.
    pub at: u64,
    /// Which step, as Bootz names it.
    pub status: String,
    /// In words.
    pub words: String,
}

/// Why a device is not bound.
#[derive(Debug, thiserror::Error)]
pub enum BookError {
    /// The switch is bound to another device.
    #[error("the switch is bound to another device since {}, whose key is {}", written(.0.since), .0.fingerprint)]
    Bound(Box<Binding>),
    /// The switch is not bound to a device yet.
    #[error("the switch is bound to no device yet: it must ask for its bootstrap data first")]
    Unbound,
    /// The file failed.
    #[error("the bindings cannot be stored: {0}")]
    Disk(String),
}

fn written(seconds: u64) -> String {
    let time = std::time::UNIX_EPOCH.checked_add(std::time::Duration::from_secs(seconds));
    time.map(|t| humantime::format_rfc3339_seconds(t).to_string())
        .unwrap_or_default()
}

fn disk(error: impl Into<redb::Error>) -> BookError {
    BookError::Disk(error.into().to_string())
}

/// The file.
pub struct Book(Kept);

impl Book {
    /// Opens the file, or makes it.
    ///
    /// # Errors
    /// [`BookError::Disk`].
    pub fn open(path: &Path) -> Result<Self, BookError> {
        let kept = Kept::open(path, |database| {
            let write = database.begin_write()?;
            write.open_table(BINDINGS)?;
            Ok(write.commit()?)
        });
        kept.map(Self).map_err(disk)
    }

    fn with<T>(&self, work: impl FnOnce(&Database) -> Result<T, BookError>) -> Result<T, BookError> {
        let is_disk = |error: &BookError| matches!(error, BookError::Disk(_));
        self.0.with(disk, is_disk, work)
    }

    /// What is known of a switch.
    ///
    /// # Errors
    /// [`BookError::Disk`].
    pub fn get(&self, switch: u64) -> Result<Option<Binding>, BookError> {
        self.with(|database| {
            let read = database.begin_read().map_err(disk)?;
            let table = read.open_table(BINDINGS).map_err(disk)?;
            let row = table.get(switch).map_err(disk)?;
            row.map(|row| parse(row.value())).transpose()
        })
    }

    /// Changes the binding of a switch; it is on the disk when this returns. `change` receives the binding in force, or
    /// none if the switch now has another serial number.
    ///
    /// # Errors
    /// The error of `change`, or [`BookError::Disk`]. Then nothing has changed.
    fn change(
        &self,
        switch: u64,
        serial: &str,
        change: impl FnOnce(Option<Binding>) -> Result<Binding, BookError>,
    ) -> Result<Binding, BookError> {
        self.with(|database| {
            let write = database.begin_write().map_err(disk)?;
            let changed = {
                let mut table = write.open_table(BINDINGS).map_err(disk)?;
                let known = table
                    .get(switch)
                    .map_err(disk)?
                    .map(|row| parse(row.value()))
                    .transpose()?;
                let changed = change(known.filter(|b| b.serial == serial))?;
                let row = serde_json::to_vec(&changed).map_err(|error| BookError::Disk(error.to_string()))?;
                table.insert(switch, row.as_slice()).map_err(disk)?;
                changed
            };
            write.commit().map_err(disk)?;
            Ok(changed)
        })
    }

    /// Binds a device to a switch, or finds it bound.
    ///
    /// # Errors
    /// [`BookError::Bound`] to another device, or [`BookError::Disk`].
    pub fn bind(
        &self,
        switch: u64,
        serial: &str,
        fingerprint: &str,
        now: u64,
        not_after: u64,
    ) -> Result<Binding, BookError> {
        self.change(switch, serial, |known| match known {
            Some(known) if known.fingerprint != fingerprint => Err(BookError::Bound(Box::new(known))),
            Some(known) => Ok(Binding { not_after, ..known }),
            None => Ok(Binding {
                serial: serial.to_owned(),
                fingerprint: fingerprint.to_owned(),
                since: now,
                not_after,
                report: None,
            }),
        })
    }

    /// Stores the report of a device that is bound.
    ///
    /// # Errors
    /// The device is not bound to the switch, or [`BookError::Disk`].
    pub fn report(&self, switch: u64, serial: &str, fingerprint: &str, report: Report) -> Result<Binding, BookError> {
        self.change(switch, serial, |known| match known {
            Some(known) if known.fingerprint != fingerprint => Err(BookError::Bound(Box::new(known))),
            Some(known) => Ok(Binding {
                report: Some(report),
                ..known
            }),
            None => Err(BookError::Unbound),
        })
    }
}

fn parse(row: &[u8]) -> Result<Binding, BookError> {
    serde_json::from_slice(row).map_err(|error| BookError::Disk(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        Report {
            at: 5,
            status: "BOOTSTRAP_STATUS_SUCCESS".into(),
            words: "serving".into(),
        }
    }

    #[test]
    fn a_switch_is_one_device_until_the_inventory_has_another() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("bindings.redb");
        {
            let book = Book::open(&path).unwrap();
            assert!(matches!(
                book.report(1, "AF40", "key", report()),
                Err(BookError::Unbound)
            ));
            book.bind(1, "AF40", "key", 1, 100).unwrap();
            // Again, with a newer certificate.
            let again = book.bind(1, "AF40", "key", 2, 200).unwrap();
            assert_eq!((again.since, again.not_after), (1, 200));
            let clone = book.bind(1, "AF40", "other", 3, 300).unwrap_err();
            assert!(
                clone
                    .to_string()
                    .contains("since 1970-01-01T00:00:01Z, whose key is key"),
                "{clone}"
            );
            assert!(matches!(
                book.report(1, "AF40", "other", report()),
                Err(BookError::Bound(_))
            ));
            book.report(1, "AF40", "key", report()).unwrap();
        }
        // The report is on the disk.
        let book = Book::open(&path).unwrap();
        assert_eq!(book.get(1).unwrap().unwrap().report, Some(report()));
        assert_eq!(book.get(2).unwrap(), None);
        // The machine was replaced: the old one is not the switch any more.
        let new = book.bind(1, "AF41", "other", 4, 400).unwrap();
        assert_eq!((new.since, new.report), (4, None));
        assert!(matches!(
            book.report(1, "AF40", "key", report()),
            Err(BookError::Unbound)
        ));
    }
}
