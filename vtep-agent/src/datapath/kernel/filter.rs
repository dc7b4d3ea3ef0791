//! What workloads may send: a table of packet filters in the overlay, and what of it belongs to each port.
//!
//! One rule set serves all ports ([`super::rules`]). The differences between ports are in sets whose keys begin with the index of the
//! link. A change of an attachment changes only its own elements (`docs/adr/host-4`).

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::{IpAddr, Ipv6Addr};

use ipnet::IpNet;
use vtep_proto::{Attachment, MacAddress, Mode, Vni};

use super::nft::expression::Rule;
use super::nft::message::{Element, Family, Message, SetKind, Table, count_rules};
use super::nft::socket::{Nft, in_parts};
use super::overlay::Overlay;
use super::{entrance, late, rules, unknown};
use crate::error::NetlinkError;
use crate::object::{port_name, vxlan_name};

pub(super) const TABLE: Table = Table {
    family: Family::Bridge,
    name: "vfabric",
};
/// The version of the rules ([`super::rules`]). Change it with every change of the rules: a table with
/// another version is made again.
const VERSION: u32 = 5;

/// How many broadcast and multicast frames a workload may send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FloodLimit {
    /// Frames a second.
    pub per_second: u32,
    /// Frames at once.
    pub burst: u32,
}

impl Default for FloodLimit {
    /// These limits are chosen, not measured: address resolution and the routing
    /// protocols of one workload send tens of frames a second.
    fn default() -> Self {
        Self {
            per_second: 1000,
            burst: 2000,
        }
    }
}

/// Why a frame was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Reason {
    UnknownPort,
    VlanTag,
    SourceMac,
    ArpSender,
    SourceIpv4,
    SourceIpv6,
    NeighbourAdvertisement,
    RouterAdvertisement,
    Redirect,
    DhcpServer,
    Malformed,
    Snap,
    Flood,
    LinkGroup,
    NeighbourOption,
    UnknownUnicast,
    ToHost,
}

impl Reason {
    pub(super) const ALL: [Self; 17] = [
        Self::UnknownPort,
        Self::VlanTag,
        Self::SourceMac,
        Self::ArpSender,
        Self::SourceIpv4,
        Self::SourceIpv6,
        Self::NeighbourAdvertisement,
        Self::RouterAdvertisement,
        Self::Redirect,
        Self::DhcpServer,
        Self::Malformed,
        Self::Snap,
        Self::Flood,
        Self::LinkGroup,
        Self::NeighbourOption,
        Self::UnknownUnicast,
        Self::ToHost,
    ];

    /// Its name in the status and, after `drop-`, of its chain.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::UnknownPort => "unknown-port",
            Self::VlanTag => "vlan-tag",
            Self::SourceMac => "source-mac",
            Self::ArpSender => "arp-sender",
            Self::SourceIpv4 => "source-ipv4",
            Self::SourceIpv6 => "source-ipv6",
            Self::NeighbourAdvertisement => "neighbour-advertisement",
            Self::RouterAdvertisement => "router-advertisement",
            Self::Redirect => "redirect",
            Self::DhcpServer => "dhcp-server",
            Self::Malformed => "malformed",
            Self::Snap => "snap",
            Self::Flood => "flood",
            Self::LinkGroup => "link-group",
            Self::NeighbourOption => "neighbour-option",
            Self::UnknownUnicast => "unknown-unicast",
            Self::ToHost => "to-host",
        }
    }

    /// The chain that drops for this reason.
    pub(super) fn chain(self) -> String {
        format!("drop-{}", self.name())
    }

    /// Its rules: counts by port in a set, drops.
    pub(super) fn drop_in(self, set: &str) -> [Rule; 2] {
        let count = Rule::new().link(0).number(self as u32, 1).count_in(set);
        [count, Rule::new().drop()]
    }
}

/// A set of the table that the agent fills.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Set {
    /// Ports of workloads.
    Ports,
    /// Ports of workloads with port security.
    Guarded,
    /// MAC addresses that may be used on a port.
    Macs,
    Ipv4,
    Ipv6,
    /// The same for ranges of addresses.
    Ranges4,
    Ranges6,
}

