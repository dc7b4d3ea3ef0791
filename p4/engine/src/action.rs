//! Actions: operations one after another.

use crate::core::Core;
use crate::expr::Expr;
use crate::packet::Packet;
use crate::program::{Action, Dest, Op};
use crate::tables::meter::Colour;
use crate::trace::Trace;
use crate::value::{Parts, copy_header, set_valid};
use crate::word::{mask64, words_of};

/// Most operations of one action, and most nodes of one pipeline, for one packet. Loops in P4 are bounded; one that is
/// not ends here.
pub(crate) const MAX_STEPS: usize = 1 << 16;

/// An index beyond every array.
const BEYOND: usize = usize::MAX;

/// Runs operations that only move words, which are most of them. Returns the first operation that does more. This is a
/// function of its own, so that the compiler knows that nothing else can access `words`.
#[inline(never)]
pub(crate) fn quick(ops: &[Op], mut at: usize, words: &mut [u64], args: &[u64]) -> usize {
    while let Some(op) = ops.get(at) {
        match op {
            Op::Constant { slot, value } => words[*slot as usize] = *value,
            Op::Copy { slot, from, mask } => words[*slot as usize] = words[*from as usize] & mask,
            Op::Argument { slot, at, mask } => {
                words[*slot as usize] = args.get(*at as usize).copied().unwrap_or(0) & mask;
            }
            Op::Add { slot, from, plus, mask } => {
                words[*slot as usize] = words[*from as usize].wrapping_add(*plus) & mask;
            }
            Op::Or { slot, from, with, mask } => words[*slot as usize] = (words[*from as usize] | with) & mask,
            Op::OrArgument { slot, at, with, mask } => {
                words[*slot as usize] = (args.get(*at as usize).copied().unwrap_or(0) | with) & mask;
            }
            Op::Shift { slot, from, by, mask } => {
                words[*slot as usize] = words[*from as usize].checked_shr(*by).unwrap_or(0) & mask;
            }
            Op::CopyWords { slot, from, count } => {
                let from = *from as usize;
                words.copy_within(from..from + *count as usize, *slot as usize);
            }
            Op::ArgumentWords { slot, at, count } => {
                let (slot, at, count) = (*slot as usize, *at as usize, *count as usize);
                if let Some(args) = args.get(at..at + count) {
                    words[slot..slot + count].copy_from_slice(args);
                }
            }
            _ => return at,
        }
        at += 1;
    }
    at
}

