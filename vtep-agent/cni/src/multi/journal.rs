//! The input of delegates: one file for each sandbox, written as a whole or not at all, and a lock beside it.
//!
//! | state of an attachment | means | what follows |
//! | --- | --- | --- |
//! | adding | its plugins may have run, and ADD has not returned yet | DEL, unless the process that adds it still has the lock |
//! | held | it exists, with its result | DEL when the sandbox ends or the pod no longer selects it |
//! | leaving | its DEL has not succeeded yet | DEL again |

use std::fs::{self, File};
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, FdFlag, Flock, FlockArg, fcntl};
use serde::{Deserialize, Serialize};

use super::network::Call;
use super::routes::Route;
use crate::error::Error;
use crate::protocol::Slot;

/// Longest wait for plugins that outlive the process that started them. They end when their work is done, but one that
/// leaves a daemon behind must not block everything else.
const ORPHANS: Duration = Duration::from_secs(10);
/// Pause between two checks of them.
const ORPHANS_LOOK: Duration = Duration::from_millis(5);

/// The state of an attachment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Being added.
    Adding,
    /// In place.
    Held,
    /// Being removed.
    Leaving,
}

/// One interface of a sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    /// The network's name in the status: `namespace/name` of the definition, or the name of the CNI network.
    pub network: String,
    /// Name of the CNI network.
    pub cni_network: String,
    /// Name of the interface.
    pub interface: String,
    /// Whether the name was made here and not requested.
    pub generated: bool,
    /// Whether it is the default network.
    pub default: bool,
    /// Its plugins, in the order of ADD.
    pub calls: Vec<Call>,
    /// The file in which a plugin may describe the device.
    pub device_info: Option<PathBuf>,
    /// Gateways, when it gets the default route.
    pub default_route: Option<Vec<IpAddr>>,
    /// Default routes of others that it has replaced.
    pub displaced: Vec<Route>,
    /// Its state.
    pub state: State,
    /// The result of ADD, octet for octet.
    pub result: Option<String>,
}

/// The pod of a sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodRef {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its UID, if the runtime knows it.
    pub uid: Option<String>,
}

/// A sandbox: one container and its interfaces, the default network's first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sandbox {
    /// The runtime's id, and the interface that it asked for.
    pub slot: Slot,
    /// Name of the meta plugin's CNI network.
    pub cni_network: String,
    /// The pod.
    pub pod: PodRef,
    /// Path of the network namespace.
    pub netns: String,
    /// The identity of that namespace: device and inode of its file.
    pub netns_id: (u64, u64),
    /// The run of the kernel in which it existed.
    pub boot_id: String,
    /// `CNI_ARGS` of ADD.
    pub args: String,
    /// `CNI_PATH` of ADD.
    pub path: String,
    /// Its interfaces.
    pub attachments: Vec<Attachment>,
}

/// The identity of the namespace that a path leads to now.
pub fn netns_id(path: &str) -> Option<(u64, u64)> {
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino()))
}

/// The run of the kernel.
pub fn boot_id() -> String {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    id.trim().to_owned()
}

impl Sandbox {
    /// The path of its network namespace; empty if it is gone, or if the path leads to another one.
    pub fn netns(&self) -> &str {
        let there = self.boot_id == boot_id() && netns_id(&self.netns) == Some(self.netns_id);
        if there { &self.netns } else { "" }
    }

    /// True when nothing is under way and nothing is left to undo.
    pub fn is_whole(&self) -> bool {
        self.attachments.iter().all(|a| a.state == State::Held)
    }
}

/// The folder of the journal.
#[derive(Debug, Clone)]
pub struct Journal {
    folder: PathBuf,
    inherited: bool,
}

/// The right to work on one sandbox. It ends when the value is dropped, or when the process ends.
///
/// A runtime that times out kills the meta plugin but not its delegates: they would go on and add interfaces that the
/// next DEL has just removed. So there is a second lock, which the delegates inherit; the next call waits until they
/// have ended.
#[derive(Debug)]
pub struct Turn {
    path: PathBuf,
    lock: Flock<File>,
    delegates: Option<Flock<File>>,
}

