//! Implementations of [`Driver`](crate::device::driver::Driver).

pub mod fake;
