//! Links that are out of use, and the thread that deletes them.
//!
//! **Problem.** The kernel takes some 20 ms to delete a link, and configures nothing else for a part of that. A caller
//! that detaches a workload need not wait for it: it only matters that the link carries no frames any more and that its
//! names are free.
//!
//! **Model.** A link is out of use once it carries [`link::TRASH_GROUP`] and is down; an interface also has a name of its own and is in no
//! bridge ([`link::retire`], [`link::retire_segment`], one request each). The workload's end is treated alike in its
//! namespace. The thread gathers such links for [`GATHER`] and deletes them:
//!
//! | links | deleted |
//! | --- | --- |
//! | interfaces | soon, in parts of [`PART`]: a part takes little longer than a single link |
//! | the links of a network | little by little, when nobody configures anything ([`pace`](super::pace)). For each bridge the kernel waits for a full RCU grace period with its configuration locked, even if many are deleted in one request |
//!
//! **After a crash.** The kernel itself is the journal: links in the group are found by the first comparison of the next
//! start, and are deleted then.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use netlink_packet_route::link::InfoKind;

use super::link::{self, Link};
use super::netlink::Netlink;
use super::overlay::Overlay;
use super::pace::{Activity, Hold, Pace};
use crate::error::{AgentError, NetlinkError};

/// How long links are gathered before a part is deleted: pods often end together, and links that have just been put out
/// of use are deleted while others are not configured.
const GATHER: Duration = Duration::from_millis(100);
/// Links that are deleted in one request: some tens of milliseconds, for which requests of others may have to wait.
const PART: usize = 64;
/// VXLAN devices and links for unknown stations that are deleted in one request: together they take less than one bridge.
const VXLAN_PART: usize = 8;
/// Parts that wait for the thread. One that finds no place is deleted after the next comparison of everything.
const QUEUE: usize = 1024;

/// Takes links that are out of use.
pub(super) struct Trash {
    links: mpsc::SyncSender<Vec<u32>>,
    activity: Arc<Activity>,
}

impl Trash {
    /// Starts the thread, which ends when this value is dropped.
    pub(super) fn open(overlay: &Overlay) -> Result<Self, AgentError> {
        let fail = |e| NetlinkError::io("start the thread that deletes links", &e);
        let netlink = overlay.netns().within(Netlink::open).map_err(fail)??;
        let (links, queue) = mpsc::sync_channel(QUEUE);
        let activity = Arc::new(Activity::new(Instant::now()));
        let mut collector = Collector {
            netlink,
            activity: Arc::clone(&activity),
            slow: Slow::default(),
        };
        thread::Builder::new()
            .name("trash".into())
            .spawn(move || collector.run(&queue))
            .map_err(fail)?;
        Ok(Self { links, activity })
    }

    /// Has links deleted, by index. One that does not carry the group any more is left alone.
    pub(super) fn put(&self, links: Vec<u32>) {
        if !links.is_empty() && self.links.try_send(links).is_err() {
            tracing::warn!("many links wait for deletion: some are deleted later");
        }
    }

    /// Bridges and VXLAN devices are not deleted while the value lives, and for a moment after.
    pub(super) fn hold(&self) -> Hold {
        Activity::hold(&self.activity)
    }
}

/// Links of networks that wait, by index; each is there once, however often it is found.
#[derive(Default)]
struct Slow {
    /// VXLAN devices and links for unknown stations.
    vxlans: BTreeSet<u32>,
    bridges: BTreeSet<u32>,
}

impl Slow {
    fn len(&self) -> usize {
        self.vxlans.len().div_ceil(VXLAN_PART) + self.bridges.len()
    }

    /// What is deleted next. VXLAN devices come first: a new network with the same VNI has to delete its old one by itself.
    fn next(&mut self) -> Vec<u32> {
        let part = match self.vxlans.is_empty() {
            true => self.bridges.iter().take(1).copied().collect::<Vec<_>>(),
            false => self.vxlans.iter().take(VXLAN_PART).copied().collect(),
        };
        for index in &part {
            self.vxlans.remove(index);
            self.bridges.remove(index);
        }
        part
    }
}

struct Collector {
    netlink: Netlink,
    activity: Arc<Activity>,
    slow: Slow,
}

impl Collector {
    fn run(&mut self, queue: &mpsc::Receiver<Vec<u32>>) {
        let mut pace = Pace::new(Instant::now());
        loop {
            let received = match self.slow.len() {
                0 => queue.recv().map_err(|_| RecvTimeoutError::Disconnected),
                waiting => queue.recv_timeout(pace.pause(Instant::now(), &self.activity, waiting)),
            };
            match received {
                Ok(first) => {
                    thread::sleep(GATHER);
                    let links = first.into_iter().chain(queue.try_iter().flatten()).collect();
                    self.sort(links);
                }
                Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => {
                    let started = Instant::now();
                    if pace.pause(started, &self.activity, self.slow.len()).is_zero() {
                        let part = self.slow.next();
                        self.delete(part);
                        pace.spent(started, Instant::now());
                    }
                }
            }
        }
    }

    /// Deletes interfaces; bridges and VXLAN devices wait for their time.
    fn sort(&mut self, links: BTreeSet<u32>) {
        let mut soon = VecDeque::with_capacity(links.len());
        for index in links {
            match link::get_by_index(&mut self.netlink, index) {
                Ok(Some(found)) if found.is_out_of_use() => match found.kind {
                    Some(InfoKind::Bridge) => drop(self.slow.bridges.insert(index)),
                    Some(InfoKind::Vxlan | InfoKind::Ifb) => drop(self.slow.vxlans.insert(index)),
                    _ => soon.push_back(index),
                },
                Ok(_) => {}
                Err(error) => later(&error),
            }
        }
        while !soon.is_empty() {
            let part = soon.drain(..soon.len().min(PART)).collect();
            self.delete(part);
        }
    }

    /// Deletes those of these links that are still out of use. Indices of links that are gone may be used again.
    fn delete(&mut self, links: Vec<u32>) {
        let netlink = &mut self.netlink;
        let found = |index| link::get_by_index(netlink, index);
        let deleted = links
            .into_iter()
            .map(found)
            .collect::<Result<Vec<Option<Link>>, _>>()
            .and_then(|found| {
                let out_of_use = found.into_iter().flatten().filter(Link::is_out_of_use);
                let out_of_use = out_of_use.map(|l| (l.index, l.name)).collect();
                super::discard(&mut self.netlink, out_of_use)
            });
        if let Err(error) = deleted {
            later(&error);
        }
    }
}

/// The next comparison of everything finds what is left.
fn later(error: &NetlinkError) {
    tracing::warn!(%error, "links that are out of use are deleted later");
}