impl Journal {
    /// The journal in a folder. The folder is created if it does not exist; only its owner can read it, because
    /// configurations of delegates may contain secrets.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn open(folder: &Path) -> Result<Self, Error> {
        let wrong = |e: io::Error| Error::io(format!("stateDir: {}: {}", folder.display(), e.kind()));
        let private = fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
        private.map_err(wrong)?;
        Ok(Self {
            folder: folder.to_owned(),
            inherited: false,
        })
    }

    /// The journal of a process that works on one sandbox: its delegates hold the second lock after its death. In
    /// a process with several workers this would not work: delegates of one worker would also hold the locks of
    /// the others.
    #[must_use]
    pub fn inherited(self) -> Self {
        Self {
            inherited: true,
            ..self
        }
    }

    /// The lock that delegates inherit; none if somebody still has it after a while.
    fn delegates(&self, path: &Path) -> io::Result<Option<Flock<File>>> {
        let end = Instant::now() + ORPHANS;
        let mut file = File::options().create(true).truncate(false).write(true).open(path)?;
        loop {
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(lock) => {
                    if self.inherited {
                        fcntl(&*lock, FcntlArg::F_SETFD(FdFlag::empty()))?;
                    }
                    return Ok(Some(lock));
                }
                Err((_, nix::errno::Errno::EWOULDBLOCK)) if Instant::now() >= end => return Ok(None),
                Err((again, nix::errno::Errno::EWOULDBLOCK)) => file = again,
                Err((_, e)) => return Err(e.into()),
            }
            thread::sleep(ORPHANS_LOOK);
        }
    }

    fn path(&self, slot: &Slot, extension: &str) -> PathBuf {
        let text = [slot.container.as_str(), &slot.interface].join("\0");
        let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
        let name: String = digest.as_ref().iter().take(16).map(|b| format!("{b:02x}")).collect();
        self.folder.join(format!("{name}.{extension}"))
    }

    fn wrong(path: &Path, error: &io::Error) -> Error {
        Error::io(format!("journal: {}: {}", path.display(), error.kind()))
    }

    /// Waits for the right to work on a sandbox. If `at_once` is set and somebody has it, returns none.
    ///
    /// # Errors
    /// When the lock cannot be made.
    pub fn turn(&self, slot: &Slot, at_once: bool) -> Result<Option<Turn>, Error> {
        let path = self.path(slot, "lock");
        let wrong = |e: &io::Error| Self::wrong(&path, e);
        loop {
            let open = File::options().create(true).truncate(false).write(true).open(&path);
            let kind = if at_once {
                FlockArg::LockExclusiveNonblock
            } else {
                FlockArg::LockExclusive
            };
            let lock = match Flock::lock(open.map_err(|e| wrong(&e))?, kind) {
                Ok(lock) => lock,
                Err((_, nix::errno::Errno::EWOULDBLOCK)) => return Ok(None),
                Err((_, nix::errno::Errno::EINTR)) => continue,
                Err((_, e)) => return Err(wrong(&e.into())),
            };
            // The previous holder may have removed the file for which we waited.
            let held = lock.metadata().map_err(|e| wrong(&e))?;
            let is_current = fs::metadata(&path).is_ok_and(|m| (m.dev(), m.ino()) == (held.dev(), held.ino()));
            if is_current {
                let delegates = self
                    .delegates(&path.with_extension("delegates"))
                    .map_err(|e| wrong(&e))?;
                return Ok(Some(Turn { path, lock, delegates }));
            }
        }
    }

    /// The sandbox, if it exists.
    ///
    /// # Errors
    /// When its file is damaged: then its attachments cannot be removed, and that must not be ignored.
    pub fn get(&self, slot: &Slot) -> Result<Option<Sandbox>, Error> {
        let path = self.path(slot, "json");
        match fs::read(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(Self::wrong(&path, &e)),
            Ok(text) => match serde_json::from_slice(&text) {
                Ok(sandbox) => Ok(Some(sandbox)),
                Err(e) => Err(Error::io(format!("journal: {}: {e}", path.display()))),
            },
        }
    }

    /// All sandboxes that can be read.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn all(&self) -> Result<Vec<Sandbox>, Error> {
        let wrong = |e: io::Error| Self::wrong(&self.folder, &e);
        let mut all = Vec::new();
        for file in fs::read_dir(&self.folder).map_err(wrong)? {
            let path = file.map_err(wrong)?.path();
            if path.extension().is_some_and(|e| e == "json") {
                let read = fs::read(&path).ok();
                all.extend(read.and_then(|t| serde_json::from_slice::<Sandbox>(&t).ok()));
            }
        }
        Ok(all)
    }

    /// Makes the state of a sandbox durable.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn put(&self, _turn: &Turn, sandbox: &Sandbox) -> Result<(), Error> {
        let path = self.path(&sandbox.slot, "json");
        let write = || -> io::Result<()> {
            let new = path.with_extension("new");
            let mut file = File::create(&new)?;
            file.write_all(&serde_json::to_vec(sandbox)?)?;
            file.sync_data()?;
            fs::rename(&new, &path)?;
            File::open(&self.folder)?.sync_all()
        };
        write().map_err(|e| Self::wrong(&path, &e))
    }

    /// Forgets a sandbox, durably.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn remove(&self, _turn: &Turn, slot: &Slot) -> Result<(), Error> {
        let path = self.path(slot, "json");
        let remove = || match fs::remove_file(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(e) => Err(e),
            Ok(()) => File::open(&self.folder)?.sync_all(),
        };
        remove().map_err(|e| Self::wrong(&path, &e))
    }
}

