//! Frames that a bridge drops before any filter of the bridge family sees them: frames from addresses that no station
//! can have (group addresses and the null address), and frames to link-local group addresses, which no bridge forwards
//! (IEEE 802.1Q table 8-1): spanning tree, pause, LACP, LLDP.
//!
//! Linux drops most of these without a counter, forwards some (spanning tree) and hands others to its own stack (LLDP).
//! So they are dropped and counted at the entrance, which is the ingress hook of the link that receives them. Each link
//! has a chain of its own there, which is deleted with the link or its port; all chains jump to the same rules.

use super::filter::Reason;
use super::nft::expression::{Base, Rule};
use super::nft::message::{Family, Message, SetKind, Table};

/// The table of these rules. The filter has another table of the same name, in the family of bridges.
pub(super) const TABLE: Table = Table {
    family: Family::Netdev,
    name: "vfabric",
};
/// The set that counts frames by port and reason. The first packet with a port and a reason adds the element.
pub(super) const DROPS: &str = "drops";
const CHECK: &str = "check";
/// Prefix of the names of ports' chains; the index of the link follows.
const PORT: &str = "port-";
/// Reasons that are counted here.
const REASONS: [Reason; 2] = [Reason::SourceMac, Reason::LinkGroup];

/// The name of a port's chain.
pub(super) fn chain(index: u32) -> String {
    format!("{PORT}{index}")
}

/// The index of the link whose chain has that name.
pub(super) fn port_of(chain: &str) -> Option<u32> {
    chain.strip_prefix(PORT)?.parse().ok()
}

/// The whole table, without ports.
pub(super) fn rules(note: &[u8]) -> Vec<Message> {
    let mut messages = vec![
        TABLE.create(note),
        TABLE.set(1, DROPS, &[4, 4], SetKind::Filled),
        TABLE.chain(CHECK, None),
    ];
    for reason in REASONS {
        messages.push(TABLE.chain(&reason.chain(), None));
        messages.extend(reason.drop_in(DROPS).map(|rule| TABLE.rule(&reason.chain(), rule)));
    }
    let checks = [
        Rule::new().sent_by_a_group().goto(&Reason::SourceMac.chain()),
        Rule::new()
            .is(Base::Ethernet, 6, &[0; 6])
            .goto(&Reason::SourceMac.chain()),
        Rule::new()
            .is(Base::Ethernet, 0, &[0x01, 0x80, 0xc2, 0x00])
            .at_most(Base::Ethernet, 4, 0x000f)
            .goto(&Reason::LinkGroup.chain()),
    ];
    messages.extend(checks.map(|rule| TABLE.rule(CHECK, rule)));
    messages
}

/// The chain of a port, which is the link of that name.
pub(super) fn open(index: u32, link: &str) -> [Message; 2] {
    let name = chain(index);
    [
        TABLE.ingress_chain(&name, link),
        TABLE.rule(&name, Rule::new().jump(CHECK)),
    ]
}
