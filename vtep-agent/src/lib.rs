//! The VXLAN VTEP agent of a Linux host.
pub mod datapath;
pub mod desired;
pub mod engine;
pub mod error;
pub mod object;
