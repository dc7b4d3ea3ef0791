//! The routes of a router: host routes and static routes to attachments.

use std::net::IpAddr;

use fabric_pipeline::Bits;
use fabric_pipeline::tables::{ipv4_host, ipv4_route, ipv6_host, ipv6_route};
use ipnet::IpNet;

use super::convert;
use crate::entity::Entity;

/// How the leaf gets a frame to an attachment.
#[derive(Clone, Copy)]
pub(super) enum Way {
    /// Through the tunnel of a VTEP.
    Tunnel { vtep_id: Bits<16> },
    /// By an access port of its own.
    Access { port: Bits<9>, vid: Bits<12> },
}

/// An attachment as the target of routes.
pub(super) struct To {
    /// VNI of its network.
    pub(super) network: Bits<24>,
    /// Largest IP packet of that, in octets.
    pub(super) mtu: u16,
    /// Its MAC address.
    pub(super) dmac: Bits<48>,
    pub(super) way: Way,
}

/// The action of a table that routes to attachments. These tables have the same actions, but each table has its own
/// types.
macro_rules! action {
    ($table:ident, $to:expr) => {{
        let (vni, dmac, mtu) = ($to.network, $to.dmac, $to.mtu.into());
        match $to.way {
            Way::Tunnel { vtep_id } => $table::Action::RouteToVtep {
                vni,
                vtep_id,
                dmac,
                mtu,
            },
            Way::Access { port, vid } => $table::Action::RouteToAccess { port, vid, dmac, mtu },
        }
    }};
}

impl To {
    /// One of its addresses.
    pub(super) fn host(&self, vrf: Bits<24>, ip: IpAddr) -> Entity {
        match ip {
            IpAddr::V4(a) => ipv4_host::Key { vrf, dst: a.into() }.entry(action!(ipv4_host, self)),
            IpAddr::V6(a) => ipv6_host::Key { vrf, dst: a.into() }.entry(action!(ipv6_host, self)),
        }
        .into()
    }

    /// A prefix that a static route sends to it.
    pub(super) fn prefix(&self, vrf: Bits<24>, net: IpNet) -> Entity {
        match net {
            IpNet::V4(net) => {
                let dst = convert::ipv4_prefix(net);
                ipv4_route::Key { vrf, dst }.entry(action!(ipv4_route, self))
            }
            IpNet::V6(net) => {
                let dst = convert::ipv6_prefix(net);
                ipv6_route::Key { vrf, dst }.entry(action!(ipv6_route, self))
            }
        }
        .into()
    }
}

/// The prefix of a network that the router joins: static routes do not lead to its unused addresses.
pub(super) fn nowhere(vrf: Bits<24>, net: IpNet) -> Entity {
    match net {
        IpNet::V4(net) => {
            let dst = convert::ipv4_prefix(net);
            ipv4_route::Key { vrf, dst }.entry(ipv4_route::Action::NoRoute)
        }
        IpNet::V6(net) => {
            let dst = convert::ipv6_prefix(net);
            ipv6_route::Key { vrf, dst }.entry(ipv6_route::Action::NoRoute)
        }
    }
    .into()
}