impl<T: Trace> Core<'_, T> {
    /// Runs an action.
    #[inline]
    pub(crate) fn action(&mut self, action: u32, p: &mut Packet, args: &[u64]) {
        let program = self.program;
        let Some(of) = program.actions.get(action as usize) else {
            return;
        };
        if T::ON {
            self.trace.action(action, args);
        }
        // Most actions only move words, and end here. An action that locks registers begins by reading them, and no
        // move does that.
        let at = quick(&of.ops, 0, &mut p.words, args);
        if at < of.ops.len() {
            self.ops(of, at, p, args);
        }
        if T::ON {
            self.trace.arena(&p.words);
        }
    }

    /// Runs the operations from a given one on, with the required registers locked.
    #[inline(never)]
    fn ops(&mut self, of: &Action, at: usize, p: &mut Packet, args: &[u64]) {
        let arrays = of.locks.iter().filter_map(|a| self.externs.registers.get(*a as usize));
        let held: Vec<_> = arrays.map(|r| r.hold()).collect();
        self.from(&of.ops, at, p, args);
        drop(held);
    }

    fn from(&mut self, ops: &[Op], mut at: usize, p: &mut Packet, args: &[u64]) {
        let mut steps = 0;
        while let Some(op) = ops.get(at) {
            at += 1;
            match op {
                Op::JumpUnless { condition, to } => {
                    if !condition.holds(&self.parts(args).context(&p.words)) {
                        at = *to as usize;
                    }
                }
                Op::Jump(to) => at = *to as usize,
                Op::Exit => {
                    self.scratch.wishes.exit = true;
                    return;
                }
                op => self.slow(op, p, args),
            }
            let before = at;
            at = quick(ops, at, &mut p.words, args);
            steps += 1 + at - before;
            if steps > MAX_STEPS {
                return;
            }
        }
    }

    /// Runs an operation that does not jump.
    #[cfg(feature = "native")]
    pub(crate) fn op(&mut self, op: &Op, p: &mut Packet, args: &[u64]) {
        if quick(std::slice::from_ref(op), 0, &mut p.words, args) == 0 {
            self.slow(op, p, args);
        }
    }

    /// Operations that are not [`quick`]: a function of its own, so that its registers and stack cost the quick ones nothing.
    #[inline(never)]
    pub(crate) fn slow(&mut self, op: &Op, p: &mut Packet, args: &[u64]) {
        let words = &mut p.words;
        match op {
            Op::Set { slot, mask, value } => {
                let value = value.eval(&self.parts(args).context(words));
                words[*slot as usize] = value & mask;
            }
            Op::SetWide { slot, mask, value } => {
                let value = value.eval(&self.parts(args).context(words));
                words[*slot as usize] = (value >> 64) as u64 & mask;
                words[*slot as usize + 1] = value as u64;
            }
            Op::Validate(header) => self.validate(*header, true, p),
            Op::Invalidate(header) => self.validate(*header, false, p),
            Op::CopyHeader { from, to } => copy_header(&self.program.headers, words, *from, *to),
            Op::MarkToDrop => self.mark_to_drop(p),
            other => self.rare(other, p, args),
        }
    }

    #[inline(never)]
    fn rare(&mut self, op: &Op, p: &mut Packet, args: &[u64]) {
        let program = self.program;
        let headers = &program.headers;
        let parts = self.parts(args);
        let index = |e: &Expr<u64>, p: &Packet| usize::try_from(e.eval(&parts.context(&p.words))).unwrap_or(BEYOND);
        match op {
            Op::Assign(of) => of.0.assign(headers, &mut p.words, &of.1, parts),
            Op::CopyHeaders(of) => {
                let (pairs, from, to) = &**of;
                for (a, b) in pairs {
                    copy_header(headers, &mut p.words, *a, *b);
                }
                p.words[*to as usize] = p.words[*from as usize];
            }
            Op::SetValid(of) => {
                if let Some(header) = of.0.find(&parts.context(&p.words)) {
                    self.validate(header, of.1, p);
                }
            }
            Op::CopyPicked(pairs) => {
                for (from, to) in pairs {
                    let c = parts.context(&p.words);
                    if let (Some(from), Some(to)) = (from.find(&c), to.find(&c)) {
                        copy_header(headers, &mut p.words, from, to);
                    }
                }
            }
            Op::CopyVariable(of) => {
                let (from, to, count) = &**of;
                let c = parts.context(&p.words);
                if let (Some(from), Some(to)) = (from.find(&c), to.find(&c)) {
                    let from = from as usize;
                    p.words.copy_within(from..from + *count as usize, to as usize);
                }
            }
            Op::Push { stack, count } => self.shift(*stack, *count as usize, true, p),
            Op::Pop { stack, count } => self.shift(*stack, *count as usize, false, p),
            Op::Count { array, index: cell } => {
                let cells = self.externs.counters.get(*array as usize);
                if let Some(counter) = cells.and_then(|c| c.get(index(cell, p))) {
                    counter.count(p.length);
                }
            }
            Op::Meter(of) => {
                let (array, cell, dest) = &**of;
                let octets = program.meters.get(*array as usize).is_some_and(|m| m.octets);
                let size = if octets { p.length as u64 } else { 1 };
                let meters = self.externs.meters.get(*array as usize);
                let meter = meters.and_then(|m| m.get(index(cell, p)));
                let colour = meter.map_or(Colour::Green, |m| m.mark(size, p.length, self.now_ns));
                dest.set(headers, &mut p.words, colour as u64, parts);
            }
            Op::RegisterRead(of) => {
                let (dest, array, cell) = &**of;
                let cell = index(cell, p);
                self.register_read(dest, *array, cell, p, parts);
            }
            Op::RegisterWrite(of) => {
                let (array, cell, value) = &**of;
                let cell = index(cell, p);
                if let Some(register) = self.externs.registers.get(*array as usize) {
                    let width = register.width();
                    let mut narrow = [0];
                    if width <= 64 {
                        narrow[0] = value.low(&parts.context(&p.words));
                        register.write(cell, &narrow);
                    } else {
                        let key = &mut self.scratch.key;
                        key.clear();
                        key.resize(words_of(width) as usize, 0);
                        value.words(width, &parts.context(&p.words), key);
                        register.write(cell, key);
                    }
                }
            }
            Op::Hash(of) => {
                let (dest, base, calculation, size) = &**of;
                let c = parts.context(&p.words);
                let (base, size) = (base.eval(&c), size.eval(&c));
                let hash = self.calculate(*calculation, p, args);
                let value = base.wrapping_add(hash.checked_rem(size).unwrap_or(0));
                dest.set(headers, &mut p.words, value, parts);
            }
            Op::HashPlain(of) => {
                let value = self.calculate(of.1, p, args);
                of.0.set(headers, &mut p.words, value, parts);
            }
            Op::Random(of) => {
                let (dest, low, high) = &**of;
                let c = parts.context(&p.words);
                let (low, high) = (low.eval(&c), high.eval(&c));
                // Bounds in the wrong order leave the destination as it is.
                if let Some(span) = high.checked_sub(low) {
                    let number = self.scratch.random();
                    let within = if span == u64::MAX { number } else { number % (span + 1) };
                    dest.set(headers, &mut p.words, low + within, parts);
                }
            }
            Op::Digest(id) => {
                let count = &mut self.scratch.wishes.digest_count;
                if let Some(place) = self.scratch.digests.get_mut(usize::from(*count)) {
                    *place = *id;
                    *count += 1;
                }
            }
            Op::Clone(of) => {
                let session = of.0.eval(&parts.context(&p.words)) as u32;
                self.scratch.wishes.clone = Some((session, of.1));
            }
            Op::Resubmit(list) => self.scratch.wishes.resubmit = Some(*list),
            Op::Recirculate(list) => self.scratch.wishes.recirculate = Some(*list),
            Op::Truncate(octets) => p.truncated = p.truncated.min(index(octets, p)),
            // A failed assertion of the program loses the packet, not the switch.
            Op::Assert(condition) if !condition.holds(&parts.context(&p.words)) => {
                self.mark_to_drop(p);
                self.scratch.wishes.exit = true;
            }
            Op::Exit => self.scratch.wishes.exit = true,
            // All other operations are quick ones.
            _ => {}
        }
    }

    fn mark_to_drop(&mut self, p: &mut Packet) {
        let standard = &self.program.standard;
        standard.egress_spec.set(&mut p.words, self.drop_port.into());
        standard.mcast_grp.set(&mut p.words, 0);
    }

    /// Adds or removes a header, and its length to or from that of the packet.
    fn validate(&mut self, header: u32, valid: bool, p: &mut Packet) {
        let Some(h) = self.program.headers.get(header as usize) else {
            return;
        };
        let was = p.words[h.slot as usize] != 0;
        if was && !valid {
            p.register_length -= super::deparse::length(h, &p.words) as i64 / 8;
        }
        set_valid(&self.program.headers, &mut p.words, header, valid);
        if valid && !was {
            p.register_length += super::deparse::length(h, &p.words) as i64 / 8;
        }
    }

    fn register_read(&mut self, dest: &Dest, array: u32, cell: usize, p: &mut Packet, parts: Parts<'_>) {
        let Some(register) = self.externs.registers.get(array as usize) else {
            return;
        };
        if register.width() <= 64 {
            dest.set(&self.program.headers, &mut p.words, register.low(cell), parts);
            return;
        }
        let key = &mut self.scratch.key;
        key.clear();
        key.resize(words_of(register.width()) as usize, 0);
        register.read(cell, key);
        if dest.width() > 64 {
            dest.set_words(&mut p.words, key, parts);
        } else {
            let low = key.last().copied().unwrap_or(0) & mask64(dest.width());
            dest.set(&self.program.headers, &mut p.words, low, parts);
        }
    }

    /// Moves a stack's elements towards its end (push) or its start (pop).
    fn shift(&mut self, stack: u32, count: usize, push: bool, p: &mut Packet) {
        let program = self.program;
        let Some(stack) = program.stacks.get(stack as usize) else {
            return;
        };
        let size = stack.elements.len();
        let count = count.min(size);
        for i in 0..size {
            let to = if push { size - 1 - i } else { i };
            let from = if push {
                to.checked_sub(count)
            } else {
                Some(to + count).filter(|from| *from < size)
            };
            for (member, target) in stack.elements[to].iter().enumerate() {
                match from.and_then(|from| stack.elements[from].get(member)) {
                    Some(source) => copy_header(&program.headers, &mut p.words, *source, *target),
                    None => set_valid(&program.headers, &mut p.words, *target, false),
                }
            }
        }
        let next = &mut p.words[stack.next as usize];
        *next = if push {
            (*next + count as u64).min(size as u64)
        } else {
            next.saturating_sub(count as u64)
        };
    }
}
