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
//! given out before every device that held it has confirmed.
//!
//! **Cost.** A change costs what it touches: the devices that hold the network or router,
//! and, where it is the first or last attachment there, the other attachments of it.

pub mod change;
mod check;
pub mod fabric;
mod ident;
pub mod object;
mod pool;
mod slab;
mod touch;
mod views;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use vfabric_api::ident::{Name, PortId, Vni};
use vfabric_api::topology::Topology;

pub use ident::{AttachmentId, HostIndex, NetworkId, RouterId, SwitchIndex, VdcId};

use crate::device::driver::DeviceIndex;
use crate::engine::Source;
use crate::topology::Paths;
use fabric::Fabric;
use object::{Attachment, Network, Router, Vdc};
use pool::{Numbers, Vnis};
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
    /// Devices that were told of each VNI since it was last free.
    holders: HashMap<u32, BTreeSet<DeviceIndex>>,
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
            holders: HashMap::new(),
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

    /// VNIs that devices have not let go of.
    pub fn quarantined(&self) -> usize {
        self.vnis.quarantined()
    }

    /// VNIs in quarantine for which `confirmed(devices, revision)` holds. `devices` are those
    /// that were ever told of the VNI; `None` if that was before a restart.
    pub fn releasable_vnis(&self, confirmed: impl Fn(Option<&BTreeSet<DeviceIndex>>, u64) -> bool) -> Vec<u32> {
        let held = self
            .vnis
            .in_quarantine()
            .filter(|(vni, revision)| confirmed(self.holders.get(vni), *revision));
        held.map(|(vni, _)| vni).collect()
    }

    /// Makes VNIs free that nobody has and no device holds.
    pub fn release_vnis(&mut self, vnis: &[u32]) {
        for vni in vnis {
            self.vnis.release(*vni);
            self.holders.remove(vni);
        }
    }

    /// Remembers that a device is told of a VNI, until the VNI is free again.
    fn hold(&mut self, vni: Vni, device: DeviceIndex) {
        self.holders.entry(vni.get()).or_default().insert(device);
    }

    /// Puts a VNI into quarantine again, as it was before a restart.
    pub fn restore_quarantine(&mut self, vni: Vni, revision: u64) {
        self.vnis.quarantine(vni, revision);
    }

    /// Gives a network on a switch the flood groups that it had before a restart.
    pub fn restore_group(&mut self, switch: SwitchIndex, vni: u32, number: u16) {
        if let Some(numbers) = self.groups.get_mut(switch.index()) {
            numbers.restore(vni, number);
        }
    }
}
