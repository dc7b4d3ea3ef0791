//! Cables between devices, and the path of a frame over them.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr};

use vfabric_api::ident::Mac;
use vfabric_api::topology::Topology;

use super::devices::{Host, Sim};
use super::frames::{self, Outer};
use super::walk::GATEWAY;

/// More devices than any path has.
const MOST_HOPS: usize = 16;

/// A place at which workloads are.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Edge {
    /// VLAN of an access port: device, port, VLAN.
    Access(usize, u16, Option<u16>),
    /// Attachment of a host: device, identity.
    Host(usize, String),
}

/// A frame on a cable: the device and port that it arrives at.
#[derive(Debug, Clone)]
pub(super) struct InFlight {
    pub(super) device: usize,
    pub(super) port: u16,
    pub(super) frame: Vec<u8>,
}

enum Peer {
    Switch(usize, u16),
    Host(usize),
}

/// A host's uplink.
struct Uplink {
    leaf: usize,
    port: u16,
    macs: (Mac, Mac),
    vtep: Ipv4Addr,
}

/// All cables.
pub(super) struct Network {
    peers: HashMap<(usize, u16), Peer>,
    uplinks: HashMap<usize, Uplink>,
    /// Addresses of all VTEPs: leaves and hosts.
    vteps: Vec<Ipv4Addr>,
}

impl Network {
    pub(super) fn new(topology: &Topology) -> Self {
        let at = |name: &vfabric_api::ident::Name| topology.switches.iter().position(|s| s.name == *name).unwrap();
        let mut peers = HashMap::new();
        for link in &topology.links {
            let (a, b) = (
                (at(&link.a.switch), link.a.port.get()),
                (at(&link.b.switch), link.b.port.get()),
            );
            peers.insert(a, Peer::Switch(b.0, b.1));
            peers.insert(b, Peer::Switch(a.0, a.1));
        }
        let mut uplinks = HashMap::new();
        for (i, host) in topology.hosts.iter().enumerate() {
            let device = topology.switches.len() + i;
            let (leaf, port) = (at(&host.uplink.switch), host.uplink.port.get());
            peers.insert((leaf, port), Peer::Host(device));
            let macs = (topology.switches[leaf].router_mac(), host.mac);
            uplinks.insert(
                device,
                Uplink {
                    leaf,
                    port,
                    macs,
                    vtep: host.vtep_ipv4,
                },
            );
        }
        let leaves = topology.switches.iter().map(|switch| switch.loopback_ipv4);
        let vteps = leaves.chain(topology.hosts.iter().map(|host| host.vtep_ipv4)).collect();
        Self { peers, uplinks, vteps }
    }

    /// A workload's frame leaves its place. Returns the frames on cables, and the places that it has already reached.
    pub(super) fn send(&self, sims: &[Sim], from: &Edge, frame: &[u8]) -> (Vec<InFlight>, Vec<Edge>) {
        match from {
            Edge::Access(device, port, vlan) => {
                let frame = frames::tagged(*vlan, frame);
                let (device, port) = (*device, *port);
                (vec![InFlight { device, port, frame }], Vec::new())
            }
            Edge::Host(device, id) => self.leave_host(sims, *device, id, frame),
        }
    }

    fn leave_host(&self, sims: &[Sim], device: usize, id: &str, frame: &[u8]) -> (Vec<InFlight>, Vec<Edge>) {
        let Sim::Host(host) = &sims[device] else { panic!() };
        let Some(vni) = host.attachments().find(|a| a.id == id).map(|a| a.vni.get()) else {
            return Default::default();
        };
        let here = receivers(sims, device, vni, frame);
        let here: Vec<Edge> = here
            .into_iter()
            .filter(|e| !matches!(e, Edge::Host(_, other) if other == id))
            .collect();
        let unicast = frames::destination(frame).is_unicast();
        if unicast && !here.is_empty() {
            return (Vec::new(), here);
        }
        (self.tunnelled(host, device, vni, frame), here)
    }

