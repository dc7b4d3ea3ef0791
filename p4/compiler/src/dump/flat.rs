//! The flat program as indented text: storage, graphs, actions, tables, objects.

use crate::ast::UnOp;
use crate::lir::*;
use crate::passes::simplify::reachable;
use std::fmt::Write;

/// Prints a flat program.
pub(crate) fn print(p: &Program) -> String {
    let mut out = String::new();
    storage(&p.storage, &mut out);
    graph("parser", &p.parser, p, &mut out);
    graph("ingress", &p.ingress, p, &mut out);
    graph("egress", &p.egress, p, &mut out);
    let deparser: Vec<&str> = p.deparser.iter().map(|h| &**h).collect();
    let _ = writeln!(out, "deparser {}", deparser.join(", "));
    for c in &p.checksums {
        let word = if c.update { "update" } else { "verify" };
        let payload = if c.payload { " with payload" } else { "" };
        let _ = writeln!(
            out,
            "{word} {} = checksum {}({}){payload} if {}",
            loc(&c.target),
            c.algorithm,
            leaves(&c.data),
            expr(&c.condition)
        );
    }
    for (i, a) in p.actions.iter().enumerate() {
        let params: Vec<String> = a.params.iter().map(|p| format!("{} {}", ty(p.ty), p.name)).collect();
        graph(
            &format!("action {i} {}({})", a.name, params.join(", ")),
            &a.graph,
            p,
            &mut out,
        );
    }
    p.tables.iter().for_each(|t| table(t, p, &mut out));
    for o in &p.objects {
        let args: Vec<String> = o.args.iter().map(ToString::to_string).collect();
        let _ = writeln!(out, "{} {}({})", o.kind, o.name, args.join(", "));
    }
    for v in &p.value_sets {
        let _ = writeln!(out, "value_set {}({})", v.name, v.size);
    }
    for (n, fields) in &p.field_lists {
        let fields: Vec<String> = fields.iter().map(|(h, f)| format!("{h}.{f}")).collect();
        let _ = writeln!(out, "field_list {n}: {}", fields.join(", "));
    }
    out
}

fn storage(s: &Storage, out: &mut String) {
    for t in &s.header_types {
        let fields: Vec<String> = t.fields.iter().map(|f| format!("{} {}", ty(f.ty), f.name)).collect();
        let _ = writeln!(out, "type {} {{ {} }}", t.name, fields.join("; "));
    }
    let type_name = |i: usize| s.header_types.get(i).map_or("?", |t| t.name.as_str());
    for h in &s.headers {
        let word = if h.metadata { "metadata" } else { "header" };
        let _ = writeln!(out, "{word} {} {}", type_name(h.ty), h.name);
    }
    for (name, t, items) in &s.stacks {
        let _ = writeln!(out, "stack {}[{}] {name}", type_name(*t), items.len());
    }
    for (name, t, members) in &s.unions {
        let t = s.union_types.get(*t).map_or("?", |t| t.0.as_str());
        let members: Vec<&str> = members.iter().map(|m| &**m).collect();
        let _ = writeln!(out, "union {t} {name} {{ {} }}", members.join(", "));
    }
    for f in &s.scalars {
        let _ = writeln!(out, "scalar {} {}", ty(f.ty), f.name);
    }
}

fn ty(t: Ty) -> String {
    match t {
        Ty::Bool => "bool".into(),
        Ty::Bit(w) => format!("bit<{w}>"),
        Ty::Int(w) => format!("int<{w}>"),
        Ty::Varbit(w) => format!("varbit<{w}>"),
    }
}

fn header(h: &HeaderRef) -> String {
    match h {
        HeaderRef::Named(n) => n.to_string(),
        HeaderRef::At(s, i) => format!("{s}[{}]", expr(i)),
        HeaderRef::Next(s) => format!("{s}.next"),
        HeaderRef::Last(s) => format!("{s}.last"),
    }
}

