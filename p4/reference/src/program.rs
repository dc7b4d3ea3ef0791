//! A program as packets run it: everything by index.

use rustc_hash::FxHashMap;

use num_bigint::BigUint;

use crate::expr::{Expr, HeaderRef, Place};
use crate::hash::Calculation;
use crate::phv::Header;
use crate::table::KeyField;

/// The destination of a value.
#[derive(Debug, Clone)]
pub(crate) enum Dest {
    /// A field of that width.
    Place(Place, u32),
    /// A header's validity.
    Valid(HeaderRef),
}

/// One step of an action (or of a parser's `primitive`).
#[derive(Debug, Clone)]
pub(crate) enum Step {
    Assign(Dest, Expr),
    /// Assigns one variable-length field to another: destination, source.
    AssignVariable(Place, Place),
    SetValid(HeaderRef, bool),
    /// Pairs of source and destination headers; and the pair of stacks, if stacks are copied.
    CopyHeaders(Vec<(HeaderRef, HeaderRef)>, Option<(usize, usize)>),
    Push(usize, usize),
    Pop(usize, usize),
    MarkToDrop,
    Count(usize, Expr),
    Meter(usize, Expr, Dest),
    RegisterRead(Dest, usize, Expr),
    RegisterWrite(usize, Expr, Expr),
    Hash(Dest, Expr, usize, Expr),
    HashPlain(Dest, usize),
    Random(Dest, Expr, Expr),
    Digest(u32),
    CloneIngress(Expr, Option<usize>),
    CloneEgress(Expr, Option<usize>),
    Resubmit(Option<usize>),
    Recirculate(Option<usize>),
    Truncate(Expr),
    JumpIfZero(Expr, usize),
    Jump(usize),
    Assert(Expr),
    Nothing,
    Exit,
}

/// An action.
#[derive(Debug, Clone)]
pub(crate) struct Action {
    pub(crate) name: String,
    pub(crate) widths: Vec<u32>,
    pub(crate) steps: Vec<Step>,
}

/// A place in a pipeline; `None` is its end.
pub(crate) type Next = Option<usize>;

/// A node of a pipeline.
#[derive(Debug, Clone)]
pub(crate) enum Node {
    Table(usize),
    If(Expr, Next, Next),
    Call(usize, Next),
}

/// How the next node after a table is chosen.
#[derive(Debug, Clone, Default)]
pub(crate) struct TableNext {
    pub(crate) by_action: FxHashMap<usize, Next>,
    pub(crate) hit: Option<Next>,
    pub(crate) miss: Option<Next>,
    pub(crate) base: Next,
}

/// One field of a table's key: what it is computed from, masked.
#[derive(Debug, Clone)]
pub(crate) struct KeyPart {
    pub(crate) expr: Expr,
    /// The header of the field. While that is invalid, the value is 0, as in bmv2.
    pub(crate) header: Option<usize>,
    pub(crate) mask: BigUint,
    pub(crate) field: KeyField,
}

/// A table.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    pub(crate) name: String,
    pub(crate) key: Vec<KeyPart>,
    pub(crate) next: TableNext,
    pub(crate) profile: Option<usize>,
    pub(crate) counts: bool,
    /// Direct meter: whether it counts octets, and where the colour goes.
    pub(crate) meter: Option<(bool, Dest)>,
}

/// A selector's hash, where a profile has one.
#[derive(Debug, Clone)]
pub(crate) struct Profile {
    pub(crate) name: String,
    pub(crate) hash: Option<Calculation>,
}

/// A pipeline (ingress or egress).
#[derive(Debug, Clone, Default)]
pub(crate) struct Pipeline {
    pub(crate) nodes: Vec<Node>,
    pub(crate) start: Next,
}

/// One step of a parser state.
#[derive(Debug, Clone)]
pub(crate) enum ParserStep {
    /// A header; the length of its variable field in bits.
    Extract(usize, Option<Expr>),
    /// The next element of a stack: the header, or this member of the union in a stack of unions.
    ExtractNext(usize, usize, Option<Expr>),
    Set(Dest, Expr),
    /// From bits ahead: offset, width.
    SetAhead(Dest, usize, u32),
    Verify(Expr, Expr),
    Advance(Expr),
    Do(Step),
}

