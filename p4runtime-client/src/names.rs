//! Finds ids for names and names for ids in a P4Info, and checks entities against it.

use std::collections::{BTreeSet, HashMap};

use p4runtime_proto::p4::config::v1::{
    Action, ActionProfile, Counter, Digest, MatchField, P4Info, Preamble, Table,
    match_field::{Match as MatchKind, MatchType},
};

use crate::{
    canonical::fits,
    entity::{ActionCall, Entity, EntityKey, EntityValue, FieldMatch, GroupValue, TableAction, TableKey},
    error::{Error, Result},
};

/// The id of an object, or 0 if it has no preamble. No object has id 0.
#[must_use]
pub fn id(preamble: Option<&Preamble>) -> u32 {
    preamble.map_or(0, |p| p.id)
}

/// Whether the action is P4's own `NoAction`.
pub(crate) fn is_no_action(p4info: &P4Info, action_id: u32) -> bool {
    let named = |a: &&Action| id(a.preamble.as_ref()) == action_id;
    let action = p4info.actions.iter().find(named);
    action.is_some_and(|a| a.preamble.as_ref().is_some_and(|p| p.name == "NoAction"))
}

/// Lookup in one kind of object, by name, alias or id.
#[derive(Debug, Clone)]
struct Index {
    by_name: HashMap<String, usize>,
    by_id: HashMap<u32, usize>,
}

impl Index {
    fn new<'a>(preambles: impl Iterator<Item = Option<&'a Preamble>>) -> Self {
        let mut index = Self {
            by_name: HashMap::new(),
            by_id: HashMap::new(),
        };
        for (i, preamble) in preambles.enumerate() {
            let Some(preamble) = preamble else { continue };
            index.by_id.insert(preamble.id, i);
            // A full name wins over another object's alias.
            index.by_name.entry(preamble.alias.clone()).or_insert(i);
            index.by_name.insert(preamble.name.clone(), i);
        }
        index
    }
}

/// A P4Info with its indexes. Names are fully qualified names or aliases.
#[derive(Debug, Clone)]
pub struct Names {
    p4info: P4Info,
    tables: Index,
    actions: Index,
    profiles: Index,
    counters: Index,
    digests: Index,
}

macro_rules! lookups {
    ($($by_name:ident $by_id:ident $index:ident $objects:ident $kind:ty, $what:literal;)*) => {$(
        #[doc = concat!("The ", $what, " of that name or alias.\n\n# Errors\n[`Error::Schema`] when there is none.")]
        pub fn $by_name(&self, name: &str) -> Result<&$kind> {
            let found = self.$index.by_name.get(name);
            found.and_then(|i| self.p4info.$objects.get(*i)).ok_or_else(|| {
                Error::Schema(format!(concat!("no ", $what, " named '{}'"), name))
            })
        }

        #[doc = concat!("The ", $what, " of that id.\n\n# Errors\n[`Error::Schema`] when there is none.")]
        pub fn $by_id(&self, id: u32) -> Result<&$kind> {
            let found = self.$index.by_id.get(&id);
            found.and_then(|i| self.p4info.$objects.get(*i)).ok_or_else(|| {
                Error::Schema(format!(concat!("no ", $what, " with id {:#010x}"), id))
            })
        }
    )*};
}

impl Names {
    /// Indexes a P4Info.
    #[must_use]
    pub fn new(p4info: P4Info) -> Self {
        Self {
            tables: Index::new(p4info.tables.iter().map(|o| o.preamble.as_ref())),
            actions: Index::new(p4info.actions.iter().map(|o| o.preamble.as_ref())),
            profiles: Index::new(p4info.action_profiles.iter().map(|o| o.preamble.as_ref())),
            counters: Index::new(p4info.counters.iter().map(|o| o.preamble.as_ref())),
            digests: Index::new(p4info.digests.iter().map(|o| o.preamble.as_ref())),
            p4info,
        }
    }

    /// The P4Info.
    #[must_use]
    pub fn p4info(&self) -> &P4Info {
        &self.p4info
    }

