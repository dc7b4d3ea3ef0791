//! The fabric's command line.
//!
//! **Problem.** Operators and tenants must see and change a fabric from a terminal and from scripts.
//!
//! **Model.** [`cli`] has one module for each command. It talks to a controller only over its REST API. `fabricctl lab` and
//! `fabricctl check` are the crate `fabric-lab`.
//!
//! **Invariants.** Standard output has only what was asked for; progress and errors go to standard error. The exit code says
//! whether the command succeeded.
//!
//! **Cost.** A command is one process, which makes its calls and ends; an intent file is one call, whatever the number
//! of its objects.
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
