//! Writes machine code: words of the arena, branches, and the known values of words.
//!
//! Knowledge about a word - a constant, or the value that was last read from it or written to it - is followed along
//! all paths. Where paths meet, only the knowledge that all of them share remains; at the head of a loop, none does. So
//! a condition that an earlier one decided costs nothing, and neither does writing a value that is already there.

use cranelift_codegen::ir::{
    self, AbiParam, Block, InstBuilder as _, InstructionData, MemFlagsData, Opcode, SigRef, Type, Value, ValueDef,
    condcodes::IntCC, types,
};
use cranelift_codegen::isa::CallConv;
use cranelift_frontend::FunctionBuilder;
use rustc_hash::FxHashMap;

use super::Refused;
use crate::program::Program;

/// Most words about which something is known at a time: each may take stack space in the generated code.
const MAX_KNOWN: usize = 1 << 12;

/// What is known of a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Known {
    Constant(u64),
    Value(Value),
}

/// What is known of all words.
#[derive(Debug, Clone, Default)]
pub(super) struct Facts(FxHashMap<u32, Known>);

/// A place to jump to. All jumps to it are known before its code is written, except those of loops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Label(usize);

/// The state of a label.
#[derive(Debug)]
struct Place {
    block: Block,
    /// What is known there; none while no path leads there.
    facts: Option<Facts>,
    is_written: bool,
}

/// A function that is being written.
pub(super) struct Code<'a, 'f> {
    pub(super) b: FunctionBuilder<'f>,
    pub(super) program: &'a Program,
    pub(super) drop_port: u32,
    pub(super) env: Value,
    words: Value,
    /// The third and fourth argument of the function.
    pub(super) more: [Value; 2],
    facts: Facts,
    places: Vec<Place>,
    /// Signatures of functions that are called, by the number of their arguments.
    signatures: FxHashMap<usize, SigRef>,
    convention: CallConv,
}

/// Arguments of an action, where it has some: their address and how many words.
#[derive(Debug, Clone, Copy)]
pub(super) struct Args(pub(super) Option<(Value, u32)>);

impl Args {
    pub(super) const NONE: Self = Self(None);
}

impl<'a, 'f> Code<'a, 'f> {
    /// A function of four arguments, of which the first two are the environment and the arena.
    pub(super) fn new(mut b: FunctionBuilder<'f>, program: &'a Program, drop_port: u32) -> Result<Self, Refused> {
        let entry = b.create_block();
        b.append_block_params_for_function_params(entry);
        b.switch_to_block(entry);
        let &[env, words, third, fourth] = b.block_params(entry) else {
            return Err(Refused("a function without its arguments"));
        };
        let convention = b.func.signature.call_conv;
        Ok(Self {
            b,
            program,
            drop_port,
            env,
            words,
            more: [third, fourth],
            facts: Facts::default(),
            places: Vec::new(),
            signatures: FxHashMap::default(),
            convention,
        })
    }

    pub(super) fn constant(&mut self, value: u64) -> Value {
        self.b.ins().iconst(types::I64, value as i64)
    }

    /// The number that a value is, where it is a constant.
    pub(super) fn as_constant(&self, value: Value) -> Option<u64> {
        let ValueDef::Result(inst, 0) = self.b.func.dfg.value_def(self.b.func.dfg.resolve_aliases(value)) else {
            return None;
        };
        match self.b.func.dfg.insts[inst] {
            InstructionData::UnaryImm {
                opcode: Opcode::Iconst,
                imm,
            } => Some(imm.bits() as u64),
            _ => None,
        }
    }

    /// Where a word is. All accesses to the arena come from here, so none is outside it.
    fn offset(&self, slot: u32) -> Result<i32, Refused> {
        let inside = (slot as usize) < self.program.blank.len();
        let offset = i32::try_from(u64::from(slot) * 8).ok().filter(|_| inside);
        offset.ok_or(Refused("a word outside the arena"))
    }

