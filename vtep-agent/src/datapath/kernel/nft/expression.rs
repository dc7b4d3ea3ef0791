//! Expressions, of which rules consist.
//!
//! A rule is a list of expressions over registers; the first that does not hold ends it, and
//! so does one that asks for octets that the packet does not have.

use super::message::Attributes;

/// From where the offset of an octet counts.
#[derive(Debug, Clone, Copy)]
pub(in super::super) enum Base {
    Ethernet = 0,
    Network = 1,
    Transport = 2,
}

/// Keys of meta expressions.
const META_IIF: u32 = 4;
const META_OIF: u32 = 5;
const META_IIF_NAME: u32 = 6;
const META_PROTOCOL: u32 = 16;
/// First of the registers of four octets (NFT_REG32_00), of which there are sixteen.
const REGISTER: u32 = 8;
/// The register of the verdict.
const VERDICT: u32 = 0;

/// Verdicts.
const DROP: i32 = 0;
const ACCEPT: i32 = 1;
const JUMP: i32 = -3;
const GOTO: i32 = -4;
const RETURN: i32 = -5;

/// What a packet does to a set (NFT_DYNSET_OP_*): an existing element stays as it is, or its time begins again.
const ADD: u32 = 0;
const UPDATE: u32 = 1;

const EQUAL: u32 = 0;
const NOT_EQUAL: u32 = 1;
const AT_MOST: u32 = 3;
const AT_LEAST: u32 = 5;

/// A rule under construction; registers are counted in fours of octets.
#[derive(Debug, Clone, Default)]
pub(in super::super) struct Rule(pub(super) Attributes);

impl Rule {
    pub(in super::super) fn new() -> Self {
        Self::default()
    }

    fn expression(mut self, name: &str, fill: impl FnOnce(&mut Attributes)) -> Self {
        self.0.nest(1, |e| {
            e.text(1, name);
            e.nest(2, fill);
        });
        self
    }

    fn meta(self, key: u32, register: u32) -> Self {
        self.expression("meta", |a| {
            a.number(1, REGISTER + register);
            a.number(2, key);
        })
    }

    /// Loads the index of the link that the packet came by.
    pub(in super::super) fn link(self, register: u32) -> Self {
        self.meta(META_IIF, register)
    }

    /// Loads the index of the link that the packet is leaving by.
    pub(in super::super) fn link_out(self, register: u32) -> Self {
        self.meta(META_OIF, register)
    }

    /// Loads octets of the packet.
    pub(in super::super) fn load(self, base: Base, offset: u32, length: u32, register: u32) -> Self {
        self.expression("payload", |a| {
            a.number(1, REGISTER + register);
            a.number(2, base as u32);
            a.number(3, offset);
            a.number(4, length);
        })
    }

    /// Loads a number.
    pub(in super::super) fn number(self, value: u32, register: u32) -> Self {
        self.expression("immediate", |a| {
            a.number(1, REGISTER + register);
            a.nest(2, |d| d.put(1, &value.to_ne_bytes()));
        })
    }

    fn compare(self, operator: u32, value: &[u8]) -> Self {
        self.expression("cmp", |a| {
            a.number(1, REGISTER);
            a.number(2, operator);
            a.nest(3, |d| d.put(1, value));
        })
    }

    /// Holds when these octets of the packet are `value`.
    pub(in super::super) fn is(self, base: Base, offset: u32, value: &[u8]) -> Self {
        let length = u32::try_from(value.len()).unwrap_or(u32::MAX);
        self.load(base, offset, length, 0).compare(EQUAL, value)
    }

    /// Holds when these octets of the packet are not `value`.
    pub(in super::super) fn differs(self, base: Base, offset: u32, value: &[u8]) -> Self {
        let length = u32::try_from(value.len()).unwrap_or(u32::MAX);
        self.load(base, offset, length, 0).compare(NOT_EQUAL, value)
    }

    /// Holds when these octets of the packet are a number of at most `value`.
    pub(in super::super) fn at_most(self, base: Base, offset: u32, value: u16) -> Self {
        self.load(base, offset, 2, 0).compare(AT_MOST, &value.to_be_bytes())
    }

    /// Holds when the packet is for a group of stations.
    pub(in super::super) fn for_a_group(self) -> Self {
        self.load(Base::Ethernet, 0, 1, 0).masked(&[1]).compare(NOT_EQUAL, &[0])
    }

    /// Holds when the packet is for one station.
    pub(in super::super) fn for_a_station(self) -> Self {
        self.load(Base::Ethernet, 0, 1, 0).masked(&[1]).compare(EQUAL, &[0])
    }

    /// Holds when the source is the address of a group, which no station can have.
    pub(in super::super) fn sent_by_a_group(self) -> Self {
        self.load(Base::Ethernet, 6, 1, 0).masked(&[1]).compare(NOT_EQUAL, &[0])
    }

