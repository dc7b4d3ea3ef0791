//! Actions as machine code, written where they are called.

use cranelift_codegen::ir::{InstBuilder as _, Value};

use super::code::{Args, Code, Label};
use super::{Env, Refused, callback};
use crate::expr::Expr;
use crate::layout::Header;
use crate::program::{Action, Dest, Op, Standard};
use crate::word::{mask64, words_of};

/// Words of a header or field that are moved one by one; the interpreter moves longer ones.
const MAX_MOVED: u32 = 64;

/// Whether an action is written as machine code: it holds no registers and jumps only forwards.
fn is_plain(action: &Action) -> bool {
    let forwards = action.ops.iter().enumerate().all(|(at, op)| match op {
        Op::Jump(to) | Op::JumpUnless { to, .. } => *to as usize > at,
        _ => true,
    });
    forwards && action.locks.is_empty()
}

/// Words of an action's arguments.
pub(super) fn argument_words(action: &Action) -> u32 {
    action.parameters.iter().map(|p| words_of(p.width)).sum()
}

impl Code<'_, '_> {
    /// Writes an action. The code that follows it is written next, unless the action jumps to `exit`. False if nothing
    /// can follow.
    pub(super) fn action(&mut self, index: u32, args: Args, exit: Label) -> Result<bool, Refused> {
        let program = self.program;
        let Some(action) = program.actions.get(index as usize) else {
            return Ok(true);
        };
        if is_plain(action) {
            return self.ops(&action.ops, args, exit);
        }
        let exits = self.call_with(callback::run_action as *const (), index as usize, args);
        self.forget();
        let on = self.label();
        self.branch(exits, exit, on);
        Ok(self.place(on))
    }

    /// Writes operations; jumps lead forwards. False if nothing follows them.
    pub(super) fn ops(&mut self, ops: &[Op], args: Args, exit: Label) -> Result<bool, Refused> {
        let end = ops.len();
        let mut targets: Vec<(usize, Label)> = Vec::new();
        for op in ops {
            if let Op::Jump(to) | Op::JumpUnless { to, .. } = op {
                let to = (*to as usize).min(end);
                if targets.iter().all(|(at, _)| *at != to) {
                    targets.push((to, self.label()));
                }
            }
        }
        let target = |to: usize| {
            let found = targets.iter().find(|(at, _)| *at == to);
            found.map(|(_, label)| *label)
        };
        let nowhere = Refused("a jump to nowhere");
        let mut reached = true;
        for at in 0..=end {
            if let Some(label) = target(at) {
                if reached {
                    self.jump(label);
                }
                reached = self.place(label);
            }
            let (true, Some(op)) = (reached, ops.get(at)) else {
                continue;
            };
            match op {
                Op::Jump(to) => {
                    self.jump(target((*to as usize).min(end)).ok_or(nowhere)?);
                    reached = false;
                }
                Op::JumpUnless { condition, to } => {
                    let holds = self.holds(condition, args)?;
                    let on = self.label();
                    self.branch(holds, on, target((*to as usize).min(end)).ok_or(nowhere)?);
                    reached = self.place(on);
                }
                Op::Exit => {
                    self.jump(exit);
                    reached = false;
                }
                op => reached = self.op(op, args, exit)?,
            }
        }
        Ok(reached)
    }

    /// Writes an operation that does not jump, but may lead to `exit`.
    fn op(&mut self, op: &Op, args: Args, exit: Label) -> Result<bool, Refused> {
        match op {
            Op::Constant { slot, value } => self.store_constant(*slot, *value)?,
            Op::Copy { slot, from, mask } => {
                let value = self.load(*from)?;
                let value = self.mask(value, *mask);
                self.store(*slot, value)?;
            }
            Op::Argument { slot, at, mask } => {
                let value = self.argument(args, *at);
                let value = self.mask(value, *mask);
                self.store(*slot, value)?;
            }
            Op::Or { slot, from, with, mask } => {
                let (value, with) = (self.load(*from)?, self.constant(*with));
                let value = self.b.ins().bor(value, with);
                let value = self.mask(value, *mask);
                self.store(*slot, value)?;
            }
            Op::OrArgument { slot, at, with, mask } => {
                let (value, with) = (self.argument(args, *at), self.constant(*with));
                let value = self.b.ins().bor(value, with);
                let value = self.mask(value, *mask);
                self.store(*slot, value)?;
            }
            Op::Shift { slot, from, by, mask } if *by < 64 => {
                let (value, by) = (self.load(*from)?, self.constant((*by).into()));
                let value = self.b.ins().ushr(value, by);
                let value = self.mask(value, *mask);
                self.store(*slot, value)?;
            }
            Op::Shift { slot, .. } => self.store_constant(*slot, 0)?,
            Op::Add { slot, from, plus, mask } => {
                let (value, plus) = (self.load(*from)?, self.constant(*plus));
                let value = self.b.ins().iadd(value, plus);
                let value = self.mask(value, *mask);
                self.store(*slot, value)?;
            }
            Op::CopyWords { slot, from, count } if *count <= MAX_MOVED => self.copy_words(*from, *slot, *count)?,
            Op::ArgumentWords { slot, at, count } if *count <= MAX_MOVED => {
                for i in 0..*count {
                    let value = self.argument(args, at.saturating_add(i));
                    self.store(slot.saturating_add(i), value)?;
                }
            }
            Op::Set { slot, mask, value } => {
                let value = self.expr(value, args)?;
                let value = self.mask(value, *mask);
                self.store(*slot, value)?;
            }
            Op::SetWide { slot, mask, value } => {
                let value = self.expr(value, args)?;
                let (low, high) = self.b.ins().isplit(value);
                let high = self.mask(high, *mask);
                self.store(*slot, high)?;
                self.store(slot.saturating_add(1), low)?;
            }
            Op::Validate(header) if self.is_short(*header) => self.set_valid(*header, true)?,
            Op::Invalidate(header) if self.is_short(*header) => self.set_valid(*header, false)?,
            Op::CopyHeader { from, to } if self.is_short(*from) && self.is_short(*to) => {
                self.copy_header(*from, *to)?;
            }
            Op::MarkToDrop => {
                let (standard, port) = (&self.program.standard, self.drop_port.into());
                self.set_standard(standard.egress_spec, port)?;
                self.set_standard(standard.mcast_grp, 0)?;
            }
            Op::Hash(of) if self.hash(of, args)? => {}
            op => {
                let exits = self.call_with(callback::run_op as *const (), std::ptr::from_ref(op) as usize, args);
                self.forget();
                if matches!(op, Op::Assert(_)) {
                    let on = self.label();
                    self.branch(exits, exit, on);
                    return Ok(self.place(on));
                }
            }
        }
        Ok(true)
    }