impl Turn {
    /// Ends the work and removes the lock's file, because the sandbox is gone.
    pub fn end(self) {
        for path in [&self.path.with_extension("delegates"), &self.path] {
            let _ = fs::remove_file(path);
        }
        drop((self.delegates, self.lock));
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn sandbox(container: &str) -> Sandbox {
        Sandbox {
            slot: Slot {
                container: container.into(),
                interface: "eth0".into(),
            },
            cni_network: "multi".into(),
            pod: PodRef {
                namespace: "blue".into(),
                name: "web".into(),
                uid: None,
            },
            netns: "/proc/self/ns/net".into(),
            netns_id: netns_id("/proc/self/ns/net").unwrap(),
            boot_id: boot_id(),
            args: String::new(),
            path: String::new(),
            attachments: Vec::new(),
        }
    }

    pub(crate) fn attachment(name: &str, interface: &str) -> Attachment {
        Attachment {
            network: format!("blue/{name}"),
            cni_network: name.into(),
            interface: interface.into(),
            generated: true,
            default: false,
            calls: Vec::new(),
            device_info: None,
            default_route: None,
            displaced: Vec::new(),
            state: State::Held,
            result: None,
        }
    }

    #[test]
    fn a_sandbox_is_kept_octet_for_octet_and_worked_on_by_one_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::open(&folder.path().join("state")).unwrap();
        assert_eq!(fs::metadata(folder.path().join("state")).unwrap().mode() & 0o777, 0o700);
        let mut one = sandbox("c1");
        one.attachments.push(Attachment {
            calls: vec![Call {
                kind: "x".into(),
                config: "{ \"n\": 1.50e3,\t\"ü\":\"\\u00e9\" }\n".into(),
            }],
            state: State::Adding,
            result: Some("{ }\n".into()),
            ..attachment("a", "net1")
        });
        let turn = journal.turn(&one.slot, false).unwrap().unwrap();
        assert!(journal.turn(&one.slot, true).unwrap().is_none());
        assert!(journal.turn(&sandbox("c2").slot, true).unwrap().is_some());
        journal.put(&turn, &one).unwrap();
        assert_eq!(journal.get(&one.slot).unwrap().as_ref(), Some(&one));
        assert_eq!(journal.all().unwrap(), std::slice::from_ref(&one));
        assert!(!one.is_whole());
        assert_eq!(one.netns(), "/proc/self/ns/net");
        let other = Sandbox {
            boot_id: "other".into(),
            ..one.clone()
        };
        assert_eq!(other.netns(), "");
        // A waiter for a lock whose file is removed waits for the new file.
        let (again, slot) = (journal.clone(), one.slot.clone());
        let waiting = std::thread::spawn(move || again.turn(&slot, false).unwrap().is_some());
        journal.remove(&turn, &one.slot).unwrap();
        journal.remove(&turn, &one.slot).unwrap();
        turn.end();
        assert!(waiting.join().unwrap());
        assert_eq!(journal.get(&one.slot), Ok(None));
        fs::write(journal.path(&one.slot, "json"), "{").unwrap();
        assert!(journal.get(&one.slot).is_err());
    }
}