    /// Forwards frames until they end. `hold` decides which of them stay on a cable for now; these are returned.
    pub(super) fn run(
        &self,
        sims: &[Sim],
        start: Vec<InFlight>,
        mut hold: impl FnMut() -> bool,
    ) -> (Vec<Edge>, Vec<InFlight>) {
        let mut queue: VecDeque<(usize, InFlight)> = start.into_iter().map(|f| (0, f)).collect();
        let (mut reached, mut held) = (Vec::new(), Vec::new());
        while let Some((hops, at)) = queue.pop_front() {
            assert!(hops < MOST_HOPS, "a frame loops: {at:?}");
            if hold() {
                held.push(at);
                continue;
            }
            let Sim::Switch(switch) = &sims[at.device] else {
                panic!()
            };
            for (port, frame) in switch.process(at.port, &at.frame) {
                match self.peers.get(&(at.device, port)) {
                    Some(Peer::Switch(device, port)) => {
                        let (device, port) = (*device, *port);
                        queue.push_back((hops + 1, InFlight { device, port, frame }));
                    }
                    Some(Peer::Host(device)) => {
                        let (here, on) = self.arrive(sims, *device, &frame);
                        reached.extend(here);
                        queue.extend(on.into_iter().map(|frame| (hops + 1, frame)));
                    }
                    None => reached.push(Edge::Access(at.device, port, frames::vlan(&frame))),
                }
            }
        }
        (reached, held)
    }

    /// A frame comes to a host: where it ends, and what the host sends on.
    fn arrive(&self, sims: &[Sim], device: usize, frame: &[u8]) -> (Vec<Edge>, Vec<InFlight>) {
        let Some((to, vni, inner)) = frames::untunnelled(frame) else {
            return Default::default();
        };
        if to != IpAddr::V4(self.uplinks[&device].vtep) {
            return Default::default();
        }
        let Sim::Host(host) = &sims[device] else { panic!() };
        if host.sends_on(vni, &inner) {
            return (Vec::new(), self.tunnelled(host, device, vni, &inner));
        }
        (receivers(sims, device, vni, &inner), Vec::new())
    }

    /// A place that a host reaches with frames of its own making in a network: broadcasts, and frames to each of these workloads, to
    /// every VTEP.
    pub(super) fn intrudes(&self, sims: &[Sim], device: usize, vni: u32, known: &[(Mac, Ipv4Addr)]) -> Option<Edge> {
        let uplink = self.uplinks.get(&device)?;
        let everybody = (Mac([0xff; 6]), Ipv4Addr::BROADCAST);
        let gateway = |(_, ip): &(Mac, Ipv4Addr)| (GATEWAY, *ip);
        let all = known
            .iter()
            .copied()
            .chain(known.iter().map(gateway))
            .chain([everybody]);
        for (mac, ip) in all {
            let own = Mac([2, 0, 0, 0, 9, 99]);
            let frame = frames::labelled(mac, own, Ipv4Addr::new(10, 0, 0, 14), ip, "intruder");
            for to in self.vteps.iter().copied().filter(|to| *to != uplink.vtep) {
                let (macs, from) = (uplink.macs, uplink.vtep);
                let start = vec![InFlight {
                    device: uplink.leaf,
                    port: uplink.port,
                    frame: frames::tunnelled(&Outer { macs, from, to, vni }, &frame),
                }];
                if let Some(edge) = self.run(sims, start, || false).0.into_iter().next() {
                    return Some(edge);
                }
            }
        }
        None
    }

    /// A frame of a network as a host sends it into its tunnels.
    fn tunnelled(&self, host: &Host, device: usize, vni: u32, frame: &[u8]) -> Vec<InFlight> {
        let uplink = &self.uplinks[&device];
        let tunnels = host.tunnels(vni, frame).into_iter().map(|to| {
            let IpAddr::V4(to) = to else { panic!("{to}") };
            let (macs, from) = (uplink.macs, uplink.vtep);
            InFlight {
                device: uplink.leaf,
                port: uplink.port,
                frame: frames::tunnelled(&Outer { macs, from, to, vni }, frame),
            }
        });
        tunnels.collect()
    }
}

/// Attachments of a host that a frame of a network is for.
fn receivers(sims: &[Sim], device: usize, vni: u32, frame: &[u8]) -> Vec<Edge> {
    let Sim::Host(host) = &sims[device] else { panic!() };
    let dst = frames::destination(frame);
    let of_network = host.attachments().filter(|a| a.vni.get() == vni);
    let wanted = of_network.filter(|a| !dst.is_unicast() || a.mac.octets() == dst.0);
    wanted.map(|a| Edge::Host(device, a.id.clone())).collect()
}
