//! Leases on the disk: a text file with one line for each change, each with a checksum.
//!
//! A change is appended and synchronised before it is acknowledged; many changes are one write. A crash can only cut off
//! the last line, and that change was not acknowledged. From time to time, and after every failed write, a whole new file is
//! written and renamed, so that the file stays small and never has junk in its middle.
//!
//! A line is `CRC-32 in hexadecimal, space, JSON`.

use std::fs::File;
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::dhcp::address::Address;
use crate::dhcp::leases::{Lease, Leases};
use crate::error::ProvisionError;

/// After this many appended lines the whole file is written again: a start then reads less than a megabyte.
const SLACK: usize = 1024;

/// Where leases are kept. Tests use implementations that fail.
pub trait Keeper<A = Ipv4Addr>: Send {
    /// Makes changes durable, all or none of them. `all` are the leases with these changes.
    ///
    /// # Errors
    /// None of the changes may be acknowledged.
    fn keep(&mut self, changes: &[Lease<A>], all: &dyn Fn() -> Vec<Lease<A>>) -> std::io::Result<()>;
}

/// The file.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    /// None after a failed write, because the state of the file's end is unknown.
    file: Option<File>,
    /// Lines that were appended since the whole file was written.
    lines: usize,
}

/// The contents that were read.
#[derive(Debug)]
pub struct Loaded<A = Ipv4Addr> {
    /// The file, ready for appending.
    pub journal: Journal,
    /// Its leases, oldest first.
    pub leases: Vec<Lease<A>>,
    /// Lines that could not be read: their numbers, from 1, and why.
    pub damaged: Vec<(usize, String)>,
}

fn line<A: Serialize>(lease: &Lease<A>) -> std::io::Result<String> {
    let json = serde_json::to_string(lease)?;
    Ok(format!("{:08x} {json}\n", crc32fast::hash(json.as_bytes())))
}

fn read<A: DeserializeOwned>(line: &str) -> Result<Lease<A>, String> {
    let (sum, json) = line.split_once(' ').ok_or("it has no checksum")?;
    if u32::from_str_radix(sum, 16) != Ok(crc32fast::hash(json.as_bytes())) {
        return Err("its checksum is wrong".into());
    }
    serde_json::from_str(json).map_err(|e| e.to_string())
}

impl Journal {
    /// Opens or creates the file in a directory, and writes it as a whole. A damaged file is kept beside it.
    ///
    /// # Errors
    /// The file cannot be read or written.
    pub fn open<A: Address + Serialize + DeserializeOwned>(directory: &Path) -> Result<Loaded<A>, ProvisionError> {
        let path = directory.join(A::FILE);
        let octets = match std::fs::read(&path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            other => other.map_err(ProvisionError::file(&path))?,
        };
        let text = String::from_utf8_lossy(&octets);
        let (mut leases, mut damaged) = (Vec::new(), Vec::new());
        for (i, text) in text.split_inclusive('\n').enumerate() {
            match text.strip_suffix('\n') {
                None => damaged.push((i + 1, "it is cut off".to_owned())),
                Some(text) => match read(text) {
                    Ok(lease) => leases.push(lease),
                    Err(why) => damaged.push((i + 1, why)),
                },
            }
        }
        // A crash can cut off the last line; that change was not acknowledged.
        if damaged.iter().any(|(_, why)| why != "it is cut off") {
            let aside = directory.join(format!("{}.damaged", A::FILE));
            std::fs::write(&aside, &octets).map_err(ProvisionError::file(&aside))?;
        }
        let mut journal = Self {
            path: path.clone(),
            file: None,
            lines: 0,
        };
        let table = Leases::new(leases.iter().cloned());
        let all: Vec<Lease<A>> = table.all().cloned().collect();
        journal.rewrite(&all).map_err(ProvisionError::file(&path))?;
        Ok(Loaded {
            journal,
            leases: all,
            damaged,
        })
    }

    fn rewrite<A: Serialize>(&mut self, all: &[Lease<A>]) -> std::io::Result<()> {
        self.file = None;
        let new = self.path.with_extension("new");
        let mut file = File::create(&new)?;
        let text: Result<String, _> = all.iter().map(line).collect();
        file.write_all(text?.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&new, &self.path)?;
        if let Some(directory) = self.path.parent() {
            File::open(directory)?.sync_all()?;
        }
        self.file = Some(file);
        self.lines = 0;
        Ok(())
    }
}

impl<A: Address + Serialize> Keeper<A> for Journal {
    fn keep(&mut self, changes: &[Lease<A>], all: &dyn Fn() -> Vec<Lease<A>>) -> std::io::Result<()> {
        if let Some(file) = &mut self.file
            && self.lines <= SLACK
        {
            let text: Result<String, _> = changes.iter().map(line).collect();
            let text = text?;
            let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_data());
            match written {
                Ok(()) => {
                    self.lines += changes.len();
                    return Ok(());
                }
                // It is not known how much of the data is on the disk, so the next attempt writes the whole file.
                Err(error) => {
                    self.file = None;
                    return Err(error);
                }
            }
        }
        self.rewrite(&all())
    }
}

