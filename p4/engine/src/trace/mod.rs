//! What happened to packets, to be read by people: `--trace`.
//!
//! The packet engine reports to a [`Tracer`] what a packet meets; the tracer writes it down as indented text, with what
//! changed and no more. A [`Printer`] takes finished texts to the output on a thread of its own and bounds how many
//! there are: packets that come faster than [`PACKETS_PER_SECOND`] run untraced, and so do those that the output is too
//! slow for; both are counted and the count is printed. So a flood costs forwarding no more than the bound.
//!
//! ```text
//! #1 in  port 1, 60 octets
//!   parser
//!     start
//!     ethernet at octet 0
//!     + ethernet ipv4
//!   if hdr.ipv4.isValid(): yes
//!   ingress.routes  hdr.ipv4.dst = 10.0.2.5
//!     hit entry 3: ingress.route(next_hop = 2)
//!     meta.next_hop: 0 -> 2
//!   egress  port 2
//! #1 out port 2, 60 octets
//! ```
mod hooks;
mod printer;
mod traced;
mod tracer;

pub use hooks::{Dropped, NoTrace, Trace};
pub use printer::{Ending, PACKETS_PER_SECOND, Printer};
pub use traced::Traced;
pub use tracer::Tracer;