    lookups! {
        table table_by_id tables tables Table, "table";
        action action_by_id actions actions Action, "action";
        profile profile_by_id profiles action_profiles ActionProfile, "action profile";
        counter counter_by_id counters counters Counter, "counter";
        digest digest_by_id digests digests Digest, "digest";
    }

    /// An entity's key in words, for logs and people.
    #[must_use]
    pub fn describe(&self, key: &EntityKey) -> String {
        match key {
            EntityKey::Table(key) => {
                let Ok(table) = self.table_by_id(key.table_id) else {
                    return EntityKey::Table(key.clone()).to_string();
                };
                let fields = key.fields.fields().map(|(id, value)| {
                    let field = table.match_fields.iter().find(|f| f.id == id);
                    let name = field.map_or_else(|| id.to_string(), |f| f.name.clone());
                    format!("{name}={}", Value(value))
                });
                let fields: Vec<_> = fields.collect();
                let mut text = format!("{}[{}]", name(table.preamble.as_ref()), fields.join(" "));
                if key.priority != 0 {
                    text.push_str(&format!(" priority {}", key.priority));
                }
                text
            }
            EntityKey::DefaultAction { table_id } => match self.table_by_id(*table_id) {
                Ok(table) => format!("{}[default]", name(table.preamble.as_ref())),
                Err(_) => key.to_string(),
            },
            EntityKey::Member { profile_id, .. } | EntityKey::Group { profile_id, .. } => {
                let number = match key {
                    EntityKey::Member { member_id, .. } => format!("member {member_id}"),
                    EntityKey::Group { group_id, .. } => format!("group {group_id}"),
                    _ => String::new(),
                };
                match self.profile_by_id(*profile_id) {
                    Ok(profile) => format!("{} {number}", name(profile.preamble.as_ref())),
                    Err(_) => key.to_string(),
                }
            }
            _ => key.to_string(),
        }
    }

    /// Checks an entity: ids known, values within their widths, the match
    /// complete, a priority exactly where one belongs.
    ///
    /// # Errors
    /// [`Error::Schema`] naming the field.
    pub fn check(&self, entity: &Entity) -> Result<()> {
        let wrap = |error| Error::Schema(format!("{}: {error}", self.describe(entity.key())));
        match (entity.key(), entity.value()) {
            (EntityKey::Table(key), EntityValue::Table(value)) => {
                let table = self.table_by_id(key.table_id)?;
                check_key(table, key).map_err(wrap)?;
                self.check_action(table, &value.action)
            }
            (EntityKey::DefaultAction { table_id }, EntityValue::Table(value)) => {
                self.check_action(self.table_by_id(*table_id)?, &value.action)
            }
            (EntityKey::Member { profile_id, .. }, EntityValue::Member(call)) => {
                self.profile_by_id(*profile_id)?;
                self.check_call(call)
            }
            (EntityKey::Group { profile_id, .. }, EntityValue::Group(group)) => {
                let profile = self.profile_by_id(*profile_id)?;
                check_group(profile, group).map_err(wrap)
            }
            (EntityKey::Counter { counter_id, .. }, _) => self.counter_by_id(*counter_id).map(|_| ()),
            (EntityKey::Digest(id), _) => self.digest_by_id(*id).map(|_| ()),
            _ => Ok(()),
        }
    }

    fn check_action(&self, table: &Table, action: &TableAction) -> Result<()> {
        let direct = table.implementation_id == 0;
        match action {
            TableAction::Call(call) if direct => {
                if !table.action_refs.iter().any(|r| r.id == call.action_id()) {
                    return Err(Error::Schema(format!(
                        "table {} has no action {:#010x}",
                        name(table.preamble.as_ref()),
                        call.action_id()
                    )));
                }
                self.check_call(call)
            }
            TableAction::OneShot(set) if !direct => set.members.iter().try_for_each(|m| self.check_call(&m.action)),
            TableAction::Member(_) | TableAction::Group(_) if !direct => Ok(()),
            _ => Err(Error::Schema(format!(
                "table {} takes {}",
                name(table.preamble.as_ref()),
                if direct {
                    "actions"
                } else {
                    "members, groups or one-shots"
                }
            ))),
        }
    }

