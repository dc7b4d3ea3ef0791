//! Names of a program: turns the abbreviations of a script into tables, actions and keys in octets.

mod key;
mod widths;

use std::collections::HashMap;

use bmv2_json::{MatchType, Program};

pub(super) use key::padded;
use key::{anything, key_part, unsigned, value};
use widths::{table_names, value_sets};

use super::command::{self, Digits, KeyValue};
use super::target::{Action, Call, Entry, Key};

/// An error in a name or value, for people.
pub type Wrong = String;

/// One element of a table's key.
#[derive(Debug, Clone)]
pub struct KeyField {
    /// Its name for control planes.
    pub name: String,
    /// How it matches.
    pub kind: MatchType,
    /// Width in bits.
    pub width: u32,
}

/// A table.
#[derive(Debug, Clone)]
pub struct Table {
    /// Full name.
    pub name: String,
    /// Its key.
    pub key: Vec<KeyField>,
    /// Its actions: full name and id.
    pub actions: Vec<(String, u32)>,
    /// Its action profile.
    pub profile: Option<String>,
}

impl Table {
    /// Whether entries need priorities.
    pub fn has_priorities(&self) -> bool {
        self.key
            .iter()
            .any(|k| matches!(k.kind, MatchType::Ternary | MatchType::Range))
    }
}

/// Everything that scripts can name.
#[derive(Debug, Clone, Default)]
pub struct Names {
    tables: Vec<Table>,
    /// Parameters of actions by id: name and width.
    parameters: HashMap<u32, Vec<(String, u32)>>,
    profiles: Vec<String>,
    /// Counter arrays, and the table of direct ones.
    counters: Vec<(String, Option<String>)>,
    meters: Vec<String>,
    /// Register arrays with cells and width.
    registers: Vec<(String, u32, u32)>,
    /// Value sets with the widths of a member's fields.
    value_sets: Vec<(String, Vec<u32>)>,
    digests: Vec<String>,
    /// Entries of the program itself.
    entries: Vec<Entry>,
}

impl Names {
    /// Reads the names of a program.
    ///
    /// # Errors
    /// A name in the program contradicts the rest of the program.
    pub fn new(program: &Program) -> Result<Self, Wrong> {
        let widths = bmv2_json::FieldWidths::new(program);
        let mut names = Self {
            parameters: program
                .actions
                .iter()
                .map(|a| {
                    (
                        a.id,
                        a.runtime_data.iter().map(|d| (d.name.clone(), d.bitwidth)).collect(),
                    )
                })
                .collect(),
            counters: program
                .counter_arrays
                .iter()
                .map(|c| (c.name.clone(), c.binding.clone()))
                .collect(),
            meters: program.meter_arrays.iter().map(|m| m.name.clone()).collect(),
            registers: program
                .register_arrays
                .iter()
                .map(|r| (r.name.clone(), r.size, r.bitwidth))
                .collect(),
            value_sets: value_sets(program, &widths)?,
            digests: program.learn_lists.iter().map(|l| l.name.clone()).collect(),
            ..Self::default()
        };
        for pipeline in &program.pipelines {
            names
                .profiles
                .extend(pipeline.action_profiles.iter().map(|p| p.name.clone()));
            for table in &pipeline.tables {
                let named = table_names(table, &widths).map_err(|e| format!("table {}: {e}", table.name))?;
                names.entries_of(&named, table)?;
                names.tables.push(named);
            }
        }
        Ok(names)
    }

    /// Entries of the program itself.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Notes the program's own entries of a table. A smaller priority wins in the document.
    fn entries_of(&mut self, named: &Table, table: &bmv2_json::Table) -> Result<(), Wrong> {
        for entry in table.entries.iter().flatten() {
            let mut key = Vec::new();
            for (field, part) in named.key.iter().zip(&entry.match_key) {
                let octets = |h: &bmv2_json::HexStr| padded(&unsigned(h, field.width), field.width);
                key.push(match part {
                    bmv2_json::EntryKey::Valid { key } => Key::Exact(vec![u8::from(*key)]),
                    bmv2_json::EntryKey::Exact { key } => Key::Exact(octets(key)),
                    bmv2_json::EntryKey::Lpm { key, prefix_length } => Key::Lpm(octets(key), *prefix_length as usize),
                    bmv2_json::EntryKey::Ternary { key, mask } => Key::Ternary(octets(key), octets(mask)),
                    bmv2_json::EntryKey::Range { start, end } => Key::Range(octets(start), octets(end)),
                });
            }
            let id = entry.action_entry.action_id;
            let action = named.actions.iter().find(|(_, i)| *i == id);
            let (action, id) = action.ok_or_else(|| format!("table {}: action id {id} is unknown", table.name))?;
            let data = entry.action_entry.action_data.iter();
            let args = self.parameters.get(id).into_iter().flatten().zip(data);
            let args = args
                .map(|((_, width), value)| padded(&unsigned(value, *width), *width))
                .collect();
            self.entries.push(Entry {
                table: named.name.clone(),
                key,
                priority: if named.has_priorities() {
                    i32::try_from(entry.priority).unwrap_or(i32::MAX).saturating_neg()
                } else {
                    0
                },
                action: Action::Call(Call {
                    action: action.clone(),
                    id: *id,
                    args,
                }),
            });
        }
        Ok(())
    }

