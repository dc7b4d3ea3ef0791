//! From BMv2 JSON to a [`Program`]: every name becomes an index, once.

use std::collections::HashMap;

use bmv2_json::{
    self as json, Expression, FieldRef, FieldWidth, KeyTarget, MatchType, Operand, ParserOpKind, ParserParameter,
    TransitionKind, Value,
};
use num_bigint::{BigInt, Sign};

use super::bits::mask;
use super::expr::{Binary, Expr, Number};
use super::hash::{Algorithm, Calculation, Input};
use super::phv::{Field, Header};
use super::program::{
    Action, Case, Checksum, Dest, Errors, KeyPart, Next, Node, ParserState, ParserStep, Pipeline, Profile, Program,
    Select, Step, Table, TableNext,
};
use super::table::{KeyField, Kind};

/// Why a program cannot be run: where, and what.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct LowerError(String);

type Lower<T> = Result<T, LowerError>;

fn wrong<T>(what: impl std::fmt::Display) -> Lower<T> {
    Err(LowerError(what.to_string()))
}

/// Widest field, and most cells of an array, that a program may ask for.
const MAX_WIDTH: u32 = 128;
const MAX_CELLS: usize = 1 << 24;
/// Deepest nesting of an expression.
const MAX_DEPTH: usize = 200;

/// Names of what was lowered so far.
struct Names<'a> {
    source: &'a json::Program,
    program: Program,
    headers: HashMap<&'a str, usize>,
    stacks: HashMap<&'a str, usize>,
    fields: HashMap<(&'a str, &'a str), Field>,
    unions: HashMap<&'a str, Vec<usize>>,
    actions: HashMap<u32, usize>,
    calculations: HashMap<&'a str, usize>,
}

/// Lowers a program.
pub(crate) fn lower(source: &json::Program) -> Lower<Program> {
    let mut names = Names {
        source,
        program: Program::default(),
        headers: HashMap::new(),
        stacks: HashMap::new(),
        fields: HashMap::new(),
        unions: HashMap::new(),
        actions: HashMap::new(),
        calculations: HashMap::new(),
    };
    names.layout()?;
    names.arrays()?;
    names.calculations()?;
    names.actions()?;
    names.parser()?;
    names.tables()?;
    names.rest()?;
    Ok(names.program)
}

impl<'a> Names<'a> {
    fn layout(&mut self) -> Lower<()> {
        let types: HashMap<&str, &json::HeaderType> =
            self.source.header_types.iter().map(|t| (t.name.as_str(), t)).collect();
        let mut by_id = HashMap::new();
        for header in &self.source.headers {
            let Some(kind) = types.get(header.header_type.as_str()) else {
                return wrong(format_args!(
                    "header {}: type {} is unknown",
                    header.name, header.header_type
                ));
            };
            let index = self.program.headers.len();
            let mut fields = Vec::new();
            for f in &kind.fields {
                let (width, variable) = match f.width {
                    FieldWidth::Bits(width) if width <= MAX_WIDTH => (width, None),
                    FieldWidth::Bits(width) => {
                        return wrong(format_args!(
                            "{}.{}: {width} bits; fields of up to {MAX_WIDTH} are run",
                            header.name, f.name
                        ));
                    }
                    FieldWidth::Variable => {
                        self.program.variables += 1;
                        (
                            kind.max_length.unwrap_or(0).saturating_mul(8),
                            Some(self.program.variables - 1),
                        )
                    }
                };
                let field = Field {
                    slot: self.program.slots,
                    width,
                    signed: f.signed,
                    variable,
                };
                self.program.slots += 1;
                if header.name == "standard_metadata" {
                    self.program.standard.add(&f.name, field.slot, width);
                }
                self.fields.insert((&header.name, &f.name), field.clone());
                fields.push(field);
            }
            self.headers.insert(&header.name, index);
            by_id.insert(header.id, index);
            let (name, metadata) = (header.name.clone(), header.metadata);
            self.program.headers.push(Header {
                name,
                fields,
                metadata,
                rivals: Vec::new(),
            });
        }
        for stack in &self.source.header_stacks {
            let elements: Vec<usize> = stack
                .header_ids
                .iter()
                .filter_map(|id| by_id.get(id))
                .copied()
                .collect();
            self.stacks.insert(&stack.name, self.program.stacks.len());
            self.program.stacks.push(elements);
        }
        for union in &self.source.header_unions {
            let members: Vec<usize> = union
                .header_ids
                .iter()
                .filter_map(|id| by_id.get(id))
                .copied()
                .collect();
            for member in &members {
                if let Some(header) = self.program.headers.get_mut(*member) {
                    header.rivals = members.iter().copied().filter(|m| m != member).collect();
                }
            }
            self.unions.insert(&union.name, members);
        }
        Ok(())
    }

