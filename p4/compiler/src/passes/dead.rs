//! Removes stores that nothing reads, and variables without a use.
//!
//! A backward analysis over the block graph says which scalars may still be read. At a graph's end these are the
//! scalars that later code reads, and those that [`effects::pinned`] names. A parser may also end at an operation that
//! fails (a packet too short, `verify`): its earlier stores remain in force (section "Parser errors"). Only stores of
//! expressions without effects are dropped; operations of externs stay, and count as reading what they name.

use super::effects::{self, Touched, pinned, scalar};
use super::fold::is_pure;
use super::simplify::{reachable, successors};
use crate::lir::{ExprKind, Graph, Op, Program, Term};
use rustc_hash::{FxHashMap, FxHashSet};
use std::rc::Rc;

type Names = FxHashSet<Rc<str>>;

/// Most names over all blocks that the analysis holds; a larger graph stays as it is (see `propagate`).
const MAX_NAMES: usize = 4_000_000;

/// Cleans the whole program.
pub(super) fn run(p: &mut Program) {
    let tables = effects::tables(p);
    let pinned = pinned(p);
    let mut late = pinned.clone();
    for c in &p.checksums {
        effects::reads(&c.condition, &mut late);
        effects::leaf_exprs(&c.data, &mut |e| effects::reads(e, &mut late));
        late.extend(scalar(&c.target).cloned());
    }
    let of = |list: &[usize]| {
        let reads = list
            .iter()
            .filter_map(|t| tables.get(*t))
            .flat_map(|t| t.reads.iter().cloned());
        reads.collect::<Names>()
    };
    let in_egress: Names = &effects::graph(&p.egress).reads | &of(&p.egress_tables);
    let in_ingress: Names = &effects::graph(&p.ingress).reads | &of(&p.ingress_tables);
    let after_ingress = &late | &in_egress;
    let after_parser = &after_ingress | &in_ingress;
    clean(&mut p.parser, &tables, &after_parser, &pinned);
    clean(&mut p.ingress, &tables, &after_ingress, &pinned);
    clean(&mut p.egress, &tables, &late, &pinned);
    actions(p, &after_parser, &pinned);
    unused(p);
}

/// Bodies of actions: stores that any other code reads stay.
fn actions(p: &mut Program, rest: &Names, pinned: &Names) {
    // `rest` counts the reads of all actions of tables, including the action itself. A name stays only if
    // another action reads it.
    let mut readers: FxHashMap<Rc<str>, usize> = FxHashMap::default();
    let own: Vec<Names> = p.actions.iter().map(|a| effects::graph(&a.graph).reads).collect();
    for name in own.iter().flatten() {
        *readers.entry(name.clone()).or_default() += 1;
    }
    let mut elsewhere: Names = effects::graph(&p.parser).reads;
    elsewhere.extend(effects::graph(&p.ingress).reads);
    elsewhere.extend(effects::graph(&p.egress).reads);
    for k in p.tables.iter().flat_map(|t| &t.keys) {
        effects::reads(&k.expr, &mut elsewhere);
    }
    for (a, own) in p.actions.iter_mut().zip(&own) {
        let private = |n: &&Rc<str>| {
            own.contains(*n) && readers.get(*n) == Some(&1) && !elsewhere.contains(*n) && !pinned.contains(*n)
        };
        let mut exit: Names = rest.iter().filter(|n| !private(n)).cloned().collect();
        // If the body reads a name before it writes it, the value may come from an earlier run of the same action.
        exit.extend(exposed(&a.graph));
        clean(&mut a.graph, &[], &exit, pinned);
    }
}

/// Names that a graph may read before it writes them.
fn exposed(g: &Graph) -> Names {
    live(g, &[], &Names::default(), &Names::default())
        .and_then(|l| l.into_iter().next())
        .unwrap_or_else(|| effects::graph(g).reads)
}

/// What may be read after each block's start. `None` if the graph is too large.
fn live(g: &Graph, tables: &[Touched], exit: &Names, pinned: &Names) -> Option<Vec<Names>> {
    let t = effects::graph(g);
    let names = t.reads.len() + exit.len() + 1;
    if g.blocks.len().saturating_mul(names) > MAX_NAMES {
        return None;
    }
    let mut at_start = vec![Names::default(); g.blocks.len()];
    let mut order = reachable(g);
    order.reverse();
    loop {
        let mut changed = false;
        for i in &order {
            let Some(b) = g.blocks.get(*i) else { continue };
            let mut now = at_end(b, &at_start, tables, exit);
            for (op, _) in b.ops.iter().rev() {
                if !is_dead(op, &now, pinned) {
                    before(op, exit, &mut now);
                }
            }
            if let Some(old) = at_start.get_mut(*i)
                && *old != now
            {
                *old = now;
                changed = true;
            }
        }
        if !changed {
            return Some(at_start);
        }
    }
}

