//! The fabric's command line.
//!
//! [`cli`] talks to a controller only over its REST API. `fabricctl lab` is the crate
//! `fabric-lab`.
//!
//! # Example
//! ```
//! use clap::Parser as _;
//! use fabricctl::cli::Cli;
//!
//! assert!(Cli::try_parse_from(["fabricctl", "status", "--output", "json"]).is_ok());
//! let error = Cli::try_parse_from(["fabricctl", "stauts"]).unwrap_err();
//! assert!(error.to_string().contains("'status'"), "{error}");
//! ```

#![deny(clippy::print_stdout)]

pub mod cli;
