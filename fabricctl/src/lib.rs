//! The fabric's command line.
//!
//! [`cli`] talks to a controller over its REST API and knows nothing else of it. `fabricctl lab` is the crate
//! `fabric-lab`.

#![deny(clippy::print_stdout)]

pub mod cli;
