//! The addresses that may send on a guarded access port: the tables of SourceGuard.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr};

use fabric_pipeline::Bits;
use fabric_pipeline::tables::{source_ipv4, source_ipv6, source_mac};
use ipnet::IpNet;
use vfabric_api::ident::Mac;

use super::convert;
use crate::entity::Entity;
use crate::view::{AttachmentView, NetworkView};

/// The link-local address that follows from a MAC address (RFC 4291 appendix A).
fn link_local(mac: Mac) -> Ipv6Addr {
    let [a, b, c, d, e, f] = mac.0;
    let pair = |high, low| u16::from_be_bytes([high, low]);
    Ipv6Addr::new(
        0xfe80,
        0,
        0,
        0,
        pair(a ^ 2, b),
        pair(c, 0xff),
        pair(0xfe, d),
        pair(e, f),
    )
}

/// The MAC and IP addresses of the attachment with this access id, and its further allowed addresses. A gateway's
/// address inside an allowed prefix is refused.
pub(super) fn access(network: &NetworkView, attachment: &AttachmentView, access_id: Bits<16>, out: &mut Vec<Entity>) {
    let own = attachment.ips.iter().map(|ip| (attachment.mac, IpNet::from(*ip)));
    let allowed = attachment.allowed.iter().map(|a| (a.mac, a.net));
    let macs: BTreeSet<Mac> = std::iter::once(attachment.mac)
        .chain(attachment.allowed.iter().map(|a| a.mac))
        .collect();
    let links = macs
        .iter()
        .map(|mac| (*mac, IpNet::from(IpAddr::from(link_local(*mac)))));
    let mut entries: BTreeMap<(Mac, IpNet), bool> = BTreeMap::new();
    entries.extend(own.chain(allowed).chain(links).map(|claim| (claim, true)));
    for entry in &attachment.allowed {
        let gateways = network.subnets.iter().map(|s| s.gateway);
        let inside = gateways.filter(|g| entry.net.contains(g));
        entries.extend(inside.map(|g| ((entry.mac, IpNet::from(g)), false)));
    }

    let bd = convert::vni(network.vni);
    for mac in &macs {
        let smac = convert::mac(*mac);
        let key = source_mac::Key { bd, access_id, smac };
        out.push(key.entry(source_mac::Action::PermitMac).into());
    }
    for ((mac, net), permitted) in entries {
        out.push(source(access_id, mac, net, permitted));
    }
}

fn source(access_id: Bits<16>, mac: Mac, net: IpNet, permitted: bool) -> Entity {
    let smac = convert::mac(mac);
    match net {
        IpNet::V4(net) => {
            let src = convert::ipv4_prefix(net);
            let key = source_ipv4::Key { access_id, smac, src };
            key.entry(if permitted {
                source_ipv4::Action::PermitIp
            } else {
                source_ipv4::Action::RefuseIp
            })
        }
        IpNet::V6(net) => {
            let src = convert::ipv6_prefix(net);
            let key = source_ipv6::Key { access_id, smac, src };
            key.entry(if permitted {
                source_ipv6::Action::PermitIp
            } else {
                source_ipv6::Action::RefuseIp
            })
        }
    }
    .into()
}
