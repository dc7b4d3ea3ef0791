//! Frames for stations that a bridge does not know: they are limited by sender.
//!
//! **Problem.** A bridge floods such a frame, and only the bridge knows that it does: a filter would have to look up every
//! receiver once more.
//!
//! **Model.** Each bridge has a port that gets these frames and no others, `vfu<vni>`: the only one to which it floods unicast.
//! A chain at that link (the egress hook of netdev) passes frames on to the VXLAN device, up to a rate for each sender
//! and one for the network. It drops the rest and counts it by sender. The VXLAN device and this link are isolated from
//! each other, so a frame that comes from a tunnel never goes back into one. Frames for known stations pass none of
//! this.
//!
//! Some ports may have stations that the controller does not know (`port_security: false`, or further MAC addresses).
//! They get such frames from the bridge directly. A chain at such a port limits the frames that are for none of the
//! attachment's own addresses.
//!
//! A sender is a MAC address: that of one attachment, or whatever an attachment without port security claims. So there is a second limit
//! for all senders together, by link.

use std::collections::BTreeSet;

use vtep_proto::{Attachment, MacAddress, Mode, Vni};

use super::entrance::{DROPS, TABLE};
use super::filter::{FloodLimit, Reason};
use super::link::has_further_macs;
use super::nft::expression::{Base, Rule};
use super::nft::message::{Message, SetKind};
use crate::object::{hash, port_name, unknown_name};

/// The rate of each sender, by link and MAC address.
const SENDERS: &str = "unknown-senders";
/// The rate of all senders together, by link.
const LINKS: &str = "unknown-links";
/// Frames above the rate, by link and MAC address of the sender.
pub(super) const REFUSED: &str = "unknown-refused";
const LIMIT: &str = "unknown-limit";
const DROP: &str = "unknown-drop";
/// Names of networks' chains begin so; the indices of the link and of the VXLAN device follow.
const NETWORK: &str = "unknown-of-";
/// Names of ports' chains begin so; the index of the link, the number of MAC addresses and their hash follow.
const PORT: &str = "other-";
/// How many senders may use their whole rate at once. The leaf limits all senders of a host in a network together to
/// the rate of one (`flood_rate` in the pipeline), so a larger number here would only move the loss to the leaf.
const SENDERS_AT_ONCE: u32 = 4;

/// What all these chains share.
pub(super) fn rules(limit: FloodLimit) -> Vec<Message> {
    let all = SENDERS_AT_ONCE;
    let by_sender = || Rule::new().link_out(0).load(Base::Ethernet, 6, 6, 1);
    let mut messages = vec![
        TABLE.set(2, SENDERS, &[4, 8], SetKind::Expiring),
        TABLE.set(3, LINKS, &[4], SetKind::Filled),
        TABLE.set(4, REFUSED, &[4, 8], SetKind::Filled),
        TABLE.chain(DROP, None),
        TABLE.chain(LIMIT, None),
    ];
    let drop = [
        by_sender().count_in(REFUSED).drop(),
        // The set is full: somebody has used very many addresses.
        Rule::new()
            .link_out(0)
            .number(Reason::UnknownUnicast as u32, 1)
            .count_in(DROPS),
        Rule::new().drop(),
    ];
    messages.extend(drop.map(|rule| TABLE.rule(DROP, rule)));
    let (per_second, burst) = (limit.per_second.saturating_mul(all), limit.burst.saturating_mul(all));
    let limits = [
        by_sender()
            .exceeds_lately(SENDERS, limit.per_second, limit.burst)
            .goto(DROP),
        Rule::new().link_out(0).exceeds(LINKS, per_second, burst).goto(DROP),
    ];
    messages.extend(limits.map(|rule| TABLE.rule(LIMIT, rule)));
    messages
}

/// The chain that a network's link needs.
pub(super) fn chain_of_network(link: u32, tunnel: u32) -> String {
    format!("{NETWORK}{link}-{tunnel}")
}