    /// Reads a word.
    pub(super) fn load(&mut self, slot: u32) -> Result<Value, Refused> {
        match self.facts.0.get(&slot) {
            Some(Known::Constant(value)) => return Ok(self.constant(*value)),
            Some(Known::Value(value)) => return Ok(*value),
            None => {}
        }
        let offset = self.offset(slot)?;
        let value = self
            .b
            .ins()
            .load(types::I64, MemFlagsData::trusted(), self.words, offset);
        self.facts.0.insert(slot, Known::Value(value));
        Ok(value)
    }

    /// Writes a word.
    pub(super) fn store(&mut self, slot: u32, value: Value) -> Result<(), Refused> {
        let known = match self.as_constant(value) {
            Some(constant) => Known::Constant(constant),
            None => Known::Value(value),
        };
        if self.know(slot, known) == Some(known) {
            return Ok(());
        }
        let offset = self.offset(slot)?;
        self.b.ins().store(MemFlagsData::trusted(), value, self.words, offset);
        Ok(())
    }

    pub(super) fn store_constant(&mut self, slot: u32, value: u64) -> Result<(), Refused> {
        if self.facts.0.get(&slot) == Some(&Known::Constant(value)) {
            return Ok(());
        }
        let value = self.constant(value);
        self.store(slot, value)
    }

    /// Notes what is known of a word; returns what was known before.
    fn know(&mut self, slot: u32, known: Known) -> Option<Known> {
        if self.facts.0.len() >= MAX_KNOWN {
            self.forget();
        }
        self.facts.0.insert(slot, known)
    }

    /// Notes that a word has this value.
    pub(super) fn learn(&mut self, slot: u32, value: u64) {
        self.facts.0.insert(slot, Known::Constant(value));
    }

    /// Forgets everything: words may have been written elsewhere.
    pub(super) fn forget(&mut self) {
        self.facts.0.clear();
    }

    /// What is known here.
    pub(super) fn facts(&self) -> Facts {
        self.facts.clone()
    }

    /// What is known where several paths meet that were not followed.
    pub(super) fn set_facts(&mut self, facts: Facts) {
        self.facts = facts;
    }

    /// `value & mask`.
    pub(super) fn mask(&mut self, value: Value, mask: u64) -> Value {
        if mask == u64::MAX {
            return value;
        }
        if let Some(constant) = self.as_constant(value) {
            return self.constant(constant & mask);
        }
        let mask = self.constant(mask);
        self.b.ins().band(value, mask)
    }

    /// Calls a function of [`super::callback`], which takes words and returns one. Values that are also in the arena
    /// are read again afterwards, which costs less than keeping them in registers. The caller must forget the words
    /// that the function writes.
    pub(super) fn call(&mut self, function: *const (), arguments: &[Value]) -> Value {
        let convention = self.convention;
        let signature = *self.signatures.entry(arguments.len()).or_insert_with(|| {
            let mut signature = ir::Signature::new(convention);
            signature.params.resize(arguments.len(), AbiParam::new(types::I64));
            signature.returns.push(AbiParam::new(types::I64));
            self.b.import_signature(signature)
        });
        let address = self.constant(function as usize as u64);
        let call = self.b.ins().call_indirect(signature, address, arguments);
        self.facts.0.retain(|_, known| matches!(known, Known::Constant(_)));
        self.b.inst_results(call).first().copied().unwrap_or(address)
    }

    /// A word of the environment.
    pub(super) fn load_env(&mut self, offset: usize) -> Value {
        self.b
            .ins()
            .load(types::I64, MemFlagsData::trusted(), self.env, offset as i32)
    }

    pub(super) fn store_env(&mut self, offset: usize, value: Value) {
        self.b
            .ins()
            .store(MemFlagsData::trusted(), value, self.env, offset as i32);
    }

    /// A word of an action's arguments; 0 beyond their end.
    pub(super) fn argument(&mut self, args: Args, at: u32) -> Value {
        match args.0 {
            Some((base, count)) if at < count => {
                let flags = MemFlagsData::trusted();
                self.b.ins().load(types::I64, flags, base, (at * 8) as i32)
            }
            _ => self.constant(0),
        }
    }