fn loc(l: &Loc) -> String {
    match l {
        Loc::Field(h, f) => format!("{h}.{f}"),
        Loc::Of(h, f, _) => format!("{}.{f}", header(h)),
    }
}

fn atom(e: &Expr) -> String {
    match &e.kind {
        ExprKind::Binary(..) | ExprKind::Mux(..) => format!("({})", expr(e)),
        _ => expr(e),
    }
}

pub(crate) fn expr(e: &Expr) -> String {
    match &e.kind {
        ExprKind::Const(v) => match e.ty {
            Ty::Int(w) => format!("{w}s{v}"),
            t => format!("{}w{v}", t.width()),
        },
        ExprKind::Bool(b) => b.to_string(),
        ExprKind::Load(l) => loc(l),
        ExprKind::Data(i) => format!("param{i}"),
        ExprKind::Valid(h) => format!("{}.isValid()", header(h)),
        ExprKind::LastIndex(s) => format!("{s}.lastIndex"),
        ExprKind::Lookahead(at, w) => format!("lookahead({at}, {w})"),
        ExprKind::Unary(op, a) => {
            let op = match op {
                UnOp::Not => '!',
                UnOp::Complement => '~',
                UnOp::Neg => '-',
                UnOp::Plus => '+',
            };
            format!("{op}{}", atom(a))
        }
        ExprKind::Binary(op, a, b) => format!("{} {} {}", atom(a), op.symbol(), atom(b)),
        ExprKind::Mux(c, a, b) => format!("{} ? {} : {}", atom(c), atom(a), atom(b)),
        ExprKind::Cast(a) => format!("({}){}", ty(e.ty), atom(a)),
        ExprKind::Slice(a, hi, lo) => format!("{}[{hi}:{lo}]", atom(a)),
    }
}

fn leaves(list: &[Leaf]) -> String {
    let one = |l: &Leaf| match l {
        Leaf::Expr(e) => expr(e),
        Leaf::Header(h) => header(h),
    };
    list.iter().map(one).collect::<Vec<_>>().join(", ")
}

pub(crate) fn op(o: &Op) -> String {
    match o {
        Op::Assign(l, _, e) => format!("{} = {}", loc(l), expr(e)),
        Op::AssignHeader(a, b) => format!("header {} = {}", header(a), header(b)),
        Op::AssignStack(a, b) => format!("stack {a} = {b}"),
        Op::AssignUnion(a, b) => format!("union {a} = {b}"),
        Op::SetValid(h, true) => format!("{}.setValid()", header(h)),
        Op::SetValid(h, false) => format!("{}.setInvalid()", header(h)),
        Op::Push(s, n) => format!("{s}.push_front({n})"),
        Op::Pop(s, n) => format!("{s}.pop_front({n})"),
        Op::Extract(h, None) => format!("extract({})", header(h)),
        Op::Extract(h, Some(bits)) => format!("extract({}, {})", header(h), expr(bits)),
        Op::Advance(e) => format!("advance({})", expr(e)),
        Op::Verify(c, e) => format!("verify({}, {})", expr(c), expr(e)),
        Op::Extern { name, object, args, .. } => {
            let arg = |a: &ExternArg| match a {
                ExternArg::Expr(e) => expr(e),
                ExternArg::Out(l, _) => format!("out {}", loc(l)),
                ExternArg::Str(s) => format!("{s:?}"),
                ExternArg::List(l) => format!("{{ {} }}", leaves(l)),
            };
            let object = object.as_ref().map(|o| format!(" {o}")).unwrap_or_default();
            let args: Vec<String> = args.iter().map(arg).collect();
            format!("{name}{object}({})", args.join(", "))
        }
    }
}

