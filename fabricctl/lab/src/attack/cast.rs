//! The members of the lab, as attacks need to know them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context, Result, bail};
use vfabric_api::ident::{Mac, Name};
use vfabric_api::service::Kind;
use vfabric_api::status::View;
use vfabric_api::topology::{Host, PortRef, Switch};

use super::volley::Fate;
use super::watch::Port;
use crate::checks::{Endpoint, Scene};
use crate::counters::Counter;
use crate::plan;

/// A workload or bare-metal machine.
#[derive(Debug, Clone)]
pub(super) struct Member {
    /// The endpoint of the other checks.
    pub(super) endpoint: Endpoint,
    /// Where it sends.
    pub(super) port: Port,
    /// Its MAC address.
    pub(super) mac: Mac,
    /// Its IPv4 address.
    pub(super) v4: Ipv4Addr,
    /// Its IPv6 address.
    pub(super) v6: Ipv6Addr,
    /// The link-local address that goes with its MAC address (RFC 4291 appendix A).
    pub(super) link_local: Ipv6Addr,
    /// Its IPv4 gateway.
    pub(super) gateway4: Ipv4Addr,
    /// Its IPv6 gateway.
    pub(super) gateway6: Ipv6Addr,
    /// VNI of its network.
    pub(super) vni: u32,
}

impl Member {
    /// The counter that its host's filter increments for a reason.
    ///
    /// # Errors
    /// The member is not a workload on a host.
    pub(super) fn filter(&self, reason: &str) -> Result<Counter> {
        let host = self.endpoint.host.as_ref().context("a machine without a host")?;
        Ok(Counter::at(host, &self.endpoint.id, reason))
    }

    /// The counter of its leaf for a reason.
    pub(super) fn leaf(&self, reason: &str) -> Counter {
        Counter::switch(&self.endpoint.leaf, reason)
    }

    /// Whether both are in one network.
    pub(super) fn is_beside(&self, other: &Self) -> bool {
        self.endpoint.vdc == other.endpoint.vdc && self.endpoint.network == other.endpoint.network
    }
}

/// Everybody.
pub(super) struct Cast<'a> {
    /// The data that all checks use.
    pub(super) cx: &'a Scene<'a>,
    /// Everything that can send and receive in a network.
    pub(super) members: Vec<Member>,
    /// The MAC address of all gateways.
    pub(super) gateway: Mac,
}

fn link_local(mac: Mac) -> Ipv6Addr {
    let [a, b, c, d, e, f] = mac.0;
    Ipv6Addr::from([0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f])
}

impl<'a> Cast<'a> {
    /// Asks the controller for the addresses and numbers that it has allocated.
    ///
    /// # Errors
    /// The controller does not answer, or the intent lacks what the attacks need.
    pub(super) fn new(cx: &'a Scene<'a>) -> Result<Self> {
        let mut vnis = BTreeMap::new();
        let vdcs: BTreeSet<&Name> = cx.endpoints.iter().map(|e| &e.vdc).collect();
        for vdc in vdcs {
            for view in cx.runtime.block_on(cx.client.list(Kind::Network, Some(vdc)))? {
                let View::Network(network) = view else {
                    bail!("the controller listed something that is no network")
                };
                vnis.insert((vdc.clone(), network.spec.name), network.vni.get());
            }
        }
        let member = |endpoint: &Endpoint| -> Result<Member> {
            let gateways = cx.network(endpoint)?.subnets.iter().map(|s| s.gateway());
            let (mut gateway4, mut gateway6) = (None, None);
            for gateway in gateways {
                match gateway {
                    IpAddr::V4(a) => gateway4 = gateway4.or(Some(a)),
                    IpAddr::V6(a) => gateway6 = gateway6.or(Some(a)),
                }
            }
            let (IpAddr::V4(v4), IpAddr::V6(v6)) = (endpoint.ipv4, endpoint.ipv6) else {
                bail!("{}: addresses of both versions are needed", endpoint.id)
            };
            let of = (endpoint.vdc.clone(), endpoint.network.clone());
            Ok(Member {
                port: Port::new(&endpoint.namespace, "eth0"),
                mac: endpoint.mac,
                v4,
                v6,
                link_local: link_local(endpoint.mac),
                gateway4: gateway4.context("a network without an IPv4 subnet")?,
                gateway6: gateway6.context("a network without an IPv6 subnet")?,
                vni: *vnis.get(&of).context("a network that the controller does not list")?,
                endpoint: endpoint.clone(),
            })
        };
        Ok(Self {
            cx,
            members: cx.endpoints.iter().map(member).collect::<Result<_>>()?,
            gateway: cx.lab.topology.fabric.gateway_mac,
        })
    }

