//! Faults that a test can put into the bookkeeping of numbers, to show that the isolation walk finds them.
//! Outside of tests there are none.

/// A mistake that somebody could make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// VNIs are allocated again at once.
    VniAtOnce,
    /// Flood groups are allocated again at once.
    GroupAtOnce,
    /// Access ids are allocated again at once.
    AccessIdAtOnce,
    /// An attachment that moves takes its access id along.
    AccessIdMoves,
    /// Nobody waits for a number that a user names.
    NobodyWaits,
    /// Numbers do not rest after the last confirmation.
    NoRest,
    /// A number is free when the first device has confirmed.
    FirstConfirmation,
    /// A restart forgets what is in quarantine.
    ForgetsAtRestart,
    /// A number leaves quarantine with the transaction, not with the confirmation.
    NobodyConfirms,
    /// Numbers that a gone device holds are free before its neighbours have shut it out.
    GoneAtOnce,
    /// A new device is used before its old entities were removed.
    ArrivesAtOnce,
    /// A host that an attachment does not migrate to any more keeps its part in the network.
    StaysAdmitted,
}

#[cfg(test)]
impl Fault {
    /// Every mistake.
    pub(crate) const ALL: [Self; 12] = [
        Self::VniAtOnce,
        Self::GroupAtOnce,
        Self::AccessIdAtOnce,
        Self::AccessIdMoves,
        Self::NobodyWaits,
        Self::NoRest,
        Self::FirstConfirmation,
        Self::ForgetsAtRestart,
        Self::NobodyConfirms,
        Self::GoneAtOnce,
        Self::ArrivesAtOnce,
        Self::StaysAdmitted,
    ];
}

#[cfg(test)]
thread_local! {
    static ON: std::cell::Cell<Option<Fault>> = const { std::cell::Cell::new(None) };
}

/// Activates a fault for this thread; `None` deactivates it.
#[cfg(test)]
pub(crate) fn set(fault: Option<Fault>) {
    ON.with(|on| on.set(fault));
}

/// Whether a fault is active.
#[cfg(test)]
pub(super) fn is_on(fault: Fault) -> bool {
    ON.with(|on| on.get() == Some(fault))
}

/// Whether a fault is active: never, outside of tests.
#[cfg(not(test))]
pub(super) const fn is_on(_: Fault) -> bool {
    false
}