    fn check_call(&self, call: &ActionCall) -> Result<()> {
        let action = self.action_by_id(call.action_id())?;
        let what = name(action.preamble.as_ref());
        if call.params().count() != action.params.len() {
            return Err(Error::Schema(format!(
                "action {what} has {} parameters",
                action.params.len()
            )));
        }
        for param in &action.params {
            let value = call
                .param(param.id)
                .ok_or_else(|| Error::Schema(format!("action {what}: parameter {} is missing", param.name)))?;
            if !fits(value, u32::try_from(param.bitwidth).unwrap_or(0)) {
                return Err(Error::Schema(format!(
                    "action {what}: parameter {} is {}, more than {} bits",
                    param.name,
                    Value(FieldMatch::Exact(value)),
                    param.bitwidth
                )));
            }
        }
        Ok(())
    }
}

fn name(preamble: Option<&Preamble>) -> &str {
    preamble.map_or("?", |p| &p.name)
}

fn check_group(profile: &ActionProfile, group: &GroupValue) -> Result<(), String> {
    if !profile.with_selector {
        return Err("an action profile without selector has no groups".into());
    }
    let limit = profile.max_group_size;
    if limit > 0 && !(1..=limit).contains(&group.max_size) {
        return Err(format!("max_size is {}, must be from 1 to {limit}", group.max_size));
    }
    Ok(())
}

fn check_key(table: &Table, key: &TableKey) -> Result<(), String> {
    let known: BTreeSet<u32> = table.match_fields.iter().map(|f| f.id).collect();
    if let Some((id, _)) = key.fields.fields().find(|(id, _)| !known.contains(id)) {
        return Err(format!("there is no match field {id}"));
    }
    let mut prioritised = false;
    for field in &table.match_fields {
        check_field(field, key.fields.field(field.id))
            .map_err(|problem| format!("match field {}: {problem}", field.name))?;
        prioritised |= matches!(kind(field), MatchType::Ternary | MatchType::Range | MatchType::Optional);
    }
    match (prioritised, key.priority) {
        (true, ..=0) => Err(format!("priority is {}, must be more than 0", key.priority)),
        (false, 1..) => Err(format!("priority is {}, must be 0", key.priority)),
        _ => Ok(()),
    }
}

fn kind(field: &MatchField) -> MatchType {
    match field.r#match {
        Some(MatchKind::MatchType(kind)) => MatchType::try_from(kind).unwrap_or_default(),
        _ => MatchType::Unspecified,
    }
}

fn check_field(field: &MatchField, value: Option<FieldMatch<'_>>) -> Result<(), String> {
    let width = u32::try_from(field.bitwidth).unwrap_or(0);
    let (ok, values): (bool, [&[u8]; 2]) = match (kind(field), value) {
        (MatchType::Exact, None) => return Err("is missing, and an exact field must have a value".into()),
        (_, None) => return Ok(()),
        (MatchType::Exact, Some(FieldMatch::Exact(value)))
        | (MatchType::Optional, Some(FieldMatch::Optional(value))) => (true, [value, value]),
        (MatchType::Lpm, Some(FieldMatch::Lpm { value, prefix_len })) => (prefix_len <= width, [value, value]),
        (MatchType::Ternary, Some(FieldMatch::Ternary { value, mask })) => (true, [value, mask]),
        (MatchType::Range, Some(FieldMatch::Range { low, high })) => (true, [low, high]),
        (kind, Some(_)) => return Err(format!("is not matched as {}", kind.as_str_name())),
    };
    if !ok || !values.iter().all(|v| fits(v, width)) {
        return Err(format!("does not fit into {width} bits"));
    }
    Ok(())
}

/// A match value for people: hexadecimal, as P4 programmers write it.
struct Value<'a>(FieldMatch<'a>);