    /// A table by its name or the end of it.
    pub fn table(&self, name: &str) -> Result<&Table, Wrong> {
        find("table", &self.tables, |t| &t.name, name)
    }

    /// A profile's full name.
    pub fn profile(&self, name: &str) -> Result<&str, Wrong> {
        find("action profile", &self.profiles, |p| p, name).map(String::as_str)
    }

    /// A counter's full name, and the table of a direct one.
    pub fn counter(&self, name: &str) -> Result<(&str, Option<&str>), Wrong> {
        find("counter", &self.counters, |c| &c.0, name).map(|(n, t)| (n.as_str(), t.as_deref()))
    }

    /// A meter array's full name.
    pub fn meter(&self, name: &str) -> Result<&str, Wrong> {
        find("meter", &self.meters, |m| m, name).map(String::as_str)
    }

    /// A register array's full name, cells, and width.
    pub fn register(&self, name: &str) -> Result<(&str, u32, u32), Wrong> {
        find("register", &self.registers, |r| &r.0, name).map(|(n, cells, width)| (n.as_str(), *cells, *width))
    }

    /// A value set's full name, and the octets of a member's fields.
    pub fn value_set(&self, name: &str, member: &[Digits]) -> Result<(&str, Vec<Vec<u8>>), Wrong> {
        let (name, widths) = find("value set", &self.value_sets, |v| &v.0, name)?;
        if widths.len() != member.len() {
            return Err(format!("members of {name} have {} fields", widths.len()));
        }
        let fields = member.iter().zip(widths).map(|(v, width)| value(name, v, *width));
        Ok((name, fields.collect::<Result<_, _>>()?))
    }

    /// A digest's full name.
    pub fn digest(&self, name: &str) -> Result<&str, Wrong> {
        find("digest", &self.digests, |d| d, name).map(String::as_str)
    }

    /// An action of a table with its arguments.
    pub fn call(&self, table: &Table, call: &command::Call) -> Result<Call, Wrong> {
        let (name, id) = find("action", &table.actions, |a| &a.0, &call.action)
            .map_err(|e| format!("{e} in table {}", table.name))?;
        let parameters = self.parameters.get(id).map_or(&[][..], Vec::as_slice);
        if let Some((unknown, _)) = call.args.iter().find(|(n, _)| !parameters.iter().any(|(p, _)| p == n)) {
            return Err(format!("action {name} has no parameter {unknown}"));
        }
        let mut args = Vec::new();
        for (parameter, width) in parameters {
            let given = call.args.iter().find(|(n, _)| n == parameter);
            let (_, digits) = given.ok_or_else(|| format!("parameter {parameter} of {name} is missing"))?;
            args.push(value(parameter, digits, *width)?);
        }
        Ok(Call {
            action: name.clone(),
            id: *id,
            args,
        })
    }

    /// An action of a table that uses the profile, with its arguments.
    pub fn member_call(&self, profile: &str, call: &command::Call) -> Result<Call, Wrong> {
        let table = self.tables.iter().find(|t| t.profile.as_deref() == Some(profile));
        self.call(table.ok_or_else(|| format!("no table uses profile {profile}"))?, call)
    }

    /// An entry.
    pub fn entry(
        &self,
        table: &str,
        priority: Option<i32>,
        key: &[(String, KeyValue)],
        action: &command::Action,
    ) -> Result<Entry, Wrong> {
        let table = self.table(table)?;
        let mut parts: Vec<Option<Key>> = vec![None; table.key.len()];
        for (name, given) in key {
            let at = field(table, name)?;
            if let (Some(field), Some(part)) = (table.key.get(at), parts.get_mut(at)) {
                if part.is_some() {
                    return Err(format!("key {name} is given twice"));
                }
                *part = Some(key_part(field, given)?);
            }
        }
        let key = parts
            .into_iter()
            .zip(&table.key)
            .map(|(part, field)| part.unwrap_or_else(|| anything(field)));
        Ok(Entry {
            key: key.collect(),
            priority: if table.has_priorities() {
                priority.unwrap_or(0)
            } else {
                0
            },
            action: match action {
                command::Action::Call(call) => Action::Call(self.call(table, call)?),
                command::Action::Member(id) => Action::Member(*id),
                command::Action::Group(id) => Action::Group(*id),
            },
            table: table.name.clone(),
        })
    }
}

