//! Links in the host's own namespace, where earlier versions of the agent had all of theirs.
//!
//! The host's ends of workloads' interfaces move into the overlay, so that workloads keep
//! their interfaces with all that is on them; the comparison that follows puts them into new
//! bridges. Bridges cannot be moved, and a second VXLAN device of the same VNI cannot be
//! made: those are deleted first.

use std::os::fd::AsRawFd;

use super::Kernel;
use super::link::{self, Link};
use crate::error::NetlinkError;

impl Kernel {
    /// Moves or deletes our links in the host's namespace; returns how many there were.
    pub(super) fn move_out_of_home(&mut self) -> Result<usize, NetlinkError> {
        let links = link::dump(&mut self.underlay, None)?;
        let ours: Vec<&Link> = links.iter().filter(|l| l.is_ours() || l.is_out_of_use()).collect();
        if ours.is_empty() {
            return Ok(0);
        }
        let overlay = self.overlay.netns().file().as_raw_fd();
        let (ports, others): (Vec<&Link>, Vec<&Link>) = ours.iter().partition(|l| l.is_port());
        let moves = ports.iter().map(|l| link::move_to(l.index, &l.name, overlay)).collect();
        let moved = self.underlay.batch(moves);
        // A link that cannot be moved has the name of one in the overlay, which is the one in use.
        let unmoved = ports
            .iter()
            .zip(moved)
            .filter(|(_, moved)| moved.is_err())
            .map(|(l, _)| l);
        let discard = others.iter().chain(unmoved).map(|l| (l.index, l.name.clone()));
        super::discard(&mut self.underlay, discard.collect())?;
        Ok(ours.len())
    }
}
