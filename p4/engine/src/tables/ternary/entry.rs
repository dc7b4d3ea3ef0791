//! What an entry of a tuple keeps in its record.

/// Words before the pattern: priority and tuple.
pub(super) const HEADER: usize = 1;

/// The words of a record that are for the ternary index.
#[derive(Clone, Copy)]
pub(super) struct Extra<'a>(pub(super) &'a [u64]);

impl<'a> Extra<'a> {
    /// The priority of the entry; the largest wins.
    #[inline]
    pub(super) fn priority(self) -> i32 {
        self.0.first().map_or(0, |w| (*w >> 32) as i32)
    }

    /// The tuple that the entry is in.
    #[inline]
    pub(super) fn tuple(self) -> u32 {
        self.0.first().map_or(super::NO_SLOT, |w| *w as u32)
    }

    /// The pattern: values and masks.
    #[inline]
    pub(super) fn pattern(self) -> &'a [u64] {
        self.0.get(HEADER..).unwrap_or_default()
    }
}

/// Sets priority and tuple, which share the first word.
pub(super) fn set_head(extra: &mut [u64], priority: i32, tuple: u32) {
    if let Some(first) = extra.first_mut() {
        *first = u64::from(priority as u32) << 32 | u64::from(tuple);
    }
}
