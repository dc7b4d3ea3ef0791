//! Control flow: tables, conditionals, and tables without keys for the code between them.

use super::Bmv2;
use super::expr::{condition, data, field, hex, wrap};
use super::parser::unsigned;
use crate::ir::fold::power;
use crate::lir::{self, ApplyNext, ExprKind, Graph, HeaderRef, Loc, Match, Term, Ty};
use crate::passes::simplify::reachable;
use crate::source::Span;
use bmv2_json::{self as json, EntryKey, FieldRef, HexStr, KeyTarget, MatchType, PrimitiveCall};
use indexmap::IndexMap;
use num_bigint::BigInt;
use num_traits::ToPrimitive;
use std::collections::{BTreeMap, HashMap};

/// Entries that a table has room for.
pub(super) fn max_size(t: &lir::Table) -> u32 {
    t.size.unwrap_or(lir::DEFAULT_TABLE_SIZE)
}

type Next = Option<String>;

impl Bmv2<'_> {
    pub(super) fn pipeline(&mut self, name: &str, id: u32, graph: &Graph, tables: &[usize]) -> json::Pipeline {
        let order = reachable(graph);
        let mut p = json::Pipeline {
            name: name.into(),
            id,
            source_info: None,
            init_table: None,
            tables: Vec::new(),
            action_profiles: Vec::new(),
            conditionals: Vec::new(),
            action_calls: Vec::new(),
        };
        // Where each table is applied. Several sites share one node; afterwards a variable says which way to go on.
        let mut sites: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for b in &order {
            if let Some(Term::Apply(t, _)) = graph.blocks.get(*b).map(|b| &b.term) {
                sites.entry(*t).or_default().push(*b);
            }
        }
        let mut site_vars = HashMap::new();
        for (t, list) in &sites {
            if list.len() > 1 {
                site_vars.insert(*t, self.temp(Ty::Bit(32), "site"));
            }
        }
        let entry: HashMap<usize, Next> = order
            .iter()
            .map(|b| (*b, self.entry_name(name, graph, *b, &site_vars)))
            .collect();
        // No edge leads through an empty block, but the first block may be empty.
        let mut first = 0;
        for _ in 0..graph.blocks.len() {
            match graph.blocks.get(first) {
                Some(b) if b.ops.is_empty() => match b.term {
                    Term::Goto(next) => first = next,
                    _ => break,
                },
                _ => break,
            }
        }
        p.init_table = entry.get(&first).cloned().flatten();
        for b in &order {
            self.node(name, graph, *b, &entry, &sites, &site_vars, &mut p);
        }
        for t in tables {
            if !sites.contains_key(t) {
                // No packet reaches the place where it is applied, but the control plane knows the table.
                let names = self
                    .program
                    .tables
                    .get(*t)
                    .map(|t| t.actions.clone())
                    .unwrap_or_default();
                let names = names
                    .iter()
                    .filter_map(|a| self.program.actions.get(a.0))
                    .map(|a| (a.name.clone(), None));
                let next = names.collect();
                self.table(*t, next, None, &mut p);
            }
        }
        for (t, list) in &sites {
            self.applied(name, *t, list, graph, &entry, &site_vars, &mut p);
        }
        p.tables.sort_by_key(|t| t.id);
        p
    }

    fn entry_name(&self, pipe: &str, graph: &Graph, b: usize, site_vars: &HashMap<usize, String>) -> Next {
        let block = graph.blocks.get(b)?;
        let site = matches!(&block.term, Term::Apply(t, _) if site_vars.contains_key(t));
        if !block.ops.is_empty() || site {
            return Some(format!("tbl_{pipe}_{b}"));
        }
        self.term_name(pipe, block, b)
    }

    fn term_name(&self, pipe: &str, block: &lir::Block, b: usize) -> Next {
        match &block.term {
            Term::Branch(..) => Some(format!("node_{pipe}_{b}")),
            Term::Apply(t, _) => self.program.tables.get(*t).map(|t| t.name.clone()),
            // A ring of empty blocks: an endless loop, which ends the pipeline here.
            _ => None,
        }
    }

    #[allow(clippy::too_many_arguments)]
    fn node(
        &mut self,
        pipe: &str,
        graph: &Graph,
        b: usize,
        entry: &HashMap<usize, Next>,
        sites: &BTreeMap<usize, Vec<usize>>,
        site_vars: &HashMap<usize, String>,
        p: &mut json::Pipeline,
    ) {
        let Some(block) = graph.blocks.get(b) else { return };
        let go = |t: &usize| entry.get(t).cloned().flatten();
        let after = match &block.term {
            Term::Goto(t) => go(t),
            _ => self.term_name(pipe, block, b),
        };
        let own = format!("tbl_{pipe}_{b}");
        if entry.get(&b).cloned().flatten() == Some(own.clone()) {
            let mut code: Vec<PrimitiveCall> = self.primitives(&block.ops);
            if let Term::Apply(t, _) = &block.term
                && let Some(var) = site_vars.get(t)
            {
                let n = sites.get(t).and_then(|l| l.iter().position(|x| *x == b)).unwrap_or(0);
                code.push(PrimitiveCall {
                    op: "assign".into(),
                    parameters: vec![field("scalars", var), hex(n as u64)],
                    source_info: None,
                });
            }
            let span = block.ops.first().map_or(block.span, |o| o.1);
            self.hidden(&own, code, after, span, p);
        }
        if let Term::Branch(c, yes, no) = &block.term {
            let id = p.conditionals.len() as u32 + p.id * 100_000;
            p.conditionals.push(json::Conditional {
                name: format!("node_{pipe}_{b}"),
                id,
                source_info: self.source(block.span),
                expression: condition(c),
                true_next: go(yes),
                false_next: go(no),
            });
        }
    }

    /// A table without keys that runs code.
    fn hidden(&mut self, name: &str, code: Vec<PrimitiveCall>, next: Next, span: Span, p: &mut json::Pipeline) {
        let id = self.json.actions.len() as u32;
        let action = name.replacen("tbl_", "act_", 1);
        self.json.actions.push(json::Action {
            name: action.clone(),
            id,
            runtime_data: Vec::new(),
            primitives: code,
        });
        p.tables.push(json::Table {
            name: name.into(),
            id: self.program.tables.len() as u32 + id,
            source_info: self.source(span),
            key: Vec::new(),
            match_type: MatchType::Exact,
            kind: json::TableType::Simple,
            action_profile: None,
            max_size: lir::DEFAULT_TABLE_SIZE,
            with_counters: false,
            support_timeout: false,
            direct_meters: None,
            action_ids: vec![id],
            actions: vec![action.clone()],
            base_default_next: next.clone(),
            next_tables: IndexMap::from([(action, next)]),
            default_entry: Some(json::DefaultEntry {
                action_id: id,
                action_const: true,
                action_data: Vec::new(),
                action_entry_const: true,
            }),
            entries: None,
        });
    }

    #[allow(clippy::too_many_arguments)]
    fn applied(
        &mut self,
        pipe: &str,
        t: usize,
        list: &[usize],
        graph: &Graph,
        entry: &HashMap<usize, Next>,
        site_vars: &HashMap<usize, String>,
        p: &mut json::Pipeline,
    ) {
        let Some(table) = self.program.tables.get(t) else {
            return;
        };
        let names: Vec<String> = table
            .actions
            .iter()
            .filter_map(|a| self.program.actions.get(a.0))
            .map(|a| a.name.clone())
            .collect();
        let go = |b: usize| entry.get(&b).cloned().flatten();
        // For each site, the next node for each key of `next_tables`.
        let mut per_site: Vec<IndexMap<String, Next>> = Vec::new();
        let by_hit = list.iter().any(|b| {
            matches!(
                graph.blocks.get(*b).map(|b| &b.term),
                Some(Term::Apply(_, ApplyNext::HitMiss(..)))
            )
        });
        for b in list {
            let Some(Term::Apply(_, next)) = graph.blocks.get(*b).map(|b| &b.term) else {
                continue;
            };
            let mut map = IndexMap::new();
            match next {
                ApplyNext::HitMiss(h, m) => {
                    map.insert("__HIT__".to_string(), go(*h));
                    map.insert("__MISS__".to_string(), go(*m));
                }
                ApplyNext::Always(n) if by_hit => {
                    map.insert("__HIT__".to_string(), go(*n));
                    map.insert("__MISS__".to_string(), go(*n));
                }
                ApplyNext::Always(n) => map.extend(names.iter().map(|a| (a.clone(), go(*n)))),
                ApplyNext::Actions(..) if by_hit => {
                    self.sink.error(
                        table.span,
                        format!(
                            "{} is asked for hit at one place and for its action at another",
                            table.name
                        ),
                    );
                }
                ApplyNext::Actions(edges, rest) => {
                    for (i, a) in names.iter().enumerate() {
                        let to = edges.iter().find(|e| e.0 == i).map_or(*rest, |e| e.1);
                        map.insert(a.clone(), go(to));
                    }
                }
            }
            per_site.push(map);
        }
        let Some(first) = per_site.first().cloned() else { return };
        let mut next_tables = IndexMap::new();
        for (key, next) in &first {
            let all: Vec<Next> = per_site.iter().map(|m| m.get(key).cloned().flatten()).collect();
            let to = match site_vars.get(&t) {
                Some(var) if all.iter().any(|n| n != next) => self.dispatch(pipe, var, &all, p),
                _ => next.clone(),
            };
            next_tables.insert(key.clone(), to);
        }
        let default = if by_hit {
            None
        } else {
            next_tables.values().next().cloned().flatten()
        };
        self.table(t, next_tables, default, p);
    }

    /// After a table that is applied at several places: back to where it came from.
    fn dispatch(&mut self, pipe: &str, var: &str, all: &[Next], p: &mut json::Pipeline) -> Next {
        let mut to = all.last().cloned().flatten();
        for (i, next) in all.iter().enumerate().rev().skip(1) {
            let id = p.conditionals.len() as u32 + p.id * 100_000;
            let name = format!("site_{pipe}_{id}");
            let load = lir::Expr {
                kind: ExprKind::Load(Loc::Field("scalars".into(), var.into())),
                ty: Ty::Bit(32),
            };
            let value = lir::Expr {
                kind: ExprKind::Const(BigInt::from(i)),
                ty: Ty::Bit(32),
            };
            let same = lir::Expr {
                kind: ExprKind::Binary(crate::ast::BinOp::Eq, Box::new(load), Box::new(value)),
                ty: Ty::Bool,
            };
            let expression = condition(&same);
            p.conditionals.push(json::Conditional {
                name: name.clone(),
                id,
                source_info: None,
                expression,
                true_next: next.clone(),
                false_next: to,
            });
            to = Some(name);
        }
        to
    }

    fn table(&mut self, index: usize, next_tables: IndexMap<String, Next>, default: Next, p: &mut json::Pipeline) {
        let Some(t) = self.program.tables.get(index) else {
            return;
        };
        let mut key = Vec::new();
        let mut selector = Vec::new();
        for k in &t.keys {
            if &*k.match_kind == "selector" {
                selector.push(wrap(data(&k.expr)));
                continue;
            }
            let target = match &k.expr.kind {
                ExprKind::Load(Loc::Field(h, f)) => FieldRef(h.to_string(), f.to_string()),
                ExprKind::Valid(HeaderRef::Named(h)) => FieldRef(h.to_string(), "$valid$".into()),
                // A table that is never applied, so nothing computes its keys.
                _ => FieldRef("scalars".into(), self.temp(k.expr.ty, "key")),
            };
            let match_type = self.match_type(&k.match_kind, t.span);
            key.push(json::KeyElement {
                match_type,
                name: Some(k.name.clone()),
                target: KeyTarget::Field(target),
                mask: None,
            });
        }
        let has = |m| key.iter().any(|k: &json::KeyElement| k.match_type == m);
        let match_type = if has(MatchType::Range) {
            MatchType::Range
        } else if has(MatchType::Ternary) {
            MatchType::Ternary
        } else if has(MatchType::Lpm) {
            MatchType::Lpm
        } else {
            MatchType::Exact
        };
        if key.iter().filter(|k| k.match_type == MatchType::Lpm).count() > 1 {
            self.sink.error(t.span, "a table can have one lpm key only");
        }
        let profile = self.profile(t, selector, p);
        let kind = match &profile {
            None => json::TableType::Simple,
            Some((_, true)) => json::TableType::IndirectWs,
            Some((_, false)) => json::TableType::Indirect,
        };
        let default_entry = t.default_action.as_ref().and_then(|(i, args, is_const)| {
            // bmv2 refuses a constant default for a table with an action profile.
            let fixed = *is_const && kind == json::TableType::Simple;
            t.actions.get(*i).map(|a| json::DefaultEntry {
                action_id: a.0 as u32,
                action_const: fixed,
                action_data: self.action_data(a.0, args),
                action_entry_const: fixed,
            })
        });
        let entries = if t.entries.is_empty() {
            None
        } else {
            Some(self.entries(t))
        };
        let actions: Vec<String> = t
            .actions
            .iter()
            .filter_map(|a| self.program.actions.get(a.0))
            .map(|a| a.name.clone())
            .collect();
        p.tables.push(json::Table {
            name: t.name.clone(),
            id: index as u32,
            source_info: self.source(t.span),
            key,
            match_type,
            kind,
            action_profile: profile.map(|p| p.0),
            max_size: max_size(t),
            with_counters: t.counters.is_some(),
            support_timeout: t.support_timeout,
            direct_meters: t.meters.clone(),
            action_ids: t.actions.iter().map(|a| a.0 as u32).collect(),
            actions,
            base_default_next: default,
            next_tables,
            default_entry,
            entries,
        });
    }

    fn match_type(&mut self, kind: &str, span: Span) -> MatchType {
        match kind {
            "exact" => MatchType::Exact,
            "lpm" => MatchType::Lpm,
            "ternary" | "optional" => MatchType::Ternary,
            "range" => MatchType::Range,
            _ => {
                self.sink
                    .error(span, format!("match kind {kind} is not supported by this target"));
                MatchType::Exact
            }
        }
    }

    fn profile(
        &mut self,
        t: &lir::Table,
        selector: Vec<json::Value>,
        p: &mut json::Pipeline,
    ) -> Option<(String, bool)> {
        let name = t.implementation.as_ref()?;
        let object = self.program.objects.iter().find(|o| o.name == *name)?;
        let with_selector = object.kind == "action_selector";
        if !p.action_profiles.iter().any(|a| a.name == *name) {
            let arg = |i: usize| object.args.get(i).and_then(ToPrimitive::to_u32).unwrap_or(0);
            let algo = super::code::ALGORITHMS
                .get(arg(0) as usize)
                .copied()
                .unwrap_or("crc16")
                .to_string();
            p.action_profiles.push(json::ActionProfile {
                name: name.clone(),
                id: p.action_profiles.len() as u32 + p.id * 1000,
                source_info: self.source(object.span),
                selector: with_selector.then_some(json::Selector { algo, input: selector }),
                max_size: if with_selector { arg(1) } else { arg(0) },
            });
        }
        Some((name.clone(), with_selector))
    }

    fn action_data(&self, action: usize, args: &[BigInt]) -> Vec<HexStr> {
        let params = self
            .program
            .actions
            .get(action)
            .map(|a| a.params.as_slice())
            .unwrap_or(&[]);
        params
            .iter()
            .zip(args)
            .map(|(p, v)| HexStr::from_bigint(&unsigned(v, p.ty)))
            .collect()
    }

    fn entries(&mut self, t: &lir::Table) -> Vec<json::Entry> {
        let mut out = Vec::new();
        for (e, number) in t.entries.iter().zip(winning_order(t)) {
            let keys: Vec<&lir::Key> = t.keys.iter().filter(|k| &*k.match_kind != "selector").collect();
            let match_key = keys
                .iter()
                .zip(&e.keys)
                .map(|(k, m)| entry_key(&k.match_kind, m, k.expr.ty))
                .collect();
            let action = t.actions.get(e.action).map_or(0, |a| a.0);
            let rank = e.rank.as_ref().and_then(ToPrimitive::to_i64);
            let priority = rank.unwrap_or(number);
            out.push(json::Entry {
                source_info: self.source(e.span),
                match_key,
                action_entry: json::ActionEntry {
                    action_id: action as u32,
                    action_data: self.action_data(action, &e.args),
                },
                priority,
            });
        }
        out
    }
}

