//! Where the inventory comes from, and how it is followed.
//!
//! It comes from a topology file (`fabricctl inventory export`) or from the controller. The last one that was read is
//! kept in the state directory, so that switches can boot while the controller is down, even after a restart of this
//! server.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use vfabric_api::client::{Client, Config};
use vfabric_api::topology::Topology;

use crate::board::{Board, now};
use crate::directory::Directory;
use crate::error::ProvisionError;

/// How often a file is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// How often the controller is asked. People add switches, so they come seldom.
const ASK_EVERY: Duration = Duration::from_secs(10);
/// How long the start waits for the inventory. If the controller is away, the stored copy is enough.
const FIRST: Duration = Duration::from_secs(5);
/// Name of the last inventory in the directory of state.
const KEPT: &str = "inventory.yaml";

/// Where the inventory comes from.
pub enum Source {
    /// A topology file.
    File(PathBuf),
    /// The controller's API.
    Controller(Box<Client>),
}

impl Source {
    /// As the command line names it: a topology file, or a client's settings file.
    ///
    /// # Errors
    /// The client's settings cannot be used.
    pub fn new(file: Option<&Path>, client: &Path) -> Result<Self, ProvisionError> {
        Ok(match file {
            Some(file) => Self::File(file.to_owned()),
            None => Self::Controller(Box::new(Config::client(client)?)),
        })
    }

    /// Reads it once.
    ///
    /// # Errors
    /// It cannot be read, or contradicts itself.
    pub async fn read(&self) -> Result<Topology, ProvisionError> {
        match self {
            Self::File(path) => {
                let text = std::fs::read_to_string(path).map_err(ProvisionError::file(path))?;
                Ok(Topology::from_yaml(&text)?)
            }
            Self::Controller(client) => Ok(client.inventory().await?.topology()),
        }
    }

    fn name(&self) -> String {
        match self {
            Self::File(path) => format!("file {}", path.display()),
            Self::Controller(_) => "the controller".into(),
        }
    }
}

/// The inventory, kept up to date.
pub struct Follower {
    source: Source,
    state: PathBuf,
    directory: Arc<ArcSwap<Directory>>,
    board: Arc<Board>,
    /// State of the file when it was last read.
    seen: Mutex<Option<Seen>>,
}

/// Distinguishes states of a file: inode, size, time of its last change.
type Seen = (u64, u64, i64, i64);

impl Follower {
    /// Reads the inventory, or its stored copy. If there is neither, the server starts nevertheless, without any
    /// switch.
    pub async fn start(source: Source, state: &Path, directory: Arc<ArcSwap<Directory>>, board: Arc<Board>) -> Self {
        let follower = Self {
            source,
            state: state.to_owned(),
            directory,
            board,
            seen: Mutex::default(),
        };
        if let Ok(text) = std::fs::read_to_string(follower.state.join(KEPT))
            && let Ok(kept) = Topology::from_yaml(&text)
        {
            follower.take(kept);
            let (what, name) = (follower.describe(), follower.source.name());
            follower
                .board
                .set_inventory(format!("{what}, as stored by an earlier run; {name} was not read yet"));
        }
        let _ = tokio::time::timeout(FIRST, follower.refresh()).await;
        follower
    }

    /// Follows it. Never returns.
    pub async fn follow(self) {
        let every = match self.source {
            Source::File(_) => LOOK_EVERY,
            Source::Controller(_) => ASK_EVERY,
        };
        loop {
            tokio::time::sleep(every).await;
            self.refresh().await;
        }
    }

    /// The state of the file; none of a controller.
    fn look(&self) -> Option<Seen> {
        let Source::File(path) = &self.source else { return None };
        let m = std::fs::metadata(path).ok()?;
        Some((m.ino(), m.size(), m.mtime(), m.mtime_nsec()))
    }

    fn describe(&self) -> String {
        let directory = self.directory.load();
        format!(
            "{} switches of fabric {}",
            directory.switches().len(),
            directory.fabric()
        )
    }

    fn seen(&self) -> MutexGuard<'_, Option<Seen>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, topology: Topology) {
        self.directory.store(Arc::new(Directory::new(topology)));
    }

    /// Reads it if it may have changed; false if it cannot be read.
    async fn refresh(&self) -> bool {
        let state = self.look();
        if state.is_some() && *self.seen() == state {
            return true;
        }
        let read = self.source.read().await;
        *self.seen() = state.filter(|_| read.is_ok());
        match read {
            Ok(topology) => {
                let is_new = self.directory.load().topology() != Some(&topology);
                if is_new {
                    self.keep(&topology);
                    self.take(topology);
                    tracing::info!(source = self.source.name(), "{}", self.describe());
                }
                self.board
                    .set_inventory(format!("{}, from {}", self.describe(), self.source.name()));
                true
            }
            Err(error) => {
                let mut why = error.to_string();
                let mut cause = std::error::Error::source(&error);
                while let Some(error) = cause {
                    why = format!("{why}: {error}");
                    cause = error.source();
                }
                let name = self.source.name();
                self.board
                    .set_inventory(format!("{}; {name} now cannot be read", self.describe()));
                self.board
                    .trouble(now(), &format!("the inventory is unchanged; {name}: {why}"));
                false
            }
        }
    }

    /// Stores a copy for the next start. If it cannot be written, only that start is affected.
    fn keep(&self, topology: &Topology) {
        let write = || -> std::io::Result<()> {
            let text = serde_saphyr::to_string(topology).map_err(std::io::Error::other)?;
            let (path, new) = (self.state.join(KEPT), self.state.join(format!("{KEPT}.new")));
            std::fs::write(&new, text)?;
            std::fs::File::open(&new)?.sync_all()?;
            std::fs::rename(new, path)
        };
        if let Err(error) = write() {
            self.board
                .trouble(now(), &format!("no copy of the inventory is kept: {error}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::directory::tests::TOPOLOGY;

    #[tokio::test]
    async fn a_file_is_followed_and_kept_for_a_start_without_it() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("topology.yaml");
        let (directory, board) = (
            Arc::new(ArcSwap::from_pointee(Directory::default())),
            Arc::<Board>::default(),
        );
        let start = async || {
            let source = Source::File(file.clone());
            Follower::start(source, dir.path(), Arc::clone(&directory), Arc::clone(&board)).await
        };
        let follower = start().await;
        assert!(directory.load().switches().is_empty());
        std::fs::write(&file, TOPOLOGY).unwrap();
        assert!(follower.refresh().await);
        assert_eq!(directory.load().switches().len(), 5);
        // A file that contradicts itself changes nothing.
        std::fs::write(&file, TOPOLOGY.replace("AF40", "AF39")).unwrap();
        assert!(!follower.refresh().await);
        assert_eq!(directory.load().switches().len(), 5);
        let status = board.status(now());
        assert!(
            status.inventory.contains("5 switches of fabric lab; file "),
            "{}",
            status.inventory
        );
        assert!(
            status.troubles.iter().any(|t| t.detail.contains("switches[1].serial")),
            "{:?}",
            status.troubles
        );
        // A restart without the file.
        directory.store(Arc::new(Directory::default()));
        std::fs::remove_file(&file).unwrap();
        start().await;
        assert_eq!(directory.load().switches().len(), 5);
        let inventory = board.status(now()).inventory;
        assert!(
            inventory.contains("5 switches") && inventory.contains("cannot be read"),
            "{inventory}"
        );
    }
}
