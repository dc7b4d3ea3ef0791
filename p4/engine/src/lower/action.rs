//! Actions and their primitives.

use bmv2_json::Value;

use super::{Lower, LowerError, MAX_WIDTH, Names, index, wrong};
use crate::pick::Pick;
use crate::program::{Action, Dest, Op, Parameter, Value as Computed};
use crate::term::Term;
use crate::value::assignment;
use crate::word::words_of;

impl<'a> Names<'a> {
    pub(super) fn actions(&mut self) -> Lower<()> {
        for action in &self.source.actions {
            let place = |e: LowerError| LowerError(format!("action {}: {e}", action.name));
            self.parameters.clear();
            let mut at = 0;
            for p in &action.runtime_data {
                if p.bitwidth > MAX_WIDTH {
                    return wrong(format_args!("action {}: parameter {} is too wide", action.name, p.name));
                }
                self.parameters.push((at, p.bitwidth));
                at += words_of(p.bitwidth);
            }
            let mut ops = Vec::new();
            // Jumps count primitives, but one primitive may become any number of operations.
            let mut starts = Vec::new();
            for call in &action.primitives {
                starts.push(ops.len() as u32);
                let lowered = self.primitive(&call.op, &call.parameters);
                ops.extend(lowered.map_err(|e| place(LowerError(format!("{}: {e}", call.op))))?);
            }
            let end = ops.len() as u32;
            for op in &mut ops {
                if let Op::Jump(to) | Op::JumpUnless { to, .. } = op {
                    *to = starts.get(*to as usize).copied().unwrap_or(end);
                }
            }
            self.actions.insert(action.id, self.program.actions.len() as u32);
            let parameters = action.runtime_data.iter().map(|d| Parameter {
                name: d.name.clone(),
                width: d.bitwidth,
            });
            self.program.actions.push(Action {
                name: action.name.clone(),
                parameters: parameters.collect(),
                locks: locks(&ops),
                ops: ops.into(),
            });
        }
        self.parameters.clear();
        Ok(())
    }

    /// A primitive.
    pub(super) fn primitive(&self, op: &str, p: &[Value]) -> Lower<Vec<Op>> {
        let at = |i: usize| p.get(i).ok_or_else(|| LowerError(format!("parameter {i} is missing")));
        let term = |i| at(i).and_then(|v| self.term(v));
        let word = |i| term(i).map(|t| crate::expr::lower::<u64>(&t));
        let boxed = |i| word(i).map(Box::new);
        let dest = |i| at(i).and_then(|v| self.dest(v));
        let constant = |i| at(i).and_then(|v| self.constant(v));
        let header = |i| at(i).and_then(|v| self.header_of(v, 0));
        let union = |i| at(i).and_then(|v| self.union_of(v, 0));
        let stack = |i| match at(i)? {
            Value::HeaderStack(s) | Value::HeaderUnionStack(s) => self.stack(s),
            other => wrong(format_args!("{other:?} is not a header stack")),
        };
        let array = |i| match at(i)? {
            Value::CounterArray(n) => index("counter", &self.program.counters, |c| &c.0, n),
            Value::MeterArray(n) => index("meter", &self.program.meters, |m| &m.name, n),
            Value::RegisterArray(n) => index("register", &self.program.registers, |r| &r.name, n),
            other => wrong(format_args!("{other:?} is not an array")),
        };
        let calculation = |i| match at(i)? {
            Value::Calculation(n) => self.calculation(n),
            other => wrong(format_args!("{other:?} is not a calculation")),
        };
        // Without a parameter there is no field list; 0 means the same.
        let list = |i: usize| if p.len() > i { constant(i) } else { Ok(0) };
        Ok(vec![match op {
            "assign" | "modify_field" | "set" => return self.assign(at(0)?, at(1)?),
            "assign_VL" => self.assign_variable(at(0)?, at(1)?)?,
            "add_header" => match header(0)? {
                Pick::One(header) => Op::Validate(header),
                picked => Op::SetValid(Box::new((picked, true))),
            },
            "remove_header" => match header(0)? {
                Pick::One(header) => Op::Invalidate(header),
                picked => Op::SetValid(Box::new((picked, false))),
            },
            "copy_header" | "assign_header" => match (header(1)?, header(0)?) {
                (Pick::One(from), Pick::One(to)) => Op::CopyHeader { from, to },
                pair => Op::CopyPicked([pair].into()),
            },
            "assign_header_stack" | "assign_union_stack" => self.copy_stack(stack(1)?, stack(0)?),
            "assign_union" => Op::CopyPicked(union(1)?.into_iter().zip(union(0)?).collect()),
            "push" => Op::Push {
                stack: stack(0)?,
                count: constant(1)?,
            },
            "pop" => Op::Pop {
                stack: stack(0)?,
                count: constant(1)?,
            },
            "mark_to_drop" | "drop" => Op::MarkToDrop,
            "count" => Op::Count {
                array: array(0)?,
                index: boxed(1)?,
            },
            "execute_meter" => Op::Meter(Box::new((array(0)?, word(1)?, dest(2)?))),
            "register_read" => Op::RegisterRead(Box::new((dest(0)?, array(1)?, word(2)?))),
            "register_write" => {
                let array = array(0)?;
                let width = self.program.registers.get(array as usize).map_or(0, |r| r.width);
                Op::RegisterWrite(Box::new((array, word(1)?, Computed::new(&term(2)?, width))))
            }
            "modify_field_with_hash_based_offset" => {
                Op::Hash(Box::new((dest(0)?, word(1)?, calculation(2)?, word(3)?)))
            }
            "modify_field_with_hash" => Op::HashPlain(Box::new((dest(0)?, calculation(1)?))),
            "modify_field_rng_uniform" => Op::Random(Box::new((dest(0)?, word(1)?, word(2)?))),
            "generate_digest" => Op::Digest(constant(1)?),
            "clone_ingress_pkt_to_egress" | "clone_egress_pkt_to_egress" => Op::Clone(Box::new((word(0)?, list(1)?))),
            "resubmit" => Op::Resubmit(list(0)?),
            "recirculate" => Op::Recirculate(list(0)?),
            "truncate" => Op::Truncate(boxed(0)?),
            "_jump_if_zero" => Op::JumpUnless {
                condition: Box::new(crate::expr::lower(&Term::binary(
                    crate::term::Binary::Ne,
                    term(0)?,
                    Term::constant(0),
                ))),
                to: constant(1)?,
            },
            "_jump" => Op::Jump(constant(0)?),
            "assert" | "assume" => Op::Assert(boxed(0)?),
            "exit" => Op::Exit,
            "log_msg" | "no_op" | "NoAction" => return Ok(Vec::new()),
            other => return wrong(format_args!("primitive {other} is not known")),
        }])
    }

