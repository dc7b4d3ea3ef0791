//! The controls that verify and update checksums: a list of calculations, which BMv2 runs around its pipelines.
//! Controls applied in them are inlined. Their parameters stand directly for the arguments, because only the
//! calculations write to them.

use super::expr::truth;
use super::parser::Top;
use super::{Lower, Place, Val};
use crate::ast::BinOp;
use crate::ir::ty::Type;
use crate::ir::{self, Callee, InstanceId, StmtKind};
use crate::lir::{self, Expr, ExprKind, Graph, Leaf, Loc, Op, Term, Ty};
use crate::source::Span;

impl Lower<'_> {
    /// Checksum controls hold calls of the checksum externs only; BMv2 runs them as a list.
    pub(super) fn checksum_control(&mut self, id: InstanceId, top: &Top, update: bool) {
        let program = self.program;
        let Some(name) = self.control_of(id).map(|c| c.name.clone()) else {
            return;
        };
        let Some(control) = program.controls.iter().find(|c| c.name == name) else {
            return;
        };
        self.bind_top(control, top);
        self.bind_ctor(id, &control.ctor);
        self.path = name.to_string();
        let saved = self.start_graph();
        self.checksum_stmts(&control.body, update, &truth(true));
        let graph = self.end_graph(saved);
        if graph.blocks.iter().any(|b| !b.ops.is_empty()) {
            self.error(control.span, "a checksum control may only call the checksum functions");
        }
        self.path = String::new();
    }

    fn checksum_stmts(&mut self, stmts: &[ir::Stmt], update: bool, guard: &lir::Expr) {
        for s in stmts {
            match &s.kind {
                StmtKind::Block(b) => self.checksum_stmts(b, update, guard),
                StmtKind::If(c, a, b) => {
                    let c = self.scalar(c);
                    let yes = super::expr::and(guard.clone(), c.clone());
                    self.checksum_stmts(a, update, &yes);
                    let no = super::expr::and(guard.clone(), super::expr::not(c));
                    self.checksum_stmts(b, update, &no);
                }
                StmtKind::Call(ir::Expr {
                    kind: ir::ExprKind::Call(call),
                    ..
                }) => self.checksum(call, update, guard, s.span),
                _ => self.error(s.span, "a checksum control may only call the checksum functions"),
            }
        }
    }

    fn checksum(&mut self, call: &ir::Call, update: bool, guard: &lir::Expr, span: Span) {
        let Callee::ExternFunction(name) = &call.callee else {
            if let Callee::Apply(object) = &call.callee {
                return self.nested_checksums(object, &call.args, update, guard, span);
            }
            return self.error(span, "a checksum control may only call the checksum functions");
        };
        let expected = if update { "update_checksum" } else { "verify_checksum" };
        let payload = name.ends_with("_with_payload");
        if !name.starts_with(expected) {
            return self.error(span, format!("only {expected} is allowed in this control"));
        }
        let arg = |i: usize| call.args.get(i).and_then(|a| a.value.as_ref());
        let (Some(c), Some(data), Some(target), Some(algo)) = (arg(0), arg(1), arg(2), arg(3)) else {
            return;
        };
        let condition = self.scalar(c);
        let value = self.expr(data);
        let mut leaves: Vec<Leaf> = Vec::new();
        self.value_leaves(&value, &data.ty, &mut leaves, true);
        let leaves = self.checksum_input(leaves, update, span);
        let Val::Place(Place::Scalar(loc, _)) = self.expr(target) else {
            return self.error(target.span, "the checksum must be a field");
        };
        let algorithm = match algo.kind {
            ir::ExprKind::EnumMember(i) => i,
            _ => return self.error(algo.span, "the algorithm must be known at compile time"),
        };
        let condition = super::expr::and(guard.clone(), condition);
        self.out.checksums.push(lir::Checksum {
            condition,
            data: leaves,
            target: loc,
            algorithm,
            payload,
            update,
            span,
        });
    }

    fn nested_checksums(&mut self, object: &ir::Expr, args: &[ir::Arg], update: bool, guard: &Expr, span: Span) {
        let Val::Place(Place::Instance(id, _)) = self.expr(object) else {
            return;
        };
        let program = self.program;
        let control = match program.instances.get(id.index()).map(|i| &i.ty) {
            Some(Type::Control(c)) => program.controls.get(c.index()),
            _ => None,
        };
        let Some(control) = control else { return };
        let mut places = Vec::new();
        for a in args {
            match a.value.as_ref().and_then(|v| self.place_of(v)) {
                Some(place) => places.push(place),
                None => {
                    return self.error(
                        a.value.as_ref().map_or(span, |v| v.span),
                        "a control in a checksum control takes headers and fields only",
                    );
                }
            }
        }
        self.env.extend(control.params.iter().copied().zip(places));
        self.bind_ctor(id, &control.ctor);
        if self.step(span) {
            self.checksum_stmts(&control.body, update, guard);
        }
    }

    /// A calculation's input consists of fields and constants. Widened and joined values are split into these. All
    /// other values are computed when egress ends, which only works for checksums that are updated then.
    fn checksum_input(&mut self, leaves: Vec<Leaf>, update: bool, span: Span) -> Vec<Leaf> {
        let mut out = Vec::new();
        for leaf in leaves {
            match leaf {
                Leaf::Expr(e) => self.checksum_part(e, update, span, &mut out),
                header => out.push(header),
            }
        }
        out
    }

    fn checksum_part(&mut self, e: Expr, update: bool, span: Span, out: &mut Vec<Leaf>) {
        match e.kind {
            ExprKind::Const(_) | ExprKind::Load(Loc::Field(..)) => out.push(Leaf::Expr(e)),
            ExprKind::Cast(inner) if matches!((inner.ty, e.ty), (Ty::Bit(v), Ty::Bit(w)) if v <= w) => {
                let more = e.ty.width() - inner.ty.width();
                if more > 0 {
                    out.push(Leaf::Expr(Self::constant(0, Ty::Bit(more))));
                }
                self.checksum_part(*inner, update, span, out);
            }
            ExprKind::Binary(BinOp::Concat, a, b) => {
                self.checksum_part(*a, update, span, out);
                self.checksum_part(*b, update, span, out);
            }
            _ if update => {
                let Place::Scalar(loc, ty) = self.temp(e.ty, "checksum_input") else {
                    return;
                };
                self.late.push((Op::Assign(loc.clone(), ty, e), span));
                out.push(Leaf::Expr(Self::load(loc, ty)));
            }
            _ => out.push(Leaf::Expr(e)),
        }
    }

    /// Puts the computed inputs at every end of egress.
    pub(super) fn place_late_code(&mut self) {
        let late = std::mem::take(&mut self.late);
        if late.is_empty() {
            return;
        }
        let append = |graph: &mut Graph, ends: bool| {
            for b in &mut graph.blocks {
                if matches!(b.term, Term::Exit) || ends && matches!(b.term, Term::End) {
                    b.ops.extend(late.iter().cloned());
                }
            }
        };
        append(&mut self.out.egress, true);
        self.out.actions.iter_mut().for_each(|a| append(&mut a.graph, false));
    }
}
