//! Typed Rust bindings for the tables of a program, from its P4Info.
//!
//! **Problem.** A controller that names tables and fields by strings or numbers finds out
//! in the field that the P4 program has changed. With these bindings it does not compile.
//!
//! **Output.** One module per table with a `Key` struct and an `Action` enum, conversions
//! to and from P4Runtime entities in both directions, the ids of counters and digests as
//! constants, and the program's serialisable enums. Doc comments are those of the program
//! (`@brief`, `@description`). Actions that are only for the default entry are left out,
//! because a controller cannot put them into an entry.
//!
//! The text uses a support module of the crate that includes it: `Bits<W>`, `Lpm<W>`,
//! `Ternary<W>`, `Range<W>`, the traits `Field`, `KeyFields` and `ActionParams`, `DecodeError`.
//! `fabric-pipeline` has it in `bits.rs` and `binding.rs`.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use p4runtime_proto::p4::config::v1 as p4info;

use p4info::match_field::{Match, MatchType};

/// Why no bindings could be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BindingsError {
    /// The P4Info refers to an object that it does not contain.
    #[error("{what} {id:#010x}: not in the P4Info")]
    Missing {
        /// Kind of the object.
        what: &'static str,
        /// Its id.
        id: u32,
    },
    /// A match kind that P4Runtime does not define.
    #[error("table `{table}`, field `{field}`: match kind is not supported")]
    MatchKind {
        /// The table.
        table: String,
        /// The field.
        field: String,
    },
}

/// Writes bindings for `info`. `support` is the Rust path of the support module.
///
/// # Errors
/// If the P4Info contradicts itself or has a match kind of an unknown architecture.
pub fn generate(info: &p4info::P4Info, support: &str) -> Result<String, BindingsError> {
    let mut out = String::from("// Generated from P4Info; do not edit.\n\n");
    let actions: BTreeMap<u32, &p4info::Action> = info
        .actions
        .iter()
        .filter_map(|a| Some((a.preamble.as_ref()?.id, a)))
        .collect();
    let mut tables = Vec::new();
    for table in &info.tables {
        let Some(preamble) = &table.preamble else { continue };
        let module = snake(&preamble.alias);
        table_module(&mut out, info, table, preamble, &module, &actions, support)?;
        tables.push(module);
    }
    describe(&mut out, &tables, support);
    let counters = info.counters.iter().filter_map(|c| c.preamble.as_ref());
    constants(&mut out, "counters", "Indirect counters", counters);
    let direct = info.direct_counters.iter().filter_map(|c| c.preamble.as_ref());
    constants(&mut out, "direct_counters", "Direct counters", direct);
    let digests = info.digests.iter().filter_map(|c| c.preamble.as_ref());
    constants(&mut out, "digests", "Digests", digests);
    packet_metadata(&mut out, info);
    enums(&mut out, info);
    Ok(out)
}

/// The Rust type of a match field.
fn field_type(table: &str, field: &p4info::MatchField) -> Result<String, BindingsError> {
    let width = field.bitwidth;
    let kind = match field.r#match {
        Some(Match::MatchType(kind)) => MatchType::try_from(kind).unwrap_or(MatchType::Unspecified),
        _ => MatchType::Unspecified,
    };
    Ok(match kind {
        MatchType::Exact => format!("Bits<{width}>"),
        MatchType::Lpm => format!("Lpm<{width}>"),
        MatchType::Ternary => format!("Ternary<{width}>"),
        MatchType::Range => format!("Range<{width}>"),
        MatchType::Optional => format!("Option<Bits<{width}>>"),
        MatchType::Unspecified => {
            return Err(BindingsError::MatchKind {
                table: table.to_owned(),
                field: field.name.clone(),
            });
        }
    })
}

fn needs_priority(table: &p4info::Table) -> bool {
    let masked = [MatchType::Ternary, MatchType::Range, MatchType::Optional].map(|m| m as i32);
    let kinds = table.match_fields.iter().filter_map(|f| match f.r#match {
        Some(Match::MatchType(kind)) => Some(kind),
        _ => None,
    });
    kinds.into_iter().any(|kind| masked.contains(&kind))
}

