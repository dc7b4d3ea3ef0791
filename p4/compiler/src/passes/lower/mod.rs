//! Instantiation, inlining and ordering: the typed program becomes flat code.
//!
//! The `main` package is evaluated; each of its blocks is walked once, with nested controls, parsers, actions and
//! functions inlined where they are applied. Parameters are bound to the argument's own storage where that makes no
//! difference, and copied in and out elsewhere (section "Calling convention: copy-in/copy-out").
//! `return`, `exit`, `break`, `continue` and short circuit become edges of the block graph.

mod assign;
mod block;
mod call;
mod checksum;
mod choice;
mod expr;
mod objects;
mod parser;
mod place;
mod stmt;
mod table;

use crate::diagnostics::Sink;
use crate::ir::ty::Type;
use crate::ir::{self, InstanceId, VarId};
use crate::lir::{self, Block, Expr, Graph, Op, Term};
use crate::source::Span;
use num_bigint::BigInt;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;

/// Where a variable lives.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    Scalar(lir::Loc, lir::Ty),
    /// Header and the index of its type.
    Header(lir::HeaderRef, usize),
    Stack(Rc<str>),
    Union(Rc<str>),
    Group(Vec<Place>),
    /// A value instead of storage: constants, action data.
    Value(Box<Val>),
    /// A sequence of unions or plain values.
    List(Vec<Place>),
    /// The element of a [`Place::List`] that a computed index selects.
    Choice(Box<Expr>, Vec<Place>),
    Object(String),
    Instance(InstanceId, String),
    Packet,
}

/// What an expression evaluates to.
#[derive(Clone, Debug)]
pub(crate) enum Val {
    Scalar(Expr),
    Place(Place),
    Aggregate(Vec<Val>),
    Invalid,
    Str(Rc<str>),
    Unit,
}

struct Frame {
    end: usize,
    result: Option<Place>,
    /// Copies to make when the call ends.
    copy_out: Vec<CopyOut>,
}

/// The place to which a parameter's value is copied back.
#[derive(Clone)]
enum Target {
    Place(Place),
    /// A slice of a field.
    Expr(ir::Expr),
}

#[derive(Clone)]
struct CopyOut {
    to: Target,
    from: Place,
    ty: Type,
}

struct Loop {
    next: usize,
    end: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Parser,
    Control,
    Action,
}

pub(crate) struct Lower<'a> {
    program: &'a ir::Program,
    sink: &'a mut Sink,
    out: lir::Program,
    env: HashMap<VarId, Place>,
    /// Tables of control instances already walked: path and table to index.
    tables: HashMap<(String, ir::TableId), usize>,
    /// Storage of instances whose parameters are copied: path and variable.
    fixed: HashMap<(String, VarId), Place>,
    /// Tables that some control applies.
    applied: HashSet<ir::TableId>,
    objects: HashMap<(String, InstanceId), String>,
    /// Path and name of externs that are constructor arguments, by the path where they are created.
    object_names: HashMap<(String, InstanceId), (String, Rc<str>)>,
    value_sets: HashMap<(String, ir::ValueSetId), String>,
    /// `nextIndex` of stacks of header unions, by the first union's name.
    next_index: HashMap<Rc<str>, lir::Loc>,
    /// Actions by the name that the control plane uses.
    action_names: HashMap<String, ir::ActionId>,
    /// Code that runs whenever egress ends, even if `exit` ends it.
    late: Vec<(Op, Span)>,
    taken: HashSet<Rc<str>>,
    /// The next number that is appended to make a name unique.
    suffixes: HashMap<Rc<str>, usize>,
    /// How many more statements and expressions may be lowered.
    budget: usize,
    header_types: HashMap<Type, usize>,
    graph: Graph,
    current: usize,
    frames: Vec<Frame>,
    loops: Vec<Loop>,
    mode: Mode,
    path: String,
    in_ingress: bool,
    /// Inside an action's body.
    in_action: bool,
    metadata_ready: bool,
    /// Where the `@field_list` and `@alias` annotations are that had an effect.
    used_annotations: HashSet<Span>,
}

/// Deepest nesting of inlined calls.
const MAX_INLINE_DEPTH: usize = 64;
/// Most statements and expressions after inlining. Without this limit, inlining would not end for a chain of functions
/// that each call the next one twice.
const MAX_STEPS: usize = 1_000_000;
/// Most blocks of one graph; stops an exponential chain of calls.
const MAX_BLOCKS: usize = 100_000;

