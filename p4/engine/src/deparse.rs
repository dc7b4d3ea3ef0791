//! Checksums, and from headers back to octets.

use crate::core::Core;
use crate::layout::Header;
use crate::packet::Packet;
use crate::program::Checksum;
use crate::trace::Trace;
use crate::wire::BitWriter;

impl<T: Trace> Core<'_, T> {
    fn checksum(&mut self, c: &Checksum, p: &Packet) -> Option<u64> {
        let parts = self.parts(&[]);
        let context = parts.context(&p.words);
        if c.condition.as_ref().is_some_and(|e| !e.holds(&context)) {
            return None;
        }
        Some(self.calculate(c.calculation, p, &[]))
    }

    /// A hash or checksum of the packet.
    pub(crate) fn calculate(&mut self, calculation: u32, p: &Packet, args: &[u64]) -> u64 {
        let context = self.parts(args).context(&p.words);
        match self.program.calculations.get(calculation as usize) {
            Some(c) => c.run(&self.program.headers, p.payload(), &context, &mut self.scratch.bytes),
            None => 0,
        }
    }

    /// Compares the checksums that came in.
    pub(crate) fn verify(&mut self, p: &mut Packet) {
        for c in &self.program.verify {
            let Some(computed) = self.checksum(c, p) else { continue };
            let held = c.value.eval(&self.parts(&[]).context(&p.words));
            if computed & c.mask != held & c.mask {
                self.program.standard.checksum_error.set(&mut p.words, 1);
            }
        }
    }

    /// Writes checksums into headers, and headers before the payload.
    pub(crate) fn deparse(&mut self, p: &mut Packet) {
        let program = self.program;
        for c in &program.update {
            if let Some(value) = self.checksum(c, p) {
                c.dest.set(&program.headers, &mut p.words, value, self.parts(&[]));
            }
        }
        let valid = program
            .deparse
            .iter()
            .filter_map(|h| program.headers.get(*h as usize))
            .filter(|h| p.words[h.slot as usize] != 0 && !h.metadata);
        let (mut bits, mut plain) = (0, true);
        for header in valid {
            bits += length(header, &p.words);
            plain &= header.variable.is_none() && header.fixed_bits % 8 == 0;
        }
        if plain {
            let (mut out, words) = p.headers(bits / 8);
            for header in &program.deparse {
                let Some(header) = program.headers.get(*header as usize) else {
                    continue;
                };
                if words[header.slot as usize] != 0 && !header.metadata {
                    out = emit(header, words, out);
                }
            }
            return;
        }
        let mut writer = BitWriter::new(&mut self.scratch.bytes);
        for header in &program.deparse {
            if let Some(header) = program.headers.get(*header as usize)
                && p.words[header.slot as usize] != 0
                && !header.metadata
            {
                writer.write_header(header, &p.words);
            }
        }
        writer.finish();
        let bytes = &self.scratch.bytes;
        let (out, _) = p.headers(bytes.len());
        out.copy_from_slice(bytes);
    }
}

/// Bits of a header as it is now.
pub(crate) fn length(header: &Header, words: &[u64]) -> usize {
    let variable = header.variable.and_then(|i| header.fields.get(i));
    let variable = variable.map_or(0, |f| words[f.slot as usize]);
    header.fixed_bits as usize + variable as usize
}

/// Writes a header of whole octets. Returns the part of `out` that is left.
#[inline]
fn emit<'b>(header: &Header, words: &[u64], mut out: &'b mut [u8]) -> &'b mut [u8] {
    for store in &header.stores {
        let octets = store.word(&header.pieces, words).to_be_bytes();
        let (now, rest) = out.split_at_mut(store.octets as usize);
        // Lengths that the compiler knows are single stores.
        match now.len() {
            8 => now.copy_from_slice(&octets),
            4 => now.copy_from_slice(&octets[..4]),
            6 => now.copy_from_slice(&octets[..6]),
            2 => now.copy_from_slice(&octets[..2]),
            n => now.copy_from_slice(&octets[..n]),
        }
        out = rest;
    }
    out
}
