//! Control flow: tables, branches, calls.

use crate::action::MAX_STEPS;
use crate::core::Core;
use crate::packet::Packet;
use crate::program::{Control, END, KeyPart, KeySource, NOWHERE, Next, Node, Table};
use crate::tables::{Leads, Record};
use crate::trace::Trace;
use crate::value::Parts;
use crate::word::words_of;

/// Where a branch leads, if it only looks at words.
#[inline(always)]
fn branched(node: &Node, words: &[u64]) -> Option<Next> {
    let (holds, yes, no) = match node {
        Node::IfField { slot, value, yes, no } => (words[*slot as usize] == *value, *yes, *no),
        Node::IfSame { a, b, yes, no } => (words[*a as usize] == words[*b as usize], *yes, *no),
        Node::IfBits(of) => (words[of.slot as usize] & of.mask == of.value, of.yes, of.no),
        _ => return None,
    };
    if holds {
        Some(yes)
    } else {
        // Written as a branch because the processor predicts it; a conditional move would wait for the words.
        std::hint::black_box(());
        Some(no)
    }
}

/// Follows branches that only look at words. Returns the first node that does more.
#[inline(never)]
fn branches(nodes: &[Node], mut at: Next, words: &[u64]) -> Next {
    for _ in 0..MAX_STEPS {
        let Some(to) = nodes.get(at as usize).and_then(|node| branched(node, words)) else {
            return at;
        };
        at = to;
    }
    END
}

impl<'a, T: Trace> Core<'a, T> {
    /// Runs ingress or egress.
    pub(crate) fn control(&mut self, control: &Control, egress: bool, p: &mut Packet) {
        let nodes = &*control.nodes;
        let mut at = control.start;
        for _ in 0..MAX_STEPS {
            if !T::ON {
                at = branches(nodes, at, &p.words);
            }
            let Some(node) = nodes.get(at as usize) else { return };
            let to = match node {
                Node::If(condition, yes, no) => {
                    if condition.holds(&self.parts(&[]).context(&p.words)) {
                        *yes
                    } else {
                        *no
                    }
                }
                Node::Table(table) => {
                    let to = self.table(*table, p);
                    if self.scratch.wishes.exit {
                        return;
                    }
                    to
                }
                Node::Call(action, to) => {
                    self.action(*action, p, &[]);
                    if self.scratch.wishes.exit {
                        return;
                    }
                    *to
                }
                branch => branched(branch, &p.words).unwrap_or(END),
            };
            if T::ON
                && let Some((condition, holds)) = control.decided(at, to)
            {
                self.trace.branch(egress, condition, holds);
            }
            at = to;
        }
    }

    #[inline(never)]
    fn table(&mut self, index: u32, p: &mut Packet) -> Next {
        let program = self.program;
        let Some(table) = program.tables.get(index as usize) else {
            return END;
        };
        let mut words = std::mem::take(&mut self.scratch.key);
        key(table, self.parts(&[]), &p.words, &mut words);
        let (hit, record) = self.look_up(index, &words, p);
        self.scratch.key = words;
        let call = record.and_then(|r| match r.leads() {
            Leads::Action(action) => Some((action, r.args())),
            _ => None,
        });
        if let Some((action, args)) = call {
            self.action(action, p, args);
        }
        table.next(hit, call.map(|(action, _)| action))
    }

    /// Looks a key up. Returns whether an entry was hit, and the record of the action to run. Counts and meters the
    /// packet and notes the time of the hit.
    #[inline]
    pub(crate) fn look_up(&mut self, index: u32, key: &[u64], p: &mut Packet) -> (bool, Option<Record<'a>>) {
        let (program, tables) = (self.program, self.tables);
        let (Some(table), Some(entries)) = (program.tables.get(index as usize), tables.table(index as usize)) else {
            return (false, None);
        };
        let found = entries.lookup(key);
        let slot = found.map(|record| record.slot());
        if table.counts {
            self.scratch.counts.add(self.store, index, slot, p.length as u64);
        }
        if table.ages || table.meter.is_some() {
            self.direct(index, table, slot, p);
        }
        let record = match found {
            Some(record) => self.resolve(table, record, p),
            None => Some(entries.default()),
        };
        if T::ON {
            self.trace.table(index, key, slot, record);
        }
        (slot.is_some(), record)
    }

