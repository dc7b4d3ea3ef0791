//! Names of the objects whose indexes a [`Trace`](super::Trace) receives.

use crate::layout::Field;
use crate::pipeline::Pipeline;
use crate::word::words_of;

/// A field of a header or metadata struct.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FieldName<'a> {
    /// The header.
    pub header: &'a str,
    /// The field.
    pub field: &'a str,
    /// Word of the arena that says whether the header is valid.
    pub valid: usize,
    /// Its first word in the arena; the others follow, most significant first. The first word
    /// of a variable-length field is its length in bits, its octets follow, left-aligned.
    pub slot: usize,
    /// Its bits; of a variable-length field, the most.
    pub width: u32,
    /// Whether its length varies.
    pub variable: bool,
}

/// A field of a table's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyName<'a> {
    /// Its name for control planes.
    pub name: &'a str,
    /// Its bits; it takes one word of the key for each 64 bits or part of them.
    pub width: u32,
}

impl Pipeline {
    /// Name of a parser state.
    pub fn state_name(&self, state: u32) -> &str {
        self.program.states.get(state as usize).map_or("", |s| &s.name)
    }

    /// A condition of ingress or egress, as its source writes it if that is known.
    pub fn condition_text(&self, egress: bool, condition: u32) -> &str {
        let control = if egress {
            &self.program.egress
        } else {
            &self.program.ingress
        };
        let found = control.conditions.get(condition as usize);
        found.map_or("", |c| &c.text)
    }

    /// Name of a table.
    pub fn table_name(&self, table: u32) -> &str {
        self.program.tables.get(table as usize).map_or("", |t| &t.name)
    }

    /// The fields of a table's key, in order.
    pub fn key_names(&self, table: u32) -> impl Iterator<Item = KeyName<'_>> {
        let table = self.program.tables.get(table as usize);
        table.into_iter().flat_map(|t| t.key.iter()).map(|k| KeyName {
            name: &k.name,
            width: k.width,
        })
    }

    /// Name of an action.
    pub fn action_name(&self, action: u32) -> &str {
        self.program.actions.get(action as usize).map_or("", |a| &a.name)
    }

    /// Parameters of an action, and their bits, in the order of its arguments.
    pub fn parameter_names(&self, action: u32) -> impl Iterator<Item = (&str, u32)> {
        let action = self.program.actions.get(action as usize);
        let parameters = action.into_iter().flat_map(|a| a.parameters.iter());
        parameters.map(|p| (p.name.as_str(), p.width))
    }

    /// Name of a parser error.
    pub fn error_name(&self, error: u64) -> &str {
        let mut all = self.program.error_names.iter();
        all.find(|(_, code)| u64::from(*code) == error)
            .map_or("", |(name, _)| name)
    }

    /// Headers and metadata structs, with the word of the arena that says whether each is valid.
    pub fn header_names(&self) -> impl Iterator<Item = (&str, usize)> {
        self.program.headers.iter().map(|h| (h.name.as_str(), h.slot as usize))
    }

    /// All fields of all headers and metadata structs, in order.
    pub fn field_names(&self) -> impl Iterator<Item = FieldName<'_>> {
        self.program.headers.iter().flat_map(|h| {
            h.fields.iter().map(|f: &Field| FieldName {
                header: &h.name,
                field: &f.name,
                valid: h.slot as usize,
                slot: f.slot as usize,
                width: f.width,
                variable: f.variable,
            })
        })
    }

    /// Words that a value of `width` bits takes in keys, arguments and the arena.
    pub fn words(width: u32) -> usize {
        words_of(width) as usize
    }
}