    /// Holds when the name of the link that the packet came by starts like this.
    pub(in super::super) fn link_starts_with(self, prefix: &str) -> Self {
        self.meta(META_IIF_NAME, 0).compare(EQUAL, prefix.as_bytes())
    }

    /// Holds when the packet carries that protocol above IP, behind all extension headers.
    pub(in super::super) fn carries(self, protocol: u8) -> Self {
        self.meta(META_PROTOCOL, 0).compare(EQUAL, &[protocol])
    }

    /// Holds when the headers of the packet are complete, up to the protocol above IP.
    pub(in super::super) fn has_complete_headers(self) -> Self {
        self.meta(META_PROTOCOL, 0).compare(AT_LEAST, &[0])
    }

    /// Holds when the packet has an octet after its headers: it is not a later fragment, and its headers do not end in
    /// a later fragment.
    pub(in super::super) fn reaches_its_payload(self) -> Self {
        self.load(Base::Transport, 0, 1, 0).compare(AT_LEAST, &[0])
    }

    /// Holds for a fragment of an IPv6 packet, except the first (RFC 8200 section 4.5).
    pub(in super::super) fn later_ipv6_fragment(self) -> Self {
        self.expression("exthdr", |a| {
            a.number(1, REGISTER);
            a.put(2, &[44]);
            a.number(3, 2);
            a.number(4, 2);
        })
        .masked(&[0xff, 0xf8])
        .compare(NOT_EQUAL, &[0, 0])
    }

    fn masked(self, mask: &[u8]) -> Self {
        let length = u32::try_from(mask.len()).unwrap_or(u32::MAX);
        self.expression("bitwise", |a| {
            a.number(1, REGISTER);
            a.number(2, REGISTER);
            a.number(3, length);
            a.nest(4, |d| d.put(1, mask));
            a.nest(5, |d| d.put(1, &vec![0; mask.len()]));
        })
    }

    fn lookup(self, set: &str, inverted: bool) -> Self {
        self.expression("lookup", |a| {
            a.text(1, set);
            a.number(2, REGISTER);
            if inverted {
                a.number(5, 1);
            }
        })
    }

    /// Holds when the registers from the first are in the set.
    pub(in super::super) fn in_set(self, set: &str) -> Self {
        self.lookup(set, false)
    }

    /// Holds when they are not.
    pub(in super::super) fn not_in_set(self, set: &str) -> Self {
        self.lookup(set, true)
    }

    fn update(self, set: &str, operation: u32, name: &str, fill: impl FnOnce(&mut Attributes)) -> Self {
        self.expression("dynset", |a| {
            a.text(1, set);
            a.number(3, operation);
            a.number(4, REGISTER);
            a.nest(7, |e| {
                e.text(1, name);
                e.nest(2, fill);
            });
        })
    }

    /// Counts by the registers from the first.
    pub(in super::super) fn count_in(self, set: &str) -> Self {
        self.update(set, ADD, "counter", |_| {})
    }

    /// Holds when there were more packets with these registers than that many a second.
    pub(in super::super) fn exceeds(self, set: &str, per_second: u32, burst: u32) -> Self {
        self.limit(set, ADD, per_second, burst)
    }

    /// As [`Self::exceeds`], with a set whose elements are removed when no packet has used them for a while.
    pub(in super::super) fn exceeds_lately(self, set: &str, per_second: u32, burst: u32) -> Self {
        self.limit(set, UPDATE, per_second, burst)
    }

    fn limit(self, set: &str, operation: u32, per_second: u32, burst: u32) -> Self {
        self.update(set, operation, "limit", |a| {
            a.long(1, per_second.into());
            a.long(2, 1);
            a.number(3, burst);
            a.number(4, 0);
            a.number(5, 1);
        })
    }

    /// Sends the packet out of the link by which it came.
    pub(in super::super) fn send_back_out(self) -> Self {
        self.link(0).expression("fwd", |a| a.number(1, REGISTER))
    }

    /// Sends the packet out of the link with that index, instead of where it was going.
    pub(in super::super) fn send_out_of(self, link: u32) -> Self {
        self.number(link, 0).expression("fwd", |a| a.number(1, REGISTER))
    }

    fn verdict(self, code: i32, chain: Option<&str>) -> Self {
        self.expression("immediate", |a| {
            a.number(1, VERDICT);
            a.nest(2, |d| {
                d.nest(2, |v| {
                    v.put(1, &code.to_be_bytes());
                    if let Some(chain) = chain {
                        v.text(2, chain);
                    }
                });
            });
        })
    }

    pub(in super::super) fn accept(self) -> Self {
        self.verdict(ACCEPT, None)
    }

    pub(in super::super) fn drop(self) -> Self {
        self.verdict(DROP, None)
    }

    pub(in super::super) fn back(self) -> Self {
        self.verdict(RETURN, None)
    }

    pub(in super::super) fn jump(self, chain: &str) -> Self {
        self.verdict(JUMP, Some(chain))
    }

    pub(in super::super) fn goto(self, chain: &str) -> Self {
        self.verdict(GOTO, Some(chain))
    }
}
