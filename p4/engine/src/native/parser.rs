//! The parser as machine code. It counts in octets, so it supports only programs whose headers have whole octets.

use cranelift_codegen::ir::{Block, BlockArg, InstBuilder as _, MemFlagsData, Value, condcodes::IntCC, types};

use super::code::{Args, Code, Label};
use super::{Env, Refused, callback};
use crate::layout::{Header, Load};
use crate::parse::MAX_STATES;
use crate::program::{Case, END, Next, ParserOp, Select, State, Value as Computed};
use crate::word::mask64;

/// What the parser returns where there is not an error; no error has so large a code.
pub(super) const FINE: u64 = u64::MAX;

/// The parser, as it is being written.
struct Parser {
    /// The frame, and its octets.
    data: Value,
    length: Value,
    /// One for each state; they take the position in the frame and the number of states that are left.
    states: Vec<Block>,
    /// Takes the position in the frame.
    end: Block,
    /// Takes the position in the frame and the error.
    failed: Block,
}

/// Where the parser is.
#[derive(Clone, Copy)]
struct Here {
    /// Octets.
    at: Value,
    /// States that are left.
    left: Value,
}

impl Code<'_, '_> {
    /// Writes the parser, and the function's end.
    pub(super) fn parser(&mut self) -> Result<(), Refused> {
        let program = self.program;
        let whole = |h: &Header| h.metadata || h.fixed_bits.is_multiple_of(8);
        if !program.headers.iter().all(whole) {
            return Err(Refused("a header that is not of whole octets"));
        }
        let [data, length] = self.more;
        let states = program.states.iter().map(|_| {
            let block = self.b.create_block();
            self.b.append_block_param(block, types::I64);
            self.b.append_block_param(block, types::I64);
            block
        });
        let states = states.collect();
        let (end, failed) = (self.b.create_block(), self.b.create_block());
        self.b.append_block_param(end, types::I64);
        self.b.append_block_param(failed, types::I64);
        self.b.append_block_param(failed, types::I64);
        let parser = Parser {
            data,
            length,
            states,
            end,
            failed,
        };
        let here = Here {
            at: self.constant(0),
            left: self.constant(MAX_STATES as u64),
        };
        self.enter(&parser, program.parser_start, here);
        for (state, block) in program.states.iter().zip(&parser.states) {
            self.b.switch_to_block(*block);
            // States may lead to each other in any order.
            self.forget();
            let &[at, left] = self.b.block_params(*block) else {
                return Err(Refused("a state without its parameters"));
            };
            self.state(&parser, state, Here { at, left })?;
        }
        for (block, with_error) in [(end, false), (failed, true)] {
            self.b.switch_to_block(block);
            let parameters = self.b.block_params(block).to_vec();
            let at = parameters
                .first()
                .copied()
                .ok_or(Refused("an end without its parameters"))?;
            self.store_env(std::mem::offset_of!(Env, at), at);
            let fine = self.constant(FINE);
            let error = parameters.get(1).copied().filter(|_| with_error);
            self.b.ins().return_(&[error.unwrap_or(fine)]);
        }
        Ok(())
    }

    /// Goes on in a state, or at the end.
    fn enter(&mut self, parser: &Parser, next: Next, here: Here) {
        match parser.states.get(next as usize) {
            Some(block) => {
                let arguments = [BlockArg::Value(here.at), BlockArg::Value(here.left)];
                self.b.ins().jump(*block, &arguments);
            }
            None => {
                self.b.ins().jump(parser.end, &[BlockArg::Value(here.at)]);
            }
        }
    }

    /// Ends with an error unless this holds.
    fn require(&mut self, parser: &Parser, holds: Value, at: Value, error: Value) {
        let on = self.b.create_block();
        let arguments = [BlockArg::Value(at), BlockArg::Value(error)];
        self.b.ins().brif(holds, on, &[], parser.failed, &arguments);
        self.b.switch_to_block(on);
    }