    fn arrays(&mut self) -> Lower<()> {
        let bounded = |name: &str, cells: usize| {
            if cells <= MAX_CELLS {
                Ok(cells)
            } else {
                wrong(format_args!("{name}: {cells} cells, {MAX_CELLS} at most"))
            }
        };
        for c in &self.source.counter_arrays {
            let cells = if c.is_direct {
                0
            } else {
                bounded(&c.name, c.size.unwrap_or(0) as usize)?
            };
            self.program.counters.push((c.name.clone(), cells));
        }
        for m in &self.source.meter_arrays {
            let cells = if m.is_direct {
                0
            } else {
                bounded(&m.name, m.size as usize)?
            };
            self.program
                .meters
                .push((m.name.clone(), cells, m.kind == json::MeterKind::Bytes));
        }
        for r in &self.source.register_arrays {
            if r.bitwidth > MAX_WIDTH {
                return wrong(format_args!(
                    "register {}: {} bits; up to {MAX_WIDTH} are run",
                    r.name, r.bitwidth
                ));
            }
            self.program
                .registers
                .push((r.name.clone(), bounded(&r.name, r.size as usize)?, r.bitwidth));
        }
        let code = |name: &str| {
            self.source
                .errors
                .iter()
                .find(|(n, _)| n == name)
                .map_or(0, |(_, c)| u128::from(*c))
        };
        self.program.errors = Errors {
            too_short: code("PacketTooShort"),
            no_match: code("NoMatch"),
            stack_out_of_bounds: code("StackOutOfBounds"),
            header_too_short: code("HeaderTooShort"),
        };
        Ok(())
    }

    fn header(&self, name: &str) -> Lower<usize> {
        self.headers
            .get(name)
            .copied()
            .ok_or_else(|| LowerError(format!("header {name} is unknown")))
    }

    fn stack(&self, name: &str) -> Lower<usize> {
        self.stacks
            .get(name)
            .copied()
            .ok_or_else(|| LowerError(format!("header stack {name} is unknown")))
    }

    fn field<'b>(&'b self, reference: &'b FieldRef) -> Lower<&'b Field> {
        let FieldRef(header, field) = reference;
        let found = self.fields.get(&(header.as_str(), field.as_str()));
        found.ok_or_else(|| LowerError(format!("field {header}.{field} is unknown")))
    }

    /// The slots of one field of every element of a stack.
    fn stack_slots(&self, FieldRef(stack, field): &FieldRef) -> Lower<(usize, Vec<usize>, u32)> {
        let index = self.stack(stack)?;
        let elements = self.program.stacks.get(index).into_iter().flatten();
        let mut slots = Vec::new();
        let mut width = 0;
        for element in elements {
            let name = self.program.headers.get(*element).map_or("", |h| h.name.as_str());
            let found = self.fields.get(&(name, field.as_str()));
            let found = found.ok_or_else(|| LowerError(format!("field {stack}[].{field} is unknown")))?;
            slots.push(found.slot);
            width = found.width;
        }
        Ok((index, slots, width))
    }

    fn index<T>(kind: &str, all: &[T], name: impl Fn(&T) -> &str, wanted: &str) -> Lower<usize> {
        Program::find(all, name, wanted).ok_or_else(|| LowerError(format!("{kind} {wanted} is unknown")))
    }

    fn value(&self, value: &Value) -> Lower<Expr> {
        self.value_at(value, 0)
    }

