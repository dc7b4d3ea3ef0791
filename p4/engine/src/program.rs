//! The program that packets run through: everything by index, made once by `lower`.

use rustc_hash::FxHashMap;

use crate::expr::Expr;
use crate::hash::Calculation;
use crate::layout::{Header, Load};
use crate::pick::Pick;
use crate::term::Term;

/// A place in a pipeline or a parser.
pub(crate) type Next = u32;
/// The end of a pipeline or parser.
pub(crate) const END: Next = u32::MAX;
/// No slot: the program does not have that field.
pub(crate) const NOWHERE: u32 = u32::MAX;

/// Where the result of something goes.
#[derive(Debug, Clone)]
pub(crate) enum Dest {
    /// A field: its first word, its bits.
    Field(u32, u32),
    /// A header's validity.
    Valid(u32),
    /// A field of one of a stack's elements, and its bits.
    Picked(Pick, u32),
}

/// A value of any width.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    Word(Expr<u64>),
    Wide(Expr<u128>),
    Big(Box<Term>),
}

/// One step of an action, or of a parser state. Expressions are boxed, so that a step is small and
/// its kind is a number that can be tested quickly.
#[derive(Debug, Clone)]
pub(crate) enum Op {
    /// A constant to a word.
    Constant {
        slot: u32,
        value: u64,
    },
    /// A word to a word, cut.
    Copy {
        slot: u32,
        from: u32,
        mask: u64,
    },
    /// An argument's word to a word, cut.
    Argument {
        slot: u32,
        at: u32,
        mask: u64,
    },
    /// A word with bits set, cut.
    Or {
        slot: u32,
        from: u32,
        with: u64,
        mask: u64,
    },
    /// An argument's word with bits set, cut.
    OrArgument {
        slot: u32,
        at: u32,
        with: u64,
        mask: u64,
    },
    /// A word shifted right, cut.
    Shift {
        slot: u32,
        from: u32,
        by: u32,
        mask: u64,
    },
    /// A word plus a constant, cut.
    Add {
        slot: u32,
        from: u32,
        plus: u64,
        mask: u64,
    },
    /// Words to words.
    CopyWords {
        slot: u32,
        from: u32,
        count: u32,
    },
    /// Words of an argument to words.
    ArgumentWords {
        slot: u32,
        at: u32,
        count: u32,
    },
    /// Sets a word to an expression, cut to its width.
    Set {
        slot: u32,
        mask: u64,
        value: Box<Expr<u64>>,
    },
    /// Sets two words to an expression.
    SetWide {
        slot: u32,
        mask: u64,
        value: Box<Expr<u128>>,
    },
    /// Anything to anywhere.
    Assign(Box<(Dest, Value)>),
    /// Makes a header valid; one that was not is filled with zeros.
    Validate(u32),
    Invalidate(u32),
    /// Copies a header with its validity.
    CopyHeader {
        from: u32,
        to: u32,
    },
    /// Copies headers, and how many of a stack's elements are valid (slots).
    CopyHeaders(Box<(Vec<(u32, u32)>, u32, u32)>),
    /// Makes one of several headers valid or not.
    SetValid(Box<(Pick, bool)>),
    /// Copies headers from and to elements of stacks.
    CopyPicked(Box<[(Pick, Pick)]>),
    /// Copies a variable-length field: from, to, words.
    CopyVariable(Box<(Pick, Pick, u32)>),
    Push {
        stack: u32,
        count: u32,
    },
    Pop {
        stack: u32,
        count: u32,
    },
    MarkToDrop,
    Count {
        array: u32,
        index: Box<Expr<u64>>,
    },
    Meter(Box<(u32, Expr<u64>, Dest)>),
    RegisterRead(Box<(Dest, u32, Expr<u64>)>),
    RegisterWrite(Box<(u32, Expr<u64>, Value)>),
    /// Destination, base, calculation, size.
    Hash(Box<(Dest, Expr<u64>, u32, Expr<u64>)>),
    HashPlain(Box<(Dest, u32)>),
    Random(Box<(Dest, Expr<u64>, Expr<u64>)>),
    Digest(u32),
    Clone(Box<(Expr<u64>, u32)>),
    Resubmit(u32),
    Recirculate(u32),
    Truncate(Box<Expr<u64>>),
    JumpUnless {
        condition: Box<Expr<u64>>,
        to: u32,
    },
    Jump(u32),
    Assert(Box<Expr<u64>>),
    Exit,
}

