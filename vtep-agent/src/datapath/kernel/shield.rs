//! Protects tunnels from forged packets: a table of packet filters in the host's namespace.
//!
//! Linux keeps the path MTU that an ICMP error claims with the route to the destination, for
//! ten minutes and for everything that is sent there: one forged packet would cut the MTU of
//! the tunnels of all tenants. The underlay's MTU is known (the agent checks the uplink's), so
//! no such claim about another VTEP is ever true. Errors that quote a packet to a VTEP and
//! say that it was too big (RFC 792, RFC 8201), and redirects of the route to one, are
//! dropped before the kernel reads them. Other errors and other destinations are not affected.
//!
//! The table affects nothing else, and tables of others do not affect it. It counts what it drops, by reason.

use std::collections::HashSet;
use std::net::IpAddr;

use super::nft::expression::{Base, Rule};
use super::nft::message::{Element, Family, Hook, Message, SetKind, Shown, Table, count_rules};
use super::nft::socket::{Nft, in_parts};
use crate::error::NetlinkError;

const TABLE: Table = Table {
    family: Family::Inet,
    name: "vfabric",
};
/// Version of the rules: every change of them must change it.
const NOTE: &[u8] = b"2";
/// NF_INET_LOCAL_IN: after fragments were put together.
const LOCAL_IN: u32 = 1;
const FIRST: i32 = -300;
const SETS: [&str; 2] = ["vteps4", "vteps6"];
/// Packets by reason; packets add to it.
const DROPS: &str = "drops";
/// What a packet claimed: that a tunnel's packets are too big, or that there is another route to a VTEP. The position
/// in this list is the key in the set.
const REASONS: [&str; 2] = ["forged-mtu", "forged-redirect"];
const TOO_BIG: u32 = 0;
const REDIRECT: u32 = 1;
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;

/// The table, and the VTEPs that are known to be in it.
pub(super) struct Shield {
    nft: Nft,
    vteps: HashSet<IpAddr>,
}

impl Shield {
    /// Opens the table in the network namespace of this thread or makes it.
    pub(super) fn open() -> Result<Self, NetlinkError> {
        let mut shield = Self {
            nft: Nft::open()?,
            vteps: HashSet::new(),
        };
        shield.put_right()?;
        Ok(shield)
    }

    /// Makes the table again if it is missing; returns whether it had to. Others change filters in this namespace all
    /// the time, so it is checked each time.
    pub(super) fn put_right(&mut self) -> Result<bool, NetlinkError> {
        let there = self.nft.note(TABLE)?;
        let rules = rules();
        let complete = there.is_some() && self.nft.count_rules(TABLE)? == count_rules(&rules);
        if complete && there.as_deref() == Some(NOTE) {
            let mut vteps = HashSet::new();
            for set in SETS {
                let shown = self.nft.elements(TABLE, set)?;
                vteps.extend(shown.iter().filter_map(|s| address(&s.element.first)));
            }
            let changed = !self.vteps.is_empty() && self.vteps != vteps;
            let missing: Vec<IpAddr> = self.vteps.difference(&vteps).copied().collect();
            self.vteps = vteps;
            self.add(missing)?;
            return Ok(changed);
        }
        let mut messages = Vec::new();
        if there.is_some() {
            messages.push(TABLE.delete());
        }
        messages.extend(rules);
        messages.extend(elements(&self.vteps, |set, e| TABLE.add(set, e)));
        self.nft.commit(&messages)?;
        Ok(true)
    }

    /// Adds VTEPs that tunnels lead to.
    pub(super) fn add(&mut self, vteps: impl IntoIterator<Item = IpAddr>) -> Result<(), NetlinkError> {
        let new: HashSet<IpAddr> = vteps.into_iter().filter(|v| !self.vteps.contains(v)).collect();
        self.nft.commit(&elements(&new, |set, e| TABLE.add(set, e)))?;
        self.vteps.extend(new);
        Ok(())
    }

