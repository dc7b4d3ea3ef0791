//! Our objects in the kernel, read in a few dumps.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr};

use vtep_proto::{Attachment, MacAddress, Mode, Vni};

use super::entry::{self, FdbEntry, NeighbourEntry};
use super::filter::Filter;
use super::interface::Interface;
use super::link::{self, Link};
use super::netlink::Netlink;
use super::worker::Worker;
use crate::datapath::{Expected, Scope};
use crate::error::NetlinkError;
use crate::object::{Object, ObjectKey, Port, Segment, bridge_name, unknown_name, vxlan_name};

/// Up to this many networks are read one by one; more are read in one dump of everything,
/// which costs about as much as 30 filtered ones (each walks all links of the kernel).
const FEW_NETWORKS: usize = 16;

/// Links, forwarding entries and neighbours as read.
pub(super) struct Snapshot {
    links: Vec<Link>,
    fdb: Vec<FdbEntry>,
    neighbours: Vec<NeighbourEntry>,
    /// The namespace in which VXLAN devices must have their socket.
    home_id: i32,
}

impl Snapshot {
    /// Reads what the scope needs.
    pub(super) fn take(netlink: &mut Netlink, scope: &Scope, home_id: i32) -> Result<Self, NetlinkError> {
        match scope {
            Scope::Some { vnis, ports } if vnis.len() <= FEW_NETWORKS => Self::few(netlink, vnis, ports, home_id),
            _ => Ok(Self {
                links: link::dump(netlink, None)?,
                fdb: entry::dump_fdb(netlink, None, 0)?,
                neighbours: entry::dump_neighbours(netlink, None)?,
                home_id,
            }),
        }
    }

    fn few(
        netlink: &mut Netlink,
        vnis: &BTreeSet<Vni>,
        ports: &BTreeSet<String>,
        home_id: i32,
    ) -> Result<Self, NetlinkError> {
        let mut all = Self {
            links: Vec::new(),
            fdb: Vec::new(),
            neighbours: Vec::new(),
            home_id,
        };
        let mut seen = BTreeSet::new();
        for vni in vnis {
            for name in [bridge_name(*vni), vxlan_name(*vni), unknown_name(*vni)] {
                all.links
                    .extend(link::get(netlink, &name)?.filter(|l| seen.insert(l.index)));
            }
        }
        for name in ports {
            let Some(port) = link::get(netlink, name)?.filter(|l| seen.insert(l.index)) else {
                continue;
            };
            // Its bridge says in which network it is.
            let master = port.master;
            if let Some(master) = master.filter(|m| !seen.contains(m)) {
                all.links
                    .extend(link::get_by_index(netlink, master)?.filter(|l| seen.insert(l.index)));
            }
            all.fdb.extend(entry::dump_fdb(netlink, None, port.index)?);
            all.links.push(port);
            // What sends on the frames of a workload that has left is at the VXLAN device.
            let vni = all
                .links
                .iter()
                .filter(|l| Some(l.index) == master)
                .find_map(Link::as_bridge);
            if let Some(vni) = vni {
                all.links
                    .extend(link::get(netlink, &vxlan_name(vni))?.filter(|l| seen.insert(l.index)));
            }
        }
        let bridge_of = |vni: &Vni| all.links.iter().find(|l| l.as_bridge() == Some(*vni)).map(|l| l.index);
        let bridges: Vec<u32> = vnis.iter().filter_map(bridge_of).collect();
        for bridge in bridges {
            all.fdb.extend(entry::dump_fdb(netlink, Some(bridge), 0)?);
            all.neighbours.extend(entry::dump_neighbours(netlink, Some(bridge))?);
        }
        // A port that was asked for may be in a network that was asked for: the same entries were read twice.
        let mut known = HashSet::new();
        all.fdb.retain(|e| known.insert((e.index, e.mac, e.of_bridge, e.vtep)));
        Ok(all)
    }