    /// Meters and ages.
    fn direct(&mut self, index: u32, table: &Table, slot: Option<u32>, p: &mut Packet) {
        let Some(direct) = self.store.direct(index as usize) else {
            return;
        };
        if let Some(of) = &table.meter
            && let Some(meter) = direct.meter(slot)
        {
            let (octets, dest) = &**of;
            let size = if *octets { p.length as u64 } else { 1 };
            let colour = meter.mark(size, p.length, self.now_ns);
            dest.set(&self.program.headers, &mut p.words, colour as u64, self.parts(&[]));
        }
        if table.ages
            && let Some(slot) = slot
        {
            direct.hit(slot, self.now_ns);
        }
    }

    /// The action of an entry, through members and groups.
    fn resolve(&mut self, table: &Table, record: Record<'a>, p: &Packet) -> Option<Record<'a>> {
        let tables = self.tables;
        match record.leads() {
            Leads::Action(_) | Leads::Vacant => Some(record),
            Leads::Member(slot) => tables.member(table.profile? as usize, slot),
            Leads::Group(slot) => {
                let profile = table.profile?;
                let group = tables.group(profile as usize, slot)?;
                let hash = self.selector(profile, p);
                let member = group.pick(|port| self.is_up(port), |total| hash % total)?;
                tables.member(profile as usize, member)
            }
        }
    }

    fn selector(&mut self, profile: u32, p: &Packet) -> u64 {
        let context = self.parts(&[]).context(&p.words);
        let of = self.program.profiles.get(profile as usize);
        match of.and_then(|of| of.hash.as_ref()) {
            Some(hash) => hash.run(&self.program.headers, p.payload(), &context, &mut self.scratch.bytes),
            None => 0,
        }
    }
}

/// Builds the key of a look-up: each field in its words, most significant first.
#[inline(always)]
fn key(table: &Table, parts: Parts<'_>, words: &[u64], out: &mut Vec<u64>) {
    out.clear();
    if let [
        KeyPart {
            source: KeySource::Word { slot, mask },
            ..
        },
    ] = &*table.key
    {
        out.push(words[*slot as usize] & mask);
        return;
    }
    for part in &table.key {
        match &part.source {
            KeySource::Word { slot, mask } => out.push(words[*slot as usize] & mask),
            KeySource::HeaderWord { slot, valid, mask } => {
                // All ones where the header is valid.
                let valid = words[*valid as usize].wrapping_neg();
                out.push(words[*slot as usize] & mask & valid);
            }
            KeySource::Words { slot, count, valid } => {
                let (slot, count) = (*slot as usize, *count as usize);
                let start = out.len();
                // All ones where the header is valid, or where there is none.
                let keep = match *valid {
                    NOWHERE => u64::MAX,
                    valid => words[valid as usize].wrapping_neg(),
                };
                words[slot..slot + count].iter().for_each(|word| out.push(word & keep));
                cut(out, start, &part.mask);
            }
            KeySource::Expr(e, mask) => out.push(e.eval(&parts.context(words)) & mask),
            KeySource::Wide(of) => {
                let start = out.len();
                out.resize(start + words_of(of.1) as usize, 0);
                of.0.words(of.1, &parts.context(words), &mut out[start..]);
                cut(out, start, &part.mask);
            }
        }
    }
}

fn cut(key: &mut [u64], start: usize, mask: &[u64]) {
    key[start..].iter_mut().zip(mask).for_each(|(k, m)| *k &= m);
}
