//! Machine code for a program. It is ready a few milliseconds after the program was loaded, and then runs the packets.
//!
//! # Model
//! A [`Program`] becomes four functions over a packet's arena: the parser, ingress (with the verification of
//! checksums), egress, and the deparser (with their update). Slots become addresses, branches become branches, actions
//! are inlined where tables call them, and a word whose value is known is not tested again ([`code`]). Look-ups
//! and rare operations (hashes, registers, meters, stacks by index, arithmetic without bounds) call the
//! interpreter ([`callback`]), so they are still defined in one place.
//!
//! The interpreter also runs traced packets, everything on machines for which no code can be made, and each stage
//! that this module refuses: headers that are not whole octets, keys beyond bounds. So machine code
//! changes only the cost and not the behaviour, and the tests run programs both ways.
//!
//! # Invariants
//! - Code reads and writes the arena only at slots below its length; [`code::Code`] refuses others. From the moment a packet
//!   is filled in, its arena has the length of the program's blank one.
//! - Each read of the frame begins inside the frame and goes at most 15 octets further; packets keep 16 octets behind their
//!   end. Code writes headers only before the payload, and refuses programs whose headers need more room than there is.
//! - It reads arguments of an action only within the words of its parameters; a table's records have room for
//!   the arguments of each of its actions.
//! - Addresses in it belong to the program that it was made from, and to functions of this library. Both live as long as
//!   the pipeline, which drops the code with them.
//! - Loops of parsers and controls are counted, as the interpreter counts them.
//! - Pages with code are never writable at the same time.
//!
//! # Cost
//! A separate thread makes the code, which takes as long as compiling functions of that size: some milliseconds for the
//! fabric's leaf. It needs some hundred kilobytes of memory.
#![allow(unsafe_code)]

mod callback;
mod code;
mod control;
mod deparser;
mod expr;
mod op;
mod parser;

use std::ffi::c_void;
use std::mem::ManuallyDrop;

use cranelift_codegen::ir::{AbiParam, types};
use cranelift_codegen::settings::{self, Configurable as _};
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext};
use cranelift_jit::{JITBuilder, JITModule};
use cranelift_module::{FuncId, Linkage, Module as _};

use crate::core::Core;
use crate::packet::Packet;
use crate::program::{Control, Program};
use crate::refused::Refused;
use crate::trace::NoTrace;
use code::Code;

/// Most operations, nodes and states of a program for which code is made.
const MAX_SIZE: usize = 1 << 15;

/// Data that machine code and its callbacks exchange.
#[repr(C)]
struct Env {
    /// Arguments of the entry that was found last.
    args: *const u64,
    args_count: u64,
    /// Octets by which headers that were added and removed changed the length of the packet.
    added: i64,
    /// Where the parser is, or ended.
    at: u64,
    /// Its error.
    error: u64,
    /// The high word of an expression.
    high: u64,
    /// The [`Run`].
    run: *mut c_void,
}

/// The data of callbacks.
struct Run<'a, 'p> {
    core: Core<'a, NoTrace>,
    packet: &'p mut Packet,
}

/// A stage: environment, arena, and for the parser the frame and its octets, for the deparser where headers end.
type Stage = unsafe extern "C" fn(*mut Env, *mut u64, *const u8, u64) -> u64;

/// The stages of a program.
pub(crate) struct Native {
    /// Only dropped to give its memory back.
    module: ManuallyDrop<JITModule>,
    parser: Option<Stage>,
    ingress: Option<Stage>,
    egress: Option<Stage>,
    deparser: Option<Stage>,
    refused: Vec<(&'static str, Refused)>,
}

// SAFETY: once the code is made, the module is used only to give its memory back. The code itself is read only, and
// gets everything that it works on as arguments.
unsafe impl Send for Native {}
// SAFETY: as above.
unsafe impl Sync for Native {}

impl Drop for Native {
    fn drop(&mut self) {
        // SAFETY: it is not used again. Running its code borrows `self`, so nobody runs it now.
        unsafe { ManuallyDrop::take(&mut self.module).free_memory() };
    }
}

/// An error of the library that makes code.
fn failed(error: impl std::fmt::Display) -> Refused {
    tracing::debug!(%error, "machine code");
    Refused::PANIC
}

impl Native {
    /// Makes code for a program.
    ///
    /// # Errors
    /// No code can be made for this machine, or the program is too large.
    ///
    /// # Safety
    /// The program's data on the heap must stay in place, unchanged, as long as the code lives.
    pub(crate) unsafe fn new(program: &Program, drop_port: u32) -> Result<Self, Refused> {
        if cfg!(not(all(target_endian = "little", target_pointer_width = "64"))) {
            return Err(Refused("machine code is made for 64-bit little-endian machines only"));
        }
        let nodes = program.ingress.nodes.len() + program.egress.nodes.len();
        let ops: usize = program.actions.iter().map(|a| a.ops.len()).sum();
        if nodes + ops + program.states.len() > MAX_SIZE {
            return Err(Refused("the program is too large"));
        }
        let mut flags = settings::builder();
        for (name, value) in [
            ("opt_level", "speed"),
            ("is_pic", "false"),
            ("use_colocated_libcalls", "false"),
            ("enable_verifier", if cfg!(debug_assertions) { "true" } else { "false" }),
        ] {
            flags.set(name, value).map_err(failed)?;
        }
        let isa = cranelift_native::builder().map_err(failed)?;
        let isa = isa.finish(settings::Flags::new(flags)).map_err(failed)?;
        let names = cranelift_module::default_libcall_names();
        let mut maker = Maker {
            module: JITModule::new(JITBuilder::with_isa(isa, names)),
            context: FunctionBuilderContext::new(),
            program,
            drop_port,
            refused: Vec::new(),
        };
        let stages = [
            maker.stage("parser", |code| code.parser()),
            maker.stage("ingress", |code| {
                code.verify()?;
                code.whole(&program.ingress)
            }),
            maker.stage("egress", |code| code.whole(&program.egress)),
            maker.stage("deparser", |code| {
                code.update()?;
                code.deparser()
            }),
        ];
        let Maker {
            mut module, refused, ..
        } = maker;
        module.finalize_definitions().map_err(failed)?;
        let [parser, ingress, egress, deparser] = stages.map(|stage| {
            let address = module.get_finalized_function(stage?);
            // SAFETY: that function has this signature.
            Some(unsafe { std::mem::transmute::<*const u8, Stage>(address) })
        });
        Ok(Self {
            module: ManuallyDrop::new(module),
            parser,
            ingress,
            egress,
            deparser,
            refused,
        })
    }