impl Set {
    pub(super) const ALL: [Self; 7] = [
        Self::Ports,
        Self::Guarded,
        Self::Macs,
        Self::Ipv4,
        Self::Ipv6,
        Self::Ranges4,
        Self::Ranges6,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Ports => "ports",
            Self::Guarded => "guarded",
            Self::Macs => "macs",
            Self::Ipv4 => "ipv4",
            Self::Ipv6 => "ipv6",
            Self::Ranges4 => "ranges4",
            Self::Ranges6 => "ranges6",
        }
    }

    /// Lengths of the fields of its keys, and how it is kept.
    pub(super) fn shape(self) -> (&'static [u32], SetKind) {
        match self {
            Self::Ports | Self::Guarded => (&[4], SetKind::Exact),
            Self::Macs => (&[4, 8], SetKind::Exact),
            Self::Ipv4 => (&[4, 4], SetKind::Exact),
            Self::Ipv6 => (&[4, 16], SetKind::Exact),
            Self::Ranges4 => (&[4, 4], SetKind::Ranges),
            Self::Ranges6 => (&[4, 16], SetKind::Ranges),
        }
    }
}

/// Frames by port and reason; packets add to it.
pub(super) const DROPS: &str = "drops";
/// The rate of broadcast and multicast frames of each port.
pub(super) const FLOODS: &str = "floods";

type Elements = BTreeSet<(Set, Element)>;

/// The table, and what is known to be in it.
pub(super) struct Filter {
    nft: Nft,
    limit: FloodLimit,
    /// Elements of each port, by the index of its link.
    ports: HashMap<u32, Elements>,
    /// Ports that have a chain at their entrance.
    entrances: HashSet<u32>,
    /// Other chains of links in the table of entrances, by the index of the port or of the link for unknown stations.
    chains: HashMap<u32, BTreeSet<String>>,
    /// The number of the last change that is known.
    generation: u32,
}

impl Filter {
    /// Opens the table in the overlay or makes it.
    pub(super) fn open(overlay: &Overlay, limit: FloodLimit) -> Result<Self, NetlinkError> {
        let fail = |e| NetlinkError::io(format!("enter network namespace {}", overlay.name()), &e);
        let mut filter = Self {
            nft: overlay.netns().within(Nft::open).map_err(fail)??,
            limit,
            ports: HashMap::new(),
            entrances: HashSet::new(),
            chains: HashMap::new(),
            generation: 0,
        };
        filter.put_right()?;
        Ok(filter)
    }

    fn note(&self) -> Vec<u8> {
        format!("{VERSION} {} {}", self.limit.per_second, self.limit.burst).into_bytes()
    }

    /// Rebuilds the table if somebody has changed anything in it, or if it is not the one that this agent makes;
    /// returns whether it had to.
    pub(super) fn put_right(&mut self) -> Result<bool, NetlinkError> {
        let generation = self.nft.generation()?;
        if generation == self.generation && generation != 0 {
            return Ok(false);
        }
        let (there, before) = (self.nft.note(TABLE)?, self.nft.note(entrance::TABLE)?);
        let rules = rules::table(&self.note(), self.limit);
        let mut at_entrance = entrance::rules(&self.note());
        at_entrance.extend(unknown::rules(self.limit));
        if self.generation == 0 && there.is_some() {
            // The first check. A table of another version may lack a set; then its contents count as unknown.
            self.ports = self.read().unwrap_or_default();
            let chains = self.nft.chains(entrance::TABLE)?;
            self.entrances = chains.iter().filter_map(|c| entrance::port_of(c)).collect();
            let mut in_chains = 0;
            for chain in chains {
                if let Some((index, rules)) = late::link_of(&chain).or_else(|| unknown::link_of(&chain)) {
                    in_chains += rules;
                    self.chains.entry(index).or_default().insert(chain);
                }
            }
            let complete = self.nft.count_rules(TABLE)? == count_rules(&rules)
                && self.nft.count_rules(entrance::TABLE)?
                    == count_rules(&at_entrance) + self.entrances.len() + in_chains;
            let note = Some(self.note());
            if complete && there == note && before == note {
                self.generation = generation;
                return Ok(false);
            }
        }
        let mut messages = Vec::new();
        if there.is_some() {
            messages.push(TABLE.delete());
        }
        if before.is_some() {
            messages.push(entrance::TABLE.delete());
        }
        messages.extend(rules);
        messages.extend(at_entrance);
        let elements: Vec<(Set, Element)> = self.ports.values().flatten().cloned().collect();
        messages.extend(parts(&elements, |set, e| TABLE.add(set.name(), e)));
        self.nft.commit(&messages)?;
        // A chain needs its link, and the link may be gone. The chain is made again together with its
        // port or network.
        self.entrances.clear();
        self.chains.clear();
        self.generation = self.nft.generation()?;
        Ok(true)
    }

