//! Runtime files: what a switch should hold, by the names of its P4Info.
//!
//! The form is that of p4lang's tutorials: `target` "bmv2", `p4info`, `bmv2_json`, `table_entries`,
//! `multicast_group_entries`, `clone_session_entries`. A value is a number, or a text that is an IPv4 address, an IPv6
//! address, a MAC address, or a number with or without 0x. Of a match field: the value (exact), `[value, length]` (LPM),
//! `[value, mask]` (ternary), `[low, high]` (range).

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use p4runtime_client::canonical;
use p4runtime_client::entity::{
    ActionCall, CloneValue, Entity, Match, MatchBuilder, Port, Replica, TableAction, TableKey,
};
use p4runtime_client::names::Names;
use p4runtime_proto::p4::config::v1::match_field::{Match as Kind, MatchType};
use p4runtime_proto::p4::config::v1::{MatchField, P4Info, Table};
use prost_reflect::{DescriptorPool, DynamicMessage};
use serde::Deserialize;
use serde_json::Value;

/// P4Info in protobuf's text format.
///
/// # Errors
/// What is wrong, with line and column.
pub fn p4info(text: &str) -> Result<P4Info> {
    let pool = DescriptorPool::decode(p4runtime_proto::FILE_DESCRIPTOR_SET)?;
    let kind = pool.get_message_by_name("p4.config.v1.P4Info");
    let message = DynamicMessage::parse_text_format(kind.context("no descriptor of P4Info")?, text)?;
    Ok(message.transcode_to()?)
}

/// A runtime file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Runtime {
    /// Must be "bmv2".
    pub target: String,
    /// P4Info of the program, in protobuf's text format.
    pub p4info: PathBuf,
    /// The program.
    pub bmv2_json: PathBuf,
    /// Entries and default actions.
    #[serde(default)]
    table_entries: Vec<TableEntry>,
    #[serde(default)]
    multicast_group_entries: Vec<Group>,
    #[serde(default)]
    clone_session_entries: Vec<Clone>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct TableEntry {
    table: String,
    #[serde(default)]
    r#match: BTreeMap<String, Value>,
    #[serde(default)]
    default_action: bool,
    action_name: String,
    #[serde(default)]
    action_params: BTreeMap<String, Value>,
    priority: Option<i32>,
    /// A text for people.
    #[serde(default, rename = "comment")]
    _comment: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Group {
    multicast_group_id: u32,
    replicas: Vec<Copy>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Clone {
    clone_session_id: u32,
    replicas: Vec<Copy>,
    #[serde(default)]
    packet_length_bytes: i32,
    #[serde(default)]
    class_of_service: u32,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Copy {
    egress_port: u32,
    instance: u32,
}

impl Runtime {
    /// Reads a file.
    ///
    /// # Errors
    /// It cannot be read, or is not a runtime file; the error names the place.
    pub fn read(file: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
        let runtime: Self = serde_json::from_str(&text).with_context(|| file.display().to_string())?;
        if runtime.target != "bmv2" {
            bail!("{}: target `{}`: expected `bmv2`", file.display(), runtime.target);
        }
        Ok(runtime)
    }

    /// What the switch should hold.
    ///
    /// # Errors
    /// An entry names something that the program does not have; the error says what.
    pub fn entities(&self, names: &Names) -> Result<Vec<Entity>> {
        let tables = self.table_entries.iter().enumerate();
        let tables = tables.map(|(i, e)| e.entity(names).with_context(|| format!("table_entries[{i}]")));
        let groups = self.multicast_group_entries.iter();
        let groups = groups.map(|g| Ok(Entity::multicast_group(g.multicast_group_id, copies(&g.replicas))));
        let clones = self.clone_session_entries.iter().map(|c| {
            let value = CloneValue {
                replicas: copies(&c.replicas),
                class_of_service: c.class_of_service,
                packet_length_bytes: c.packet_length_bytes,
            };
            Ok(Entity::clone_session(c.clone_session_id, value))
        });
        tables.chain(groups).chain(clones).collect()
    }
}

fn copies(copies: &[Copy]) -> Vec<Replica> {
    copies
        .iter()
        .map(|c| Replica::new(Port(c.egress_port), c.instance))
        .collect()
}

impl TableEntry {
    fn entity(&self, names: &Names) -> Result<Entity> {
        let table = names.table(&self.table)?;
        let table_id = table.preamble.as_ref().map_or(0, |p| p.id);
        let action = self.action(names)?;
        if self.default_action {
            if !self.r#match.is_empty() {
                bail!("`match`: a default action has none");
            }
            return Ok(Entity::default_action(table_id, action));
        }
        let mut fields = Match::builder();
        for (name, value) in &self.r#match {
            let field = field(table, name)?;
            fields = matched(fields, field, value).with_context(|| format!("match `{name}`"))?;
        }
        let ordered = table.match_fields.iter().any(needs_priority);
        let key = match (ordered, self.priority) {
            (true, Some(priority)) if priority > 0 => TableKey::with_priority(table_id, fields, priority),
            (true, _) => bail!("`priority`: table {} needs one, above 0", self.table),
            (false, None | Some(0)) => TableKey::new(table_id, fields),
            (false, Some(_)) => bail!("`priority`: table {} has only exact and LPM fields", self.table),
        };
        Ok(Entity::table(key, action))
    }

    fn action(&self, names: &Names) -> Result<TableAction> {
        let action = names.action(&self.action_name)?;
        if let Some(unknown) = self
            .action_params
            .keys()
            .find(|name| !action.params.iter().any(|p| p.name == **name))
        {
            bail!("action {} has no parameter `{unknown}`", self.action_name);
        }
        let mut params = Vec::new();
        for param in &action.params {
            let value = self.action_params.get(&param.name);
            let value = value.with_context(|| format!("action {} needs `{}`", self.action_name, param.name))?;
            let value = number(value, param.bitwidth).with_context(|| format!("parameter `{}`", param.name))?;
            params.push((param.id, value));
        }
        let id = action.preamble.as_ref().map_or(0, |p| p.id);
        Ok(TableAction::Call(ActionCall::new(id, params)))
    }
}

fn field<'a>(table: &'a Table, name: &str) -> Result<&'a MatchField> {
    let fields = &table.match_fields;
    fields.iter().find(|f| f.name == name).with_context(|| {
        let known: Vec<&str> = fields.iter().map(|f| f.name.as_str()).collect();
        format!("no match field `{name}`; there are {}", known.join(", "))
    })
}

