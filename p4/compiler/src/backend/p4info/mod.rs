//! P4Info (P4Runtime specification, section "P4Info Message").

mod ids;
mod package;
mod types;

pub(crate) use types::bytes as value_bytes;

use crate::diagnostics::{Lint, Sink};
use crate::ir::annotation::{Annotations, Body, Value};
use crate::ir::{self, ty::Type};
use crate::lir::{self, Op};
use crate::source::Span;
use ids::{Ids, field_ids, prefix};
use num_traits::ToPrimitive;
use p4runtime_proto::p4::config::v1 as pb;
use std::collections::{BTreeMap, HashSet};

pub(super) struct Info<'a> {
    program: &'a lir::Program,
    ir: &'a ir::Program,
    sink: &'a mut Sink,
    ids: Ids,
    out: pb::P4Info,
    /// Places of the annotations of structs and their fields that had an effect.
    used: HashSet<Span>,
}

/// Builds the message.
pub fn emit(program: &lir::Program, ir: &ir::Program, sink: &mut Sink) -> pb::P4Info {
    let mut info = Info {
        program,
        ir,
        sink,
        ids: Ids::default(),
        out: pb::P4Info::default(),
        used: HashSet::new(),
    };
    info.reserve();
    info.package();
    info.tables();
    info.actions();
    info.objects();
    info.controller_headers();
    info.value_sets();
    info.digests();
    info.unused_annotations();
    info.out
}

/// Deepest nesting of structs inside a controller header. The type checker allows no cycles; this only limits the
/// length of names.
const MAX_STRUCT_DEPTH: usize = 16;

/// Annotations that the message expresses in other ways.
const CONSUMED: &[&str] = &[
    "name",
    "id",
    "brief",
    "description",
    "hidden",
    "tableonly",
    "defaultonly",
    "optional",
    "field_list",
    "controller_header",
    "max_group_size",
    "selector_size_semantics",
    "max_member_weight",
    "p4runtime_translation",
];

/// Annotations of match fields that the message expresses in other ways.
const KEY_CONSUMED: &[&str] = &["name", "id", "brief", "description", "optional"];

/// Annotations of a value set's fields that the message expresses in other ways.
const VALUE_SET_CONSUMED: &[&str] = &["name", "id", "brief", "description", "match"];

/// Annotations of the package that the message expresses in other ways.
const PACKAGE_CONSUMED: &[&str] = &["name", "id", "brief", "description", "pkginfo", "platform_property"];

/// Unstructured annotations as text.
pub(super) fn plain_annotations(a: &Annotations) -> Vec<String> {
    annotation_texts(a, CONSUMED)
}

fn annotation_texts(a: &Annotations, without: &[&str]) -> Vec<String> {
    let text = |a: &ir::annotation::Annotation| match &a.body {
        Body::Empty => Some(format!("@{}", a.name)),
        Body::Tokens(tokens) if tokens.is_empty() => Some(format!("@{}", a.name)),
        Body::Args(values) => {
            let list: Vec<String> = values.iter().map(Value::to_string).collect();
            Some(format!("@{}({})", a.name, list.join(", ")))
        }
        Body::NamedArgs(pairs) => {
            let list: Vec<String> = pairs.iter().map(|(k, v)| format!("{k}={v}")).collect();
            Some(format!("@{}({})", a.name, list.join(", ")))
        }
        Body::Tokens(tokens) => {
            let mut out = String::new();
            for (i, t) in tokens.iter().enumerate() {
                if i > 0 {
                    out.push(' ');
                }
                if t.is_string {
                    out.push_str(&format!("\"{}\"", t.text.replace('\\', "\\\\").replace('"', "\\\"")))
                } else {
                    out.push_str(&t.text)
                }
            }
            Some(format!("@{}({out})", a.name))
        }
        _ => None,
    };
    a.iter()
        .filter(|a| !without.contains(&&*a.name))
        .filter_map(text)
        .collect()
}

