//! `P4TypeInfo` and references to it (P4Runtime specification, section "User-defined Types").

use super::{Info, plain_annotations, structured};
use crate::ir::annotation::Value;
use crate::ir::ty::Type;
use crate::lir::Ty;
use num_bigint::BigInt;
use num_traits::ToPrimitive;
use p4runtime_proto::p4::config::v1 as pb;
use pb::p4_data_type_spec::TypeSpec;

/// A value as P4Runtime's canonical bytes: no leading zeros, at least one byte.
pub(crate) fn bytes(v: &BigInt, ty: Ty) -> Vec<u8> {
    let v = if v.sign() == num_bigint::Sign::Minus {
        v + (BigInt::from(1) << ty.width())
    } else {
        v.clone()
    };
    v.to_bytes_be().1
}

impl Info<'_> {
    fn types(&mut self) -> &mut pb::P4TypeInfo {
        self.out.type_info.get_or_insert_with(Default::default)
    }

    /// Bit width for the control plane, and the name of a `type`, whose values may be translated.
    pub(super) fn named(&mut self, ty: &Type, width: u32) -> (i32, Option<pb::P4NamedType>) {
        let _ = self.data_type(ty);
        match ty {
            Type::Newtype(id) => {
                let Some(n) = self.ir.newtypes.get(id.index()) else {
                    return (width as i32, None);
                };
                let name = Some(pb::P4NamedType {
                    name: n.name.to_string(),
                });
                let bits = match self.translation(ty).and_then(|t| t.sdn_type) {
                    Some(pb::p4_new_type_translation::SdnType::SdnBitwidth(w)) => w,
                    Some(pb::p4_new_type_translation::SdnType::SdnString(_)) => 0,
                    None => width as i32,
                };
                (bits, name)
            }
            // Enums are described only in the type info; their values are not translated.
            _ => (width as i32, None),
        }
    }

    fn translation(&self, ty: &Type) -> Option<pb::P4NewTypeTranslation> {
        use pb::p4_new_type_translation::{SdnString, SdnType};
        let Type::Newtype(id) = ty else { return None };
        let a = self
            .ir
            .newtypes
            .get(id.index())?
            .annotations
            .get("p4runtime_translation")?;
        // The type checker has made sure that these are a URI and a type.
        let [uri, sdn] = a.values() else { return None };
        let sdn = match sdn {
            Value::Int(width) => SdnType::SdnBitwidth(width.to_i32()?),
            _ => SdnType::SdnString(SdnString {}),
        };
        let Value::Str(uri) = uri else { return None };
        Some(pb::P4NewTypeTranslation {
            uri: uri.to_string(),
            sdn_type: Some(sdn),
        })
    }

    fn bits(ty: &Type) -> Option<pb::P4BitstringLikeTypeSpec> {
        use pb::p4_bitstring_like_type_spec::TypeSpec as B;
        let spec = match ty {
            Type::Bit(w) => B::Bit(pb::P4BitTypeSpec { bitwidth: *w as i32 }),
            Type::Int(w) => B::Int(pb::P4IntTypeSpec { bitwidth: *w as i32 }),
            Type::Varbit(w) => B::Varbit(pb::P4VarbitTypeSpec {
                max_bitwidth: *w as i32,
            }),
            _ => return None,
        };
        Some(pb::P4BitstringLikeTypeSpec {
            type_spec: Some(spec),
            ..Default::default()
        })
    }

    /// The type's description; named types are entered into the type info.
    pub(super) fn data_type(&mut self, ty: &Type) -> pb::P4DataTypeSpec {
        let named = |name: &str| pb::P4NamedType { name: name.to_string() };
        let spec = match ty {
            Type::Bool => TypeSpec::Bool(pb::P4BoolType {}),
            Type::Error => {
                let members = self.ir.errors.iter().map(|e| e.to_string()).collect();
                self.types().error = Some(pb::P4ErrorTypeSpec { members });
                TypeSpec::Error(pb::P4ErrorType {})
            }
            Type::Tuple(items) => {
                let members = items.iter().map(|t| self.data_type(t)).collect();
                TypeSpec::Tuple(pb::P4TupleTypeSpec { members })
            }
            Type::Newtype(id) => {
                let Some(n) = self.ir.newtypes.get(id.index()).cloned() else {
                    return Default::default();
                };
                use pb::p4_new_type_spec::Representation as R;
                let representation = match self.translation(ty) {
                    Some(t) => R::TranslatedType(t),
                    None => {
                        let mut original = n.ty.clone();
                        // A `type` whose original is another `type` is described by the innermost original type.
                        while let Type::Newtype(inner) = original {
                            original = self
                                .ir
                                .newtypes
                                .get(inner.index())
                                .map_or(Type::Poison, |i| i.ty.clone());
                        }
                        R::OriginalType(self.data_type(&original))
                    }
                };
                let spec = pb::P4NewTypeSpec {
                    representation: Some(representation),
                    annotations: plain_annotations(&n.annotations),
                    structured_annotations: structured(&n.annotations),
                    annotation_locations: Vec::new(),
                };
                self.types().new_types.insert(n.name.to_string(), spec);
                TypeSpec::NewType(named(&n.name))
            }
            Type::Enum(id) => match self.enumeration(*id) {
                (name, true) => TypeSpec::SerializableEnum(named(&name)),
                (name, false) => TypeSpec::Enum(named(&name)),
            },
            Type::Struct(..) => self.structure(ty),
            Type::Array(t, n) => {
                let _ = self.data_type(t);
                let name = self.ir.show(t);
                TypeSpec::HeaderStack(pb::P4HeaderStackTypeSpec {
                    header: Some(named(&name)),
                    size: *n as i32,
                })
            }
            other => match Self::bits(other) {
                Some(b) => TypeSpec::Bitstring(b),
                None => return Default::default(),
            },
        };
        pb::P4DataTypeSpec { type_spec: Some(spec) }
    }

    fn enumeration(&mut self, id: crate::ir::EnumId) -> (String, bool) {
        let Some(e) = self.ir.enums.get(id.index()).cloned() else {
            return (String::new(), false);
        };
        let name = e.name.to_string();
        let annotations = plain_annotations(&e.annotations);
        let structured_annotations = structured(&e.annotations);
        let Some(repr) = &e.repr else {
            let members = e
                .members
                .iter()
                .map(|m| pb::p4_enum_type_spec::Member {
                    name: m.0.to_string(),
                    ..Default::default()
                })
                .collect();
            let spec = pb::P4EnumTypeSpec {
                members,
                annotations,
                structured_annotations,
                annotation_locations: Vec::new(),
            };
            self.types().enums.insert(name.clone(), spec);
            return (name, false);
        };
        let width = self.ir.width(repr).and_then(|w| w.to_u32()).unwrap_or(0);
        let members = e.members.iter().map(|m| pb::p4_serializable_enum_type_spec::Member {
            name: m.0.to_string(),
            value: m.1.as_ref().map(|v| bytes(v, Ty::Bit(width))).unwrap_or_default(),
            ..Default::default()
        });
        let spec = pb::P4SerializableEnumTypeSpec {
            underlying_type: Some(pb::P4BitTypeSpec { bitwidth: width as i32 }),
            members: members.collect(),
            annotations,
            structured_annotations,
            annotation_locations: Vec::new(),
        };
        self.types().serializable_enums.insert(name.clone(), spec);
        (name, true)
    }

    fn structure(&mut self, ty: &Type) -> TypeSpec {
        let name = self.ir.show(ty);
        let reference = pb::P4NamedType { name: name.clone() };
        let fields = self.ir.fields(ty);
        if self.ir.is_header(ty) {
            let members = fields.iter().map(|(n, t)| pb::p4_header_type_spec::Member {
                name: n.to_string(),
                type_spec: Self::bits(&self.ir.underlying(t)),
            });
            let spec = pb::P4HeaderTypeSpec {
                members: members.collect(),
                ..Default::default()
            };
            self.types().headers.insert(name, spec);
            return TypeSpec::Header(reference);
        }
        if self.ir.is_union(ty) {
            let members = fields.iter().map(|(n, t)| pb::p4_header_union_type_spec::Member {
                name: n.to_string(),
                header: Some(pb::P4NamedType { name: self.ir.show(t) }),
            });
            let spec = pb::P4HeaderUnionTypeSpec {
                members: members.collect(),
                ..Default::default()
            };
            self.types().header_unions.insert(name, spec);
            return TypeSpec::HeaderUnion(reference);
        }
        let members = fields
            .iter()
            .map(|(n, t)| pb::p4_struct_type_spec::Member {
                name: n.to_string(),
                type_spec: Some(self.data_type(t)),
            })
            .collect();
        self.types().structs.insert(
            name,
            pb::P4StructTypeSpec {
                members,
                ..Default::default()
            },
        );
        TypeSpec::Struct(reference)
    }
}