    /// The links as read.
    pub(super) fn links(&self) -> &[Link] {
        &self.links
    }

    /// The VTEPs that entries of devices in use lead to.
    pub(super) fn vteps(&self) -> HashSet<IpAddr> {
        let vxlans = self.by_index(Link::as_vxlan);
        let in_use = self.fdb.iter().filter(|e| vxlans.contains_key(&e.index));
        in_use.filter_map(|e| e.vtep).collect()
    }

    /// What was read, as objects.
    pub(super) fn objects(
        &self,
        scope: &Scope,
        expected: &Expected,
        worker: &mut Worker,
        filter: &Filter,
    ) -> BTreeMap<ObjectKey, Object> {
        let within = |vni: Vni| match scope {
            Scope::All => true,
            Scope::Some { vnis, .. } => vnis.contains(&vni),
        };
        let bridges: HashMap<u32, Vni> = self.by_index(Link::as_bridge);
        let vxlans: HashMap<u32, Vni> = self.by_index(Link::as_vxlan);
        let mut found: Vec<Object> = Vec::new();
        found.extend(self.segments(filter));
        found.extend(self.stations(&vxlans));
        found.extend(self.neighbours(&bridges));
        found.retain(|o| o.vni().is_some_and(within));
        found.extend(self.ports(scope, &bridges, expected, worker, filter));
        found.into_iter().map(|o| (o.key(), o)).collect()
    }

    fn by_index(&self, vni: impl Fn(&Link) -> Option<Vni>) -> HashMap<u32, Vni> {
        self.links.iter().filter_map(|l| Some((l.index, vni(l)?))).collect()
    }