/// The actions that an entry of the table can have.
fn entry_actions<'a>(
    table: &p4info::Table,
    actions: &BTreeMap<u32, &'a p4info::Action>,
) -> Result<Vec<(&'a p4info::Preamble, &'a p4info::Action)>, BindingsError> {
    let default_only = p4info::action_ref::Scope::DefaultOnly as i32;
    let mut found = Vec::new();
    for r in table.action_refs.iter().filter(|r| r.scope != default_only) {
        let missing = BindingsError::Missing {
            what: "action",
            id: r.id,
        };
        let action = actions.get(&r.id).copied().ok_or(missing)?;
        found.extend(action.preamble.as_ref().map(|p| (p, action)));
    }
    Ok(found)
}

fn table_module(
    out: &mut String,
    info: &p4info::P4Info,
    table: &p4info::Table,
    preamble: &p4info::Preamble,
    module: &str,
    actions: &BTreeMap<u32, &p4info::Action>,
    support: &str,
) -> Result<(), BindingsError> {
    doc(out, "", preamble.doc.as_ref(), &format!("Table `{}`.", preamble.name));
    let _ = writeln!(out, "pub mod {module} {{");
    let _ = writeln!(
        out,
        "    #[allow(unused_imports)] // not every table has every kind of field"
    );
    let _ = writeln!(out, "    use {support}::*;\n");
    constant(out, "    ", "ID", preamble.id, "P4Info id of the table.");
    let _ = writeln!(out, "    /// Full name of the table in the program.");
    let _ = writeln!(out, "    pub const NAME: &str = {:?};", preamble.name);
    let _ = writeln!(out, "    /// Room for entries, as the program asks for it.");
    let _ = writeln!(out, "    pub const SIZE: usize = {};\n", table.size.max(0));
    key(out, table, &preamble.alias)?;
    let actions = entry_actions(table, actions)?;
    action(out, &actions, &preamble.alias);
    if table.implementation_id == 0 {
        entry(out, needs_priority(table));
    } else {
        let profile = info
            .action_profiles
            .iter()
            .find_map(|p| p.preamble.as_ref().filter(|p| p.id == table.implementation_id));
        let missing = BindingsError::Missing {
            what: "action profile",
            id: table.implementation_id,
        };
        let profile = profile.ok_or(missing)?;
        constant(
            out,
            "    ",
            "PROFILE_ID",
            profile.id,
            "P4Info id of the table's action profile.",
        );
    }
    let _ = writeln!(out, "}}\n");
    Ok(())
}

fn key(out: &mut String, table: &p4info::Table, alias: &str) -> Result<(), BindingsError> {
    let _ = writeln!(out, "    /// What an entry of `{alias}` matches.");
    let _ = writeln!(out, "    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]");
    let _ = writeln!(out, "    pub struct Key {{");
    for field in &table.match_fields {
        let of_field = format!("Match field `{}`, {} bits.", field.name, field.bitwidth);
        doc(out, "        ", field.doc.as_ref(), &of_field);
        let _ = writeln!(
            out,
            "        pub {}: {},",
            ident(&field.name),
            field_type(alias, field)?
        );
    }
    let _ = writeln!(out, "    }}\n");
    let _ = writeln!(out, "    impl KeyFields for Key {{");
    let _ = writeln!(out, "        const TABLE_ID: u32 = ID;");
    let _ = writeln!(out, "        const TABLE: &'static str = {alias:?};\n");
    let _ = writeln!(out, "        fn to_match(self) -> MatchBuilder {{");
    let fields = table
        .match_fields
        .iter()
        .fold("Match::builder()".to_owned(), |fields, f| {
            format!("self.{}.put({fields}, {})", ident(&f.name), f.id)
        });
    let _ = writeln!(out, "            {fields}\n        }}\n");
    let _ = writeln!(
        out,
        "        fn from_match(fields: &Match) -> Result<Self, DecodeError> {{"
    );
    let _ = writeln!(out, "            Ok(Self {{");
    for f in &table.match_fields {
        let name = ident(&f.name);
        let _ = writeln!(
            out,
            "                {name}: Field::get(fields, {}, {:?})?,",
            f.id, f.name
        );
    }
    let _ = writeln!(out, "            }})\n        }}\n    }}\n");
    let _ = writeln!(out, "    impl std::fmt::Display for Key {{");
    let _ = writeln!(
        out,
        "        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {{"
    );
    let format: Vec<String> = table.match_fields.iter().map(|f| format!("{} {{}}", f.name)).collect();
    let values: Vec<String> = table
        .match_fields
        .iter()
        .map(|f| format!("Field::show(&self.{})", ident(&f.name)))
        .collect();
    let _ = writeln!(
        out,
        "            write!(f, {:?}, {})",
        format.join(", "),
        values.join(", ")
    );
    let _ = writeln!(out, "        }}\n    }}\n");
    Ok(())
}

