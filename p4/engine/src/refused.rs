//! Why a program, or a stage of it, has no machine code.

/// Why the interpreter runs a stage, or everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Refused(pub(crate) &'static str);

impl Refused {
    /// The library that makes code gave up.
    pub(crate) const PANIC: Self = Self("the machine code could not be made");
}
