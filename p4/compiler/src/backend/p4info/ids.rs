//! Object ids and aliases (P4Runtime specification, section "ID Allocation for P4Info Objects").

use crate::diagnostics::Sink;
use crate::ir::annotation::Annotations;
use num_traits::ToPrimitive;
use std::collections::{HashMap, HashSet};

pub(super) mod prefix {
    pub(in super::super) const ACTION: u32 = 0x01;
    pub(in super::super) const TABLE: u32 = 0x02;
    pub(in super::super) const VALUE_SET: u32 = 0x03;
    pub(in super::super) const CONTROLLER_HEADER: u32 = 0x04;
    pub(in super::super) const ACTION_PROFILE: u32 = 0x11;
    pub(in super::super) const COUNTER: u32 = 0x12;
    pub(in super::super) const DIRECT_COUNTER: u32 = 0x13;
    pub(in super::super) const METER: u32 = 0x14;
    pub(in super::super) const DIRECT_METER: u32 = 0x15;
    pub(in super::super) const REGISTER: u32 = 0x16;
    pub(in super::super) const DIGEST: u32 = 0x17;

    /// Prefix of the ids of an extern's instances.
    pub(in super::super) fn of_extern(kind: &str) -> Option<u32> {
        Some(match kind {
            "counter" => COUNTER,
            "direct_counter" => DIRECT_COUNTER,
            "meter" => METER,
            "direct_meter" => DIRECT_METER,
            "register" => REGISTER,
            "action_profile" | "action_selector" => ACTION_PROFILE,
            _ => return None,
        })
    }
}

#[derive(Default)]
pub(super) struct Ids {
    ids: HashMap<(u32, String), u32>,
    taken: HashSet<u32>,
    /// Names of objects; several kinds may share one.
    names: HashSet<String>,
    /// How many different names end in each suffix.
    suffixes: HashMap<String, usize>,
}

impl Ids {
    fn name(&mut self, name: &str) {
        if !self.names.insert(name.to_string()) {
            return;
        }
        for (i, _) in name.match_indices('.').map(|(i, s)| (i + 1, s)).chain([(0, "")]) {
            if let Some(s) = name.get(i..) {
                *self.suffixes.entry(s.to_string()).or_default() += 1;
            }
        }
    }

    /// An id from `@id`, with or without the prefix of its kind.
    pub(super) fn fixed(&mut self, prefix: u32, name: &str, id: u32) -> Result<(), String> {
        let id = match id >> 24 {
            0 => prefix << 24 | id,
            p if p == prefix => id,
            _ => {
                return Err(format!(
                    "id {id:#x} of {name} does not have the prefix {prefix:#04x} of its kind"
                ));
            }
        };
        if self.ids.contains_key(&(prefix, name.to_string())) {
            return Ok(());
        }
        if !self.taken.insert(id) {
            return Err(format!("id {id:#x} of {name} is used twice"));
        }
        self.ids.insert((prefix, name.to_string()), id);
        self.name(name);
        Ok(())
    }

    /// An id from the name: a hash of 24 bits, the next free one on collision.
    pub(super) fn assign(&mut self, prefix: u32, name: &str) {
        let key = (prefix, name.to_string());
        if self.ids.contains_key(&key) {
            return;
        }
        let mut low = jenkins(name.as_bytes()) & 0xff_ffff;
        while low == 0 || !self.taken.insert(prefix << 24 | low) {
            low = (low + 1) & 0xff_ffff;
        }
        self.ids.insert(key, prefix << 24 | low);
        self.name(name);
    }

    pub(super) fn get(&self, prefix: u32, name: &str) -> u32 {
        self.ids.get(&(prefix, name.to_string())).copied().unwrap_or(0)
    }

    /// The shortest suffix of whole words that no other name shares.
    pub(super) fn alias(&self, name: &str) -> String {
        let mut starts: Vec<usize> = name.match_indices('.').map(|(i, _)| i + 1).collect();
        starts.reverse();
        starts.push(0);
        let unique = starts
            .into_iter()
            .filter_map(|i| name.get(i..))
            .find(|s| self.suffixes.get(*s).is_none_or(|n| *n <= 1));
        unique.unwrap_or(name).to_string()
    }
}

/// Ids of match fields, parameters or metadata fields: those of `@id` first. The others are numbered by position and
/// skip ids that are taken.
pub(super) fn field_ids<'a>(fields: impl Iterator<Item = &'a Annotations>, sink: &mut Sink) -> Vec<u32> {
    let mut taken = HashSet::new();
    let mut fixed = Vec::new();
    for a in fields {
        let id = a.int("id").and_then(|i| i.to_u32());
        if let (Some(id), Some(at)) = (id, a.get("id"))
            && !taken.insert(id)
        {
            sink.error(at.span, format!("id {id} is used twice here"));
        }
        fixed.push(id);
    }
    let mut next = 1;
    let mut out = Vec::new();
    for id in fixed {
        out.push(match id {
            Some(id) => {
                next += 1;
                id
            }
            None => {
                while !taken.insert(next) {
                    next += 1;
                }
                next
            }
        });
    }
    out
}

/// Jenkins' one-at-a-time hash.
fn jenkins(bytes: &[u8]) -> u32 {
    let mut h = 0u32;
    for b in bytes {
        h = h.wrapping_add(u32::from(*b));
        h = h.wrapping_add(h << 10);
        h ^= h >> 6;
    }
    h = h.wrapping_add(h << 3);
    h ^= h >> 11;
    h.wrapping_add(h << 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_those_that_other_compilers_give() {
        let mut ids = Ids::default();
        ids.assign(prefix::ACTION, "NoAction");
        ids.assign(prefix::TABLE, "IngressI.indirect");
        ids.assign(prefix::ACTION_PROFILE, "ap");
        assert_eq!(ids.get(prefix::ACTION, "NoAction"), 21_257_015);
        assert_eq!(ids.get(prefix::TABLE, "IngressI.indirect"), 46_872_340);
        assert_eq!(ids.get(prefix::ACTION_PROFILE, "ap"), 294_074_782);
    }

    #[test]
    fn fixed_ids_carry_their_prefix_and_are_not_given_away() {
        let mut ids = Ids::default();
        ids.fixed(prefix::TABLE, "a", 5).unwrap();
        assert_eq!(ids.get(prefix::TABLE, "a"), 0x0200_0005);
        assert!(ids.fixed(prefix::TABLE, "b", 0x0200_0005).is_err(), "taken");
        assert!(
            ids.fixed(prefix::TABLE, "b", 0x0100_0005).is_err(),
            "an action's prefix"
        );
    }

    #[test]
    fn an_alias_is_the_shortest_suffix_that_no_other_name_has() {
        let mut ids = Ids::default();
        for (p, name) in [
            (prefix::TABLE, "i.acl.t"),
            (prefix::TABLE, "i.route.t"),
            (prefix::ACTION, "i.both"),
            (prefix::TABLE, "i.both"),
        ] {
            ids.assign(p, name);
        }
        assert_eq!(ids.alias("i.acl.t"), "acl.t");
        assert_eq!(ids.alias("i.route.t"), "route.t");
        assert_eq!(ids.alias("i.both"), "both", "two kinds may share a name");
    }
}
