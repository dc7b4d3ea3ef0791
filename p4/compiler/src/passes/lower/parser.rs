//! Parser states to blocks, transitions to selects.

use super::{Frame, Lower, Mode, Place};
use crate::ir::ty::Type;
use crate::ir::{self, InstanceId, StateRef};
use crate::lir::{self, Match, Op, Term, Ty};
use crate::source::Span;

/// Storage of the package's blocks, shared by all of them.
pub(super) struct Top {
    pub headers: Place,
    pub metadata: Place,
    pub standard: Place,
}

impl Lower<'_> {
    pub(super) fn top_parser(&mut self, id: InstanceId) -> Option<Top> {
        let Type::Parser(p) = self.program.instances.get(id.index())?.ty else {
            return None;
        };
        let parser = self.program.parsers.get(p.index())?;
        let var = |l: &Self, i: usize| {
            parser
                .params
                .get(i)
                .and_then(|v| l.program.vars.get(v.index()))
                .cloned()
        };
        let (Some(h), Some(m), Some(s)) = (var(self, 1), var(self, 2), var(self, 3)) else {
            self.error(parser.span, "a v1model parser has four parameters");
            return None;
        };
        self.taken.insert("scalars".into());
        let standard = self.standard_metadata(&s.ty);
        let headers = self.top_headers(&h.ty, h.span);
        let metadata = self.allocate("userMetadata", &m.ty, m.span);
        self.field_lists(&metadata, &m.ty);
        self.out.header_struct = Some(h.ty.clone());
        let top = Top {
            headers,
            metadata,
            standard,
        };
        for (v, place) in parser
            .params
            .iter()
            .zip([&Place::Packet, &top.headers, &top.metadata, &top.standard])
        {
            self.env.insert(*v, place.clone());
        }
        self.bind_ctor(id, &parser.ctor);
        self.mode = Mode::Parser;
        self.path = parser.name.to_string();
        let saved = self.start_graph();
        let accept = self.new_block("accept");
        self.frames.push(Frame {
            end: accept,
            result: None,
            copy_out: Vec::new(),
        });
        self.parser_body(parser, accept);
        self.frames.pop();
        self.path = String::new();
        self.out.parser = self.end_graph(saved);
        self.mode = Mode::Control;
        Some(top)
    }

    /// Members of the header struct carry their own names.
    fn top_headers(&mut self, ty: &Type, span: Span) -> Place {
        if !matches!(ty, Type::Struct(..)) || self.program.is_header(ty) {
            return self.allocate("hdr", ty, span);
        }
        let fields = self.program.fields(ty);
        Place::Group(fields.iter().map(|(n, t)| self.allocate(n, t, span)).collect())
    }

    /// Lowers the states; the current block becomes the entry, `end` is where accept goes.
    pub(super) fn parser_body(&mut self, parser: &ir::Parser, end: usize) {
        self.locals(&parser.locals);
        let blocks: Vec<usize> = parser
            .states
            .iter()
            .map(|s| self.new_block(&s.annotations.control_name(&s.name)))
            .collect();
        let start = blocks.get(parser.start).copied().unwrap_or(end);
        self.end_block(Term::Goto(start), start, parser.span);
        for (state, block) in parser.states.iter().zip(&blocks) {
            self.current = *block;
            self.stmts(&state.body);
            match &state.transition {
                ir::Transition::Direct(s) => {
                    let term = self.target(*s, &blocks, end);
                    self.end_block(term, *block, state.span);
                }
                ir::Transition::Select(keys, cases) => self.select(keys, cases, &blocks, end, state.span),
            }
        }
    }

    fn target(&self, s: StateRef, blocks: &[usize], end: usize) -> Term {
        match s {
            StateRef::Accept => Term::Goto(end),
            StateRef::Reject => Term::Reject,
            StateRef::State(i) => Term::Goto(blocks.get(i).copied().unwrap_or(end)),
        }
    }

    fn select(
        &mut self,
        keys: &[ir::Expr],
        cases: &[(Vec<ir::Expr>, StateRef)],
        blocks: &[usize],
        end: usize,
        span: Span,
    ) {
        let mut values = Vec::new();
        let mut types = Vec::new();
        for k in keys {
            let v = self.expr(k);
            let mut leaves = Vec::new();
            self.value_leaves(&v, &k.ty, &mut leaves, false);
            types.push(leaves.len());
            values.extend(
                leaves
                    .into_iter()
                    .filter_map(|l| if let lir::Leaf::Expr(e) = l { Some(e) } else { None }),
            );
        }
        let here = self.current;
        let mut reject = None;
        let mut out = Vec::new();
        let mut total = false;
        for (sets, state) in cases {
            let to = match self.target(*state, blocks, end) {
                Term::Goto(b) => b,
                _ => *reject.get_or_insert_with(|| self.reject_block()),
            };
            let mut row = Vec::new();
            for s in sets {
                self.set(s, &mut row);
            }
            total |= row.iter().all(|m| matches!(m, Match::Any));
            out.push((row, to));
            if total {
                break;
            }
        }
        if !total {
            // Section "Select expressions": no match is error.NoMatch.
            let fail = self.no_match_block();
            out.push((vec![Match::Any; values.len()], fail));
        }
        self.current = here;
        self.end_block(Term::Select(values, out), here, span);
    }

    fn reject_block(&mut self) -> usize {
        let b = self.new_block("reject");
        if let Some(block) = self.graph.blocks.get_mut(b) {
            block.term = Term::Reject;
        }
        b
    }

    fn no_match_block(&mut self) -> usize {
        let b = self.new_block("noMatch");
        let code = self.program.errors.iter().position(|e| &**e == "NoMatch").unwrap_or(2);
        let op = Op::Verify(super::expr::truth(false), Self::constant(code, Ty::Bit(32)));
        if let Some(block) = self.graph.blocks.get_mut(b) {
            block.ops.push((op, Span::default()));
            block.term = Term::Reject;
        }
        b
    }

    /// One set expression, with a match per leaf of its type.
    pub(super) fn set(&mut self, e: &ir::Expr, out: &mut Vec<Match>) {
        match &e.kind {
            ir::ExprKind::Any => {
                let n = self.leaf_count(&e.ty);
                out.extend(std::iter::repeat_n(Match::Any, n));
            }
            ir::ExprKind::Mask(a, b) => match (self.const_int(a), self.const_int(b)) {
                (Some(a), Some(b)) => out.push(Match::Value(a & &b, Some(b))),
                _ => self.error(e.span, "this value must be known at compile time"),
            },
            ir::ExprKind::Range(a, b) => match (self.const_int(a), self.const_int(b)) {
                (Some(a), Some(b)) => out.push(Match::Range(a, b)),
                _ => self.error(e.span, "this value must be known at compile time"),
            },
            ir::ExprKind::ValueSet(id) => {
                let name = self.value_set(*id);
                out.push(Match::ValueSet(name));
            }
            ir::ExprKind::Aggregate(items) => items.iter().for_each(|i| self.set(i, out)),
            ir::ExprKind::Poison => {}
            _ => match self.const_int(e) {
                Some(v) => out.push(Match::Value(v, None)),
                None => self.error(e.span, "this value must be known at compile time"),
            },
        }
    }

    fn leaf_count(&mut self, ty: &Type) -> usize {
        if self.scalar_ty(ty).is_some() {
            return 1;
        }
        let under = self.program.underlying(ty);
        self.program.fields(&under).iter().map(|f| self.leaf_count(&f.1)).sum()
    }

    pub(super) fn value_set(&mut self, id: ir::ValueSetId) -> String {
        let key = (self.path.clone(), id);
        if let Some(n) = self.value_sets.get(&key) {
            return n.clone();
        }
        let Some(v) = self.program.value_sets.get(id.index()) else {
            return String::new();
        };
        let name = self.full_name(&v.annotations, &v.name);
        let size = self.size(v.size.as_ref()).unwrap_or(0);
        self.out.value_sets.push(lir::ValueSet {
            name: name.clone(),
            ty: v.ty.clone(),
            size,
            annotations: v.annotations.clone(),
        });
        self.value_sets.insert(key, name.clone());
        name
    }
}