    /// Ends with an error unless the frame has this many more octets; returns the position after them.
    fn ahead(&mut self, parser: &Parser, at: Value, octets: u64) -> Value {
        let octets = self.constant(octets);
        let end = self.b.ins().iadd(at, octets);
        let fits = self.compare(IntCC::UnsignedLessThanOrEqual, end, parser.length);
        let error = self.constant(self.program.errors.too_short);
        self.require(parser, fits, at, error);
        end
    }

    fn state(&mut self, parser: &Parser, state: &State, here: Here) -> Result<(), Refused> {
        let one = self.constant(1);
        let left = self.b.ins().isub(here.left, one);
        // As in the interpreter, a parser that exceeds its bound ends without an error.
        let (on, zero) = (self.b.create_block(), self.constant(0));
        let any = self.compare(IntCC::NotEqual, here.left, zero);
        self.b.ins().brif(any, on, &[], parser.end, &[BlockArg::Value(here.at)]);
        self.b.switch_to_block(on);
        let mut here = Here { at: here.at, left };
        for op in &state.ops {
            here.at = self.parser_op(parser, op, here.at)?;
        }
        self.transition(parser, state, here)
    }

    /// Writes an operation; returns the position in the frame after it.
    fn parser_op(&mut self, parser: &Parser, op: &ParserOp, at: Value) -> Result<Value, Refused> {
        match op {
            ParserOp::Extract(header) => {
                let header = self.program.headers.get(*header as usize);
                let header = header.filter(|h| h.variable.is_none());
                if let Some(header) = header {
                    return self.extract(parser, header, at);
                }
            }
            ParserOp::Look(load, end) => {
                self.ahead(parser, at, u64::from(*end).div_ceil(8));
                let value = self.wire(parser, load, at);
                self.store(load.slot, value)?;
                return Ok(at);
            }
            ParserOp::Verify(condition, error) => {
                let (holds, error) = (self.holds(condition, Args::NONE)?, self.expr(error, Args::NONE)?);
                self.require(parser, holds, at, error);
                return Ok(at);
            }
            ParserOp::Do(ops) => {
                // None of them jumps, and operations that end an action mean nothing here.
                let end = self.label();
                if self.ops(ops, Args::NONE, end)? {
                    self.jump(end);
                }
                self.place(end);
                return Ok(at);
            }
            _ => {}
        }
        let (env, of) = (self.env, self.constant(std::ptr::from_ref(op) as u64));
        let error = self.call(callback::parser_op as *const (), &[env, of, at]);
        self.forget();
        let fine = self.constant(FINE);
        let holds = self.compare(IntCC::Equal, error, fine);
        self.require(parser, holds, at, error);
        Ok(self.load_env(std::mem::offset_of!(Env, at)))
    }

    fn extract(&mut self, parser: &Parser, header: &Header, at: Value) -> Result<Value, Refused> {
        let end = self.ahead(parser, at, u64::from(header.fixed_bits / 8));
        for load in &header.loads {
            let value = self.wire(parser, load, at);
            self.store(load.slot, value)?;
        }
        self.store_constant(header.slot, 1)?;
        for rival in &header.rivals {
            self.store_constant(*rival, 0)?;
        }
        Ok(end)
    }

    /// Octets of the frame in network order. It begins in the frame, behind which there is room.
    fn octets(&mut self, parser: &Parser, at: Value, offset: u32) -> Value {
        let address = self.b.ins().iadd(parser.data, at);
        let flags = MemFlagsData::new().with_notrap();
        let word = self.b.ins().load(types::I64, flags, address, offset as i32);
        self.b.ins().bswap(word)
    }

