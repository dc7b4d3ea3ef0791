//! All attacks, by the place that they come from.

use anyhow::Result;

use super::cast::Cast;
use super::edge::Storm;
use super::speech::{self, Liar};
use super::vlans::{self, Vlans};
use super::volley::Volley;
use super::{asks, edge, host, link, management, theft};

type Build = fn(&Cast<'_>, &mut Volley<'_>) -> Result<()>;
type BuildOnVlans = fn(&Cast<'_>, &Vlans, &mut Volley<'_>) -> Result<()>;
type Lie = fn(&Liar<'_>, &mut Volley<'_>) -> Result<()>;

/// How an attack is carried out.
pub(super) enum Way {
    /// Frames from every workload.
    Workloads(Lie),
    /// Frames from every machine on an access port.
    Metals(Lie),
    /// Frames from places of its own choice.
    Frames(Build),
    /// Frames from machines whose ports have VLANs meanwhile.
    OnVlans(BuildOnVlans),
    /// Something else, which returns its result as text.
    Other(fn(&Cast<'_>) -> Result<String>),
}

/// Every attack, with the name by which people select it.
pub(super) const ATTACKS: &[(&str, Way)] = &[
    ("sockets ask for other vDCs", Way::Other(asks::between_vdcs)),
    ("workload: another MAC address", Way::Workloads(speech::mac)),
    (
        "workload: a MAC address nobody can have",
        Way::Workloads(speech::impossible_mac),
    ),
    ("workload: another IPv4 address", Way::Workloads(speech::ipv4)),
    ("workload: another IPv6 address", Way::Workloads(speech::ipv6)),
    ("workload: ARP for others", Way::Workloads(speech::arp)),
    ("workload: neighbour discovery for others", Way::Workloads(speech::nd)),
    (
        "workload: router advertisement, redirect",
        Way::Workloads(speech::router),
    ),
    ("workload: DHCP server", Way::Workloads(speech::dhcp)),
    ("workload: VLAN tags", Way::Workloads(edge::workload_tags)),
    ("workload: protocols of the link", Way::Workloads(edge::link_protocols)),
    ("workload: broken headers, SNAP", Way::Workloads(edge::workload_broken)),
    ("workload: overlapping fragments", Way::Workloads(edge::fragments)),
    (
        "workload: Martian destinations",
        Way::Workloads(speech::martian_destination),
    ),
    ("workload: the gateway itself", Way::Workloads(speech::to_gateway)),
    ("workload: TTL used up", Way::Workloads(speech::ttl)),
    ("workload: VXLAN to VTEPs", Way::Workloads(speech::own_tunnel)),
    (
        "workload: MAC addresses of the fabric",
        Way::Workloads(edge::workload_to_router),
    ),
    ("workload: addresses of strangers", Way::Workloads(speech::strangers)),
    (
        "workload: broadcast storm",
        Way::Frames(|cast, volley| edge::storm(cast, volley, true, Storm::Broadcast)),
    ),
    (
        "workload: storm to an unknown station",
        Way::Frames(|cast, volley| edge::storm(cast, volley, true, Storm::ToNobody)),
    ),
    ("metal: another MAC address", Way::Metals(speech::mac)),
    (
        "metal: a MAC address nobody can have",
        Way::Metals(speech::impossible_mac),
    ),
    ("metal: another IPv4 address", Way::Metals(speech::ipv4)),
    ("metal: another IPv6 address", Way::Metals(speech::ipv6)),
    ("metal: ARP for others", Way::Metals(speech::arp)),
    ("metal: neighbour discovery for others", Way::Metals(speech::nd)),
    ("metal: router advertisement, redirect", Way::Metals(speech::router)),
    ("metal: DHCP server", Way::Metals(speech::dhcp)),
    (
        "metal: DHCP server behind options and fragments",
        Way::Metals(edge::metal_hidden),
    ),
    ("metal: other VLANs, double tags", Way::Metals(edge::metal_tags)),
    ("metal: ports with VLANs", Way::OnVlans(vlans::tags)),
    ("metal: protocols of the link", Way::Metals(edge::link_protocols)),
    ("metal: cut-off headers", Way::Metals(edge::metal_broken)),
    ("metal: overlapping fragments", Way::Metals(edge::fragments)),
    ("metal: Martian destinations", Way::Metals(speech::martian_destination)),
    ("metal: the gateway itself", Way::Metals(speech::to_gateway)),
    ("metal: TTL used up", Way::Metals(speech::ttl)),
    ("metal: VXLAN to VTEPs", Way::Metals(speech::own_tunnel)),
    ("metal: MAC addresses of the fabric", Way::Metals(edge::metal_to_router)),
    ("metal: addresses of strangers", Way::Metals(speech::strangers)),
    (
        "metal: broadcast storm",
        Way::Frames(|cast, volley| edge::storm(cast, volley, false, Storm::Broadcast)),
    ),
    (
        "metal: storm to an unknown station",
        Way::Frames(|cast, volley| edge::storm(cast, volley, false, Storm::ToNobody)),
    ),
    ("host: a VNI it does not hold", Way::Frames(host::foreign_vni)),
    ("host: another outer source", Way::Frames(host::foreign_source)),
    ("host: odd tunnels", Way::Frames(host::odd_tunnel)),
    ("host: tags inside tunnels", Way::Frames(host::inner_tag)),
    (
        "host: tunnels in fragments, behind headers",
        Way::Frames(host::hidden_tunnel),
    ),
    ("host: IPv4 addresses inside IPv6", Way::Frames(host::mapped)),
    ("host: ICMP errors about tunnels", Way::Frames(host::icmp_errors)),
    ("host: other hosts, switches, management", Way::Frames(host::plain)),
    ("host: frames not for its leaf", Way::Frames(host::not_for_leaf)),
    (
        "host: forged addresses in its own networks",
        Way::Frames(host::forged_inside),
    ),
    ("link: forged LLDP", Way::Frames(link::lldp)),
    ("link: frames not for the switch", Way::Frames(link::not_for_switch)),
    ("link: tags", Way::Frames(link::tags)),
    ("link: to the switch itself", Way::Frames(link::to_the_switch)),
    ("link: to nowhere", Way::Frames(link::nowhere)),
    ("link: TTL used up", Way::Frames(link::ttl)),
    ("link: broken headers", Way::Frames(link::malformed)),
    ("link: tunnels nobody has", Way::Frames(link::tunnels)),
    (
        "link: frames that would be bridged back",
        Way::Frames(link::bridged_back),
    ),
    (
        "management: keys of hosts and switches",
        Way::Other(management::stolen_keys),
    ),
    ("management: no key", Way::Other(management::no_key)),
    (
        "management: an operator changes something",
        Way::Other(management::operator),
    ),
    (
        "management: an admin's certificate, stolen",
        Way::Other(management::stolen_admin),
    ),
    (
        "management: users' tokens and certificates, stolen",
        Way::Other(theft::users),
    ),
    ("management: no token", Way::Other(management::no_token)),
];
