//! What to build: namespaces, cables and addresses, computed from topology and intent.
//!
//! Pure: the same files give the same plan.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use anyhow::{Context, Result, bail};
use vfabric_api::ident::{Mac, Name};
use vfabric_api::intent::{Intent, Place, SubnetSpec};
use vfabric_api::topology::{Host, PortRef, Role, Switch, Topology};

/// Every namespace of a lab starts with this, and nothing else on the machine does.
pub const PREFIX: &str = "vflab-";
/// The namespace of the management network's bridge.
pub const MGMT: &str = "vflab-mgmt";
/// The only link that a lab creates outside its namespaces; through it the controller reaches the devices.
pub const MGMT_LINK: &str = "vflab-mgmt0";
/// Far end of a leaf's spare cable, which nothing is plugged into.
const SPARE_END: &str = "spare";
/// Last octet of the controller's management address.
const CONTROLLER_OCTET: u8 = 1;
/// Last octet of the first host's management address.
const FIRST_HOST_OCTET: u8 = 128;

/// A machine cabled to an access port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metal {
    /// Its namespace.
    pub namespace: String,
    /// The leaf port it is cabled to.
    pub at: PortRef,
    /// Its MAC address.
    pub mac: Mac,
    /// Its addresses with prefix lengths.
    pub addresses: Vec<(IpAddr, u8)>,
    /// Its default gateways.
    pub gateways: Vec<IpAddr>,
    /// Largest IP packet, in octets.
    pub mtu: u16,
}

/// A namespace with an interface in the management network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its namespace.
    pub namespace: String,
    /// Its management address.
    pub mgmt: Ipv4Addr,
}

/// Everything a lab consists of.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The controller's management address.
    pub controller: Ipv4Addr,
    /// A node for each switch, in the topology's order.
    pub switches: Vec<Node>,
    /// A node for each host, in the topology's order.
    pub hosts: Vec<Node>,
    /// Bare-metal machines of the intent.
    pub metals: Vec<Metal>,
    /// Namespaces of workloads on hosts.
    pub workloads: BTreeSet<String>,
    /// A port of each leaf whose cable leads nowhere, for the checks that move one.
    pub spares: Vec<PortRef>,
}

/// The namespace of a switch or host.
pub fn namespace(name: &Name) -> String {
    format!("{PREFIX}{name}")
}

impl Plan {
    /// Plans a lab.
    ///
    /// # Errors
    /// Names the field of the topology or intent that cannot be built here.
    pub fn new(topology: &Topology, intent: &Intent) -> Result<Self> {
        let mut switches = Vec::new();
        for s in &topology.switches {
            let IpAddr::V4(mgmt) = s.p4runtime.ip() else {
                bail!("switch {}: p4runtime: the lab's management network is IPv4", s.name);
            };
            switches.push(Node {
                namespace: namespace(&s.name),
                mgmt,
            });
        }
        let first = switches
            .first()
            .context("topology: switches: at least one is needed")?
            .mgmt
            .octets();
        let at = |octet: u8| Ipv4Addr::new(first[0], first[1], first[2], octet);
        for node in &switches {
            if node.mgmt.octets()[..3] != first[..3] {
                bail!(
                    "{}: p4runtime `{}`: expected an address in {}/24",
                    node.namespace,
                    node.mgmt,
                    at(0)
                );
            }
        }
        if topology.hosts.len() > usize::from(u8::MAX - FIRST_HOST_OCTET) {
            bail!("topology: hosts: the lab has room for {}", u8::MAX - FIRST_HOST_OCTET);
        }
        let hosts = (FIRST_HOST_OCTET..).zip(&topology.hosts);
        let hosts = hosts
            .map(|(octet, h)| Node {
                namespace: namespace(&h.name),
                mgmt: at(octet),
            })
            .collect();
        let mut plan = Self {
            controller: at(CONTROLLER_OCTET),
            switches,
            hosts,
            metals: Vec::new(),
            workloads: BTreeSet::new(),
            spares: spares(topology)?,
        };
        plan.place(intent)?;
        Ok(plan)
    }

