//! Runs unchanged exercises in the style of p4lang's tutorials and of p4-utils: a topology, P4 programs, and the entries of each
//! switch.
//!
//! **Problem.** People who know P4 have folders with a `topology.json`, one `sX-runtime.json` for each switch, and
//! programs; they run them with Mininet and bmv2. Here such a folder runs unchanged, in network namespaces and on
//! `p4-switch`.
//!
//! **Model.** [`topology`] reads the files, `p4app` those of p4-utils, `netcfg` those of ONOS. [`network`] lays out
//! hosts and links. [`runtime`] turns runtime files into P4Runtime entities by the names of the program's P4Info.
//! [`run`](run()) carries out these steps in turn, and then pings.
//!
//! **Invariants.** Every name of a namespace starts with a prefix that no other run has, so that several runs can exist side by
//! side. Everything is removed when the run ends, however it ends, except by SIGKILL. If a file asks for something
//! unknown, the error names the file and the place in it; nothing is skipped silently.
//!
//! **Cost.** One process for each switch; a veth pair and a few `ip` commands for each link.

mod netcfg;
pub mod network;
mod p4app;
mod ping;
mod run;
pub mod runtime;
pub mod topology;

pub use ping::{Matrix, Pair};
pub use run::{Exercise, Options, run};