fn action(out: &mut String, actions: &[(&p4info::Preamble, &p4info::Action)], alias: &str) {
    let _ = writeln!(out, "    /// What an entry of `{alias}` does.");
    let _ = writeln!(out, "    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]");
    let _ = writeln!(out, "    pub enum Action {{");
    for (preamble, action) in actions {
        doc(
            out,
            "        ",
            preamble.doc.as_ref(),
            &format!("Action `{}`.", preamble.name),
        );
        let variant = camel(&preamble.alias);
        if action.params.is_empty() {
            let _ = writeln!(out, "        {variant},");
            continue;
        }
        let _ = writeln!(out, "        {variant} {{");
        for p in &action.params {
            doc(
                out,
                "            ",
                p.doc.as_ref(),
                &format!("Parameter `{}`, {} bits.", p.name, p.bitwidth),
            );
            let _ = writeln!(out, "            {}: Bits<{}>,", ident(&p.name), p.bitwidth);
        }
        let _ = writeln!(out, "        }},");
    }
    let _ = writeln!(out, "    }}\n");
    let _ = writeln!(out, "    impl ActionParams for Action {{");
    let _ = writeln!(
        out,
        "        fn to_call(self) -> ActionCall {{\n            match self {{"
    );
    for (preamble, action) in actions {
        let _ = writeln!(
            out,
            "                Self::{} => {},",
            pattern(preamble, action),
            call(preamble, action)
        );
    }
    let _ = writeln!(out, "            }}\n        }}\n");
    let _ = writeln!(
        out,
        "        fn from_call(call: &ActionCall) -> Result<Self, DecodeError> {{"
    );
    let _ = writeln!(out, "            match call.action_id() {{");
    for (preamble, action) in actions {
        let variant = camel(&preamble.alias);
        let fields = action
            .params
            .iter()
            .map(|p| format!("{}: param(call, {}, {:?})?", ident(&p.name), p.id, p.name));
        let fields: Vec<String> = fields.collect();
        let value = if fields.is_empty() {
            variant
        } else {
            format!("{variant} {{ {} }}", fields.join(", "))
        };
        let _ = writeln!(out, "                {} => Ok(Self::{value}),", hex(preamble.id));
    }
    let _ = writeln!(out, "                id => Err(DecodeError::UnknownAction {{ id }}),");
    let _ = writeln!(out, "            }}\n        }}\n    }}\n");
    let _ = writeln!(out, "    impl std::fmt::Display for Action {{");
    let _ = writeln!(
        out,
        "        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {{"
    );
    let _ = writeln!(out, "            match self {{");
    for (preamble, action) in actions {
        let shown: Vec<String> = action
            .params
            .iter()
            .map(|p| format!("{} {{{}}}", p.name, ident(&p.name)))
            .collect();
        let text = format!("{}({})", preamble.alias, shown.join(", "));
        let _ = writeln!(
            out,
            "                Self::{} => write!(f, {text:?}),",
            pattern(preamble, action)
        );
    }
    let _ = writeln!(out, "            }}\n        }}\n    }}");
}

fn pattern(preamble: &p4info::Preamble, action: &p4info::Action) -> String {
    let variant = camel(&preamble.alias);
    let names: Vec<String> = action.params.iter().map(|p| ident(&p.name)).collect();
    if names.is_empty() {
        variant
    } else {
        format!("{variant} {{ {} }}", names.join(", "))
    }
}

fn call(preamble: &p4info::Preamble, action: &p4info::Action) -> String {
    let id = hex(preamble.id);
    if action.params.is_empty() {
        return format!("ActionCall::bare({id})");
    }
    let params: Vec<String> = action
        .params
        .iter()
        .map(|p| format!("({}, {}.bytes())", p.id, ident(&p.name)))
        .collect();
    format!("ActionCall::new({id}, [{}])", params.join(", "))
}