pub(super) fn structured(a: &Annotations) -> Vec<pb::StructuredAnnotation> {
    use pb::structured_annotation::Body as B;
    let value = |v: &Value| pb::Expression {
        value: Some(match v {
            Value::Int(i) => pb::expression::Value::Int64Value(i.to_i64().unwrap_or(i64::MAX)),
            Value::Bool(b) => pb::expression::Value::BoolValue(*b),
            Value::Str(s) => pb::expression::Value::StringValue(s.to_string()),
            Value::MatchKind(_) | Value::StringType => pb::expression::Value::StringValue(v.to_string()),
        }),
    };
    let body = |a: &ir::annotation::Annotation| match &a.body {
        Body::List(l) => Some(B::ExpressionList(pb::ExpressionList {
            expressions: l.iter().map(value).collect(),
        })),
        Body::Pairs(l) => {
            let kv_pairs = l
                .iter()
                .map(|(k, v)| pb::KeyValuePair {
                    key: k.to_string(),
                    value: Some(value(v)),
                })
                .collect();
            Some(B::KvPairList(pb::KeyValuePairList { kv_pairs }))
        }
        _ => None,
    };
    a.iter()
        .filter_map(|a| {
            Some(pb::StructuredAnnotation {
                name: a.name.to_string(),
                body: Some(body(a)?),
                source_location: None,
            })
        })
        .collect()
}

fn doc(a: &Annotations) -> Option<pb::Documentation> {
    let (brief, description) = (a.string("brief"), a.string("description"));
    if brief.is_none() && description.is_none() {
        return None;
    }
    Some(pb::Documentation {
        brief: brief.unwrap_or_default(),
        description: description.unwrap_or_default(),
    })
}

fn match_type(kind: &str) -> pb::match_field::Match {
    use pb::match_field::{Match, MatchType as M};
    Match::MatchType(match kind {
        "exact" => M::Exact,
        "lpm" => M::Lpm,
        "ternary" => M::Ternary,
        "range" => M::Range,
        "optional" => M::Optional,
        other => return Match::OtherMatchType(other.to_string()),
    } as i32)
}

