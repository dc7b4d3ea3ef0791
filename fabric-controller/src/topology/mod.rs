//! The graph of switches and links, and the shortest paths through it.
//!
//! **Problem.** Every switch needs, for every other switch, the ports that lie on a shortest
//! path to it; when a link goes or comes, only the pairs that it touches may be recomputed
//! and rewritten.
//!
//! **Model.** Switches are nodes, cables are edges with an up flag (`petgraph`). For each
//! destination the distance of every switch is kept; a port is a next hop if the switch
//! behind it is one hop nearer.
//!
//! **Invariants.** [`Paths::ports`] always equals what a fresh computation over the links
//! that are up would give (tested against one); [`Paths::set_link`] returns exactly the
//! pairs whose ports changed.
//!
//! **Cost.** A link event costs constant time per destination, and one breadth-first search
//! for each destination whose distances it changes. Two numbers per pair of switches are
//! kept.
//!
//! [`links`] says which links are up, from what switches report and from the probes ([`lldp`])
//! that the controller sends over each.

pub mod links;
pub mod lldp;
mod paths;

pub use paths::{LinkIndex, PathChange, Paths};
