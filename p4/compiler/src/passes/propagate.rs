//! Puts constants and copies where they are used, and follows edges that a known condition decides.
//!
//! A forward analysis (greatest fixpoint over the block graph) finds for each scalar a constant, a parameter or another
//! field that it certainly equals. Uses are replaced, expressions folded. If a block leads to an empty block whose
//! condition is known on this edge, the edge goes directly to the right branch. So `if (t.apply().hit)` needs no
//! variable.
//!
//! This preserves the meaning because assignments copy values (section "Assignment statement"), and because a fact
//! about a header field is dropped at every operation that might change headers.

use super::effects::{self, Touched, scalar};
use super::fold;
use super::simplify::{edges_mut, reachable, successors};
use crate::ast::BinOp;
use crate::lir::{Expr, ExprKind, ExternArg, Graph, HeaderRef, Leaf, Loc, Op, Term, Ty};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

/// Scalars, each with what it is equal to: a constant, action data or a plain field.
type Facts = BTreeMap<Rc<str>, Expr>;

/// Most facts that the analysis holds for all blocks together; a larger graph is left as it is. A fact takes about 100
/// octets, so the limit is some 100 MiB: far more than any program that fits a switch needs.
const MAX_FACTS: usize = 1_000_000;

/// Rewrites one graph; `tables` says what applying each table may write.
pub(super) fn run(graph: &mut Graph, tables: &[Touched]) {
    let written = effects::graph(graph).writes.len().max(1);
    if graph.blocks.len().saturating_mul(written) > MAX_FACTS {
        return;
    }
    let before = analyse(graph, tables);
    for i in reachable(graph) {
        let (Some(facts), Some(b)) = (before.get(i).cloned().flatten(), graph.blocks.get_mut(i)) else {
            continue;
        };
        let mut facts = facts;
        for (op, _) in &mut b.ops {
            rewrite(op, &facts);
            step(op, &mut facts);
        }
        rewrite_term(&mut b.term, &facts);
        let mut term = b.term.clone();
        let mut n = 0;
        edges_mut(&mut term, &mut |to| {
            let known = edge(&b_term(graph, i), n, &facts, tables);
            *to = past_known(graph, *to, &known);
            n += 1;
        });
        if let Some(b) = graph.blocks.get_mut(i) {
            b.term = term;
        }
    }
}

fn b_term(graph: &Graph, i: usize) -> Term {
    graph.blocks.get(i).map_or(Term::End, |b| b.term.clone())
}

/// What holds at the start of each block; `None` for blocks that are not reached.
fn analyse(graph: &Graph, tables: &[Touched]) -> Vec<Option<Facts>> {
    let mut before: Vec<Option<Facts>> = vec![None; graph.blocks.len()];
    let mut todo = VecDeque::from([0]);
    if let Some(first) = before.get_mut(0) {
        *first = Some(Facts::new());
    }
    while let Some(i) = todo.pop_front() {
        let (Some(Some(facts)), Some(b)) = (before.get(i), graph.blocks.get(i)) else {
            continue;
        };
        let mut facts = facts.clone();
        for (op, _) in &b.ops {
            step(op, &mut facts);
        }
        for (n, to) in successors(&b.term).into_iter().enumerate() {
            let new = edge(&b.term, n, &facts, tables);
            let Some(old) = before.get_mut(to) else { continue };
            let changed = match old {
                None => {
                    *old = Some(new);
                    true
                }
                Some(old) => {
                    let n = old.len();
                    old.retain(|k, v| new.get(k) == Some(v));
                    old.len() != n
                }
            };
            if changed && !todo.contains(&to) {
                todo.push_back(to);
            }
        }
    }
    before
}

/// What is known at the target of edge number `n` of a block.
fn edge(term: &Term, n: usize, facts: &Facts, tables: &[Touched]) -> Facts {
    let mut facts = facts.clone();
    match term {
        Term::Branch(c, yes, no) if yes != no => learn(c, n == 0, &mut facts),
        Term::Apply(t, _) => {
            forget_headers(&mut facts);
            match tables.get(*t) {
                Some(t) => t.writes.iter().for_each(|w| forget(w, &mut facts)),
                None => facts.clear(),
            }
        }
        _ => {}
    }
    facts
}

/// Adds what a condition's outcome says about scalars.
fn learn(c: &Expr, outcome: bool, facts: &mut Facts) {
    match &c.kind {
        ExprKind::Load(l) if c.ty == Ty::Bool => {
            if let Some(name) = scalar(l) {
                let value = Expr {
                    kind: ExprKind::Bool(outcome),
                    ty: Ty::Bool,
                };
                facts.insert(name.clone(), value);
            }
        }
        ExprKind::Binary(BinOp::LogAnd, a, b) if outcome => {
            learn(a, true, facts);
            learn(b, true, facts);
        }
        ExprKind::Binary(BinOp::LogOr, a, b) if !outcome => {
            learn(a, false, facts);
            learn(b, false, facts);
        }
        ExprKind::Binary(op @ (BinOp::Eq | BinOp::Ne), a, b) if outcome == (*op == BinOp::Eq) => {
            if let ExprKind::Load(l) = &a.kind
                && let Some(name) = scalar(l)
                && matches!(b.kind, ExprKind::Const(_))
                && a.ty == b.ty
            {
                facts.insert(name.clone(), (**b).clone());
            }
        }
        _ => {}
    }
}

