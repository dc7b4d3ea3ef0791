//! The syntax tree as P4 source in one layout.

use crate::ast::*;
use crate::source::SourceMap;
use std::fmt::Write;

/// Prints the declarations of the program's own files.
pub(crate) fn print(decls: &[Decl], sources: &SourceMap) -> String {
    let mut p = Printer::default();
    for d in decls.iter().filter(|d| !sources.is_system(d.span)) {
        p.decl(d);
    }
    p.out
}

#[derive(Default)]
struct Printer {
    out: String,
    depth: usize,
}

impl Printer {
    fn line(&mut self, text: &str) {
        for _ in 0..self.depth {
            self.out.push_str("    ");
        }
        self.out.push_str(text);
        self.out.push('\n');
    }

    /// `head {`, the body one level deeper, `}` and `tail`.
    fn braces(&mut self, head: &str, tail: &str, body: impl FnOnce(&mut Self)) {
        self.line(&format!("{head}{{"));
        self.depth += 1;
        body(self);
        self.depth -= 1;
        self.line(&format!("}}{tail}"));
    }

    fn decl(&mut self, d: &Decl) {
        let name = &*d.name.name;
        let pre = annotations(&d.annotations);
        match &d.kind {
            DeclKind::Const(t, e) => self.line(&format!("{pre}const {} {name} = {};", ty(t), expr(e))),
            DeclKind::Var(..) => {
                let text = simple(d);
                self.line(&format!("{text};"));
            }
            DeclKind::ExternObject { type_params, methods } => {
                self.braces(
                    &format!("{pre}extern {name}{} ", names_in_angles(type_params)),
                    "",
                    |p| {
                        methods.iter().for_each(|m| p.line(&format!("{};", signature(m))));
                    },
                );
            }
            DeclKind::ExternFunction(sig) => self.line(&format!("{pre}extern {};", plain_signature(sig))),
            DeclKind::Function(sig, body) => self.block(&format!("{pre}{} ", plain_signature(sig)), body),
            DeclKind::Action(params, body) => {
                self.block(&format!("{pre}action {name}({}) ", list(params, param)), body)
            }
            DeclKind::Parser {
                header,
                ctor,
                locals,
                states,
            } => self.braces(
                &format!("{pre}parser {name}{}{} ", block_type(header), constructor(ctor)),
                "",
                |p| {
                    locals.iter().for_each(|l| p.decl(l));
                    states.iter().for_each(|s| p.state(s));
                },
            ),
            DeclKind::Control {
                header,
                ctor,
                locals,
                body,
            } => self.braces(
                &format!("{pre}control {name}{}{} ", block_type(header), constructor(ctor)),
                "",
                |p| {
                    locals.iter().for_each(|l| p.decl(l));
                    p.block("apply ", body);
                },
            ),
            DeclKind::ParserType(t) => self.line(&format!("{pre}parser {name}{};", block_type(t))),
            DeclKind::ControlType(t) => self.line(&format!("{pre}control {name}{};", block_type(t))),
            DeclKind::Package(t) => self.line(&format!("{pre}package {name}{};", block_type(t))),
            DeclKind::Struct {
                kind,
                type_params,
                fields,
            } => {
                let word = match kind {
                    StructKind::Struct => "struct",
                    StructKind::Header => "header",
                    StructKind::Union => "header_union",
                };
                self.braces(
                    &format!("{pre}{word} {name}{} ", names_in_angles(type_params)),
                    "",
                    |p| {
                        for f in fields {
                            p.line(&format!(
                                "{}{} {};",
                                annotations(&f.annotations),
                                ty(&f.ty),
                                f.name.name
                            ));
                        }
                    },
                );
            }
            DeclKind::Enum { repr, members } => {
                let repr = repr.as_ref().map(|t| ty(t) + " ").unwrap_or_default();
                self.braces(&format!("{pre}enum {repr}{name} "), "", |p| {
                    for (i, (m, value)) in members.iter().enumerate() {
                        let value = value.as_ref().map(|e| format!(" = {}", expr(e))).unwrap_or_default();
                        let comma = if i + 1 < members.len() { "," } else { "" };
                        p.line(&format!("{}{value}{comma}", m.name));
                    }
                });
            }
            DeclKind::Typedef(t) => self.line(&format!("{pre}typedef {} {name};", ty(t))),
            DeclKind::NewType(t) => self.line(&format!("{pre}type {} {name};", ty(t))),
            DeclKind::Errors(names) | DeclKind::MatchKinds(names) => {
                let word = if matches!(d.kind, DeclKind::Errors(_)) {
                    "error"
                } else {
                    "match_kind"
                };
                self.line(&format!("{word} {{ {} }}", list(names, |n| n.name.to_string())));
            }
            DeclKind::Instance { body: None, .. } => {
                let text = simple(d);
                self.line(&format!("{text};"));
            }
            DeclKind::Instance { body: Some(body), .. } => {
                let text = simple(d);
                self.braces(&format!("{text} = "), ";", |p| body.iter().for_each(|d| p.decl(d)));
            }
            DeclKind::ValueSet { ty: t, size } => {
                self.line(&format!("{pre}value_set<{}>({}) {name};", ty(t), expr(size)))
            }
            DeclKind::Table(properties) => self.braces(&format!("{pre}table {name} "), "", |p| {
                properties.iter().for_each(|x| p.property(x));
            }),
        }
    }

