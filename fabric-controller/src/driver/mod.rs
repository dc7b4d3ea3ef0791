//! Implementations of [`Driver`](crate::device::driver::Driver).

pub mod fake;
pub mod gnmi;
pub mod launch;
pub mod p4runtime;
pub mod vtep;
