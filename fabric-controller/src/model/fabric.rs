//! The physical fabric as the model sees it: every switch, link and host with its identity, resolved once.
//!
//! **Model.** An entry is an object as it is stored ([`super::inventory`]), with the view from which entities are
//! rendered. Entries are found by handle. A handle is never given to another object. Switches and hosts share one
//! sequence of handles, so that a device has the handle of its switch or host.
//!
//! **Invariants.** Nothing that must be unique ([`Unique`]) is in two entries, even while one of them is leaving. Only
//! live entries ([`ItemState::is_live`]) have views: no device gets anything of the others.

mod put;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};

use vfabric_api::ident::{Mac, Name, PortId};
use vfabric_api::inventory::{ItemKey, ItemState};
use vfabric_api::topology::{self, Host, Link, Role, Switch};

use super::fault::{self, Fault};
use super::number::Uid;
use super::pool::Space;
use crate::ident::{DeviceIndex, HostIndex, SwitchIndex};
use crate::topology::LinkIndex;
use crate::view::{FabricView, HostView, SwitchView};

/// Greatest number of a VTEP. Its replicas have the same number in 16 bits, and the top
/// bit marks access ports.
pub(super) const GREATEST_VTEP: u32 = 0x7fff;

/// A switch.
#[derive(Debug, Clone)]
pub struct SwitchEntry {
    /// Its identity.
    pub uid: Uid,
    /// As written.
    pub spec: Switch,
    /// Number of its VTEP; 0 for a spine.
    pub vtep_id: u16,
    /// Its state.
    pub state: ItemState,
    /// Whether an operator declared it dead.
    pub gone: bool,
    /// When its machine was replaced, in seconds since 1970; zero: never.
    pub replaced_s: u64,
    /// Its view, from which entities are rendered.
    view: SwitchView,
}

/// A host.
#[derive(Debug, Clone)]
pub struct HostEntry {
    /// Its identity.
    pub uid: Uid,
    /// As written.
    pub spec: Host,
    /// Number of its VTEP.
    pub vtep_id: u16,
    /// Its state.
    pub state: ItemState,
    /// Whether an operator declared it dead.
    pub gone: bool,
    /// The leaf that it is under.
    pub leaf: SwitchIndex,
    /// Its view, from which entities are rendered.
    view: HostView,
}

/// A link.
#[derive(Debug, Clone)]
pub struct LinkEntry {
    /// Its identity.
    pub uid: Uid,
    /// As written.
    pub spec: Link,
    /// Its ends.
    pub ends: [(SwitchIndex, PortId); 2],
    /// Whether its known state allows its use.
    pub up: bool,
    /// Whether its known state makes it the last choice.
    pub avoided: bool,
}

/// A switch or a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Node {
    /// A switch.
    Switch(SwitchIndex),
    /// A host.
    Host(HostIndex),
}

impl Node {
    /// Its handle as a device.
    pub fn device(self) -> DeviceIndex {
        match self {
            Self::Switch(s) => DeviceIndex(s.0),
            Self::Host(h) => DeviceIndex(h.0),
        }
    }
}

/// A value that only one object of the inventory may have.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Unique {
    /// P4Runtime device id; the router's MAC address is made from it.
    DeviceId(u16),
    /// Loopback or VTEP address.
    Address(IpAddr),
    /// MAC address of a host, or of a switch's management port.
    Mac(Mac),
    /// Serial number of a switch, folded.
    Serial(String),
    /// Where a switch listens.
    Server(SocketAddr),
    /// Port of a switch.
    Port(Name, PortId),
}

