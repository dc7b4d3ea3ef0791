//! Work inside other network namespaces.
//!
//! `setns(2)` changes one thread only. A thread of its own does nothing else: it enters the
//! namespace asked for, does the work, and never needs to find its way home, because the
//! next job says where it belongs. A netlink socket that it opens stays in the namespace in
//! which it was opened.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::mpsc;
use std::thread;

use nix::sched::{CloneFlags, setns};

use crate::error::NetlinkError;

/// Where `ip netns` keeps its named namespaces.
const NETNS_DIRECTORY: &str = "/run/netns";

type Job = Box<dyn FnOnce() + Send>;

/// The thread.
pub(super) struct NetnsThread {
    jobs: mpsc::SyncSender<Job>,
}

/// The file of a network namespace: a name under `/run/netns`, or an absolute path.
pub(super) fn path(netns: &str) -> PathBuf {
    if netns.starts_with('/') {
        PathBuf::from(netns)
    } else {
        PathBuf::from(NETNS_DIRECTORY).join(netns)
    }
}

/// Opens a network namespace; `None` when it does not exist (yet).
pub(super) fn open(netns: &str) -> Result<Option<File>, NetlinkError> {
    match File::open(path(netns)) {
        Ok(file) => Ok(is_namespace(&file).then_some(file)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(NetlinkError::io(format!("open netns {netns}"), &e)),
    }
}

/// False for the plain file that `ip netns add` makes first and mounts the namespace upon.
fn is_namespace(file: &File) -> bool {
    /// Magic of nsfs (linux/magic.h).
    const NSFS_MAGIC: nix::sys::statfs::FsType = nix::sys::statfs::FsType(0x6e73_6673);
    nix::sys::statfs::fstatfs(file).is_ok_and(|s| s.filesystem_type() == NSFS_MAGIC)
}

impl NetnsThread {
    /// Starts the thread.
    pub(super) fn start() -> io::Result<Self> {
        // One job at a time: whoever hands one over waits for it.
        let (jobs, queue) = mpsc::sync_channel::<Job>(1);
        thread::Builder::new()
            .name("netns".into())
            .spawn(move || queue.into_iter().for_each(|job| job()))?;
        Ok(Self { jobs })
    }

    /// Runs `work` inside the namespace and gives its result.
    pub(super) fn run<T, F>(&self, namespace: &File, what: &str, work: F) -> Result<T, NetlinkError>
    where
        T: Send + 'static,
        F: FnOnce() -> Result<T, NetlinkError> + Send + 'static,
    {
        let fail = |e: io::Error| NetlinkError::io(format!("enter the namespace of {what}"), &e);
        let namespace = namespace.try_clone().map_err(fail)?;
        let (answer, result) = mpsc::sync_channel(1);
        let job: Job = Box::new(move || {
            let entered = setns(&namespace, CloneFlags::CLONE_NEWNET).map_err(io::Error::from);
            let _ = answer.send(entered.map(|()| work()));
        });
        let gone = || io::Error::other("the thread has ended");
        self.jobs.send(job).map_err(|_| fail(gone()))?;
        result.recv().map_err(|_| fail(gone()))?.map_err(fail)?
    }
}
