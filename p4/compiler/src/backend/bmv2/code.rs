//! Straight-line code: operations to primitives, action bodies with jumps.

use super::Bmv2;
use super::expr::{data, header, hex, load, wrap};
use crate::lir::{Expr, ExprKind, ExternArg, Graph, HeaderRef, Leaf, Loc, Op, Term, Ty};
use crate::passes::simplify::reachable;
use crate::source::Span;
use bmv2_json::{CalculationInput, FieldRef, PrimitiveCall, Value};
use num_traits::ToPrimitive;

/// Names of `HashAlgorithm`, in the order of its declaration.
pub(super) const ALGORITHMS: [&str; 8] = [
    "crc32",
    "crc32_custom",
    "crc16",
    "crc16_custom",
    "random",
    "identity",
    "csum16",
    "xor16",
];

/// Externs of v1model and core. In bmv2 they are primitives and arrays, or have no counterpart.
pub(super) const V1MODEL_EXTERNS: [&str; 12] = [
    "counter",
    "direct_counter",
    "meter",
    "direct_meter",
    "register",
    "action_profile",
    "action_selector",
    "Checksum16",
    "packet_in",
    "packet_out",
    "clone3",
    "verify",
];

impl Bmv2<'_> {
    fn primitive(&self, op: &str, parameters: Vec<Value>, span: Span) -> PrimitiveCall {
        PrimitiveCall {
            op: op.into(),
            parameters,
            source_info: self.source(span),
        }
    }

    /// Operations as primitives.
    pub(super) fn primitives(&mut self, ops: &[(Op, Span)]) -> Vec<PrimitiveCall> {
        let mut out = Vec::new();
        for (op, span) in ops {
            self.op(op, *span, &mut out);
        }
        out
    }

    pub(super) fn op(&mut self, o: &Op, span: Span, out: &mut Vec<PrimitiveCall>) {
        let stack = |n: &str| Value::HeaderStack(n.to_string());
        let call = match o {
            Op::Assign(loc, Ty::Varbit(_), e) => {
                self.primitive("assign_VL", vec![wrap(load(loc)), wrap(data(e))], span)
            }
            Op::Assign(loc, ty, e) => {
                let _ = ty;
                self.primitive("assign", vec![wrap(load(loc)), wrap(data(e))], span)
            }
            Op::AssignHeader(a, b) => self.primitive("assign_header", vec![wrap(header(a)), wrap(header(b))], span),
            Op::AssignStack(a, b) => self.primitive("assign_header_stack", vec![stack(a), stack(b)], span),
            Op::AssignUnion(a, b) => self.primitive(
                "assign_union",
                vec![Value::HeaderUnion(a.to_string()), Value::HeaderUnion(b.to_string())],
                span,
            ),
            Op::SetValid(h, valid) => self.primitive(
                if *valid { "add_header" } else { "remove_header" },
                vec![wrap(header(h))],
                span,
            ),
            Op::Push(s, n) => self.primitive("push", vec![stack(s), hex(*n)], span),
            Op::Pop(s, n) => self.primitive("pop", vec![stack(s), hex(*n)], span),
            Op::Extern {
                name,
                object,
                args,
                data_type,
            } => {
                self.extern_call(
                    name,
                    object.as_deref().unwrap_or(""),
                    args,
                    data_type.as_ref(),
                    span,
                    out,
                );
                return;
            }
            Op::Extract(..) | Op::Advance(_) | Op::Verify(..) => {
                self.sink.error(span, "this is only possible in a parser");
                return;
            }
        };
        out.push(call);
    }

    fn extern_call(
        &mut self,
        name: &str,
        object: &str,
        args: &[ExternArg],
        ty: Option<&crate::ir::ty::Type>,
        span: Span,
        out: &mut Vec<PrimitiveCall>,
    ) {
        let v = |i: usize| match args.get(i) {
            Some(ExternArg::Expr(e)) => wrap(data(e)),
            Some(ExternArg::Out(l, _)) => wrap(load(l)),
            Some(ExternArg::Str(s)) => Value::String(s.to_string()),
            _ => hex(0),
        };
        let number = |i: usize| match args.get(i) {
            Some(ExternArg::Expr(Expr {
                kind: ExprKind::Const(n),
                ..
            })) => n.to_u32(),
            _ => None,
        };
        let empty = Vec::new();
        let list = |i: usize| match args.get(i) {
            Some(ExternArg::List(l)) => l.clone(),
            Some(ExternArg::Expr(e)) => vec![Leaf::Expr(e.clone())],
            _ => empty.clone(),
        };
        let (op, params) = match name {
            "counter.count" => ("count", vec![Value::CounterArray(object.into()), v(0)]),
            "meter.execute_meter" => ("execute_meter", vec![Value::MeterArray(object.into()), v(0), v(1)]),
            "register.read" => ("register_read", vec![v(0), Value::RegisterArray(object.into()), v(1)]),
            "register.write" => ("register_write", vec![Value::RegisterArray(object.into()), v(0), v(1)]),
            "direct_counter.count" => return,
            "direct_meter.read" => {
                self.meter_result(object, args.first(), span, out);
                return;
            }
            "random" => ("modify_field_rng_uniform", vec![v(0), v(1), v(2)]),
            "mark_to_drop" => ("mark_to_drop", vec![Value::Header("standard_metadata".into())]),
            "truncate" => ("truncate", vec![v(0)]),
            "assert" | "assume" => (name, vec![v(0)]),
            "log_msg" => {
                let items = list(1).into_iter().filter_map(|l| {
                    if let Leaf::Expr(e) = l {
                        Some(wrap(data(&e)))
                    } else {
                        None
                    }
                });
                ("log_msg", vec![v(0), Value::ParametersVector(items.collect())])
            }
            "hash" => {
                let algorithm = number(1).unwrap_or(0);
                let calc = self.calculation(algorithm, &list(3), false, span, out);
                (
                    "modify_field_with_hash_based_offset",
                    vec![v(0), v(2), Value::Calculation(calc), v(4)],
                )
            }
            "digest" => {
                let id = self.learn_list(&list(1), ty, span, out);
                ("generate_digest", vec![v(0), hex(id)])
            }
            "clone" | "clone3" | "clone_preserving_field_list" => {
                let egress = number(0) == Some(1);
                let list = if name == "clone_preserving_field_list" {
                    self.field_list(number(2))
                } else {
                    self.field_list(None)
                };
                (
                    if egress {
                        "clone_egress_pkt_to_egress"
                    } else {
                        "clone_ingress_pkt_to_egress"
                    },
                    vec![v(1), hex(list)],
                )
            }
            "resubmit" | "recirculate" => (name, vec![hex(self.field_list(None))]),
            "resubmit_preserving_field_list" => ("resubmit", vec![hex(self.field_list(number(0)))]),
            "recirculate_preserving_field_list" => ("recirculate", vec![hex(self.field_list(number(0)))]),
            _ => {
                out.extend(self.foreign_call(name, object, args, span));
                return;
            }
        };
        let call = self.primitive(op, params, span);
        out.push(call);
    }

    /// A call of an extern that v1model does not declare: named as bmv2's extern macros name it, with the object
    /// first and then the arguments; a switch that has it built in runs it, others refuse the document.
    fn foreign_call(&mut self, name: &str, object: &str, args: &[ExternArg], span: Span) -> Option<PrimitiveCall> {
        let kind = name.split_once('.').map_or(name, |(kind, _)| kind);
        if V1MODEL_EXTERNS.contains(&kind) {
            self.sink.error(span, format!("{name} is not supported by this target"));
            return None;
        }
        self.sink.warn(
            crate::diagnostics::Lint::Unsupported,
            span,
            format!("{name} is not part of v1model: the switch must have it built in"),
        );
        let (op, mut params) = match name.split_once('.') {
            Some((kind, method)) => (format!("_{kind}_{method}"), vec![Value::Extern(object.into())]),
            None => (name.to_string(), Vec::new()),
        };
        params.extend(args.iter().map(|a| {
            match a {
                ExternArg::Expr(e) => wrap(data(e)),
                ExternArg::Out(l, _) => wrap(load(l)),
                ExternArg::Str(s) => Value::String(s.to_string()),
                ExternArg::List(leaves) => Value::ParametersVector(
                    leaves
                        .iter()
                        .map(|l| match l {
                            Leaf::Expr(e) => wrap(data(e)),
                            Leaf::Header(h) => wrap(header(h)),
                        })
                        .collect(),
                ),
            }
        }));
        Some(self.primitive(&op, params, span))
    }

    /// A direct meter leaves its colour in one field; other reads copy from it.
    fn meter_result(&mut self, object: &str, arg: Option<&ExternArg>, span: Span, out: &mut Vec<PrimitiveCall>) {
        let Some(ExternArg::Out(loc, _)) = arg else { return };
        let Loc::Field(h, f) = loc else {
            self.sink.error(span, "a meter's result must be a plain field");
            return;
        };
        let target = FieldRef(h.to_string(), f.to_string());
        match self.meter_targets.get(object) {
            Some(first) if *first != target => {
                let copy = vec![Value::Field(target), Value::Field(first.clone())];
                out.push(self.primitive("assign", copy, span));
            }
            Some(_) => {}
            None => {
                self.meter_targets.insert(object.to_string(), target);
            }
        }
    }

    /// A named hash input. Parts that are not fields are first computed into variables.
    pub(super) fn calculation(
        &mut self,
        algorithm: u32,
        data_in: &[Leaf],
        payload: bool,
        span: Span,
        out: &mut Vec<PrimitiveCall>,
    ) -> String {
        let mut input = Vec::new();
        for leaf in data_in {
            input.push(match leaf {
                Leaf::Header(HeaderRef::Named(h)) => CalculationInput {
                    kind: "header".into(),
                    value: h.to_string().into(),
                    bitwidth: None,
                },
                Leaf::Header(_) => continue,
                Leaf::Expr(e) => match &e.kind {
                    ExprKind::Const(v) => {
                        let text = bmv2_json::HexStr::padded(&v.to_biguint().unwrap_or_default(), e.ty.width());
                        CalculationInput {
                            kind: "hexstr".into(),
                            value: text.as_str().to_string().into(),
                            bitwidth: Some(e.ty.width()),
                        }
                    }
                    ExprKind::Load(Loc::Field(h, f)) => CalculationInput {
                        kind: "field".into(),
                        value: serde_json::json!([&**h, &**f]),
                        bitwidth: None,
                    },
                    _ => {
                        let f = self.temp(e.ty, "hash_input");
                        let call =
                            self.primitive("assign", vec![super::expr::field("scalars", &f), wrap(data(e))], span);
                        out.push(call);
                        CalculationInput {
                            kind: "field".into(),
                            value: serde_json::json!(["scalars", f]),
                            bitwidth: None,
                        }
                    }
                },
            });
        }
        if payload {
            input.push(CalculationInput {
                kind: "payload".into(),
                value: serde_json::Value::Null,
                bitwidth: None,
            });
        }
        let id = self.json.calculations.len() as u32;
        let name = if id == 0 {
            "calc".to_string()
        } else {
            format!("calc_{id}")
        };
        let algo = ALGORITHMS
            .get(algorithm as usize)
            .copied()
            .unwrap_or("crc32")
            .to_string();
        self.json.calculations.push(bmv2_json::Calculation {
            name: name.clone(),
            id,
            source_info: self.source(span),
            algo,
            input,
        });
        name
    }

    fn learn_list(
        &mut self,
        leaves: &[Leaf],
        ty: Option<&crate::ir::ty::Type>,
        span: Span,
        out: &mut Vec<PrimitiveCall>,
    ) -> u32 {
        let mut elements = Vec::new();
        for l in leaves {
            let Leaf::Expr(e) = l else { continue };
            elements.push(match data(e) {
                v @ (Value::Field(_) | Value::Hexstr(_)) => v,
                v => {
                    let f = self.temp(e.ty, "digest_input");
                    let call = self.primitive("assign", vec![super::expr::field("scalars", &f), wrap(v)], span);
                    out.push(call);
                    super::expr::field("scalars", &f)
                }
            });
        }
        let name = match ty {
            Some(t @ crate::ir::ty::Type::Struct(..)) => self.ir.show(t),
            _ => format!("digest_{}", self.json.learn_lists.len()),
        };
        if let Some(same) = self
            .json
            .learn_lists
            .iter()
            .find(|l| l.name == name && l.elements == elements)
        {
            return same.id;
        }
        let id = self.json.learn_lists.len() as u32 + 1;
        self.json.learn_lists.push(bmv2_json::LearnList {
            id,
            name,
            source_info: self.source(span),
            elements,
        });
        id
    }

    /// Id of the list of the `@field_list(n)` fields, or of the empty list. Never 0: for bmv2, 0 means that there is no
    /// clone, resubmission or recirculation, and it looks up all other ids.
    fn field_list(&mut self, n: Option<u32>) -> u32 {
        let id = n.map_or(1, |n| n + 2);
        if !self.json.field_lists.iter().any(|l| l.id == id) {
            let lists = &self.program.field_lists;
            let elements = lists.iter().find(|l| Some(l.0) == n).map(|l| l.1.clone());
            let elements = elements.unwrap_or_default();
            let elements = elements.iter().map(|(h, f)| super::expr::field(h, f)).collect();
            self.json.field_lists.push(bmv2_json::FieldList {
                id,
                name: n.map_or_else(|| "fl_none".to_owned(), |n| format!("fl_{n}")),
                source_info: None,
                elements,
            });
        }
        id
    }

    /// An action's body: blocks one after the other, edges as jumps.
    pub(super) fn body(&mut self, graph: &Graph) -> Vec<PrimitiveCall> {
        let order = reachable(graph);
        let mut code: Vec<PrimitiveCall> = Vec::new();
        let mut starts = std::collections::HashMap::new();
        // Jumps are patched when all addresses are known: index of the call, parameter, block.
        let mut patches: Vec<(usize, usize, Option<usize>)> = Vec::new();
        for (n, b) in order.iter().enumerate() {
            let Some(block) = graph.blocks.get(*b) else { continue };
            starts.insert(*b, code.len());
            let ops = self.primitives(&block.ops.clone());
            code.extend(ops);
            let next = order.get(n + 1).copied();
            let last = next.is_none();
            match &block.term {
                Term::Goto(t) if next == Some(*t) => {}
                Term::Goto(t) => {
                    patches.push((code.len(), 0, Some(*t)));
                    code.push(self.primitive("_jump", vec![hex(0)], block.span));
                }
                Term::Branch(c, yes, no) => {
                    patches.push((code.len(), 1, Some(*no)));
                    code.push(self.primitive("_jump_if_zero", vec![wrap(data(c)), hex(0)], block.span));
                    if next != Some(*yes) {
                        patches.push((code.len(), 0, Some(*yes)));
                        code.push(self.primitive("_jump", vec![hex(0)], block.span));
                    }
                }
                Term::Exit | Term::End | Term::Reject => {
                    if matches!(block.term, Term::Exit) {
                        code.push(self.primitive("exit", Vec::new(), block.span));
                    }
                    if !last {
                        patches.push((code.len(), 0, None));
                        code.push(self.primitive("_jump", vec![hex(0)], block.span));
                    }
                }
                Term::Apply(..) | Term::Select(..) => self.sink.error(block.span, "this is not possible in an action"),
            }
        }
        let end = code.len();
        for (at, param, block) in patches {
            let target = block.and_then(|b| starts.get(&b).copied()).unwrap_or(end);
            if let Some(p) = code.get_mut(at).and_then(|c| c.parameters.get_mut(param)) {
                *p = hex(target as u64);
            }
        }
        code
    }
}
