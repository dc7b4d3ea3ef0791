//! The addresses that a workload may use besides its own, in the form of its host's filter: prefixes that do not
//! overlap, without the addresses of gateways. (A leaf has a table with priorities, so there [`super::source_guard`]
//! refuses gateways by entry.)

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use vtep_proto::{AllowedAddress, MacAddress};

use super::host;
use crate::view::{AttachmentView, NetworkView};

/// The addresses that a host's filter lets an attachment of this network use.
pub(super) fn on_host(network: &NetworkView, attachment: &AttachmentView) -> BTreeSet<AllowedAddress> {
    let gateways: Vec<IpAddr> = network.subnets.iter().map(|s| s.gateway).collect();
    let entries = attachment.allowed.iter();
    let pieces = entries.flat_map(|entry| {
        // Two prefixes are nested or disjoint, so the widest ones do not overlap.
        let around = attachment.allowed.iter().map(|a| a.net);
        let widest = around
            .filter(|net| net.contains(&entry.net))
            .min_by_key(IpNet::prefix_len);
        let further = Some(entry.mac).filter(|mac| *mac != attachment.mac);
        let mac: Option<MacAddress> = further.and_then(host::mac);
        let prefixes = without(widest.unwrap_or(entry.net), &gateways);
        prefixes.into_iter().map(move |prefix| AllowedAddress { prefix, mac })
    });
    pieces.collect()
}

/// A prefix minus some addresses, as a list of prefixes: at most as many for each address as the prefix has host bits.
fn without(net: IpNet, addresses: &[IpAddr]) -> Vec<IpNet> {
    let (mut kept, mut left) = (Vec::new(), vec![net]);
    while let Some(net) = left.pop() {
        if !addresses.iter().any(|address| net.contains(address)) {
            kept.push(net);
        } else if let Ok(halves) = net.subnets(net.prefix_len() + 1) {
            left.extend(halves);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_without_an_address_has_all_others() {
        let net: IpNet = "10.0.0.0/29".parse().unwrap();
        let gateway: IpAddr = "10.0.0.1".parse().unwrap();
        let kept = without(net, &[gateway]);
        let hosts = |net: &IpNet| match net {
            IpNet::V4(net) => net
                .subnets(32)
                .unwrap()
                .map(|n| IpAddr::V4(n.addr()))
                .collect::<Vec<_>>(),
            IpNet::V6(_) => panic!("{net}"),
        };
        let mut all: Vec<IpAddr> = kept.iter().flat_map(hosts).collect();
        all.sort();
        let expected: Vec<IpAddr> = hosts(&net).into_iter().filter(|ip| *ip != gateway).collect();
        assert_eq!(all, expected);
        assert_eq!(without(net, &["10.0.1.1".parse().unwrap()]), [net]);
        assert_eq!(without("10.0.0.1/32".parse().unwrap(), &[gateway]), []);
        let wide = without("2001:db8::/32".parse().unwrap(), &["2001:db8::1".parse().unwrap()]);
        assert_eq!(wide.len(), 96);
    }
}