fn entry(out: &mut String, priority: bool) {
    let (param, arg) = if priority {
        (", priority: i32", "priority")
    } else {
        ("", "0")
    };
    let _ = writeln!(out, "\n    impl Key {{");
    let _ = writeln!(out, "        /// The table entry that does `action` for this key.");
    let _ = writeln!(out, "        pub fn entry(self{param}, action: Action) -> Entity {{");
    let _ = writeln!(out, "            table_entry(self, {arg}, action)\n        }}\n    }}");
}

fn describe(out: &mut String, tables: &[String], support: &str) {
    let _ = writeln!(
        out,
        "/// Table, key and action of a table entry in words; `None` for what is not an entry of a"
    );
    let _ = writeln!(out, "/// table of this program or does not fit it.");
    let _ = writeln!(
        out,
        "pub fn describe(entity: &{support}::Entity) -> Option<{support}::Described> {{"
    );
    let _ = writeln!(out, "    match entity.key().table_id()? {{");
    for t in tables {
        let _ = writeln!(
            out,
            "        {t}::ID => {support}::described::<{t}::Key, {t}::Action>(entity),"
        );
    }
    let _ = writeln!(out, "        _ => None,\n    }}\n}}\n");
}

fn constants<'a>(out: &mut String, module: &str, what: &str, items: impl Iterator<Item = &'a p4info::Preamble>) {
    let mut items = items.peekable();
    if items.peek().is_none() {
        return;
    }
    let _ = writeln!(out, "/// {what} of the program, by P4Info id.\npub mod {module} {{");
    for p in items {
        doc(out, "    ", p.doc.as_ref(), &format!("`{}`.", p.name));
        let _ = writeln!(
            out,
            "    pub const {}: u32 = {};",
            snake(&p.alias).to_uppercase(),
            hex(p.id)
        );
    }
    let _ = writeln!(out, "}}\n");
}

fn packet_metadata(out: &mut String, info: &p4info::P4Info) {
    for header in &info.controller_packet_metadata {
        let Some(preamble) = &header.preamble else { continue };
        doc(
            out,
            "",
            preamble.doc.as_ref(),
            &format!("Metadata ids of `{}`.", preamble.name),
        );
        let _ = writeln!(out, "pub mod {} {{", snake(&preamble.alias));
        for m in &header.metadata {
            let text = format!("Id of `{}`, {} bits.", m.name, m.bitwidth);
            constant(out, "    ", &snake(&m.name).to_uppercase(), m.id, &text);
        }
        let _ = writeln!(out, "}}\n");
    }
}

fn enums(out: &mut String, info: &p4info::P4Info) {
    let Some(types) = &info.type_info else { return };
    for (name, spec) in &types.serializable_enums {
        let type_name = camel(name.trim_end_matches("_t"));
        let _ = writeln!(out, "/// Serialisable enum `{name}` of the program.");
        let _ = writeln!(
            out,
            "#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]\npub enum {type_name} {{"
        );
        for m in &spec.members {
            let value = m.value.iter().fold(0u64, |v, b| (v << 8) | u64::from(*b));
            let _ = writeln!(out, "    /// `{}`.", m.name);
            let _ = writeln!(out, "    {} = {value},", camel(&m.name.to_lowercase()));
        }
        let _ = writeln!(out, "}}\n");
    }
}

fn constant(out: &mut String, indent: &str, name: &str, value: u32, text: &str) {
    let _ = writeln!(
        out,
        "{indent}/// {text}\n{indent}pub const {name}: u32 = {};",
        hex(value)
    );
}

/// Doc comment: the program's words, or else `fallback`.
fn doc(out: &mut String, indent: &str, doc: Option<&p4info::Documentation>, fallback: &str) {
    let brief = doc
        .map(|d| d.brief.trim())
        .filter(|b| !b.is_empty())
        .unwrap_or(fallback);
    let description = doc.map(|d| d.description.trim()).unwrap_or_default();
    for line in brief.lines() {
        let _ = writeln!(out, "{indent}/// {}", line.trim());
    }
    if !description.is_empty() {
        let _ = writeln!(out, "{indent}///");
        for line in description.lines() {
            let _ = writeln!(out, "{indent}/// {}", line.trim());
        }
    }
}

/// Small numbers as they are, ids in hexadecimal.
fn hex(id: u32) -> String {
    if id < 256 {
        id.to_string()
    } else {
        format!("{:#06x}_{:04x}", id >> 16, id & 0xffff)
    }
}