/// Finds by full name, else by the only name that ends with it: first after a `.`, then anywhere.
fn find<'a, T>(kind: &str, all: &'a [T], name: impl Fn(&T) -> &str, wanted: &str) -> Result<&'a T, Wrong> {
    if let Some(found) = all.iter().find(|x| name(x) == wanted) {
        return Ok(found);
    }
    let dotted = format!(".{wanted}");
    for end in [dotted.as_str(), wanted] {
        let mut fitting = all.iter().filter(|x| name(x).ends_with(end));
        match (fitting.next(), fitting.next()) {
            (Some(found), None) => return Ok(found),
            (Some(a), Some(b)) => return Err(format!("{kind} {wanted} may be {} or {}", name(a), name(b))),
            _ => {}
        }
    }
    let known: Vec<&str> = all.iter().map(&name).collect();
    Err(format!("{kind} {wanted} is unknown (there are: {})", known.join(", ")))
}

/// Which key element a script names; `a$2.b` stands for `a[2].b`, and `$` or `.$valid$` may be left out.
fn field(table: &Table, name: &str) -> Result<usize, Wrong> {
    let name = unescaped(name);
    let names = || table.key.iter().map(|k| k.name.as_str());
    let stem = name.strip_suffix("valid").unwrap_or(&name);
    let full = [
        name.clone(),
        format!("{name}$"),
        format!("{name}.$valid$"),
        format!("{stem}$valid$"),
    ];
    if let Some(at) = full.iter().find_map(|f| names().position(|n| n == f)) {
        return Ok(at);
    }
    let ends = [format!(".{name}"), format!(".{name}$"), format!(".{stem}$valid$")];
    let found = names().rposition(|n| ends.iter().any(|e| n.ends_with(e.as_str())));
    let known: Vec<&str> = names().collect();
    found.ok_or_else(|| format!("table {} has no key {name} (it has: {})", table.name, known.join(", ")))
}

/// `a$2.b` as `a[2].b`.
fn unescaped(name: &str) -> String {
    let part = |part: &str| match part.rsplit_once('$') {
        Some((head, index)) if !index.is_empty() && index.bytes().all(|b| b.is_ascii_digit()) => {
            format!("{head}[{index}]")
        }
        _ => part.to_owned(),
    };
    name.split('.').map(part).collect::<Vec<_>>().join(".")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stf::lex::digits;

    fn table() -> Table {
        let field = |name: &str, kind, width| KeyField {
            name: name.into(),
            kind,
            width,
        };
        Table {
            name: "c.inner.t".into(),
            key: vec![
                field("hdr.st[2].f", MatchType::Ternary, 12),
                field("hdr.h.$valid$", MatchType::Exact, 1),
                field("ip.dst", MatchType::Lpm, 32),
                field("port", MatchType::Range, 16),
            ],
            actions: vec![("c.a".into(), 1), ("c.ba".into(), 2)],
            profile: None,
        }
    }

    #[test]
    fn keys_are_found_by_their_ends() {
        let table = table();
        for (name, at) in [
            ("hdr.st$2.f", 0),
            ("st[2].f", 0),
            ("hdr.h", 1),
            ("hdr.h.valid", 1),
            ("h", 3),
            ("dst", 2),
        ] {
            // `h` alone is not a suffix of `hdr.h.$valid$`.
            match field(&table, name) {
                Ok(found) => assert_eq!(found, at, "{name}"),
                Err(_) => assert_eq!(name, "h"),
            }
        }
    }

    #[test]
    fn names_are_found_by_their_ends() {
        let table = table();
        assert_eq!(
            find("action", &table.actions, |a| &a.0, "a").unwrap().1,
            1,
            "after a point first"
        );
        assert_eq!(find("action", &table.actions, |a| &a.0, "ba").unwrap().1, 2);
        assert!(
            find("action", &table.actions, |a| &a.0, "x")
                .unwrap_err()
                .contains("c.a, c.ba")
        );
    }

    #[test]
    fn values_follow_the_match_kind() {
        let table = table();
        let part = |at: usize, v: KeyValue| key_part(table.key.get(at).unwrap(), &v);
        let d = |t: &str| digits(t).unwrap();
        assert_eq!(
            part(0, KeyValue::Plain(d("0x1*"))),
            Ok(Key::Ternary(vec![0, 0x10], vec![0, 0xf0]))
        );
        assert_eq!(
            part(0, KeyValue::Plain(d("16"))),
            Ok(Key::Ternary(vec![0, 0x10], vec![0x0f, 0xff]))
        );
        assert_eq!(
            part(2, KeyValue::Plain(d("0x0a010000"))),
            Ok(Key::Lpm(vec![10, 1, 0, 0], 32))
        );
        assert_eq!(
            part(2, KeyValue::Plain(d("0x0a01****"))),
            Ok(Key::Lpm(vec![10, 1, 0, 0], 16))
        );
        assert_eq!(
            part(3, KeyValue::Range(d("1"), d("0x100"))),
            Ok(Key::Range(vec![0, 1], vec![1, 0]))
        );
        assert!(
            part(1, KeyValue::Plain(d("2")))
                .unwrap_err()
                .contains("does not fit into 1 bits")
        );
        assert!(part(3, KeyValue::Masked(d("1"), d("1"))).is_err());
        assert!(part(2, KeyValue::Prefix(d("1"), 33)).is_err());
    }
}