#[cfg(test)]
mod tests {
    use vfabric_api::ident::Mac;

    use super::*;
    use crate::dhcp::leases::Holder;

    fn lease(last: u8, expires: u64) -> Lease {
        Lease {
            holder: Holder::Stranger(Mac([2, 0, 0, 0, 0, last])),
            mac: Mac([2, 0, 0, 0, 0, last]),
            address: [192, 0, 2, last].into(),
            expires,
        }
    }

    fn open(directory: &Path) -> Result<Loaded, ProvisionError> {
        Journal::open(directory)
    }

    fn none() -> Vec<Lease> {
        Vec::new()
    }

    #[test]
    fn leases_survive_and_later_ones_win() {
        let dir = tempfile::tempdir().unwrap();
        let mut loaded = open(dir.path()).unwrap();
        loaded.journal.keep(&[lease(1, 10), lease(2, 20)], &none).unwrap();
        loaded.journal.keep(&[lease(1, 30)], &none).unwrap();
        let again = open(dir.path()).unwrap();
        assert_eq!(again.leases, [lease(1, 30), lease(2, 20)]);
        assert!(again.damaged.is_empty());
        assert_eq!(
            std::fs::read_to_string(dir.path().join(Ipv4Addr::FILE))
                .unwrap()
                .lines()
                .count(),
            2
        );
    }

    #[test]
    fn a_file_cut_off_anywhere_loses_the_last_change_only() {
        let dir = tempfile::tempdir().unwrap();
        let mut loaded = open(dir.path()).unwrap();
        loaded.journal.keep(&[lease(1, 10)], &none).unwrap();
        let first = std::fs::metadata(dir.path().join(Ipv4Addr::FILE)).unwrap().len() as usize;
        loaded.journal.keep(&[lease(2, 20)], &none).unwrap();
        let whole = std::fs::read(dir.path().join(Ipv4Addr::FILE)).unwrap();
        for length in first..=whole.len() {
            std::fs::write(dir.path().join(Ipv4Addr::FILE), &whole[..length]).unwrap();
            let again = open(dir.path()).unwrap();
            let left = if length == whole.len() { 2 } else { 1 };
            assert_eq!(again.leases.len(), left, "{length}");
            assert_eq!(again.damaged.is_empty(), length == whole.len() || length == first);
            // A lease that is written now can be read later.
            let mut journal = again.journal;
            journal.keep(&[lease(3, 30)], &none).unwrap();
            assert_eq!(open(dir.path()).unwrap().leases.len(), left + 1);
        }
        assert!(!dir.path().join("leases.damaged").exists());
    }

    #[test]
    fn a_damaged_line_is_named_and_the_file_kept() {
        let dir = tempfile::tempdir().unwrap();
        let mut loaded = open(dir.path()).unwrap();
        loaded.journal.keep(&[lease(1, 10), lease(2, 20)], &none).unwrap();
        let text = std::fs::read_to_string(dir.path().join(Ipv4Addr::FILE)).unwrap();
        let damaged = text.replacen("192.0.2.1", "192.0.2.7", 1);
        std::fs::write(dir.path().join(Ipv4Addr::FILE), &damaged).unwrap();
        let again = open(dir.path()).unwrap();
        assert_eq!(again.leases, [lease(2, 20)]);
        assert_eq!(again.damaged, [(1, "its checksum is wrong".to_owned())]);
        assert_eq!(
            std::fs::read_to_string(dir.path().join("leases.damaged")).unwrap(),
            damaged
        );
    }

    #[test]
    fn the_file_stays_small() {
        let dir = tempfile::tempdir().unwrap();
        let mut loaded = open(dir.path()).unwrap();
        // Many changes in each call, so that the test does not wait for the disk thousands of times.
        for i in 0..40 {
            let changes: Vec<Lease> = (0..100).map(|j| lease(1, i * 100 + j)).collect();
            loaded.journal.keep(&changes, &|| vec![lease(1, i * 100 + 99)]).unwrap();
        }
        let lines = std::fs::read_to_string(dir.path().join(Ipv4Addr::FILE))
            .unwrap()
            .lines()
            .count();
        assert!(lines <= SLACK + 100, "{lines}");
        assert_eq!(open(dir.path()).unwrap().leases, [lease(1, 3999)]);
    }

    /// A full disk, for real: /dev/full accepts nothing.
    #[test]
    fn a_failed_write_is_an_error_and_the_next_one_writes_the_whole() {
        let dir = tempfile::tempdir().unwrap();
        let mut loaded = open(dir.path()).unwrap();
        loaded.journal.keep(&[lease(1, 10)], &none).unwrap();
        loaded.journal.file = Some(File::options().write(true).open("/dev/full").unwrap());
        let error = loaded.journal.keep(&[lease(2, 20)], &none).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
        assert_eq!(open(dir.path()).unwrap().leases, [lease(1, 10)]);
        let all = || vec![lease(1, 10), lease(3, 30)];
        loaded.journal.keep(&[lease(3, 30)], &all).unwrap();
        assert_eq!(open(dir.path()).unwrap().leases, all());
    }
}