    fn value_at(&self, value: &Value, depth: usize) -> Lower<Expr> {
        if depth > MAX_DEPTH {
            return wrong("an expression is nested too deeply");
        }
        Ok(match value {
            Value::Field(FieldRef(header, field)) if field == "$valid$" => self.validity(header)?,
            Value::Field(f) => {
                let field = self.field(f)?;
                if field.signed {
                    Expr::Signed(field.slot, field.width)
                } else {
                    Expr::Field(field.slot)
                }
            }
            Value::Hexstr(h) => Expr::Constant(constant(&h.value())),
            Value::Bool(b) => Expr::constant((*b).into()),
            Value::StackField(f) => {
                let (stack, slots, _) = self.stack_slots(f)?;
                Expr::StackLast(stack, slots)
            }
            Value::Header(h) => Expr::Valid(self.header(h)?),
            Value::HeaderUnion(u) => Expr::AnyValid(self.unions.get(u.as_str()).cloned().unwrap_or_default()),
            Value::Local(i) | Value::RuntimeData(i) => Expr::Argument(*i as usize),
            Value::Register(name, cell) => {
                let register = Self::index("register", &self.program.registers, |r| &r.0, name)?;
                Expr::Register(register, Box::new(self.value_at(cell, depth + 1)?))
            }
            Value::Expression(e) => self.expression(e, depth + 1)?,
            Value::HeaderStack(s) => Expr::StackSize(self.stack(s)?),
            other => return wrong(format_args!("operand {other:?} cannot be computed with")),
        })
    }

    fn validity(&self, header: &str) -> Lower<Expr> {
        match self.unions.get(header) {
            Some(members) => Ok(Expr::AnyValid(members.clone())),
            None => Ok(Expr::Valid(self.header(header)?)),
        }
    }

    fn expression(&self, expression: &Expression, depth: usize) -> Lower<Expr> {
        let op = match expression {
            Expression::Value(value) => return self.value_at(value, depth),
            Expression::Op(op) => op,
        };
        let operand = |o: &Option<Box<Operand>>| match o.as_deref() {
            Some(Operand::Value(v)) => self.value_at(v, depth),
            Some(Operand::Offset(n)) => Ok(Expr::constant((*n).into())),
            None => wrong(format_args!("operator {} lacks an operand", op.op)),
        };
        let boxed = |o| operand(o).map(Box::new);
        let binary = |b: Binary| Ok(Expr::Binary(b, boxed(&op.left)?, boxed(&op.right)?));
        match op.op.as_str() {
            "+" => binary(Binary::Add),
            "-" if op.left.is_none() => Ok(Expr::Negate(boxed(&op.right)?)),
            "-" => binary(Binary::Sub),
            "*" => binary(Binary::Mul),
            "/" => binary(Binary::Div),
            "%" => binary(Binary::Mod),
            "<<" => binary(Binary::Shl),
            ">>" => binary(Binary::Shr),
            "&" => binary(Binary::BitAnd),
            "|" => binary(Binary::BitOr),
            "^" => binary(Binary::BitXor),
            "==" | "!=" => {
                let equal = match (op.left.as_deref(), op.right.as_deref()) {
                    (Some(Operand::Value(Value::Header(a))), Some(Operand::Value(Value::Header(b)))) => {
                        self.headers_equal(a, b)?
                    }
                    _ => binary(Binary::Eq)?,
                };
                Ok(if op.op == "==" {
                    equal
                } else {
                    Expr::Not(Box::new(equal))
                })
            }
            "<" => binary(Binary::Lt),
            ">" => binary(Binary::Gt),
            "<=" => binary(Binary::Le),
            ">=" => binary(Binary::Ge),
            "and" => binary(Binary::And),
            "or" => binary(Binary::Or),
            "not" => Ok(Expr::Not(boxed(&op.right)?)),
            "~" => Ok(Expr::Complement(boxed(&op.right)?)),
            "two_comp_mod" => binary(Binary::TwosComplement),
            "usat_cast" => binary(Binary::SaturateUnsigned),
            "sat_cast" => binary(Binary::SaturateSigned),
            "d2b" => Ok(Expr::Binary(Binary::Ne, boxed(&op.right)?, Box::new(Expr::constant(0)))),
            "b2d" => operand(&op.right),
            "valid" | "valid_union" => match op.right.as_deref() {
                Some(Operand::Value(Value::HeaderUnion(u))) => self.validity(u),
                _ => operand(&op.right),
            },
            "?" => Ok(Expr::Choice(boxed(&op.cond)?, boxed(&op.left)?, boxed(&op.right)?)),
            "last_stack_index" => Ok(Expr::Binary(
                Binary::Sub,
                boxed(&op.right)?,
                Box::new(Expr::constant(1)),
            )),
            "size_stack" => operand(&op.right),
            other => wrong(format_args!("operator {other} is not known")),
        }
    }

