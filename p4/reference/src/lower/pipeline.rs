//! Pipelines: tables, conditions, and how they follow each other.

use bmv2_json::{self as json, KeyTarget, MatchType, Value};
use num_bigint::BigUint;

use super::{Lower, LowerError, Names, wrong};
use crate::bits::ones;
use crate::hash::{Algorithm, Calculation, Input};
use crate::program::{KeyPart, Next, Node, Pipeline, Profile, Table, TableNext};
use crate::table::{KeyField, Kind};

impl Names<'_> {
    pub(super) fn tables(&mut self) -> Lower<()> {
        for (p, pipeline) in self.source.pipelines.iter().enumerate() {
            let base = self.program.tables.len();
            let profiles = self.program.profiles.len();
            for profile in &pipeline.action_profiles {
                let hash = match &profile.selector {
                    None => None,
                    Some(selector) => Some(self.selector(selector)?),
                };
                self.program.profiles.push(Profile {
                    name: profile.name.clone(),
                    hash,
                });
            }
            let place = |name: &Option<String>| -> Lower<Next> {
                let Some(name) = name else { return Ok(None) };
                let tables = pipeline.tables.iter().map(|t| &t.name);
                let conditions = pipeline.conditionals.iter().map(|c| &c.name);
                let calls = pipeline.action_calls.iter().map(|c| &c.name);
                let found = tables.chain(conditions).chain(calls).position(|n| n == name);
                found
                    .map(Some)
                    .ok_or_else(|| LowerError(format!("{name} of pipeline {} is unknown", pipeline.name)))
            };
            let mut nodes: Vec<Node> = (0..pipeline.tables.len()).map(|i| Node::Table(base + i)).collect();
            for table in &pipeline.tables {
                let lowered = self.table(table, profiles, pipeline, &place);
                let lowered = lowered.map_err(|e| LowerError(format!("table {}: {e}", table.name)))?;
                self.program.tables.push(lowered);
            }
            for c in &pipeline.conditionals {
                nodes.push(Node::If(
                    self.value(&c.expression)?,
                    place(&c.true_next)?,
                    place(&c.false_next)?,
                ));
            }
            for c in &pipeline.action_calls {
                nodes.push(Node::Call(self.action(c.action_id)?, place(&c.next_node)?));
            }
            let lowered = Pipeline {
                nodes,
                start: place(&pipeline.init_table)?,
            };
            match (pipeline.name.as_str(), p) {
                ("egress", _) => self.program.egress = lowered,
                ("ingress", _) | (_, 0) => self.program.ingress = lowered,
                (name, _) => return wrong(format_args!("pipeline {name} is not one of v1model")),
            }
        }
        Ok(())
    }

    fn selector(&self, selector: &json::Selector) -> Lower<Calculation> {
        let Some(algorithm) = Algorithm::by_name(&selector.algo) else {
            return wrong(format_args!("selector algorithm {} is not known", selector.algo));
        };
        let input = selector
            .input
            .iter()
            .map(|v| Ok(Input::Value(self.value(v)?, self.width(v)?)));
        Ok(Calculation {
            algorithm,
            input: input.collect::<Lower<_>>()?,
        })
    }

    fn action(&self, id: u32) -> Lower<usize> {
        self.actions
            .get(&id)
            .copied()
            .ok_or_else(|| LowerError(format!("action id {id} is unknown")))
    }

    fn table(
        &self,
        table: &json::Table,
        profiles: usize,
        pipeline: &json::Pipeline,
        place: &impl Fn(&Option<String>) -> Lower<Next>,
    ) -> Lower<Table> {
        let mut key = Vec::new();
        for element in &table.key {
            let (expr, width, header) = match &element.target {
                KeyTarget::Field(f) => {
                    let value = Value::Field(f.clone());
                    (self.value(&value)?, self.width(&value)?, self.header(&f.0).ok())
                }
                KeyTarget::Header(h) => (self.validity(h)?, 1, None),
                KeyTarget::Expression(v) => (self.value(v)?, self.width(v)?, None),
            };
            let kind = match element.match_type {
                MatchType::Exact | MatchType::Valid => Kind::Exact,
                MatchType::Lpm => Kind::Lpm,
                MatchType::Ternary => Kind::Ternary,
                MatchType::Range => Kind::Range,
            };
            let mask = element
                .mask
                .as_ref()
                .map_or_else(|| ones(width), |m| BigUint::from_bytes_be(&m.bytes()));
            key.push(KeyPart {
                expr,
                header,
                mask: mask & ones(width),
                field: KeyField { kind, width },
            });
        }
        let mut next = TableNext {
            base: place(&table.base_default_next)?,
            ..TableNext::default()
        };
        for (name, to) in &table.next_tables {
            let to = place(to)?;
            match name.as_str() {
                "__HIT__" => next.hit = Some(to),
                "__MISS__" => next.miss = Some(to),
                name => {
                    let at = table.actions.iter().position(|a| a == name);
                    let id = at.and_then(|at| table.action_ids.get(at));
                    let action = match id {
                        Some(id) => self.action(*id)?,
                        None => Self::index("action", &self.program.actions, |a| &a.name, name)?,
                    };
                    next.by_action.insert(action, to);
                }
            }
        }
        let profile = match &table.action_profile {
            None => None,
            Some(name) => Some(profiles + Self::index("profile", &pipeline.action_profiles, |p| &p.name, name)?),
        };
        let meter = match &table.direct_meters {
            None => None,
            Some(name) => {
                let at = Self::index("meter", &self.source.meter_arrays, |m| &m.name, name)?;
                let array = self.source.meter_arrays.get(at);
                let dest = array
                    .and_then(|m| m.result_target.clone())
                    .map(|f| self.dest(&Value::Field(f)))
                    .transpose()?;
                array.zip(dest).map(|(m, d)| (m.kind == json::MeterKind::Bytes, d))
            }
        };
        Ok(Table {
            name: table.name.clone(),
            key,
            next,
            profile,
            counts: table.with_counters,
            meter,
        })
    }
}
