//! From BMv2 JSON to a [`Program`]: every name becomes an index, once.

mod action;
mod parser;
mod pipeline;
mod value;

use std::collections::HashMap;

use bmv2_json::{self as json, FieldRef, FieldWidth, Value};

use crate::expr::{Expr, Place};
use crate::hash::{Algorithm, Calculation, Input};
use crate::phv::{Field, Header};
use crate::program::{Checksum, Errors, Program};

/// Why a program cannot be run: where, and what.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct LowerError(String);

type Lower<T> = Result<T, LowerError>;

fn wrong<T>(what: impl std::fmt::Display) -> Lower<T> {
    Err(LowerError(what.to_string()))
}

/// Widest field: the compiler's limit, which is more than any frame has.
const MAX_WIDTH: u32 = 1 << 16;
/// Most cells of an array that a program may ask for.
const MAX_CELLS: usize = 1 << 24;
/// Deepest nesting of an expression.
const MAX_DEPTH: usize = 200;

/// Names of what was lowered so far.
struct Names<'a> {
    source: &'a json::Program,
    program: Program,
    headers: HashMap<&'a str, usize>,
    stacks: HashMap<&'a str, usize>,
    union_stacks: HashMap<&'a str, usize>,
    fields: HashMap<(&'a str, &'a str), Field>,
    /// Names of the fields of each header, in order.
    field_names: Vec<Vec<&'a str>>,
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
        union_stacks: HashMap::new(),
        fields: HashMap::new(),
        field_names: Vec::new(),
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

/// Bits of a header's fields of fixed width.
fn fixed_bits(kind: &json::HeaderType) -> u32 {
    let bits = |f: &json::FieldDecl| match f.width {
        FieldWidth::Bits(bits) => bits,
        FieldWidth::Variable => 0,
    };
    kind.fields.iter().map(bits).fold(0, u32::saturating_add)
}

impl<'a> Names<'a> {
    fn layout(&mut self) -> Lower<()> {
        let types: HashMap<&str, &json::HeaderType> =
            self.source.header_types.iter().map(|t| (t.name.as_str(), t)).collect();
        let mut by_id = HashMap::new();
        let mut unions_by_id = HashMap::new();
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
                            "{}.{}: {width} bits, at most {MAX_WIDTH} are supported",
                            header.name, f.name
                        ));
                    }
                    // `max_length` is that of the whole header in octets.
                    FieldWidth::Variable => {
                        self.program.variables += 1;
                        let all = kind.max_length.unwrap_or(0).saturating_mul(8);
                        (all.saturating_sub(fixed_bits(kind)), Some(self.program.variables - 1))
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
            self.field_names
                .push(kind.fields.iter().map(|f| f.name.as_str()).collect());
            by_id.insert(header.id, index);
            self.program.headers.push(Header {
                fields,
                metadata: header.metadata,
                rivals: Vec::new(),
            });
        }
        for stack in &self.source.header_stacks {
            let elements: Vec<Vec<usize>> = stack
                .header_ids
                .iter()
                .filter_map(|id| by_id.get(id))
                .copied()
                .map(|h| vec![h])
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
            unions_by_id.insert(union.id, members.clone());
            self.unions.insert(&union.name, members);
        }
        for stack in &self.source.header_union_stacks {
            let elements = stack
                .header_union_ids
                .iter()
                .filter_map(|id| unions_by_id.get(id))
                .cloned();
            self.union_stacks.insert(&stack.name, self.program.stacks.len());
            self.program.stacks.push(elements.collect());
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
                    "register {}: {} bits, at most {MAX_WIDTH} are supported",
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
                .map_or(0, |(_, c)| *c)
        };
        self.program.errors = Errors {
            too_short: code("PacketTooShort"),
            no_match: code("NoMatch"),
            stack_out_of_bounds: code("StackOutOfBounds"),
            header_too_short: code("HeaderTooShort"),
            timeout: code("ParserTimeout"),
            invalid_argument: code("ParserInvalidArgument"),
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

    fn union_stack(&self, name: &str) -> Lower<usize> {
        self.union_stacks
            .get(name)
            .copied()
            .ok_or_else(|| LowerError(format!("header union stack {name} is unknown")))
    }

    fn field<'b>(&'b self, reference: &'b FieldRef) -> Lower<&'b Field> {
        let FieldRef(header, field) = reference;
        let found = self.fields.get(&(header.as_str(), field.as_str()));
        found.ok_or_else(|| LowerError(format!("field {header}.{field} is unknown")))
    }

    fn index<T>(kind: &str, all: &[T], name: impl Fn(&T) -> &str, wanted: &str) -> Lower<usize> {
        Program::find(all, name, wanted).ok_or_else(|| LowerError(format!("{kind} {wanted} is unknown")))
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
                    None => Input::Value(Expr::Load(Place::Field(field.clone())), field.width),
                }
            }
            Value::Header(_) => Input::Header(self.header_of(&value)?),
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
