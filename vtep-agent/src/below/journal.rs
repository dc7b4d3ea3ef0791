//! The attachments that this host has requested: one file for each interface, written as a whole or not at all.
//!
//! | state | the interface | after a restart |
//! | --- | --- | --- |
//! | adding | is being requested; ADD has not returned | is removed |
//! | held | ADD has succeeded, or is about to return | stays as long as its namespace |
//! | leaving | is being removed | is removed |
//!
//! For an interface that is leaving, only the name of its file changes. So only the directory has to become durable,
//! and DEL waits for the disk once. The removal of the file need not be durable, because removing an interface a second
//! time does nothing.
//!
//! A held interface may be moving into another network (`back` is set). Until that has ended, the caller has no reply
//! about the new network, so after a crash the interface goes back.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use vfabric_cni::protocol::{Slot, Wish};

use crate::error::AgentError;

/// The state of an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum State {
    Adding,
    Held,
    Leaving,
}

/// One interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Entry {
    pub(super) slot: Slot,
    pub(super) wish: Wish,
    pub(super) state: State,
    /// While a swap is under way: the old network of the interface, with its MAC address and IP addresses
    /// there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) back: Option<Wish>,
}

impl Entry {
    /// An interface that is not moving into another network.
    pub(super) fn new(slot: Slot, wish: Wish, state: State) -> Self {
        let back = None;
        Self {
            slot,
            wish,
            state,
            back,
        }
    }

    /// Whether there is unfinished work for it.
    pub(super) fn is_unfinished(&self) -> bool {
        self.state == State::Leaving || self.back.is_some()
    }
}

/// All of them.
pub(super) struct Journal {
    folder: PathBuf,
    entries: Mutex<BTreeMap<Slot, Entry>>,
}

/// Extension of an interface's file.
const KEPT: &str = "json";
/// Extension of the file of an interface that is leaving, whatever state the file names.
const LEAVING: &str = "leaving";
/// The ending of a file that could not be read; it is kept for people to look at.
const DAMAGED: &str = "damaged";

fn unknown(path: PathBuf) -> AgentError {
    let why = "this version does not know such files; start the version that wrote it, or move the file away";
    let source = io::Error::new(io::ErrorKind::InvalidData, why);
    AgentError::File { path, source }
}

/// A file name for a text with any characters.
pub(super) fn digest(parts: [&str; 2]) -> String {
    let text = parts.join("\0");
    let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
    digest.as_ref().iter().take(16).map(|b| format!("{b:02x}")).collect()
}

impl Journal {
    /// Reads the journal in a folder, and creates the folder if it does not exist. A file that cannot be read is moved aside; one
    /// that was not written completely is removed. A file of a kind that this version does not know is an error: a newer version
    /// may have written it.
    pub(super) fn open(folder: &Path) -> Result<Self, AgentError> {
        let fail = |source| AgentError::File {
            path: folder.to_owned(),
            source,
        };
        fs::create_dir_all(folder).map_err(fail)?;
        let mut entries = BTreeMap::new();
        for file in fs::read_dir(folder).map_err(fail)? {
            let path = file.map_err(fail)?.path();
            let is_leaving = match path.extension().and_then(|e| e.to_str()) {
                Some(KEPT) => false,
                Some(LEAVING) => true,
                Some("new") => {
                    // A crash interrupted the writing, so nothing of this entry has happened.
                    fs::remove_file(&path).map_err(fail)?;
                    continue;
                }
                Some(DAMAGED) => continue,
                // The file may say what should become of an interface, so nothing is done without it.
                _ => return Err(unknown(path)),
            };
            let read = fs::read(&path).map_err(fail)?;
            match serde_json::from_slice::<Entry>(&read) {
                // Both files exist after a crash within a later ADD: that ADD's interface is removed as
                // well.
                Ok(mut entry) if is_leaving => {
                    entry.state = State::Leaving;
                    entries.insert(entry.slot.clone(), entry);
                }
                Ok(entry) => drop(entries.entry(entry.slot.clone()).or_insert(entry)),
                Err(error) => {
                    tracing::error!(file = %path.display(), %error, "a damaged file of the journal is moved aside");
                    fs::rename(&path, path.with_extension(DAMAGED)).map_err(fail)?;
                }
            }
        }
        Ok(Self {
            folder: folder.to_owned(),
            entries: Mutex::new(entries),
        })
    }