    fn state(&mut self, s: &State) {
        self.braces(
            &format!("{}state {} ", annotations(&s.annotations), s.name.name),
            "",
            |p| {
                s.stmts.iter().for_each(|s| p.stmt(s));
                match &s.transition {
                    Transition::None => {}
                    Transition::Direct(to) => p.line(&format!("transition {};", to.name)),
                    Transition::Select(keys, cases, _) => {
                        p.braces(&format!("transition select({}) ", list(keys, expr)), "", |p| {
                            for c in cases {
                                p.line(&format!("{}: {};", keyset(&c.keyset), c.state.name));
                            }
                        });
                    }
                }
            },
        );
    }

    fn property(&mut self, x: &Property) {
        let constant = if x.is_const { "const " } else { "" };
        let head = format!("{}{constant}{} = ", annotations(&x.annotations), x.name.name);
        match &x.value {
            PropertyValue::Expr(e) => self.line(&format!("{head}{};", expr(e))),
            PropertyValue::Key(keys) => self.braces(&head, "", |p| {
                for k in keys {
                    p.line(&format!(
                        "{}: {}{};",
                        expr(&k.expr),
                        k.match_kind.name,
                        trailing(&k.annotations)
                    ));
                }
            }),
            PropertyValue::Actions(actions) => self.braces(&head, "", |p| {
                for a in actions {
                    p.line(&format!("{}{};", annotations(&a.annotations), action_ref(a)));
                }
            }),
            PropertyValue::Entries(entries) => self.braces(&head, "", |p| {
                for e in entries {
                    let constant = if e.is_const { "const " } else { "" };
                    let priority = e.priority.as_ref();
                    let priority = priority
                        .map(|e| format!("priority = {}: ", atom(e)))
                        .unwrap_or_default();
                    let (keys, action) = (keyset(&e.keyset), action_ref(&e.action));
                    p.line(&format!(
                        "{constant}{priority}{keys}: {action}{};",
                        trailing(&e.annotations)
                    ));
                }
            }),
        }
    }

    fn block(&mut self, head: &str, b: &Block) {
        let head = format!("{head}{}", annotations(&b.annotations));
        self.braces(&head, "", |p| b.stmts.iter().for_each(|s| p.stmt(s)));
    }

    /// The body of a statement, always in braces.
    fn body(&mut self, head: &str, s: &Stmt) {
        match &s.kind {
            StmtKind::Block(b) => self.block(head, b),
            _ => self.braces(head, "", |p| p.stmt(s)),
        }
    }

    fn stmt(&mut self, s: &Stmt) {
        match &s.kind {
            StmtKind::Empty => self.line(";"),
            StmtKind::Assign(..) | StmtKind::Call(_) => {
                let text = simple_stmt(s);
                self.line(&format!("{text};"));
            }
            StmtKind::If(c, yes, no) => {
                self.body(&format!("if ({}) ", expr(c)), yes);
                if let Some(no) = no {
                    self.body("else ", no);
                }
            }
            StmtKind::Block(b) => self.block("", b),
            StmtKind::Return(None) => self.line("return;"),
            StmtKind::Return(Some(e)) => self.line(&format!("return {};", expr(e))),
            StmtKind::Break => self.line("break;"),
            StmtKind::Continue => self.line("continue;"),
            StmtKind::Exit => self.line("exit;"),
            StmtKind::Switch(v, cases) => self.braces(&format!("switch ({}) ", expr(v)), "", |p| {
                for c in cases {
                    let label = c.label.as_ref().map_or_else(|| "default".into(), expr);
                    match &c.body {
                        Some(b) => p.block(&format!("{label}: "), b),
                        None => p.line(&format!("{label}:")),
                    }
                }
            }),
            StmtKind::For {
                init,
                cond,
                update,
                body,
                annotations: a,
            } => {
                let (init, update) = (list(init, simple_stmt), list(update, simple_stmt));
                self.body(
                    &format!("{}for ({init}; {}; {update}) ", annotations(a), expr(cond)),
                    body,
                );
            }
            StmtKind::ForIn {
                ty: t,
                var,
                from,
                to,
                body,
                annotations: a,
            } => {
                let to = to.as_ref().map(|e| format!(" .. {}", atom(e))).unwrap_or_default();
                let range = format!("{} {} in {}{to}", ty(t), var.name, atom(from));
                self.body(&format!("{}for ({range}) ", annotations(a)), body);
            }
            StmtKind::Decl(d) => self.decl(d),
        }
    }
}

