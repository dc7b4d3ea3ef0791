//! Checksums and the deparser as machine code.

use cranelift_codegen::ir::{InstBuilder as _, MemFlagsData, Value, condcodes::IntCC, types};

use super::code::{Args, Code, Label};
use super::{Refused, callback};
use crate::hash::Calculation;
use crate::layout::Header;
use crate::packet::HEADROOM;
use crate::program::{Checksum, Dest};
use crate::word::mask64;

/// Octets before a frame that a write of a whole word may touch.
const OVERHANG: u32 = 8;

impl Code<'_, '_> {
    /// Compares the checksums that came in.
    pub(super) fn verify(&mut self) -> Result<(), Refused> {
        let program = self.program;
        for c in &program.verify {
            let done = self.label();
            let Some(computed) = self.computed(c, done)? else {
                self.place(done);
                continue;
            };
            let held = self.expr(&c.value, Args::NONE)?;
            let difference = self.b.ins().bxor(computed, held);
            let difference = self.mask(difference, c.mask);
            let wrong = self.label();
            self.branch(difference, wrong, done);
            if self.place(wrong) {
                let error = program.standard.checksum_error;
                self.set_standard(error, 1)?;
                self.jump(done);
            }
            self.place(done);
        }
        Ok(())
    }

    /// Writes checksums into headers.
    pub(super) fn update(&mut self) -> Result<(), Refused> {
        let program = self.program;
        for c in &program.update {
            let Dest::Field(slot, width @ 1..=64) = c.dest else {
                return Err(Refused("a checksum in a wide field"));
            };
            let done = self.label();
            if let Some(computed) = self.computed(c, done)? {
                let value = self.mask(computed, mask64(width));
                self.store(slot, value)?;
                self.jump(done);
            }
            self.place(done);
        }
        Ok(())
    }

    /// Computes a checksum, or goes on at `done` where its condition does not hold; none where it never does.
    fn computed(&mut self, c: &Checksum, done: Label) -> Result<Option<Value>, Refused> {
        if let Some(condition) = &c.condition {
            let (holds, on) = (self.holds(condition, Args::NONE)?, self.label());
            self.branch(holds, on, done);
            if !self.place(on) {
                return Ok(None);
            }
        }
        let calculation = self.program.calculations.get(c.calculation as usize);
        Ok(Some(match calculation.and_then(Calculation::sum) {
            Some(words) => self.sum(words)?,
            None => self.call_with(callback::calculate as *const (), c.calculation as usize, Args::NONE),
        }))
    }

    /// The Internet checksum of words that enter the sum with a shift (RFC 1071).
    fn sum(&mut self, words: impl Iterator<Item = (u32, u8, u32)>) -> Result<Value, Refused> {
        let mut sum = self.constant(0);
        for (slot, shift, width) in words {
            let word = self.load(slot)?;
            let by = self.constant(shift.into());
            // Halves have room for the shift, and the sum for all of them.
            let low = if width > 32 { self.mask(word, mask64(32)) } else { word };
            let low = self.b.ins().ishl(low, by);
            sum = self.b.ins().iadd(sum, low);
            if width > 32 {
                let half = self.constant(32);
                let high = self.b.ins().ushr(word, half);
                let high = self.b.ins().ishl(high, by);
                sum = self.b.ins().iadd(sum, high);
            }
        }
        // 64 bits to at most 33, 18, 17 and 16.
        for bits in [32, 16, 16, 16] {
            let by = self.constant(bits);
            let (low, high) = (self.mask(sum, mask64(bits as u32)), self.b.ins().ushr(sum, by));
            sum = self.b.ins().iadd(low, high);
        }
        let all = self.constant(0xffff);
        Ok(self.b.ins().bxor(sum, all))
    }

    /// Writes the valid headers so that they end at the function's third argument, and returns their number of octets.
    /// They are written from the last to the first in whole words; the header before overwrites the surplus octets at
    /// the start of each.
    pub(super) fn deparser(&mut self) -> Result<(), Refused> {
        let program = self.program;
        let headers = program.deparse.iter().filter_map(|h| program.headers.get(*h as usize));
        let headers: Vec<_> = headers.filter(|h| !h.metadata).collect();
        let octets: u32 = headers.iter().fold(0, |sum, h| sum.saturating_add(h.fixed_bits / 8));
        let plain = |h: &&Header| h.variable.is_none() && h.fixed_bits.is_multiple_of(8);
        if !headers.iter().all(plain) || octets.saturating_add(OVERHANG) > HEADROOM as u32 {
            return Err(Refused("headers that the interpreter has to write"));
        }
        let payload = self.more[0];
        let mut end = payload;
        for header in headers.iter().rev() {
            let (write, skip, done) = (self.b.create_block(), self.b.create_block(), self.b.create_block());
            self.b.append_block_param(done, types::I64);
            let valid = self.load(header.slot)?;
            let zero = self.constant(0);
            let valid = self.compare(IntCC::NotEqual, valid, zero);
            self.b.ins().brif(valid, write, &[], skip, &[]);
            self.b.switch_to_block(write);
            // Values that are read here are only known here.
            let before = self.facts();
            let octets = self.constant((header.fixed_bits / 8).into());
            let start = self.b.ins().isub(end, octets);
            let mut offset = (header.fixed_bits / 8) as i32;
            for store in header.stores.iter().rev() {
                let mut word = self.constant(0);
                let pieces = header.pieces.get(store.from as usize..store.to as usize);
                for piece in pieces.unwrap_or_default() {
                    let value = self.load(piece.slot)?;
                    // Right-aligned in the word that ends where the store ends.
                    let left = i64::from(piece.shift) - i64::from(64 - 8 * store.octets);
                    let by = self.constant(left.unsigned_abs());
                    let value = match left {
                        0 => value,
                        1.. => self.b.ins().ishl(value, by),
                        _ => self.b.ins().ushr(value, by),
                    };
                    word = self.b.ins().bor(word, value);
                }
                let wire = self.b.ins().bswap(word);
                let flags = MemFlagsData::new().with_notrap();
                self.b.ins().store(flags, wire, start, offset - 8);
                offset -= store.octets as i32;
            }
            self.b.ins().jump(done, &[start.into()]);
            self.b.switch_to_block(skip);
            self.b.ins().jump(done, &[end.into()]);
            self.b.switch_to_block(done);
            self.set_facts(before);
            end = self.b.block_params(done).first().copied().unwrap_or(end);
        }
        let octets = self.b.ins().isub(payload, end);
        self.b.ins().return_(&[octets]);
        Ok(())
    }
}
