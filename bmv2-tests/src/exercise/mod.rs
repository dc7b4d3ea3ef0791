//! Exercises in the way of p4lang's tutorials and of p4-utils, as they are: a topology, P4 programs, what each switch is to hold.
//!
//! **Problem.** People who know P4 own folders with a `topology.json`, one `sX-runtime.json` for each switch, and programs;
//! they run them with Mininet and bmv2. Here such a folder runs as it is, in network namespaces and on `p4-switch`.
//!
//! **Model.** [`topology`] reads the files, `p4app` those of p4-utils, [`network`] lays out hosts and links, [`runtime`] turns runtime files into
//! P4Runtime entities by the names of the program's P4Info, [`run`](run()) does one after the other and pings.
//!
//! **Invariants.** Every name of a namespace starts with a prefix that no other run has, so that runs stand beside each
//! other. Everything goes when the run ends, however it ends short of SIGKILL. A file that asks for something unknown is an error
//! that names the file and the place in it; nothing is left out in silence.
//!
//! **Cost.** One process for each switch; a veth pair and a few `ip` commands for each link.

pub mod network;
mod p4app;
mod ping;
mod run;
pub mod runtime;
pub mod topology;

pub use ping::{Matrix, Pair};
pub use run::{Exercise, Options, run};
