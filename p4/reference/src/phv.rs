//! A packet under way: its header fields in fixed slots, and its octets.

use num_bigint::{BigInt, BigUint};

use crate::bits;

/// Everything that a program may read or change of one packet.
#[derive(Debug, Clone, Default)]
pub(crate) struct Phv {
    /// Fields of all headers and metadata, by slot; always cut to their width.
    pub(crate) fields: Vec<BigUint>,
    /// Validity, by header.
    pub(crate) valid: Vec<bool>,
    /// Content of variable-length fields, by number.
    pub(crate) variable: Vec<Vec<u8>>,
    /// Elements that each stack holds (the index of `next`).
    pub(crate) stack_next: Vec<usize>,
    /// What follows the parsed headers.
    pub(crate) payload: Vec<u8>,
    /// Most octets that leave.
    pub(crate) truncated: usize,
    /// Arguments of the action that runs.
    pub(crate) args: Vec<BigUint>,
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
    /// Its fields in order.
    pub(crate) fields: Vec<Field>,
    /// Metadata is always valid and never emitted.
    pub(crate) metadata: bool,
    /// Headers of the same union; at most one of them is valid.
    pub(crate) rivals: Vec<usize>,
}

impl Phv {
    /// Sets a field, cut to its width.
    pub(crate) fn set(&mut self, slot: usize, width: u32, value: &BigInt) {
        if let Some(field) = self.fields.get_mut(slot) {
            *field = bits::cut(value, width);
        }
    }

    /// A field.
    pub(crate) fn get(&self, slot: usize) -> BigUint {
        self.fields.get(slot).cloned().unwrap_or_default()
    }

    /// The octets of a variable-length field.
    pub(crate) fn octets(&self, variable: usize) -> &[u8] {
        self.variable.get(variable).map_or(&[], Vec::as_slice)
    }

    /// Whether a header is valid.
    pub(crate) fn is_valid(&self, header: usize) -> bool {
        self.valid.get(header).copied().unwrap_or(false)
    }

    /// Makes a header valid or invalid. If it becomes valid in a union, the other members become invalid.
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

    /// Sets all fields of a header to zero.
    pub(crate) fn clear(&mut self, header: &Header) {
        for field in &header.fields {
            self.set(field.slot, field.width, &BigInt::ZERO);
            if let Some(v) = field.variable.and_then(|v| self.variable.get_mut(v)) {
                v.clear();
            }
        }
    }

    /// Copies a header with its validity. For an invalid header only the validity is copied, as in BMv2, so that
    /// another member of the union can stay valid.
    pub(crate) fn copy_header(&mut self, headers: &[Header], from: usize, to: usize) {
        let (Some(source), Some(target)) = (headers.get(from), headers.get(to)) else {
            return;
        };
        if !self.is_valid(from) {
            self.set_valid(headers, to, false);
            return;
        }
        for (a, b) in source.fields.iter().zip(&target.fields) {
            self.set(b.slot, b.width, &self.get(a.slot).into());
            if let (Some(a), Some(b)) = (a.variable, b.variable) {
                let content = self.octets(a).to_vec();
                if let Some(v) = self.variable.get_mut(b) {
                    *v = content;
                }
            }
        }
        self.set_valid(headers, to, true);
    }
}