/// A name as a Rust identifier in snake case: every character that is not a letter or digit becomes `_`.
fn snake(name: &str) -> String {
    let name: String = name
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
        .collect();
    let name = name.trim_matches('_').to_ascii_lowercase();
    if name.starts_with(|c: char| c.is_ascii_digit()) || name.is_empty() {
        format!("n{name}")
    } else {
        name
    }
}

/// A name in camel case.
fn camel(name: &str) -> String {
    let mut out = String::new();
    for word in snake(name).split('_') {
        let mut chars = word.chars();
        out.extend(chars.next().map(|c| c.to_ascii_uppercase()));
        out.push_str(chars.as_str());
    }
    out
}

/// A field name as a Rust identifier; keywords get a trailing underscore.
fn ident(name: &str) -> String {
    const KEYWORDS: [&str; 24] = [
        "as", "break", "const", "continue", "dyn", "else", "enum", "fn", "for", "if", "impl", "in", "let", "loop",
        "match", "mod", "move", "pub", "ref", "self", "static", "type", "use", "where",
    ];
    // Components of a dotted field path would run together otherwise.
    let name = snake(name);
    if KEYWORDS.contains(&name.as_str()) {
        format!("{name}_")
    } else {
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn preamble(id: u32, alias: &str) -> Option<p4info::Preamble> {
        let name = format!("Ingress.{alias}");
        Some(p4info::Preamble {
            id,
            name,
            alias: alias.into(),
            ..Default::default()
        })
    }

    fn field(id: u32, name: &str, bitwidth: i32, kind: MatchType) -> p4info::MatchField {
        let r#match = Some(Match::MatchType(kind as i32));
        p4info::MatchField {
            id,
            name: name.into(),
            bitwidth,
            r#match,
            ..Default::default()
        }
    }

    fn info() -> p4info::P4Info {
        let param = p4info::action::Param {
            id: 1,
            name: "type".into(),
            bitwidth: 9,
            ..Default::default()
        };
        let brief = Some(p4info::Documentation {
            brief: "Sends it on.".into(),
            ..Default::default()
        });
        let mut forward = p4info::Action {
            preamble: preamble(0x0100_0001, "forward"),
            params: vec![param],
        };
        if let Some(p) = &mut forward.preamble {
            p.doc = brief;
        }
        let drop = p4info::Action {
            preamble: preamble(0x0100_0002, "drop_it"),
            params: vec![],
        };
        let default_only = p4info::action_ref::Scope::DefaultOnly as i32;
        let table = p4info::Table {
            preamble: preamble(0x0200_0001, "acl"),
            match_fields: vec![
                field(1, "hdr.ipv4.dst", 32, MatchType::Lpm),
                field(2, "vid", 12, MatchType::Ternary),
            ],
            action_refs: vec![
                p4info::ActionRef {
                    id: 0x0100_0001,
                    ..Default::default()
                },
                p4info::ActionRef {
                    id: 0x0100_0002,
                    scope: default_only,
                    ..Default::default()
                },
            ],
            size: 64,
            ..Default::default()
        };
        p4info::P4Info {
            tables: vec![table],
            actions: vec![forward, drop],
            ..Default::default()
        }
    }

    #[test]
    fn a_table_becomes_a_module() {
        let text = generate(&info(), "crate::binding").unwrap();
        for line in [
            "pub mod acl {",
            "    pub const ID: u32 = 0x0200_0001;",
            "        pub hdr_ipv4_dst: Lpm<32>,",
            "        pub vid: Ternary<12>,",
            "        /// Sends it on.",
            "        Forward {",
            "            type_: Bits<9>,",
            "        pub fn entry(self, priority: i32, action: Action) -> Entity {",
        ] {
            assert!(text.lines().any(|l| l == line), "`{line}` missing in\n{text}");
        }
        assert!(!text.contains("DropIt"), "default-only actions cannot be in entries");
    }

    #[test]
    fn contradictions_are_errors() {
        let mut bad = info();
        bad.actions.remove(0);
        assert_eq!(
            generate(&bad, "s"),
            Err(BindingsError::Missing {
                what: "action",
                id: 0x0100_0001
            })
        );
        let mut bad = info();
        bad.tables[0].match_fields[0].r#match = None;
        assert!(generate(&bad, "s").unwrap_err().to_string().contains("hdr.ipv4.dst"));
    }
}