/// A value that a state selects on.
#[derive(Debug, Clone)]
pub(crate) enum Select {
    Value(Expr, u32),
    /// Bits ahead: offset, width.
    Ahead(usize, u32),
}

impl Select {
    pub(crate) fn width(&self) -> u32 {
        match self {
            Self::Value(_, width) | Self::Ahead(_, width) => *width,
        }
    }
}

/// One transition of a state.
#[derive(Debug, Clone)]
pub(crate) enum Case {
    /// Value and mask for each selected value.
    Values(Vec<(BigUint, BigUint)>),
    ValueSet(usize),
    Default,
}

/// A parser state.
#[derive(Debug, Clone)]
pub(crate) struct ParserState {
    pub(crate) steps: Vec<ParserStep>,
    pub(crate) select: Vec<Select>,
    pub(crate) cases: Vec<(Case, Next)>,
}

/// A checksum.
#[derive(Debug, Clone)]
pub(crate) struct Checksum {
    pub(crate) dest: Dest,
    pub(crate) value: Expr,
    pub(crate) calculation: usize,
    pub(crate) condition: Option<Expr>,
    pub(crate) verify: bool,
    pub(crate) update: bool,
}

/// Codes of parser errors that the evaluator itself raises.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Errors {
    pub(crate) too_short: u32,
    pub(crate) no_match: u32,
    pub(crate) stack_out_of_bounds: u32,
    pub(crate) header_too_short: u32,
    pub(crate) timeout: u32,
    pub(crate) invalid_argument: u32,
}

/// Slots of standard metadata. If a program lacks a field, it does not use it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Standard {
    fields: FxHashMap<&'static str, (usize, u32)>,
}

impl Standard {
    pub(crate) const NAMES: [&'static str; 21] = [
        "ingress_port",
        "egress_spec",
        "egress_port",
        "instance_type",
        "packet_length",
        "enq_timestamp",
        "enq_qdepth",
        "deq_timedelta",
        "deq_qdepth",
        "ingress_global_timestamp",
        "egress_global_timestamp",
        "mcast_grp",
        "egress_rid",
        "checksum_error",
        "parser_error",
        "priority",
        "clone_spec",
        "lf_field_list",
        "resubmit_flag",
        "recirculate_flag",
        "qid",
    ];

    pub(crate) fn add(&mut self, name: &str, slot: usize, width: u32) {
        if let Some(name) = Self::NAMES.iter().find(|n| **n == name) {
            self.fields.insert(name, (slot, width));
        }
    }

    pub(crate) fn get(&self, name: &'static str) -> Option<(usize, u32)> {
        self.fields.get(name).copied()
    }
}

/// A whole program.
#[derive(Debug, Clone, Default)]
pub(crate) struct Program {
    pub(crate) headers: Vec<Header>,
    /// Elements of each stack. An element is one header, or the members of the union in a stack of unions.
    pub(crate) stacks: Vec<Vec<Vec<usize>>>,
    pub(crate) slots: usize,
    pub(crate) variables: usize,
    pub(crate) standard: Standard,
    pub(crate) states: Vec<ParserState>,
    pub(crate) parser_start: Next,
    pub(crate) value_sets: Vec<String>,
    pub(crate) actions: Vec<Action>,
    pub(crate) tables: Vec<Table>,
    pub(crate) profiles: Vec<Profile>,
    pub(crate) ingress: Pipeline,
    pub(crate) egress: Pipeline,
    pub(crate) calculations: Vec<Calculation>,
    pub(crate) checksums: Vec<Checksum>,
    pub(crate) deparse: Vec<usize>,
    pub(crate) field_lists: FxHashMap<usize, Vec<(usize, u32)>>,
    /// By id: slots and widths of what is sent.
    pub(crate) digests: FxHashMap<u32, (String, Vec<(Expr, u32)>)>,
    pub(crate) counters: Vec<(String, usize)>,
    /// Name, cells, whether it counts octets.
    pub(crate) meters: Vec<(String, usize, bool)>,
    /// Name, cells, bits.
    pub(crate) registers: Vec<(String, usize, u32)>,
    pub(crate) errors: Errors,
}

impl Program {
    /// The index of the object with that name.
    pub(crate) fn find<T>(all: &[T], name: impl Fn(&T) -> &str, wanted: &str) -> Option<usize> {
        all.iter().position(|x| name(x) == wanted)
    }
}