    fn segments(&self, filter: &Filter) -> Vec<Object> {
        /// Bridge, VXLAN device, link for unknown stations.
        type Parts<'a> = [Option<&'a Link>; 3];
        let mut all: BTreeMap<Vni, Parts<'_>> = BTreeMap::new();
        for link in &self.links {
            let kinds = [link.as_bridge(), link.as_vxlan(), link.as_unknown()];
            for (part, vni) in kinds.into_iter().enumerate() {
                if let Some(vni) = vni {
                    all.entry(vni).or_default()[part] = Some(link);
                }
            }
        }
        let segment = |(vni, [bridge, vxlan, unknown]): (Vni, Parts<'_>)| {
            let mtu = bridge.map_or(0, |b| b.mtu);
            let seen = Segment {
                vni,
                mtu,
                local: vxlan.and_then(Link::vxlan_local),
                intact: true,
            };
            let right = match (bridge, vxlan, unknown) {
                (Some(b), Some(x), Some(u)) => {
                    b.bridge_is_right(&seen)
                        && x.vxlan_is_right(&seen, b.index, self.home_id)
                        && u.unknown_is_right(&seen, b.index)
                        && filter.limits_unknown(u.index, x.index)
                }
                _ => false,
            };
            Object::Segment(Segment { intact: right, ..seen })
        };
        all.into_iter().map(segment).collect()
    }

    /// Stations and flood entries. A station needs an entry in the VXLAN device and one in
    /// the bridge; if only one of the two exists, the station is shown without a VTEP, so that it differs from what is
    /// wanted.
    fn stations(&self, vxlans: &HashMap<u32, Vni>) -> Vec<Object> {
        let mut halves: BTreeMap<(Vni, MacAddress), (Option<IpAddr>, bool)> = BTreeMap::new();
        let mut found = Vec::new();
        for e in &self.fdb {
            let Some(vni) = vxlans.get(&e.index).copied() else {
                continue;
            };
            if let (true, false, Some(vtep)) = (e.is_default(), e.of_bridge, e.vtep) {
                found.push(Object::Flood { vni, vtep });
            } else if let Some(mac) = MacAddress::new(e.mac).filter(|_| !e.local) {
                let half = halves.entry((vni, mac)).or_default();
                if e.of_bridge {
                    half.1 |= e.fixed;
                } else {
                    half.0 = e.vtep;
                }
            }
        }
        found.extend(halves.into_iter().map(|((vni, mac), (vtep, in_bridge))| {
            let vtep = vtep.filter(|_| in_bridge).unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
            Object::Station { vni, mac, vtep }
        }));
        found
    }

    fn neighbours(&self, bridges: &HashMap<u32, Vni>) -> Vec<Object> {
        let neighbour = |e: &NeighbourEntry| {
            Some(Object::Neighbour {
                vni: *bridges.get(&e.index)?,
                ip: e.ip,
                mac: e.mac?,
                router: e.router,
            })
        };
        self.neighbours.iter().filter_map(neighbour).collect()
    }

    fn ports(
        &self,
        scope: &Scope,
        bridges: &HashMap<u32, Vni>,
        expected: &Expected,
        worker: &mut Worker,
        filter: &Filter,
    ) -> Vec<Object> {
        let vni_of = |l: &Link| l.master.and_then(|m| bridges.get(&m)).copied();
        let within = |l: &Link| match scope {
            Scope::All => true,
            Scope::Some { ports, .. } => ports.contains(&l.name),
        };
        let found: Vec<&Link> = self.links.iter().filter(|l| l.is_port() && within(l)).collect();
        let interfaces = read_interfaces(&found, expected, worker);
        let port = |link: &Link| {
            let Some(a) = expected.get(&link.name) else {
                return Object::StrayPort {
                    name: link.name.clone(),
                    id: link.attachment_id().map(str::to_owned),
                };
            };
            let intact = vni_of(link) == Some(a.vni)
                && link.port_is_right(a, link.master.unwrap_or(0))
                && filter.is_right(link.index, a, self.tunnel_of(a.vni))
                && self.has_port_station(link.index, a)
                && interfaces
                    .get(&link.name)
                    .is_some_and(|i| i.is_other_end_of(link) && i.is_right(a));
            Object::Port(Box::new(Port {
                attachment: a.clone(),
                intact,
            }))
        };
        found.into_iter().map(port).collect()
    }

    /// The index of a network's VXLAN device, where it was read.
    fn tunnel_of(&self, vni: Vni) -> Option<u32> {
        self.links.iter().find(|l| l.as_vxlan() == Some(vni)).map(|l| l.index)
    }

    /// True when the bridge knows that the workload is at the port, and knows nothing else there; of a workload that is not
    /// here, it knows nothing.
    fn has_port_station(&self, index: u32, a: &Attachment) -> bool {
        let mut at_port = self.fdb.iter().filter(|e| e.index == index && e.of_bridge && !e.local);
        if a.mode != Mode::Serving {
            return at_port.next().is_none();
        }
        at_port.next().is_some_and(|e| e.mac == a.mac.octets() && e.fixed) && at_port.next().is_none()
    }
}

/// Reads the other ends of ports, entering each namespace once.
fn read_interfaces(ports: &[&Link], expected: &Expected, worker: &mut Worker) -> HashMap<String, Interface> {
    let mut by_netns: BTreeMap<&str, Vec<(String, String)>> = BTreeMap::new();
    for port in ports {
        if let Some(a) = expected.get(&port.name) {
            by_netns
                .entry(&a.netns)
                .or_default()
                .push((port.name.clone(), a.interface.clone()));
        }
    }
    let mut found = HashMap::new();
    for (netns, wanted) in by_netns {
        let Ok(namespace) = worker.open(netns) else { continue };
        let read = worker.run(&namespace, netns, move || {
            let mut netlink = Netlink::open()?;
            let mut read = Vec::new();
            for (port, interface) in wanted {
                read.extend(Interface::read(&mut netlink, &interface)?.map(|i| (port, i)));
            }
            Ok(read)
        });
        match read {
            Ok(read) => found.extend(read),
            // Shown as not intact; the repair that follows reports what is wrong.
            Err(error) => tracing::debug!(netns, %error, "cannot read a namespace"),
        }
    }
    found
}
