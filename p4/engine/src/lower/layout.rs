//! Headers, stacks, unions, standard metadata and arrays.

use std::collections::HashMap;

use bmv2_json::{self as json, FieldRef, FieldWidth};

use super::{Lower, LowerError, MAX_CELLS, MAX_WIDTH, MAX_WORDS, Names, wrong};
use crate::layout::{Field, Header};
use crate::program::{Errors, MeterArray, RegisterArray, Stack, Standard, Standards};
use crate::term::Place;
use crate::word::mask64;

impl<'a> Names<'a> {
    pub(super) fn layout(&mut self) -> Lower<()> {
        let types: HashMap<&str, &json::HeaderType> =
            self.source.header_types.iter().map(|t| (t.name.as_str(), t)).collect();
        let mut by_id = HashMap::new();
        // Word 0 stands for standard metadata that the program lacks.
        let mut words = 1;
        for header in &self.source.headers {
            let Some(kind) = types.get(header.header_type.as_str()) else {
                return wrong(format_args!(
                    "header {}: type {} is unknown",
                    header.name, header.header_type
                ));
            };
            let index = self.program.headers.len() as u32;
            let lowered = self.header_layout(header, kind, words)?;
            words += lowered.words;
            if words > MAX_WORDS {
                return wrong(format_args!(
                    "header {}: all headers take more than {MAX_WORDS} words",
                    header.name
                ));
            }
            self.headers.insert(&header.name, index);
            by_id.insert(header.id, index);
            self.program.headers.push(lowered);
        }
        self.unions(&by_id, &mut words);
        self.program.blank = vec![0; words as usize];
        for header in self.program.headers.iter().filter(|h| h.metadata) {
            self.program.blank[header.slot as usize] = 1;
        }
        self.standards();
        Ok(())
    }

    fn header_layout(&mut self, header: &'a json::Header, kind: &'a json::HeaderType, slot: u32) -> Lower<Header> {
        let mut fields = Vec::new();
        let mut at = slot + 1;
        for f in &kind.fields {
            let (width, variable) = match f.width {
                FieldWidth::Bits(width) => (width, false),
                FieldWidth::Variable => {
                    let fixed = kind.fields.iter().map(|f| match f.width {
                        FieldWidth::Bits(width) => u64::from(width),
                        FieldWidth::Variable => 0,
                    });
                    let most = u64::from(kind.max_length.unwrap_or(0)) * 8;
                    let rest = most.saturating_sub(fixed.sum());
                    (u32::try_from(rest).unwrap_or(u32::MAX), true)
                }
            };
            if width > MAX_WIDTH {
                return wrong(format_args!(
                    "{}.{}: {width} bits, at most {MAX_WIDTH} are supported",
                    header.name, f.name
                ));
            }
            if variable && fields.iter().any(|f: &Field| f.variable) {
                return wrong(format_args!("header {} has two variable fields", header.name));
            }
            let field = Field {
                name: f.name.clone(),
                slot: at,
                width,
                variable,
            };
            at += field.words();
            let names = if variable { &mut self.variable } else { &mut self.fields };
            let place = Place {
                slot: field.slot,
                width,
                signed: f.signed,
            };
            names.insert((&header.name, &f.name), place);
            fields.push(field);
        }
        let mut lowered = Header {
            name: header.name.clone(),
            slot,
            words: at - slot,
            fields: fields.into(),
            metadata: header.metadata,
            rivals: Box::default(),
            fixed_bits: 0,
            variable: None,
            loads: Box::default(),
            stores: Box::default(),
            pieces: Box::default(),
        };
        lowered.plan();
        Ok(lowered)
    }

    fn unions(&mut self, by_id: &HashMap<u32, u32>, words: &mut u32) {
        let headers = |ids: &[u32]| -> Vec<u32> { ids.iter().filter_map(|id| by_id.get(id)).copied().collect() };
        for stack in &self.source.header_stacks {
            self.stacks.insert(&stack.name, self.program.stacks.len() as u32);
            let elements = headers(&stack.header_ids).into_iter().map(|h| Box::from([h]));
            self.program.stacks.push(Stack {
                next: *words,
                elements: elements.collect(),
            });
            *words += 1;
        }
        let mut unions = HashMap::new();
        for union in &self.source.header_unions {
            let members = headers(&union.header_ids);
            for member in &members {
                let others = members.iter().filter(|m| *m != member);
                let slots = others
                    .filter_map(|m| self.program.headers.get(*m as usize))
                    .map(|h| h.slot);
                let rivals = slots.collect();
                if let Some(header) = self.program.headers.get_mut(*member as usize) {
                    header.rivals = rivals;
                }
            }
            unions.insert(union.id, members.clone());
            self.unions.insert(&union.name, members);
        }
        for stack in &self.source.header_union_stacks {
            self.stacks.insert(&stack.name, self.program.stacks.len() as u32);
            let elements: Vec<&[u32]> = stack
                .header_union_ids
                .iter()
                .filter_map(|id| unions.get(id).map(Vec::as_slice))
                .collect();
            self.program.stacks.push(Stack {
                next: *words,
                elements: elements.into_iter().map(Box::from).collect(),
            });
            *words += 1;
        }
    }

