//! Subnets: what makes one valid, and which of its addresses are taken.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use vfabric_api::error::{ApiError, ErrorCode};
use vfabric_api::kind::{NetworkSpec, SubnetSpec};

use super::Network;
use crate::model::fields::Fields;
use crate::model::pool::Addresses;

pub(super) fn list(subnets: &[SubnetSpec]) -> String {
    subnets.iter().map(|s| s.cidr.to_string()).collect::<Vec<_>>().join(" ")
}

pub(super) fn overlap(a: &IpNet, b: &IpNet) -> bool {
    a.contains(b) || b.contains(a)
}

pub(in crate::model) fn disjoint(
    fields: &Fields<'_>,
    field: &str,
    one: &NetworkSpec,
    other: &NetworkSpec,
) -> Result<(), ApiError> {
    for a in &one.subnets {
        if let Some(b) = other.subnets.iter().find(|b| overlap(&a.cidr, &b.cidr)) {
            let expected = format!("subnets that do not overlap {} of network `{}`", b.cidr, other.name);
            return Err(fields.invalid(field, a.cidr, expected));
        }
    }
    Ok(())
}

pub(super) fn check_subnet(fields: &Fields<'_>, i: usize, subnet: &SubnetSpec) -> Result<(), ApiError> {
    let field = |name: &str| format!("subnets[{i}].{name}");
    let cidr = subnet.cidr;
    if cidr.trunc() != cidr {
        return Err(fields.invalid(
            &field("cidr"),
            cidr,
            format!("a prefix without host bits, such as {}", cidr.trunc()),
        ));
    }
    // A subnet holds its gateway and at least one workload.
    let longest = cidr.max_prefix_len() - 2;
    if cidr.prefix_len() > longest || cidr.prefix_len() == 0 {
        return Err(fields.invalid(&field("cidr"), cidr, format!("a prefix length from 1 to {longest}")));
    }
    let mut ranges = MARTIANS.into_iter().chain([LINK_LOCAL]);
    if let Some((range, what)) = ranges.find(range(|of| overlap(&cidr, of))) {
        let expected = format!("unicast addresses that hosts may have: {range} is {what}");
        return Err(fields.invalid(&field("cidr"), cidr, expected));
    }
    let gateway = subnet.gateway();
    if !is_host_address(&cidr, gateway) {
        return Err(fields.invalid(&field("gateway"), gateway, format!("a host address in {cidr}")));
    }
    if subnet.reserved.len() > MAX_RESERVED {
        let expected = format!("at most {MAX_RESERVED} ranges");
        return Err(fields.invalid(&field("reserved"), subnet.reserved.len(), expected));
    }
    for (j, range) in subnet.reserved.iter().enumerate() {
        let field = |end: &str| field(&format!("reserved[{j}].{end}"));
        for (end, ip) in [("first", range.first), ("last", range.last)] {
            if !cidr.contains(&ip) {
                return Err(fields.invalid(&field(end), ip, format!("an address in {cidr}")));
            }
        }
        if range.first > range.last {
            let expected = format!("at least {}, the first", range.first);
            return Err(fields.invalid(&field("last"), range.last, expected));
        }
    }
    Ok(())
}

/// Most reserved ranges of one subnet. Each allocation looks at all of them.
const MAX_RESERVED: usize = 64;

/// Addresses that no host may have (RFC 1122 section 3.2.1.3, RFC 4291 section 2.5, RFC 6890): leaves drop packets that
/// are routed from or to them.
const MARTIANS: [(&str, &str); 7] = [
    ("0.0.0.0/8", "this network"),
    ("127.0.0.0/8", "loopback"),
    ("224.0.0.0/4", "multicast"),
    ("240.0.0.0/4", "reserved"),
    ("::/96", "unspecified, loopback or IPv4-compatible"),
    ("::ffff:0:0/96", "IPv4-mapped"),
    ("ff00::/8", "multicast"),
];

/// Link-local addresses, which each host assigns to itself and which repeat on every link.
const LINK_LOCAL: (&str, &str) = ("fe80::/10", "link-local");

/// The first of these ranges that satisfies a test.
fn range(test: impl Fn(&IpNet) -> bool) -> impl Fn(&(&'static str, &'static str)) -> bool {
    move |(range, _)| range.parse().is_ok_and(|range| test(&range))
}