/// Switches, links and hosts with their views and indexes.
#[derive(Debug, Clone)]
pub struct Fabric {
    /// Settings as written.
    pub settings: topology::Fabric,
    /// Settings as a view.
    pub view: FabricView,
    switches: BTreeMap<SwitchIndex, SwitchEntry>,
    hosts: BTreeMap<HostIndex, HostEntry>,
    links: BTreeMap<LinkIndex, LinkEntry>,
    by_name: HashMap<Name, Node>,
    by_key: HashMap<ItemKey, LinkIndex>,
    by_vtep: HashMap<u16, Node>,
    uniques: HashMap<Unique, ItemKey>,
    hosts_under: HashMap<SwitchIndex, BTreeSet<HostIndex>>,
    links_of: HashMap<SwitchIndex, BTreeSet<LinkIndex>>,
    /// Numbers of VTEPs that are in use.
    pub(super) vteps: Space,
    /// For each gone device, the revision that shut it out; unset until that is stored.
    pub(super) fences: BTreeMap<DeviceIndex, u64>,
    /// The known state of links that were removed by transactions which are not stored yet.
    pub(super) removed_links: BTreeMap<LinkIndex, (bool, bool)>,
    /// Objects that are leaving.
    pub(super) leaving: BTreeSet<DeviceIndex>,
    /// Objects that are arriving, with the revision at which they should hold nothing; unset until it is known.
    pub(super) arriving: BTreeMap<DeviceIndex, Option<u64>>,
    /// Handle of the next device.
    pub(super) next_device: u32,
    /// Handle of the next link.
    pub(super) next_link: u32,
}

fn view_of(settings: &topology::Fabric) -> FabricView {
    FabricView {
        mtu: settings.mtu,
        vxlan_underlay: settings.vxlan_underlay,
        gateway_mac: settings.gateway_mac,
    }
}

/// The unique values of a switch, each with its field.
pub(super) fn uniques_of_switch(spec: &Switch) -> Vec<(String, Unique)> {
    let mut all = vec![
        ("device_id".to_owned(), Unique::DeviceId(spec.device_id)),
        ("p4runtime".to_owned(), Unique::Server(spec.p4runtime)),
        ("loopback_ipv4".to_owned(), Unique::Address(spec.loopback_ipv4.into())),
        ("loopback_ipv6".to_owned(), Unique::Address(spec.loopback_ipv6.into())),
    ];
    all.extend(spec.mac.map(|mac| ("mac".to_owned(), Unique::Mac(mac))));
    let serial = spec.serial.as_ref();
    all.extend(serial.map(|serial| ("serial".to_owned(), Unique::Serial(serial.folded()))));
    let ports = spec.access_ports.iter().enumerate();
    all.extend(ports.map(|(i, p)| (format!("access_ports[{i}]"), Unique::Port(spec.name.clone(), *p))));
    all
}

/// The unique values of a host, each with its field.
pub(super) fn uniques_of_host(spec: &Host) -> Vec<(String, Unique)> {
    let uplink = Unique::Port(spec.uplink.switch.clone(), spec.uplink.port);
    vec![
        ("mac".to_owned(), Unique::Mac(spec.mac)),
        ("vtep_ipv4".to_owned(), Unique::Address(spec.vtep_ipv4.into())),
        ("vtep_ipv6".to_owned(), Unique::Address(spec.vtep_ipv6.into())),
        ("uplink.port".to_owned(), uplink),
    ]
}

/// The unique values of a link, each with its field.
pub(super) fn uniques_of_link(spec: &Link) -> Vec<(String, Unique)> {
    let end = |field: &str, end: &topology::PortRef| (field.to_owned(), Unique::Port(end.switch.clone(), end.port));
    vec![end("a.port", &spec.a), end("b.port", &spec.b)]
}

impl Fabric {
    /// A fabric without switches and hosts.
    pub(super) fn new(settings: topology::Fabric) -> Self {
        Self {
            view: view_of(&settings),
            settings,
            switches: BTreeMap::new(),
            hosts: BTreeMap::new(),
            links: BTreeMap::new(),
            by_name: HashMap::new(),
            by_key: HashMap::new(),
            by_vtep: HashMap::new(),
            uniques: HashMap::new(),
            hosts_under: HashMap::new(),
            links_of: HashMap::new(),
            vteps: Space::new(1, GREATEST_VTEP),
            fences: BTreeMap::new(),
            removed_links: BTreeMap::new(),
            leaving: BTreeSet::new(),
            arriving: BTreeMap::new(),
            next_device: 0,
            next_link: 0,
        }
    }

    /// Changes the settings.
    pub(super) fn set(&mut self, settings: topology::Fabric) {
        self.view = view_of(&settings);
        self.settings = settings;
    }

    /// The switch or host of that name.
    pub fn node(&self, name: &Name) -> Option<Node> {
        self.by_name.get(name).copied()
    }

    /// A switch, whatever its state.
    pub fn switch(&self, switch: SwitchIndex) -> Option<&SwitchEntry> {
        self.switches.get(&switch)
    }

