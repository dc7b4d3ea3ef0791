//! A small mutator for use without libFuzzer: it damages a seed corpus in a reproducible way.

use super::{Target, regressions};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

/// Longest input; longer ones only repeat what shorter ones find.
const MAX_OCTETS: usize = 16 << 10;
/// Most edits of one input.
const MAX_EDITS: usize = 8;

/// Makes inputs from seeds.
pub struct Mutator {
    rng: StdRng,
    seeds: Vec<Vec<u8>>,
}

impl Mutator {
    /// Starts from seeds; the same number gives the same inputs.
    pub fn new(seeds: Vec<Vec<u8>>, number: u64) -> Self {
        Self {
            rng: StdRng::seed_from_u64(number),
            seeds,
        }
    }

    fn below(&mut self, n: usize) -> usize {
        self.rng.random_range(0..n.max(1))
    }

    fn seed(&mut self) -> Vec<u8> {
        let at = self.below(self.seeds.len());
        self.seeds.get(at).cloned().unwrap_or_default()
    }

    /// The next input: a seed with octets, words and whole pieces changed, moved, doubled, or taken from another seed.
    pub fn input(&mut self) -> Vec<u8> {
        let mut data = self.seed();
        for _ in 0..1 + self.below(MAX_EDITS) {
            let at = self.below(data.len());
            let len = (1 + self.below(24)).min(data.len() - at.min(data.len()));
            match self.below(7) {
                0 => {
                    let value = self.rng.random();
                    if let Some(o) = data.get_mut(at) {
                        *o = value;
                    }
                }
                1 => {
                    let bit = self.below(8);
                    if let Some(o) = data.get_mut(at) {
                        *o ^= 1 << bit;
                    }
                }
                2 => drop(data.drain(at..at + len)),
                3 => {
                    let piece = data.get(at..at + len).unwrap_or_default().to_vec();
                    let to = self.below(data.len() + 1);
                    data.splice(to..to, piece);
                }
                4 => {
                    let other = self.seed();
                    let from = self.below(other.len());
                    let n = (1 + self.below(64)).min(other.len() - from.min(other.len()));
                    let piece = other.get(from..from + n).unwrap_or_default().to_vec();
                    data.splice(at..at, piece);
                }
                5 => {
                    let number = [0, 1, 7, 8, 255, 65_535, 65_536, 4_294_967_295u64][self.below(8)];
                    data.splice(at..(at + len).min(data.len()), number.to_string().into_bytes());
                }
                _ => data.truncate(at.max(1)),
            }
        }
        data.truncate(MAX_OCTETS);
        data
    }
}

/// An input that shows a fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{target}: {why}\ninput: b\"{}\"", .input.escape_ascii())]
pub struct Finding {
    /// The target's name.
    pub target: &'static str,
    /// The fault: the target's message, or that of a panic.
    pub why: String,
    /// The input.
    pub input: Vec<u8>,
}

/// Runs a target on its regression inputs and seeds, then on mutated seeds until the time is over or `inputs` of them
/// have run. Returns how many mutated inputs it ran.
///
/// # Errors
/// The first finding.
pub fn run(target: &Target, number: u64, inputs: usize, time: Duration) -> Result<usize, Finding> {
    let mut seeds = (target.seeds)();
    // Most targets have no such folder.
    for entry in std::fs::read_dir(regressions(target.name))
        .into_iter()
        .flatten()
        .flatten()
    {
        seeds.extend(std::fs::read(entry.path()));
    }
    let finding = |input: &[u8]| {
        let result = catch_unwind(AssertUnwindSafe(|| (target.body)(input)));
        let why = match result {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(why)) => why,
            Err(panic) => {
                let text = panic.downcast_ref::<String>().map(String::as_str);
                let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
                format!("panic: {}", text.unwrap_or("without a message"))
            }
        };
        Err(Finding {
            target: target.name,
            why,
            input: input.to_vec(),
        })
    };
    for seed in &seeds {
        finding(seed)?;
    }
    let mut mutator = Mutator::new(seeds, number);
    let end = Instant::now() + time;
    let mut n = 0;
    while n < inputs && Instant::now() < end {
        finding(&mutator.input())?;
        n += 1;
    }
    Ok(n)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_number_gives_the_same_inputs() {
        let inputs = |n| {
            let mut m = Mutator::new(vec![b"header h { bit<8> x; }".to_vec(), vec![]], n);
            (0..500).map(|_| m.input()).collect::<Vec<_>>()
        };
        assert_eq!(inputs(1), inputs(1));
        assert_ne!(inputs(1), inputs(2));
    }

    #[test]
    fn a_finding_is_reported_with_its_input() {
        let body = |data: &[u8]| {
            assert!(!data.contains(&b'!'), "no exclamation marks");
            Ok(())
        };
        let target = Target {
            name: "sample",
            about: "",
            seeds: || vec![b"hello".to_vec(), b"oh!".to_vec()],
            body,
        };
        let found = run(&target, 0, 10, Duration::from_secs(60)).expect_err("the second seed is one");
        assert_eq!(found.input, b"oh!");
        let found = found.to_string();
        assert!(
            found.contains("no exclamation marks") && found.contains("b\"oh!\""),
            "{found}"
        );
    }
}
