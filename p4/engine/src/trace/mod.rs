//! What happened to packets, to be read by people: `--trace`.
//!
//! The packet engine reports each step of a packet to a [`Tracer`], which writes it as indented text and shows only
//! fields that changed. A [`Printer`] writes finished texts to the output on a thread of its own, and limits their
//! number: packets above [`PACKETS_PER_SECOND`], and those for which the output is too slow, run untraced. Both are
//! counted, and the count is printed. So the cost of tracing is bounded even in a flood.
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