    fn headers_equal(&self, a: &str, b: &str) -> Lower<Expr> {
        let (a, b) = (self.header(a)?, self.header(b)?);
        let slots = |h: usize| {
            self.program
                .headers
                .get(h)
                .into_iter()
                .flat_map(|h| &h.fields)
                .map(|f| f.slot)
        };
        Ok(Expr::HeadersEqual(a, b, slots(a).zip(slots(b)).collect()))
    }

    fn dest(&self, value: &Value) -> Lower<Dest> {
        Ok(match value {
            Value::Field(FieldRef(header, field)) if field == "$valid$" => Dest::Valid(self.header(header)?),
            Value::Field(f) => {
                let field = self.field(f)?;
                Dest::Field(field.slot, field.width)
            }
            Value::StackField(f) => {
                let (stack, slots, width) = self.stack_slots(f)?;
                Dest::StackLast(stack, slots, width)
            }
            other => return wrong(format_args!("{other:?} cannot be assigned to")),
        })
    }

    fn width(&self, value: &Value) -> Lower<u32> {
        Ok(match value {
            Value::Field(FieldRef(_, f)) if f == "$valid$" => 1,
            Value::Field(f) => self.field(f)?.width,
            Value::StackField(f) => self.stack_slots(f)?.2,
            Value::Lookahead(_, width) => *width,
            other => return wrong(format_args!("the width of {other:?} is not known")),
        })
    }

    fn calculations(&mut self) -> Lower<()> {
        for c in &self.source.calculations {
            let Some(algorithm) = Algorithm::by_name(&c.algo) else {
                return wrong(format_args!(
                    "calculation {}: algorithm {} is not known",
                    c.name, c.algo
                ));
            };
            let mut input = Vec::new();
            for i in &c.input {
                input.push(
                    self.input(i)
                        .map_err(|e| LowerError(format!("calculation {}: {e}", c.name)))?,
                );
            }
            self.calculations.insert(&c.name, self.program.calculations.len());
            self.program.calculations.push(Calculation { algorithm, input });
        }
        Ok(())
    }

    fn input(&self, input: &json::CalculationInput) -> Lower<Input> {
        if input.kind == "payload" {
            return Ok(Input::Payload);
        }
        let tagged = serde_json::json!({ "type": input.kind, "value": input.value });
        let value: Value = serde_json::from_value(tagged).map_err(|e| LowerError(e.to_string()))?;
        Ok(match &value {
            Value::Field(f) => {
                let field = self.field(f)?;
                match field.variable {
                    Some(v) => Input::Variable(v),
                    None => Input::Value(Expr::Field(field.slot), field.width),
                }
            }
            Value::Header(h) => Input::Header(self.header(h)?),
            other => {
                let Some(width) = input.bitwidth else {
                    return wrong(format_args!("{other:?} has no bit width"));
                };
                Input::Value(self.value(other)?, width)
            }
        })
    }

    fn calculation(&self, name: &str) -> Lower<usize> {
        self.calculations
            .get(name)
            .copied()
            .ok_or_else(|| LowerError(format!("calculation {name} is unknown")))
    }

    fn actions(&mut self) -> Lower<()> {
        for action in &self.source.actions {
            let mut steps = Vec::new();
            for call in &action.primitives {
                // Jumps count primitives, so each is one step.
                let step = self.step(&call.op, &call.parameters);
                steps.push(step.map_err(|e| LowerError(format!("action {}: {}: {e}", action.name, call.op)))?);
            }
            self.actions.insert(action.id, self.program.actions.len());
            let widths = action.runtime_data.iter().map(|d| d.bitwidth).collect();
            self.program.actions.push(Action {
                name: action.name.clone(),
                widths,
                steps,
            });
        }
        Ok(())
    }

