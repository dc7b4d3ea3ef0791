//! Entries of the program as a P4Runtime `WriteRequest` (specification, section "TableEntry").

use crate::backend::p4info::value_bytes as bytes;
use crate::lir::{self, Match};
use num_bigint::BigInt;
use num_traits::ToPrimitive;
use p4runtime_proto::p4::config::v1::P4Info;
use p4runtime_proto::p4::v1 as pb;

/// One INSERT per entry, in source order. Keys that match anything are left out, as P4Runtime asks.
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
        for (i, e) in t.entries.iter().enumerate() {
            let keys: Vec<&lir::Key> = t.keys.iter().filter(|k| &*k.match_kind != "selector").collect();
            let fields = keys.iter().zip(&table.match_fields).zip(&e.keys);
            let matches = fields.filter_map(|((k, f), m)| field(k, f.id, m)).collect();
            // Source order decides unless the program gives priorities; here the larger number wins.
            let own = e.priority.as_ref().and_then(ToPrimitive::to_i32);
            let priority = if ordered {
                own.unwrap_or((t.entries.len() - i) as i32)
            } else {
                0
            };
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