    /// A word read from the frame.
    fn wire(&mut self, parser: &Parser, load: &Load, at: Value) -> Value {
        let word = self.octets(parser, at, load.octet);
        let value = if load.spill == 0 {
            let by = self.constant(load.shift.into());
            self.b.ins().ushr(word, by)
        } else {
            let next = self.octets(parser, at, load.octet.saturating_add(8));
            let (up, down) = (
                self.constant(load.spill.into()),
                self.constant(64 - u64::from(load.spill)),
            );
            let (high, low) = (self.b.ins().ishl(word, up), self.b.ins().ushr(next, down));
            self.b.ins().bor(high, low)
        };
        // The bits that a shift leaves need no mask.
        if load.spill == 0 && load.mask == u64::MAX >> load.shift {
            value
        } else {
            self.mask(value, load.mask)
        }
    }

    /// Writes where a state leads.
    fn transition(&mut self, parser: &Parser, state: &State, here: Here) -> Result<(), Refused> {
        let mut keys = Vec::new();
        for of in &state.select {
            match self.selected(parser, of, here.at)? {
                Some(key) => keys.push(key),
                None => return self.interpreted_transition(parser, state, here),
            }
        }
        if state.cases.iter().any(|case| matches!(case, Case::ValueSet(..))) {
            return self.interpreted_transition(parser, state, here);
        }
        for case in &state.cases {
            let Case::Words(words, next) = case else { continue };
            let (taken, other) = (self.b.create_block(), self.b.create_block());
            let mut differs = self.constant(0);
            for ((value, mask), key) in words.iter().zip(&keys) {
                let (bits, value) = (self.mask(*key, *mask), self.constant(*value));
                let difference = self.b.ins().bxor(bits, value);
                differs = self.b.ins().bor(differs, difference);
            }
            self.b.ins().brif(differs, other, &[], taken, &[]);
            self.b.switch_to_block(taken);
            self.enter(parser, *next, here);
            self.b.switch_to_block(other);
        }
        match state.default {
            Some(next) => self.enter(parser, next, here),
            None => {
                let error = self.constant(self.program.errors.no_match);
                let arguments = [BlockArg::Value(here.at), BlockArg::Value(error)];
                self.b.ins().jump(parser.failed, &arguments);
            }
        }
        Ok(())
    }

    /// What a state selects on, in one word; none if one word is not enough.
    fn selected(&mut self, parser: &Parser, of: &Select, at: Value) -> Result<Option<Value>, Refused> {
        Ok(match of {
            Select::Word(slot) => Some(self.load(*slot)?),
            Select::Value(Computed::Word(e), width @ 1..=64) => {
                let value = self.expr(e, Args::NONE)?;
                Some(self.mask(value, mask64(*width)))
            }
            Select::Ahead(offset, width) if *width > 0 && offset % 8 + width <= 64 => {
                self.ahead(parser, at, u64::from(offset + width).div_ceil(8));
                let word = self.octets(parser, at, offset / 8);
                let by = self.constant(u64::from(64 - (offset % 8 + width)));
                let value = self.b.ins().ushr(word, by);
                Some(self.mask(value, mask64(*width)))
            }
            _ => None,
        })
    }

    /// Asks the interpreter where a state leads.
    fn interpreted_transition(&mut self, parser: &Parser, state: &State, here: Here) -> Result<(), Refused> {
        let (env, of) = (self.env, self.constant(std::ptr::from_ref(state) as u64));
        let next = self.call(callback::transition as *const (), &[env, of, here.at]);
        let nexts = state.cases.iter().map(|case| match case {
            Case::Words(_, next) | Case::ValueSet(_, next) => *next,
        });
        let mut nexts: Vec<Next> = nexts.chain(state.default).collect();
        nexts.sort_unstable();
        nexts.dedup();
        let failed = self.label();
        let labels: Vec<(u64, Label)> = nexts.iter().map(|next| (u64::from(*next), self.label())).collect();
        self.switch(next, &labels, failed);
        for (next, label) in labels {
            if self.place(label) {
                self.enter(parser, Next::try_from(next).unwrap_or(END), here);
            }
        }
        if self.place(failed) {
            let error = self.load_env(std::mem::offset_of!(Env, error));
            let arguments = [BlockArg::Value(here.at), BlockArg::Value(error)];
            self.b.ins().jump(parser.failed, &arguments);
        }
        Ok(())
    }
}