impl std::fmt::Display for Value<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        fn hex(f: &mut std::fmt::Formatter<'_>, bytes: &[u8]) -> std::fmt::Result {
            f.write_str("0x")?;
            bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
        }
        match self.0 {
            FieldMatch::Exact(value) | FieldMatch::Optional(value) => hex(f, value),
            FieldMatch::Ternary { value, mask } => {
                hex(f, value)?;
                f.write_str("&&&")?;
                hex(f, mask)
            }
            FieldMatch::Lpm { value, prefix_len } => {
                hex(f, value)?;
                write!(f, "/{prefix_len}")
            }
            FieldMatch::Range { low, high } => {
                hex(f, low)?;
                f.write_str("..")?;
                hex(f, high)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entity::{GroupMember, Match};
    use p4runtime_proto::p4::config::v1::{ActionRef, action::Param};

    fn preamble(id: u32, name: &str) -> Option<Preamble> {
        let alias = name.rsplit('.').next().unwrap_or(name).to_owned();
        Some(Preamble {
            id,
            name: name.into(),
            alias,
            ..Default::default()
        })
    }

    fn names() -> Names {
        let field = |id, kind: MatchType, bitwidth| MatchField {
            id,
            name: format!("f{id}"),
            bitwidth,
            r#match: Some(MatchKind::MatchType(kind.into())),
            ..Default::default()
        };
        let fields = vec![field(1, MatchType::Exact, 9), field(2, MatchType::Ternary, 32)];
        Names::new(P4Info {
            tables: vec![Table {
                preamble: preamble(1, "Ingress.acl"),
                match_fields: fields,
                action_refs: vec![ActionRef {
                    id: 2,
                    ..Default::default()
                }],
                ..Default::default()
            }],
            actions: vec![Action {
                preamble: preamble(2, "Ingress.permit"),
                params: vec![Param {
                    id: 1,
                    name: "port".into(),
                    bitwidth: 9,
                    ..Default::default()
                }],
            }],
            action_profiles: vec![ActionProfile {
                preamble: preamble(3, "Ingress.paths"),
                with_selector: true,
                max_group_size: 4,
                ..Default::default()
            }],
            ..Default::default()
        })
    }

    fn entry(fields: crate::entity::MatchBuilder, priority: i32, port: u16) -> Entity {
        let key = TableKey::with_priority(1, fields, priority);
        Entity::table(key, ActionCall::new(2, [(1, port.to_be_bytes())]))
    }

    #[test]
    fn objects_are_found_by_name_alias_and_id() {
        let names = names();
        assert_eq!(names.table("acl").unwrap(), names.table("Ingress.acl").unwrap());
        assert_eq!(names.table_by_id(1).unwrap(), names.table("acl").unwrap());
        let error = names.action("deny").unwrap_err();
        assert!(error.to_string().contains("no action named 'deny'"));
    }

    #[test]
    fn keys_are_shown_in_words() {
        let entity = entry(Match::builder().exact(1, [7]).ternary(2, [8], [15]), 3, 1);
        let text = names().describe(entity.key());
        assert_eq!(text, "Ingress.acl[f1=0x07 f2=0x08&&&0x0f] priority 3");
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let one = || Match::builder().exact(1, [7]);
        assert!(names().check(&entry(one(), 3, 511)).is_ok());
        let group = |max_size| {
            let member = GroupMember {
                member_id: 1,
                weight: 1,
                watch_port: None,
            };
            Entity::group(3, 1, vec![member], max_size)
        };
        assert!(names().check(&group(4)).is_ok());
        for (entity, expected) in [
            (entry(one(), 0, 1), "priority is 0"),
            (entry(one(), 3, 512), "parameter port is 0x0200, more than 9 bits"),
            (entry(Match::builder(), 3, 1), "match field f1: is missing"),
            (
                entry(Match::builder().exact(1, [2, 0]), 3, 1),
                "does not fit into 9 bits",
            ),
            (entry(one().exact(2, [1]), 3, 1), "is not matched as TERNARY"),
            (entry(one().exact(9, [1]), 3, 1), "no match field 9"),
            (group(0), "must be from 1 to 4"),
        ] {
            let error = names().check(&entity).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
