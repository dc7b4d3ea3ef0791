//! Shortens block graphs: empty blocks are skipped, chains are joined. Order and meaning stay the same.

use crate::lir::{ApplyNext, Graph, Term};

/// Simplifies one graph; `join` also merges a block into its only predecessor.
pub fn simplify(graph: &mut Graph, join: bool) {
    thread(graph);
    if join {
        merge(graph);
    }
}

/// The blocks to which a block may lead.
pub fn successors(term: &Term) -> Vec<usize> {
    match term {
        Term::Goto(a) | Term::Apply(_, ApplyNext::Always(a)) => vec![*a],
        Term::Branch(_, a, b) | Term::Apply(_, ApplyNext::HitMiss(a, b)) => vec![*a, *b],
        Term::Apply(_, ApplyNext::Actions(list, rest)) => list.iter().map(|x| x.1).chain([*rest]).collect(),
        Term::Select(_, cases) => cases.iter().map(|c| c.1).collect(),
        Term::End | Term::Exit | Term::Reject => Vec::new(),
    }
}

/// Calls `f` on every edge out of a block.
pub fn edges_mut(term: &mut Term, f: &mut impl FnMut(&mut usize)) {
    match term {
        Term::Goto(a) | Term::Apply(_, ApplyNext::Always(a)) => f(a),
        Term::Branch(_, a, b) | Term::Apply(_, ApplyNext::HitMiss(a, b)) => {
            f(a);
            f(b);
        }
        Term::Apply(_, ApplyNext::Actions(list, rest)) => {
            list.iter_mut().for_each(|x| f(&mut x.1));
            f(rest);
        }
        Term::Select(_, cases) => cases.iter_mut().for_each(|c| f(&mut c.1)),
        Term::End | Term::Exit | Term::Reject => {}
    }
}

/// Lets edges that lead to empty blocks go straight to the block after them.
fn thread(graph: &mut Graph) {
    let mut target: Vec<Option<usize>> = vec![None; graph.blocks.len()];
    let mut path = Vec::new();
    for start in 0..graph.blocks.len() {
        let mut at = start;
        let end = loop {
            if let Some(known) = target.get(at).copied().flatten() {
                break known;
            }
            // As long as its end is not known, a block counts as its own end. So a ring of empty blocks is followed
            // only once.
            if let Some(t) = target.get_mut(at) {
                *t = Some(at);
            }
            path.push(at);
            match graph.blocks.get(at) {
                Some(b) if b.ops.is_empty() => match b.term {
                    Term::Goto(next) => at = next,
                    _ => break at,
                },
                _ => break at,
            }
        };
        for passed in path.drain(..) {
            if let Some(t) = target.get_mut(passed) {
                *t = Some(end);
            }
        }
    }
    for b in &mut graph.blocks {
        edges_mut(&mut b.term, &mut |t| {
            *t = target.get(*t).copied().flatten().unwrap_or(*t)
        });
    }
}

fn merge(graph: &mut Graph) {
    let live = reachable(graph);
    let mut preds = vec![0usize; graph.blocks.len()];
    for next in live
        .iter()
        .filter_map(|i| graph.blocks.get(*i))
        .flat_map(|b| successors(&b.term))
    {
        if let Some(p) = preds.get_mut(next) {
            *p += 1;
        }
    }
    for i in live {
        while let Some(Term::Goto(next)) = graph.blocks.get(i).map(|b| b.term.clone()) {
            if next == i || next == 0 || preds.get(next) != Some(&1) {
                break;
            }
            let Some(tail) = graph.blocks.get_mut(next) else { break };
            let (ops, term, span) = (
                std::mem::take(&mut tail.ops),
                std::mem::replace(&mut tail.term, Term::End),
                tail.span,
            );
            let Some(b) = graph.blocks.get_mut(i) else { break };
            b.ops.extend(ops);
            b.term = term;
            b.span = span;
        }
    }
}

/// Blocks that can be reached, beginning with the first block.
pub fn reachable(graph: &Graph) -> Vec<usize> {
    let mut seen = vec![false; graph.blocks.len()];
    let mut order = Vec::new();
    let mut todo = vec![0];
    while let Some(i) = todo.pop() {
        match seen.get_mut(i) {
            Some(s) if !*s => *s = true,
            _ => continue,
        }
        order.push(i);
        if let Some(b) = graph.blocks.get(i) {
            todo.extend(successors(&b.term).into_iter().rev());
        }
    }
    order
}

#[cfg(test)]
mod tests {
    use super::super::test_code::{bits, block, flag, set, text};
    use super::*;

    #[test]
    fn empty_blocks_are_skipped_and_chains_joined() {
        let mut g = Graph {
            blocks: vec![
                block(vec![set("a", bits(1))], Term::Goto(1)),
                block(vec![], Term::Goto(2)),
                block(vec![set("b", bits(2))], Term::Goto(3)),
                block(vec![set("c", bits(3))], Term::End),
            ],
        };
        simplify(&mut g, false);
        assert_eq!(reachable(&g), [0, 2, 3], "without joining only edges change");
        simplify(&mut g, true);
        assert_eq!(reachable(&g), [0]);
        assert_eq!(text(&g, 0), ["a = 8w1", "b = 8w2", "c = 8w3"]);
    }

    #[test]
    fn a_block_with_two_ways_in_stays() {
        let mut g = Graph {
            blocks: vec![
                block(vec![], Term::Branch(flag("f"), 1, 2)),
                block(vec![set("a", bits(1))], Term::Goto(3)),
                block(vec![set("a", bits(2))], Term::Goto(3)),
                block(vec![set("b", bits(3))], Term::End),
            ],
        };
        simplify(&mut g, true);
        assert_eq!(reachable(&g).len(), 4);
    }

    #[test]
    fn a_ring_of_empty_blocks_ends_the_search() {
        let mut g = Graph {
            blocks: vec![
                block(vec![set("a", bits(1))], Term::Goto(1)),
                block(vec![], Term::Goto(2)),
                block(vec![], Term::Goto(1)),
            ],
        };
        simplify(&mut g, true);
        assert_eq!(text(&g, 0), ["a = 8w1"]);
    }
}