/// A parameter of an action.
#[derive(Debug, Clone)]
pub(crate) struct Parameter {
    pub(crate) name: String,
    pub(crate) width: u32,
}

/// An action.
#[derive(Debug, Clone, Default)]
pub(crate) struct Action {
    pub(crate) name: String,
    pub(crate) parameters: Box<[Parameter]>,
    pub(crate) ops: Box<[Op]>,
    /// Register arrays that it both reads and writes: held while it runs, in this order.
    pub(crate) locks: Box<[u32]>,
}

/// A node of a pipeline.
#[derive(Debug, Clone)]
pub(crate) enum Node {
    Table(u32),
    If(Box<Expr<u64>>, Next, Next),
    /// Whether a word has this value.
    IfField {
        slot: u32,
        value: u64,
        yes: Next,
        no: Next,
    },
    /// Whether some bits of a word have a value.
    IfBits(Box<Bits>),
    /// Whether two words are the same.
    IfSame {
        a: u32,
        b: u32,
        yes: Next,
        no: Next,
    },
    Call(u32, Next),
}

/// A branch on bits of a word.
#[derive(Debug, Clone)]
pub(crate) struct Bits {
    pub(crate) slot: u32,
    pub(crate) mask: u64,
    pub(crate) value: u64,
    pub(crate) yes: Next,
    pub(crate) no: Next,
}

/// What one field of a key is computed from.
#[derive(Debug, Clone)]
pub(crate) enum KeySource {
    /// A word and its mask.
    Word {
        slot: u32,
        mask: u64,
    },
    /// A word of a header's field, and the header's validity: fields of invalid headers count as 0.
    HeaderWord {
        slot: u32,
        valid: u32,
        mask: u64,
    },
    /// Words of a field: first, how many, the header's validity or `NOWHERE`.
    Words {
        slot: u32,
        count: u32,
        valid: u32,
    },
    Expr(Expr<u64>, u64),
    Wide(Box<(Value, u32)>),
}

/// How one field of a key matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MatchKind {
    /// Equal.
    Exact,
    /// Longest prefix.
    Lpm,
    /// Under a mask.
    Ternary,
    /// Within bounds.
    Range,
}

/// One field of a key.
#[derive(Debug, Clone)]
pub(crate) struct KeyPart {
    pub(crate) name: String,
    pub(crate) kind: MatchKind,
    pub(crate) width: u32,
    pub(crate) source: KeySource,
    /// Mask of a field wider than 64 bits, word by word; empty where all bits count.
    pub(crate) mask: Box<[u64]>,
}

/// A table.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    pub(crate) name: String,
    pub(crate) key: Box<[KeyPart]>,
    /// Actions that its entries and its default entry may have.
    pub(crate) actions: Box<[u32]>,
    /// Next node by action.
    pub(crate) by_action: Box<[(u32, Next)]>,
    pub(crate) hit: Option<Next>,
    pub(crate) miss: Option<Next>,
    pub(crate) base: Next,
    pub(crate) profile: Option<u32>,
    pub(crate) counts: bool,
    pub(crate) ages: bool,
    /// Direct meter: whether it counts octets, and where the colour goes.
    pub(crate) meter: Option<Box<(bool, Dest)>>,
}

