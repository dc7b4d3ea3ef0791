//! Extern instances: counters, meters, registers, profiles.

use super::{Lower, Place};
use crate::ir::ty::Type;
use crate::ir::{self, InstanceId};
use crate::lir;
use num_bigint::BigInt;
use num_traits::ToPrimitive;

impl Lower<'_> {
    pub(super) fn global_objects(&mut self) {
        for (i, inst) in self.program.instances.iter().enumerate() {
            if inst.global && matches!(inst.ty, Type::Extern(..)) {
                self.object(InstanceId(i as u32), String::new());
            }
        }
    }

    /// Registers an extern instance under a path and returns its full name.
    pub(super) fn object(&mut self, id: InstanceId, path: String) -> String {
        let Some(inst) = self.program.instances.get(id.index()) else {
            return String::new();
        };
        // An instance made in a table's property has a name only if the property is annotated with one; that is then
        // the full name.
        let path = if inst.global || (inst.nameless && inst.annotations.has("name")) {
            String::new()
        } else {
            path
        };
        if let Some(name) = self.objects.get(&(path.clone(), id)) {
            return name.clone();
        }
        let given = self.object_names.get(&(path.clone(), id)).filter(|_| inst.nameless);
        let (own_path, own) = match given.cloned() {
            Some((path, name)) => (path, name.to_string()),
            None if inst.nameless => (path.clone(), format!("{}_{}", inst.name, id.0)),
            None => (path.clone(), inst.name.to_string()),
        };
        let saved = std::mem::replace(&mut self.path, own_path);
        let name = self.full_name(&inst.annotations, &own);
        self.path = saved;
        let Type::Extern(ext, targs) = &inst.ty else {
            return name;
        };
        let kind = self
            .program
            .externs
            .get(ext.index())
            .map_or_else(String::new, |e| e.name.to_string());
        let mut args = Vec::new();
        let mut attributes = Vec::new();
        for (name, a) in inst.params.iter().zip(&inst.args) {
            let v = a.as_ref().map(|a| self.expr(a));
            if let Some(super::Val::Str(s)) = &v {
                attributes.push((name.clone(), lir::Attribute::Text(s.clone())));
            }
            let v = v.and_then(Self::val_int);
            if let Some(v) = &v {
                attributes.push((name.clone(), lir::Attribute::Number(v.clone())));
            }
            args.push(v.unwrap_or_else(|| BigInt::from(0)));
        }
        self.out.objects.push(lir::Object {
            name: name.clone(),
            kind,
            type_args: targs.to_vec(),
            args,
            attributes,
            annotations: inst.annotations.clone(),
            span: inst.span,
        });
        self.objects.insert((path, id), name.clone());
        name
    }

    /// The size of a table or value set, whose expression may name constructor parameters.
    pub(super) fn size(&mut self, e: Option<&ir::Expr>) -> Option<u32> {
        let e = e?;
        let size = self
            .const_int(e)
            .and_then(|n| n.to_u32())
            .filter(|n| *n <= i32::MAX as u32);
        if size.is_none() {
            self.error(e.span, format!("a size must be from 0 to {}", i32::MAX));
        }
        size
    }

    /// A constructor's argument as a number; constructor parameters of enclosing blocks are looked up.
    pub(super) fn const_int(&mut self, e: &ir::Expr) -> Option<BigInt> {
        let v = self.expr(e);
        Self::val_int(v)
    }

    pub(super) fn val_int(v: super::Val) -> Option<BigInt> {
        match v {
            super::Val::Scalar(lir::Expr {
                kind: lir::ExprKind::Const(v),
                ..
            }) => Some(v),
            super::Val::Scalar(lir::Expr {
                kind: lir::ExprKind::Bool(b),
                ..
            }) => Some(BigInt::from(u8::from(b))),
            super::Val::Place(Place::Value(v)) => match *v {
                super::Val::Scalar(lir::Expr {
                    kind: lir::ExprKind::Const(v),
                    ..
                }) => Some(v),
                _ => None,
            },
            _ => None,
        }
    }
}
