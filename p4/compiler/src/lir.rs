//! The flat program: storage, straight-line code in a graph of blocks, tables and objects. What a target executes.
//!
//! Nothing is nested any more: structs are split into leaves, controls and functions are inlined, and side effects are
//! in order. Arithmetic still has P4's meaning (widths wrap); a back end adds what its target needs.

use crate::ast::{BinOp, UnOp};
use crate::ir::ActionId;
use crate::ir::ty::Type;
use crate::source::Span;
use num_bigint::BigInt;
use std::rc::Rc;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ty {
    Bool,
    Bit(u32),
    Int(u32),
    Varbit(u32),
}

impl Ty {
    pub fn width(self) -> u32 {
        match self {
            Ty::Bool => 1,
            Ty::Bit(w) | Ty::Int(w) | Ty::Varbit(w) => w,
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub enum HeaderRef {
    Named(Rc<str>),
    /// Element of a stack at a computed index.
    At(Rc<str>, Box<Expr>),
    Next(Rc<str>),
    Last(Rc<str>),
}

#[derive(Clone, Debug, PartialEq)]
pub enum Loc {
    Field(Rc<str>, Rc<str>),
    /// Header, field name, field position.
    Of(HeaderRef, Rc<str>, usize),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Expr {
    pub kind: ExprKind,
    pub ty: Ty,
}

#[derive(Clone, Debug, PartialEq)]
pub enum ExprKind {
    Const(BigInt),
    Bool(bool),
    Load(Loc),
    /// An action's parameter.
    Data(usize),
    Valid(HeaderRef),
    LastIndex(Rc<str>),
    Lookahead(u32, u32),
    Unary(UnOp, Box<Expr>),
    Binary(BinOp, Box<Expr>, Box<Expr>),
    Mux(Box<Expr>, Box<Expr>, Box<Expr>),
    Cast(Box<Expr>),
    Slice(Box<Expr>, u32, u32),
}

#[derive(Clone, Debug)]
pub enum ExternArg {
    Expr(Expr),
    Out(Loc, Ty),
    Str(Rc<str>),
    /// Leaves of a list or struct.
    List(Vec<Leaf>),
}

#[derive(Clone, Debug)]
pub enum Leaf {
    Expr(Expr),
    Header(HeaderRef),
}

#[derive(Clone, Debug)]
pub enum Op {
    Assign(Loc, Ty, Expr),
    AssignHeader(HeaderRef, HeaderRef),
    AssignStack(Rc<str>, Rc<str>),
    AssignUnion(Rc<str>, Rc<str>),
    SetValid(HeaderRef, bool),
    Push(Rc<str>, u32),
    Pop(Rc<str>, u32),
    Extract(HeaderRef, Option<Expr>),
    Advance(Expr),
    Verify(Expr, Expr),
    /// Extern function or method (`counter.count`), the object's name, type-dependent data, arguments.
    Extern {
        name: String,
        object: Option<String>,
        args: Vec<ExternArg>,
        data_type: Option<Type>,
    },
}

#[derive(Clone, Debug)]
pub enum ApplyNext {
    Always(usize),
    HitMiss(usize, usize),
    /// The next block by index of the table's action, and the one for all other actions.
    Actions(Vec<(usize, usize)>, usize),
}

#[derive(Clone, Debug)]
pub enum Match {
    Value(BigInt, Option<BigInt>),
    Range(BigInt, BigInt),
    Any,
    /// A value set takes the whole key.
    ValueSet(String),
}

#[derive(Clone, Debug)]
pub enum Term {
    Goto(usize),
    Branch(Expr, usize, usize),
    Apply(usize, ApplyNext),
    Select(Vec<Expr>, Vec<(Vec<Match>, usize)>),
    /// Leaves the control, parser (accepting) or action.
    End,
    /// Ends the whole pipeline.
    Exit,
    Reject,
}

#[derive(Clone, Debug)]
pub struct Block {
    pub name: String,
    pub ops: Vec<(Op, Span)>,
    pub term: Term,
    pub span: Span,
}

#[derive(Clone, Debug, Default)]
pub struct Graph {
    pub blocks: Vec<Block>,
}

#[derive(Clone, Debug)]
pub struct Param {
    pub name: Rc<str>,
    pub ty: Ty,
    pub p4_type: Type,
    pub annotations: crate::ir::annotation::Annotations,
}

#[derive(Clone, Debug)]
pub struct Action {
    pub name: String,
    pub params: Vec<Param>,
    pub graph: Graph,
    pub annotations: crate::ir::annotation::Annotations,
    pub source: ActionId,
}

#[derive(Clone, Debug)]
pub struct Key {
    pub expr: Expr,
    pub match_kind: Rc<str>,
    pub name: String,
    pub p4_type: Type,
    pub annotations: crate::ir::annotation::Annotations,
}

#[derive(Clone, Debug)]
pub struct Entry {
    pub keys: Vec<Match>,
    pub action: usize,
    pub args: Vec<BigInt>,
    /// As given in the source, or as the language derives it (section "Entry priority").
    pub priority: BigInt,
    /// `@priority`: the smaller number wins.
    pub rank: Option<BigInt>,
    pub is_const: bool,
    pub span: Span,
}

/// Entries of a table without a size or with size 0; p4c chooses the same number.
pub const DEFAULT_TABLE_SIZE: u32 = 1024;

#[derive(Clone, Debug)]
pub struct Table {
    pub name: String,
    pub keys: Vec<Key>,
    /// Indices into [`Program::actions`], and the annotations of the use.
    pub actions: Vec<(usize, crate::ir::annotation::Annotations)>,
    pub default_action: Option<(usize, Vec<BigInt>, bool)>,
    pub entries: Vec<Entry>,
    pub const_entries: bool,
    /// Whether the larger priority of an entry wins; else the smaller one does.
    pub largest_priority_wins: bool,
    pub size: Option<u32>,
    pub implementation: Option<String>,
    pub counters: Option<String>,
    pub meters: Option<String>,
    pub support_timeout: bool,
    pub annotations: crate::ir::annotation::Annotations,
    pub span: Span,
}

/// A constructor's argument.
#[derive(Clone, Debug)]
pub enum Attribute {
    Number(BigInt),
    Text(Rc<str>),
}

/// An extern instance.
#[derive(Clone, Debug)]
pub struct Object {
    pub name: String,
    /// Name of the extern type.
    pub kind: String,
    pub type_args: Vec<Type>,
    /// Integers and enum members of the constructor.
    pub args: Vec<BigInt>,
    /// All arguments of the constructor by name.
    pub attributes: Vec<(Rc<str>, Attribute)>,
    pub annotations: crate::ir::annotation::Annotations,
    pub span: Span,
}

#[derive(Clone, Debug)]
pub struct ValueSet {
    pub name: String,
    pub ty: Type,
    pub size: u32,
    pub annotations: crate::ir::annotation::Annotations,
}

#[derive(Clone, Debug)]
pub struct Checksum {
    pub condition: Expr,
    pub data: Vec<Leaf>,
    pub target: Loc,
    pub algorithm: u32,
    pub payload: bool,
    pub update: bool,
    pub span: Span,
}

#[derive(Clone, Debug)]
pub struct FieldType {
    pub name: Rc<str>,
    pub ty: Ty,
}

#[derive(Clone, Debug)]
pub struct HeaderType {
    pub name: String,
    pub fields: Vec<FieldType>,
}

#[derive(Clone, Debug)]
pub struct Header {
    pub name: Rc<str>,
    pub ty: usize,
    pub metadata: bool,
}

#[derive(Clone, Debug, Default)]
pub struct Storage {
    pub header_types: Vec<HeaderType>,
    pub headers: Vec<Header>,
    /// Name, header type, elements.
    pub stacks: Vec<(Rc<str>, usize, Vec<Rc<str>>)>,
    /// Type name, members: name and header type.
    pub union_types: Vec<(String, Vec<(Rc<str>, usize)>)>,
    /// Name, union type, members.
    pub unions: Vec<(Rc<str>, usize, Vec<Rc<str>>)>,
    /// All variables that are not headers.
    pub scalars: Vec<FieldType>,
}

#[derive(Clone, Debug, Default)]
pub struct Program {
    pub storage: Storage,
    pub parser: Graph,
    pub ingress: Graph,
    pub egress: Graph,
    /// Indices of the tables of ingress and egress.
    pub ingress_tables: Vec<usize>,
    pub egress_tables: Vec<usize>,
    pub checksums: Vec<Checksum>,
    pub deparser: Vec<Rc<str>>,
    pub tables: Vec<Table>,
    pub actions: Vec<Action>,
    /// Actions that are called but belong to no table; P4Info lists them.
    pub called: Vec<Action>,
    pub objects: Vec<Object>,
    pub value_sets: Vec<ValueSet>,
    /// `@field_list`: number and fields.
    pub field_lists: Vec<(u32, Vec<(Rc<str>, Rc<str>)>)>,
    /// Names that v1model gives fields of the standard metadata.
    pub aliases: Vec<(String, Rc<str>, Rc<str>)>,
    /// The struct of all headers, as the parser declares it.
    pub header_struct: Option<Type>,
}
