//! What flat code reads and writes, in the terms that the optimisation passes need.
//!
//! Passes follow *scalars*: the variables that are not headers. Only operations that name them can change them.
//! Everything else (header fields, stacks, standard metadata) is used only as a source of copies, and is forgotten as
//! soon as an operation might change it.

use crate::lir::{Expr, ExprKind, ExternArg, Graph, HeaderRef, Key, Leaf, Loc, Op, Program, Term};
use rustc_hash::FxHashSet;
use std::rc::Rc;

/// The header that holds the scalars.
const SCALARS: &str = "scalars";

/// The name of the scalar that a location is, if it is one.
pub(super) fn scalar(loc: &Loc) -> Option<&Rc<str>> {
    match loc {
        Loc::Field(h, f) if &**h == SCALARS => Some(f),
        _ => None,
    }
}

/// Calls `f` on the expression and all below it, also in indices of stacks.
pub(super) fn walk(e: &Expr, f: &mut impl FnMut(&Expr)) {
    f(e);
    match &e.kind {
        ExprKind::Load(Loc::Of(h, ..)) | ExprKind::Valid(h) => walk_header(h, f),
        ExprKind::Unary(_, a) | ExprKind::Cast(a) | ExprKind::Slice(a, ..) => walk(a, f),
        ExprKind::Binary(_, a, b) => {
            walk(a, f);
            walk(b, f);
        }
        ExprKind::Mux(c, a, b) => {
            walk(c, f);
            walk(a, f);
            walk(b, f);
        }
        _ => {}
    }
}

fn walk_header(h: &HeaderRef, f: &mut impl FnMut(&Expr)) {
    if let HeaderRef::At(_, i) = h {
        walk(i, f);
    }
}

/// Calls `f` on every expression that an operation evaluates, outermost ones only. Fields that are passed by name
/// (parts of lists) count as expressions too.
pub(super) fn op_exprs(op: &Op, f: &mut impl FnMut(&Expr)) {
    let mut index = |h: &HeaderRef| {
        if let HeaderRef::At(_, i) = h {
            f(i);
        }
    };
    match op {
        Op::Assign(l, _, e) => {
            if let Loc::Of(h, ..) = l {
                index(h);
            }
            f(e);
        }
        Op::AssignHeader(a, b) => {
            index(a);
            index(b);
        }
        Op::SetValid(h, _) => index(h),
        Op::Extract(h, size) => {
            index(h);
            size.iter().for_each(f);
        }
        Op::Advance(e) => f(e),
        Op::Verify(a, b) => {
            f(a);
            f(b);
        }
        Op::Extern { args, .. } => {
            for a in args {
                match a {
                    ExternArg::Expr(e) => f(e),
                    ExternArg::List(l) => leaf_exprs(l, f),
                    ExternArg::Out(Loc::Of(HeaderRef::At(_, i), ..), _) => f(i),
                    ExternArg::Out(..) | ExternArg::Str(_) => {}
                }
            }
        }
        Op::AssignStack(..) | Op::AssignUnion(..) | Op::Push(..) | Op::Pop(..) => {}
    }
}

/// Calls `f` on the expressions of a list.
pub(super) fn leaf_exprs(list: &[Leaf], f: &mut impl FnMut(&Expr)) {
    for l in list {
        match l {
            Leaf::Expr(e) => f(e),
            Leaf::Header(HeaderRef::At(_, i)) => f(i),
            Leaf::Header(_) => {}
        }
    }
}

/// Calls `f` on the expressions that end a block.
pub(super) fn term_exprs(term: &Term, f: &mut impl FnMut(&Expr)) {
    match term {
        Term::Branch(c, ..) => f(c),
        Term::Select(keys, _) => keys.iter().for_each(f),
        _ => {}
    }
}

/// Names of the scalars that an expression reads.
pub(super) fn reads(e: &Expr, out: &mut FxHashSet<Rc<str>>) {
    walk(e, &mut |x| {
        if let ExprKind::Load(l) = &x.kind
            && let Some(name) = scalar(l)
        {
            out.insert(name.clone());
        }
    });
}

/// The scalars that an operation writes.
pub(super) fn writes(op: &Op) -> Vec<&Rc<str>> {
    match op {
        Op::Assign(l, ..) => scalar(l).into_iter().collect(),
        Op::Extern { args, .. } => args
            .iter()
            .filter_map(|a| match a {
                ExternArg::Out(l, _) => scalar(l),
                _ => None,
            })
            .collect(),
        _ => Vec::new(),
    }
}

/// Scalars that a graph reads or writes anywhere, and whether it may end the pipeline.
#[derive(Clone, Debug, Default)]
pub(super) struct Touched {
    pub reads: FxHashSet<Rc<str>>,
    pub writes: FxHashSet<Rc<str>>,
    pub exits: bool,
}

/// The scalars that a graph itself uses, without those of the tables that it applies.
pub(super) fn graph(g: &Graph) -> Touched {
    let mut t = Touched::default();
    for b in &g.blocks {
        for (op, _) in &b.ops {
            op_exprs(op, &mut |e| reads(e, &mut t.reads));
            t.writes.extend(writes(op).into_iter().cloned());
        }
        term_exprs(&b.term, &mut |e| reads(e, &mut t.reads));
        t.exits |= matches!(b.term, Term::Exit);
    }
    t
}

/// The scalars that applying each table may use: in its keys and in all of its actions.
pub(super) fn tables(p: &Program) -> Vec<Touched> {
    let actions: Vec<Touched> = p.actions.iter().map(|a| graph(&a.graph)).collect();
    let one = |t: &crate::lir::Table| {
        let mut all = Touched::default();
        t.keys.iter().for_each(|k: &Key| reads(&k.expr, &mut all.reads));
        for a in t.actions.iter().filter_map(|a| actions.get(a.0)) {
            all.reads.extend(a.reads.iter().cloned());
            all.writes.extend(a.writes.iter().cloned());
            all.exits |= a.exits;
        }
        all
    };
    p.tables.iter().map(one).collect()
}

/// Scalars whose value may be looked at outside the flow of the code: they are carried with a cloned, resubmitted or
/// recirculated packet, or sent in a digest, which bmv2 puts together when the pipeline has ended.
pub(super) fn pinned(p: &Program) -> FxHashSet<Rc<str>> {
    let mut out: FxHashSet<Rc<str>> = FxHashSet::default();
    for (_, fields) in &p.field_lists {
        out.extend(fields.iter().filter(|(h, _)| &**h == SCALARS).map(|(_, f)| f.clone()));
    }
    let graphs = p
        .actions
        .iter()
        .map(|a| &a.graph)
        .chain([&p.parser, &p.ingress, &p.egress]);
    for (op, _) in graphs.flat_map(|g| &g.blocks).flat_map(|b| &b.ops) {
        if let Op::Extern { name, .. } = op
            && name == "digest"
        {
            op_exprs(op, &mut |e| reads(e, &mut out));
        }
        // A direct meter leaves its colour when the table is applied, before the action that asks for it.
        if let Op::Extern { name, .. } = op
            && name == "direct_meter.read"
        {
            out.extend(writes(op).into_iter().cloned());
        }
    }
    out
}