    /// An assignment to a field of any kind.
    pub(super) fn assign(&self, to: &Value, from: &Value) -> Lower<Vec<Op>> {
        if self.located(to, 0)?.is_some_and(|field| field.variable) {
            return Ok(vec![self.assign_variable(to, from)?]);
        }
        let dest = self.dest(to)?;
        let term = self.term(from)?;
        Ok(match &dest {
            Dest::Field(slot, width) => assignment(*slot, *width, &term),
            Dest::Valid(header) => match term.known_u32() {
                Some(0) => vec![Op::Invalidate(*header)],
                Some(_) => vec![Op::Validate(*header)],
                None => vec![Op::Assign(Box::new((dest, Computed::new(&term, 1))))],
            },
            Dest::Picked(_, width) => {
                let value = Computed::new(&term, *width);
                vec![Op::Assign(Box::new((dest, value)))]
            }
        })
    }

    fn assign_variable(&self, to: &Value, from: &Value) -> Lower<Op> {
        let (Some(to), Some(from)) = (self.located(to, 0)?, self.located(from, 0)?) else {
            return wrong("two variable-length fields are expected");
        };
        if !to.variable || !from.variable || to.width != from.width {
            return wrong("a variable-length field takes only another one of its size");
        }
        let count = to.words();
        Ok(match (from.at, to.at) {
            (Pick::One(from), Pick::One(slot)) => Op::CopyWords { slot, from, count },
            (from, to) => Op::CopyVariable(Box::new((from, to, count))),
        })
    }

    fn copy_stack(&self, from: u32, to: u32) -> Op {
        let (Some(a), Some(b)) = (
            self.program.stacks.get(from as usize),
            self.program.stacks.get(to as usize),
        ) else {
            return Op::CopyHeaders(Box::default());
        };
        let each = a.elements.iter().zip(&b.elements);
        let pairs = each.flat_map(|(a, b)| a.iter().copied().zip(b.iter().copied()));
        Op::CopyHeaders(Box::new((pairs.collect(), a.next, b.next)))
    }
}

/// Register arrays that are both read and written, in order: BMv2 runs an action alone on
/// the registers that it uses, so that a read-modify-write loses nothing.
fn locks(ops: &[Op]) -> Box<[u32]> {
    let mut written: Vec<u32> = ops
        .iter()
        .filter_map(|op| match op {
            Op::RegisterWrite(of) => Some(of.0),
            _ => None,
        })
        .collect();
    written.sort_unstable();
    written.dedup();
    let reads = |array: u32| {
        ops.iter().any(|op| match op {
            Op::RegisterRead(of) => of.1 == array,
            _ => false,
        })
    };
    written.retain(|array| reads(*array));
    written.into()
}