    /// The switch of a serial number, whatever its state. Upper and lower case are the same.
    pub fn switch_of_serial(&self, serial: &str) -> Option<&SwitchEntry> {
        let key = self.uniques.get(&Unique::Serial(serial.to_ascii_uppercase()))?;
        let ItemKey::Switch(name) = key else { return None };
        match self.node(name)? {
            Node::Switch(switch) => self.switch(switch),
            Node::Host(_) => None,
        }
    }

    /// A host, whatever its state.
    pub fn host(&self, host: HostIndex) -> Option<&HostEntry> {
        self.hosts.get(&host)
    }

    /// A link.
    pub fn link(&self, link: LinkIndex) -> Option<&LinkEntry> {
        self.links.get(&link)
    }

    /// Every switch, in the order in which they were added.
    pub fn switches(&self) -> impl Iterator<Item = (SwitchIndex, &SwitchEntry)> {
        self.switches.iter().map(|(i, s)| (*i, s))
    }

    /// Every host, in the order in which they were added.
    pub fn hosts(&self) -> impl Iterator<Item = (HostIndex, &HostEntry)> {
        self.hosts.iter().map(|(i, h)| (*i, h))
    }

    /// Every link, in the order in which they were added.
    pub fn links(&self) -> impl Iterator<Item = (LinkIndex, &LinkEntry)> {
        self.links.iter().map(|(i, l)| (*i, l))
    }

    /// Every device.
    pub fn devices(&self) -> impl Iterator<Item = DeviceIndex> {
        let switches = self.switches.keys().map(|s| DeviceIndex(s.0));
        switches.chain(self.hosts.keys().map(|h| DeviceIndex(h.0)))
    }

    /// The switch or host of a handle.
    pub fn node_of(&self, device: DeviceIndex) -> Option<Node> {
        let (switch, host) = (SwitchIndex(device.0), HostIndex(device.0));
        let switch = self.switches.contains_key(&switch).then_some(Node::Switch(switch));
        switch.or_else(|| self.hosts.contains_key(&host).then_some(Node::Host(host)))
    }

    /// The switch or host with the number of a VTEP.
    pub fn node_of_vtep(&self, vtep_id: u16) -> Option<Node> {
        self.by_vtep.get(&vtep_id).copied()
    }

    /// The handle of a link.
    pub fn link_of(&self, key: &ItemKey) -> Option<LinkIndex> {
        self.by_key.get(key).copied()
    }

    /// State of a switch or host, and whether it is gone.
    pub fn state_of(&self, node: Node) -> Option<(ItemState, bool)> {
        match node {
            Node::Switch(s) => self.switches.get(&s).map(|s| (s.state, s.gone)),
            Node::Host(h) => self.hosts.get(&h).map(|h| (h.state, h.gone)),
        }
    }

    /// Name of a switch.
    pub fn switch_name(&self, switch: SwitchIndex) -> Option<&str> {
        self.switches.get(&switch).map(|s| s.spec.name.as_str())
    }

    /// Name of a host.
    pub fn host_name(&self, host: HostIndex) -> Option<&str> {
        self.hosts.get(&host).map(|h| h.spec.name.as_str())
    }

    /// Name of a device.
    pub fn device_name(&self, device: DeviceIndex) -> Option<&str> {
        let host = || self.host_name(HostIndex(device.0));
        self.switch_name(SwitchIndex(device.0)).or_else(host)
    }

    /// The leaf that a host is under.
    pub fn leaf_of(&self, host: HostIndex) -> Option<SwitchIndex> {
        self.hosts.get(&host).map(|h| h.leaf)
    }

    /// Hosts under a leaf.
    pub fn hosts_under(&self, leaf: SwitchIndex) -> impl Iterator<Item = HostIndex> {
        self.hosts_under.get(&leaf).into_iter().flatten().copied()
    }

    /// Links of a switch.
    pub fn links_of(&self, switch: SwitchIndex) -> impl Iterator<Item = LinkIndex> {
        self.links_of.get(&switch).into_iter().flatten().copied()
    }