    fn locked(&self) -> MutexGuard<'_, BTreeMap<Slot, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn get(&self, slot: &Slot) -> Option<Entry> {
        self.locked().get(slot).cloned()
    }

    pub(super) fn all(&self) -> Vec<Entry> {
        self.locked().values().cloned().collect()
    }

    /// Other interfaces of the same container.
    pub(super) fn others(&self, slot: &Slot) -> Vec<Entry> {
        let from = Slot {
            container: slot.container.clone(),
            interface: String::new(),
        };
        let entries = self.locked();
        let of_container = entries.range(from..).take_while(|(s, _)| s.container == slot.container);
        of_container
            .filter(|(s, _)| *s != slot)
            .map(|(_, e)| e.clone())
            .collect()
    }

    fn path(&self, slot: &Slot) -> PathBuf {
        self.folder
            .join(format!("{}.{KEPT}", digest([&slot.container, &slot.interface])))
    }

    /// Whether an entry is the same as the existing one, but leaving.
    fn only_leaves(&self, entry: &Entry) -> bool {
        let kept = self.get(&entry.slot).filter(|kept| kept.state != State::Leaving);
        let leaving = kept.map(|kept| Entry {
            state: State::Leaving,
            ..kept
        });
        leaving.as_ref() == Some(entry)
    }

    /// Makes an entry durable. Call it for one interface at a time.
    pub(super) fn put(&self, entry: Entry) -> Result<(), AgentError> {
        let path = self.path(&entry.slot);
        let only_leaves = self.only_leaves(&entry);
        let write = || -> io::Result<()> {
            if only_leaves {
                fs::rename(&path, path.with_extension(LEAVING))?;
                return File::open(&self.folder)?.sync_all();
            }
            let new = path.with_extension("new");
            let mut file = File::create(&new)?;
            file.write_all(&serde_json::to_vec(&entry)?)?;
            file.sync_data()?;
            fs::rename(&new, &path)?;
            remove_file(&path.with_extension(LEAVING))?;
            File::open(&self.folder)?.sync_all()
        };
        write().map_err(|source| AgentError::File {
            path: path.clone(),
            source,
        })?;
        self.locked().insert(entry.slot.clone(), entry);
        Ok(())
    }

    /// Forgets an interface that is leaving. After a crash of the host it may be there again, leaving.
    pub(super) fn remove(&self, slot: &Slot) -> Result<(), AgentError> {
        let path = self.path(slot);
        for path in [path.clone(), path.with_extension(LEAVING)] {
            remove_file(&path).map_err(|source| AgentError::File { path, source })?;
        }
        self.locked().remove(slot);
        Ok(())
    }
}

/// Removes a file that may be gone.
fn remove_file(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(container: &str, interface: &str, state: State) -> Entry {
        let slot = Slot {
            container: container.into(),
            interface: interface.into(),
        };
        let wish = Wish {
            cni_network: "n".into(),
            vdc: "v".into(),
            network: "red".into(),
            mac: None,
            ips: Vec::new(),
            workload: None,
        };
        Entry::new(slot, wish, state)
    }

    #[test]
    fn what_leaves_is_leaving_after_a_restart_until_it_is_removed_or_added_again() {
        let folder = tempfile::tempdir().unwrap();
        let (held, adding) = (entry("a", "eth0", State::Held), entry("a", "eth0", State::Adding));
        let leaving = entry("a", "eth0", State::Leaving);
        let again = || Journal::open(folder.path()).unwrap();
        again().put(held.clone()).unwrap();
        let journal = again();
        journal.put(leaving.clone()).unwrap();
        assert_eq!(journal.get(&held.slot), Some(leaving.clone()));
        assert_eq!(again().all(), std::slice::from_ref(&leaving));
        // Again, and after a crash between the two files of an ADD that followed.
        again().put(leaving.clone()).unwrap();
        assert_eq!(again().all(), std::slice::from_ref(&leaving));
        let left = std::fs::read_dir(folder.path())
            .unwrap()
            .next()
            .unwrap()
            .unwrap()
            .path();
        let copy = std::fs::read(&left).unwrap();
        again().put(adding.clone()).unwrap();
        assert_eq!(again().all(), std::slice::from_ref(&adding));
        std::fs::write(left.with_extension(LEAVING), copy).unwrap();
        assert_eq!(again().all(), std::slice::from_ref(&leaving));
        again().put(held.clone()).unwrap();
        assert_eq!(again().all(), std::slice::from_ref(&held));
        again().remove(&held.slot).unwrap();
        again().put(leaving).unwrap();
        again().remove(&held.slot).unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    /// A version that does not know all kinds of files must not start. For example, it would leave interfaces that
    /// should be removed.
    #[test]
    fn a_file_of_a_newer_version_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let held = entry("a", "eth0", State::Held);
        Journal::open(folder.path()).unwrap().put(held.clone()).unwrap();
        for name in ["0123.moving", "0123"] {
            let file = folder.path().join(name);
            fs::write(&file, b"{}").unwrap();
            let refused = Journal::open(folder.path()).err().unwrap().to_string();
            assert!(refused.contains(name), "{refused}");
            assert!(file.exists());
            fs::remove_file(&file).unwrap();
        }
        // Files that were moved aside stay, and do not stop the agent.
        fs::write(folder.path().join("0123.damaged"), b"{").unwrap();
        assert_eq!(Journal::open(folder.path()).unwrap().all(), [held]);
    }

    #[test]
    fn what_was_written_is_there_after_a_restart_and_damage_stops_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::open(folder.path()).unwrap();
        let (a, b) = (entry("a", "eth0", State::Held), entry("a", "net1", State::Adding));
        journal.put(a.clone()).unwrap();
        assert_eq!(journal.others(&a.slot), []);
        journal.put(b.clone()).unwrap();
        journal.put(entry("ab", "eth0", State::Held)).unwrap();
        assert_eq!(journal.others(&a.slot), std::slice::from_ref(&b));
        journal.remove(&entry("ab", "eth0", State::Held).slot).unwrap();
        // A crash while writing, and a damaged disk.
        fs::write(folder.path().join("x.new"), b"{").unwrap();
        fs::write(folder.path().join("y.json"), b"{").unwrap();
        let again = Journal::open(folder.path()).unwrap();
        assert_eq!(again.all(), [a.clone(), b.clone()]);
        assert!(folder.path().join("y.damaged").exists() && !folder.path().join("x.new").exists());
        // An entry of an earlier version has no `back`; the entry of a move keeps it.
        let moving = Entry {
            back: Some(a.wish.clone()),
            ..a
        };
        assert!(!serde_json::to_string(&b).unwrap().contains("back"));
        again.put(moving.clone()).unwrap();
        assert_eq!(Journal::open(folder.path()).unwrap().all(), [moving, b]);
    }
}
