//! The graph of switches and links, and the shortest paths through it.
//!
//! **Problem.** Every switch needs, for every other switch, the ports on a shortest
//! path to it. When a link goes down or comes up, only the affected pairs may be recomputed
//! and rewritten.
//!
//! **Model.** Switches are nodes, cables are edges with an up flag (`petgraph`). A cable costs one.
//! A cable at a drained switch, or whose far end does not reply, costs more than any path of
//! other cables, so it is used only if nothing else is left. For each destination the cost from every
//! switch is kept; a port is a next hop if the switch behind it is nearer by the cable's cost.
//! Switches and cables can be added and removed.
//!
//! **Invariants.** [`Paths::ports`] always equals a fresh computation over the links
//! that are up (tested); [`Paths::set_link`] returns exactly the
//! pairs whose ports changed.
//!
//! **Cost.** A link event costs constant time per destination, and one search for each destination
//! whose distances it changes. Draining a switch costs one search for each destination. Two numbers
//! per pair of switches are kept.
//!
//! [`links`] decides which links are up, from the reports of switches and from the probes ([`lldp`])
//! that the controller sends over each link.

pub mod links;
pub mod lldp;
pub mod pace;
mod paths;

pub use paths::{LinkIndex, PathChange, Paths};