    /// Fields that the switch itself reads and writes; P4_14 programs have some of them in
    /// other structs, or under other names.
    fn standards(&mut self) {
        let aliases: HashMap<&str, &FieldRef> = self
            .source
            .field_aliases
            .iter()
            .map(|(name, field)| (name.as_str(), field))
            .collect();
        let find = |name: &str| -> Standard {
            let structs = ["standard_metadata", "intrinsic_metadata", "queueing_metadata"];
            let place = structs.iter().find_map(|of| {
                let aliased = aliases
                    .get(format!("{of}.{name}").as_str())
                    .map(|FieldRef(h, f)| (h.as_str(), f.as_str()));
                let own = self.fields.get(&(*of, name));
                own.or_else(|| self.fields.get(&aliased?)).copied()
            });
            match place {
                Some(p) if (1..=64).contains(&p.width) => Standard {
                    slot: p.slot,
                    mask: mask64(p.width),
                },
                _ => Standard::default(),
            }
        };
        self.program.standard = Standards {
            ingress_port: find("ingress_port"),
            egress_spec: find("egress_spec"),
            egress_port: find("egress_port"),
            instance_type: find("instance_type"),
            packet_length: find("packet_length"),
            enq_timestamp: find("enq_timestamp"),
            enq_qdepth: find("enq_qdepth"),
            deq_timedelta: find("deq_timedelta"),
            deq_qdepth: find("deq_qdepth"),
            qid: find("qid"),
            priority: find("priority"),
            ingress_global_timestamp: find("ingress_global_timestamp"),
            egress_global_timestamp: find("egress_global_timestamp"),
            mcast_grp: find("mcast_grp"),
            egress_rid: find("egress_rid"),
            checksum_error: find("checksum_error"),
            parser_error: find("parser_error"),
        };
    }

    pub(super) fn arrays(&mut self) -> Lower<()> {
        let bounded = |name: &str, direct: bool, cells: u32| match cells as usize {
            _ if direct => Ok(0),
            cells if cells <= MAX_CELLS => Ok(cells),
            cells => wrong(format_args!("{name}: {cells} cells, at most {MAX_CELLS} are supported")),
        };
        for c in &self.source.counter_arrays {
            let cells = bounded(&c.name, c.is_direct, c.size.unwrap_or(0))?;
            self.program.counters.push((c.name.clone(), cells));
        }
        for m in &self.source.meter_arrays {
            self.program.meters.push(MeterArray {
                name: m.name.clone(),
                cells: bounded(&m.name, m.is_direct, m.size)?,
                octets: m.kind == json::MeterKind::Bytes,
            });
        }
        for r in &self.source.register_arrays {
            if r.bitwidth > MAX_WIDTH {
                return wrong(format_args!(
                    "register {}: {} bits, at most {MAX_WIDTH} are supported",
                    r.name, r.bitwidth
                ));
            }
            let cells = bounded(&r.name, false, r.size)?;
            let words = cells.saturating_mul(crate::word::words_of(r.bitwidth) as usize);
            if words > MAX_CELLS {
                return wrong(format_args!(
                    "register {}: {words} words, at most {MAX_CELLS} are supported",
                    r.name
                ));
            }
            self.program.registers.push(RegisterArray {
                name: r.name.clone(),
                cells,
                width: r.bitwidth,
            });
        }
        let errors = &self.source.errors;
        let code = |name: &str| errors.iter().find(|(n, _)| n == name).map_or(0, |(_, c)| u64::from(*c));
        self.program.errors = Errors {
            too_short: code("PacketTooShort"),
            no_match: code("NoMatch"),
            stack_out_of_bounds: code("StackOutOfBounds"),
            header_too_short: code("HeaderTooShort"),
            invalid_argument: code("ParserInvalidArgument"),
        };
        self.program.error_names = errors.clone();
        Ok(())
    }

    pub(super) fn header(&self, name: &str) -> Lower<u32> {
        let found = self.headers.get(name).copied();
        found.ok_or_else(|| LowerError(format!("header {name} is unknown")))
    }

    pub(super) fn stack(&self, name: &str) -> Lower<u32> {
        let found = self.stacks.get(name).copied();
        found.ok_or_else(|| LowerError(format!("header stack {name} is unknown")))
    }
}