impl Table {
    /// The next node after a hit or a miss with this action.
    pub(crate) fn next(&self, hit: bool, action: Option<u32>) -> Next {
        let decided = if hit { self.hit } else { self.miss };
        let by_action = || {
            let action = action?;
            self.by_action.iter().find(|(a, _)| *a == action).map(|(_, next)| *next)
        };
        decided.or_else(by_action).unwrap_or(self.base)
    }
}

/// An action profile, with its selector's hash where it has one.
#[derive(Debug, Clone)]
pub(crate) struct Profile {
    pub(crate) name: String,
    pub(crate) hash: Option<Calculation>,
}

/// A condition as the program has it, for traces.
#[derive(Debug, Clone)]
pub(crate) struct Condition {
    pub(crate) text: String,
    /// Where it leads when it holds.
    pub(crate) yes: Next,
}

/// Ingress or egress.
#[derive(Debug, Clone, Default)]
pub(crate) struct Control {
    pub(crate) nodes: Box<[Node]>,
    pub(crate) start: Next,
    /// Nodes from here on are parts of conditions that became several branches.
    pub(crate) parts: Next,
    pub(crate) conditions: Box<[Condition]>,
    /// For each node, the condition that it belongs to.
    pub(crate) condition_of: Box<[u32]>,
}

impl Control {
    /// The condition that is decided when a node leads to `to`, and its outcome; `None` if another part of the
    /// condition comes first.
    pub(crate) fn decided(&self, node: Next, to: Next) -> Option<(u32, bool)> {
        let condition = *self.condition_of.get(node as usize)?;
        let of = self.conditions.get(condition as usize)?;
        let is_part = to != END && to >= self.parts;
        (!is_part).then_some((condition, to == of.yes))
    }
}

/// One step of a parser state.
#[derive(Debug, Clone)]
pub(crate) enum ParserOp {
    Extract(u32),
    /// Reads up to 64 bits ahead, from an octet boundary, into a word: how they are read, and where they end.
    Look(Load, u32),
    /// Extracts a header; the expression gives the bits of its variable field.
    ExtractVariable(u32, Expr<u64>),
    /// Extracts the next element of a stack: the headers by element, the bits of their variable field.
    /// In a stack of unions, the headers are those of one member.
    ExtractNext(u32, Box<[u32]>, Option<Box<Expr<u64>>>),
    /// Sets a destination from bits ahead: offset, width.
    Ahead(Dest, u32, u32),
    Verify(Expr<u64>, Expr<u64>),
    Advance(Expr<u64>),
    /// Operations without jumps.
    Do(Box<[Op]>),
}

/// What a state selects on.
#[derive(Debug, Clone)]
pub(crate) enum Select {
    Word(u32),
    Value(Value, u32),
    /// Bits ahead: offset, width.
    Ahead(u32, u32),
}

/// One transition of a state.
#[derive(Debug, Clone)]
pub(crate) enum Case {
    /// Value and mask of each word of the key.
    Words(Box<[(u64, u64)]>, Next),
    ValueSet(u32, Next),
}

/// A parser state.
#[derive(Debug, Clone)]
pub(crate) struct State {
    pub(crate) name: String,
    pub(crate) ops: Box<[ParserOp]>,
    pub(crate) select: Box<[Select]>,
    pub(crate) cases: Box<[Case]>,
    /// Where to go when no case holds; none is an error.
    pub(crate) default: Option<Next>,
}

/// A checksum.
#[derive(Debug, Clone)]
pub(crate) struct Checksum {
    pub(crate) dest: Dest,
    pub(crate) value: Expr<u64>,
    pub(crate) mask: u64,
    pub(crate) calculation: u32,
    pub(crate) condition: Option<Expr<u64>>,
}

/// Codes of parser errors that the engine itself raises.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Errors {
    pub(crate) too_short: u64,
    pub(crate) no_match: u64,
    pub(crate) stack_out_of_bounds: u64,
    pub(crate) header_too_short: u64,
    pub(crate) invalid_argument: u64,
}