impl Info<'_> {
    /// Ids that the program fixes come first; the others must not collide with them.
    fn reserve(&mut self) {
        let mut all: Vec<(u32, String, Annotations, Span)> = Vec::new();
        for t in &self.program.tables {
            all.push((prefix::TABLE, t.name.clone(), t.annotations.clone(), t.span));
        }
        for a in self.table_actions() {
            all.push((
                prefix::ACTION,
                a.name.clone(),
                a.annotations.clone(),
                Default::default(),
            ));
        }
        for o in &self.program.objects {
            if let Some(p) = prefix::of_extern(&o.kind) {
                all.push((p, o.name.clone(), o.annotations.clone(), o.span));
            }
        }
        for v in &self.program.value_sets {
            all.push((
                prefix::VALUE_SET,
                v.name.clone(),
                v.annotations.clone(),
                Default::default(),
            ));
        }
        let mut seen = std::collections::HashSet::new();
        for (p, name, a, span) in &all {
            // Actions of one name were folded before; a controller cannot distinguish two objects of one name.
            if !seen.insert((*p, name.as_str())) {
                self.sink.error(
                    a.get("name").map_or(*span, |a| a.span),
                    format!("two objects are called {name} in the control plane"),
                );
            }
        }
        for pass in [true, false] {
            for (p, name, a, span) in &all {
                match a.int("id").and_then(|i| i.to_u32()) {
                    Some(id) if pass => {
                        if let Err(why) = self.ids.fixed(*p, name, id) {
                            self.sink.error(a.get("id").map_or(*span, |a| a.span), why);
                        }
                    }
                    None if !pass => self.ids.assign(*p, name),
                    _ => {}
                }
            }
        }
    }

    /// Actions that some table uses, once each.
    fn table_actions(&self) -> Vec<lir::Action> {
        let mut out: Vec<lir::Action> = Vec::new();
        let mut used: Vec<usize> = self
            .program
            .tables
            .iter()
            .flat_map(|t| t.actions.iter().map(|a| a.0))
            .collect();
        used.sort_unstable();
        for i in used {
            if let Some(a) = self.program.actions.get(i)
                && !out.iter().any(|o| o.name == a.name)
            {
                out.push(a.clone());
            }
        }
        for a in &self.program.called {
            if !out.iter().any(|o| o.name == a.name) {
                out.push(a.clone());
            }
        }
        out
    }

    fn preamble(&self, p: u32, name: &str, a: &Annotations) -> Option<pb::Preamble> {
        Some(pb::Preamble {
            id: self.ids.get(p, name),
            name: name.into(),
            alias: self.ids.alias(name),
            annotations: plain_annotations(a),
            doc: doc(a),
            structured_annotations: structured(a),
            annotation_locations: Vec::new(),
        })
    }

    fn tables(&mut self) {
        for t in self.program.tables.iter().filter(|t| !t.annotations.has("hidden")) {
            let mut table = pb::Table {
                preamble: self.preamble(prefix::TABLE, &t.name, &t.annotations),
                ..Default::default()
            };
            let keys: Vec<&lir::Key> = t.keys.iter().filter(|k| &*k.match_kind != "selector").collect();
            let ids = field_ids(keys.iter().map(|k| &k.annotations), self.sink);
            for (k, id) in keys.into_iter().zip(ids) {
                table.match_fields.push(self.match_field(k, id));
            }
            for (a, annotations) in &t.actions {
                let Some(action) = self.program.actions.get(*a) else {
                    continue;
                };
                let scope = if annotations.has("tableonly") {
                    pb::action_ref::Scope::TableOnly
                } else if annotations.has("defaultonly") {
                    pb::action_ref::Scope::DefaultOnly
                } else {
                    pb::action_ref::Scope::TableAndDefault
                };
                let mut list = plain_annotations(annotations);
                for name in ["tableonly", "defaultonly"] {
                    if annotations.has(name) {
                        list.push(format!("@{name}"));
                    }
                }
                table.action_refs.push(pb::ActionRef {
                    id: self.ids.get(prefix::ACTION, &action.name),
                    annotations: list,
                    scope: scope as i32,
                    structured_annotations: structured(annotations),
                    annotation_locations: Vec::new(),
                });
            }
            if let Some((i, args, is_const)) = &t.default_action
                && let Some(action) = t.actions.get(*i).and_then(|a| self.program.actions.get(a.0))
            {
                let id = self.ids.get(prefix::ACTION, &action.name);
                if *is_const {
                    table.const_default_action_id = id;
                }
                // Reported with the action itself.
                let ids = field_ids(action.params.iter().map(|p| &p.annotations), &mut Sink::default());
                let arguments =
                    action
                        .params
                        .iter()
                        .zip(args)
                        .zip(ids)
                        .map(|((p, v), param_id)| pb::table_action_call::Argument {
                            param_id,
                            value: types::bytes(v, p.ty),
                        });
                table.initial_default_action = Some(pb::TableActionCall {
                    action_id: id,
                    arguments: arguments.collect(),
                });
            }
            for (name, p) in [(&t.counters, prefix::DIRECT_COUNTER), (&t.meters, prefix::DIRECT_METER)] {
                if let Some(name) = name {
                    table.direct_resource_ids.push(self.ids.get(p, name));
                }
            }
            if let Some(name) = &t.implementation {
                table.implementation_id = self.ids.get(prefix::ACTION_PROFILE, name);
            }
            table.size = i64::from(t.size.unwrap_or(lir::DEFAULT_TABLE_SIZE));
            if t.support_timeout {
                table.idle_timeout_behavior = pb::table::IdleTimeoutBehavior::NotifyControl as i32;
            }
            table.is_const_table = t.const_entries;
            table.has_initial_entries = !t.entries.is_empty();
            self.out.tables.push(table);
        }
    }

    fn match_field(&mut self, k: &lir::Key, id: u32) -> pb::MatchField {
        let (bitwidth, type_name) = self.named(&k.p4_type, k.expr.ty.width());
        pb::MatchField {
            id,
            name: k.name.clone(),
            // A key cannot be hidden from the control plane, so `@hidden` is only copied.
            annotations: annotation_texts(&k.annotations, KEY_CONSUMED),
            bitwidth,
            r#match: Some(match_type(&k.match_kind)),
            doc: doc(&k.annotations),
            type_name,
            structured_annotations: structured(&k.annotations),
            annotation_locations: Vec::new(),
        }
    }

    fn actions(&mut self) {
        for a in self
            .table_actions()
            .into_iter()
            .filter(|a| !a.annotations.has("hidden"))
        {
            let mut params = Vec::new();
            let ids = field_ids(a.params.iter().map(|p| &p.annotations), self.sink);
            for (p, id) in a.params.iter().zip(ids) {
                let (bitwidth, type_name) = self.named(&p.p4_type, p.ty.width());
                params.push(pb::action::Param {
                    id,
                    name: p.annotations.control_name(&p.name),
                    annotations: plain_annotations(&p.annotations),
                    bitwidth,
                    doc: doc(&p.annotations),
                    type_name,
                    structured_annotations: structured(&p.annotations),
                    annotation_locations: Vec::new(),
                });
            }
            self.out.actions.push(pb::Action {
                preamble: self.preamble(prefix::ACTION, &a.name, &a.annotations),
                params,
            });
        }
    }

    fn objects(&mut self) {
        for o in &self.program.objects {
            let Some(p) = prefix::of_extern(&o.kind) else { continue };
            let preamble = self.preamble(p, &o.name, &o.annotations);
            // From v1model's version 20200408 on, indexes have a type of their own.
            let index_at = match o.kind.as_str() {
                "counter" | "meter" => Some(0),
                "register" => Some(1),
                _ => None,
            };
            let index_type_name = match index_at.and_then(|i| o.type_args.get(i)).cloned() {
                Some(ty @ Type::Newtype(_)) => self.named(&ty, 0).1,
                _ => None,
            };
            let arg = |i: usize| o.args.get(i).and_then(ToPrimitive::to_i64).unwrap_or(0);
            // CounterType: packets, bytes, packets_and_bytes; MeterType: packets, bytes.
            let counter = |i: usize| {
                Some(pb::CounterSpec {
                    unit: [2, 1, 3].get(arg(i) as usize).copied().unwrap_or(0),
                })
            };
            let meter = |i: usize| {
                Some(pb::MeterSpec {
                    unit: [2, 1].get(arg(i) as usize).copied().unwrap_or(0),
                    r#type: 0,
                })
            };
            let table = |f: fn(&lir::Table) -> &Option<String>| {
                let t = self.program.tables.iter().find(|t| f(t).as_deref() == Some(&o.name));
                t.map_or(0, |t| self.ids.get(prefix::TABLE, &t.name))
            };
            match o.kind.as_str() {
                "counter" => self.out.counters.push(pb::Counter {
                    preamble,
                    spec: counter(1),
                    size: arg(0),
                    index_type_name,
                }),
                "direct_counter" => {
                    let direct_table_id = table(|t| &t.counters);
                    if direct_table_id != 0 {
                        self.out.direct_counters.push(pb::DirectCounter {
                            preamble,
                            spec: counter(0),
                            direct_table_id,
                        });
                    }
                }
                "meter" => self.out.meters.push(pb::Meter {
                    preamble,
                    spec: meter(1),
                    size: arg(0),
                    index_type_name,
                }),
                "direct_meter" => {
                    let direct_table_id = table(|t| &t.meters);
                    if direct_table_id != 0 {
                        self.out.direct_meters.push(pb::DirectMeter {
                            preamble,
                            spec: meter(0),
                            direct_table_id,
                        });
                    }
                }
                "register" => {
                    let spec = o.type_args.first().cloned().map(|t| self.data_type(&t));
                    self.out.registers.push(pb::Register {
                        preamble,
                        type_spec: spec,
                        size: arg(0) as i32,
                        index_type_name,
                    });
                }
                _ => {
                    let with_selector = o.kind == "action_selector";
                    let used = self.program.tables.iter();
                    let mut used: Vec<&str> = used
                        .filter(|t| t.implementation.as_deref() == Some(&o.name))
                        .map(|t| t.name.as_str())
                        .collect();
                    used.sort_unstable();
                    let table_ids = used.iter().map(|t| self.ids.get(prefix::TABLE, t)).collect();
                    let number = |name| o.annotations.int(name).and_then(|i| i.to_i32()).unwrap_or(0);
                    let semantics = o.annotations.string("selector_size_semantics");
                    use pb::action_profile::{SelectorSizeSemantics as S, SumOfMembers, SumOfWeights};
                    let semantics = semantics.map(|s| s.to_ascii_lowercase());
                    let selector_size_semantics = match semantics.as_deref().filter(|_| with_selector) {
                        Some("sum_of_weights") => Some(S::SumOfWeights(SumOfWeights {})),
                        Some("sum_of_members") => Some(S::SumOfMembers(SumOfMembers {
                            max_member_weight: number("max_member_weight"),
                        })),
                        Some(other) => {
                            self.sink
                                .error(o.span, format!("{other} is not a meaning of a selector's size"));
                            None
                        }
                        None => None,
                    };
                    let by_members = matches!(selector_size_semantics, Some(S::SumOfMembers(_)));
                    for (name, used) in [
                        ("max_group_size", with_selector),
                        ("selector_size_semantics", with_selector),
                        ("max_member_weight", by_members),
                    ] {
                        if let Some(a) = o.annotations.get(name).filter(|_| !used) {
                            let why = if with_selector {
                                "the selector's size is not a sum of members"
                            } else {
                                "an action profile has no groups"
                            };
                            self.sink
                                .warn(Lint::Unsupported, a.span, format!("@{name} is ignored: {why}"));
                        }
                    }
                    let size = if with_selector { arg(1) } else { arg(0) };
                    let profile = pb::ActionProfile {
                        preamble,
                        table_ids,
                        with_selector,
                        size,
                        max_group_size: if with_selector { number("max_group_size") } else { 0 },
                        selector_size_semantics,
                        ..Default::default()
                    };
                    self.out.action_profiles.push(profile);
                }
            }
        }
    }

    fn controller_headers(&mut self) {
        for s in &self.ir.structs {
            let Some(name) = s.annotations.string("controller_header") else {
                continue;
            };
            self.note_used(&s.annotations, &["id", "hidden"]);
            if s.annotations.has("hidden") {
                continue;
            }
            let mut fields = Vec::new();
            self.header_fields(s, "", &mut fields);
            let ids = field_ids(fields.iter().map(|f| &f.0.annotations), self.sink);
            for f in &fields {
                self.note_used(&f.0.annotations, &["id", "hidden"]);
            }
            let mut metadata = Vec::new();
            for ((f, name), id) in fields
                .into_iter()
                .zip(ids)
                .filter(|(f, _)| !f.0.annotations.has("hidden"))
            {
                let width = self.ir.width(&f.ty).unwrap_or(0) as u32;
                let (bitwidth, type_name) = self.named(&f.ty, width);
                metadata.push(pb::controller_packet_metadata::Metadata {
                    id,
                    name,
                    annotations: plain_annotations(&f.annotations),
                    bitwidth,
                    type_name,
                    structured_annotations: structured(&f.annotations),
                    annotation_locations: Vec::new(),
                });
            }
            match s.annotations.int("id").and_then(|i| i.to_u32()) {
                Some(id) => {
                    if let Err(why) = self.ids.fixed(prefix::CONTROLLER_HEADER, &s.name, id) {
                        self.sink.error(s.span, why);
                    }
                }
                None => self.ids.assign(prefix::CONTROLLER_HEADER, &s.name),
            }
            // The id comes from the type's name, the name from the annotation, as in other compilers.
            let mut preamble = self.preamble(prefix::CONTROLLER_HEADER, &s.name, &s.annotations);
            if let Some(p) = &mut preamble {
                (p.name, p.alias) = (name.clone(), name.clone());
                p.annotations.insert(0, format!("@controller_header(\"{name}\")"));
            }
            self.out
                .controller_packet_metadata
                .push(pb::ControllerPacketMetadata { preamble, metadata });
        }
    }

    /// Fields in order with their names. Fields of nested structs have dotted names (at most [`MAX_STRUCT_DEPTH`]
    /// levels).
    fn header_fields(&self, s: &ir::StructDecl, path: &str, out: &mut Vec<(ir::FieldDecl, String)>) {
        for f in &s.fields {
            let name = format!("{path}{}", f.annotations.control_name(&f.name));
            if let Type::Struct(id, _) = &f.ty
                && path.matches('.').count() < MAX_STRUCT_DEPTH
                && let Some(inner) = self.ir.strukt(*id)
            {
                self.header_fields(inner, &format!("{name}."), out);
                continue;
            }
            out.push((f.clone(), name));
        }
    }

    fn note_used(&mut self, annotations: &Annotations, names: &[&str]) {
        let used = annotations.iter().filter(|a| names.contains(&&*a.name));
        self.used.extend(used.map(|a| a.span));
    }

    /// Reports annotations of structs and their fields that have a meaning only in controller headers and value sets.
    fn unused_annotations(&mut self) {
        for s in &self.ir.structs {
            let fields = s.fields.iter().map(|f| &f.annotations);
            for a in std::iter::once(&s.annotations)
                .chain(fields)
                .flat_map(Annotations::iter)
            {
                if matches!(&*a.name, "id" | "hidden" | "match") && !self.used.contains(&a.span) {
                    self.sink.warn(
                        Lint::Unsupported,
                        a.span,
                        format!("@{} is ignored: the control plane does not see this", a.name),
                    );
                }
            }
        }
    }

    fn value_sets(&mut self) {
        for v in &self.program.value_sets {
            let none = Annotations::default();
            let decl = match &v.ty {
                Type::Struct(id, _) => self.ir.strukt(*id).map(|s| s.fields.clone()).unwrap_or_default(),
                _ => Vec::new(),
            };
            let fields = if matches!(v.ty, Type::Struct(..)) {
                self.ir.fields(&v.ty)
            } else {
                vec![("".into(), v.ty.clone())]
            };
            let annotations: Vec<&Annotations> = (0..fields.len())
                .map(|i| decl.get(i).map_or(&none, |f| &f.annotations))
                .collect();
            for f in &decl {
                self.note_used(&f.annotations, &["id", "match"]);
            }
            let ids = field_ids(annotations.iter().copied(), self.sink);
            let mut list = Vec::new();
            for (((name, ty), a), id) in fields.iter().zip(annotations).zip(ids) {
                let width = self.ir.width(ty).unwrap_or(0) as u32;
                let (bitwidth, type_name) = self.named(ty, width);
                let kind = match a.get("match").map(|a| a.values()) {
                    Some([Value::MatchKind(kind)]) => kind.to_string(),
                    _ => "exact".to_string(),
                };
                list.push(pb::MatchField {
                    id,
                    name: a.control_name(name),
                    annotations: annotation_texts(a, VALUE_SET_CONSUMED),
                    structured_annotations: structured(a),
                    doc: doc(a),
                    bitwidth,
                    type_name,
                    r#match: Some(match_type(&kind)),
                    ..Default::default()
                });
            }
            let preamble = self.preamble(prefix::VALUE_SET, &v.name, &v.annotations);
            self.out.value_sets.push(pb::ValueSet {
                preamble,
                r#match: list,
                size: v.size as i32,
            });
        }
    }

    fn digests(&mut self) {
        let graphs = self.program.actions.iter().map(|a| &a.graph).chain([
            &self.program.ingress,
            &self.program.egress,
            &self.program.parser,
        ]);
        let mut found: BTreeMap<String, Type> = BTreeMap::new();
        let mut order = Vec::new();
        for b in graphs.flat_map(|g| &g.blocks) {
            for (op, _) in &b.ops {
                if let Op::Extern {
                    name,
                    data_type: Some(ty),
                    ..
                } = op
                    && name == "digest"
                {
                    let name = if matches!(ty, Type::Struct(..)) {
                        self.ir.show(ty)
                    } else {
                        format!("digest_{}", order.len())
                    };
                    if found.insert(name.clone(), ty.clone()).is_none() {
                        order.push(name);
                    }
                }
            }
        }
        for name in order {
            let Some(ty) = found.get(&name).cloned() else { continue };
            let annotations = match &ty {
                Type::Struct(id, _) => self.ir.strukt(*id).map(|s| s.annotations.clone()).unwrap_or_default(),
                _ => Annotations::default(),
            };
            self.ids.assign(prefix::DIGEST, &name);
            let spec = self.data_type(&ty);
            let preamble = self.preamble(prefix::DIGEST, &name, &annotations);
            self.out.digests.push(pb::Digest {
                preamble,
                type_spec: Some(spec),
            });
        }
    }
}