/// What may be read after a block's operations.
fn at_end(b: &crate::lir::Block, at_start: &[Names], tables: &[Touched], exit: &Names) -> Names {
    let mut now = Names::default();
    match &b.term {
        Term::End | Term::Exit | Term::Reject => now.extend(exit.iter().cloned()),
        Term::Apply(t, _) => {
            if let Some(t) = tables.get(*t) {
                now.extend(t.reads.iter().cloned());
                // An action's `exit` skips everything that follows the table.
                if t.exits {
                    now.extend(exit.iter().cloned());
                }
            }
        }
        // A select without a default case may end in reject.
        Term::Select(..) => now.extend(exit.iter().cloned()),
        Term::Branch(c, ..) if !is_pure(c) => now.extend(exit.iter().cloned()),
        _ => {}
    }
    effects::term_exprs(&b.term, &mut |e| effects::reads(e, &mut now));
    for next in successors(&b.term) {
        if let Some(names) = at_start.get(next) {
            now.extend(names.iter().cloned());
        }
    }
    now
}

/// What may be read before an operation, from what may be read after it.
fn before(op: &Op, exit: &Names, now: &mut Names) {
    // An extern may leave its result alone (a register's cell that does not exist), so only assignments hide a store.
    if let Op::Assign(l, ..) = op
        && let Some(name) = scalar(l)
    {
        now.remove(name);
    }
    if may_stop(op) {
        now.extend(exit.iter().cloned());
    }
    effects::op_exprs(op, &mut |e| effects::reads(e, now));
}

/// Whether the operation can be the last of its parser.
fn may_stop(op: &Op) -> bool {
    let mut fails = matches!(op, Op::Extract(..) | Op::Advance(_) | Op::Verify(..));
    effects::op_exprs(op, &mut |e| fails |= !is_pure(e));
    fails
}

fn is_dead(op: &Op, after: &Names, pinned: &Names) -> bool {
    let Op::Assign(l, _, e) = op else { return false };
    if matches!(&e.kind, ExprKind::Load(from) if from == l) {
        return true;
    }
    scalar(l).is_some_and(|n| !after.contains(n) && !pinned.contains(n)) && is_pure(e)
}

fn clean(g: &mut Graph, tables: &[Touched], exit: &Names, pinned: &Names) {
    let Some(at_start) = live(g, tables, exit, pinned) else {
        return;
    };
    for i in reachable(g) {
        let Some(b) = g.blocks.get_mut(i) else { continue };
        let mut now = at_end(b, &at_start, tables, exit);
        let mut kept = Vec::new();
        for (op, span) in std::mem::take(&mut b.ops).into_iter().rev() {
            if is_dead(&op, &now, pinned) {
                continue;
            }
            before(&op, exit, &mut now);
            kept.push((op, span));
        }
        kept.reverse();
        b.ops = kept;
    }
}

/// Variables that no reachable code names need no storage.
fn unused(p: &mut Program) {
    let mut used = pinned(p);
    let graphs = p
        .actions
        .iter()
        .map(|a| &a.graph)
        .chain([&p.parser, &p.ingress, &p.egress]);
    for g in graphs {
        for b in reachable(g).into_iter().filter_map(|i| g.blocks.get(i)) {
            for (op, _) in &b.ops {
                effects::op_exprs(op, &mut |e| effects::reads(e, &mut used));
                used.extend(effects::writes(op).into_iter().cloned());
            }
            effects::term_exprs(&b.term, &mut |e| effects::reads(e, &mut used));
        }
    }
    for k in p.tables.iter().flat_map(|t| &t.keys) {
        effects::reads(&k.expr, &mut used);
    }
    for c in &p.checksums {
        effects::reads(&c.condition, &mut used);
        effects::leaf_exprs(&c.data, &mut |e| effects::reads(e, &mut used));
        used.extend(scalar(&c.target).cloned());
    }
    p.storage.scalars.retain(|f| used.contains(&f.name));
}

