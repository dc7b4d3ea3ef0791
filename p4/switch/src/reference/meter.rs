//! Two-rate three-colour meters, colour-blind (RFC 2698 section 3).

use std::sync::Mutex;

/// Colours as v1model numbers them.
pub(crate) const GREEN: u8 = 0;
const YELLOW: u8 = 1;
const RED: u8 = 2;

/// Rates per second and bursts, in packets or octets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rates {
    /// Committed information rate.
    pub cir: u64,
    /// Committed burst size.
    pub cbs: u64,
    /// Peak information rate.
    pub pir: u64,
    /// Peak burst size.
    pub pbs: u64,
}

#[derive(Debug)]
struct Buckets {
    rates: Rates,
    /// Tokens times 10^9, so that a nanosecond's share is whole.
    committed: u128,
    peak: u128,
    at_ns: u64,
}

/// A meter; without rates, everything is green.
#[derive(Debug, Default)]
pub struct Meter(Mutex<Option<Buckets>>);

const SCALE: u128 = 1_000_000_000;

impl Meter {
    /// Sets the rates; the buckets start full.
    pub fn configure(&self, rates: Option<Rates>, now_ns: u64) {
        let full = |r: Rates| Buckets {
            committed: u128::from(r.cbs) * SCALE,
            peak: u128::from(r.pbs) * SCALE,
            rates: r,
            at_ns: now_ns,
        };
        *self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = rates.map(full);
    }

    /// The colour of `size` packets or octets at this time.
    pub(crate) fn colour(&self, size: u64, now_ns: u64) -> u8 {
        let mut guard = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let Some(b) = guard.as_mut() else { return GREEN };
        let passed = u128::from(now_ns.saturating_sub(b.at_ns));
        b.at_ns = b.at_ns.max(now_ns);
        let fill = |level: u128, rate: u64, burst: u64| {
            (level + passed.saturating_mul(rate.into())).min(u128::from(burst) * SCALE)
        };
        b.committed = fill(b.committed, b.rates.cir, b.rates.cbs);
        b.peak = fill(b.peak, b.rates.pir, b.rates.pbs);
        let size = u128::from(size) * SCALE;
        if b.peak < size {
            return RED;
        }
        b.peak -= size;
        if b.committed < size {
            return YELLOW;
        }
        b.committed -= size;
        GREEN
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
                cir: 10,
                cbs: 2,
                pir: 20,
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
