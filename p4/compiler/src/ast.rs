//! The syntax tree, as written: no names resolved, no types known (P4_16 specification, appendix "Grammar").

use crate::source::Span;
use num_bigint::BigInt;
use std::rc::Rc;

/// A name and its place in the source.
#[derive(Clone, Debug)]
pub struct Ident {
    pub name: Rc<str>,
    pub span: Span,
}

/// `@name`, `@name(tokens)` or `@name[expressions]`.
#[derive(Clone, Debug)]
pub struct Annotation {
    pub name: Ident,
    pub body: AnnotationBody,
}

#[derive(Clone, Debug)]
pub enum AnnotationBody {
    /// `@a`
    Empty,
    /// `@a(...)` without a meaning for the compiler: the tokens.
    Tokens(Vec<AnnToken>),
    /// `@a(1, B)` of a known annotation: the tokens, and the arguments parsed from them.
    Args(Vec<AnnToken>, Vec<Expr>),
    /// `@a(k = 1)` of a known annotation.
    NamedArgs(Vec<AnnToken>, Vec<(Ident, Expr)>),
    /// `@a[1, 2]`
    List(Vec<Expr>),
    /// `@a[k=1]`
    Pairs(Vec<(Ident, Expr)>),
}

/// A token of an unstructured annotation.
#[derive(Clone, Debug)]
pub struct AnnToken {
    /// As written; strings without quotes and escapes.
    pub text: String,
    pub is_string: bool,
    pub is_int: bool,
    pub space_before: bool,
    pub span: Span,
}

pub type Annotations = Rc<Vec<Annotation>>;

#[derive(Clone, Debug)]
pub struct TypeRef {
    pub kind: TypeRefKind,
    pub span: Span,
}

#[derive(Clone, Debug)]
pub enum TypeRefKind {
    Void,
    Bool,
    Error,
    MatchKind,
    String,
    /// `int`
    Integer,
    /// `bit<w>`; `bit` is `bit<1>`.
    Bit(Option<Box<Expr>>),
    Int(Box<Expr>),
    Varbit(Box<Expr>),
    Name {
        global: bool,
        name: Ident,
    },
    Specialized(Box<TypeRef>, Vec<TypeRef>),
    Array(Box<TypeRef>, Box<Expr>),
    Tuple(Vec<TypeRef>),
    List(Box<TypeRef>),
    DontCare,
}