    fn read(&mut self) -> Result<HashMap<u32, Elements>, NetlinkError> {
        let mut ports: HashMap<u32, Elements> = HashMap::new();
        for set in Set::ALL {
            for shown in self.nft.elements(TABLE, set.name())? {
                if let Some(index) = port_of(&shown.element) {
                    ports.entry(index).or_default().insert((set, shown.element));
                }
            }
        }
        Ok(ports)
    }

    fn commit(&mut self, messages: &[Message]) -> Result<(), NetlinkError> {
        if messages.is_empty() {
            return Ok(());
        }
        self.nft.commit(messages)?;
        self.generation = self.generation.wrapping_add(1);
        Ok(())
    }

    /// True when a port's filters are as its attachment says. `tunnel` is the index of its network's VXLAN device.
    pub(super) fn is_right(&self, index: u32, attachment: &Attachment, tunnel: Option<u32>) -> bool {
        let none = Elements::new();
        self.entrances.contains(&index)
            && *self.ports.get(&index).unwrap_or(&none) == elements(index, attachment)
            && self.has_chains(index, &chains_of(index, attachment, tunnel))
    }

    /// True when a link has these chains and no others.
    fn has_chains(&self, index: u32, wanted: &BTreeSet<String>) -> bool {
        self.chains.get(&index).map_or(wanted.is_empty(), |have| have == wanted)
    }

    /// True when frames of a network for unknown stations are limited. `link` and `tunnel` are the indices of the link for them and of
    /// the VXLAN device.
    pub(super) fn limits_unknown(&self, link: u32, tunnel: u32) -> bool {
        self.has_chains(link, &[unknown::chain_of_network(link, tunnel)].into())
    }

    /// Limits frames for unknown stations in networks. Each network is given by its VNI, the index of its link for
    /// these frames, and the index of its VXLAN device.
    pub(super) fn limit_unknown(&mut self, networks: &[(Vni, u32, u32)]) -> Result<(), NetlinkError> {
        let mut messages = Vec::new();
        let mut limited = Vec::new();
        for (vni, link, tunnel) in networks {
            if self.limits_unknown(*link, *tunnel) {
                continue;
            }
            messages.extend(self.close(*link, &BTreeSet::new())?);
            let chain = unknown::chain_of_network(*link, *tunnel);
            messages.extend(unknown::open_network(&chain, *vni, *tunnel));
            limited.push((*link, BTreeSet::from([chain])));
        }
        self.commit(&messages)?;
        self.chains.extend(limited);
        Ok(())
    }

    /// Sets a port's filters as its attachment says. `tunnel` is the index of its network's VXLAN device.
    pub(super) fn set_port(
        &mut self,
        index: u32,
        attachment: &Attachment,
        tunnel: Option<u32>,
    ) -> Result<(), NetlinkError> {
        let wanted = elements(index, attachment);
        let none = Elements::new();
        let have = self.ports.get(&index).unwrap_or(&none);
        let add: Vec<(Set, Element)> = wanted.difference(have).cloned().collect();
        let remove: Vec<(Set, Element)> = have.difference(&wanted).cloned().collect();
        let mut messages = parts(&add, |set, e| TABLE.add(set.name(), e));
        messages.extend(parts(&remove, |set, e| TABLE.remove(set.name(), e)));
        if !self.entrances.contains(&index) {
            messages.extend(entrance::open(index, &port_name(&attachment.id)));
        }
        let chains = chains_of(index, attachment, tunnel);
        messages.extend(self.close(index, &chains)?);
        let new = |chain: &Option<String>| chain.clone().filter(|c| !self.has_chain(index, c));
        if let Some(chain) = new(&late::chain(index, attachment, tunnel)) {
            messages.extend(late::open(&chain, attachment, &vxlan_name(attachment.vni)));
        }
        if let Some(chain) = new(&unknown::chain_of_port(index, attachment)) {
            messages.extend(unknown::open_port(&chain, attachment));
        }
        self.commit(&messages)?;
        self.entrances.insert(index);
        self.ports.insert(index, wanted);
        self.chains.insert(index, chains);
        Ok(())
    }

