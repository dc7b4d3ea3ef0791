//! Tables: keys, actions, default action, entries, properties.

use super::{Checker, Entity};
use crate::ast::{self, Direction, PropertyValue as P};
use crate::diagnostics::Lint;
use crate::ir::ty::{Subst, Type};
use crate::ir::*;
use crate::known::Place;
use num_traits::ToPrimitive;

/// Largest size: P4Info's sizes of value sets and registers have 31 bits.
const MAX_SIZE: u32 = i32::MAX as u32;

impl Checker<'_> {
    pub(super) fn table(&mut self, d: &ast::Decl, properties: &[ast::Property]) -> TableId {
        let annotations = self.annotations(&d.annotations, Place::Table);
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
        // The table's own name means nothing inside it.
        self.push();
        self.declare(&d.name, Entity::Itself);
        for p in properties {
            if seen.contains(&&*p.name.name) {
                self.sink
                    .error(p.name.span, format!("property {} is given twice", p.name.name));
            }
            let needs = match &*p.name.name {
                "default_action" => "actions",
                "entries" => "key",
                _ => "",
            };
            let later = properties.iter().any(|q| &*q.name.name == needs);
            if later && !seen.contains(&needs) {
                self.sink
                    .error(p.name.span, format!("{} comes after {needs}", p.name.name));
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
                for a in actions {
                    let Some(used) = self.action_use(a) else { continue };
                    if t.actions.iter().any(|u| u.action == used.action) {
                        self.sink.error(a.span, format!("{} is given twice", a.name.name));
                    }
                    t.actions.push(used);
                }
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
                    self.annotations(&p.annotations, Place::Other);
                    t.const_entries = p.is_const;
                    t.has_entries = true;
                    if t.keys.is_empty() && !entries.is_empty() {
                        self.sink.error(
                            p.name.span,
                            format!("table {} has no key, so it has no entries", t.name),
                        );
                        continue;
                    }
                    t.entries = entries.iter().filter_map(|e| self.entry(&t, e)).collect();
                }
                ("default_action", P::Expr(e)) => {
                    self.annotations(&p.annotations, Place::Other);
                    t.default_action = self.default_action(&t, e).map(|a| (a, p.is_const))
                }
                ("size", P::Expr(e)) => {
                    self.annotations(&p.annotations, Place::Other);
                    t.size = self.size(e, "a table's size");
                }
                (name, P::Expr(e)) => {
                    let v = self.property(e);
                    let place = match (name, &v.kind) {
                        ("implementation", ExprKind::Instance(_)) => Place::Profile,
                        ("counters" | "meters", ExprKind::Instance(_)) => Place::Object,
                        _ => Place::Other,
                    };
                    let annotations = self.annotations(&p.annotations, place);
                    self.check_property(name, &v, p.name.span);
                    // An object made right here is known by the property's annotations.
                    if let ExprKind::Instance(id) = v.kind
                        && !p.annotations.is_empty()
                        && let Some(made) = self.program.instances.get_mut(id.index()).filter(|i| i.nameless)
                    {
                        made.annotations = annotations;
                    }
                    t.properties.push((p.name.name.clone(), v));
                }
            }
        }
        self.pop();
        self.check_priorities(&t);
        let has_default = seen.contains(&"default_action");
        let no_action = match self.lookup("NoAction", true).cloned() {
            Some(Entity::Action(a)) if self.action_sig(a).params.is_empty() => Some(a),
            _ if has_default => None,
            _ => self.error(
                d.name.span,
                format!(
                    "table {} has no default_action, and no action NoAction without parameters is declared; \
                     include core.p4",
                    d.name.name
                ),
                None,
            ),
        };
        if t.default_action.is_none()
            && let Some(no_action) = no_action
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

    /// A size: a whole number that is known when the program is put together, and fits P4Info and BMv2's document.
    pub(super) fn size(&mut self, e: &ast::Expr, what: &str) -> Option<Expr> {
        let mut v = self.expr(e, None);
        self.finish(&mut v);
        if v.ty.is_poison() {
            return None;
        }
        let numeric = matches!(
            self.program.underlying(&v.ty),
            Type::Integer | Type::Bit(_) | Type::Int(_)
        );
        let known = v.as_int().is_some() || (numeric && self.is_elaborated(&v));
        if !known {
            return self.error(e.span, format!("{what} must be a constant"), None);
        }
        if v.as_int().is_some_and(|n| n.to_u32().is_none_or(|n| n > MAX_SIZE)) {
            return self.error(e.span, format!("{what} must be from 0 to {MAX_SIZE}"), None);
        }
        Some(v)
    }

    /// Properties that v1model gives a meaning must have a value of their kind; others are reported.
    fn check_property(&mut self, name: &str, v: &Expr, span: crate::source::Span) {
        if v.ty.is_poison() {
            return;
        }
        let externs: &[&str] = match name {
            "implementation" => &["action_profile", "action_selector"],
            "counters" => &["direct_counter"],
            "meters" => &["direct_meter"],
            "support_timeout" | "idle_timeout" => {
                if v.ty != Type::Bool || !self.is_elaborated(v) {
                    self.sink
                        .error(v.span, format!("{name} is true or false, known at compile time"));
                }
                return;
            }
            // Checked with the priorities.
            "largest_priority_wins" | "priority_delta" => return,
            _ => {
                self.sink.warn(
                    Lint::Unsupported,
                    span,
                    format!("table property {name} means nothing here and is ignored"),
                );
                return;
            }
        };
        let found = match &v.ty {
            Type::Extern(id, _) => self.program.externs.get(id.index()).map(|e| e.name.clone()),
            _ => None,
        };
        if !found.is_some_and(|f| externs.contains(&&*f)) {
            self.sink.error(
                v.span,
                format!("{name} needs an object of extern {}", externs.join(" or ")),
            );
        }
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
        let has_name = k.annotations.iter().any(|a| &*a.name.name == "name");
        if !has_name && !is_simple_key(&k.expr) && !expr.ty.is_poison() {
            self.sink.error_help(
                k.expr.span,
                "the control plane needs a name for this key",
                "write @name(\"...\") after the match kind",
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
        let annotations = self.annotations(&k.annotations, Place::Key);
        let name = annotations
            .string("name")
            .unwrap_or_else(|| self.key_name(&k.expr, Some(&expr)));
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
        let annotations = self.annotations(&a.annotations, Place::ActionUse);
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
        (global, name): (bool, &ast::Ident),
        args: &[ast::Arg],
        span: crate::source::Span,
    ) -> Option<ActionCall> {
        let Some(Entity::Action(id)) = self.lookup(&name.name, global).cloned() else {
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
        self.check_directed(t, index, &sig, args, span);
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
            if !v.ty.is_poison() && !self.is_elaborated(v) {
                self.sink
                    .error(v.span, "an action's argument must be known at compile time here");
            }
        }
        Some(ActionCall { index, args: values })
    }

    /// Arguments for parameters with a direction that are repeated must be those of the actions list.
    fn check_directed(
        &mut self,
        t: &Table,
        index: usize,
        sig: &Signature,
        args: &[ast::Arg],
        span: crate::source::Span,
    ) {
        let directed = sig.params.iter().filter(|p| p.direction != Direction::None).count();
        if directed == 0 || args.len() != sig.params.len() {
            return;
        }
        let Some((bound, _, _)) = self.bind(sig, &Subst::new(), &[], args, None, span) else {
            return;
        };
        let Some(used) = t.actions.get(index) else { return };
        for (here, there) in bound.iter().zip(&used.args) {
            if let (Some(a), Some(b)) = (&here.value, &there.value)
                && !super::rules::same_expr(a, b)
            {
                self.sink.error_note(
                    a.span,
                    "this argument differs from the one in the actions list",
                    b.span,
                    "given here",
                );
            }
        }
    }

    fn default_action(&mut self, t: &Table, e: &ast::Expr) -> Option<ActionCall> {
        let call = match &e.kind {
            ast::ExprKind::Name { global, name } => self.action_call(t, (*global, name), &[], e.span),
            ast::ExprKind::Call { callee, args, .. } => match &callee.kind {
                ast::ExprKind::Name { global, name } => self.action_call(t, (*global, name), args, e.span),
                _ => self.error(e.span, "an action is expected here", None),
            },
            _ => self.error(e.span, "an action is expected here", None),
        }?;
        if t.actions
            .get(call.index)
            .is_some_and(|a| a.annotations.has("tableonly"))
        {
            self.sink
                .error(e.span, "an action marked @tableonly cannot be the default action");
        }
        Some(call)
    }

    /// Section "Entry priorities": whether entries may and must have one, and that none leaves 32 bits.
    fn check_priorities(&mut self, t: &Table) {
        let flag = |name: &str| t.properties.iter().find(|p| &*p.0 == name).map(|p| &p.1);
        if let Some(e) = flag("largest_priority_wins")
            && e.as_bool().is_none()
            && !e.ty.is_poison()
        {
            self.sink
                .error(e.span, "largest_priority_wins is true or false, known at compile time");
        }
        let delta = match flag("priority_delta") {
            None => num_bigint::BigInt::from(1),
            Some(e) => match e.as_int() {
                Some(v) if *v > num_bigint::BigInt::ZERO => v.clone(),
                _ if e.ty.is_poison() => return,
                _ => return self.error(e.span, "priority_delta is a positive constant", ()),
            },
        };
        let Some(explicit) = t.entries.iter().find(|e| e.priority.is_some()) else {
            return;
        };
        if t.keys.iter().all(|k| matches!(&*k.match_kind, "exact" | "lpm")) {
            let span = explicit.span;
            return self.error(
                span,
                "entries of a table with exact and lpm keys only have no priority",
                (),
            );
        }
        if let Some(first) = t.entries.first()
            && first.priority.is_none()
        {
            let (first, explicit) = (first.span, explicit.span);
            self.sink.error_note(
                first,
                "the first entry needs a priority if a later one has one",
                explicit,
                "this one has one",
            );
            return;
        }
        let largest = flag("largest_priority_wins").and_then(Expr::as_bool).unwrap_or(true);
        let mut last: Option<num_bigint::BigInt> = None;
        for e in &t.entries {
            let value = match (&e.priority, last) {
                (Some(p), _) => p.clone(),
                (None, Some(p)) if largest => p - &delta,
                (None, Some(p)) => p + &delta,
                (None, None) => return,
            };
            if value.to_u32().is_none() {
                return self.error(e.span, format!("priority {value} of this entry is outside bit<32>"), ());
            }
            last = Some(value);
        }
    }

    /// What a set expression may look like under a match kind (section "Entries").
    fn check_entry_key(&mut self, kind: &str, key: &Expr, ty: &Type) {
        let width = match self.program.underlying(ty) {
            Type::Bit(w) | Type::Int(w) => w,
            _ => return,
        };
        match (&key.kind, kind) {
            (ExprKind::Mask(..), "exact" | "optional" | "range") => {
                self.sink
                    .error(key.span, format!("a key with {kind} match takes no mask"));
            }
            (ExprKind::Range(..), "exact" | "optional" | "lpm" | "ternary") => {
                self.sink
                    .error(key.span, format!("a key with {kind} match takes no range"));
            }
            (ExprKind::Any, "exact") => {
                self.sink.error(key.span, "a key with exact match needs a value");
            }
            (ExprKind::Mask(_, mask), "lpm") => {
                let Some(mask) = mask.as_int() else { return };
                let full = fold::power(width) - 1;
                let mask = mask & &full;
                // The bits that are not matched must be the low ones: 2^n - 1.
                let rest = &full - &mask;
                if (&rest & (&rest + 1)) != num_bigint::BigInt::ZERO {
                    self.sink
                        .error(key.span, "the mask of a key with lpm match covers the high bits only");
                }
            }
            _ => {}
        }
    }

    fn entry(&mut self, t: &Table, e: &ast::Entry) -> Option<TableEntry> {
        let types: Vec<Type> = t.keys.iter().map(|k| k.expr.ty.clone()).collect();
        let keys = self.keyset(&e.keyset, &types);
        let args = e.action.args.clone().unwrap_or_default();
        for (k, v) in t.keys.iter().zip(&keys) {
            self.check_entry_key(&k.match_kind, v, &k.expr.ty);
        }
        let call = self.action_call(t, (e.action.global, &e.action.name), &args, e.action.span)?;
        if t.actions
            .get(call.index)
            .is_some_and(|a| a.annotations.has("defaultonly"))
        {
            self.sink.error(
                e.action.span,
                "an action marked @defaultonly cannot be used in an entry",
            );
        }
        let priority = match &e.priority {
            Some(p) => {
                let mut v = self.expr(p, None);
                self.finish(&mut v);
                match v.as_int() {
                    Some(v) => Some(v.clone()),
                    None if v.ty.is_poison() => None,
                    None => self.error(p.span, "an entry's priority must be a constant number", None),
                }
            }
            None => None,
        };
        let annotations = self.annotations(&e.annotations, Place::Entry);
        Some(TableEntry {
            is_const: e.is_const,
            priority,
            keys,
            call,
            annotations,
            span: e.span,
        })
    }

    /// The control plane's name of a key (P4Runtime specification, section "Table"): the expression as written, with
    /// the names that `@name` gives fields; a name that starts with a dot stands for the whole path. `typed` is the same
    /// expression where it is known.
    fn key_name(&self, e: &ast::Expr, typed: Option<&Expr>) -> String {
        use ast::ExprKind as E;
        let plain = |e| self.key_name(e, None);
        match &e.kind {
            E::Name { name, .. } => name.name.to_string(),
            E::Member(b, n) => {
                let field = match typed.map(|t| &t.kind) {
                    Some(ExprKind::Field(base, index)) => Some((&**base, *index)),
                    _ => None,
                };
                let decl = field.and_then(|(base, index)| match &base.ty {
                    Type::Struct(id, _) => self.program.strukt(*id)?.fields.get(index),
                    _ => None,
                });
                let name = decl.map_or_else(|| n.name.to_string(), |f| f.annotations.control_name(&f.name));
                match name.strip_prefix('.') {
                    Some(whole) => whole.to_string(),
                    None => format!("{}.{name}", self.key_name(b, field.map(|f| f.0))),
                }
            }
            E::Index(b, i) => {
                let stack = match typed.map(|t| &t.kind) {
                    Some(ExprKind::Index(stack, _)) => Some(&**stack),
                    _ => None,
                };
                format!("{}[{}]", self.key_name(b, stack), plain(i))
            }
            E::Slice(b, hi, lo) => format!("{}[{}:{}]", plain(b), plain(hi), plain(lo)),
            // In the base that it is written in.
            E::Int(v, _) => {
                let text = self.sources.text(e.span).to_ascii_lowercase();
                let digits = text.split_once(['w', 's']).map_or(text.as_str(), |(_, digits)| digits);
                match digits.get(..2) {
                    Some("0x") => format!("{v:#x}"),
                    Some("0b") => format!("{v:#b}"),
                    Some("0o") => format!("{v:#o}"),
                    _ => v.to_string(),
                }
            }
            E::Call { callee, .. } => match (&callee.kind, typed.map(|t| &t.kind)) {
                (E::Member(b, n), Some(ExprKind::Call(call))) if &*n.name == "isValid" => match &call.callee {
                    Callee::IsValid(object) => format!("{}.$valid$", self.key_name(b, Some(object))),
                    _ => format!("{}.$valid$", plain(b)),
                },
                _ => format!("{}()", plain(callee)),
            },
            E::Binary(op, a, b) => format!("{} {} {}", plain(a), op.symbol(), plain(b)),
            E::Cast(_, a) | E::Unary(_, a) => plain(a),
            E::Type(_) => "type".into(),
            _ => "key".into(),
        }
    }
}

/// Whether the control plane can name a key by its expression.
fn is_simple_key(e: &ast::Expr) -> bool {
    use ast::ExprKind as E;
    match &e.kind {
        E::Name { .. } | E::Int(..) | E::Type(_) => true,
        E::Member(b, _) => is_simple_key(b),
        E::Index(b, i) => is_simple_key(b) && is_simple_key(i),
        E::Slice(b, hi, lo) | E::PlusSlice(b, hi, lo) => [b, hi, lo].into_iter().all(|e| is_simple_key(e)),
        E::Call { callee, args, .. } => {
            args.is_empty() && matches!(&callee.kind, E::Member(b, n) if &*n.name == "isValid" && is_simple_key(b))
        }
        E::Binary(ast::BinOp::And, a, b) => is_simple_key(a) && is_simple_key(b),
        E::Cast(_, a) => is_simple_key(a),
        _ => false,
    }
}
