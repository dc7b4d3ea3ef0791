//! Entries of the program as a P4Runtime `WriteRequest` (specification, section "TableEntry").

use crate::backend::p4info::value_bytes as bytes;
use crate::lir::{self, Match};
use num_bigint::BigInt;
use num_traits::{ToPrimitive, Zero};
use p4runtime_proto::p4::config::v1::P4Info;
use p4runtime_proto::p4::v1 as pb;

/// One INSERT per entry, the winning ones of a table first. Keys that match anything are left out, as P4Runtime asks.
/// In P4Runtime the larger priority always wins; in a table where the smaller one wins, the numbers are reversed.
pub fn emit(program: &lir::Program, info: &P4Info) -> pb::WriteRequest {
    let mut updates = Vec::new();
    for t in &program.tables {
        let Some(table) = info
            .tables
            .iter()
            .find(|i| i.preamble.as_ref().is_some_and(|p| p.name == t.name))
        else {
            continue;
        };
        let table_id = table.preamble.as_ref().map_or(0, |p| p.id);
        let ordered = t
            .keys
            .iter()
            .any(|k| matches!(&*k.match_kind, "ternary" | "range" | "optional"));
        let last = t.entries.iter().map(|e| &e.priority).max().cloned().unwrap_or_default();
        let winning = |e: &lir::Entry| {
            let own = if t.largest_priority_wins {
                e.priority.clone()
            } else {
                &last - &e.priority + 1
            };
            own.to_i32().unwrap_or(i32::MAX)
        };
        let mut entries: Vec<(i32, &lir::Entry)> = t
            .entries
            .iter()
            .map(|e| (if ordered { winning(e) } else { 0 }, e))
            .collect();
        entries.sort_by_key(|(priority, _)| std::cmp::Reverse(*priority));
        for (priority, e) in entries {
            let keys: Vec<&lir::Key> = t.keys.iter().filter(|k| &*k.match_kind != "selector").collect();
            let fields = keys.iter().zip(&table.match_fields).zip(&e.keys);
            let matches = fields.filter_map(|((k, f), m)| field(k, f.id, m)).collect();
            let entry = pb::TableEntry {
                table_id,
                r#match: matches,
                action: action(program, info, t, e),
                priority,
                is_const: t.const_entries || e.is_const,
                ..Default::default()
            };
            updates.push(pb::Update {
                r#type: pb::update::Type::Insert as i32,
                entity: Some(pb::Entity {
                    entity: Some(pb::entity::Entity::TableEntry(entry)),
                }),
            });
        }
    }
    pb::WriteRequest {
        updates,
        ..Default::default()
    }
}

fn action(program: &lir::Program, info: &P4Info, t: &lir::Table, e: &lir::Entry) -> Option<pb::TableAction> {
    let action = program.actions.get(t.actions.get(e.action)?.0)?;
    let found = info
        .actions
        .iter()
        .find(|i| i.preamble.as_ref().is_some_and(|p| p.name == action.name))?;
    let params = action.params.iter().zip(&found.params).zip(&e.args);
    let params = params
        .map(|((p, i), v)| pb::action::Param {
            param_id: i.id,
            value: bytes(v, p.ty),
        })
        .collect();
    let action_id = found.preamble.as_ref()?.id;
    Some(pb::TableAction {
        r#type: Some(pb::table_action::Type::Action(pb::Action { action_id, params })),
    })
}

fn field(k: &lir::Key, field_id: u32, m: &Match) -> Option<pb::FieldMatch> {
    use pb::field_match::{Exact, FieldMatchType as F, Lpm, Optional, Range, Ternary};
    let ty = k.expr.ty;
    let full: BigInt = crate::ir::fold::power(ty.width()) - 1;
    let b = |v: &BigInt| bytes(v, ty);
    let kind = match (&*k.match_kind, m) {
        (_, Match::Any | Match::ValueSet(_)) => return None,
        ("lpm" | "ternary" | "optional", Match::Value(_, Some(mask))) if mask.is_zero() => return None,
        ("range", Match::Range(lo, hi)) if lo.is_zero() && *hi == full => return None,
        ("exact", Match::Value(v, _)) => F::Exact(Exact { value: b(v) }),
        ("optional", Match::Value(v, _)) => F::Optional(Optional { value: b(v) }),
        ("lpm", Match::Value(v, mask)) => {
            let mask = mask.as_ref().unwrap_or(&full);
            F::Lpm(Lpm {
                value: b(v),
                prefix_len: mask.magnitude().count_ones() as i32,
            })
        }
        ("range", Match::Value(v, _)) => F::Range(Range { low: b(v), high: b(v) }),
        (_, Match::Range(lo, hi)) => F::Range(Range {
            low: b(lo),
            high: b(hi),
        }),
        (_, Match::Value(v, mask)) => F::Ternary(Ternary {
            value: b(v),
            mask: b(mask.as_ref().unwrap_or(&full)),
        }),
    };
    Some(pb::FieldMatch {
        field_id,
        field_match_type: Some(kind),
    })
}
