//! What the controller knows of tenants and of the fabric, and who uses whom.
//!
//! **Model.** [`Model`] holds every object once ([`object`]), with indexes from each to
//! those that use it. A transaction is checked and carried out change by change
//! ([`change`], [`check`]); each step notes which contributions to devices it touches
//! ([`touch`]) and what has to be stored. If a later step is refused, the earlier ones are
//! undone, so that nothing half done is ever seen.
//!
//! **Invariants.** No two owners of a VNI, of a MAC or IP address inside a network, of an
//! access port's VLAN, of an interface in a namespace. A VNI that was released is not
//! given out before every device that held it has confirmed; nor is an address allocated that
//! a device may still hold for somebody else.
//!
//! **Cost.** A change costs what it touches: the devices that hold the network or router,
//! and, where it is the first or last attachment there, the other attachments of it.

pub mod change;
mod check;
pub mod fabric;
mod ident;
pub mod object;
mod pool;
pub mod quarantine;
mod slab;
mod touch;
mod views;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use vfabric_api::ident::{Name, PortId};
use vfabric_api::topology::Topology;

pub use ident::{AttachmentId, HostIndex, NetworkId, RouterId, SwitchIndex, VdcId};

use crate::device::driver::DeviceIndex;
use crate::engine::Source;
use crate::topology::Paths;
use fabric::Fabric;
use object::{Attachment, Network, Router, Vdc};
use pool::{Numbers, Vnis};
use quarantine::{Held, Quarantine};
use slab::Slab;

/// Access ids and flood groups are numbered per leaf; the top bit marks access replicas,
/// and each network takes two groups.
const GREATEST_NUMBER: u16 = 0x7fff;

/// Everything that is known.
pub struct Model {
    /// The physical fabric.
    pub fabric: Fabric,
    /// The paths through it.
    pub paths: Paths,
    vdcs: BTreeMap<Name, Vdc>,
    networks: Slab<NetworkId, Network>,
    routers: Slab<RouterId, Router>,
    attachments: Slab<AttachmentId, Attachment>,
    vnis: Vnis,
    /// Numbers of (port, VLAN) on each switch.
    access_ids: Vec<Numbers<(PortId, Option<u16>)>>,
    ports: HashMap<(SwitchIndex, PortId, Option<u16>), AttachmentId>,
    interfaces: HashMap<(HostIndex, String, String), AttachmentId>,
    /// Number of each network's pair of flood groups on each switch.
    groups: Vec<Numbers<u32>>,
    /// Networks that have an attachment on or under each switch.
    networks_on: Vec<BTreeSet<NetworkId>>,
    by_vni: HashMap<u32, NetworkId>,
    quarantine: Quarantine,
    touched: BTreeSet<Source>,
}

impl Model {
    /// A fabric without tenants.
    pub fn new(topology: &Topology) -> Self {
        let fabric = Fabric::new(topology);
        let count = fabric.switches.len();
        let mut model = Self {
            paths: Paths::new(topology),
            vdcs: BTreeMap::new(),
            networks: Slab::default(),
            routers: Slab::default(),
            attachments: Slab::default(),
            vnis: Vnis::new(topology.fabric.vni_pool),
            access_ids: (0..count).map(|_| Numbers::new(GREATEST_NUMBER)).collect(),
            ports: HashMap::new(),
            interfaces: HashMap::new(),
            groups: (0..count).map(|_| Numbers::new(GREATEST_NUMBER)).collect(),
            networks_on: vec![BTreeSet::new(); count],
            by_vni: HashMap::new(),
            quarantine: Quarantine::default(),
            touched: BTreeSet::new(),
            fabric,
        };
        model.touch_fabric();
        model
    }

    /// Contributions that may have changed since this was last asked.
    pub fn take_touched(&mut self) -> BTreeSet<Source> {
        std::mem::take(&mut self.touched)
    }

    /// A vDC.
    pub fn vdc(&self, name: &Name) -> Option<&Vdc> {
        self.vdcs.get(name)
    }

    /// Every vDC, by name.
    pub fn vdcs(&self) -> &BTreeMap<Name, Vdc> {
        &self.vdcs
    }

    /// A network.
    pub fn network(&self, id: NetworkId) -> Option<&Network> {
        self.networks.get(id)
    }

    /// A router.
    pub fn router(&self, id: RouterId) -> Option<&Router> {
        self.routers.get(id)
    }

    /// An attachment.
    pub fn attachment(&self, id: AttachmentId) -> Option<&Attachment> {
        self.attachments.get(id)
    }

    /// How many networks, routers and attachments there are.
    pub fn counts(&self) -> (usize, usize, usize) {
        (self.networks.len(), self.routers.len(), self.attachments.len())
    }

    /// VNIs that nobody has and devices have not let go of.
    pub fn quarantined(&self) -> usize {
        let waits = |held: &&Held| matches!(held, Held::Vni(vni) if !self.vnis.is_used(*vni));
        self.quarantine.all().filter(waits).count()
    }

    /// Lets go of what devices have confirmed to be gone; answers which of which.
    pub fn release_quarantine(&mut self, confirmed: impl Fn(DeviceIndex, u64) -> bool) -> Vec<(Held, DeviceIndex)> {
        self.quarantine.release(confirmed)
    }

    /// Whether some device may hold what left it.
    pub fn in_quarantine(&self, held: &Held) -> bool {
        self.quarantine.holds(held)
    }

    /// Puts a VNI into quarantine again, as it was before a restart.
    pub fn restore_vni(&mut self, vni: u32, device: DeviceIndex, revision: u64) {
        self.quarantine.leave(Held::Vni(vni), device, revision);
    }

    /// The same for an address of a network: whoever holds the network, or may, may hold it.
    pub fn restore_ip(&mut self, vni: u32, ip: IpAddr, revision: u64) {
        let mut holders: BTreeSet<DeviceIndex> = self.quarantine.holders(&Held::Vni(vni)).collect();
        holders.extend(self.by_vni.get(&vni).into_iter().flat_map(|n| self.devices_of(*n)));
        for device in holders {
            self.quarantine.leave(Held::Ip(vni, ip), device, revision);
        }
    }

    /// Devices that hold a network, and its attachments.
    fn devices_of(&self, network: NetworkId) -> BTreeSet<DeviceIndex> {
        let Some(net) = self.networks.get(network) else {
            return BTreeSet::new();
        };
        let router = net.router.and_then(|r| self.routers.get(r));
        let leaves = net
            .leaves
            .keys()
            .chain(router.into_iter().flat_map(|r| r.leaves.keys()));
        let leaves = leaves.map(|l| self.fabric.switch_device(*l));
        leaves
            .chain(net.hosts.keys().map(|h| self.fabric.host_device(*h)))
            .collect()
    }

    /// Gives a network on a switch the flood groups that it had before a restart.
    pub fn restore_group(&mut self, switch: SwitchIndex, vni: u32, number: u16) {
        if let Some(numbers) = self.groups.get_mut(switch.index()) {
            numbers.restore(vni, number);
        }
    }
}
