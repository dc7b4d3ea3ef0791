//! Bits of the fields of a program's headers.

use std::collections::HashMap;

use crate::{FieldWidth, HeaderType, Program};

/// Bits of fields by header instance (or stack) and field. Fields of variable width are not in it.
#[derive(Debug, Clone, Default)]
pub struct FieldWidths<'a>(HashMap<(&'a str, &'a str), u32>);

impl<'a> FieldWidths<'a> {
    /// Of all headers and stacks of a program.
    pub fn new(program: &'a Program) -> Self {
        let types: HashMap<&str, &HeaderType> = program.header_types.iter().map(|t| (t.name.as_str(), t)).collect();
        let headers = program
            .headers
            .iter()
            .map(|h| (h.name.as_str(), h.header_type.as_str()));
        let stacks = program
            .header_stacks
            .iter()
            .map(|s| (s.name.as_str(), s.header_type.as_str()));
        let mut widths = HashMap::new();
        for (instance, kind) in headers.chain(stacks) {
            for field in types.get(kind).into_iter().flat_map(|t| &t.fields) {
                if let FieldWidth::Bits(bits) = field.width {
                    widths.insert((instance, field.name.as_str()), bits);
                }
            }
        }
        Self(widths)
    }

    /// Bits of a field; the validity of a header has one.
    pub fn of(&self, header: &str, field: &str) -> Option<u32> {
        match field {
            "$valid$" => Some(1),
            _ => self.0.get(&(header, field)).copied(),
        }
    }
}