fn kind(field: &MatchField) -> MatchType {
    match &field.r#match {
        Some(Kind::MatchType(kind)) => MatchType::try_from(*kind).unwrap_or(MatchType::Unspecified),
        _ => MatchType::Unspecified,
    }
}

fn needs_priority(field: &MatchField) -> bool {
    matches!(kind(field), MatchType::Ternary | MatchType::Range | MatchType::Optional)
}

fn matched(fields: MatchBuilder, field: &MatchField, value: &Value) -> Result<MatchBuilder> {
    let (id, width) = (field.id, field.bitwidth);
    let width_signed = width;
    let pair = |what: &str| match value.as_array().map(Vec::as_slice) {
        Some([a, b]) => Ok((a, b)),
        _ => bail!("{value}: expected [value, {what}]"),
    };
    // A file may put an exact value into a list of one.
    let alone = match value.as_array().map(Vec::as_slice) {
        Some([one]) => one,
        _ => value,
    };
    Ok(match kind(field) {
        MatchType::Exact => fields.exact(id, number(alone, width)?),
        MatchType::Optional => fields.optional(id, number(alone, width)?),
        MatchType::Lpm => {
            let (value, length) = pair("prefix length")?;
            let length = length.as_u64().and_then(|l| u32::try_from(l).ok());
            let length = length.filter(|l| i32::try_from(*l).is_ok_and(|l| l <= width_signed));
            let length = length.with_context(|| format!("prefix length: expected 0 to {width}"))?;
            fields.lpm(id, width.unsigned_abs(), number(value, width)?, length)
        }
        MatchType::Ternary => {
            let (value, mask) = pair("mask")?;
            fields.ternary(id, number(value, width)?, number(mask, width)?)
        }
        MatchType::Range => {
            let (low, high) = pair("highest value")?;
            fields.range(id, width.unsigned_abs(), number(low, width)?, number(high, width)?)
        }
        MatchType::Unspecified => bail!("its kind of match is not known"),
    })
}

/// A value in network order.
fn number(value: &Value, bitwidth: i32) -> Result<Vec<u8>> {
    let octets = match value {
        Value::Number(number) => number.as_u64().map(|n| n.to_be_bytes().to_vec()),
        Value::String(text) => of_text(text),
        _ => None,
    };
    let octets = octets.with_context(|| format!("{value}: expected a number, an IP address or a MAC address"))?;
    let width = u32::try_from(bitwidth).unwrap_or(0);
    if !canonical::fits(&octets, width) {
        bail!("{value} does not fit into {width} bits");
    }
    Ok(octets)
}

fn of_text(text: &str) -> Option<Vec<u8>> {
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Some(match ip {
            IpAddr::V4(ip) => ip.octets().to_vec(),
            IpAddr::V6(ip) => ip.octets().to_vec(),
        });
    }
    let parts: Vec<&str> = text.split([':', '-']).collect();
    if parts.len() == 6 && parts.iter().all(|p| p.len() == 2) {
        let octet = |part: &&str| u8::from_str_radix(part, 16).ok();
        return parts.iter().map(octet).collect();
    }
    let number = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => u128::from_str_radix(digits, 16),
        None => text.parse(),
    };
    number.ok().map(|n| n.to_be_bytes().to_vec())
}
