//! The state of tenants and the fabric, and the indexes of which object uses which.
//!
//! **Model.** [`Model`] holds every object once, each kind in a module of its own ([`kind`]), with indexes from each object to
//! those that use it. A transaction is checked and carried out change by change
//! ([`change`]); each step notes which contributions to devices it touches
//! ([`touch`]) and what must be stored. If a later step is refused, the earlier ones are
//! undone, so that nobody ever sees a half-done transaction.
//!
//! **Invariants.** A VNI, a MAC or IP address inside a network, an
//! access port's VLAN, an interface in a namespace never has two owners. A number that occurs in packets ([`number`])
//! gets a new owner on a device only after that device has confirmed that the old meaning is gone: we allocate only
//! free numbers, and an object whose user names a number in quarantine ([`quarantine`]) waits ([`waiting`]).
//!
//! **Cost.** A change costs what it touches: the devices that hold the network or router,
//! and, if it adds the first or removes the last attachment on a device, the network's other attachments.

mod aside;
pub mod change;
mod cursor;
pub mod fabric;
pub(crate) mod fault;
mod fields;
pub mod inventory;
pub mod kind;
pub mod number;
mod owning;
mod pool;
pub mod quarantine;
pub mod rest;
mod slab;
mod touch;
mod views;
pub mod waiting;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use vfabric_api::ident::{Name, OwnerName, PortId};
use vfabric_api::kind::{AttachmentSpec, Key, Kind};
use vfabric_api::topology::Topology;

pub use crate::ident::{AttachmentId, HostIndex, NetworkId, RouterId, SwitchIndex, VdcId};

use crate::ident::DeviceIndex;
use crate::ident::{Owner, Source};
use crate::topology::Paths;
use aside::Aside;
use cursor::Moved;
use fabric::{Fabric, Node};
use kind::{Attachment, Network, Router, Vdc};
use pool::Space;
use quarantine::Quarantine;
use slab::Slab;
use waiting::Waiting;

/// Access ids and flood groups are numbered per leaf; the top bit marks access replicas,
/// and each network takes two groups.
const GREATEST_NUMBER: u32 = 0x7fff;

/// The whole state.
pub struct Model {
    /// The physical fabric.
    pub fabric: Fabric,
    /// The paths through it.
    pub paths: Paths,
    vdcs: BTreeMap<Name, Vdc>,
    networks: Slab<NetworkId, Network>,
    routers: Slab<RouterId, Router>,
    attachments: Slab<AttachmentId, Attachment>,
    vnis: Space,
    /// The state of each switch.
    on_switch: HashMap<SwitchIndex, OnSwitch>,
    /// Attachments on each host, and on the access ports of each leaf.
    at: HashMap<DeviceIndex, BTreeSet<AttachmentId>>,
    ports: HashMap<(SwitchIndex, PortId, Option<u16>), AttachmentId>,
    interfaces: BTreeMap<(HostIndex, String, String), AttachmentId>,
    /// Attachments that migrate.
    migrating: BTreeSet<AttachmentId>,
    /// Flood groups that a network gets back if its removal is undone, by leaf and VNI.
    restored_groups: HashMap<(SwitchIndex, u32), u16>,
    by_vni: HashMap<u32, NetworkId>,
    quarantine: Quarantine,
    waiting: Waiting,
    /// Objects that no longer wait, by the revision that asked for them.
    woken: BTreeMap<u64, BTreeSet<Owner>>,
    /// Identity of the next object.
    next_uid: u64,
    touched: BTreeSet<Source>,
    moved: Moved,
    /// The owners of objects; objects without an owner are not here.
    owners: HashMap<Key, OwnerName>,
    /// Stored objects that could not be loaded.
    aside: BTreeMap<Key, Aside>,
}

/// The state of a switch.
#[derive(Debug)]
struct OnSwitch {
    /// Access ids.
    access_ids: Space,
    /// Pairs of flood groups.
    groups: Space,
    /// Networks that have an attachment on or under it.
    networks: BTreeSet<NetworkId>,
}

impl OnSwitch {
    fn new() -> Self {
        Self {
            access_ids: Space::new(1, GREATEST_NUMBER),
            groups: Space::new(1, GREATEST_NUMBER),
            networks: BTreeSet::new(),
        }
    }
}

impl Model {
    /// The fabric of a topology, without tenants.
    pub fn new(topology: &Topology) -> Self {
        let mut model = Self::empty(topology.fabric.clone());
        model.import_first(topology);
        model
    }

    /// Adds a whole topology to an empty fabric.
    pub fn import_first(&mut self, topology: &Topology) {
        self.begin();
        self.found(topology);
        self.end();
    }

