//! Visiting expressions.

use super::{Callee, Expr, ExprKind, Stmt, StmtKind};

/// Calls `f` on each direct subexpression.
pub fn children_mut(e: &mut Expr, f: &mut impl FnMut(&mut Expr)) {
    match &mut e.kind {
        ExprKind::Field(a, _)
        | ExprKind::Slice(a, _, _)
        | ExprKind::StackProp(a, _)
        | ExprKind::Unary(_, a)
        | ExprKind::Cast(a) => f(a),
        ExprKind::Index(a, b) | ExprKind::Binary(_, a, b) | ExprKind::Mask(a, b) | ExprKind::Range(a, b) => {
            f(a);
            f(b);
        }
        ExprKind::Ternary(a, b, c) => {
            f(a);
            f(b);
            f(c);
        }
        ExprKind::Aggregate(items) => items.iter_mut().for_each(f),
        ExprKind::Call(call) => {
            match &mut call.callee {
                Callee::ExternMethod(o, _) | Callee::Apply(o) | Callee::IsValid(o) | Callee::SetValid(o) => f(o),
                Callee::SetInvalid(o) | Callee::Push(o, _) | Callee::Pop(o, _) => f(o),
                Callee::Function(_) | Callee::Action(_) | Callee::ExternFunction(_) | Callee::TableApply(_) => {}
            }
            call.args.iter_mut().filter_map(|a| a.value.as_mut()).for_each(f);
        }
        _ => {}
    }
}

/// Calls `f` on each direct subexpression.
pub fn children(e: &Expr, f: &mut impl FnMut(&Expr)) {
    match &e.kind {
        ExprKind::Field(a, _)
        | ExprKind::Slice(a, _, _)
        | ExprKind::StackProp(a, _)
        | ExprKind::Unary(_, a)
        | ExprKind::Cast(a) => f(a),
        ExprKind::Index(a, b) | ExprKind::Binary(_, a, b) | ExprKind::Mask(a, b) | ExprKind::Range(a, b) => {
            f(a);
            f(b);
        }
        ExprKind::Ternary(a, b, c) => {
            f(a);
            f(b);
            f(c);
        }
        ExprKind::Aggregate(items) => items.iter().for_each(f),
        ExprKind::Call(call) => {
            match &call.callee {
                Callee::ExternMethod(o, _) | Callee::Apply(o) | Callee::IsValid(o) | Callee::SetValid(o) => f(o),
                Callee::SetInvalid(o) | Callee::Push(o, _) | Callee::Pop(o, _) => f(o),
                Callee::Function(_) | Callee::Action(_) | Callee::ExternFunction(_) | Callee::TableApply(_) => {}
            }
            call.args.iter().filter_map(|a| a.value.as_ref()).for_each(f);
        }
        _ => {}
    }
}

/// Whether evaluating the expression may change anything: it holds a call (other than `isValid`) or a table apply.
pub fn has_effects(e: &Expr) -> bool {
    match &e.kind {
        ExprKind::Call(c) if !matches!(c.callee, Callee::IsValid(_)) => return true,
        ExprKind::Apply(..) => return true,
        _ => {}
    }
    let mut found = false;
    children(e, &mut |c| found |= has_effects(c));
    found
}

/// Calls `f` on every expression of the statements, outermost ones only.
pub fn stmt_exprs(stmts: &[Stmt], f: &mut dyn FnMut(&Expr)) {
    for s in stmts {
        match &s.kind {
            StmtKind::Assign(a, b) | StmtKind::Update(a, _, b) => {
                f(a);
                f(b);
            }
            StmtKind::Call(e) => f(e),
            StmtKind::If(c, a, b) => {
                f(c);
                stmt_exprs(a, f);
                stmt_exprs(b, f);
            }
            StmtKind::Block(b) => stmt_exprs(b, f),
            StmtKind::Return(e) | StmtKind::Var(_, e) => e.iter().for_each(&mut *f),
            StmtKind::Switch(v, cases) => {
                f(v);
                cases.iter().for_each(|c| stmt_exprs(&c.body, f));
            }
            StmtKind::SwitchAction(_, cases) => cases.iter().for_each(|c| stmt_exprs(&c.body, f)),
            StmtKind::For {
                init,
                cond,
                update,
                body,
            } => {
                f(cond);
                stmt_exprs(init, f);
                stmt_exprs(update, f);
                stmt_exprs(body, f);
            }
            StmtKind::ForEach(_, values, body) => {
                values.iter().for_each(&mut *f);
                stmt_exprs(body, f);
            }
            StmtKind::Break | StmtKind::Continue | StmtKind::Exit => {}
        }
    }
}