    fn has_chain(&self, index: u32, chain: &str) -> bool {
        self.chains.get(&index).is_some_and(|have| have.contains(chain))
    }

    /// The messages that delete the chains of a link, except those to keep.
    fn close(&mut self, index: u32, keep: &BTreeSet<String>) -> Result<Vec<Message>, NetlinkError> {
        let mut messages = Vec::new();
        for name in self
            .chains
            .get(&index)
            .into_iter()
            .flatten()
            .filter(|c| !keep.contains(*c))
        {
            // Some kernels remove it with its link.
            if self.nft.has_chain(entrance::TABLE, name)? {
                messages.push(entrance::TABLE.delete_chain(name));
            }
        }
        Ok(messages)
    }

    /// Forgets ports, and links for unknown stations, that are gone.
    pub(super) fn remove_ports(&mut self, indices: &[u32]) -> Result<(), NetlinkError> {
        let elements: Vec<(Set, Element)> = indices
            .iter()
            .filter_map(|i| self.ports.get(i))
            .flatten()
            .cloned()
            .collect();
        let mut messages = parts(&elements, |set, e| TABLE.remove(set.name(), e));
        for index in indices.iter().filter(|i| self.entrances.contains(i)) {
            // Some kernels remove it with its link.
            let name = entrance::chain(*index);
            if self.nft.has_chain(entrance::TABLE, &name)? {
                messages.push(entrance::TABLE.delete_chain(&name));
            }
        }
        for index in indices {
            messages.extend(self.close(*index, &BTreeSet::new())?);
        }
        self.commit(&messages)?;
        for index in indices {
            self.chains.remove(index);
            self.ports.remove(index);
            self.entrances.remove(index);
        }
        Ok(())
    }

    /// Forgets all other ports and links for unknown stations, and the counters that their packets left behind.
    pub(super) fn retain(&mut self, live: &HashSet<u32>) -> Result<(), NetlinkError> {
        let known = self.ports.keys().chain(&self.entrances).chain(self.chains.keys());
        let known: HashSet<u32> = known.copied().collect();
        let gone: Vec<u32> = known.difference(live).copied().collect();
        self.remove_ports(&gone)?;
        let at_entrance = [entrance::DROPS, unknown::REFUSED].map(|set| (entrance::TABLE, set));
        for (table, set) in [(TABLE, DROPS), (TABLE, FLOODS)].into_iter().chain(at_entrance) {
            let stale = self.nft.elements(table, set)?.into_iter().map(|s| s.element);
            let stale: Vec<Element> = stale
                .filter(|e| port_of(e).is_some_and(|i| !live.contains(&i)))
                .collect();
            self.commit(&in_parts(&stale, |e| table.remove(set, e)))?;
        }
        Ok(())
    }

    /// Frames dropped so far, by index of the port and reason.
    pub(super) fn drops(&mut self) -> Result<BTreeMap<(u32, &'static str), u64>, NetlinkError> {
        let mut shown = self.nft.elements(TABLE, DROPS)?;
        shown.extend(self.nft.elements(entrance::TABLE, entrance::DROPS)?);
        let count = shown.iter().filter_map(|s| {
            let key = s.element.first.get(4..8)?.try_into().ok()?;
            let number = u32::from_ne_bytes(key);
            let reason = Reason::ALL.into_iter().find(|r| *r as u32 == number)?;
            Some(((port_of(&s.element)?, reason.name()), s.packets))
        });
        let mut drops = BTreeMap::new();
        // The same reason may be in both tables.
        for (of, packets) in count {
            *drops.entry(of).or_default() += packets;
        }
        Ok(drops)
    }

