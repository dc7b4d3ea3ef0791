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

/// A rate in units a second, with parts of a unit.
///
/// P4Runtime has whole units (`MeterConfig`, int64 a second). The commands of bmv2 have fractions of units a microsecond, which can be less
/// than one unit a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Rate {
    /// Whole units a second.
    pub per_second: u64,
    /// Millionths of a unit a second, below 1,000,000.
    pub millionths: u32,
}

impl Rate {
    /// A rate of whole units.
    pub const fn whole(per_second: u64) -> Self {
        Self {
            per_second,
            millionths: 0,
        }
    }

    /// Millionths of a unit in a second.
    fn in_millionths(self) -> u128 {
        u128::from(self.per_second) * u128::from(MILLION) + u128::from(self.millionths)
    }
}

/// Parts of a unit in a [`Rate`].
const MILLION: u32 = 1_000_000;

/// Rates and bursts, in packets or octets as the meter counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rates {
    /// Committed information rate.
    pub cir: Rate,
    /// Committed burst size.
    pub cbs: u64,
    /// Peak information rate.
    pub pir: Rate,
    /// Peak burst size.
    pub pbs: u64,
}

#[derive(Debug, Default)]
struct Buckets {
    rates: Rates,
    /// Tokens times [`SCALE`], so that a nanosecond's share of a millionth is whole.
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

const SCALE: u128 = 1_000_000_000 * MILLION as u128;

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

    /// As [`Self::colour`], for a packet of `octets` octets, which is also counted under its colour.
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
        let fill = |level: u128, rate: Rate, burst: u64| {
            let brought = passed.saturating_mul(rate.in_millionths());
            level.saturating_add(brought).min(u128::from(burst) * SCALE)
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
            cir: Rate::whole(10),
            cbs: 2,
            pir: Rate::whole(20),
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
    fn rates_may_be_below_one_a_second() {
        let meter = Meter::default();
        let half = Rate {
            per_second: 0,
            millionths: 500_000,
        };
        let rates = Rates {
            cir: half,
            cbs: 1,
            pir: half,
            pbs: 1,
        };
        meter.configure(Some(rates), 0);
        let second = 1_000_000_000;
        let at = [0, second, 2 * second - 1, 2 * second, 3 * second, 4 * second];
        let colours = at.map(|now| meter.colour(1, now));
        let (green, red) = (Colour::Green, Colour::Red);
        assert_eq!(colours, [green, red, red, green, red, green], "one unit in two seconds");
    }

    #[test]
    fn the_largest_rates_and_bursts_do_not_overflow() {
        let meter = Meter::default();
        let most = Rate::whole(u64::MAX);
        let rates = Rates {
            cir: most,
            cbs: u64::MAX,
            pir: most,
            pbs: u64::MAX,
        };
        meter.configure(Some(rates), 0);
        assert_eq!(meter.colour(u64::MAX, 1), Colour::Green);
        assert_eq!(meter.colour(u64::MAX, u64::MAX), Colour::Green);
    }

    #[test]
    fn packets_are_counted_under_their_colour() {
        let meter = Meter::default();
        let counts = || meter.marked().each_ref().map(Counter::get);
        meter.mark(1, 60, 0);
        assert_eq!(counts(), [(1, 60), (0, 0), (0, 0)], "a meter without rates counts too");
        let rates = Rates {
            cir: Rate::default(),
            cbs: 100,
            pir: Rate::default(),
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
