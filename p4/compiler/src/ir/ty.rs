//! Types and questions about them.

use super::{
    BlockTypeId, ControlId, EnumId, ExternId, NewtypeId, PackageId, ParserId, Program, StructId, TableId, TypeParamId,
};
use crate::ast::StructKind;
use std::collections::HashMap;
use std::rc::Rc;

/// Widest `bit`, `int` and `varbit` that is accepted.
pub const MAX_WIDTH: u32 = 65_536;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Type {
    /// The type of something in which an error was reported; agrees with every type.
    Poison,
    Void,
    Bool,
    /// `int`, of any size, known at compile time.
    Integer,
    Bit(u32),
    Int(u32),
    Varbit(u32),
    Str,
    Error,
    MatchKind,
    Enum(EnumId),
    Newtype(NewtypeId),
    Struct(StructId, Rc<[Type]>),
    /// Header stack (or array).
    Array(Rc<Type>, u32),
    Tuple(Rc<[Type]>),
    List(Rc<Type>),
    /// Type of `{a = 1}` if the struct is not known.
    Record(Rc<[(Rc<str>, Type)]>),
    Extern(ExternId, Rc<[Type]>),
    Block(BlockTypeId, Rc<[Type]>),
    Control(ControlId),
    Parser(ParserId),
    Package(PackageId, Rc<[Type]>),
    Set(Rc<Type>),
    /// Type of `t.apply()`.
    ApplyResult(TableId),
    Table(TableId),
    /// Type of `t.apply().action_run`.
    ActionRun(TableId),
    Action,
    Param(TypeParamId),
    /// To be inferred.
    Var(u32),
    /// Type of `{#}`.
    InvalidHeader,
}

pub fn no_args() -> Rc<[Type]> {
    Rc::from(Vec::new())
}

/// Replacement of type parameters.
pub type Subst = HashMap<TypeParamId, Type>;

impl Type {
    /// Rewrites type parameters.
    pub fn subst(&self, map: &Subst) -> Type {
        if map.is_empty() {
            return self.clone();
        }
        self.rewrite(&mut |t| match t {
            Type::Param(id) => map.get(id).cloned(),
            _ => None,
        })
    }

    /// Rewrites from the root down. If `f` returns a replacement, it is used; otherwise the walk continues inside.
    pub fn rewrite(&self, f: &mut impl FnMut(&Type) -> Option<Type>) -> Type {
        if let Some(t) = f(self) {
            return t;
        }
        let all = |args: &Rc<[Type]>, f: &mut _| -> Rc<[Type]> { args.iter().map(|a| Self::rewrite(a, f)).collect() };
        match self {
            Type::Struct(id, a) => Type::Struct(*id, all(a, f)),
            Type::Extern(id, a) => Type::Extern(*id, all(a, f)),
            Type::Block(id, a) => Type::Block(*id, all(a, f)),
            Type::Package(id, a) => Type::Package(*id, all(a, f)),
            Type::Tuple(a) => Type::Tuple(all(a, f)),
            Type::Array(t, n) => Type::Array(Rc::new(t.rewrite(f)), *n),
            Type::List(t) => Type::List(Rc::new(t.rewrite(f))),
            Type::Set(t) => Type::Set(Rc::new(t.rewrite(f))),
            Type::Record(fields) => Type::Record(fields.iter().map(|(n, t)| (n.clone(), t.rewrite(f))).collect()),
            other => other.clone(),
        }
    }

    /// Whether the condition holds for the type or for a part of it.
    pub fn any(&self, f: &mut impl FnMut(&Type) -> bool) -> bool {
        if f(self) {
            return true;
        }
        match self {
            Type::Struct(_, a) | Type::Extern(_, a) | Type::Block(_, a) | Type::Package(_, a) | Type::Tuple(a) => {
                a.iter().any(|t| t.any(f))
            }
            Type::Array(t, _) | Type::List(t) | Type::Set(t) => t.any(f),
            Type::Record(fields) => fields.iter().any(|(_, t)| t.any(f)),
            _ => false,
        }
    }

    /// Whether any inference variable is left in it.
    pub fn has_vars(&self) -> bool {
        self.any(&mut |t| matches!(t, Type::Var(_)))
    }

    pub fn is_poison(&self) -> bool {
        matches!(self, Type::Poison)
    }

    /// `bit<w>` or `int<w>`.
    pub fn is_fixed(&self) -> bool {
        matches!(self, Type::Bit(_) | Type::Int(_))
    }
}

impl Program {
    pub fn strukt(&self, id: StructId) -> Option<&super::StructDecl> {
        self.structs.get(id.index())
    }

    /// The kind of a struct-like type.
    pub fn struct_kind(&self, ty: &Type) -> Option<StructKind> {
        match ty {
            Type::Struct(id, _) => self.strukt(*id).map(|s| s.kind),
            _ => None,
        }
    }

    pub fn is_header(&self, ty: &Type) -> bool {
        self.struct_kind(ty) == Some(StructKind::Header)
    }