#[cfg(test)]
mod tests {
    use super::super::test_code::*;
    use super::*;

    fn cleaned(blocks: Vec<crate::lir::Block>, exit: &[&str]) -> Graph {
        let mut g = Graph { blocks };
        let exit = exit.iter().map(|n| Rc::from(*n)).collect();
        clean(&mut g, &[], &exit, &Names::default());
        g
    }

    #[test]
    fn a_store_that_is_overwritten_or_not_read_goes() {
        let code = vec![
            set("x", bits(1)),
            set("x", bits(2)),
            set("y", x("x")),
            set("z", bits(3)),
            put("h", "f", bits(4)),
        ];
        let g = cleaned(vec![block(code, Term::End)], &["y"]);
        assert_eq!(text(&g, 0), ["x = 8w2", "y = x", "h.f = 8w4"]);
    }

    #[test]
    fn a_store_that_one_path_reads_stays() {
        let g = cleaned(
            vec![
                block(
                    vec![set("x", bits(1)), set("y", bits(1))],
                    Term::Branch(flag("c"), 1, 2),
                ),
                block(vec![put("h", "f", x("x"))], Term::Goto(2)),
                block(vec![], Term::End),
            ],
            &[],
        );
        assert_eq!(text(&g, 0), ["x = 8w1"]);
    }

    #[test]
    fn what_an_action_that_exits_leaves_behind_stays() {
        let code = |exits| {
            let first = block(
                vec![set("x", bits(1))],
                Term::Apply(0, crate::lir::ApplyNext::Always(1)),
            );
            let mut g = Graph {
                blocks: vec![first, block(vec![set("x", bits(2))], Term::End)],
            };
            let table = Touched {
                exits,
                ..Touched::default()
            };
            clean(&mut g, &[table], &Names::from_iter([Rc::from("x")]), &Names::default());
            text(&g, 0)
        };
        assert_eq!(code(true), ["x = 8w1"]);
        assert!(code(false).is_empty());
    }

    #[test]
    fn a_loop_reads_what_its_next_round_needs() {
        let g = cleaned(
            vec![
                block(vec![set("i", bits(0))], Term::Goto(1)),
                block(vec![], Term::Branch(less(x("i"), bits(3)), 2, 3)),
                block(
                    vec![set("i", plus(x("i"), bits(1))), set("dead", x("i"))],
                    Term::Goto(1),
                ),
                block(vec![], Term::End),
            ],
            &[],
        );
        assert_eq!(text(&g, 0), ["i = 8w0"]);
        assert_eq!(text(&g, 2), ["i = i + 8w1"]);
    }

    #[test]
    fn an_extern_stays_and_does_not_hide_a_store() {
        let code = vec![set("x", bits(1)), out("register.read", "x"), put("h", "f", x("x"))];
        let g = cleaned(vec![block(code, Term::End)], &[]);
        assert_eq!(text(&g, 0), ["x = 8w1", "register.read(out x)", "h.f = x"]);
    }

    #[test]
    fn what_a_failing_parser_leaves_behind_stays() {
        let fails = (Op::Verify(flag("c"), bits(1)), crate::source::Span::default());
        let code = vec![set("x", bits(1)), fails, set("x", bits(2))];
        let g = cleaned(vec![block(code, Term::End)], &["x"]);
        assert_eq!(text(&g, 0).len(), 3);
    }

    #[test]
    fn pinned_variables_keep_every_store() {
        let mut g = Graph {
            blocks: vec![block(vec![set("x", bits(1)), set("x", bits(2))], Term::End)],
        };
        let pinned = Names::from_iter([Rc::from("x")]);
        clean(&mut g, &[], &Names::default(), &pinned);
        assert_eq!(text(&g, 0).len(), 2);
    }

    #[test]
    fn variables_without_use_lose_their_storage() {
        let mut p = Program::default();
        p.storage.scalars = ["a", "b"]
            .map(|n| crate::lir::FieldType {
                name: n.into(),
                ty: crate::lir::Ty::Bit(8),
            })
            .into();
        p.ingress = Graph {
            blocks: vec![block(vec![set("a", bits(1)), put("h", "f", x("b"))], Term::End)],
        };
        run(&mut p);
        let names: Vec<&str> = p.storage.scalars.iter().map(|f| &*f.name).collect();
        assert_eq!(names, ["b"]);
    }
}
