//! Pipelines: tables, conditions, calls, action profiles.

use bmv2_json::{self as json, FieldRef, KeyTarget, MatchType, Value};

use super::{Lower, LowerError, Names, index, wrong};
use crate::expr::{self, Expr};
use crate::hash::{Algorithm, Calculation};
use crate::program::{
    Bits, Condition, Control, END, KeyPart, KeySource, MatchKind, NOWHERE, Next, Node, Profile, Table,
    Value as Computed,
};
use crate::term::{Binary, Term};
use crate::word::{mask64, words_of};

impl Names<'_> {
    pub(super) fn pipelines(&mut self) -> Lower<()> {
        self.program.ingress.start = END;
        self.program.egress.start = END;
        for (p, pipeline) in self.source.pipelines.iter().enumerate() {
            let base = self.program.tables.len() as u32;
            let profiles = self.program.profiles.len() as u32;
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
                let Some(name) = name else { return Ok(END) };
                let tables = pipeline.tables.iter().map(|t| &t.name);
                let conditions = pipeline.conditionals.iter().map(|c| &c.name);
                let calls = pipeline.action_calls.iter().map(|c| &c.name);
                let found = tables.chain(conditions).chain(calls).position(|n| n == name);
                match found {
                    Some(at) => Ok(at as Next),
                    None => wrong(format_args!("{name} of pipeline {} is unknown", pipeline.name)),
                }
            };
            let mut nodes = Vec::new();
            let calls = pipeline.conditionals.len() + pipeline.action_calls.len();
            let mut more = More {
                base: (pipeline.tables.len() + calls) as Next,
                nodes: Vec::new(),
            };
            // Nodes that decide no condition get an index that does not exist.
            let mut condition_of = vec![u32::MAX; more.base as usize];
            let mut conditions = Vec::new();
            for (table, index) in pipeline.tables.iter().zip(base..) {
                let lowered = self.table(table, profiles, pipeline, &place);
                let lowered = lowered.map_err(|e| LowerError(format!("table {}: {e}", table.name)))?;
                nodes.push(match self.fixed(table) {
                    Some(action) => Node::Call(action, lowered.next(false, Some(action))),
                    None => Node::Table(index),
                });
                self.program.tables.push(lowered);
            }
            for c in &pipeline.conditionals {
                let condition = self.term(&c.expression)?;
                let yes = place(&c.true_next)?;
                if let Some(of) = condition_of.get_mut(nodes.len()) {
                    *of = conditions.len() as u32;
                }
                nodes.push(more.branch(&condition, yes, place(&c.false_next)?));
                let end = more.base as usize + more.nodes.len();
                condition_of.resize(end, conditions.len() as u32);
                let text = c.source_info.as_ref().map_or(&c.name, |s| &s.source_fragment);
                conditions.push(Condition {
                    text: text.clone(),
                    yes,
                });
            }
            for c in &pipeline.action_calls {
                let action = self.action(c.action_id)?;
                if self.takes_arguments(action) {
                    return wrong(format_args!("action call {}: its action has parameters", c.name));
                }
                nodes.push(Node::Call(action, place(&c.next_node)?));
            }
            nodes.append(&mut more.nodes);
            let lowered = Control {
                nodes: nodes.into(),
                parts: more.base,
                conditions: conditions.into(),
                condition_of: condition_of.into(),
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

    /// The action of a table that can run only one action. Compilers wrap statements in such tables.
    fn fixed(&self, table: &json::Table) -> Option<u32> {
        let default = table.default_entry.as_ref()?;
        let fixed = default.action_const && default.action_data.is_empty();
        let plain = table.key.is_empty() && !table.with_counters && table.direct_meters.is_none();
        let action = self.actions.get(&default.action_id).copied()?;
        (fixed && plain && !self.takes_arguments(action)).then_some(action)
    }

    fn selector(&self, selector: &json::Selector) -> Lower<Calculation> {
        let Some(algorithm) = Algorithm::by_name(&selector.algo) else {
            return wrong(format_args!("selector algorithm {} is not known", selector.algo));
        };
        let mut input = Vec::new();
        for value in &selector.input {
            input.extend(self.input_value(value)?);
        }
        Ok(Calculation::new(algorithm, input))
    }

    fn takes_arguments(&self, action: u32) -> bool {
        let action = self.program.actions.get(action as usize);
        action.is_some_and(|a| !a.parameters.is_empty())
    }

    fn action(&self, id: u32) -> Lower<u32> {
        let found = self.actions.get(&id).copied();
        found.ok_or_else(|| LowerError(format!("action id {id} is unknown")))
    }

    fn table(
        &self,
        table: &json::Table,
        profiles: u32,
        pipeline: &json::Pipeline,
        place: &impl Fn(&Option<String>) -> Lower<Next>,
    ) -> Lower<Table> {
        let key = table.key.iter().map(|k| self.key(k)).collect::<Lower<_>>()?;
        let mut by_action = Vec::new();
        let (mut hit, mut miss) = (None, None);
        for (name, to) in &table.next_tables {
            let to = place(to)?;
            match name.as_str() {
                "__HIT__" => hit = Some(to),
                "__MISS__" => miss = Some(to),
                name => {
                    let at = table.actions.iter().position(|a| a == name);
                    let id = at.and_then(|at| table.action_ids.get(at));
                    let action = match id {
                        Some(id) => self.action(*id)?,
                        None => index("action", &self.program.actions, |a| &a.name, name)?,
                    };
                    by_action.push((action, to));
                }
            }
        }
        let profile = match &table.action_profile {
            None => None,
            Some(name) => Some(profiles + index("profile", &pipeline.action_profiles, |p| &p.name, name)?),
        };
        let meter = match &table.direct_meters {
            None => None,
            Some(name) => {
                let at = index("meter", &self.source.meter_arrays, |m| &m.name, name)?;
                let array = self.source.meter_arrays.get(at as usize);
                let target = array.and_then(|m| m.result_target.clone());
                let dest = target.map(|f| self.dest(&Value::Field(f))).transpose()?;
                let array = array.zip(dest);
                array.map(|(m, d)| Box::new((m.kind == json::MeterKind::Bytes, d)))
            }
        };
        let default = table.default_entry.iter().map(|d| d.action_id);
        let actions = table.action_ids.iter().copied().chain(default);
        let actions = actions.filter_map(|id| self.actions.get(&id).copied());
        Ok(Table {
            name: table.name.clone(),
            key,
            actions: actions.collect(),
            by_action: by_action.into(),
            hit,
            miss,
            base: place(&table.base_default_next)?,
            profile,
            counts: table.with_counters,
            ages: table.support_timeout,
            meter,
        })
    }

    fn key(&self, element: &json::KeyElement) -> Lower<KeyPart> {
        let (mut term, width) = match &element.target {
            KeyTarget::Field(f) => {
                let value = Value::Field(f.clone());
                (self.term(&value)?, self.width(&value)?)
            }
            KeyTarget::Header(h) => (self.validity(h)?, 1),
            KeyTarget::Expression(v) => (self.term(v)?, self.width(v)?),
        };
        if let Term::Field(place) = &mut term {
            // The sign has no meaning in a key.
            place.signed = false;
        }
        let kind = match element.match_type {
            MatchType::Exact | MatchType::Valid => MatchKind::Exact,
            MatchType::Lpm => MatchKind::Lpm,
            MatchType::Ternary => MatchKind::Ternary,
            MatchType::Range => MatchKind::Range,
        };
        let mask = element.mask.as_ref().map(|m| {
            let mut words = vec![0; words_of(width) as usize];
            crate::term::store(&mut words, 0, width, &m.value());
            words
        });
        let mask = mask.unwrap_or_default();
        let first = mask.first().copied().unwrap_or_else(|| mask64(width));
        // A field of a header that is not valid counts as 0.
        let valid = match &element.target {
            KeyTarget::Field(FieldRef(header, field)) if field != "$valid$" => {
                let header = self.program.headers.get(self.header(header)? as usize);
                header.filter(|h| !h.metadata).map(|h| h.slot)
            }
            _ => None,
        };
        let source = match (&term, valid, words_of(width)) {
            (Term::Field(p), None, 1) => KeySource::Word {
                slot: p.slot,
                mask: first,
            },
            (Term::Field(p), Some(valid), 1) => KeySource::HeaderWord {
                slot: p.slot,
                valid,
                mask: first,
            },
            (Term::Field(p), valid, count) => KeySource::Words {
                slot: p.slot,
                count,
                valid: valid.unwrap_or(NOWHERE),
            },
            (term, _, 1) => KeySource::Expr(expr::lower(term), first),
            (term, _, _) => KeySource::Wide(Box::new((Computed::new(term, width), width))),
        };
        Ok(KeyPart {
            name: element.name.clone().unwrap_or_default(),
            kind,
            width,
            source,
            mask: if words_of(width) > 1 {
                mask.into()
            } else {
                Box::default()
            },
        })
    }
}

/// For an expression that only takes some bits of a word: the word, their mask, and their shift.
fn bits(e: &Expr<u64>) -> Option<(u32, u64, u32)> {
    match e {
        Expr::Field(slot) => Some((*slot, u64::MAX, 0)),
        Expr::ShrBy(of, by) => match **of {
            Expr::Field(slot) if *by < 64 => Some((slot, u64::MAX << by, (*by).into())),
            _ => None,
        },
        Expr::BitAndWith(of, with) => {
            let (slot, mask, by) = bits(of)?;
            Some((slot, mask & with << by, by))
        }
        _ => None,
    }
}

/// Additional nodes, after those of the document.
struct More {
    base: Next,
    nodes: Vec<Node>,
}

impl More {
    /// A branch: `and`, `or` and `not` become branches of their own, and a comparison of a field with a constant needs
    /// no expression.
    fn branch(&mut self, condition: &Term, yes: Next, no: Next) -> Node {
        match condition {
            Term::Binary(Binary::And, a, b) => {
                let second = self.branch(b, yes, no);
                let second = self.add(second);
                self.branch(a, second, no)
            }
            Term::Binary(Binary::Or, a, b) => {
                let second = self.branch(b, yes, no);
                let second = self.add(second);
                self.branch(a, yes, second)
            }
            Term::Not(a) => self.branch(a, no, yes),
            Term::Binary(Binary::Ne, a, b) if b.known_u32() == Some(0) => self.branch(a, yes, no),
            term if term.range().bits > 64 => {
                let holds = Term::binary(Binary::Ne, term.clone(), Term::constant(0));
                Node::If(Box::new(expr::lower(&holds)), yes, no)
            }
            term => match expr::lower::<u64>(term) {
                Expr::FieldIs(slot, value) => Node::IfField { slot, value, yes, no },
                Expr::FieldIsNot(slot, value) => Node::IfField {
                    slot,
                    value,
                    yes: no,
                    no: yes,
                },
                Expr::Field(slot) => Node::IfField {
                    slot,
                    value: 0,
                    yes: no,
                    no: yes,
                },
                Expr::Eq(a, b) => match (bits(&a), &*b) {
                    (Some((a, u64::MAX, 0)), Expr::Field(b)) => Node::IfSame { a, b: *b, yes, no },
                    (Some((slot, mask, by)), Expr::Constant(value)) if value << by >> by == *value => {
                        Node::IfBits(Box::new(Bits {
                            slot,
                            mask,
                            value: value << by,
                            yes,
                            no,
                        }))
                    }
                    _ => Node::If(Box::new(Expr::Eq(a, b)), yes, no),
                },
                e => Node::If(Box::new(e), yes, no),
            },
        }
    }

    fn add(&mut self, node: Node) -> Next {
        self.nodes.push(node);
        self.base + self.nodes.len() as Next - 1
    }
}