    /// A fabric without switches and hosts.
    pub fn empty(settings: vfabric_api::topology::Fabric) -> Self {
        Self {
            paths: Paths::default(),
            vdcs: BTreeMap::new(),
            networks: Slab::default(),
            routers: Slab::default(),
            attachments: Slab::default(),
            vnis: Space::new(settings.vni_pool.first.get(), settings.vni_pool.last.get()),
            on_switch: HashMap::new(),
            at: HashMap::new(),
            ports: HashMap::new(),
            interfaces: BTreeMap::new(),
            migrating: BTreeSet::new(),
            restored_groups: HashMap::new(),
            by_vni: HashMap::new(),
            quarantine: Quarantine::default(),
            waiting: Waiting::default(),
            woken: BTreeMap::new(),
            next_uid: 1,
            touched: BTreeSet::new(),
            moved: Moved::default(),
            owners: HashMap::new(),
            aside: BTreeMap::new(),
            fabric: Fabric::new(settings),
        }
    }

    /// Begins to add many objects of the inventory; [`Model::end`] then computes the paths once.
    pub fn begin(&mut self) {
        self.paths.begin();
    }

    /// Ends what [`Model::begin`] started.
    pub fn end(&mut self) {
        self.paths.finish();
        self.touch_fabric();
    }

    /// Contributions that may have changed since the last call.
    pub fn take_touched(&mut self) -> BTreeSet<Source> {
        std::mem::take(&mut self.touched)
    }

    /// The owner of an object; none if it has no owner or does not exist.
    pub fn owner_of(&self, key: &Key) -> Option<&OwnerName> {
        self.owners.get(key)
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

    /// The vDC of the tenant's object that causes contributions; none for the fabric's own.
    pub fn vdc_of(&self, owner: Owner) -> Option<&Name> {
        match owner {
            Owner::Network(id) => self.networks.get(id).map(|network| &network.vdc),
            Owner::Attachment(id) => self.attachments.get(id).map(|attachment| &attachment.vdc),
            Owner::Switch(_) | Owner::Host(_) => None,
        }
    }

    /// Every network.
    fn all_networks(&self) -> impl Iterator<Item = &Network> {
        self.networks.values()
    }

    /// Every object; an object comes after those that it needs.
    pub fn keys(&self) -> impl Iterator<Item = Key> {
        self.vdcs.iter().flat_map(|(vdc, held)| {
            let of_kind = move |kind: &Kind| {
                let kind = *kind;
                held.names(kind)
                    .map(move |name| Key::new(vdc.clone(), kind, name.clone()))
            };
            std::iter::once(Key::vdc(vdc.clone())).chain(Kind::ALL.iter().flat_map(of_kind))
        })
    }

    /// How many networks, routers and attachments there are.
    pub fn counts(&self) -> (usize, usize, usize) {
        (self.networks.len(), self.routers.len(), self.attachments.len())
    }

    /// An attachment as its user wrote it.
    pub fn attachment_spec(&self, key: &Key) -> Option<&AttachmentSpec> {
        let id = self.vdcs.get(&key.vdc)?.attachments.get(&key.name)?;
        self.attachments.get(*id).map(|a| &a.spec)
    }

    /// The number of a host's interfaces in one namespace, and in all namespaces whose names start with `prefix`.
    pub fn interfaces_in(&self, host: &Name, netns: &str, prefix: &str) -> (usize, usize) {
        let Some(Node::Host(host)) = self.fabric.node(host) else {
            return (0, 0);
        };
        let from = (host, prefix.to_owned(), String::new());
        let names = self.interfaces.range(from..).map(|((h, name, _), _)| (*h, name));
        let all = names.take_while(|(h, name)| *h == host && name.starts_with(prefix));
        all.fold((0, 0), |(here, all), (_, name)| {
            (here + usize::from(name == netns), all + 1)
        })
    }

    /// Devices that hold a network, and its attachments.
    fn devices_of(&self, network: NetworkId) -> BTreeSet<DeviceIndex> {
        let Some(net) = self.networks.get(network) else {
            return BTreeSet::new();
        };
        let router = net.router.and_then(|r| self.routers.get(r));
        let leaves = net
            .used()
            .leaves
            .keys()
            .chain(router.into_iter().flat_map(|r| r.leaves.keys()));
        let leaves = leaves.map(|l| self.fabric.switch_device(*l));
        leaves
            .chain(net.used().hosts.keys().map(|h| self.fabric.host_device(*h)))
            .collect()
    }
}