    /// A primitive.
    fn step(&self, op: &str, p: &[Value]) -> Lower<Step> {
        let at = |i: usize| p.get(i).ok_or_else(|| LowerError(format!("parameter {i} is missing")));
        let value = |i| at(i).and_then(|v| self.value(v));
        let dest = |i| at(i).and_then(|v| self.dest(v));
        let header = |i| match at(i)? {
            Value::Header(h) => self.header(h),
            other => wrong(format_args!("{other:?} is no header")),
        };
        let stack = |i| match at(i)? {
            Value::HeaderStack(s) => self.stack(s),
            other => wrong(format_args!("{other:?} is no header stack")),
        };
        let constant = |i: usize| match at(i)? {
            Value::Hexstr(h) => {
                usize::try_from(h.value()).map_err(|_| LowerError(format!("parameter {i} is out of range")))
            }
            other => wrong(format_args!("{other:?} is no constant")),
        };
        let array = |i: usize| match at(i)? {
            Value::CounterArray(n) => Self::index("counter", &self.program.counters, |c| &c.0, n),
            Value::MeterArray(n) => Self::index("meter", &self.program.meters, |m| &m.0, n),
            Value::RegisterArray(n) => Self::index("register", &self.program.registers, |r| &r.0, n),
            other => wrong(format_args!("{other:?} is no array")),
        };
        let calculation = |i| match at(i)? {
            Value::Calculation(n) => self.calculation(n),
            other => wrong(format_args!("{other:?} is no calculation")),
        };
        // 0 stands for no field list.
        let list = |i: usize| {
            if p.len() > i {
                constant(i).map(|n| (n > 0).then_some(n))
            } else {
                Ok(None)
            }
        };
        Ok(match op {
            "assign" | "modify_field" | "set" => match (at(0)?, at(1)?) {
                (Value::Field(to), Value::Field(from)) if self.variable(to).is_some() => {
                    let (Some(to), Some(from)) = (self.variable(to), self.variable(from)) else {
                        return wrong("a variable-length field takes only another one");
                    };
                    Step::AssignVariable(to, from)
                }
                _ => Step::Assign(dest(0)?, value(1)?),
            },
            "add_header" => Step::SetValid(header(0)?, true),
            "remove_header" => Step::SetValid(header(0)?, false),
            "copy_header" | "assign_header" => Step::CopyHeader(header(1)?, header(0)?),
            "assign_header_stack" => self.copy_stack(stack(0)?, stack(1)?),
            "assign_union" => match (at(0)?, at(1)?) {
                (Value::HeaderUnion(to), Value::HeaderUnion(from)) => {
                    let of = |u: &str| self.unions.get(u).cloned().unwrap_or_default();
                    Step::CopyHeaders(of(from).into_iter().zip(of(to)).collect(), usize::MAX, usize::MAX)
                }
                _ => return wrong("two header unions are expected"),
            },
            "push" => Step::Push(stack(0)?, constant(1)?),
            "pop" => Step::Pop(stack(0)?, constant(1)?),
            "mark_to_drop" | "drop" => Step::MarkToDrop,
            "count" => Step::Count(array(0)?, value(1)?),
            "execute_meter" => Step::Meter(array(0)?, value(1)?, dest(2)?),
            "register_read" => Step::RegisterRead(dest(0)?, array(1)?, value(2)?),
            "register_write" => Step::RegisterWrite(array(0)?, value(1)?, value(2)?),
            "modify_field_with_hash_based_offset" => Step::Hash(dest(0)?, value(1)?, calculation(2)?, value(3)?),
            "modify_field_with_hash" => Step::HashPlain(dest(0)?, calculation(1)?),
            "modify_field_rng_uniform" => Step::Random(dest(0)?, value(1)?, value(2)?),
            "generate_digest" => Step::Digest(constant(1)? as u32),
            "clone_ingress_pkt_to_egress" => Step::CloneIngress(value(0)?, list(1)?),
            "clone_egress_pkt_to_egress" => Step::CloneEgress(value(0)?, list(1)?),
            "resubmit" => Step::Resubmit(list(0)?),
            "recirculate" => Step::Recirculate(list(0)?),
            "truncate" => Step::Truncate(value(0)?),
            "_jump_if_zero" => Step::JumpIfZero(value(0)?, constant(1)?),
            "_jump" => Step::Jump(constant(0)?),
            "assert" | "assume" => Step::Assert(value(0)?),
            "exit" => Step::Exit,
            "log_msg" | "no_op" | "NoAction" => Step::Nothing,
            other => return wrong(format_args!("primitive {other} is not known")),
        })
    }