/// Each entry's place, from 1, in the order in which entries win: in this format the smaller number wins.
fn winning_order(t: &lir::Table) -> Vec<i64> {
    let mut order: Vec<(usize, &BigInt)> = t.entries.iter().map(|e| &e.priority).enumerate().collect();
    if t.largest_priority_wins {
        order.sort_by(|a, b| b.1.cmp(a.1));
    } else {
        order.sort_by(|a, b| a.1.cmp(b.1));
    }
    let mut numbers: Vec<(usize, i64)> = order.iter().map(|o| o.0).zip(1..).collect();
    numbers.sort_unstable();
    numbers.into_iter().map(|(_, number)| number).collect()
}

fn entry_key(kind: &str, m: &Match, ty: Ty) -> EntryKey {
    let w = ty.width();
    let full: BigInt = power(w) - 1;
    let h = |v: &BigInt| HexStr::padded(&unsigned(v, ty).to_biguint().unwrap_or_default(), w);
    let zero = BigInt::from(0);
    let (value, mask) = match m {
        Match::Value(v, Some(mask)) => (v.clone(), unsigned(mask, ty)),
        Match::Value(v, None) => (v.clone(), full.clone()),
        _ => (zero.clone(), zero.clone()),
    };
    match kind {
        "lpm" => {
            let ones = (0..w).filter(|b| (&mask >> *b) % 2 == BigInt::from(1)).count() as u32;
            EntryKey::Lpm {
                key: h(&value),
                prefix_length: ones,
            }
        }
        "ternary" | "optional" => EntryKey::Ternary {
            key: h(&value),
            mask: h(&mask),
        },
        "range" => match m {
            Match::Range(a, b) => EntryKey::Range { start: h(a), end: h(b) },
            Match::Value(v, None) => EntryKey::Range { start: h(v), end: h(v) },
            _ => EntryKey::Range {
                start: h(&zero),
                end: h(&full),
            },
        },
        _ => EntryKey::Exact { key: h(&value) },
    }
}