fn matches(list: &[Match]) -> String {
    let one = |m: &Match| match m {
        Match::Value(v, None) => format!("{v:#x}"),
        Match::Value(v, Some(mask)) => format!("{v:#x} &&& {mask:#x}"),
        Match::Range(a, b) => format!("{a:#x} .. {b:#x}"),
        Match::Any => "_".into(),
        Match::ValueSet(name) => name.clone(),
    };
    list.iter().map(one).collect::<Vec<_>>().join(", ")
}

fn graph(head: &str, g: &Graph, p: &Program, out: &mut String) {
    let _ = writeln!(out, "{head}");
    for b in reachable(g) {
        let Some(block) = g.blocks.get(b) else { continue };
        let _ = writeln!(out, "  {b}: // {}", block.name);
        for (o, _) in &block.ops {
            let _ = writeln!(out, "    {}", op(o));
        }
        let _ = writeln!(out, "    {}", term(&block.term, p));
    }
}

fn term(t: &Term, p: &Program) -> String {
    match t {
        Term::Goto(b) => format!("goto {b}"),
        Term::Branch(c, yes, no) => format!("if {} goto {yes} else {no}", expr(c)),
        Term::Apply(t, next) => {
            let table = p.tables.get(*t);
            let name = table.map_or("?", |t| t.name.as_str());
            let next = match next {
                ApplyNext::Always(b) => format!("goto {b}"),
                ApplyNext::HitMiss(hit, miss) => format!("hit {hit} miss {miss}"),
                ApplyNext::Actions(list, rest) => {
                    let action = |i: usize| {
                        let index = table.and_then(|t| t.actions.get(i)).map(|a| a.0);
                        index.and_then(|a| p.actions.get(a)).map_or("?", |a| a.name.as_str())
                    };
                    let mut text: String = list.iter().map(|(i, b)| format!("{} {b} ", action(*i))).collect();
                    let _ = write!(text, "default {rest}");
                    text
                }
            };
            format!("apply {name} {next}")
        }
        Term::Select(keys, cases) => {
            let keys: Vec<String> = keys.iter().map(expr).collect();
            let mut text = format!("select ({})", keys.join(", "));
            for (m, to) in cases {
                let _ = write!(text, "\n      ({}): {to}", matches(m));
            }
            text
        }
        Term::End => "end".into(),
        Term::Exit => "exit".into(),
        Term::Reject => "reject".into(),
    }
}

fn table(t: &Table, p: &Program, out: &mut String) {
    let _ = writeln!(out, "table {}", t.name);
    for k in &t.keys {
        let _ = writeln!(out, "  key {}: {} {}", k.name, expr(&k.expr), k.match_kind);
    }
    let action = |i: usize| p.actions.get(i).map_or("?", |a| a.name.as_str());
    let call = |i: usize, args: &[num_bigint::BigInt]| {
        let args: Vec<String> = args.iter().map(ToString::to_string).collect();
        let name = t.actions.get(i).map_or("?", |a| action(a.0));
        format!("{name}({})", args.join(", "))
    };
    for (i, _) in &t.actions {
        let _ = writeln!(out, "  action {i} {}", action(*i));
    }
    if let Some((i, args, is_const)) = &t.default_action {
        let word = if *is_const { "const default" } else { "default" };
        let _ = writeln!(out, "  {word} {}", call(*i, args));
    }
    for e in &t.entries {
        let word = if t.const_entries || e.is_const {
            "const entry"
        } else {
            "entry"
        };
        let _ = writeln!(
            out,
            "  {word} priority {} ({}): {}",
            e.priority,
            matches(&e.keys),
            call(e.action, &e.args)
        );
    }
    for (word, object) in [
        ("implementation", &t.implementation),
        ("counters", &t.counters),
        ("meters", &t.meters),
    ] {
        if let Some(object) = object {
            let _ = writeln!(out, "  {word} {object}");
        }
    }
    if let Some(size) = t.size {
        let _ = writeln!(out, "  size {size}");
    }
    if t.support_timeout {
        out.push_str("  support_timeout\n");
    }
}