/// Drops all facts about a scalar, and those that refer to it.
fn forget(name: &Rc<str>, facts: &mut Facts) {
    facts.remove(name);
    facts.retain(|_, v| !matches!(&v.kind, ExprKind::Load(l) if scalar(l) == Some(name)));
}

fn forget_headers(facts: &mut Facts) {
    facts.retain(|_, v| !matches!(&v.kind, ExprKind::Load(l) if scalar(l).is_none()));
}

/// Updates the facts for an operation.
fn step(op: &Op, facts: &mut Facts) {
    match op {
        Op::Assign(loc @ Loc::Field(..), ty, e) => {
            let Some(name) = scalar(loc) else {
                facts.retain(|_, v| !matches!(&v.kind, ExprKind::Load(l) if l == loc));
                return;
            };
            let mut value = e.clone();
            replace(&mut value, facts);
            forget(name, facts);
            let simple = match &value.kind {
                ExprKind::Const(_) | ExprKind::Bool(_) | ExprKind::Data(_) => true,
                ExprKind::Load(l) => matches!(l, Loc::Field(..)) && scalar(l) != Some(name),
                _ => false,
            };
            if simple && value.ty == *ty && !matches!(ty, Ty::Varbit(_)) {
                facts.insert(name.clone(), value);
            }
        }
        _ => {
            effects::writes(op).into_iter().for_each(|w| forget(w, facts));
            forget_headers(facts);
        }
    }
}

/// Replaces scalars by their known values, and folds.
fn replace(e: &mut Expr, facts: &Facts) {
    replace_inner(e, facts);
    fold::expr(e);
}

fn replace_inner(e: &mut Expr, facts: &Facts) {
    match &mut e.kind {
        ExprKind::Load(l) => {
            if let Some(value) = scalar(l).and_then(|n| facts.get(n)) {
                // Only a value of the same type may be put in: if a bit pattern is read as a number of another type, it
                // must still be cut to its width.
                if value.ty == e.ty {
                    *e = value.clone();
                }
            } else if let Loc::Of(HeaderRef::At(_, i), ..) = l {
                replace_inner(i, facts);
            }
        }
        ExprKind::Valid(HeaderRef::At(_, i)) => replace_inner(i, facts),
        ExprKind::Unary(_, a) | ExprKind::Cast(a) | ExprKind::Slice(a, ..) => replace_inner(a, facts),
        ExprKind::Binary(_, a, b) => {
            replace_inner(a, facts);
            replace_inner(b, facts);
        }
        ExprKind::Mux(c, a, b) => {
            replace_inner(c, facts);
            replace_inner(a, facts);
            replace_inner(b, facts);
        }
        _ => {}
    }
}

fn rewrite(op: &mut Op, facts: &Facts) {
    let index = |h: &mut HeaderRef| {
        if let HeaderRef::At(_, i) = h {
            replace(i, facts);
        }
    };
    match op {
        Op::Assign(l, _, e) => {
            if let Loc::Of(h, ..) = l {
                index(h);
            }
            replace(e, facts);
        }
        Op::AssignHeader(a, b) => {
            index(a);
            index(b);
        }
        Op::SetValid(h, _) => index(h),
        Op::Extract(h, size) => {
            index(h);
            size.iter_mut().for_each(|e| replace(e, facts));
        }
        Op::Advance(e) => replace(e, facts),
        Op::Verify(a, b) => {
            replace(a, facts);
            replace(b, facts);
        }
        // bmv2 reads a digest's fields only when the pipeline ends, so the fields that the program names must stay.
        Op::Extern { name, .. } if name == "digest" => {}
        Op::Extern { args, .. } => {
            for a in args {
                match a {
                    ExternArg::Expr(e) => replace(e, facts),
                    ExternArg::List(list) => list.iter_mut().for_each(|l| rewrite_leaf(l, facts)),
                    ExternArg::Out(Loc::Of(h, ..), _) => index(h),
                    ExternArg::Out(..) | ExternArg::Str(_) => {}
                }
            }
        }
        Op::AssignStack(..) | Op::AssignUnion(..) | Op::Push(..) | Op::Pop(..) => {}
    }
}

/// Elements of a list are passed by name, so a plain field may be replaced only by another plain field.
fn rewrite_leaf(l: &mut Leaf, facts: &Facts) {
    let Leaf::Expr(e) = l else { return };
    let mut new = e.clone();
    replace(&mut new, facts);
    if !matches!(e.kind, ExprKind::Load(_)) || matches!(new.kind, ExprKind::Load(Loc::Field(..))) {
        *e = new;
    }
}