fn list<T>(items: &[T], show: impl Fn(&T) -> String) -> String {
    items.iter().map(show).collect::<Vec<_>>().join(", ")
}

fn names_in_angles(names: &[Ident]) -> String {
    if names.is_empty() {
        return String::new();
    }
    format!("<{}>", list(names, |n| n.name.to_string()))
}

/// Annotations that are written before their object.
fn annotations(a: &Annotations) -> String {
    a.iter().map(|a| annotation(a) + " ").collect()
}

/// Annotations that are written after it.
fn trailing(a: &Annotations) -> String {
    a.iter().map(|a| format!(" {}", annotation(a))).collect()
}

fn annotation(a: &Annotation) -> String {
    let body = match &a.body {
        AnnotationBody::Empty => String::new(),
        AnnotationBody::Tokens(tokens) | AnnotationBody::Args(tokens, _) | AnnotationBody::NamedArgs(tokens, _) => {
            let mut out = String::from("(");
            for (i, t) in tokens.iter().enumerate() {
                if i > 0 && t.space_before {
                    out.push(' ');
                }
                out.push_str(&if t.is_string { quoted(&t.text) } else { t.text.clone() });
            }
            out + ")"
        }
        AnnotationBody::List(items) => format!("[{}]", list(items, expr)),
        AnnotationBody::Pairs(pairs) => format!("[{}]", list(pairs, |(k, v)| format!("{} = {}", k.name, expr(v)))),
    };
    format!("@{}{body}", a.name.name)
}

fn quoted(text: &str) -> String {
    let escaped = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    format!("\"{escaped}\"")
}

/// A variable or instance, without the semicolon.
fn simple(d: &Decl) -> String {
    let pre = annotations(&d.annotations);
    match &d.kind {
        DeclKind::Var(t, init) => {
            let init = init.as_ref().map(|e| format!(" = {}", expr(e))).unwrap_or_default();
            format!("{pre}{} {}{init}", ty(t), d.name.name)
        }
        DeclKind::Instance { ty: t, args, .. } => format!("{pre}{}({}) {}", ty(t), list(args, argument), d.name.name),
        _ => String::new(),
    }
}

/// A statement that is allowed in the head of a loop, without the semicolon.
fn simple_stmt(s: &Stmt) -> String {
    match &s.kind {
        StmtKind::Assign(l, op, r) => {
            let op = op.map(BinOp::symbol).unwrap_or_default();
            format!("{} {op}= {}", expr(l), expr(r))
        }
        StmtKind::Call(e) => expr(e),
        StmtKind::Decl(d) => simple(d),
        _ => String::new(),
    }
}

fn plain_signature(s: &FunctionSig) -> String {
    let result = s.result.as_ref().map(|t| ty(t) + " ").unwrap_or_default();
    let types = names_in_angles(&s.type_params);
    format!("{result}{}{types}({})", s.name.name, list(&s.params, param))
}

fn signature(s: &FunctionSig) -> String {
    let word = if s.is_abstract { "abstract " } else { "" };
    format!("{}{word}{}", annotations(&s.annotations), plain_signature(s))
}

fn param(p: &Param) -> String {
    let direction = match p.direction {
        Direction::None => "",
        Direction::In => "in ",
        Direction::Out => "out ",
        Direction::InOut => "inout ",
    };
    let default = p
        .default
        .as_ref()
        .map(|e| format!(" = {}", expr(e)))
        .unwrap_or_default();
    let pre = annotations(&p.annotations);
    format!("{pre}{direction}{} {}{default}", ty(&p.ty), p.name.name)
}

fn block_type(t: &BlockTypeDecl) -> String {
    format!("{}({})", names_in_angles(&t.type_params), list(&t.params, param))
}

fn constructor(params: &[Param]) -> String {
    if params.is_empty() {
        return String::new();
    }
    format!("({})", list(params, param))
}

fn action_ref(a: &ActionRef) -> String {
    let dot = if a.global { "." } else { "" };
    let args = a
        .args
        .as_ref()
        .map(|args| format!("({})", list(args, argument)))
        .unwrap_or_default();
    format!("{dot}{}{args}", a.name.name)
}

