//! Tables: keys, actions, default action, entries, properties.

use super::{Checker, Entity};
use crate::ast::{self, Direction, PropertyValue as P};
use crate::ir::ty::{Subst, Type};
use crate::ir::*;
use num_traits::ToPrimitive;

impl Checker<'_> {
    pub(super) fn table(&mut self, d: &ast::Decl, properties: &[ast::Property]) -> TableId {
        let annotations = self.annotations(&d.annotations);
        let mut t = Table {
            name: d.name.name.clone(),
            keys: Vec::new(),
            actions: Vec::new(),
            default_action: None,
            entries: Vec::new(),
            const_entries: false,
            has_entries: false,
            size: None,
            properties: Vec::new(),
            annotations,
            span: d.name.span,
        };
        let mut seen: Vec<&str> = Vec::new();
        for p in properties {
            if seen.contains(&&*p.name.name) {
                self.sink
                    .error(p.name.span, format!("property {} is given twice", p.name.name));
            }
            seen.push(&p.name.name);
        }
        // Keys and actions first, whatever the order in the source.
        for p in properties {
            if let P::Key(keys) = &p.value {
                t.keys = keys.iter().map(|k| self.key(k)).collect();
            }
        }
        for p in properties {
            if let P::Actions(actions) = &p.value {
                t.actions = actions.iter().filter_map(|a| self.action_use(a)).collect();
            }
        }
        if !seen.contains(&"actions") {
            self.sink
                .error(d.name.span, format!("table {} has no actions", d.name.name));
        }
        for p in properties {
            match (&*p.name.name, &p.value) {
                (_, P::Key(_) | P::Actions(_)) => {}
                (_, P::Entries(entries)) => {
                    t.const_entries = p.is_const;
                    t.has_entries = true;
                    t.entries = entries.iter().filter_map(|e| self.entry(&t, e)).collect();
                }
                ("default_action", P::Expr(e)) => {
                    t.default_action = self.default_action(&t, e).map(|a| (a, p.is_const))
                }
                ("size", P::Expr(e)) => {
                    let v = self.expr(e, None);
                    t.size = v.as_int().and_then(ToPrimitive::to_u64);
                    if t.size.is_none() && !v.ty.is_poison() && !matches!(v.kind, ExprKind::Var(_)) {
                        self.sink
                            .error(e.span, "a table's size must be a constant that is not negative");
                    }
                }
                (_, P::Expr(e)) => {
                    let v = self.property(e);
                    t.properties.push((p.name.name.clone(), v));
                }
            }
        }
        if t.default_action.is_none()
            && let Some(Entity::Action(no_action)) = self.lookup("NoAction", true).cloned()
        {
            let index = match t.actions.iter().position(|a| a.action == no_action) {
                Some(i) => i,
                None => {
                    let only = crate::ir::annotation::Annotation {
                        name: "defaultonly".into(),
                        body: crate::ir::annotation::Body::Empty,
                        span: d.span,
                    };
                    let annotations = crate::ir::annotation::Annotations(std::rc::Rc::new(vec![only]));
                    t.actions.push(ActionUse {
                        action: no_action,
                        args: Vec::new(),
                        annotations,
                    });
                    t.actions.len() - 1
                }
            };
            t.default_action = Some((
                ActionCall {
                    index,
                    args: Vec::new(),
                },
                false,
            ));
        }
        let id = TableId(self.program.tables.len() as u32);
        self.program.tables.push(t);
        id
    }

    fn property(&mut self, e: &ast::Expr) -> Expr {
        let mut v = self.expr(e, None);
        self.finish(&mut v);
        v
    }

    fn key(&mut self, k: &ast::KeyElement) -> Key {
        let mut expr = self.expr(&k.expr, None);
        self.finish(&mut expr);
        if !self.program.match_kinds.contains(&k.match_kind.name) {
            self.sink.error(
                k.match_kind.span,
                format!("no match kind {} is declared", k.match_kind.name),
            );
        }
        let under = self.program.underlying(&expr.ty);
        if !matches!(
            under,
            Type::Bit(_) | Type::Int(_) | Type::Bool | Type::Enum(_) | Type::Error | Type::Poison | Type::Varbit(_)
        ) {
            let s = self.show(&expr.ty);
            self.sink.error(k.expr.span, format!("a key cannot have type {s}"));
        }
        let annotations = self.annotations(&k.annotations);
        let name = annotations.string("name").unwrap_or_else(|| key_name(&k.expr));
        Key {
            expr,
            match_kind: k.match_kind.name.clone(),
            name,
            annotations,
            span: k.expr.span,
        }
    }

    fn action_use(&mut self, a: &ast::ActionRef) -> Option<ActionUse> {
        let id = match self.lookup(&a.name.name, a.global) {
            Some(Entity::Action(id)) => *id,
            Some(_) => return self.error(a.span, format!("{} is not an action", a.name.name), None),
            None => return self.error(a.span, format!("no action {} is declared", a.name.name), None),
        };
        let mut sig = self.action_sig(id);
        sig.params.retain(|p| p.direction != Direction::None);
        let empty = Vec::new();
        let (args, _, _) = self.bind(
            &sig,
            &Subst::new(),
            &[],
            a.args.as_ref().unwrap_or(&empty),
            None,
            a.span,
        )?;
        let annotations = self.annotations(&a.annotations);
        Some(ActionUse {
            action: id,
            args,
            annotations,
        })
    }

    /// The action of `default_action` or an entry, with values for the parameters without direction.
    fn action_call(
        &mut self,
        t: &Table,
        name: &ast::Ident,
        args: &[ast::Arg],
        span: crate::source::Span,
    ) -> Option<ActionCall> {
        let Some(Entity::Action(id)) = self.lookup(&name.name, false).cloned() else {
            return self.error(span, format!("{} is not an action", name.name), None);
        };
        let Some(index) = t.actions.iter().position(|a| a.action == id) else {
            return self.error(
                span,
                format!("{} is not an action of table {}", name.name, t.name),
                None,
            );
        };
        let sig = self.action_sig(id);
        let directed = sig.params.iter().filter(|p| p.direction != Direction::None).count();
        let mut data = sig.clone();
        data.params.retain(|p| p.direction == Direction::None);
        // The directional arguments may be repeated here; they must be those of the actions list.
        let args = if args.len() == sig.params.len() && directed > 0 {
            args.get(directed..).unwrap_or(&[])
        } else {
            args
        };
        let (bound, _, _) = self.bind(&data, &Subst::new(), &[], args, None, span)?;
        let values = bound.into_iter().filter_map(|a| a.value).collect::<Vec<_>>();
        for v in &values {
            if !v.is_const() && !v.ty.is_poison() && !matches!(v.kind, ExprKind::Var(_)) {
                self.sink
                    .error(v.span, "an action's argument must be known at compile time here");
            }
        }
        Some(ActionCall { index, args: values })
    }

    fn default_action(&mut self, t: &Table, e: &ast::Expr) -> Option<ActionCall> {
        match &e.kind {
            ast::ExprKind::Name { name, .. } => self.action_call(t, name, &[], e.span),
            ast::ExprKind::Call { callee, args, .. } => match &callee.kind {
                ast::ExprKind::Name { name, .. } => self.action_call(t, name, args, e.span),
                _ => self.error(e.span, "an action is expected here", None),
            },
            _ => self.error(e.span, "an action is expected here", None),
        }
    }

    fn entry(&mut self, t: &Table, e: &ast::Entry) -> Option<TableEntry> {
        let types: Vec<Type> = t.keys.iter().map(|k| k.expr.ty.clone()).collect();
        let keys = self.keyset(&e.keyset, &types);
        let args = e.action.args.clone().unwrap_or_default();
        let call = self.action_call(t, &e.action.name, &args, e.action.span)?;
        let priority = match &e.priority {
            Some(p) => self.expr(p, None).as_int().cloned(),
            None => None,
        };
        let annotations = self.annotations(&e.annotations);
        Some(TableEntry {
            is_const: e.is_const,
            priority,
            keys,
            call,
            annotations,
            span: e.span,
        })
    }
}

/// The control plane's name of a key (P4Runtime specification, section "Table"): the expression as written.
fn key_name(e: &ast::Expr) -> String {
    use ast::ExprKind as E;
    match &e.kind {
        E::Name { name, .. } => name.name.to_string(),
        E::Member(b, n) => format!("{}.{}", key_name(b), n.name),
        E::Index(b, i) => format!("{}[{}]", key_name(b), key_name(i)),
        E::Slice(b, hi, lo) => format!("{}[{}:{}]", key_name(b), key_name(hi), key_name(lo)),
        E::Int(v, _) => v.to_string(),
        E::Call { callee, .. } => format!("{}()", key_name(callee)).replace(".isValid()", ".$valid$"),
        E::Binary(op, a, b) => format!("{} {} {}", key_name(a), op.symbol(), key_name(b)),
        E::Cast(_, a) => key_name(a),
        E::Unary(_, a) => key_name(a),
        E::Type(_) => "type".into(),
        _ => "key".into(),
    }
}