    fn place(&mut self, intent: &Intent) -> Result<()> {
        for vdc in &intent.vdcs {
            for a in &vdc.attachments {
                let whose = || format!("attachment `{}` of vdc `{}`", a.name, vdc.name);
                match &a.place {
                    Place::Host { netns, .. } => {
                        if !netns.starts_with(PREFIX) {
                            bail!(
                                "{}: place.host.netns `{netns}`: expected a name that starts with {PREFIX}",
                                whose()
                            );
                        }
                        self.workloads.insert(netns.clone());
                    }
                    Place::Port { switch, port, vlan } => {
                        if vlan.is_some() {
                            bail!("{}: place.port.vlan: machines of the lab send untagged frames", whose());
                        }
                        let network = vdc.networks.iter().find(|n| n.name == a.network);
                        let network =
                            network.with_context(|| format!("{}: network `{}` is unknown", whose(), a.network))?;
                        let mac = a.mac.with_context(|| {
                            format!(
                                "{}: mac: missing: a bare-metal machine has a MAC address of \
                                its own",
                                whose()
                            )
                        })?;
                        let subnet_of = |ip: &IpAddr| -> Option<&SubnetSpec> {
                            network.subnets.iter().find(|s| s.cidr.contains(ip))
                        };
                        let with_length = |ip: &IpAddr| Some((*ip, subnet_of(ip)?.cidr.prefix_len()));
                        self.metals.push(Metal {
                            namespace: format!("{PREFIX}{}-{}", vdc.name, a.name),
                            at: PortRef {
                                switch: switch.clone(),
                                port: *port,
                            },
                            mac,
                            addresses: a.ips.iter().filter_map(with_length).collect(),
                            gateways: a.ips.iter().filter_map(subnet_of).map(SubnetSpec::gateway).collect(),
                            mtu: network.mtu,
                        });
                    }
                }
            }
        }
        Ok(())
    }

    /// Every namespace.
    pub fn namespaces(&self) -> Vec<&str> {
        let nodes = self.switches.iter().chain(&self.hosts).map(|n| n.namespace.as_str());
        let metals = self.metals.iter().map(|m| m.namespace.as_str());
        std::iter::once(MGMT)
            .chain(nodes)
            .chain(metals)
            .chain(self.workloads.iter().map(String::as_str))
            .collect()
    }

    /// iproute2 lines that make all namespaces and cables. They run outside the namespaces.
    pub fn links(&self, topology: &Topology) -> String {
        let mut lines: Vec<String> = self.namespaces().iter().map(|n| format!("netns add {n}")).collect();
        lines.push(format!("link add {MGMT_LINK} type veth peer name p0 netns {MGMT}"));
        lines.push(format!("addr add {}/24 dev {MGMT_LINK}", self.controller));
        lines.push(format!("link set {MGMT_LINK} up"));
        for (i, node) in self.switches.iter().chain(&self.hosts).enumerate() {
            lines.push(veth(&format!("p{}", i + 1), MGMT, "mgmt0", &node.namespace));
        }
        for link in &topology.links {
            let end = |r: &PortRef| (format!("swp{}", r.port), namespace(&r.switch));
            let ((a, an), (b, bn)) = (end(&link.a), end(&link.b));
            lines.push(veth(&a, &an, &b, &bn));
        }
        for host in &topology.hosts {
            lines.push(veth(
                &format!("swp{}", host.uplink.port),
                &namespace(&host.uplink.switch),
                "eth0",
                &namespace(&host.name),
            ));
        }
        for m in &self.metals {
            lines.push(veth(
                &format!("swp{}", m.at.port),
                &namespace(&m.at.switch),
                "eth0",
                &m.namespace,
            ));
        }
        for at in &self.spares {
            let leaf = namespace(&at.switch);
            lines.push(veth(&format!("swp{}", at.port), &leaf, SPARE_END, &leaf));
        }
        lines.join("\n")
    }