fn argument(a: &Arg) -> String {
    let name = a.name.as_ref().map(|n| format!("{} = ", n.name)).unwrap_or_default();
    format!("{name}{}", a.value.as_ref().map_or_else(|| "_".into(), expr))
}

fn ty(t: &TypeRef) -> String {
    match &t.kind {
        TypeRefKind::Void => "void".into(),
        TypeRefKind::Bool => "bool".into(),
        TypeRefKind::Error => "error".into(),
        TypeRefKind::MatchKind => "match_kind".into(),
        TypeRefKind::String => "string".into(),
        TypeRefKind::Integer => "int".into(),
        TypeRefKind::Bit(None) => "bit".into(),
        TypeRefKind::Bit(Some(w)) => format!("bit<{}>", width(w)),
        TypeRefKind::Int(w) => format!("int<{}>", width(w)),
        TypeRefKind::Varbit(w) => format!("varbit<{}>", width(w)),
        TypeRefKind::Name { global, name } => format!("{}{}", if *global { "." } else { "" }, name.name),
        TypeRefKind::Specialized(t, args) => format!("{}<{}>", ty(t), list(args, ty)),
        TypeRefKind::Array(t, n) => format!("{}[{}]", ty(t), expr(n)),
        TypeRefKind::Tuple(items) => format!("tuple<{}>", list(items, ty)),
        TypeRefKind::List(t) => format!("list<{}>", ty(t)),
        TypeRefKind::DontCare => "_".into(),
    }
}

/// Between `<` and `>` only a number may stand without parentheses.
fn width(e: &Expr) -> String {
    match &e.kind {
        ExprKind::Int(..) => expr(e),
        _ => format!("({})", expr(e)),
    }
}

fn keyset(e: &Expr) -> String {
    match &e.kind {
        ExprKind::List(items) => format!("({})", list(items, expr)),
        _ => expr(e),
    }
}

/// An expression that is part of another one.
fn atom(e: &Expr) -> String {
    match &e.kind {
        ExprKind::Unary(..)
        | ExprKind::Binary(..)
        | ExprKind::Ternary(..)
        | ExprKind::Cast(..)
        | ExprKind::Mask(..)
        | ExprKind::Range(..) => format!("({})", expr(e)),
        _ => expr(e),
    }
}

/// Numbers of 16 bits and more are mostly addresses and patterns, which read better in hexadecimal.
const HEX_FROM_BITS: u32 = 16;

fn expr(e: &Expr) -> String {
    match &e.kind {
        ExprKind::Int(v, None) => v.to_string(),
        ExprKind::Int(v, Some((w, signed))) => {
            let sign = if *signed { 's' } else { 'w' };
            if *w >= HEX_FROM_BITS {
                format!("{w}{sign}{v:#x}")
            } else {
                format!("{w}{sign}{v}")
            }
        }
        ExprKind::Bool(b) => b.to_string(),
        ExprKind::Str(s) => quoted(s),
        ExprKind::This => "this".into(),
        ExprKind::Dots => "...".into(),
        ExprKind::Name { global, name } => format!("{}{}", if *global { "." } else { "" }, name.name),
        ExprKind::Type(t) => ty(t),
        ExprKind::Member(a, name) => format!("{}.{}", atom(a), name.name),
        ExprKind::Index(a, i) => format!("{}[{}]", atom(a), expr(i)),
        ExprKind::Slice(a, hi, lo) => format!("{}[{}:{}]", atom(a), atom(hi), atom(lo)),
        ExprKind::PlusSlice(a, lo, w) => format!("{}[{} +: {}]", atom(a), atom(lo), atom(w)),
        ExprKind::List(items) => format!("{{ {} }}", list(items, expr)),
        ExprKind::Pairs(pairs, dots) => {
            let mut out = list(pairs, |(k, v)| format!("{} = {}", k.name, expr(v)));
            if *dots {
                out.push_str(", ...");
            }
            format!("{{ {out} }}")
        }
        ExprKind::Invalid => "{#}".into(),
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
        ExprKind::Ternary(c, a, b) => format!("{} ? {} : {}", atom(c), atom(a), atom(b)),
        ExprKind::Call {
            callee,
            type_args,
            args,
        } => {
            let mut out = atom(callee);
            if !type_args.is_empty() {
                let _ = write!(out, "<{}>", list(type_args, ty));
            }
            let _ = write!(out, "({})", list(args, argument));
            out
        }
        ExprKind::Cast(t, a) => format!("({}){}", ty(t), atom(a)),
        ExprKind::Mask(a, b) => format!("{} &&& {}", atom(a), atom(b)),
        ExprKind::Range(a, b) => format!("{} .. {}", atom(a), atom(b)),
        ExprKind::Default => "default".into(),
        ExprKind::DontCare => "_".into(),
    }
}