    /// Members on hosts.
    pub(super) fn workloads(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(|m| m.endpoint.host.is_some())
    }

    /// Another workload of the same network, under another leaf where there is one.
    ///
    /// # Errors
    /// The member is alone in its network.
    pub(super) fn neighbour(&self, of: &Member) -> Result<&Member> {
        let beside = || {
            let others = self.workloads().filter(|m| m.endpoint.id != of.endpoint.id);
            others.filter(|m| m.is_beside(of))
        };
        let far = beside().find(|m| m.endpoint.leaf != of.endpoint.leaf);
        far.or_else(|| beside().next())
            .with_context(|| format!("{} is alone in its network", of.endpoint.id))
    }

    /// A member of another vDC.
    ///
    /// # Errors
    /// There is only one vDC.
    pub(super) fn stranger(&self, of: &Member) -> Result<&Member> {
        let mut others = self.members.iter();
        others
            .find(|m| m.endpoint.vdc != of.endpoint.vdc && m.mac != of.mac)
            .context("the intent has one vDC only")
    }

    /// A member of the same vDC in another network that a router joins.
    ///
    /// # Errors
    /// There is none.
    pub(super) fn beyond(&self, of: &Member) -> Result<&Member> {
        let mut others = self.members.iter();
        others
            .find(|m| m.endpoint.vdc == of.endpoint.vdc && m.endpoint.network != of.endpoint.network)
            .context("the vDC has one network only")
    }

    /// Namespaces of all members of the same network, including the sender.
    pub(super) fn network(&self, of: &Member) -> BTreeSet<String> {
        let beside = self.members.iter().filter(|m| m.is_beside(of));
        beside.map(|m| m.endpoint.namespace.clone()).collect()
    }

    /// Namespaces of the other hosts with members of the same network.
    pub(super) fn hosts_beside(&self, of: &Member) -> BTreeSet<String> {
        let beside = self
            .workloads()
            .filter(|m| m.is_beside(of) && m.endpoint.host != of.endpoint.host);
        let hosts = beside.filter_map(|m| m.endpoint.host.as_ref());
        hosts.map(plan::namespace).collect()
    }

    /// What should become of a frame to an address that no member of the sender's network
    /// has.
    pub(super) fn flooded(&self, of: &Member) -> Fate {
        Fate::Flooded {
            network: self.network(of),
            hosts: self.hosts_beside(of),
        }
    }

    /// Namespaces of everybody in a vDC.
    pub(super) fn vdc(&self, vdc: &Name) -> BTreeSet<String> {
        let inside = self.members.iter().filter(|m| &m.endpoint.vdc == vdc);
        inside.map(|m| m.endpoint.namespace.clone()).collect()
    }

    /// Whether the host holds an attachment of the member's network.
    pub(super) fn holds(&self, host: &Host, network_of: &Member) -> bool {
        let here = |m: &&Member| m.endpoint.host.as_ref() == Some(&host.name) && m.is_beside(network_of);
        self.workloads().any(|m| here(&m))
    }

    /// The leaf of a host.
    ///
    /// # Errors
    /// The topology does not have it.
    pub(super) fn leaf_of(&self, host: &Host) -> Result<&Switch> {
        let leaf = self.cx.lab.topology.switch(&host.uplink.switch);
        leaf.context("the host's leaf")
    }

    /// Both directions of every link between switches: the port that sends, and the switch at
    /// the other end.
    ///
    /// # Errors
    /// The topology does not have a switch that a link names.
    pub(super) fn links(&self) -> Result<Vec<(Port, &Switch)>> {
        let topology = &self.cx.lab.topology;
        let port = |r: &PortRef| Port::new(&plan::namespace(&r.switch), &format!("swp{}", r.port));
        let far = |r: &PortRef| topology.switch(&r.switch).context("a link's switch");
        let ends = topology.links.iter().flat_map(|l| [(&l.a, &l.b), (&l.b, &l.a)]);
        ends.map(|(from, to)| Ok((port(from), far(to)?))).collect()
    }

    /// Underlay addresses of every switch and host: IPv4 and IPv6 in pairs.
    pub(super) fn underlay(&self) -> Vec<(Ipv4Addr, Ipv6Addr)> {
        let topology = &self.cx.lab.topology;
        let switches = topology.switches.iter().map(|s| (s.loopback_ipv4, s.loopback_ipv6));
        let hosts = topology.hosts.iter().map(|h| (h.vtep_ipv4, h.vtep_ipv6));
        switches.chain(hosts).collect()
    }
}