/// The range that contains a whole prefix, if no host may have an address of it.
pub(in crate::model) fn martian(net: &IpNet) -> Option<(&'static str, &'static str)> {
    MARTIANS.into_iter().find(range(|of| of.contains(net)))
}

/// The address is inside the prefix, and is neither its first address nor, for IPv4, its last.
pub(in crate::model) fn is_host_address(cidr: &IpNet, ip: IpAddr) -> bool {
    cidr.contains(&ip) && ip != cidr.network() && (ip.is_ipv6() || ip != cidr.broadcast())
}

pub(in crate::model) fn check_ip(
    fields: &Fields<'_>,
    field: &str,
    ip: IpAddr,
    network: &Network,
) -> Result<(), ApiError> {
    let Some(subnet) = network.spec.subnets.iter().find(|s| is_host_address(&s.cidr, ip)) else {
        let expected = format!("a host address in one of {}", list(&network.spec.subnets));
        return Err(fields.invalid(field, ip, expected));
    };
    if subnet.gateway() == ip {
        return Err(fields.error(ErrorCode::Taken, field, ip, "an address other than the gateway's"));
    }
    Ok(())
}

/// The address at an offset of a prefix.
pub(in crate::model) fn address_at(cidr: &IpNet, offset: u128) -> IpAddr {
    match cidr.network() {
        // An offset of a prefix of 32 bits has 32 bits.
        IpAddr::V4(base) => IpAddr::V4(u32::from(base).wrapping_add(offset as u32).into()),
        IpAddr::V6(base) => IpAddr::V6(u128::from(base).wrapping_add(offset).into()),
    }
}

/// The offset of an address in a prefix; none if it lies outside.
fn offset_in(cidr: &IpNet, ip: IpAddr) -> Option<u128> {
    match (cidr.network(), ip) {
        _ if !cidr.contains(&ip) => None,
        (IpAddr::V4(base), IpAddr::V4(ip)) => Some(u32::from(ip).wrapping_sub(u32::from(base)).into()),
        (IpAddr::V6(base), IpAddr::V6(ip)) => Some(u128::from(ip).wrapping_sub(u128::from(base))),
        _ => None,
    }
}

/// The last offset of the reserved range that contains this offset.
pub(in crate::model) fn reserved_to(subnet: &SubnetSpec, offset: u128) -> Option<u128> {
    let ip = address_at(&subnet.cidr, offset);
    let ranges = subnet.reserved.iter().filter(|range| range.contains(ip));
    ranges.filter_map(|range| offset_in(&subnet.cidr, range.last)).max()
}

/// A pool for each subnet, with what is in use taken out.
pub(super) fn pools<'a>(spec: &NetworkSpec, used: impl Iterator<Item = &'a IpAddr>) -> Vec<Addresses> {
    let used: BTreeSet<IpAddr> = used.copied().collect();
    let host_bits = |c: &IpNet| u32::from(c.max_prefix_len() - c.prefix_len());
    let mut pools = spec
        .subnets
        .iter()
        .map(|s| Addresses::new(host_bits(&s.cidr)))
        .collect();
    for ip in &used {
        take(spec, &mut pools, *ip, |ip| used.contains(&ip));
    }
    pools
}

/// Takes an address out of the pool of its subnet. `used` says whether another address is in
/// use.
pub(in crate::model) fn take(
    spec: &NetworkSpec,
    pools: &mut Vec<Addresses>,
    ip: IpAddr,
    used: impl Fn(IpAddr) -> bool,
) {
    for (subnet, pool) in spec.subnets.iter().zip(pools) {
        if let Some(offset) = offset_in(&subnet.cidr, ip) {
            pool.take(offset, |o| {
                reserved_to(subnet, o).or_else(|| used(address_at(&subnet.cidr, o)).then_some(o))
            });
        }
    }
}

pub(in crate::model) fn give_back(spec: &NetworkSpec, pools: &mut [Addresses], ip: IpAddr) {
    for (subnet, pool) in spec.subnets.iter().zip(pools) {
        if let Some(offset) = offset_in(&subnet.cidr, ip) {
            pool.free(offset);
        }
    }
}
