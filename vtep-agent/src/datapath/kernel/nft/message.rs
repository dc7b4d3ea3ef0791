//! Messages of nf_tables: netlink attributes, and the objects made of them.

use super::expression::Rule;

/// An address family (NFPROTO_*).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Family {
    Inet = 1,
    Netdev = 5,
    Bridge = 7,
}

pub(super) const NEW_TABLE: u16 = 0;
pub(super) const GET_TABLE: u16 = 1;
const DELETE_TABLE: u16 = 2;
const NEW_CHAIN: u16 = 3;
pub(super) const GET_CHAIN: u16 = 4;
const DELETE_CHAIN: u16 = 5;
const NEW_RULE: u16 = 6;
pub(super) const GET_RULE: u16 = 7;
const NEW_SET: u16 = 9;
pub(super) const NEW_ELEMENT: u16 = 12;
pub(super) const GET_ELEMENT: u16 = 13;
const DELETE_ELEMENT: u16 = 14;
pub(super) const GET_GENERATION: u16 = 16;

/// Hooks of links (NF_NETDEV_*); the second is in Linux since 5.16.
const INGRESS: u32 = 0;
const EGRESS: u32 = 1;

const NESTED: u16 = 0x8000;
const NLM_F_CREATE: u16 = 0x400;
const NLM_F_APPEND: u16 = 0x800;

/// Set flags.
const SET_INTERVAL: u32 = 0x04;
const SET_TIMEOUT: u32 = 0x10;
const SET_EVAL: u32 = 0x20;
const SET_CONCAT: u32 = 0x80;

/// Keys that packets may add to a set. A full set takes no more, but its elements still work.
const MAX_FILLED: u32 = 65_535;
/// How long an element of an expiring set stays without use. By then a sender's limit allows a whole burst again.
const UNUSED_MS: u64 = 5_000;

/// Attributes under construction.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in super::super) struct Attributes(pub(super) Vec<u8>);

impl Attributes {
    pub(super) fn put(&mut self, kind: u16, value: &[u8]) {
        // Values here are far shorter than the 64 KiB of the length field.
        let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
        self.0.extend_from_slice(&length.to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.0.extend_from_slice(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }

    pub(super) fn number(&mut self, kind: u16, value: u32) {
        self.put(kind, &value.to_be_bytes());
    }

    pub(super) fn long(&mut self, kind: u16, value: u64) {
        self.put(kind, &value.to_be_bytes());
    }

    pub(super) fn text(&mut self, kind: u16, value: &str) {
        self.put(kind, &[value.as_bytes(), &[0]].concat());
    }

    pub(super) fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Attributes)) {
        let mut inner = Attributes::default();
        fill(&mut inner);
        self.put(kind | NESTED, &inner.0);
    }
}

/// The attributes of a message or of a nested attribute, kind and value.
pub(super) fn attributes(mut octets: &[u8]) -> Vec<(u16, &[u8])> {
    let mut found = Vec::new();
    while let Some([a, b, c, d]) = octets.first_chunk::<4>() {
        let length = usize::from(u16::from_ne_bytes([*a, *b]));
        let kind = u16::from_ne_bytes([*c, *d]) & !NESTED;
        let Some(value) = octets.get(4..length) else { break };
        found.push((kind, value));
        octets = octets.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    found
}

/// The value of an attribute.
pub(super) fn attribute(octets: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(octets).into_iter().find(|(k, _)| *k == kind).map(|(_, v)| v)
}

/// A message to the kernel.
#[derive(Debug, Clone)]
pub(in super::super) struct Message {
    pub(super) kind: u16,
    pub(super) flags: u16,
    pub(super) family: Family,
    pub(super) body: Attributes,
    /// Its description, for errors.
    pub(super) what: String,
}

/// A table: where its objects are.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Table {
    pub(in super::super) family: Family,
    pub(in super::super) name: &'static str,
}

/// Where a base chain is called.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Hook {
    pub(in super::super) number: u32,
    pub(in super::super) priority: i32,
    /// What happens to a packet that no rule decides about.
    pub(in super::super) drop: bool,
}

/// How a set is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum SetKind {
    /// Exact keys, changed by the agent only.
    Exact,
    /// Exact keys that packets may add, with something to count or to limit by.
    Filled,
    /// As [`Self::Filled`], but an element that no packet has used for [`UNUSED_MS`] is removed.
    Expiring,
    /// Ranges: the last field of the key has a first and a last value.
    Ranges,
}

impl Table {
    fn message(self, kind: u16, flags: u16, what: String, fill: impl FnOnce(&mut Attributes)) -> Message {
        let mut body = Attributes::default();
        body.text(1, self.name);
        fill(&mut body);
        Message {
            kind,
            flags,
            family: self.family,
            body,
            what,
        }
    }

    /// Creates the table, with a note of what it holds.
    pub(in super::super) fn create(self, note: &[u8]) -> Message {
        self.message(NEW_TABLE, NLM_F_CREATE, format!("create table {}", self.name), |a| {
            a.put(6, note);
        })
    }

    pub(in super::super) fn delete(self) -> Message {
        self.message(DELETE_TABLE, 0, format!("delete table {}", self.name), |_| {})
    }

    /// Creates a chain, which the kernel calls itself where a hook is given.
    pub(in super::super) fn chain(self, name: &str, hook: Option<Hook>) -> Message {
        self.message(NEW_CHAIN, NLM_F_CREATE, format!("create chain {name}"), |a| {
            a.text(3, name);
            if let Some(hook) = hook {
                a.nest(4, |h| {
                    h.number(1, hook.number);
                    h.put(2, &hook.priority.to_be_bytes());
                });
                a.number(5, u32::from(!hook.drop));
                a.text(7, "filter");
            }
        })
    }