    fn variable(&self, f: &FieldRef) -> Option<usize> {
        self.field(f).ok()?.variable
    }

    fn copy_stack(&self, to: usize, from: usize) -> Step {
        let elements = |s: usize| self.program.stacks.get(s).cloned().unwrap_or_default();
        Step::CopyHeaders(elements(from).into_iter().zip(elements(to)).collect(), from, to)
    }

    fn parser(&mut self) -> Lower<()> {
        self.program.value_sets = self.source.parse_vsets.iter().map(|v| v.name.clone()).collect();
        let Some(parser) = self.source.parsers.first() else {
            return wrong("the program has no parser");
        };
        let state = |name: &Option<String>| -> Lower<Next> {
            let Some(name) = name else { return Ok(None) };
            Self::index("parser state", &parser.parse_states, |s| &s.name, name).map(Some)
        };
        for s in &parser.parse_states {
            let place = |e: LowerError| LowerError(format!("parser state {}: {e}", s.name));
            let mut steps = Vec::new();
            for op in &s.parser_ops {
                steps.push(self.parser_step(op).map_err(place)?);
            }
            let mut select = Vec::new();
            for key in &s.transition_key {
                select.push(match key {
                    Value::Lookahead(offset, width) => Select::Ahead(*offset as usize, *width),
                    other => Select::Value(self.value(other).map_err(place)?, self.width(other).map_err(place)?),
                });
            }
            let mut cases = Vec::new();
            for t in &s.transitions {
                cases.push((self.case(t, &select).map_err(place)?, state(&t.next_state)?));
            }
            self.program.states.push(ParserState { steps, select, cases });
        }
        self.program.parser_start = state(&parser.init_state)?;
        Ok(())
    }

    fn case(&self, t: &json::Transition, select: &[Select]) -> Lower<Case> {
        let text = t.value.as_deref().unwrap_or_default();
        Ok(match t.kind {
            TransitionKind::Default => Case::Default,
            TransitionKind::ParseVset => {
                Case::ValueSet(Self::index("value set", &self.program.value_sets, |v| v, text)?)
            }
            // Version 2.0 wrote the default as the value "default".
            TransitionKind::Hexstr if text == "default" => Case::Default,
            TransitionKind::Hexstr => {
                let Some(value) = json::HexStr::parse(text) else {
                    return wrong(format_args!("`{text}` is no number"));
                };
                let octets: usize = select.iter().map(|s| (s.width() as usize).div_ceil(8)).sum();
                let value = padded(&value, octets);
                let mask_bytes = t
                    .mask
                    .as_ref()
                    .map_or_else(|| vec![0xff; octets], |m| padded(m, octets));
                let mut at = 0;
                let mut values = Vec::new();
                for s in select {
                    let next = at + (s.width() as usize).div_ceil(8);
                    let cut = |b: &[u8]| b.get(at..next).map_or(0, super::bits::from_bytes) & mask(s.width());
                    let m = cut(&mask_bytes);
                    values.push((cut(&value) & m, m));
                    at = next;
                }
                Case::Values(values)
            }
        })
    }

    fn parser_step(&self, op: &json::ParserOp) -> Lower<ParserStep> {
        let parameter = |i: usize| match op.parameters.get(i) {
            Some(ParserParameter::Value(v)) => Ok(v),
            Some(ParserParameter::Call(_)) => wrong("a value is expected, not a call"),
            None => wrong(format_args!("parameter {i} of {:?} is missing", op.op)),
        };
        Ok(match op.op {
            ParserOpKind::Extract => match parameter(0)? {
                Value::Regular(h) | Value::Header(h) => ParserStep::Extract(self.header(h)?),
                Value::Stack(s) => ParserStep::ExtractNext(self.stack(s)?),
                other => return wrong(format_args!("{other:?} cannot be extracted")),
            },
            ParserOpKind::ExtractVl => match parameter(0)? {
                Value::Regular(h) | Value::Header(h) => {
                    ParserStep::ExtractVariable(self.header(h)?, self.value(parameter(1)?)?)
                }
                other => return wrong(format_args!("{other:?} cannot be extracted")),
            },
            ParserOpKind::Set => match parameter(1)? {
                Value::Lookahead(offset, width) => {
                    ParserStep::SetAhead(self.dest(parameter(0)?)?, *offset as usize, *width)
                }
                value => ParserStep::Set(self.dest(parameter(0)?)?, self.value(value)?),
            },
            ParserOpKind::Verify => ParserStep::Verify(self.value(parameter(0)?)?, self.value(parameter(1)?)?),
            ParserOpKind::Advance => ParserStep::Advance(self.value(parameter(0)?)?),
            // Older documents count octets.
            ParserOpKind::Shift => {
                let octets = Box::new(self.value(parameter(0)?)?);
                ParserStep::Advance(Expr::Binary(Binary::Mul, octets, Box::new(Expr::constant(8))))
            }
            ParserOpKind::Primitive => match op.parameters.first() {
                Some(ParserParameter::Call(call)) => ParserStep::Do(self.step(&call.op, &call.parameters)?),
                _ => return wrong("a call is expected"),
            },
        })
    }