/// Creates it: `tunnel` is the index of the VXLAN device.
pub(super) fn open_network(chain: &str, vni: Vni, tunnel: u32) -> [Message; 3] {
    [
        TABLE.egress_chain(chain, &unknown_name(vni)),
        TABLE.rule(chain, Rule::new().jump(LIMIT)),
        TABLE.rule(chain, Rule::new().send_out_of(tunnel)),
    ]
}

/// The MAC addresses that are known to be at a port.
fn stations(attachment: &Attachment) -> BTreeSet<MacAddress> {
    let further = attachment.allowed_addresses.iter().filter_map(|allowed| allowed.mac);
    further.chain([attachment.mac]).collect()
}

/// The chain for a port to which the bridge floods.
pub(super) fn chain_of_port(index: u32, attachment: &Attachment) -> Option<String> {
    let flooded = attachment.mode == Mode::Serving && has_further_macs(attachment);
    let all = flooded.then(|| stations(attachment))?;
    let octets = all.iter().flat_map(|mac| mac.octets());
    Some(format!("{PORT}{index}-{}-{:x}", all.len(), hash(octets)))
}

/// Creates it.
pub(super) fn open_port(chain: &str, attachment: &Attachment) -> Vec<Message> {
    let known = stations(attachment);
    let known = known.iter().map(|mac| Rule::new().is(Base::Ethernet, 0, &mac.octets()));
    let passed = known.chain([Rule::new().for_a_group()]).map(Rule::accept);
    let rules = passed.chain([Rule::new().jump(LIMIT)]);
    let create = TABLE.egress_chain(chain, &port_name(&attachment.id));
    [create]
        .into_iter()
        .chain(rules.map(|rule| TABLE.rule(chain, rule)))
        .collect()
}

/// The index of the link whose chain has that name, and how many rules such a chain has.
pub(super) fn link_of(chain: &str) -> Option<(u32, usize)> {
    if let Some(rest) = chain.strip_prefix(NETWORK) {
        return Some((rest.split('-').next()?.parse().ok()?, 2));
    }
    let mut parts = chain.strip_prefix(PORT)?.split('-');
    let (index, stations) = (parts.next()?.parse().ok()?, parts.next()?.parse::<usize>().ok()?);
    Some((index, stations + 2))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datapath::kernel::nft::message::count_rules;

    fn attachment() -> Attachment {
        Attachment {
            id: "blue/a".into(),
            vni: Vni::new(7).unwrap(),
            mac: MacAddress::new([2, 0, 0, 0, 0, 1]).unwrap(),
            addresses: Default::default(),
            routes: Default::default(),
            netns: "w".into(),
            interface: "eth0".into(),
            mtu: 1500,
            allowed_addresses: Default::default(),
            port_security: false,
            shared_netns: false,
            mode: Mode::Serving,
        }
    }

    #[test]
    fn names_lead_back_to_links_and_numbers_of_rules() {
        let of_port = chain_of_port(12, &attachment()).unwrap();
        for (chain, link, opened) in [
            (of_port.clone(), 12, open_port(&of_port, &attachment())),
            (
                chain_of_network(7, 9),
                7,
                open_network(&chain_of_network(7, 9), Vni::new(7).unwrap(), 9).into(),
            ),
        ] {
            assert_eq!(link_of(&chain), Some((link, count_rules(&opened))), "{chain}");
        }
        for other in ["port-7", LIMIT, DROP, "late-1-2-3", "other-", "unknown-of-x-1"] {
            assert_eq!(link_of(other), None, "{other}");
        }
    }

    #[test]
    fn only_ports_with_stations_that_nobody_knows_have_a_chain() {
        let guarded = Attachment {
            port_security: true,
            ..attachment()
        };
        assert_eq!(chain_of_port(1, &guarded), None);
        let leaving = Attachment {
            mode: Mode::Leaving,
            ..attachment()
        };
        assert_eq!(chain_of_port(1, &leaving), None);
        // Another address leads to another name of the chain.
        let moved = Attachment {
            mac: MacAddress::new([2, 0, 0, 0, 0, 2]).unwrap(),
            ..attachment()
        };
        assert_ne!(chain_of_port(1, &attachment()), chain_of_port(1, &moved));
    }
}
