//! Two-rate three-colour meters, colour-blind (RFC 2698, section 3).

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use super::direct::Counter;

/// Colours as v1model numbers them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Colour {
    /// Within the committed rate.
    Green = 0,
    /// Within the peak rate.
    Yellow = 1,
    /// Above.
    Red = 2,
}

/// Rates per second and bursts, in packets or octets as the meter counts.
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

#[derive(Debug, Default)]
struct Buckets {
    rates: Rates,
    /// Tokens times 10^9, so that a nanosecond's share is whole.
    committed: u128,
    peak: u128,
    at_ns: u64,
}

/// A meter; without rates, everything is green.
#[derive(Debug, Default)]
pub struct Meter {
    configured: AtomicBool,
    buckets: Mutex<Buckets>,
    /// Packets of each colour (P4Runtime 1.4, section 9.4, `MeterCounterData`).
    marked: [Counter; 3],
}

const SCALE: u128 = 1_000_000_000;

impl Meter {
    /// Sets the rates, or none; the buckets start full.
    pub fn configure(&self, rates: Option<Rates>, now_ns: u64) {
        if rates.is_none() && !self.configured.load(Ordering::Acquire) {
            return;
        }
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        self.configured.store(rates.is_some(), Ordering::Release);
        let rates = rates.unwrap_or_default();
        *buckets = Buckets {
            rates,
            committed: u128::from(rates.cbs) * SCALE,
            peak: u128::from(rates.pbs) * SCALE,
            at_ns: now_ns,
        };
    }

    /// The colour of `size` packets or octets at this time.
    #[inline]
    pub fn colour(&self, size: u64, now_ns: u64) -> Colour {
        if !self.configured.load(Ordering::Acquire) {
            return Colour::Green;
        }
        self.spend(size, now_ns)
    }

    /// The same for a packet of `octets` octets, which is also counted under its colour.
    #[inline]
    pub fn mark(&self, size: u64, octets: usize, now_ns: u64) -> Colour {
        let colour = self.colour(size, now_ns);
        let [green, yellow, red] = &self.marked;
        let counter = match colour {
            Colour::Green => green,
            Colour::Yellow => yellow,
            Colour::Red => red,
        };
        counter.count(octets);
        colour
    }

    /// Packets that were marked green, yellow and red.
    pub fn marked(&self) -> &[Counter; 3] {
        &self.marked
    }

    fn spend(&self, size: u64, now_ns: u64) -> Colour {
        let mut guard = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let b = &mut *guard;
        let passed = u128::from(now_ns.saturating_sub(b.at_ns));
        b.at_ns = b.at_ns.max(now_ns);
        let fill = |level: u128, rate: u64, burst: u64| {
            (level + passed.saturating_mul(rate.into())).min(u128::from(burst) * SCALE)
        };
        b.committed = fill(b.committed, b.rates.cir, b.rates.cbs);
        b.peak = fill(b.peak, b.rates.pir, b.rates.pbs);
        let size = u128::from(size) * SCALE;
        if b.peak < size {
            return Colour::Red;
        }
        b.peak -= size;
        if b.committed < size {
            return Colour::Yellow;
        }
        b.committed -= size;
        Colour::Green
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_follow_the_buckets() {
        let meter = Meter::default();
        assert_eq!(meter.colour(1_000_000, 0), Colour::Green);
        let rates = Rates {
            cir: 10,
            cbs: 2,
            pir: 20,
            pbs: 3,
        };
        meter.configure(Some(rates), 0);
        let colours = [0; 4].map(|now| meter.colour(1, now));
        assert_eq!(colours, [Colour::Green, Colour::Green, Colour::Yellow, Colour::Red]);
        // After 100 ms there are 1 committed and 2 peak tokens.
        let later = [100_000_000; 3].map(|now| meter.colour(1, now));
        assert_eq!(later, [Colour::Green, Colour::Yellow, Colour::Red]);
        meter.configure(None, 0);
        assert_eq!(meter.colour(1_000_000, 0), Colour::Green);
    }

    #[test]
    fn packets_are_counted_under_their_colour() {
        let meter = Meter::default();
        let counts = || meter.marked().each_ref().map(Counter::get);
        meter.mark(1, 60, 0);
        assert_eq!(counts(), [(1, 60), (0, 0), (0, 0)], "a meter without rates counts too");
        let rates = Rates {
            cir: 0,
            cbs: 100,
            pir: 0,
            pbs: 300,
        };
        meter.configure(Some(rates), 0);
        for octets in [100, 150, 70] {
            meter.mark(octets as u64, octets, 0);
        }
        assert_eq!(counts(), [(2, 160), (1, 150), (1, 70)]);
        meter.configure(None, 0);
        assert_eq!(counts(), [(2, 160), (1, 150), (1, 70)], "new rates keep the counts");
    }
}