    fn tables(&mut self) -> Lower<()> {
        for (p, pipeline) in self.source.pipelines.iter().enumerate() {
            let base = self.program.tables.len();
            let profiles = self.program.profiles.len();
            for profile in &pipeline.action_profiles {
                let hash = match &profile.selector {
                    None => None,
                    Some(selector) => Some(self.selector(selector)?),
                };
                self.program.profiles.push(Profile {
                    name: profile.name.clone(),
                    hash,
                });
            }
            let place = |name: &Option<String>| -> Lower<Next> {
                let Some(name) = name else { return Ok(None) };
                let tables = pipeline.tables.iter().map(|t| &t.name);
                let conditions = pipeline.conditionals.iter().map(|c| &c.name);
                let calls = pipeline.action_calls.iter().map(|c| &c.name);
                let found = tables.chain(conditions).chain(calls).position(|n| n == name);
                found
                    .map(Some)
                    .ok_or_else(|| LowerError(format!("{name} of pipeline {} is unknown", pipeline.name)))
            };
            let mut nodes: Vec<Node> = (0..pipeline.tables.len()).map(|i| Node::Table(base + i)).collect();
            for table in &pipeline.tables {
                let lowered = self.table(table, profiles, pipeline, &place);
                let lowered = lowered.map_err(|e| LowerError(format!("table {}: {e}", table.name)))?;
                self.program.tables.push(lowered);
            }
            for c in &pipeline.conditionals {
                nodes.push(Node::If(
                    self.value(&c.expression)?,
                    place(&c.true_next)?,
                    place(&c.false_next)?,
                ));
            }
            for c in &pipeline.action_calls {
                nodes.push(Node::Call(self.action(c.action_id)?, place(&c.next_node)?));
            }
            let lowered = Pipeline {
                nodes,
                start: place(&pipeline.init_table)?,
            };
            match (pipeline.name.as_str(), p) {
                ("egress", _) => self.program.egress = lowered,
                ("ingress", _) | (_, 0) => self.program.ingress = lowered,
                (name, _) => return wrong(format_args!("pipeline {name} is not one of v1model")),
            }
        }
        Ok(())
    }

    fn selector(&self, selector: &json::Selector) -> Lower<Calculation> {
        let Some(algorithm) = Algorithm::by_name(&selector.algo) else {
            return wrong(format_args!("selector algorithm {} is not known", selector.algo));
        };
        let input = selector
            .input
            .iter()
            .map(|v| Ok(Input::Value(self.value(v)?, self.width(v)?)));
        Ok(Calculation {
            algorithm,
            input: input.collect::<Lower<_>>()?,
        })
    }

    fn action(&self, id: u32) -> Lower<usize> {
        self.actions
            .get(&id)
            .copied()
            .ok_or_else(|| LowerError(format!("action id {id} is unknown")))
    }

