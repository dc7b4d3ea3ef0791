//! The settings for IPv6.

use std::net::Ipv6Addr;

use ipnet::Ipv6Net;
use serde::{Deserialize, Serialize};

use crate::redirects::Redirects;
use crate::settings::{LARGEST_POOL, Pool};

/// Where switches are reached over IPv6, and their subnets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ipv6 {
    /// Address at which switches reach this server: host of all URLs.
    pub address: Ipv6Addr,
    /// Subnets in which addresses are given. Their routers are known by router advertisements, not by DHCP.
    pub subnets: Vec<Subnet6>,
    /// Name servers.
    #[serde(default)]
    pub dns: Vec<Ipv6Addr>,
    /// OpenConfig Bootz servers, one `bootz://HOST:PORT` or a list; the default is this server's own one, if it has one.
    #[serde(default)]
    pub bootz: Redirects,
    /// UDP port of DHCPv6; another than 547 for tests only.
    #[serde(default = "port", skip_serializing)]
    pub port: u16,
}

fn port() -> u16 {
    dhcproto::v6::SERVER_PORT
}

/// One subnet of the management network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Subnet6 {
    /// The subnet.
    pub subnet: Ipv6Net,
    /// Addresses for switches whose P4Runtime address is not in the subnet. Without a pool, such switches get no address.
    #[serde(default)]
    pub pool: Option<Pool<Ipv6Addr>>,
    /// Address at which switches of this subnet reach this server, if it differs from the common one.
    #[serde(default)]
    pub address: Option<Ipv6Addr>,
}

impl Ipv6 {
    /// # Errors
    /// The first field that is wrong, and why.
    pub(crate) fn check(&self) -> Result<(), (String, String)> {
        let usable = |field: String, a: Ipv6Addr| {
            let bad = a.is_unspecified() || a.is_multicast() || a.is_loopback() || a.is_unicast_link_local();
            let message = format!("`{a}` cannot be used: expected an address of a host that is not link-local");
            if bad { Err((field, message)) } else { Ok(()) }
        };
        usable("ipv6.address".into(), self.address)?;
        if self.subnets.is_empty() {
            return Err(("ipv6.subnets".into(), "expected at least one subnet".into()));
        }
        for (i, subnet) in self.subnets.iter().enumerate() {
            let field = |name: &str| format!("ipv6.subnets[{i}].{name}");
            let net = subnet.subnet;
            if net.trunc() != net {
                let message = format!("`{net}` has bits of a host: expected {}", net.trunc());
                return Err((field("subnet"), message));
            }
            let overlaps = |o: &&Subnet6| o.subnet.contains(&net.network()) || net.contains(&o.subnet.network());
            if let Some(other) = self.subnets[..i].iter().find(overlaps) {
                return Err((field("subnet"), format!("`{net}` overlaps with {}", other.subnet)));
            }
            if let Some(address) = subnet.address {
                usable(field("address"), address)?;
            }
            let Some(pool) = subnet.pool else { continue };
            for (name, end) in [("pool.first", pool.first), ("pool.last", pool.last)] {
                // The first address of a subnet is that of its routers (RFC 4291, section 2.6.1).
                if !net.contains(&end) || end == net.network() {
                    return Err((field(name), format!("`{end}` is not an address of a host in {net}")));
                }
            }
            if pool.first > pool.last || pool.size() > LARGEST_POOL {
                let message = format!("expected a range of 1 to {LARGEST_POOL} addresses");
                return Err((field("pool"), message));
            }
        }
        Ok(())
    }

    /// The subnet of an address.
    pub fn subnet_of(&self, address: Ipv6Addr) -> Option<&Subnet6> {
        self.subnets.iter().find(|s| s.subnet.contains(&address))
    }

    /// The address at which switches of a subnet reach this server.
    pub fn address_in(&self, subnet: &Subnet6) -> Ipv6Addr {
        subnet.address.unwrap_or(self.address)
    }

    /// Start of all URLs for switches of a subnet, without a slash at its end.
    pub fn url(&self, subnet: &Subnet6, http_port: u16) -> String {
        let address = self.address_in(subnet);
        match http_port {
            80 => format!("http://[{address}]"),
            port => format!("http://[{address}]:{port}"),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Settings with IPv6 for the tests of other modules.
    pub(crate) fn good() -> Ipv6 {
        let subnet = |subnet: &str, first: &str, last: &str| Subnet6 {
            subnet: subnet.parse().unwrap(),
            pool: Some(Pool {
                first: first.parse().unwrap(),
                last: last.parse().unwrap(),
            }),
            address: None,
        };
        Ipv6 {
            address: "2001:db8:1::1".parse().unwrap(),
            subnets: vec![
                subnet("2001:db8:1::/64", "2001:db8:1::100", "2001:db8:1::103"),
                subnet("2001:db8:2::/64", "2001:db8:2::100", "2001:db8:2::10f"),
            ],
            dns: vec!["2001:db8::53".parse().unwrap()],
            bootz: serde_json::from_str("\"bootz://[2001:db8:1::5]:15006\"").unwrap(),
            port: port(),
        }
    }

    #[test]
    fn every_mistake_names_its_field() {
        good().check().unwrap();
        type Change = fn(&mut Ipv6);
        let cases: [(&str, Change); 7] = [
            ("ipv6.address", |s| s.address = "fe80::1".parse().unwrap()),
            ("ipv6.subnets", |s| s.subnets.clear()),
            ("ipv6.subnets[0].subnet", |s| {
                s.subnets[0].subnet = "2001:db8:1::1/64".parse().unwrap();
            }),
            ("ipv6.subnets[1].subnet", |s| {
                s.subnets[1].subnet = "2001:db8:1:0:1::/80".parse().unwrap();
            }),
            ("ipv6.subnets[0].pool.first", |s| {
                s.subnets[0].pool.as_mut().unwrap().first = "2001:db8:1::".parse().unwrap();
            }),
            ("ipv6.subnets[0].pool", |s| {
                s.subnets[0].pool.as_mut().unwrap().last = "2001:db8:1::ff".parse().unwrap();
            }),
            ("ipv6.subnets[1].pool", |s| {
                s.subnets[1].pool.as_mut().unwrap().last = "2001:db8:2:0:ffff::".parse().unwrap();
            }),
        ];
        for (field, change) in cases {
            let mut settings = good();
            change(&mut settings);
            assert_eq!(settings.check().unwrap_err().0, field);
        }
    }
}