    /// Creates a chain that sees what a link receives, before anything else does.
    pub(in super::super) fn ingress_chain(self, name: &str, link: &str) -> Message {
        self.chain_of_link(name, link, INGRESS)
    }

    /// Creates a chain that sees what a link is about to send, before its queue does.
    pub(in super::super) fn egress_chain(self, name: &str, link: &str) -> Message {
        self.chain_of_link(name, link, EGRESS)
    }

    fn chain_of_link(self, name: &str, link: &str, hook: u32) -> Message {
        self.message(NEW_CHAIN, NLM_F_CREATE, format!("create chain {name} of {link}"), |a| {
            a.text(3, name);
            a.nest(4, |h| {
                // At the default priority.
                h.number(1, hook);
                h.put(2, &0i32.to_be_bytes());
                h.text(3, link);
            });
            a.number(5, 1);
            a.text(7, "filter");
        })
    }

    /// Deletes a chain with its rules.
    pub(in super::super) fn delete_chain(self, name: &str) -> Message {
        self.message(DELETE_CHAIN, 0, format!("delete chain {name}"), |a| a.text(3, name))
    }

    pub(in super::super) fn rule(self, chain: &str, rule: Rule) -> Message {
        let flags = NLM_F_CREATE | NLM_F_APPEND;
        self.message(NEW_RULE, flags, format!("add a rule to chain {chain}"), |a| {
            a.text(2, chain);
            a.put(4 | NESTED, &rule.0.0);
        })
    }

    /// Creates a set whose keys have fields of these lengths, each a multiple of four.
    pub(in super::super) fn set(self, id: u32, name: &str, fields: &[u32], kind: SetKind) -> Message {
        let flags = match kind {
            SetKind::Exact => 0,
            SetKind::Filled => SET_EVAL,
            SetKind::Expiring => SET_EVAL | SET_TIMEOUT,
            SetKind::Ranges => SET_INTERVAL | SET_CONCAT,
        };
        self.message(NEW_SET, NLM_F_CREATE, format!("create set {name}"), |a| {
            a.text(2, name);
            a.number(3, flags);
            a.number(4, 0);
            a.number(5, fields.iter().sum());
            match kind {
                SetKind::Exact => {}
                SetKind::Filled | SetKind::Expiring => a.nest(9, |d| d.number(1, MAX_FILLED)),
                SetKind::Ranges => a.nest(9, |d| {
                    d.nest(2, |c| {
                        for length in fields {
                            c.nest(1, |f| f.number(1, *length));
                        }
                    });
                }),
            }
            a.number(10, id);
            if kind == SetKind::Expiring {
                a.long(11, UNUSED_MS);
            }
        })
    }

    fn elements(self, kind: u16, set: &str, elements: &[Element], what: String) -> Message {
        let flags = if kind == NEW_ELEMENT { NLM_F_CREATE } else { 0 };
        self.message(kind, flags, what, |a| {
            a.text(2, set);
            a.nest(3, |list| {
                for element in elements {
                    list.nest(1, |e| {
                        e.nest(1, |k| k.put(1, &element.first));
                        if let Some(last) = &element.last {
                            e.nest(10, |k| k.put(1, last));
                        }
                    });
                }
            });
        })
    }

    pub(in super::super) fn add(self, set: &str, elements: &[Element]) -> Message {
        self.elements(NEW_ELEMENT, set, elements, format!("add to set {set}"))
    }

    pub(in super::super) fn remove(self, set: &str, elements: &[Element]) -> Message {
        self.elements(DELETE_ELEMENT, set, elements, format!("remove from set {set}"))
    }
}

/// How many rules these messages make.
pub(in super::super) fn count_rules(messages: &[Message]) -> usize {
    messages.iter().filter(|m| m.kind == NEW_RULE).count()
}

/// An element of a set: a key, or the first and the last key of a range.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(in super::super) struct Element {
    pub(in super::super) first: Vec<u8>,
    pub(in super::super) last: Option<Vec<u8>>,
}

impl Element {
    pub(in super::super) fn exact(key: Vec<u8>) -> Self {
        Self { first: key, last: None }
    }
}

/// An element as the kernel shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct Shown {
    pub(in super::super) element: Element,
    /// Packets, where it has a counter.
    pub(in super::super) packets: u64,
}

/// Reads the elements in a message about a set.
pub(in super::super) fn shown(body: &[u8]) -> Vec<Shown> {
    let list = attribute(body, 3).unwrap_or_default();
    let key = |element: &[u8], kind: u16| attribute(attribute(element, kind)?, 1).map(<[u8]>::to_vec);
    let packets = |element: &[u8]| {
        // NFTA_SET_ELEM_EXPR: name and data; NFTA_COUNTER_PACKETS is 2.
        let data = attribute(attribute(element, 7)?, 2)?;
        attribute(data, 2)?.try_into().ok().map(u64::from_be_bytes)
    };
    let elements = attributes(list).into_iter().filter_map(|(_, element)| {
        Some(Shown {
            element: Element {
                first: key(element, 1)?,
                last: key(element, 10),
            },
            packets: packets(element).unwrap_or(0),
        })
    });
    elements.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_read_as_written_and_garbage_is_survived() {
        let mut a = Attributes::default();
        a.text(1, "abc");
        a.nest(3, |l| l.nest(1, |e| e.nest(1, |k| k.put(1, &[7; 6]))));
        assert_eq!(attribute(&a.0, 1), Some(&b"abc\0"[..]));
        assert_eq!(shown(&a.0)[0].element, Element::exact(vec![7; 6]));
        for cut in 0..a.0.len() {
            shown(&a.0[..cut]);
        }
        assert!(attributes(&[0; 8]).is_empty());
    }
}