    /// Least MTU of each port of a switch that the inventory names, in octets of the Ethernet payload: packets of the
    /// underlay between switches and to hosts, and the largest that a network may have on access ports.
    pub fn ports_of(&self, switch: SwitchIndex) -> BTreeMap<PortId, u16> {
        let underlay = self.settings.mtu;
        let overlay = underlay.saturating_sub(self.settings.vxlan_underlay.overlay_overhead());
        let links = self.links_of(switch).filter_map(|l| self.links.get(&l));
        let fabric = links.flat_map(|l| l.ends).filter(|(s, _)| *s == switch);
        let hosts = self.hosts_under(switch).filter_map(|h| self.hosts.get(&h));
        let to_hosts = hosts.map(|h| h.spec.uplink.port);
        let access = self
            .switches
            .get(&switch)
            .into_iter()
            .flat_map(|s| &s.spec.access_ports);
        let of_underlay = fabric.map(|(_, port)| port).chain(to_hosts);
        let ports = access.map(|p| (*p, overlay));
        ports.chain(of_underlay.map(|port| (port, underlay))).collect()
    }

    /// Switches that a switch is cabled to.
    pub fn neighbours(&self, switch: SwitchIndex) -> BTreeSet<SwitchIndex> {
        let links = self.links_of(switch).filter_map(|l| self.links.get(&l));
        let ends = links.flat_map(|l| l.ends.map(|(s, _)| s));
        ends.filter(|s| *s != switch).collect()
    }

    /// The object that has a unique value.
    pub(super) fn taken(&self, what: &Unique) -> Option<&ItemKey> {
        self.uniques.get(what)
    }

    /// The view of a switch; none unless it is live.
    pub(super) fn switch_view(&self, switch: SwitchIndex) -> Option<&SwitchView> {
        let entry = self.switches.get(&switch)?;
        entry.state.is_live().then_some(&entry.view)
    }

    /// The view of a host; none unless it is live.
    pub(super) fn host_view(&self, host: HostIndex) -> Option<&HostView> {
        let entry = self.hosts.get(&host)?;
        entry.state.is_live().then_some(&entry.view)
    }

    /// Whether both ends of a link are live.
    pub(super) fn is_usable(&self, link: &LinkEntry) -> bool {
        link.ends.iter().all(|(s, _)| self.switch_view(*s).is_some())
    }

    /// Sets the known state of a link.
    pub(super) fn set_used(&mut self, link: LinkIndex, up: bool, avoided: bool) {
        if let Some(entry) = self.links.get_mut(&link) {
            (entry.up, entry.avoided) = (up, avoided);
        }
    }

    /// The role of a device's pipeline; none for a host.
    pub fn role_of(&self, device: DeviceIndex) -> Option<Role> {
        self.switches.get(&SwitchIndex(device.0)).map(|s| s.spec.role)
    }

    /// Devices that shut a device out: a host's leaf, a switch's neighbours. If one of these is gone itself, then the
    /// devices that shut that one out.
    fn fence_of(&self, device: DeviceIndex) -> BTreeSet<DeviceIndex> {
        let (mut fence, mut seen, mut open) = (BTreeSet::new(), BTreeSet::from([device]), vec![device]);
        while let Some(next) = open.pop() {
            let around: Vec<SwitchIndex> = match self.node_of(next) {
                Some(Node::Host(h)) => self.leaf_of(h).into_iter().collect(),
                Some(Node::Switch(s)) => self.neighbours(s).into_iter().collect(),
                None => Vec::new(),
            };
            for device in around.into_iter().map(|s| DeviceIndex(s.0)) {
                if !seen.insert(device) {
                    continue;
                }
                if self.fences.contains_key(&device) {
                    open.push(device);
                } else {
                    fence.insert(device);
                }
            }
        }
        fence
    }

    /// Whether a device no longer holds anything that a revision took away. A gone device need not confirm this; it is
    /// enough that its neighbours have shut it out. `confirmed` decides for the others.
    pub(super) fn is_rid(
        &self,
        device: DeviceIndex,
        revision: u64,
        confirmed: &dyn Fn(DeviceIndex, u64) -> bool,
    ) -> bool {
        match self.fences.get(&device) {
            None => confirmed(device, revision),
            Some(_) if fault::is_on(Fault::GoneAtOnce) => true,
            Some(fence) => self.fence_of(device).into_iter().all(|d| confirmed(d, *fence)),
        }
    }
}
