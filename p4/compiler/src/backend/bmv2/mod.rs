//! The BMv2 JSON document (format 2.23) of a flat program.

mod code;
mod expr;
mod parser;
mod pipeline;

use crate::diagnostics::Sink;
use crate::ir;
use crate::lir::{self, FieldType, Leaf, Loc, Ty};
use crate::source::{SourceMap, Span};
use bmv2_json as json;
use bmv2_json::{FieldDecl, FieldRef, FieldWidth};
use num_traits::ToPrimitive;
use std::collections::HashMap;

pub(super) struct Bmv2<'a> {
    program: &'a lir::Program,
    ir: &'a ir::Program,
    sources: &'a SourceMap,
    sink: &'a mut Sink,
    json: json::Program,
    /// Variables that the back end adds.
    extra: Vec<FieldType>,
    meter_targets: HashMap<String, FieldRef>,
}

/// Writes the document.
pub fn emit(
    program: &lir::Program,
    ir: &ir::Program,
    sources: &SourceMap,
    sink: &mut Sink,
    name: &str,
) -> json::Program {
    let mut b = Bmv2 {
        program,
        ir,
        sources,
        sink,
        json: json::Program::default(),
        extra: Vec::new(),
        meter_targets: HashMap::new(),
    };
    b.json.program = Some(name.to_string());
    b.json.meta = Some(json::Meta {
        version: (2, 23),
        compiler: Some("p4-compiler".into()),
    });
    b.actions();
    b.parsers();
    b.json.pipelines = vec![
        b.pipeline("ingress", 0, &program.ingress, &program.ingress_tables),
        b.pipeline("egress", 1, &program.egress, &program.egress_tables),
    ];
    b.checksums();
    b.objects();
    b.storage();
    b.names();
    b.json
}

