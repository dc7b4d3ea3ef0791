//! How often links are probed, and what follows from it.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// The time from one probe of a link's end to the next.
///
/// Everything else is a fixed part of it: silence is a fault after three and a third intervals, so three probes in a row
/// must be lost. If a working link loses one probe in a hundred, it loses three in a row once in a million times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    every: Duration,
}

/// Shortest interval. The controller's clock then ticks every 5 ms.
const SHORTEST: Duration = Duration::from_millis(50);
/// Longest interval.
const LONGEST: Duration = Duration::from_secs(10);

impl Default for Pace {
    /// A dead next hop is left out within 2.6 s.
    fn default() -> Self {
        Self {
            every: Duration::from_millis(750),
        }
    }
}

impl Pace {
    /// Ticks in one interval. Links are probed in turn, so that probes do not come in bursts.
    pub const TURNS: usize = 10;

    /// Time between two probes of a link's end.
    pub fn every(self) -> Duration {
        self.every
    }

    /// Silence for this long is a fault.
    pub fn hold(self) -> Duration {
        self.every * 10 / 3
    }

    /// How often time has to be looked at.
    pub fn tick(self) -> Duration {
        self.every / 10
    }

    /// A tick that comes later than this after the one before means that the controller was stopped, not that the
    /// links were silent.
    pub fn stall(self) -> Duration {
        self.hold() / 3
    }
}

impl fmt::Display for Pace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}ms", self.every.as_millis())
    }
}

impl FromStr for Pace {
    type Err = String;

    /// From a number of milliseconds, such as `200ms`, or of seconds, such as `1s`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number = |digits: &str| digits.parse().ok();
        let every = match text.strip_suffix("ms") {
            Some(digits) => number(digits).map(Duration::from_millis),
            None => text.strip_suffix('s').and_then(number).map(Duration::from_secs),
        };
        match every {
            Some(every) if (SHORTEST..=LONGEST).contains(&every) => Ok(Self { every }),
            _ => Err(format!(
                "{text}: expected a time from {} ms to {} s, such as 200ms or 1s",
                SHORTEST.as_millis(),
                LONGEST.as_secs()
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_lost_probes_are_silence_and_two_are_not() {
        for pace in [Pace::default(), "50ms".parse().unwrap(), "10s".parse().unwrap()] {
            assert!(pace.hold() > 3 * pace.every() && pace.hold() < 4 * pace.every());
            assert_eq!(pace.tick() * 10, pace.every());
            assert!(pace.stall() < pace.hold());
        }
    }

    #[test]
    fn is_read_as_it_is_written() {
        for pace in [Pace::default(), "50ms".parse().unwrap(), "10s".parse().unwrap()] {
            assert_eq!(pace.to_string().parse(), Ok(pace));
        }
        for wrong in ["", "5", "49ms", "11s", "-1s", "0.2s", "1 s", "99999999999999999999ms"] {
            let said = wrong.parse::<Pace>().unwrap_err();
            assert!(said.contains("from 50 ms to 10 s"), "{said}");
        }
    }
}