    /// Replaces the VTEPs with these.
    pub(super) fn set(&mut self, vteps: HashSet<IpAddr>) -> Result<(), NetlinkError> {
        let gone: HashSet<IpAddr> = self.vteps.difference(&vteps).copied().collect();
        self.nft.commit(&elements(&gone, |set, e| TABLE.remove(set, e)))?;
        self.vteps.retain(|v| !gone.contains(v));
        self.add(vteps)
    }

    /// Packets dropped since the table was made, by reason.
    pub(super) fn drops(&mut self) -> Result<Vec<(&'static str, u64)>, NetlinkError> {
        let shown = self.nft.elements(TABLE, DROPS)?;
        let count = |s: Shown| {
            let key = u32::from_ne_bytes(*s.element.first.first_chunk()?);
            Some((*REASONS.get(key as usize)?, s.packets))
        };
        Ok(shown.into_iter().filter_map(count).collect())
    }

    /// Removes the table.
    pub(super) fn remove(&mut self) -> Result<(), NetlinkError> {
        self.nft.commit(&[TABLE.delete()])
    }
}

fn address(key: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(key).ok().map(IpAddr::from);
    v4.or_else(|| <[u8; 16]>::try_from(key).ok().map(IpAddr::from))
}

fn elements(vteps: &HashSet<IpAddr>, message: impl Fn(&str, &[Element]) -> Message) -> Vec<Message> {
    let (mut v4, mut v6) = (Vec::new(), Vec::new());
    for vtep in vteps {
        match vtep {
            IpAddr::V4(a) => v4.push(Element::exact(a.octets().to_vec())),
            IpAddr::V6(a) => v6.push(Element::exact(a.octets().to_vec())),
        }
    }
    let [of_v4, of_v6] = SETS;
    let mut messages = in_parts(&v4, |e| message(of_v4, e));
    messages.extend(in_parts(&v6, |e| message(of_v6, e)));
    messages
}

fn rules() -> Vec<Message> {
    let hook = Hook {
        number: LOCAL_IN,
        priority: FIRST,
        drop: false,
    };
    let [v4, v6] = SETS;
    // An ICMP header of 8 octets, then the header of the packet that is quoted: its
    // destination is at 16 (IPv4) or 24 (IPv6).
    let quoted4 = |rule: Rule| rule.load(Base::Transport, 8 + 16, 4, 0).in_set(v4);
    let too_big4 = Rule::new().carries(ICMP).is(Base::Transport, 0, &[3, 4]);
    let redirect4 = Rule::new().carries(ICMP).is(Base::Transport, 0, &[5]);
    let too_big6 = Rule::new().carries(ICMPV6).is(Base::Transport, 0, &[2]);
    let too_big6 = too_big6.load(Base::Transport, 8 + 24, 16, 0).in_set(v6);
    // RFC 4861 section 4.5: the destination is a field of its own.
    let redirect6 = Rule::new().carries(ICMPV6).is(Base::Transport, 0, &[137]);
    let redirect6 = redirect6.load(Base::Transport, 24, 16, 0).in_set(v6);
    let all = [
        (quoted4(too_big4), TOO_BIG),
        (quoted4(redirect4), REDIRECT),
        (too_big6, TOO_BIG),
        (redirect6, REDIRECT),
    ];
    let mut messages = vec![
        TABLE.create(NOTE),
        TABLE.set(1, v4, &[4], SetKind::Exact),
        TABLE.set(2, v6, &[16], SetKind::Exact),
        TABLE.set(3, DROPS, &[4], SetKind::Filled),
        TABLE.chain("errors", Some(hook)),
    ];
    // These are two rules, so that a packet is dropped even if it cannot be counted.
    for (rule, reason) in all {
        let count = rule.clone().number(reason, 0).count_in(DROPS);
        messages.extend([count, rule.drop()].map(|rule| TABLE.rule("errors", rule)));
    }
    messages
}