    /// iproute2 lines for the management bridge's namespace.
    pub fn mgmt_bridge(&self) -> String {
        let mut lines = vec!["link add br0 type bridge".to_owned(), "link set br0 up".to_owned()];
        for i in 0..=self.switches.len() + self.hosts.len() {
            lines.push(format!("link set p{i} master br0"));
            lines.push(format!("link set p{i} up"));
        }
        lines.join("\n")
    }
}

/// The first port of each leaf after those that the topology names.
fn spares(topology: &Topology) -> Result<Vec<PortRef>> {
    let leaves = topology.switches.iter().filter(|s| s.role == Role::Leaf);
    let spare = |leaf: &Switch| -> Result<PortRef> {
        let ends = topology.links.iter().flat_map(|l| [&l.a, &l.b]);
        let uplinks = topology.hosts.iter().map(|h| &h.uplink);
        let mine = ends.chain(uplinks).filter(|r| r.switch == leaf.name).map(|r| r.port);
        let last = mine.chain(leaf.access_ports.iter().copied()).map(|p| p.get()).max();
        Ok(PortRef {
            switch: leaf.name.clone(),
            port: (last.unwrap_or(0) + 1).try_into()?,
        })
    };
    leaves.map(spare).collect()
}

fn veth(a: &str, a_namespace: &str, b: &str, b_namespace: &str) -> String {
    format!("link add {a} netns {a_namespace} type veth peer name {b} netns {b_namespace}")
}

/// iproute2 lines for a switch's namespace. A blank switch gets its address by itself.
pub fn switch(node: &Node, ports: &[u16], mtu: u16, is_blank: bool) -> String {
    let mut lines = vec!["link set lo up".to_owned(), "link set mgmt0 up".to_owned()];
    if !is_blank {
        lines.push(format!("addr add {}/24 dev mgmt0", node.mgmt));
    }
    for port in ports {
        // A port carries an Ethernet header and a VLAN tag in addition to the IP packet; the MTU includes neither.
        lines.push(format!("link set swp{port} mtu {mtu}"));
        lines.push(format!("link set swp{port} up"));
    }
    lines.join("\n")
}

/// iproute2 lines for a host's namespace: its uplink as an operator would configure it.
pub fn host(node: &Node, host: &Host, leaf_ipv4: Ipv4Addr, leaf_ipv6: std::net::Ipv6Addr, mtu: u16) -> String {
    [
        "link set lo up".to_owned(),
        format!("addr add {}/24 dev mgmt0", node.mgmt),
        "link set mgmt0 up".to_owned(),
        format!("link set eth0 address {} mtu {mtu}", host.mac),
        "link set eth0 up".to_owned(),
        format!("addr add {}/32 dev eth0", host.vtep_ipv4),
        format!("addr add {}/128 dev eth0 nodad", host.vtep_ipv6),
        format!(
            "route add default via {leaf_ipv4} dev eth0 src {} onlink",
            host.vtep_ipv4
        ),
        format!(
            "route add default via {leaf_ipv6} dev eth0 src {} onlink",
            host.vtep_ipv6
        ),
    ]
    .join("\n")
}

/// iproute2 lines for a bare-metal machine's namespace.
pub fn metal(m: &Metal) -> String {
    let mut lines = vec![
        "link set lo up".to_owned(),
        format!("link set eth0 address {} mtu {}", m.mac, m.mtu),
        "link set eth0 up".to_owned(),
    ];
    for (ip, length) in &m.addresses {
        let nodad = if ip.is_ipv6() { " nodad" } else { "" };
        lines.push(format!("addr add {ip}/{length} dev eth0{nodad}"));
    }
    for gateway in &m.gateways {
        lines.push(format!("route add default via {gateway} dev eth0"));
    }
    lines.join("\n")
}