    /// Stages that the interpreter runs, with the reason.
    pub(crate) fn refused(&self) -> &[(&'static str, Refused)] {
        &self.refused
    }

    /// Runs a stage.
    fn run(stage: Stage, core: Core<'_, NoTrace>, packet: &mut Packet, two: (*const u8, u64)) -> (u64, u64) {
        let words = packet.words.as_mut_ptr();
        debug_assert_eq!(packet.words.len(), core.program.blank.len());
        let mut run = Run { core, packet };
        let mut env = Env {
            args: std::ptr::null(),
            args_count: 0,
            added: 0,
            at: 0,
            error: 0,
            high: 0,
            run: std::ptr::from_mut(&mut run).cast(),
        };
        // SAFETY: the stage was made for the program that the packet was filled for, so its arena has the length that
        // the code counts on; the other arguments are what the callers below say. See the module's invariants.
        let result = unsafe { stage(&mut env, words, two.0, two.1) };
        run.packet.register_length += env.added;
        (result, env.at)
    }

    /// Parses the frame; false if the interpreter has to.
    pub(crate) fn parse(&self, core: Core<'_, NoTrace>, packet: &mut Packet) -> bool {
        let Some(stage) = self.parser else { return false };
        let parser_error = core.program.standard.parser_error;
        let (octets, length) = packet.octets();
        // The frame's octets, with the room behind them that `Packet` keeps.
        let two = (octets.as_ptr(), length as u64);
        let (error, at) = Self::run(stage, core, packet, two);
        if error != parser::FINE {
            parser_error.set(&mut packet.words, error);
        }
        packet.set_parsed(at as usize);
        true
    }

    /// Verifies checksums and runs ingress; false if the interpreter has to.
    pub(crate) fn ingress(&self, core: Core<'_, NoTrace>, packet: &mut Packet) -> bool {
        let Some(stage) = self.ingress else { return false };
        Self::run(stage, core, packet, (std::ptr::null(), 0));
        true
    }

    /// Runs egress; false if the interpreter has to.
    pub(crate) fn egress(&self, core: Core<'_, NoTrace>, packet: &mut Packet) -> bool {
        let Some(stage) = self.egress else { return false };
        Self::run(stage, core, packet, (std::ptr::null(), 0));
        true
    }

    /// Updates checksums and writes the headers; false if the interpreter has to.
    pub(crate) fn deparse(&self, core: Core<'_, NoTrace>, packet: &mut Packet) -> bool {
        let Some(stage) = self.deparser else { return false };
        let Some(payload) = packet.roomy_payload() else {
            return false;
        };
        let (octets, _) = Self::run(stage, core, packet, (payload, 0));
        packet.set_headers(octets as usize);
        true
    }
}

/// Makes stages.
struct Maker<'a> {
    module: JITModule,
    context: FunctionBuilderContext,
    program: &'a Program,
    drop_port: u32,
    refused: Vec<(&'static str, Refused)>,
}

impl<'a> Maker<'a> {
    /// A stage; none where the interpreter has to run it.
    fn stage(
        &mut self,
        name: &'static str,
        write: impl FnOnce(&mut Code<'a, '_>) -> Result<(), Refused>,
    ) -> Option<FuncId> {
        let made = self.make(name, write);
        made.map_err(|reason| self.refused.push((name, reason))).ok()
    }

    fn make(
        &mut self,
        name: &str,
        write: impl FnOnce(&mut Code<'a, '_>) -> Result<(), Refused>,
    ) -> Result<FuncId, Refused> {
        let mut context = self.module.make_context();
        let signature = &mut context.func.signature;
        signature.params.resize(4, AbiParam::new(types::I64));
        signature.returns.push(AbiParam::new(types::I64));
        let config = self.module.target_config();
        let builder = FunctionBuilder::new(&mut context.func, &mut self.context);
        let mut code = Code::new(builder, self.program, self.drop_port)?;
        if let Err(refused) = write(&mut code) {
            // The context is left half used.
            self.context = FunctionBuilderContext::new();
            return Err(refused);
        }
        if !code.is_whole() {
            self.context = FunctionBuilderContext::new();
            return Err(Refused("a place that is not written"));
        }
        code.b.seal_all_blocks();
        code.b.finalize(config);
        let function = self
            .module
            .declare_function(name, Linkage::Local, &context.func.signature);
        let function = function.map_err(failed)?;
        self.module.define_function(function, &mut context).map_err(failed)?;
        Ok(function)
    }
}

impl Code<'_, '_> {
    /// A control as a function.
    fn whole(&mut self, control: &Control) -> Result<(), Refused> {
        use cranelift_codegen::ir::InstBuilder as _;
        self.control(control)?;
        let zero = self.constant(0);
        self.b.ins().return_(&[zero]);
        Ok(())
    }
}
