//! From a change of intent to changes of what devices should hold.

mod source;

pub use source::Source;