    fn table(
        &self,
        table: &json::Table,
        profiles: usize,
        pipeline: &json::Pipeline,
        place: &impl Fn(&Option<String>) -> Lower<Next>,
    ) -> Lower<Table> {
        let mut key = Vec::new();
        for element in &table.key {
            let (expr, width) = match &element.target {
                KeyTarget::Field(f) => {
                    let value = Value::Field(f.clone());
                    // The sign has no meaning in a key.
                    let expr = match self.value(&value)? {
                        Expr::Signed(slot, _) => Expr::Field(slot),
                        other => other,
                    };
                    (expr, self.width(&value)?)
                }
                KeyTarget::Header(h) => (self.validity(h)?, 1),
                KeyTarget::Expression(v) => (self.value(v)?, self.width(v)?),
            };
            let kind = match element.match_type {
                MatchType::Exact | MatchType::Valid => Kind::Exact,
                MatchType::Lpm => Kind::Lpm,
                MatchType::Ternary => Kind::Ternary,
                MatchType::Range => Kind::Range,
            };
            let cut = element
                .mask
                .as_ref()
                .map_or(u128::MAX, |m| super::bits::from_bytes(&m.bytes()));
            key.push(KeyPart {
                expr,
                mask: cut & mask(width),
                field: KeyField { kind, width },
            });
        }
        let mut next = TableNext {
            base: place(&table.base_default_next)?,
            ..TableNext::default()
        };
        for (name, to) in &table.next_tables {
            let to = place(to)?;
            match name.as_str() {
                "__HIT__" => next.hit = Some(to),
                "__MISS__" => next.miss = Some(to),
                name => {
                    let at = table.actions.iter().position(|a| a == name);
                    let id = at.and_then(|at| table.action_ids.get(at));
                    let action = match id {
                        Some(id) => self.action(*id)?,
                        None => Self::index("action", &self.program.actions, |a| &a.name, name)?,
                    };
                    next.by_action.insert(action, to);
                }
            }
        }
        let profile = match &table.action_profile {
            None => None,
            Some(name) => Some(profiles + Self::index("profile", &pipeline.action_profiles, |p| &p.name, name)?),
        };
        let meter = match &table.direct_meters {
            None => None,
            Some(name) => {
                let at = Self::index("meter", &self.source.meter_arrays, |m| &m.name, name)?;
                let array = self.source.meter_arrays.get(at);
                let dest = array
                    .and_then(|m| m.result_target.clone())
                    .map(|f| self.dest(&Value::Field(f)))
                    .transpose()?;
                array.zip(dest).map(|(m, d)| (m.kind == json::MeterKind::Bytes, d))
            }
        };
        Ok(Table {
            name: table.name.clone(),
            key,
            next,
            profile,
            counts: table.with_counters,
            meter,
        })
    }

    fn rest(&mut self) -> Lower<()> {
        for c in &self.source.checksums {
            let condition = c.if_cond.as_ref().map(|v| self.value(v)).transpose()?;
            let target = Value::Field(c.target.clone());
            self.program.checksums.push(Checksum {
                dest: self.dest(&target)?,
                value: self.value(&target)?,
                calculation: self.calculation(&c.calculation)?,
                condition,
                verify: c.verify,
                update: c.update,
            });
        }
        if let Some(deparser) = self.source.deparsers.first() {
            self.program.deparse = deparser.order.iter().map(|h| self.header(h)).collect::<Lower<_>>()?;
        }
        for list in &self.source.field_lists {
            let fields = list.elements.iter().filter_map(|e| match e {
                Value::Field(f) => Some(self.field(f).map(|f| (f.slot, f.width))),
                _ => None,
            });
            let fields = fields.collect::<Lower<Vec<_>>>()?;
            self.program.field_lists.insert(list.id as usize, fields);
        }
        for list in &self.source.learn_lists {
            let elements = list.elements.iter().map(|v| Ok((self.value(v)?, self.width(v)?)));
            let elements = elements.collect::<Lower<Vec<_>>>()?;
            self.program.digests.insert(list.id, (list.name.clone(), elements));
        }
        Ok(())
    }
}

/// A number of any size, cut to 128 bits in two's complement.
fn constant(value: &BigInt) -> Number {
    let bits = value
        .magnitude()
        .iter_u64_digits()
        .take(2)
        .zip([0, 64])
        .fold(0u128, |v, (d, s)| v | u128::from(d) << s);
    match value.sign() {
        Sign::Minus => Number {
            bits: bits.wrapping_neg(),
            signed: true,
        },
        _ => Number::new(bits),
    }
}

/// The number's octets, filled up with zeros at the front.
fn padded(value: &json::HexStr, octets: usize) -> Vec<u8> {
    let bytes = value.bytes();
    let skip = bytes.len().saturating_sub(octets);
    let mut out = vec![0; octets.saturating_sub(bytes.len())];
    out.extend_from_slice(bytes.get(skip..).unwrap_or_default());
    out
}