    /// Computes a hash in a range that is known before into a field of one word; false if the interpreter has to.
    fn hash(
        &mut self,
        (dest, base, calculation, size): &(Dest, Expr<u64>, u32, Expr<u64>),
        args: Args,
    ) -> Result<bool, Refused> {
        let (Dest::Field(slot, width @ 1..=64), Expr::Constant(base), Expr::Constant(size @ 1..)) = (dest, base, size)
        else {
            return Ok(false);
        };
        let hash = self.call_with(callback::calculate as *const (), *calculation as usize, args);
        let (base, size) = (self.constant(*base), self.constant(*size));
        let within = self.b.ins().urem(hash, size);
        let value = self.b.ins().iadd(within, base);
        let value = self.mask(value, mask64(*width));
        self.store(*slot, value)?;
        Ok(true)
    }

    pub(super) fn set_standard(&mut self, of: Standard, value: u64) -> Result<(), Refused> {
        self.store_constant(of.slot, value & of.mask)
    }

    fn copy_words(&mut self, from: u32, to: u32, count: u32) -> Result<(), Refused> {
        // All are read before one is written, as they may overlap.
        let words = (0..count).map(|i| self.load(from.saturating_add(i)));
        let words: Vec<Value> = words.collect::<Result<_, _>>()?;
        for (i, value) in (0..).zip(words) {
            self.store(to.saturating_add(i), value)?;
        }
        Ok(())
    }

    /// A header of few words and fixed length.
    fn is_short(&self, header: u32) -> bool {
        let header = self.program.headers.get(header as usize);
        header.is_some_and(|h| h.variable.is_none() && h.words <= MAX_MOVED)
    }

    fn header(&self, header: u32) -> Result<&Header, Refused> {
        self.program
            .headers
            .get(header as usize)
            .ok_or(Refused("a header that is not there"))
    }

    /// Octets that a header adds to the length of the packet.
    fn lengthen(&mut self, by: i64) {
        let at = std::mem::offset_of!(Env, added);
        let before = self.load_env(at);
        let by = self.constant(by as u64);
        let after = self.b.ins().iadd(before, by);
        self.store_env(at, after);
    }

    fn set_valid(&mut self, header: u32, valid: bool) -> Result<(), Refused> {
        let h = self.header(header)?;
        let (slot, words, octets) = (h.slot, h.words, i64::from(h.fixed_bits) / 8);
        let rivals = h.rivals.clone();
        let (change, done) = (self.label(), self.label());
        if valid {
            self.branch_if_bits((slot, u64::MAX, 0), change, done)?;
        } else {
            self.branch_if_bits((slot, u64::MAX, 0), done, change)?;
        }
        if self.place(change) {
            if valid {
                for word in 1..words {
                    self.store_constant(slot + word, 0)?;
                }
            }
            self.store_constant(slot, valid.into())?;
            self.lengthen(if valid { octets } else { -octets });
            self.jump(done);
        }
        self.place(done);
        // On both paths, it now has its new validity.
        self.learn(slot, valid.into());
        if valid {
            for rival in &rivals {
                self.store_constant(*rival, 0)?;
            }
        }
        Ok(())
    }

    fn copy_header(&mut self, from: u32, to: u32) -> Result<(), Refused> {
        let (a, b) = (self.header(from)?, self.header(to)?);
        let (from, to, count) = (a.slot, b.slot, a.words.min(b.words));
        let rivals = b.rivals.clone();
        let (copy, clear, done) = (self.label(), self.label(), self.label());
        self.branch_if_bits((from, u64::MAX, 0), clear, copy)?;
        if self.place(clear) {
            self.store_constant(to, 0)?;
            self.jump(done);
        }
        if self.place(copy) {
            self.copy_words(from, to, count)?;
            for rival in &rivals {
                self.store_constant(*rival, 0)?;
            }
            self.jump(done);
        }
        self.place(done);
        Ok(())
    }
}
