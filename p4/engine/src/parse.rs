//! The parser: from octets to headers, state by state.

use crate::action::quick;
use crate::core::Core;
use crate::layout::Header;
use crate::packet::Packet;
use crate::program::{Case, END, Next, ParserOp, Select, State};
use crate::trace::Trace;
use crate::wire;
use crate::word::words_of;

/// States of one parse: a parser that loops without reading ends here.
pub(crate) const MAX_STATES: usize = 512;

impl<T: Trace> Core<'_, T> {
    /// Parses the frame; the error, if there is one, goes to the metadata.
    pub(crate) fn parse(&mut self, p: &mut Packet) {
        let program = self.program;
        let mut at = 0;
        let mut next = program.parser_start;
        for _ in 0..MAX_STATES {
            let Some(state) = program.states.get(next as usize) else {
                break;
            };
            if T::ON {
                self.trace.state(next, at);
            }
            match self.state(state, p, &mut at) {
                Ok(to) => next = to,
                Err(error) => {
                    if T::ON {
                        self.trace.parser_error(error);
                    }
                    program.standard.parser_error.set(&mut p.words, error);
                    break;
                }
            }
            if next == END {
                break;
            }
        }
        p.set_parsed(at / 8);
        if T::ON {
            self.trace.arena(&p.words);
        }
    }

    fn state(&mut self, state: &State, p: &mut Packet, at: &mut usize) -> Result<Next, u64> {
        for op in &state.ops {
            self.parser_op(op, p, at)?;
        }
        self.transition(state, p, *at)
    }

    /// Where a state leads, at a bit of the frame.
    pub(crate) fn transition(&mut self, state: &State, p: &Packet, at: usize) -> Result<Next, u64> {
        match (&*state.select, state.default) {
            ([], Some(next)) if state.cases.is_empty() => return Ok(next),
            // The usual case: one word decides.
            ([Select::Word(slot)], _) => {
                let word = p.words[*slot as usize];
                for case in &state.cases {
                    match case {
                        Case::Words(words, next) if words.iter().all(|(v, m)| word & m == *v) => return Ok(*next),
                        Case::ValueSet(set, next) if self.tables.in_value_set(*set as usize, &[word]) => {
                            return Ok(*next);
                        }
                        _ => {}
                    }
                }
            }
            (select, _) => {
                self.select(select, p, at)?;
                let key = &self.scratch.key;
                for case in &state.cases {
                    match case {
                        Case::Words(words, next) if words.iter().zip(key).all(|((v, m), k)| k & m == *v) => {
                            return Ok(*next);
                        }
                        Case::ValueSet(set, next) if self.tables.in_value_set(*set as usize, key) => return Ok(*next),
                        _ => {}
                    }
                }
            }
        }
        state.default.ok_or(self.program.errors.no_match)
    }

    fn select(&mut self, select: &[Select], p: &Packet, at: usize) -> Result<(), u64> {
        let parts = self.parts(&[]);
        let key = &mut self.scratch.key;
        key.clear();
        for of in select {
            match of {
                Select::Word(slot) => key.push(p.words[*slot as usize]),
                Select::Ahead(offset, width) => {
                    let (data, length) = p.octets();
                    let start = key.len();
                    key.resize(start + words_of(*width) as usize, 0);
                    let read = wire::read_words(&data[..length], at + *offset as usize, *width, &mut key[start..]);
                    read.ok_or(self.program.errors.too_short)?;
                }
                Select::Value(value, width) => {
                    let start = key.len();
                    key.resize(start + words_of(*width) as usize, 0);
                    value.words(*width, &parts.context(&p.words), &mut key[start..]);
                }
            }
        }
        Ok(())
    }

    /// Runs an operation of a state, at a bit of the frame.
    pub(crate) fn parser_op(&mut self, op: &ParserOp, p: &mut Packet, at: &mut usize) -> Result<(), u64> {
        let program = self.program;
        let errors = &program.errors;
        let parts = self.parts(&[]);
        match op {
            ParserOp::Extract(h) => self.extract(*h, None, p, at)?,
            ParserOp::ExtractVariable(h, bits) => {
                let bits = bits.eval(&parts.context(&p.words));
                self.extract(*h, Some(bits), p, at)?;
            }
            ParserOp::ExtractNext(stack, elements, bits) => {
                let bits = bits.as_ref().map(|bits| bits.eval(&parts.context(&p.words)));
                self.extract_next(*stack, elements, bits, p, at)?;
            }
            ParserOp::Ahead(dest, offset, width) => {
                let (data, length, words) = p.split();
                let from = *at + *offset as usize;
                if *width <= 64 {
                    let value = wire::read(&data[..length], from, *width).ok_or(errors.too_short)?;
                    dest.set(&program.headers, words, value, parts);
                } else {
                    let key = &mut self.scratch.key;
                    key.clear();
                    key.resize(words_of(*width) as usize, 0);
                    wire::read_words(&data[..length], from, *width, key).ok_or(errors.too_short)?;
                    dest.set_words(words, key, parts);
                }
            }
            ParserOp::Verify(condition, error) => {
                let c = parts.context(&p.words);
                if !condition.holds(&c) {
                    return Err(error.eval(&c));
                }
            }
            ParserOp::Advance(bits) => {
                let bits = usize::try_from(bits.eval(&parts.context(&p.words))).map_err(|_| errors.too_short)?;
                if !bits.is_multiple_of(8) {
                    return Err(errors.invalid_argument);
                }
                let (_, length) = p.octets();
                let end = at.checked_add(bits).filter(|end| *end <= length * 8);
                *at = end.ok_or(errors.too_short)?;
            }
            ParserOp::Look(load, end) => {
                let (data, length, words) = p.split();
                if *at + *end as usize > length * 8 {
                    return Err(errors.too_short);
                }
                words[load.slot as usize] = if at.is_multiple_of(8) {
                    load.read(data, *at / 8)
                } else {
                    let width = load.mask.count_ones();
                    let from = *at + (end - width) as usize;
                    wire::read(&data[..length], from, width).ok_or(errors.too_short)?
                };
            }
            ParserOp::Do(ops) => {
                let mut next = 0;
                loop {
                    next = quick(ops, next, &mut p.words, &[]);
                    let Some(op) = ops.get(next) else { break };
                    self.slow(op, p, &[]);
                    next += 1;
                }
            }
        }
        Ok(())
    }

    fn extract_next(
        &mut self,
        stack: u32,
        elements: &[u32],
        variable: Option<u64>,
        p: &mut Packet,
        at: &mut usize,
    ) -> Result<(), u64> {
        let out_of_bounds = self.program.errors.stack_out_of_bounds;
        let stack = self.program.stacks.get(stack as usize).ok_or(out_of_bounds)?;
        let next = p.words[stack.next as usize] as usize;
        let header = elements.get(next).ok_or(out_of_bounds)?;
        self.extract(*header, variable, p, at)?;
        p.words[stack.next as usize] += 1;
        Ok(())
    }

    /// Extracts a header; of one with a variable field, how many bits that has.
    fn extract(&mut self, header: u32, variable: Option<u64>, p: &mut Packet, at: &mut usize) -> Result<(), u64> {
        let errors = &self.program.errors;
        let Some(header) = self.program.headers.get(header as usize) else {
            return Ok(());
        };
        let (data, length, words) = p.split();
        let end = *at + header.fixed_bits as usize;
        if header.variable.is_none() {
            if end > length * 8 {
                return Err(errors.too_short);
            }
            if at.is_multiple_of(8) {
                let from = *at / 8;
                for load in &header.loads {
                    words[load.slot as usize] = load.read(data, from);
                }
                *at = end;
            } else {
                read_fields(header, 0, &data[..length], at, words).ok_or(errors.too_short)?;
            }
        } else {
            // Errors have the order of BMv2: the first one counts.
            let most = header.fields.iter().find(|f| f.variable).map_or(0, |f| f.width);
            let bits = variable.unwrap_or(0);
            if !bits.is_multiple_of(8) {
                return Err(errors.invalid_argument);
            }
            if end.saturating_add(bits as usize) > length * 8 {
                return Err(errors.too_short);
            }
            if bits > u64::from(most) {
                return Err(errors.header_too_short);
            }
            read_fields(header, bits as u32, &data[..length], at, words).ok_or(errors.too_short)?;
        }
        words[header.slot as usize] = 1;
        header.rivals.iter().for_each(|slot| words[*slot as usize] = 0);
        Ok(())
    }
}

/// Reads all fields bit by bit.
fn read_fields(header: &Header, variable: u32, data: &[u8], at: &mut usize, words: &mut [u64]) -> Option<()> {
    for field in &header.fields {
        let slot = field.slot as usize;
        let of = &mut words[slot..slot + field.words() as usize];
        if field.variable {
            let (length, content) = of.split_first_mut()?;
            *length = variable.into();
            content.fill(0);
            let mut left = variable;
            for word in content.iter_mut().take(words_of(variable) as usize) {
                let bits = left.min(64);
                *word = wire::read(data, *at, bits)? << (64 - bits);
                *at += bits as usize;
                left -= bits;
            }
        } else {
            wire::read_words(data, *at, field.width, of)?;
            *at += field.width as usize;
        }
    }
    Some(())
}
