//! Converts the model's values to those of the pipeline. The types guarantee that each fits.

use std::net::IpAddr;

use fabric_pipeline::Bits;
use fabric_pipeline::binding::Lpm;
use ipnet::{Ipv4Net, Ipv6Net};
use vfabric_api::ident::{Mac, PortId, Vni};

pub(super) fn port(p: PortId) -> Bits<9> {
    Bits::masked(p.get().into())
}

pub(super) fn vni(v: Vni) -> Bits<24> {
    Bits::masked(v.get().into())
}

/// The VRF of a network; 0 if no router joins it.
pub(super) fn vrf(v: Option<Vni>) -> Bits<24> {
    v.map_or(Bits::default(), vni)
}

pub(super) fn mac(m: Mac) -> Bits<48> {
    m.0.into()
}

/// A VLAN id (1 to 4094), or 0 for untagged frames.
pub(super) fn vid(v: Option<u16>) -> Bits<12> {
    Bits::masked(u128::from(v.unwrap_or(0)) & Bits::<12>::MAX)
}

/// An underlay address; IPv4 as IPv4-mapped.
pub(super) fn underlay(ip: IpAddr) -> Bits<128> {
    match ip {
        IpAddr::V4(a) => a.into(),
        IpAddr::V6(a) => a.into(),
    }
}

/// A prefix.
pub(super) fn ipv4_prefix(net: Ipv4Net) -> Lpm<32> {
    Lpm {
        value: net.network().into(),
        prefix_len: net.prefix_len().into(),
    }
}

/// A prefix.
pub(super) fn ipv6_prefix(net: Ipv6Net) -> Lpm<128> {
    Lpm {
        value: net.network().into(),
        prefix_len: net.prefix_len().into(),
    }
}
