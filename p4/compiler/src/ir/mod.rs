//! The typed program: every name resolved, every type known, implicit casts written out, generics specialised,
//! named and default arguments put in order, constants folded.
//!
//! It still has the structure of the source (controls with statements). [`crate::passes`] does instantiation and
//! inlining, and puts side effects in order.

pub mod annotation;
pub mod fold;
pub mod ty;
pub mod walk;

use crate::ast::{BinOp, Direction, UnOp};
use crate::source::Span;
use annotation::Annotations;
use num_bigint::BigInt;
use std::rc::Rc;
use ty::Type;

/// Declares an index into one of the program's tables.
macro_rules! ids {
    ($($(#[$m:meta])* $name:ident),*) => {$(
        $(#[$m])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub u32);
        impl $name {
            pub fn index(self) -> usize { self.0 as usize }
        }
    )*};
}

ids!(
    /// A parameter or local variable.
    VarId,
    StructId,
    EnumId,
    NewtypeId,
    ExternId,
    /// A parser or control type without a body.
    BlockTypeId,
    PackageId,
    ControlId,
    ParserId,
    ActionId,
    TableId,
    FunctionId,
    /// A declared instance, or a nameless one made by a constructor call.
    InstanceId,
    ValueSetId,
    /// A rigid type parameter.
    TypeParamId
);

#[derive(Clone, Debug)]
pub struct Expr {
    pub kind: ExprKind,
    pub ty: Type,
    pub span: Span,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StackProp {
    Next,
    Last,
    LastIndex,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ApplyValue {
    Hit,
    Miss,
    ActionRun,
}

#[derive(Clone, Debug)]
pub enum ExprKind {
    /// An integer of the expression's type (also serialisable enums and newtypes of integers).
    Int(BigInt),
    Bool(bool),
    Str(Rc<str>),
    /// Index into [`Program::errors`].
    Error(u32),
    /// Member of an enum without representation.
    EnumMember(u32),
    MatchKind(Rc<str>),
    Var(VarId),
    Instance(InstanceId),
    Field(Box<Expr>, usize),
    Index(Box<Expr>, Box<Expr>),
    /// Bits hi..=lo.
    Slice(Box<Expr>, u32, u32),
    StackProp(Box<Expr>, StackProp),
    Unary(UnOp, Box<Expr>),
    Binary(BinOp, Box<Expr>, Box<Expr>),
    Ternary(Box<Expr>, Box<Expr>, Box<Expr>),
    /// To the expression's own type.
    Cast(Box<Expr>),
    /// Struct, header (valid), tuple, list or stack by members.
    Aggregate(Vec<Expr>),
    /// `{#}`
    Invalid,
    Call(Box<Call>),
    /// `t.apply().hit` and the like.
    Apply(TableId, ApplyValue),
    Mask(Box<Expr>, Box<Expr>),
    Range(Box<Expr>, Box<Expr>),
    /// Matches anything.
    Any,
    ValueSet(ValueSetId),
    /// Takes the place of an expression in which an error was reported.
    Poison,
}

#[derive(Clone, Debug)]
pub struct Call {
    pub callee: Callee,
    pub type_args: Vec<Type>,
    pub args: Vec<Arg>,
}

#[derive(Clone, Debug)]
pub struct Arg {
    pub direction: Direction,
    /// `None` for `_` and for an omitted optional argument.
    pub value: Option<Expr>,
    /// The parameter's type, specialised.
    pub ty: Type,
}

#[derive(Clone, Debug)]
pub enum Callee {
    Function(FunctionId),
    Action(ActionId),
    /// An extern function; overloads differ in name or number of parameters.
    ExternFunction(Rc<str>),
    /// Object and method name.
    ExternMethod(Box<Expr>, Rc<str>),
    /// `apply` of a parser or control instance.
    Apply(Box<Expr>),
    TableApply(TableId),
    IsValid(Box<Expr>),
    SetValid(Box<Expr>),
    SetInvalid(Box<Expr>),
    Push(Box<Expr>, u32),
    Pop(Box<Expr>, u32),
}

#[derive(Clone, Debug)]
pub struct Stmt {
    pub kind: StmtKind,
    pub span: Span,
}

pub type Block = Vec<Stmt>;

#[derive(Clone, Debug)]
pub enum StmtKind {
    Assign(Expr, Expr),
    /// `a[f()] += 1`: what is assigned to, a variable that represents it in the value, and the value.
    Update(Expr, VarId, Expr),
    Call(Expr),
    If(Expr, Block, Block),
    Block(Block),
    Return(Option<Expr>),
    Break,
    Continue,
    Exit,
    /// On a value. Bodies are shared by the labels that fall through to them.
    Switch(Expr, Vec<Case<Expr>>),
    /// On the action that a table ran.
    SwitchAction(TableId, Vec<Case<usize>>),
    For {
        init: Block,
        cond: Expr,
        update: Block,
        body: Block,
    },
    /// Over a list of values, each bound to the variable in turn.
    ForEach(VarId, Vec<Expr>, Block),
    Var(VarId, Option<Expr>),
}

#[derive(Clone, Debug)]
pub struct Case<L> {
    pub labels: Vec<L>,
    pub default: bool,
    pub body: Block,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VarKind {
    Local,
    Param(Direction),
    /// Of a constructor: known when the program is elaborated.
    Ctor,
}

#[derive(Clone, Debug)]
pub struct Var {
    pub name: Rc<str>,
    pub ty: Type,
    pub kind: VarKind,
    pub annotations: Annotations,
    pub span: Span,
}

#[derive(Clone, Debug)]
pub struct StructDecl {
    pub kind: crate::ast::StructKind,
    pub name: Rc<str>,
    pub type_params: Vec<TypeParamId>,
    pub fields: Vec<FieldDecl>,
    pub annotations: Annotations,
    pub span: Span,
}

#[derive(Clone, Debug)]
pub struct FieldDecl {
    pub name: Rc<str>,
    pub ty: Type,
    pub annotations: Annotations,
    pub span: Span,
}

#[derive(Clone, Debug)]
pub struct EnumDecl {
    pub name: Rc<str>,
    /// Underlying type of a serialisable enum.
    pub repr: Option<Type>,
    pub members: Vec<(Rc<str>, Option<BigInt>)>,
    pub annotations: Annotations,
}

#[derive(Clone, Debug)]
pub struct NewtypeDecl {
    pub name: Rc<str>,
    pub ty: Type,
    pub annotations: Annotations,
}

/// A signature of a function, method, constructor, action, parser, control or package.
#[derive(Clone, Debug)]
pub struct Signature {
    pub name: Rc<str>,
    pub type_params: Vec<TypeParamId>,
    pub params: Vec<ParamDecl>,
    pub result: Type,
    pub annotations: Annotations,
    pub is_abstract: bool,
    pub span: Span,
}

#[derive(Clone, Debug)]
pub struct ParamDecl {
    pub name: Rc<str>,
    pub direction: Direction,
    pub ty: Type,
    pub default: Option<Expr>,
    pub optional: bool,
    pub annotations: Annotations,
    pub span: Span,
}

#[derive(Clone, Debug)]
pub struct ExternDecl {
    pub name: Rc<str>,
    pub type_params: Vec<TypeParamId>,
    pub constructors: Vec<Signature>,
    pub methods: Vec<Signature>,
    pub annotations: Annotations,
}

#[derive(Clone, Debug)]
pub struct BlockType {
    pub is_parser: bool,
    pub sig: Signature,
}

#[derive(Clone, Debug)]
pub struct Function {
    pub name: Rc<str>,
    pub params: Vec<VarId>,
    pub result: Type,
    pub body: Block,
}

#[derive(Clone, Debug)]
pub struct Action {
    pub name: Rc<str>,
    pub params: Vec<VarId>,
    /// For each parameter, its value if the argument is left out.
    pub defaults: Vec<Option<Expr>>,
    pub body: Block,
    pub annotations: Annotations,
    /// Declared outside all controls.
    pub global: bool,
    pub span: Span,
}

#[derive(Clone, Debug)]
pub struct Table {
    pub name: Rc<str>,
    pub keys: Vec<Key>,
    pub actions: Vec<ActionUse>,
    pub default_action: Option<(ActionCall, bool)>,
    pub entries: Vec<TableEntry>,
    /// `const entries`: the control plane may not change them.
    pub const_entries: bool,
    pub has_entries: bool,
    /// May name constructor parameters.
    pub size: Option<Expr>,
    /// Instances named by `implementation`, `counters`, `meters` and other object properties.
    pub properties: Vec<(Rc<str>, Expr)>,
    pub annotations: Annotations,
    pub span: Span,
}

#[derive(Clone, Debug)]
pub struct Key {
    pub expr: Expr,
    pub match_kind: Rc<str>,
    /// Its name in the control plane.
    pub name: String,
    pub annotations: Annotations,
    pub span: Span,
}

#[derive(Clone, Debug)]
pub struct ActionUse {
    pub action: ActionId,
    /// Values of the leading directional parameters.
    pub args: Vec<Arg>,
    pub annotations: Annotations,
}

/// An action chosen by `default_action` or an entry: index in [`Table::actions`] and control-plane arguments.
#[derive(Clone, Debug)]
pub struct ActionCall {
    pub index: usize,
    pub args: Vec<Expr>,
}

#[derive(Clone, Debug)]
pub struct TableEntry {
    pub is_const: bool,
    pub priority: Option<BigInt>,
    pub keys: Vec<Expr>,
    pub call: ActionCall,
    pub annotations: Annotations,
    pub span: Span,
}

#[derive(Clone, Debug)]
pub enum Local {
    Var(VarId, Option<Expr>),
    Instance(InstanceId),
    Action(ActionId),
    Table(TableId),
    ValueSet(ValueSetId),
}

#[derive(Clone, Debug)]
pub struct Control {
    pub name: Rc<str>,
    pub params: Vec<VarId>,
    pub ctor: Vec<VarId>,
    pub ctor_sig: Signature,
    pub apply_sig: Signature,
    pub locals: Vec<Local>,
    pub body: Block,
    pub annotations: Annotations,
    pub span: Span,
}

#[derive(Clone, Debug)]
pub struct Parser {
    pub name: Rc<str>,
    pub params: Vec<VarId>,
    pub ctor: Vec<VarId>,
    pub ctor_sig: Signature,
    pub apply_sig: Signature,
    pub locals: Vec<Local>,
    pub states: Vec<State>,
    /// Index of `start`.
    pub start: usize,
    pub annotations: Annotations,
    pub span: Span,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StateRef {
    Accept,
    Reject,
    State(usize),
}

#[derive(Clone, Debug)]
pub struct State {
    pub name: Rc<str>,
    pub body: Block,
    pub transition: Transition,
    pub annotations: Annotations,
    pub span: Span,
}

#[derive(Clone, Debug)]
pub enum Transition {
    Direct(StateRef),
    Select(Vec<Expr>, Vec<(Vec<Expr>, StateRef)>),
}

#[derive(Clone, Debug)]
pub struct Instance {
    pub name: Rc<str>,
    /// Extern, control, parser or package type.
    pub ty: Type,
    /// In the order of the constructor's parameters.
    pub args: Vec<Option<Expr>>,
    pub params: Vec<Rc<str>>,
    pub annotations: Annotations,
    pub global: bool,
    /// Made by a constructor call, without a name of its own.
    pub nameless: bool,
    pub span: Span,
}

#[derive(Clone, Debug)]
pub struct ValueSet {
    pub name: Rc<str>,
    pub ty: Type,
    /// `None` only after an error.
    pub size: Option<Expr>,
    pub annotations: Annotations,
    pub span: Span,
}

/// The whole typed program.
#[derive(Clone, Debug, Default)]
pub struct Program {
    pub vars: Vec<Var>,
    pub structs: Vec<StructDecl>,
    pub enums: Vec<EnumDecl>,
    pub newtypes: Vec<NewtypeDecl>,
    pub externs: Vec<ExternDecl>,
    pub block_types: Vec<BlockType>,
    pub packages: Vec<Signature>,
    pub functions: Vec<Function>,
    pub actions: Vec<Action>,
    pub tables: Vec<Table>,
    pub controls: Vec<Control>,
    pub parsers: Vec<Parser>,
    pub instances: Vec<Instance>,
    pub value_sets: Vec<ValueSet>,
    pub errors: Vec<Rc<str>>,
    pub match_kinds: Vec<Rc<str>>,
    pub type_params: Vec<Rc<str>>,
    /// The package instance called `main`.
    pub main: Option<InstanceId>,
}

impl Expr {
    /// The integer, if it is a constant one.
    pub fn as_int(&self) -> Option<&BigInt> {
        match &self.kind {
            ExprKind::Int(v) => Some(v),
            _ => None,
        }
    }

    /// A constant boolean.
    pub fn as_bool(&self) -> Option<bool> {
        match self.kind {
            ExprKind::Bool(b) => Some(b),
            _ => None,
        }
    }

    /// Whether the value is known without running the program.
    pub fn is_const(&self) -> bool {
        match &self.kind {
            ExprKind::Int(_) | ExprKind::Bool(_) | ExprKind::Str(_) | ExprKind::Error(_) | ExprKind::EnumMember(_) => {
                true
            }
            ExprKind::MatchKind(_) | ExprKind::Invalid | ExprKind::Any => true,
            ExprKind::Aggregate(items) => items.iter().all(Expr::is_const),
            ExprKind::Mask(a, b) | ExprKind::Range(a, b) => a.is_const() && b.is_const(),
            _ => false,
        }
    }
}
