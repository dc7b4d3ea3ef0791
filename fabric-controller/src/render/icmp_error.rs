//! The source addresses and the rate of the ICMP errors that a leaf makes: the tables of ErrorDue.

use std::net::IpAddr;

use fabric_pipeline::Bits;
use fabric_pipeline::binding::{MeterRates, metered_entry};
use fabric_pipeline::tables::{icmp_source_ipv4, icmp_source_ipv6};
use ipnet::IpNet;

use super::convert;
use crate::entity::Entity;
use crate::view::SubnetView;

/// ICMP errors a second that a leaf sends to the stations of one subnet, and as many at once. A traceroute of 30 hops
/// with three probes each gets all its answers; answering a flood costs no more than this (RFC 1812 section 4.3.2.8,
/// RFC 4443 section 2.4 (f)).
pub(super) const ICMP_ERRORS_PER_SECOND: i64 = 100;

/// The subnet of a network that has a router: errors to its stations come from its gateway.
pub(super) fn source(bd: Bits<24>, subnet: &SubnetView, out: &mut Vec<Entity>) {
    let rates = MeterRates {
        cir: ICMP_ERRORS_PER_SECOND,
        cburst: ICMP_ERRORS_PER_SECOND,
        pir: ICMP_ERRORS_PER_SECOND,
        pburst: ICMP_ERRORS_PER_SECOND,
        eburst: 0,
    };
    // In a subnet of one or two addresses, each may be a station's (RFC 3021, RFC 6164).
    match (subnet.cidr, subnet.gateway) {
        (IpNet::V4(net), IpAddr::V4(address)) => {
            let src = convert::ipv4_prefix(net);
            let hosts = if net.prefix_len() < 31 {
                net.hostmask()
            } else {
                [0; 4].into()
            };
            let action = icmp_source_ipv4::Action::ErrorFromIpv4 {
                address: address.into(),
                hosts: hosts.into(),
            };
            out.push(metered_entry(icmp_source_ipv4::Key { bd, src }, action, rates).into());
        }
        (IpNet::V6(net), IpAddr::V6(address)) => {
            let src = convert::ipv6_prefix(net);
            let hosts = if net.prefix_len() < 127 {
                net.hostmask()
            } else {
                [0; 16].into()
            };
            let action = icmp_source_ipv6::Action::ErrorFromIpv6 {
                address: address.into(),
                hosts: hosts.into(),
            };
            out.push(metered_entry(icmp_source_ipv6::Key { bd, src }, action, rates).into());
        }
        // A gateway's address belongs to its prefix.
        (IpNet::V4(_), IpAddr::V6(_)) | (IpNet::V6(_), IpAddr::V4(_)) => {}
    }
}
