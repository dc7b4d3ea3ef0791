//! The reference evaluator: executes a BMv2 program on octets, in the simplest way.
//!
//! **Problem.** The packet engine is fast because it prepares much before packets come, and runs machine code.
//! To check that the engine still does what the program says, tests compare it with this evaluator on random programs,
//! entries and packets.
//!
//! **Model.** A [`Switch`] is a program with its [`Tables`]. Names become indexes when it is loaded; everything else
//! happens for each packet, on numbers of any size: expressions are walked, tables searched mask by mask, checksums
//! computed octet by octet.
//!
//! **Invariants.** The evaluator and the engine share only `bmv2-json`, the schema of the documents that both load, so
//! that a mistake in one is not a mistake in the other. Where both follow a standard, each is written from the
//! standard.
//!
//! **Cost.** Not bounded. It is for tests and development tools; no program of the fabric depends on it.
//!
//! # Example
//! ```
//! use p4_reference::Switch;
//!
//! // A program with one table, whose default action drops.
//! let json = include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/../switch/tests/data/crossover.json"));
//! let switch = Switch::new(json, None, 511).unwrap();
//! let mut out = Vec::new();
//! switch.process(1, &[0; 64], 0, &mut out);
//! assert!(out.is_empty(), "no control plane has put in an entry yet");
//! ```
mod bits;
mod expr;
mod hash;
mod lower;
mod meter;
mod phv;
mod program;
mod run;
mod switch;
mod table;

pub use lower::LowerError;
pub use meter::{Meter, Rates};
pub use run::Output;
pub use switch::{CloneSession, Group, Replica, Switch, Tables};
pub use table::{ActionCall, Counter, Entry, Match, Target};
