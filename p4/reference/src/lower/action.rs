//! Actions: primitives to steps.

use bmv2_json::Value;

use super::{Lower, LowerError, Names, wrong};
use crate::expr::{HeaderRef, Place};
use crate::program::{Action, Step};

impl Names<'_> {
    pub(super) fn actions(&mut self) -> Lower<()> {
        for action in &self.source.actions {
            let mut steps = Vec::new();
            for call in &action.primitives {
                // Jumps count primitives, so each primitive must be exactly one step.
                let step = self.step(&call.op, &call.parameters);
                steps.push(step.map_err(|e| LowerError(format!("action {}: {}: {e}", action.name, call.op)))?);
            }
            self.actions.insert(action.id, self.program.actions.len());
            let widths = action.runtime_data.iter().map(|d| d.bitwidth).collect();
            self.program.actions.push(Action {
                name: action.name.clone(),
                widths,
                steps,
            });
        }
        Ok(())
    }

    /// A primitive.
    pub(super) fn step(&self, op: &str, p: &[Value]) -> Lower<Step> {
        let at = |i: usize| p.get(i).ok_or_else(|| LowerError(format!("parameter {i} is missing")));
        let value = |i| at(i).and_then(|v| self.value(v));
        let dest = |i| at(i).and_then(|v| self.dest(v));
        let header = |i| at(i).and_then(|v| self.header_of(v));
        let stack = |i| match at(i)? {
            Value::HeaderStack(s) => self.stack(s),
            Value::HeaderUnionStack(s) => self.union_stack(s),
            other => wrong(format_args!("{other:?} is not a header stack")),
        };
        let constant = |i: usize| match at(i)? {
            Value::Hexstr(h) => {
                usize::try_from(h.value()).map_err(|_| LowerError(format!("parameter {i} is out of range")))
            }
            other => wrong(format_args!("{other:?} is not a constant")),
        };
        let array = |i: usize| match at(i)? {
            Value::CounterArray(n) => Self::index("counter", &self.program.counters, |c| &c.0, n),
            Value::MeterArray(n) => Self::index("meter", &self.program.meters, |m| &m.0, n),
            Value::RegisterArray(n) => Self::index("register", &self.program.registers, |r| &r.0, n),
            other => wrong(format_args!("{other:?} is not an array")),
        };
        let calculation = |i| match at(i)? {
            Value::Calculation(n) => self.calculation(n),
            other => wrong(format_args!("{other:?} is not a calculation")),
        };
        // 0 stands for no field list.
        let list = |i: usize| {
            if p.len() > i {
                constant(i).map(|n| (n > 0).then_some(n))
            } else {
                Ok(None)
            }
        };
        Ok(match op {
            "assign" | "modify_field" | "set" => match self.variables(at(0)?, at(1)?) {
                Some((to, from)) => Step::AssignVariable(to, from),
                None => Step::Assign(dest(0)?, value(1)?),
            },
            "assign_VL" => match self.variables(at(0)?, at(1)?) {
                Some((to, from)) => Step::AssignVariable(to, from),
                None => return wrong("two variable-length fields are expected"),
            },
            "add_header" => Step::SetValid(header(0)?, true),
            "remove_header" => Step::SetValid(header(0)?, false),
            "copy_header" | "assign_header" => Step::CopyHeaders(vec![(header(1)?, header(0)?)], None),
            "assign_header_stack" | "assign_union_stack" => self.copy_stack(stack(0)?, stack(1)?),
            "assign_union" => {
                let (to, from) = (self.union_of(at(0)?)?, self.union_of(at(1)?)?);
                Step::CopyHeaders(from.into_iter().zip(to).collect(), None)
            }
            "push" => Step::Push(stack(0)?, constant(1)?),
            "pop" => Step::Pop(stack(0)?, constant(1)?),
            "mark_to_drop" | "drop" => Step::MarkToDrop,
            "count" => Step::Count(array(0)?, value(1)?),
            "execute_meter" => Step::Meter(array(0)?, value(1)?, dest(2)?),
            "register_read" => Step::RegisterRead(dest(0)?, array(1)?, value(2)?),
            "register_write" => Step::RegisterWrite(array(0)?, value(1)?, value(2)?),
            "modify_field_with_hash_based_offset" => Step::Hash(dest(0)?, value(1)?, calculation(2)?, value(3)?),
            "modify_field_with_hash" => Step::HashPlain(dest(0)?, calculation(1)?),
            "modify_field_rng_uniform" => Step::Random(dest(0)?, value(1)?, value(2)?),
            "generate_digest" => Step::Digest(constant(1)? as u32),
            "clone_ingress_pkt_to_egress" => Step::CloneIngress(value(0)?, list(1)?),
            "clone_egress_pkt_to_egress" => Step::CloneEgress(value(0)?, list(1)?),
            "resubmit" => Step::Resubmit(list(0)?),
            "recirculate" => Step::Recirculate(list(0)?),
            "truncate" => Step::Truncate(value(0)?),
            "_jump_if_zero" => Step::JumpIfZero(value(0)?, constant(1)?),
            "_jump" => Step::Jump(constant(0)?),
            "assert" | "assume" => Step::Assert(value(0)?),
            "exit" => Step::Exit,
            "log_msg" | "no_op" | "NoAction" => Step::Nothing,
            other => return wrong(format_args!("primitive {other} is not known")),
        })
    }

    /// Both operands as variable-length fields; `None` if one is something else.
    pub(super) fn variables(&self, a: &Value, b: &Value) -> Option<(Place, Place)> {
        let (a, b) = (self.place(a).ok()?, self.place(b).ok()?);
        let is_variable = |p: &Place| self.shape(p).is_some_and(|f| f.variable.is_some());
        (is_variable(&a) && is_variable(&b)).then_some((a, b))
    }

    fn copy_stack(&self, to: usize, from: usize) -> Step {
        let headers = |s: usize| self.program.stacks.get(s).into_iter().flatten().flatten();
        let pairs = headers(from)
            .zip(headers(to))
            .map(|(f, t)| (HeaderRef::One(*f), HeaderRef::One(*t)));
        Step::CopyHeaders(pairs.collect(), Some((from, to)))
    }
}
