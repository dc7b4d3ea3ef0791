//! Names and types: syntax tree in, typed program out (P4_16 sections "P4 data types" to "Type inference").
//!
//! One pass in source order, since P4 declares before use. Checking is bidirectional: an expected type flows down
//! into literals and calls, the found type flows up, and [`Checker::coerce`] writes implicit casts out. A generic
//! function is checked again for each set of type arguments; the result is its specialisation.

mod annotation;
mod call;
mod composite;
mod decl;
mod expr;
mod lint;
mod literal;
mod operator;
mod parser;
mod resolve;
mod rules;
mod silence;
mod stmt;
mod table;
mod unify;

use crate::ast;
use crate::diagnostics::{Lint, Sink};
use crate::ir::annotation::Annotations;
use crate::ir::ty::Type;
use crate::ir::*;
use crate::source::{SourceMap, Span};
use std::collections::HashMap;
use std::rc::Rc;

/// The meaning of a name.
#[derive(Clone)]
pub(crate) enum Entity {
    Type(Type),
    /// A generic type without its arguments yet, or a block or extern type.
    Struct(StructId),
    Extern(ExternId),
    BlockType(BlockTypeId),
    Package(PackageId),
    Control(ControlId),
    Parser(ParserId),
    Var(VarId),
    Const(Expr),
    Instance(InstanceId),
    Action(ActionId),
    Table(TableId),
    ValueSet(ValueSetId),
    /// Overloads of functions, extern or not.
    Functions(Vec<usize>),
    /// The table whose declaration contains the name.
    Itself,
    /// Was declared with an error.
    Poison,
}

impl Entity {
    /// Whether it has a value at run time.
    fn is_object(&self) -> bool {
        matches!(
            self,
            Entity::Var(_)
                | Entity::Const(_)
                | Entity::Instance(_)
                | Entity::Action(_)
                | Entity::Table(_)
                | Entity::ValueSet(_)
        )
    }
}

/// A function that can be called by name.
pub(crate) struct FunctionDecl {
    sig: Rc<Signature>,
    /// Source of a function with a body.
    source: Option<Rc<(ast::FunctionSig, ast::Block)>>,
    instances: HashMap<Vec<Type>, FunctionId>,
}

pub(crate) struct Checker<'a> {
    pub(crate) program: Program,
    sink: &'a mut Sink,
    sources: &'a SourceMap,
    scopes: Vec<HashMap<Rc<str>, (Entity, Span)>>,
    functions: Vec<FunctionDecl>,
    /// Bindings of inference variables.
    infer: Vec<Option<Type>>,
    /// Result type of the function being checked; `None` outside functions.
    result: Option<Type>,
    in_action: bool,
    in_parser: bool,
    loops: usize,
    depth: usize,
    /// Scope that holds the parameters of the innermost parser, control, action or function.
    unit_scope: usize,
    /// Arguments of calls whose overload is not chosen yet. They are checked without knowing the parameter, and kept by
    /// the address of their syntax, because otherwise nested calls would be checked again and again.
    tried: HashMap<*const ast::Expr, Expr>,
    /// Depth of such calls.
    trying: usize,
    /// All declarations, to find those that nothing uses.
    declared: Vec<(Entity, Rc<str>, Span)>,
    /// What `@noWarn` at the place of the key covers, where the warning's name is an expression.
    unnamed: HashMap<Span, Span>,
}

/// Most specialisations of functions in one program: recursion through type arguments ends here.
const MAX_SPECIALISATIONS: usize = 10_000;

/// Checks a whole program.
pub fn check(decls: &[ast::Decl], sources: &SourceMap, sink: &mut Sink) -> Program {
    let mut c = Checker {
        program: Program::default(),
        sink,
        sources,
        scopes: vec![HashMap::new()],
        functions: Vec::new(),
        infer: Vec::new(),
        result: None,
        in_action: false,
        in_parser: false,
        loops: 0,
        depth: 0,
        unit_scope: 0,
        tried: HashMap::new(),
        trying: 0,
        declared: Vec::new(),
        unnamed: HashMap::new(),
    };
    c.unnamed = silence::regions(decls, c.sink);
    for decl in decls {
        c.global(decl);
        if c.sink.is_flooded() {
            break;
        }
    }
    if c.sink.errors() == 0 {
        c.lint();
    }
    c.program
}

impl Checker<'_> {
    pub(crate) fn error<T>(&mut self, span: Span, message: impl Into<String>, value: T) -> T {
        self.sink.error(span, message);
        value
    }

    fn push(&mut self) {
        self.scopes.push(HashMap::new());
    }

    fn pop(&mut self) {
        self.scopes.pop();
    }

    fn declare(&mut self, name: &ast::Ident, entity: Entity) {
        if entity.is_object() {
            self.shadow(name);
        }
        if entity.is_object() || matches!(entity, Entity::Control(_) | Entity::Parser(_) | Entity::Functions(_)) {
            self.declared.push((entity.clone(), name.name.clone(), name.span));
        }
        let Some(scope) = self.scopes.last_mut() else { return };
        if let Some((Entity::Functions(_), _)) = scope.get(&name.name)
            && matches!(entity, Entity::Functions(_))
        {
            scope.insert(name.name.clone(), (entity, name.span));
            return;
        }
        if let Some((_, old)) = scope.get(&name.name) {
            let old = *old;
            self.sink.error_note(
                name.span,
                format!("{} is declared twice", name.name),
                old,
                "first declared here",
            );
            return;
        }
        scope.insert(name.name.clone(), (entity, name.span));
    }

    /// Warns about a name that hides another one.
    fn shadow(&mut self, name: &ast::Ident) {
        let outer = self.scopes.len().saturating_sub(1);
        let hidden = self.scopes.iter().take(outer).rev().find_map(|s| s.get(&name.name));
        if let Some((entity, old)) = hidden
            && entity.is_object()
        {
            let old = *old;
            self.sink.warn_note(
                Lint::Shadow,
                name.span,
                format!("{} hides another one", name.name),
                old,
                "declared here",
            );
        }
    }

    fn lookup(&self, name: &str, global: bool) -> Option<&Entity> {
        if global {
            return self.scopes.first().and_then(|s| s.get(name)).map(|e| &e.0);
        }
        self.scopes.iter().rev().find_map(|s| s.get(name)).map(|e| &e.0)
    }

    fn new_var(&mut self, name: &ast::Ident, ty: Type, kind: VarKind, annotations: Annotations) -> VarId {
        let id = VarId(self.program.vars.len() as u32);
        self.program.vars.push(Var {
            name: name.name.clone(),
            ty,
            kind,
            annotations,
            span: name.span,
        });
        id
    }

    pub(crate) fn show(&self, ty: &Type) -> String {
        self.program.show(&self.zonk(ty))
    }

    fn poison(&self, span: Span) -> Expr {
        Expr {
            kind: ExprKind::Poison,
            ty: Type::Poison,
            span,
        }
    }
}
