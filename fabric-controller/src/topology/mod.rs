//! The graph of switches and links, and the shortest paths through it.
//!
//! **Problem.** Every switch needs, for every other switch, the ports that lie on a shortest
//! path to it; when a link goes or comes, only the pairs that it touches may be recomputed
//! and rewritten.
//!
//! **Model.** Switches are nodes, cables are edges with an up flag (`petgraph`). A cable costs one;
//! one at a switch that is drained, or whose far end does not answer, costs more than any path of
//! others, so that it is used where nothing else is left. For each destination the cost from every
//! switch is kept; a port is a next hop if the switch behind it is nearer by the cable's cost.
//! Switches and cables come and go.
//!
//! **Invariants.** [`Paths::ports`] always equals what a fresh computation over the links
//! that are up would give (tested against one); [`Paths::set_link`] returns exactly the
//! pairs whose ports changed.
//!
//! **Cost.** A link event costs constant time per destination, and one search for each destination
//! whose distances it changes. To drain a switch costs one search for each destination. Two numbers
//! per pair of switches are kept.
//!
//! [`links`] says which links are up, from what switches report and from the probes ([`lldp`])
//! that the controller sends over each.

pub mod links;
pub mod lldp;
mod paths;

pub use paths::{LinkIndex, PathChange, Paths};