    /// Frames for unknown stations that were above the rate so far: the index of the link at which they were dropped, the MAC
    /// address that sent them, and their number.
    pub(super) fn refused_unknown(&mut self) -> Result<Vec<(u32, [u8; 6], u64)>, NetlinkError> {
        let shown = self.nft.elements(entrance::TABLE, unknown::REFUSED)?;
        let refused = shown.iter().filter_map(|s| {
            let sender = s.element.first.get(4..10)?.try_into().ok()?;
            Some((port_of(&s.element)?, sender, s.packets))
        });
        Ok(refused.collect())
    }

    /// The only MAC addresses that a port with port security may use.
    pub(super) fn macs_of(&self, index: u32) -> impl Iterator<Item = [u8; 6]> {
        let elements = self.ports.get(&index).into_iter().flatten();
        let macs = elements.filter(|(set, _)| *set == Set::Macs);
        macs.filter_map(|(_, e)| e.first.get(4..10)?.try_into().ok())
    }
}

/// The chains that a port needs beside its own at the entrance.
fn chains_of(index: u32, attachment: &Attachment, tunnel: Option<u32>) -> BTreeSet<String> {
    let late = late::chain(index, attachment, tunnel);
    late.into_iter()
        .chain(unknown::chain_of_port(index, attachment))
        .collect()
}

/// Messages for elements of several sets.
fn parts(elements: &[(Set, Element)], message: impl Fn(Set, &[Element]) -> Message) -> Vec<Message> {
    let of = |set: Set| -> Vec<Element> {
        let of_set = elements.iter().filter(|(s, _)| *s == set);
        of_set.map(|(_, e)| e.clone()).collect()
    };
    let sets = Set::ALL.into_iter();
    sets.flat_map(|set| in_parts(&of(set), |e| message(set, e))).collect()
}

/// The index with which the key of every element begins.
fn port_of(element: &Element) -> Option<u32> {
    element.first.first_chunk::<4>().map(|b| u32::from_ne_bytes(*b))
}

fn key(index: u32, rest: &[u8]) -> Vec<u8> {
    let mut key = index.to_ne_bytes().to_vec();
    key.extend_from_slice(rest);
    key.resize(key.len().next_multiple_of(4), 0);
    key
}

fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(a) => a.octets().to_vec(),
        IpAddr::V6(a) => a.octets().to_vec(),
    }
}

/// The link-local address that a station makes of its MAC address (RFC 4291 appendix A).
fn link_local(mac: MacAddress) -> Ipv6Addr {
    let [a, b, c, d, e, f] = mac.octets();
    Ipv6Addr::from([0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f])
}

/// The elements that hold a port to its attachment.
fn elements(index: u32, a: &Attachment) -> Elements {
    let mut all = Elements::new();
    // If the workload is not here, no source is permitted, so the port is closed.
    if a.mode != Mode::Serving {
        return all;
    }
    all.insert((Set::Ports, Element::exact(key(index, &[]))));
    if !a.port_security {
        return all;
    }
    all.insert((Set::Guarded, Element::exact(key(index, &[]))));
    let further = a.allowed_addresses.iter().filter_map(|allowed| allowed.mac);
    for mac in further.chain([a.mac]) {
        all.insert((Set::Macs, Element::exact(key(index, &mac.octets()))));
        all.insert(address(index, link_local(mac).into()));
    }
    for ip in a.addresses.iter().map(IpNet::addr) {
        all.insert(address(index, ip));
    }
    for allowed in &a.allowed_addresses {
        all.insert(range(index, &allowed.prefix));
    }
    all
}

fn address(index: u32, ip: IpAddr) -> (Set, Element) {
    let set = if ip.is_ipv4() { Set::Ipv4 } else { Set::Ipv6 };
    (set, Element::exact(key(index, &octets(ip))))
}

fn range(index: u32, prefix: &IpNet) -> (Set, Element) {
    if prefix.prefix_len() == prefix.max_prefix_len() {
        return address(index, prefix.addr());
    }
    let set = if prefix.addr().is_ipv4() {
        Set::Ranges4
    } else {
        Set::Ranges6
    };
    let element = Element {
        first: key(index, &octets(prefix.network())),
        last: Some(key(index, &octets(prefix.broadcast()))),
    };
    (set, element)
}