/// Lowers a checked program that has a v1model `main`.
pub fn lower(program: &ir::Program, sink: &mut Sink) -> lir::Program {
    let mut l = Lower {
        program,
        sink,
        out: lir::Program::default(),
        env: HashMap::new(),
        tables: HashMap::new(),
        fixed: HashMap::new(),
        applied: table::applied(program),
        objects: HashMap::new(),
        object_names: HashMap::new(),
        value_sets: HashMap::new(),
        next_index: HashMap::new(),
        action_names: HashMap::new(),
        late: Vec::new(),
        taken: HashSet::new(),
        suffixes: HashMap::new(),
        budget: MAX_STEPS,
        header_types: HashMap::new(),
        graph: Graph::default(),
        current: 0,
        frames: Vec::new(),
        loops: Vec::new(),
        mode: Mode::Control,
        path: String::new(),
        in_ingress: true,
        in_action: false,
        metadata_ready: false,
        used_annotations: HashSet::new(),
    };
    l.main();
    l.unused_annotations();
    l.out
}

impl Lower<'_> {
    fn error(&mut self, span: Span, message: impl Into<String>) {
        self.sink.error(span, message);
    }

    /// Counts a step; false when the program is too large to go on.
    fn step(&mut self, span: Span) -> bool {
        if self.budget > 0 && self.graph.blocks.len() <= MAX_BLOCKS {
            self.budget -= 1;
            return true;
        }
        if self.budget > 0 || self.sink.errors() == 0 {
            self.error(span, "the program is too large after inlining");
        }
        self.budget = 0;
        false
    }

    fn unique(&mut self, name: &str) -> Rc<str> {
        let mut candidate: Rc<str> = Rc::from(name);
        while !self.taken.insert(candidate.clone()) {
            let n = self.suffixes.entry(Rc::from(name)).or_insert(0);
            candidate = Rc::from(format!("{name}_{n}"));
            *n += 1;
        }
        candidate
    }

    fn new_block(&mut self, name: &str) -> usize {
        let n = self.graph.blocks.len();
        self.graph.blocks.push(Block {
            name: name.to_string(),
            ops: Vec::new(),
            term: Term::End,
            span: Span::default(),
        });
        n
    }

    fn start_graph(&mut self) -> (Graph, usize) {
        let saved = (std::mem::take(&mut self.graph), self.current);
        self.current = self.new_block("start");
        saved
    }

    fn end_graph(&mut self, saved: (Graph, usize)) -> Graph {
        let graph = std::mem::replace(&mut self.graph, saved.0);
        self.current = saved.1;
        graph
    }

    fn emit(&mut self, op: Op, span: Span) {
        if let Some(b) = self.graph.blocks.get_mut(self.current) {
            b.ops.push((op, span));
        }
    }

    /// Ends the current block and goes on in another.
    fn end_block(&mut self, term: Term, next: usize, span: Span) {
        if let Some(b) = self.graph.blocks.get_mut(self.current) {
            b.term = term;
            b.span = span;
        }
        self.current = next;
    }

    fn full_name(&self, annotations: &ir::annotation::Annotations, own: &str) -> String {
        let name = annotations.control_name(own);
        match name.strip_prefix('.') {
            Some(absolute) => absolute.to_string(),
            None if self.path.is_empty() => name,
            None => format!("{}.{name}", self.path),
        }
    }

    fn main(&mut self) {
        let Some(main) = self.program.main.and_then(|m| self.program.instances.get(m.index())) else {
            self.error(Span::default(), "the program has no package instance called main");
            return;
        };
        let is_v1 = matches!(main.ty, Type::Package(id, _) if self.program.packages.get(id.index()).is_some_and(|p| &*p.name == "V1Switch"));
        if !is_v1 {
            self.error(
                main.span,
                "main must be a V1Switch: only the v1model architecture is supported",
            );
            return;
        }
        let blocks: Vec<Option<InstanceId>> = main
            .args
            .iter()
            .map(|a| match a.as_ref().map(|a| &a.kind) {
                Some(ir::ExprKind::Instance(id)) => Some(*id),
                _ => None,
            })
            .collect();
        let get = |i: usize| blocks.get(i).copied().flatten();
        let (Some(p), Some(vr), Some(ig), Some(eg), Some(ck), Some(dep)) =
            (get(0), get(1), get(2), get(3), get(4), get(5))
        else {
            self.error(main.span, "main needs six blocks");
            return;
        };
        self.global_objects();
        let Some(top) = self.top_parser(p) else { return };
        self.out.ingress = self.top_control(ig, &top, true);
        self.out.egress = self.top_control(eg, &top, false);
        self.checksum_control(vr, &top, false);
        self.checksum_control(ck, &top, true);
        self.place_late_code();
        self.deparser(dep, &top);
    }

    fn temp(&mut self, ty: lir::Ty, name: &str) -> Place {
        let field = self.unique(name);
        self.out.storage.scalars.push(lir::FieldType {
            name: field.clone(),
            ty,
        });
        Place::Scalar(lir::Loc::Field("scalars".into(), field), ty)
    }

    fn constant(value: impl Into<BigInt>, ty: lir::Ty) -> Expr {
        Expr {
            kind: lir::ExprKind::Const(value.into()),
            ty,
        }
    }
}
