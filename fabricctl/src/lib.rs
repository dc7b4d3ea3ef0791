//! The fabric's command line.
//!
//! [`cli`] talks to a controller only over its REST API. `fabricctl lab` is the crate
//! `fabric-lab`.

#![deny(clippy::print_stdout)]

pub mod cli;
