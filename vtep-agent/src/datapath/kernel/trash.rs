//! Links that are out of use, and the thread that deletes them.
//!
//! **Problem.** The kernel takes some 20 ms to delete a link, and configures nothing else for a part of that. A caller
//! that detaches a workload need not wait for it: it only matters that the link carries no frames any more and that its
//! names are free.
//!
//! **Model.** A link is out of use once it carries [`link::TRASH_GROUP`], is down, in no bridge, and has a name of its own
//! ([`link::retire`], one request). The workload's end is treated alike in its namespace. The thread gathers such links
//! for [`GATHER`] and deletes them in parts of [`PART`]: a part takes little longer than a single link.
//!
//! **After a crash.** The kernel itself is the journal: links in the group are found by the first comparison of the next
//! start, and are deleted then.

use std::collections::VecDeque;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use super::link;
use super::netlink::Netlink;
use super::overlay::Overlay;
use crate::error::{AgentError, NetlinkError};

/// How long links are gathered before a part is deleted: pods often end together, and links that have just been put out
/// of use are deleted while others are not configured.
const GATHER: Duration = Duration::from_millis(100);
/// Links that are deleted in one request: some tens of milliseconds, for which requests of others may have to wait.
const PART: usize = 64;
/// Parts that wait for the thread. One that finds no place is deleted after the next comparison of everything.
const QUEUE: usize = 1024;

/// Takes links that are out of use.
pub(super) struct Trash {
    links: mpsc::SyncSender<Vec<u32>>,
}

impl Trash {
    /// Starts the thread, which ends when this value is dropped.
    pub(super) fn open(overlay: &Overlay) -> Result<Self, AgentError> {
        let fail = |e| NetlinkError::io("start the thread that deletes links", &e);
        let netlink = overlay.netns().within(Netlink::open).map_err(fail)??;
        let (links, queue) = mpsc::sync_channel(QUEUE);
        thread::Builder::new()
            .name("trash".into())
            .spawn(move || run(netlink, &queue))
            .map_err(fail)?;
        Ok(Self { links })
    }

    /// Has links deleted, by index. One that does not carry the group any more is left alone.
    pub(super) fn put(&self, links: Vec<u32>) {
        if !links.is_empty() && self.links.try_send(links).is_err() {
            tracing::warn!("many links wait for deletion: some are deleted later");
        }
    }
}

fn run(mut netlink: Netlink, queue: &mpsc::Receiver<Vec<u32>>) {
    while let Ok(first) = queue.recv() {
        thread::sleep(GATHER);
        let mut links = VecDeque::from(first);
        links.extend(queue.try_iter().flatten());
        while !links.is_empty() {
            let part = links.drain(..links.len().min(PART)).collect();
            if let Err(error) = delete(&mut netlink, part) {
                tracing::warn!(%error, "links that are out of use are deleted later");
            }
        }
    }
}

/// Deletes those of these links that are still out of use. Indices of links that are gone may be used again.
fn delete(netlink: &mut Netlink, links: Vec<u32>) -> Result<(), NetlinkError> {
    let mut out_of_use = Vec::with_capacity(links.len());
    for index in links {
        let found = link::get_by_index(netlink, index)?;
        out_of_use.extend(found.filter(|l| l.is_out_of_use()).map(|l| (l.index, l.name)));
    }
    super::discard(netlink, out_of_use)
}