    pub fn is_union(&self, ty: &Type) -> bool {
        self.struct_kind(ty) == Some(StructKind::Union)
    }

    /// Names and specialised types of the members of a struct, header, union, tuple or record.
    pub fn fields(&self, ty: &Type) -> Vec<(Rc<str>, Type)> {
        match ty {
            Type::Struct(id, args) => {
                let Some(decl) = self.strukt(*id) else {
                    return Vec::new();
                };
                let map: Subst = decl.type_params.iter().copied().zip(args.iter().cloned()).collect();
                decl.fields.iter().map(|f| (f.name.clone(), f.ty.subst(&map))).collect()
            }
            Type::Tuple(items) => items
                .iter()
                .enumerate()
                .map(|(i, t)| (Rc::from(format!("f{i}")), t.clone()))
                .collect(),
            Type::Record(fields) => fields.to_vec(),
            _ => Vec::new(),
        }
    }

    /// The type behind newtypes and serialisable enums.
    pub fn underlying(&self, ty: &Type) -> Type {
        let mut ty = ty.clone();
        for _ in 0..64 {
            ty = match &ty {
                Type::Newtype(id) => self.newtypes.get(id.index()).map_or(Type::Poison, |n| n.ty.clone()),
                Type::Enum(id) => match self.enums.get(id.index()).and_then(|e| e.repr.clone()) {
                    Some(repr) => repr,
                    None => return ty,
                },
                _ => return ty,
            };
        }
        ty
    }

    /// Bits that a value of the type takes; enums and errors take 32, as in BMv2.
    pub fn width(&self, ty: &Type) -> Option<u64> {
        Some(match self.underlying(ty) {
            Type::Bool => 1,
            Type::Bit(w) | Type::Int(w) | Type::Varbit(w) => u64::from(w),
            Type::Enum(_) | Type::Error => 32,
            Type::Struct(_, _) | Type::Tuple(_) | Type::Record(_) => {
                let mut sum = 0u64;
                let union = self.is_union(ty);
                for (_, t) in self.fields(ty) {
                    let w = self.width(&t)?;
                    sum = if union { sum.max(w) } else { sum.checked_add(w)? };
                }
                sum
            }
            Type::Array(t, n) => self.width(&t)?.checked_mul(u64::from(n))?,
            _ => return None,
        })
    }

    /// The type as a user writes it.
    pub fn show(&self, ty: &Type) -> String {
        let list = |args: &[Type]| args.iter().map(|t| self.show(t)).collect::<Vec<_>>().join(", ");
        let spec = |name: Option<&str>, args: &[Type]| {
            let name = name.unwrap_or("?");
            if args.is_empty() {
                name.to_string()
            } else {
                format!("{name}<{}>", list(args))
            }
        };
        match ty {
            Type::Poison => "?".into(),
            Type::Void => "void".into(),
            Type::Bool => "bool".into(),
            Type::Integer => "int".into(),
            Type::Bit(w) => format!("bit<{w}>"),
            Type::Int(w) => format!("int<{w}>"),
            Type::Varbit(w) => format!("varbit<{w}>"),
            Type::Str => "string".into(),
            Type::Error => "error".into(),
            Type::MatchKind => "match_kind".into(),
            Type::Enum(id) => self.enums.get(id.index()).map_or("?".into(), |e| e.name.to_string()),
            Type::Newtype(id) => self.newtypes.get(id.index()).map_or("?".into(), |e| e.name.to_string()),
            Type::Struct(id, a) => spec(self.structs.get(id.index()).map(|e| &*e.name), a),
            Type::Extern(id, a) => spec(self.externs.get(id.index()).map(|e| &*e.name), a),
            Type::Block(id, a) => spec(self.block_types.get(id.index()).map(|e| &*e.sig.name), a),
            Type::Package(id, a) => spec(self.packages.get(id.index()).map(|e| &*e.name), a),
            Type::Control(id) => self.controls.get(id.index()).map_or("?".into(), |e| e.name.to_string()),
            Type::Parser(id) => self.parsers.get(id.index()).map_or("?".into(), |e| e.name.to_string()),
            Type::Array(t, n) => format!("{}[{n}]", self.show(t)),
            Type::Tuple(a) => format!("tuple<{}>", list(a)),
            Type::List(t) => format!("list<{}>", self.show(t)),
            Type::Record(f) => format!(
                "{{{}}}",
                f.iter()
                    .map(|(n, t)| format!("{n}: {}", self.show(t)))
                    .collect::<Vec<_>>()
                    .join(", ")
            ),
            Type::Set(t) => format!("set of {}", self.show(t)),
            Type::ApplyResult(_) => "result of apply()".into(),
            Type::Table(_) => "table".into(),
            Type::ActionRun(_) => "action_run".into(),
            Type::Action => "action".into(),
            Type::Param(id) => self.type_params.get(id.index()).map_or("?".into(), |n| n.to_string()),
            Type::Var(_) => "_".into(),
            Type::InvalidHeader => "{#}".into(),
        }
    }
}
