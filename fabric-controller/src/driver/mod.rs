//! Implementations of [`Driver`](crate::device::driver::Driver).

pub mod fake;
pub mod gnmi;
pub mod launch;
mod losses;
pub mod machine;
mod mark;
pub mod p4runtime;
mod ports;
pub mod settings;
pub mod vtep;