    /// A place for words on the stack.
    pub(super) fn room(&mut self, words: u32) -> ir::StackSlot {
        let data = ir::StackSlotData::new(ir::StackSlotKind::ExplicitSlot, words.max(1) * 8, 3);
        self.b.create_sized_stack_slot(data)
    }

    pub(super) fn compare(&mut self, how: IntCC, a: Value, b: Value) -> Value {
        self.b.ins().icmp(how, a, b)
    }

    /// A value of that type, 1 or 0, from a truth value.
    pub(super) fn truth(&mut self, holds: Value, of: Type) -> Value {
        self.b.ins().uextend(of, holds)
    }
}

/// Branches.
impl Code<'_, '_> {
    pub(super) fn label(&mut self) -> Label {
        let block = self.b.create_block();
        self.places.push(Place {
            block,
            facts: None,
            is_written: false,
        });
        Label(self.places.len() - 1)
    }

    /// Notes a path to that label, with what is known now.
    fn arrive(&mut self, label: Label) -> Block {
        let place = &mut self.places[label.0];
        match &mut place.facts {
            None => place.facts = Some(self.facts.clone()),
            Some(facts) => facts.0.retain(|slot, known| self.facts.0.get(slot) == Some(known)),
        }
        place.block
    }

    /// Jumps.
    pub(super) fn jump(&mut self, to: Label) {
        let block = self.arrive(to);
        self.b.ins().jump(block, &[]);
    }

    /// Jumps to the first label if `condition` is not 0, else to the second.
    pub(super) fn branch(&mut self, condition: Value, yes: Label, no: Label) {
        match self.as_constant(condition) {
            Some(0) => self.jump(no),
            Some(_) => self.jump(yes),
            None => {
                let (yes, no) = (self.arrive(yes), self.arrive(no));
                self.b.ins().brif(condition, yes, &[], no, &[]);
            }
        }
    }

    /// Jumps to the first label if some bits of a word have this value, else to the second.
    pub(super) fn branch_if_bits(
        &mut self,
        (slot, mask, value): (u32, u64, u64),
        yes: Label,
        no: Label,
    ) -> Result<(), Refused> {
        let word = self.load(slot)?;
        let bits = self.mask(word, mask);
        if let Some(constant) = self.as_constant(bits) {
            self.jump(if constant == value { yes } else { no });
            return Ok(());
        }
        let wanted = self.constant(value);
        let same = self.compare(IntCC::Equal, bits, wanted);
        let other = self.arrive(no);
        let before = self.facts.0.get(&slot).copied();
        if mask == u64::MAX {
            self.learn(slot, value);
        }
        let block = self.arrive(yes);
        if let Some(known) = before {
            self.facts.0.insert(slot, known);
        }
        self.b.ins().brif(same, block, &[], other, &[]);
        Ok(())
    }

    /// Whether a path leads to this label and its code is not written yet.
    pub(super) fn is_missing(&self, label: Label) -> bool {
        let place = &self.places[label.0];
        place.facts.is_some() && !place.is_written
    }

    /// Whether the code of every label with a path to it is written.
    pub(super) fn is_whole(&self) -> bool {
        (0..self.places.len()).all(|at| !self.is_missing(Label(at)))
    }

    /// Continues writing at a label; false if no path leads there.
    pub(super) fn place(&mut self, label: Label) -> bool {
        let place = &mut self.places[label.0];
        let Some(facts) = place.facts.take() else { return false };
        place.is_written = true;
        self.facts = facts;
        self.b.switch_to_block(place.block);
        true
    }

    /// Jumps to the case of a number, or to the default. If several cases have the same number, the first one counts.
    pub(super) fn switch(&mut self, on: Value, cases: &[(u64, Label)], otherwise: Label) {
        let mut switch = cranelift_frontend::Switch::new();
        for (number, label) in cases {
            if !switch.entries().contains_key(&u128::from(*number)) {
                let block = self.arrive(*label);
                switch.set_entry((*number).into(), block);
            }
        }
        let otherwise = self.arrive(otherwise);
        switch.emit(&mut self.b, on, otherwise);
    }
}
