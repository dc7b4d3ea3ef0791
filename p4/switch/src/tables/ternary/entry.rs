//! What an entry of a tuple keeps in its record.

/// Words before the pattern: priority and next entry of the list, tuple.
pub const HEADER: usize = 2;

/// The words that [`super::Records::extra`] gives.
#[derive(Clone, Copy)]
pub(super) struct Extra<'a>(pub(super) &'a [u64]);

impl<'a> Extra<'a> {
    /// Larger wins.
    #[inline]
    pub(super) fn priority(self) -> i32 {
        self.0.first().map_or(0, |w| (*w >> 32) as i32)
    }

    /// The slot behind it in the list.
    #[inline]
    pub(super) fn next(self) -> u32 {
        self.0.first().map_or(super::NO_SLOT, |w| *w as u32)
    }

    /// The tuple that it is in.
    #[inline]
    pub(super) fn tuple(self) -> u32 {
        self.0.get(1).map_or(super::NO_SLOT, |w| *w as u32)
    }

    /// Values and masks.
    #[inline]
    pub(super) fn pattern(self) -> &'a [u64] {
        self.0.get(HEADER..).unwrap_or_default()
    }
}

/// Writes it all, without a next entry.
pub(super) fn write(extra: &mut [u64], pattern: &[u64], priority: i32, tuple: u32) {
    let header = [head(priority, super::NO_SLOT), tuple.into()];
    extra
        .iter_mut()
        .zip(header.iter().chain(pattern))
        .for_each(|(to, from)| *to = *from);
}

/// Sets the slot behind it in the list.
pub(super) fn set_next(extra: &mut [u64], next: u32) {
    if let Some(first) = extra.first_mut() {
        *first = *first >> 32 << 32 | u64::from(next);
    }
}

fn head(priority: i32, next: u32) -> u64 {
    u64::from(priority as u32) << 32 | u64::from(next)
}
