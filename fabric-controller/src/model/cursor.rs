//! The positions from which numbers and identities are allocated next. They are restored when a transaction is undone,
//! so that it leaves no trace and a plan names the numbers that the transaction would get.

use super::{Model, NetworkId, SwitchIndex};

/// A pool of numbers that belongs to one object.
#[derive(Debug, Clone, Copy)]
enum Pool {
    /// Access ids of a leaf.
    AccessIds(SwitchIndex),
    /// Flood groups of a leaf.
    Groups(SwitchIndex),
    /// Addresses of a subnet, by its place in the network.
    Addresses(NetworkId, usize),
}

/// All positions when a transaction began.
#[derive(Debug, Default)]
pub(super) struct Cursors {
    uid: u64,
    handles: (u32, u32),
    vnis: u32,
    vteps: u32,
    /// Pools from which the transaction took; the first row of each pool counts.
    pools: Vec<(Pool, u128)>,
}

impl Model {
    /// The current positions.
    pub(super) fn cursors(&mut self) -> Cursors {
        self.moved.clear();
        Cursors {
            uid: self.next_uid,
            handles: self.next_handles(),
            vnis: self.vnis.cursor(),
            vteps: self.fabric.vteps.cursor(),
            pools: Vec::new(),
        }
    }

    /// Adds the pools from which something was taken since [`Model::cursors`].
    pub(super) fn note_moved(&mut self, cursors: &mut Cursors) {
        cursors.pools = std::mem::take(&mut self.moved).0;
    }

    /// Restores all positions, after the numbers that were taken since have been released.
    pub(super) fn restore_cursors(&mut self, cursors: Cursors) {
        self.next_uid = cursors.uid;
        (self.fabric.next_device, self.fabric.next_link) = cursors.handles;
        self.vnis.set_cursor(cursors.vnis);
        self.fabric.vteps.set_cursor(cursors.vteps);
        for (pool, cursor) in cursors.pools.into_iter().rev() {
            let number = u32::try_from(cursor).unwrap_or(u32::MAX);
            match pool {
                Pool::AccessIds(leaf) => {
                    if let Some(on) = self.on_switch.get_mut(&leaf) {
                        on.access_ids.set_cursor(number);
                    }
                }
                Pool::Groups(leaf) => {
                    if let Some(on) = self.on_switch.get_mut(&leaf) {
                        on.groups.set_cursor(number);
                    }
                }
                Pool::Addresses(network, subnet) => {
                    let network = self.networks.get_mut(network);
                    if let Some(pool) = network.and_then(|n| n.used_mut().pools.get_mut(subnet)) {
                        pool.set_cursor(cursor);
                    }
                }
            }
        }
        self.moved.clear();
    }
}

/// Pools from which the current transaction took, each with its earlier cursor.
#[derive(Debug, Default)]
pub(super) struct Moved(Vec<(Pool, u128)>);

impl Moved {
    fn clear(&mut self) {
        self.0.clear();
    }

    /// An access id is about to be taken.
    pub(super) fn access_id(&mut self, leaf: SwitchIndex, cursor: u32) {
        self.0.push((Pool::AccessIds(leaf), cursor.into()));
    }

    /// A flood group is about to be taken.
    pub(super) fn group(&mut self, leaf: SwitchIndex, cursor: u32) {
        self.0.push((Pool::Groups(leaf), cursor.into()));
    }

    /// An address is about to be taken.
    pub(super) fn address(&mut self, network: NetworkId, subnet: usize, cursor: u128) {
        self.0.push((Pool::Addresses(network, subnet), cursor));
    }
}