fn rewrite_term(term: &mut Term, facts: &Facts) {
    match term {
        Term::Branch(c, ..) => replace(c, facts),
        Term::Select(keys, _) => keys.iter_mut().for_each(|k| replace(k, facts)),
        _ => {}
    }
}

/// Follows an edge through empty blocks whose condition is known on it.
fn past_known(graph: &Graph, to: usize, facts: &Facts) -> usize {
    let mut at = to;
    // A ring of such blocks would be followed for ever, so stop after one round.
    for _ in 0..graph.blocks.len() {
        let Some(b) = graph.blocks.get(at).filter(|b| b.ops.is_empty()) else {
            return at;
        };
        match &b.term {
            Term::Goto(next) => at = *next,
            Term::Branch(c, yes, no) => {
                let mut c = c.clone();
                replace(&mut c, facts);
                match fold::as_bool(&c) {
                    Some(true) => at = *yes,
                    Some(false) => at = *no,
                    None => return at,
                }
            }
            _ => return at,
        }
    }
    to
}

#[cfg(test)]
mod tests {
    use super::super::test_code::*;
    use super::*;

    fn propagated(blocks: Vec<crate::lir::Block>) -> Graph {
        let mut g = Graph { blocks };
        run(&mut g, &[Touched::default()]);
        g
    }

    #[test]
    fn constants_and_copies_reach_their_uses() {
        let g = propagated(vec![block(
            vec![
                set("x", bits(3)),
                set("y", x("x")),
                set("z", plus(x("y"), bits(1))),
                set("w", field("h", "f")),
            ],
            Term::End,
        )]);
        assert_eq!(text(&g, 0), ["x = 8w3", "y = 8w3", "z = 8w4", "w = h.f"]);
    }

    #[test]
    fn a_copy_ends_with_either_side() {
        let g = propagated(vec![block(
            vec![
                set("x", field("h", "f")),
                set("y", x("x")),
                put("h", "f", bits(1)),
                set("z", x("y")),
                set("a", bits(1)),
                set("b", x("a")),
                out("register.read", "a"),
                set("c", x("a")),
                set("d", x("b")),
            ],
            Term::End,
        )]);
        assert_eq!(
            text(&g, 0),
            [
                "x = h.f",
                "y = h.f",
                "h.f = 8w1",
                "z = y",
                "a = 8w1",
                "b = 8w1",
                "register.read(out a)",
                "c = a",
                "d = 8w1"
            ]
        );
    }

    #[test]
    fn where_paths_meet_only_facts_of_both_are_kept() {
        let g = propagated(vec![
            block(vec![set("k", bits(7))], Term::Branch(flag("c"), 1, 2)),
            block(vec![set("x", bits(1))], Term::Goto(3)),
            block(vec![set("x", bits(2))], Term::Goto(3)),
            block(vec![set("y", x("x")), set("z", x("k"))], Term::End),
        ]);
        assert_eq!(text(&g, 3), ["y = x", "z = 8w7"]);
    }

    #[test]
    fn loops_do_not_keep_what_they_change() {
        let g = propagated(vec![
            block(vec![set("i", bits(0)), set("n", bits(5))], Term::Goto(1)),
            block(vec![], Term::Branch(less(x("i"), x("n")), 2, 3)),
            block(vec![set("i", plus(x("i"), bits(1)))], Term::Goto(1)),
            block(vec![set("r", x("i"))], Term::End),
        ]);
        assert_eq!(text(&g, 2), ["i = i + 8w1"]);
        assert_eq!(text(&g, 3), ["r = i"]);
    }

    #[test]
    fn an_edge_goes_past_a_condition_that_it_decides() {
        let g = propagated(vec![
            block(vec![], Term::Apply(0, crate::lir::ApplyNext::HitMiss(1, 2))),
            block(vec![set_flag("hit", true)], Term::Goto(3)),
            block(vec![set_flag("hit", false)], Term::Goto(3)),
            block(vec![], Term::Branch(flag("hit"), 4, 5)),
            block(vec![], Term::End),
            block(vec![], Term::End),
        ]);
        assert!(matches!(g.blocks[1].term, Term::Goto(4)));
        assert!(matches!(g.blocks[2].term, Term::Goto(5)));
    }

    #[test]
    fn a_table_may_change_what_its_actions_write() {
        let mut t = Touched::default();
        t.writes.insert("x".into());
        let mut g = Graph {
            blocks: vec![
                block(
                    vec![set("x", bits(1)), set("y", bits(2))],
                    Term::Apply(0, crate::lir::ApplyNext::Always(1)),
                ),
                block(vec![set("a", x("x")), set("b", x("y"))], Term::End),
            ],
        };
        run(&mut g, &[t]);
        assert_eq!(text(&g, 1), ["a = x", "b = 8w2"]);
    }
}