/// A word of standard metadata, with its mask; a field that the program lacks goes to a
/// word that nothing reads.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Standard {
    pub(crate) slot: u32,
    pub(crate) mask: u64,
}

impl Standard {
    #[inline(always)]
    pub(crate) fn set(self, words: &mut [u64], value: u64) {
        words[self.slot as usize] = value & self.mask;
    }

    #[inline(always)]
    pub(crate) fn get(self, words: &[u64]) -> u64 {
        words[self.slot as usize] & self.mask
    }
}

/// Standard metadata that the switch reads or writes.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Standards {
    pub(crate) ingress_port: Standard,
    pub(crate) egress_spec: Standard,
    pub(crate) egress_port: Standard,
    pub(crate) instance_type: Standard,
    pub(crate) packet_length: Standard,
    pub(crate) enq_timestamp: Standard,
    pub(crate) enq_qdepth: Standard,
    pub(crate) deq_timedelta: Standard,
    pub(crate) deq_qdepth: Standard,
    pub(crate) qid: Standard,
    pub(crate) priority: Standard,
    pub(crate) ingress_global_timestamp: Standard,
    pub(crate) egress_global_timestamp: Standard,
    pub(crate) mcast_grp: Standard,
    pub(crate) egress_rid: Standard,
    pub(crate) checksum_error: Standard,
    pub(crate) parser_error: Standard,
}

/// A digest: what is sent.
#[derive(Debug, Clone)]
pub(crate) struct Digest {
    pub(crate) id: u32,
    pub(crate) name: String,
    pub(crate) fields: Box<[(Value, u32)]>,
}

/// A header stack: the word that counts its valid elements, its elements.
#[derive(Debug, Clone)]
pub(crate) struct Stack {
    pub(crate) next: u32,
    pub(crate) elements: Box<[Box<[u32]>]>,
}

/// A register array.
#[derive(Debug, Clone)]
pub(crate) struct RegisterArray {
    pub(crate) name: String,
    pub(crate) cells: usize,
    pub(crate) width: u32,
}

/// A meter array.
#[derive(Debug, Clone)]
pub(crate) struct MeterArray {
    pub(crate) name: String,
    pub(crate) cells: usize,
    pub(crate) octets: bool,
}

/// A value set: its name, the words of its key.
#[derive(Debug, Clone)]
pub(crate) struct ValueSet {
    pub(crate) name: String,
    /// Widths of the values that a state selects with it.
    pub(crate) widths: Box<[u32]>,
}

/// A whole program.
#[derive(Debug, Clone, Default)]
pub(crate) struct Program {
    pub(crate) headers: Vec<Header>,
    pub(crate) stacks: Vec<Stack>,
    /// The arena of a packet before it is parsed.
    pub(crate) blank: Vec<u64>,
    pub(crate) standard: Standards,
    pub(crate) states: Vec<State>,
    pub(crate) parser_start: Next,
    pub(crate) value_sets: Vec<ValueSet>,
    pub(crate) actions: Vec<Action>,
    pub(crate) tables: Vec<Table>,
    pub(crate) profiles: Vec<Profile>,
    pub(crate) ingress: Control,
    pub(crate) egress: Control,
    pub(crate) calculations: Vec<Calculation>,
    pub(crate) verify: Vec<Checksum>,
    pub(crate) update: Vec<Checksum>,
    /// Headers in the order in which the deparser writes the valid ones.
    pub(crate) deparse: Vec<u32>,
    /// Field lists by id. Each field has its first word and its number of words.
    pub(crate) field_lists: FxHashMap<u32, Vec<(u32, u32)>>,
    pub(crate) digests: Vec<Digest>,
    pub(crate) counters: Vec<(String, usize)>,
    pub(crate) meters: Vec<MeterArray>,
    pub(crate) registers: Vec<RegisterArray>,
    pub(crate) errors: Errors,
    /// Names of parser errors, for traces.
    pub(crate) error_names: Vec<(String, u32)>,
}
