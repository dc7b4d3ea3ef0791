//! Actions: their steps, one after the other.

use num_bigint::{BigInt, BigUint};
use num_traits::{ToPrimitive, Zero};

use super::{MAX_STEPS, Run, Wishes};
use crate::expr::Expr;
use crate::meter::GREEN;
use crate::phv::Phv;
use crate::program::{Action, Dest, Step};

impl Run<'_> {
    pub(super) fn action(&self, index: usize, phv: &mut Phv, wishes: &mut Wishes) {
        let Some(Action { steps, .. }) = self.switch.program.actions.get(index) else {
            return;
        };
        let mut at = 0;
        for _ in 0..MAX_STEPS {
            let Some(step) = steps.get(at) else { return };
            at = match step {
                Step::JumpIfZero(condition, to) if !condition.holds(phv, self.switch) => *to,
                Step::Jump(to) => *to,
                step => {
                    self.step(step, phv, wishes);
                    at + 1
                }
            };
            if wishes.exit {
                return;
            }
        }
    }

    pub(super) fn step(&self, step: &Step, phv: &mut Phv, wishes: &mut Wishes) {
        let switch = self.switch;
        let headers = &switch.program.headers;
        let number = |e: &Expr, phv: &Phv| e.eval(phv, switch);
        let cell = |e: &Expr, phv: &Phv| number(e, phv).to_usize().unwrap_or(usize::MAX);
        match step {
            Step::Assign(dest, expr) => {
                let value = number(expr, phv);
                self.assign(dest, &value, phv);
            }
            Step::AssignVariable(to, from) => {
                let number = |p: &crate::expr::Place| p.find(phv, switch).and_then(|f| f.variable);
                let (Some(to), Some(from)) = (number(to), number(from)) else {
                    return;
                };
                let content = phv.octets(from).to_vec();
                if let Some(v) = phv.variable.get_mut(to) {
                    *v = content;
                }
            }
            Step::SetValid(header, valid) => {
                let Some(header) = header.find(phv, switch) else { return };
                // A header that becomes valid starts with zeros, so that its earlier content does not show.
                if *valid && !phv.is_valid(header) {
                    headers.get(header).into_iter().for_each(|h| phv.clear(h));
                }
                phv.set_valid(headers, header, *valid);
            }
            Step::CopyHeaders(pairs, stacks) => {
                for (from, to) in pairs {
                    if let (Some(from), Some(to)) = (from.find(phv, switch), to.find(phv, switch)) {
                        phv.copy_header(headers, from, to);
                    }
                }
                if let Some((from, to)) = stacks {
                    let next = phv.stack_next.get(*from).copied();
                    if let (Some(next), Some(n)) = (next, phv.stack_next.get_mut(*to)) {
                        *n = next;
                    }
                }
            }
            Step::Push(stack, count) => self.shift(*stack, *count, true, phv),
            Step::Pop(stack, count) => self.shift(*stack, *count, false, phv),
            Step::MarkToDrop => self.drop_it(phv),
            Step::Count(array, index) => {
                if let Some(counter) = switch.counter(*array, cell(index, phv)) {
                    counter.count(self.length);
                }
            }
            Step::Meter(array, index, dest) => {
                let octets = switch.program.meters.get(*array).is_some_and(|m| m.2);
                let size = if octets { self.length as u64 } else { 1 };
                let meter = switch.meter(*array, cell(index, phv));
                let colour = meter.map_or(GREEN, |m| m.colour(size, self.now_ns));
                self.assign(dest, &colour.into(), phv);
            }
            Step::RegisterRead(dest, array, index) => {
                let value = switch.register(*array, cell(index, phv));
                let value = value.map_or(BigUint::ZERO, |(v, _)| v);
                self.assign(dest, &value.into(), phv);
            }
            Step::RegisterWrite(array, index, value) => {
                let width = switch.program.registers.get(*array).map_or(0, |r| r.2);
                switch.set_register(*array, cell(index, phv), &value.bits(width, phv, switch));
            }
            Step::Hash(dest, base, calculation, size) => {
                let (base, size) = (number(base, phv), number(size, phv));
                let hash = BigInt::from(self.calculate(*calculation, phv));
                let value = if size.is_zero() { base } else { base + hash % size };
                self.assign(dest, &value, phv);
            }
            Step::HashPlain(dest, calculation) => {
                let value = self.calculate(*calculation, phv);
                self.assign(dest, &value.into(), phv);
            }
            Step::Random(dest, low, high) => {
                let (low, high) = (number(low, phv), number(high, phv));
                // Without a number between the bounds, nothing is written.
                if low <= high {
                    let span = high - &low + 1;
                    self.assign(dest, &(low + BigInt::from(switch.next_random()) % span), phv);
                }
            }
            Step::Digest(id) => wishes.digests.push(*id),
            Step::CloneIngress(session, list) | Step::CloneEgress(session, list) => {
                wishes.clone = Some((number(session, phv).to_u32().unwrap_or(u32::MAX), *list));
            }
            Step::Resubmit(list) => wishes.resubmit = Some(*list),
            Step::Recirculate(list) => wishes.recirculate = Some(*list),
            Step::Truncate(octets) => phv.truncated = phv.truncated.min(cell(octets, phv)),
            // A failed assertion drops the packet, but does not stop the switch.
            Step::Assert(condition) => {
                if !condition.holds(phv, switch) {
                    self.drop_it(phv);
                    wishes.exit = true;
                }
            }
            Step::Exit => wishes.exit = true,
            Step::JumpIfZero(..) | Step::Jump(_) | Step::Nothing => {}
        }
    }

    fn drop_it(&self, phv: &mut Phv) {
        self.switch.set_standard(phv, "egress_spec", self.switch.drop_port);
        self.switch.set_standard(phv, "mcast_grp", 0u8);
    }

    pub(super) fn assign(&self, dest: &Dest, value: &BigInt, phv: &mut Phv) {
        match dest {
            Dest::Place(place, _) => {
                if let Some((slot, width)) = place.find(phv, self.switch).map(|f| (f.slot, f.width)) {
                    phv.set(slot, width, value);
                }
            }
            Dest::Valid(header) => {
                if let Some(header) = header.find(phv, self.switch) {
                    phv.set_valid(&self.switch.program.headers, header, !value.is_zero());
                }
            }
        }
    }

    /// Moves a stack's elements towards its end (push) or its start (pop).
    fn shift(&self, stack: usize, count: usize, push: bool, phv: &mut Phv) {
        let Some(elements) = self.switch.program.stacks.get(stack) else {
            return;
        };
        let headers = &self.switch.program.headers;
        let size = elements.len();
        let count = count.min(size);
        let order: Vec<usize> = if push {
            (0..size).rev().collect()
        } else {
            (0..size).collect()
        };
        for to in order {
            let from = if push {
                to.checked_sub(count)
            } else {
                Some(to + count).filter(|f| *f < size)
            };
            let source = from.and_then(|f| elements.get(f));
            for (at, target) in elements.get(to).into_iter().flatten().enumerate() {
                match source.and_then(|s| s.get(at)) {
                    Some(source) => phv.copy_header(headers, *source, *target),
                    None => phv.set_valid(headers, *target, false),
                }
            }
        }
        if let Some(next) = phv.stack_next.get_mut(stack) {
            *next = if push {
                (*next + count).min(size)
            } else {
                next.saturating_sub(count)
            };
        }
    }
}
