//! From the typed program to flat code, and from flat code to shorter code.
//!
//! [`lower`] makes the flat program, [`optimise`] rewrites it in place. Each pass is one file, preserves the program's
//! meaning, and may be left out. The control plane's view (P4Info, entries) is written before that, so it does
//! not depend on the level.
mod branches;
mod dead;
mod effects;
mod fold;
pub mod lower;
mod propagate;
pub mod simplify;
#[cfg(test)]
mod test_code;

use crate::OptLevel;
use crate::lir::{ApplyNext, Graph, Program, Term};

/// Most rounds. Each round can enable more changes in the next (a decided branch leaves one definition of a variable);
/// real programs need two or three.
const MAX_ROUNDS: usize = 6;

/// Brings the program into the shape that back ends expect (no edges through empty blocks), and at
/// [`OptLevel::O1`] makes it shorter.
pub fn optimise(p: &mut Program, level: OptLevel) {
    if level == OptLevel::O1 {
        for _ in 0..MAX_ROUNDS {
            let before = size(p);
            round(p);
            if size(p) == before {
                break;
            }
        }
    }
    graphs(p).for_each(|g| simplify::simplify(g, level == OptLevel::O1));
}

fn graphs(p: &mut Program) -> impl Iterator<Item = &mut Graph> {
    let main = [&mut p.parser, &mut p.ingress, &mut p.egress];
    main.into_iter().chain(p.actions.iter_mut().map(|a| &mut a.graph))
}

fn round(p: &mut Program) {
    let tables = effects::tables(p);
    for g in graphs(p) {
        propagate::run(g, &tables);
        branches::run(g);
        simplify::simplify(g, true);
    }
    for c in &mut p.checksums {
        fold::expr(&mut c.condition);
    }
    dead::run(p);
}

/// Counts of reachable blocks, operations, edges and parts of expressions: a round that changes none of these is the last.
fn size(p: &mut Program) -> [usize; 4] {
    let mut n = [0; 4];
    for g in graphs(p) {
        for b in simplify::reachable(g).into_iter().filter_map(|i| g.blocks.get(i)) {
            n[0] += 1;
            n[1] += b.ops.len();
            n[2] += match &b.term {
                Term::Apply(_, ApplyNext::Always(_)) => 1,
                other => simplify::successors(other).len() + 1,
            };
            let mut count = |e: &crate::lir::Expr| effects::walk(e, &mut |_| n[3] += 1);
            b.ops.iter().for_each(|(op, _)| effects::op_exprs(op, &mut count));
            effects::term_exprs(&b.term, &mut count);
        }
    }
    n
}