impl Bmv2<'_> {
    fn source(&self, span: Span) -> Option<json::SourceInfo> {
        if span == Span::default() || self.sources.is_system(span) {
            return None;
        }
        let (line, column) = self.sources.line_col(span);
        let text = self.sources.text(span);
        let fragment: String = text.lines().next().unwrap_or("").chars().take(80).collect();
        Some(json::SourceInfo {
            filename: self.sources.name(span).to_string(),
            line,
            column,
            source_fragment: fragment,
        })
    }

    /// A new variable; returns its field name in `scalars`.
    fn temp(&mut self, ty: Ty, name: &str) -> String {
        let name = format!("$.{name}_{}", self.extra.len());
        self.extra.push(FieldType {
            name: name.as_str().into(),
            ty,
        });
        name
    }

    fn actions(&mut self) {
        for (i, a) in self.program.actions.iter().enumerate() {
            let primitives = self.body(&a.graph);
            let runtime_data = a
                .params
                .iter()
                .map(|p| json::RuntimeData {
                    name: p.name.to_string(),
                    bitwidth: p.ty.width(),
                })
                .collect();
            self.json.actions.push(json::Action {
                name: a.name.clone(),
                id: i as u32,
                runtime_data,
                primitives,
            });
        }
    }

    fn checksums(&mut self) {
        for (i, c) in self.program.checksums.iter().enumerate() {
            let mut before = Vec::new();
            let data: Vec<Leaf> = c.data.clone();
            let calculation = self.calculation(c.algorithm, &data, c.payload, c.span, &mut before);
            if !before.is_empty() {
                self.sink.error(
                    c.span,
                    "a checksum's input may only hold fields, headers and constants on this target",
                );
            }
            let Loc::Field(h, f) = &c.target else {
                self.sink.error(c.span, "the checksum must be a plain field");
                continue;
            };
            self.json.checksums.push(json::Checksum {
                name: format!("cksum_{i}"),
                id: i as u32,
                source_info: self.source(c.span),
                target: FieldRef(h.to_string(), f.to_string()),
                kind: "generic".into(),
                calculation,
                verify: !c.update,
                update: c.update,
                if_cond: Some(expr::condition(&c.condition)),
            });
        }
    }

    fn objects(&mut self) {
        for o in &self.program.objects {
            let arg = |i: usize| o.args.get(i).and_then(ToPrimitive::to_u32).unwrap_or(0);
            let source_info = self.source(o.span);
            let table = |f: fn(&lir::Table) -> &Option<String>| {
                self.program
                    .tables
                    .iter()
                    .find(|t| f(t).as_deref() == Some(&o.name))
                    .map(|t| t.name.clone())
            };
            match o.kind.as_str() {
                "counter" | "direct_counter" => {
                    let direct = o.kind == "direct_counter";
                    let binding = if direct { table(|t| &t.counters) } else { None };
                    if direct && binding.is_none() {
                        continue;
                    }
                    let id = self.json.counter_arrays.len() as u32;
                    let size = if direct { None } else { Some(arg(0)) };
                    self.json.counter_arrays.push(json::CounterArray {
                        name: o.name.clone(),
                        id,
                        source_info,
                        size,
                        is_direct: direct,
                        binding,
                    });
                }
                "meter" | "direct_meter" => {
                    let direct = o.kind == "direct_meter";
                    let binding = if direct { table(|t| &t.meters) } else { None };
                    if direct && binding.is_none() {
                        continue;
                    }
                    let id = self.json.meter_arrays.len() as u32;
                    let kind = if arg(if direct { 0 } else { 1 }) == 0 {
                        json::MeterKind::Packets
                    } else {
                        json::MeterKind::Bytes
                    };
                    let result_target = match self.meter_targets.get(&o.name) {
                        Some(t) => Some(t.clone()),
                        None if direct => Some(FieldRef("scalars".into(), self.temp(Ty::Bit(32), "meter"))),
                        None => None,
                    };
                    // A direct meter has a cell for each entry that the table can hold; bmv2 refuses any other number.
                    // bmv2 makes a table with constant entries exactly as large as the number of these entries.
                    let cells = |t: &lir::Table| match t.entries.len() as u32 {
                        0 => pipeline::max_size(t),
                        own => own,
                    };
                    let of_table = self
                        .program
                        .tables
                        .iter()
                        .find(|t| t.meters.as_deref() == Some(&o.name));
                    let size = of_table.filter(|_| direct).map_or_else(|| arg(0), cells);
                    self.json.meter_arrays.push(json::MeterArray {
                        name: o.name.clone(),
                        id,
                        source_info,
                        is_direct: direct,
                        size,
                        rate_count: 2,
                        kind,
                        binding,
                        result_target,
                    });
                }
                "register" => {
                    let bitwidth = o.type_args.first().and_then(|t| self.ir.width(t)).unwrap_or(32) as u32;
                    let id = self.json.register_arrays.len() as u32;
                    self.json.register_arrays.push(json::RegisterArray {
                        name: o.name.clone(),
                        id,
                        source_info,
                        size: arg(0),
                        bitwidth,
                    });
                }
                kind if !code::V1MODEL_EXTERNS.contains(&kind) => {
                    let id = self.json.extern_instances.len() as u32;
                    let value = |a: &lir::Attribute| match a {
                        lir::Attribute::Number(n) => ("hexstr", json::HexStr::from_bigint(n).as_str().to_string()),
                        lir::Attribute::Text(s) => ("string", s.to_string()),
                    };
                    let attribute_values = o.attributes.iter().map(|(name, a)| {
                        let (kind, value) = value(a);
                        json::ExternAttribute {
                            name: name.to_string(),
                            kind: kind.into(),
                            value: value.into(),
                        }
                    });
                    let instance = json::ExternInstance {
                        name: o.name.clone(),
                        id,
                        source_info,
                        kind: kind.to_string(),
                        attribute_values: attribute_values.collect(),
                    };
                    self.json.extern_instances.push(instance);
                }
                _ => {}
            }
        }
    }

    fn header_type(&mut self, name: String, fields: &[FieldType]) -> String {
        let mut bits = 0u64;
        let mut varbit = None;
        let mut out: Vec<FieldDecl> = Vec::new();
        for f in fields {
            let width = match f.ty {
                Ty::Varbit(w) => {
                    varbit = Some(w);
                    FieldWidth::Variable
                }
                t => {
                    bits += u64::from(t.width());
                    FieldWidth::Bits(t.width())
                }
            };
            out.push(FieldDecl {
                name: f.name.to_string(),
                width,
                signed: matches!(f.ty, Ty::Int(w) if w > 1),
            });
        }
        if !bits.is_multiple_of(8) {
            // bmv2 wants whole bytes.
            out.push(FieldDecl {
                name: "_padding".into(),
                width: FieldWidth::Bits((8 - bits % 8) as u32),
                signed: false,
            });
        }
        let max_length = varbit.map(|w| ((bits + u64::from(w)).div_ceil(8)) as u32);
        let id = self.json.header_types.len() as u32;
        self.json.header_types.push(json::HeaderType {
            name: name.clone(),
            id,
            fields: out,
            length_exp: None,
            max_length,
        });
        name
    }

    fn storage(&mut self) {
        let s = &self.program.storage;
        let mut scalars = s.scalars.clone();
        scalars.append(&mut self.extra.clone());
        self.header_type("scalars_0".into(), &scalars);
        self.json.headers.push(json::Header {
            name: "scalars".into(),
            id: 0,
            header_type: "scalars_0".into(),
            metadata: true,
            pi_omit: true,
        });
        let mut names: Vec<String> = Vec::new();
        for t in &s.header_types {
            let mut name = t.name.clone();
            while names.contains(&name) {
                name.push('_');
            }
            names.push(self.header_type(name, &t.fields));
        }
        let type_name = |i: usize| names.get(i).cloned().unwrap_or_default();
        for h in &s.headers {
            let id = self.json.headers.len() as u32;
            self.json.headers.push(json::Header {
                name: h.name.to_string(),
                id,
                header_type: type_name(h.ty),
                metadata: h.metadata,
                pi_omit: true,
            });
        }
        let ids: HashMap<String, u32> = self.json.headers.iter().map(|h| (h.name.clone(), h.id)).collect();
        let find = |list: &[std::rc::Rc<str>]| list.iter().filter_map(|n| ids.get(&**n).copied()).collect::<Vec<_>>();
        for (i, (name, t, items)) in s.stacks.iter().enumerate() {
            let stack = json::HeaderStack {
                name: name.to_string(),
                id: i as u32,
                header_type: type_name(*t),
                size: Some(items.len() as u32),
                header_ids: find(items),
            };
            self.json.header_stacks.push(stack);
        }
        for (i, (name, members)) in s.union_types.iter().enumerate() {
            let headers = members.iter().map(|(n, t)| (n.to_string(), type_name(*t))).collect();
            self.json.header_union_types.push(json::HeaderUnionType {
                name: name.clone(),
                id: i as u32,
                headers,
            });
        }
        for (i, (name, t, items)) in s.unions.iter().enumerate() {
            let union_type = s.union_types.get(*t).map(|t| t.0.clone()).unwrap_or_default();
            self.json.header_unions.push(json::HeaderUnion {
                name: name.to_string(),
                id: i as u32,
                union_type,
                header_ids: find(items),
                pi_omit: true,
            });
        }
    }

    fn names(&mut self) {
        self.json.errors = self
            .ir
            .errors
            .iter()
            .enumerate()
            .map(|(i, e)| (e.to_string(), i as u32))
            .collect();
        for e in self.ir.enums.iter().filter(|e| e.repr.is_none()) {
            let entries = e
                .members
                .iter()
                .enumerate()
                .map(|(i, m)| (m.0.to_string(), i as u32))
                .collect();
            self.json.enums.push(json::Enum {
                name: e.name.to_string(),
                entries,
            });
        }
        self.json.field_aliases = self
            .program
            .aliases
            .iter()
            .map(|(a, h, f)| (a.clone(), FieldRef(h.to_string(), f.to_string())))
            .collect();
        let order = self.program.deparser.iter().map(|n| n.to_string()).collect();
        self.json.deparsers.push(json::Deparser {
            name: "deparser".into(),
            id: 0,
            source_info: None,
            order,
            primitives: Vec::new(),
        });
        for (i, v) in self.program.value_sets.iter().enumerate() {
            let bits = self.ir.width(&v.ty).unwrap_or(0) as u32;
            self.json.parse_vsets.push(json::ParseVset {
                name: v.name.clone(),
                id: i as u32,
                source_info: None,
                compressed_bitwidth: bits,
                max_size: Some(v.size),
            });
        }
    }
}
