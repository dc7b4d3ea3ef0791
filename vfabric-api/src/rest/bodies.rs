//! Octets of bodies that are being read, by caller.
//!
//! A body may have [`MAX_BODY_BYTES`], and a caller may send many requests at once, which may each take a minute to
//! arrive. So the bodies of one caller have a limit together. Octets count when they arrive: nothing is reserved for
//! what a client only announces.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use super::MAX_BODY_BYTES;

/// Most octets of one caller's bodies: two of the largest at once.
pub(super) const MOST: usize = 2 * MAX_BODY_BYTES;

/// Octets by caller, without callers that send nothing. All servers of this process share these counts.
static READ: LazyLock<Mutex<HashMap<String, usize>>> = LazyLock::new(Mutex::default);

fn read() -> MutexGuard<'static, HashMap<String, usize>> {
    READ.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The part of its caller's octets that one request has.
pub(super) struct Share {
    caller: String,
    octets: usize,
}

impl Share {
    /// Nothing yet.
    pub(super) fn of(caller: String) -> Self {
        Self { caller, octets: 0 }
    }

    /// Adds octets that have arrived; false if the caller has no room for them.
    pub(super) fn grow(&mut self, octets: usize) -> bool {
        let mut all = read();
        let sum = all.get(&self.caller).copied().unwrap_or(0) + octets;
        if sum > MOST {
            return false;
        }
        all.insert(self.caller.clone(), sum);
        self.octets += octets;
        true
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut all = read();
        if let Some(sum) = all.get_mut(&self.caller) {
            *sum -= self.octets;
            if *sum == 0 {
                all.remove(&self.caller);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bodies_of_one_caller_have_a_limit_together_and_others_have_their_own() {
        let share = |caller: &str| Share::of(format!("bodies {caller}"));
        let (mut first, mut second, mut other) = (share("a"), share("a"), share("b"));
        assert!(first.grow(MOST - 1) && second.grow(1));
        assert!(!first.grow(1) && !second.grow(1));
        assert!(other.grow(MOST) && !other.grow(1));
        drop(first);
        assert!(second.grow(MOST - 1) && !second.grow(1));
        drop((second, other));
        assert!(!read().keys().any(|caller| caller.starts_with("bodies ")));
    }
}
