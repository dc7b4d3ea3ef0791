//! Branches that are decided: a condition or key is known, or all edges lead to one place (sections "Conditional
//! statement", "Select expressions"). [`super::simplify`] removes blocks that can no longer be reached.

use super::fold::{as_bool, as_int, is_pure};
use crate::ast::UnOp;
use crate::lir::{ApplyNext, Expr, ExprKind, Graph, Match, Term, Ty};
use num_bigint::BigInt;

/// Replaces all branches that are decided.
pub(super) fn run(graph: &mut Graph) {
    for b in &mut graph.blocks {
        if let Some(simpler) = simpler(&b.term) {
            b.term = simpler;
        }
        if let Term::Select(_, cases) = &mut b.term
            && let Some(last) = cases.iter().position(|(row, _)| takes_all(row))
        {
            cases.truncate(last + 1);
        }
    }
}

fn simpler(term: &Term) -> Option<Term> {
    match term {
        Term::Branch(c, yes, no) => match as_bool(c) {
            Some(true) => Some(Term::Goto(*yes)),
            Some(false) => Some(Term::Goto(*no)),
            None if yes == no && is_pure(c) => Some(Term::Goto(*yes)),
            None => match &c.kind {
                ExprKind::Unary(UnOp::Not, inner) => Some(Term::Branch((**inner).clone(), *no, *yes)),
                _ => None,
            },
        },
        Term::Apply(t, ApplyNext::HitMiss(hit, miss)) if hit == miss => Some(Term::Apply(*t, ApplyNext::Always(*hit))),
        Term::Apply(t, ApplyNext::Actions(list, rest)) if list.iter().all(|(_, to)| to == rest) => {
            Some(Term::Apply(*t, ApplyNext::Always(*rest)))
        }
        Term::Select(keys, cases) => selected(keys, cases).map(Term::Goto),
        _ => None,
    }
}

fn takes_all(row: &[Match]) -> bool {
    row.iter().all(|m| matches!(m, Match::Any))
}

/// Where a select of known keys leads; `None` if that is not known, or nowhere.
fn selected(keys: &[Expr], cases: &[(Vec<Match>, usize)]) -> Option<usize> {
    let values = keys.iter().map(|k| match k.ty {
        Ty::Bit(_) => as_int(k),
        _ => None,
    });
    let values: Vec<&BigInt> = values.collect::<Option<_>>()?;
    for (row, to) in cases {
        if row.len() != values.len() && !takes_all(row) {
            return None;
        }
        let mut all = true;
        for (m, v) in row.iter().zip(&values) {
            all &= match m {
                Match::Any => true,
                Match::Value(want, None) => want == *v,
                Match::Value(want, Some(mask)) => (want & mask) == (*v & mask),
                Match::Range(lo, hi) => lo <= *v && *v <= hi,
                Match::ValueSet(_) => return None,
            };
        }
        if all {
            return Some(*to);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lir::{Block, Loc};
    use crate::source::Span;

    fn block(term: Term) -> Block {
        Block {
            name: String::new(),
            ops: Vec::new(),
            term,
            span: Span::default(),
        }
    }

    fn after(term: Term) -> Term {
        let mut g = Graph {
            blocks: vec![block(term)],
        };
        run(&mut g);
        g.blocks.remove(0).term
    }

    fn bits(v: u32) -> Expr {
        Expr {
            kind: ExprKind::Const(v.into()),
            ty: Ty::Bit(8),
        }
    }

    fn flag() -> Expr {
        Expr {
            kind: ExprKind::Load(Loc::Field("h".into(), "f".into())),
            ty: Ty::Bool,
        }
    }

    #[test]
    fn known_conditions_go_one_way() {
        let known = |b| Expr {
            kind: ExprKind::Bool(b),
            ty: Ty::Bool,
        };
        assert!(matches!(after(Term::Branch(known(true), 1, 2)), Term::Goto(1)));
        assert!(matches!(after(Term::Branch(known(false), 1, 2)), Term::Goto(2)));
        assert!(matches!(after(Term::Branch(flag(), 1, 1)), Term::Goto(1)));
        assert!(matches!(after(Term::Branch(flag(), 1, 2)), Term::Branch(_, 1, 2)));
        let not = Expr {
            kind: ExprKind::Unary(UnOp::Not, Box::new(flag())),
            ty: Ty::Bool,
        };
        assert!(matches!(after(Term::Branch(not, 1, 2)), Term::Branch(_, 2, 1)));
    }

    #[test]
    fn known_keys_take_the_first_case_that_matches() {
        let cases = vec![
            (vec![Match::Value(1.into(), None)], 1),
            (vec![Match::Value(4.into(), Some(0xfc.into()))], 2),
            (vec![Match::Range(8.into(), 9.into())], 3),
            (vec![Match::Any], 4),
        ];
        for (key, to) in [(1, 1), (6, 2), (9, 3), (77, 4)] {
            let term = after(Term::Select(vec![bits(key)], cases.clone()));
            assert!(matches!(term, Term::Goto(t) if t == to), "{key}: {term:?}");
        }
    }

    #[test]
    fn a_value_set_or_a_missing_default_decides_nothing() {
        let set = vec![(vec![Match::ValueSet("s".into())], 1), (vec![Match::Any], 2)];
        assert!(matches!(after(Term::Select(vec![bits(1)], set)), Term::Select(..)));
        let none = vec![(vec![Match::Value(2.into(), None)], 1)];
        assert!(matches!(after(Term::Select(vec![bits(1)], none)), Term::Select(..)));
    }

    #[test]
    fn cases_behind_one_that_takes_all_go() {
        let cases = vec![(vec![Match::Any], 1), (vec![Match::Value(2.into(), None)], 2)];
        let key = Expr {
            ty: Ty::Bit(8),
            ..flag()
        };
        match after(Term::Select(vec![key], cases)) {
            Term::Select(_, cases) => assert_eq!(cases.len(), 1),
            other => panic!("{other:?}"),
        }
    }
}