#[derive(Clone, Debug)]
pub struct Expr {
    pub kind: ExprKind,
    pub span: Span,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum UnOp {
    Not,
    Complement,
    Neg,
    Plus,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BinOp {
    Add,
    Sub,
    Mul,
    Div,
    Mod,
    SatAdd,
    SatSub,
    Shl,
    Shr,
    And,
    Or,
    Xor,
    LogAnd,
    LogOr,
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    Concat,
}

impl BinOp {
    /// As written.
    pub fn symbol(self) -> &'static str {
        match self {
            BinOp::Add => "+",
            BinOp::Sub => "-",
            BinOp::Mul => "*",
            BinOp::Div => "/",
            BinOp::Mod => "%",
            BinOp::SatAdd => "|+|",
            BinOp::SatSub => "|-|",
            BinOp::Shl => "<<",
            BinOp::Shr => ">>",
            BinOp::And => "&",
            BinOp::Or => "|",
            BinOp::Xor => "^",
            BinOp::LogAnd => "&&",
            BinOp::LogOr => "||",
            BinOp::Eq => "==",
            BinOp::Ne => "!=",
            BinOp::Lt => "<",
            BinOp::Le => "<=",
            BinOp::Gt => ">",
            BinOp::Ge => ">=",
            BinOp::Concat => "++",
        }
    }
}

#[derive(Clone, Debug)]
pub enum ExprKind {
    /// `8w5` has width `Some((8, false))`, `4s3` `Some((4, true))`.
    Int(BigInt, Option<(u32, bool)>),
    Bool(bool),
    Str(Rc<str>),
    This,
    /// `...`
    Dots,
    Name {
        global: bool,
        name: Ident,
    },
    /// A type in expression position: before `.member` or a constructor's arguments.
    Type(TypeRef),
    Member(Box<Expr>, Ident),
    Index(Box<Expr>, Box<Expr>),
    /// `e[hi:lo]`
    Slice(Box<Expr>, Box<Expr>, Box<Expr>),
    /// `e[base +: width]`
    PlusSlice(Box<Expr>, Box<Expr>, Box<Expr>),
    List(Vec<Expr>),
    /// `{a=1, b=2}`; the flag is a trailing `...`.
    Pairs(Vec<(Ident, Expr)>, bool),
    /// `{#}`
    Invalid,
    Unary(UnOp, Box<Expr>),
    Binary(BinOp, Box<Expr>, Box<Expr>),
    Ternary(Box<Expr>, Box<Expr>, Box<Expr>),
    Call {
        callee: Box<Expr>,
        type_args: Vec<TypeRef>,
        args: Vec<Arg>,
    },
    Cast(TypeRef, Box<Expr>),
    /// Set expressions: `a &&& b`, `a .. b`, `default`, `_`.
    Mask(Box<Expr>, Box<Expr>),
    Range(Box<Expr>, Box<Expr>),
    Default,
    DontCare,
}

#[derive(Clone, Debug)]
pub struct Arg {
    pub name: Option<Ident>,
    /// `None` is `_`.
    pub value: Option<Expr>,
    pub span: Span,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    None,
    In,
    Out,
    InOut,
}

#[derive(Clone, Debug)]
pub struct Param {
    pub annotations: Annotations,
    pub direction: Direction,
    pub ty: TypeRef,
    pub name: Ident,
    pub default: Option<Expr>,
}

#[derive(Clone, Debug)]
pub struct Block {
    pub annotations: Annotations,
    pub stmts: Vec<Stmt>,
    pub span: Span,
}

#[derive(Clone, Debug)]
pub struct Stmt {
    pub kind: StmtKind,
    pub span: Span,
}

#[derive(Clone, Debug)]
pub enum StmtKind {
    Empty,
    Assign(Expr, Option<BinOp>, Expr),
    Call(Expr),
    If(Expr, Box<Stmt>, Option<Box<Stmt>>),
    Block(Block),
    Return(Option<Expr>),
    Break,
    Continue,
    Exit,
    Switch(Expr, Vec<SwitchCase>),
    For {
        init: Vec<Stmt>,
        cond: Expr,
        update: Vec<Stmt>,
        body: Box<Stmt>,
        annotations: Annotations,
    },
    ForIn {
        ty: TypeRef,
        var: Ident,
        from: Expr,
        to: Option<Expr>,
        body: Box<Stmt>,
        annotations: Annotations,
    },
    Decl(Box<Decl>),
}

#[derive(Clone, Debug)]
pub struct SwitchCase {
    /// `None` is `default`.
    pub label: Option<Expr>,
    pub span: Span,
    /// `None` falls through.
    pub body: Option<Block>,
}

#[derive(Clone, Debug)]
pub struct FunctionSig {
    pub annotations: Annotations,
    pub is_abstract: bool,
    /// `None` for a constructor.
    pub result: Option<TypeRef>,
    pub name: Ident,
    pub type_params: Vec<Ident>,
    pub params: Vec<Param>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StructKind {
    Struct,
    Header,
    Union,
}

#[derive(Clone, Debug)]
pub struct Field {
    pub annotations: Annotations,
    pub ty: TypeRef,
    pub name: Ident,
}

#[derive(Clone, Debug)]
pub struct Decl {
    pub kind: DeclKind,
    pub span: Span,
    pub annotations: Annotations,
    pub name: Ident,
}

#[derive(Clone, Debug)]
pub struct BlockTypeDecl {
    pub type_params: Vec<Ident>,
    pub params: Vec<Param>,
}

#[derive(Clone, Debug)]
pub enum DeclKind {
    Const(TypeRef, Expr),
    Var(TypeRef, Option<Expr>),
    ExternObject {
        type_params: Vec<Ident>,
        methods: Vec<FunctionSig>,
    },
    ExternFunction(FunctionSig),
    Function(FunctionSig, Block),
    Action(Vec<Param>, Block),
    Parser {
        header: BlockTypeDecl,
        ctor: Vec<Param>,
        locals: Vec<Decl>,
        states: Vec<State>,
    },
    Control {
        header: BlockTypeDecl,
        ctor: Vec<Param>,
        locals: Vec<Decl>,
        body: Block,
    },
    ParserType(BlockTypeDecl),
    ControlType(BlockTypeDecl),
    Package(BlockTypeDecl),
    Struct {
        kind: StructKind,
        type_params: Vec<Ident>,
        fields: Vec<Field>,
    },
    Enum {
        repr: Option<TypeRef>,
        members: Vec<(Ident, Option<Expr>)>,
    },
    Typedef(TypeRef),
    NewType(TypeRef),
    Errors(Vec<Ident>),
    MatchKinds(Vec<Ident>),
    Instance {
        ty: TypeRef,
        args: Vec<Arg>,
        body: Option<Vec<Decl>>,
    },
    ValueSet {
        ty: TypeRef,
        size: Expr,
    },
    Table(Vec<Property>),
}

#[derive(Clone, Debug)]
pub struct State {
    pub annotations: Annotations,
    pub name: Ident,
    pub stmts: Vec<Stmt>,
    pub transition: Transition,
    pub span: Span,
}

#[derive(Clone, Debug)]
pub enum Transition {
    /// If there is none, the state goes to `reject`.
    None,
    Direct(Ident),
    Select(Vec<Expr>, Vec<SelectCase>, Span),
}

#[derive(Clone, Debug)]
pub struct SelectCase {
    pub keyset: Expr,
    pub state: Ident,
}

#[derive(Clone, Debug)]
pub struct Property {
    pub annotations: Annotations,
    pub is_const: bool,
    pub name: Ident,
    pub value: PropertyValue,
}

#[derive(Clone, Debug)]
pub enum PropertyValue {
    Key(Vec<KeyElement>),
    Actions(Vec<ActionRef>),
    Entries(Vec<Entry>),
    Expr(Expr),
}

#[derive(Clone, Debug)]
pub struct KeyElement {
    pub expr: Expr,
    pub match_kind: Ident,
    pub annotations: Annotations,
}

#[derive(Clone, Debug)]
pub struct ActionRef {
    pub annotations: Annotations,
    pub global: bool,
    pub name: Ident,
    pub args: Option<Vec<Arg>>,
    pub span: Span,
}

#[derive(Clone, Debug)]
pub struct Entry {
    pub is_const: bool,
    pub priority: Option<Expr>,
    pub keyset: Expr,
    pub action: ActionRef,
    pub annotations: Annotations,
    pub span: Span,
}
