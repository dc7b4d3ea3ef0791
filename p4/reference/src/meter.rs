//! Two-rate three-colour meters, colour-blind (RFC 2698 section 3).

use std::sync::{Mutex, PoisonError};

use num_bigint::BigUint;

/// Colours as v1model numbers them.
pub(crate) const GREEN: u8 = 0;
const YELLOW: u8 = 1;
const RED: u8 = 2;

/// Rates in millionths of a unit a second, and bursts in units: packets or octets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rates {
    /// Committed information rate.
    pub cir: u128,
    /// Committed burst size.
    pub cbs: u64,
    /// Peak information rate.
    pub pir: u128,
    /// Peak burst size.
    pub pbs: u64,
}

/// Tokens missing in a bucket; 0 when it is full.
#[derive(Debug, Clone, Default)]
struct Bucket {
    rate: u128,
    burst: u64,
    /// Missing tokens, in units of 10^-15 token: what a rate of a millionth adds in a nanosecond.
    missing: BigUint,
}

impl Bucket {
    fn full(rate: u128, burst: u64) -> Self {
        Self {
            rate,
            burst,
            missing: BigUint::ZERO,
        }
    }

    fn fill(&mut self, nanoseconds: u64) {
        let brought = BigUint::from(nanoseconds) * self.rate;
        self.missing = match self.missing > brought {
            true => &self.missing - brought,
            false => BigUint::ZERO,
        };
    }

    /// Takes tokens if there are enough.
    fn take(&mut self, tokens: u64) -> bool {
        let missing = &self.missing + BigUint::from(tokens) * PARTS;
        let is_there = missing <= BigUint::from(self.burst) * PARTS;
        if is_there {
            self.missing = missing;
        }
        is_there
    }
}

#[derive(Debug)]
struct Buckets {
    committed: Bucket,
    peak: Bucket,
    at_ns: u64,
}

/// A meter; without rates, everything is green.
#[derive(Debug, Default)]
pub struct Meter(Mutex<Option<Buckets>>);

/// Parts of a token.
const PARTS: u64 = 1_000_000_000_000_000;

impl Meter {
    /// Sets the rates; the buckets start full.
    pub fn configure(&self, rates: Option<Rates>, now_ns: u64) {
        let full = |r: Rates| Buckets {
            committed: Bucket::full(r.cir, r.cbs),
            peak: Bucket::full(r.pir, r.pbs),
            at_ns: now_ns,
        };
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = rates.map(full);
    }

    /// The colour of `size` packets or octets at this time.
    pub(crate) fn colour(&self, size: u64, now_ns: u64) -> u8 {
        let mut guard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(b) = guard.as_mut() else { return GREEN };
        let passed = now_ns.saturating_sub(b.at_ns);
        b.at_ns += passed;
        b.committed.fill(passed);
        b.peak.fill(passed);
        match b.peak.take(size) {
            false => RED,
            true if b.committed.take(size) => GREEN,
            true => YELLOW,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_follow_the_buckets() {
        let meter = Meter::default();
        assert_eq!(meter.colour(1_000_000, 0), GREEN);
        meter.configure(
            Some(Rates {
                cir: 10_000_000,
                cbs: 2,
                pir: 20_000_000,
                pbs: 3,
            }),
            0,
        );
        let colours: Vec<u8> = (0..4).map(|_| meter.colour(1, 0)).collect();
        assert_eq!(colours, [GREEN, GREEN, YELLOW, RED]);
        // After 100 ms there are 1 committed and 2 peak tokens.
        let later: Vec<u8> = (0..3).map(|_| meter.colour(1, 100_000_000)).collect();
        assert_eq!(later, [GREEN, YELLOW, RED]);
    }
}
