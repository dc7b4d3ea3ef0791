//! Widths of the fields of a program's headers.

use std::collections::HashMap;

use crate::{FieldWidth, HeaderType, Program};

/// The width in bits of each field, by header instance (or stack) and field. Fields of variable width are left out.
#[derive(Debug, Clone, Default)]
pub struct FieldWidths<'a>(HashMap<(&'a str, &'a str), u32>);

impl<'a> FieldWidths<'a> {
    /// Collects the widths of all headers and stacks of a program.
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

    /// Width of a field in bits, 1 for the validity of a header; `None` if the field is unknown or of variable width.
    pub fn of(&self, header: &str, field: &str) -> Option<u32> {
        match field {
            "$valid$" => Some(1),
            _ => self.0.get(&(header, field)).copied(),
        }
    }
}
