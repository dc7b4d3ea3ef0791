//! A packet under way: its header fields in fixed slots, and its octets.

use super::bits;

/// Everything that a program may read or change of one packet.
#[derive(Debug, Clone, Default)]
pub(crate) struct Phv {
    /// Fields of all headers and metadata, by slot; always cut to their width.
    pub(crate) fields: Vec<u128>,
    /// Validity, by header.
    pub(crate) valid: Vec<bool>,
    /// Content of variable-length fields, by number.
    pub(crate) variable: Vec<Vec<u8>>,
    /// Valid elements of each header stack (the index of `next`).
    pub(crate) stack_next: Vec<usize>,
    /// What follows the parsed headers.
    pub(crate) payload: Vec<u8>,
    /// Reads of registers and the like that an expression needs are done before; this holds
    /// arguments of the action that runs.
    pub(crate) args: Vec<u128>,
}

/// A field of a header.
#[derive(Debug, Clone)]
pub(crate) struct Field {
    /// Its slot.
    pub(crate) slot: usize,
    /// Its width in bits; of a variable one, the most.
    pub(crate) width: u32,
    /// Whether its value is in two's complement.
    pub(crate) signed: bool,
    /// Number among the variable-length fields.
    pub(crate) variable: Option<usize>,
}

/// A header.
#[derive(Debug, Clone)]
pub(crate) struct Header {
    /// Its name, for traces.
    pub(crate) name: String,
    /// Its fields in order.
    pub(crate) fields: Vec<Field>,
    /// Metadata is always valid and never emitted.
    pub(crate) metadata: bool,
    /// Headers of the same union; at most one of them is valid.
    pub(crate) rivals: Vec<usize>,
}

impl Phv {
    /// Sets a field, cut to its width.
    pub(crate) fn set(&mut self, slot: usize, width: u32, value: u128) {
        if let Some(field) = self.fields.get_mut(slot) {
            *field = value & bits::mask(width);
        }
    }

    /// A field.
    pub(crate) fn get(&self, slot: usize) -> u128 {
        self.fields.get(slot).copied().unwrap_or(0)
    }

    /// Whether a header is valid.
    pub(crate) fn is_valid(&self, header: usize) -> bool {
        self.valid.get(header).copied().unwrap_or(false)
    }

    /// Makes a header valid or not; in a union the others then are not.
    pub(crate) fn set_valid(&mut self, headers: &[Header], header: usize, valid: bool) {
        if let Some(v) = self.valid.get_mut(header) {
            *v = valid;
        }
        if valid {
            for rival in headers.get(header).into_iter().flat_map(|h| &h.rivals) {
                if let Some(v) = self.valid.get_mut(*rival) {
                    *v = false;
                }
            }
        }
    }

    /// Copies a header with its validity.
    pub(crate) fn copy_header(&mut self, headers: &[Header], from: usize, to: usize) {
        let (Some(source), Some(target)) = (headers.get(from), headers.get(to)) else {
            return;
        };
        for (a, b) in source.fields.iter().zip(&target.fields) {
            self.set(b.slot, b.width, self.get(a.slot));
            if let (Some(a), Some(b)) = (a.variable, b.variable) {
                let content = self.variable.get(a).cloned().unwrap_or_default();
                if let Some(v) = self.variable.get_mut(b) {
                    *v = content;
                }
            }
        }
        self.set_valid(headers, to, self.is_valid(from));
    }
}
