//! Packet filters of the kernel (nf_tables), over netlink.
//!
//! [`message`] is the wire format, [`expression`] what rules are made of, [`socket`] the
//! conversation. The two tables that the agent keeps are in [`super::filter`] (what workloads
//! may say) and [`super::shield`] (what may not change a tunnel).
//!
//! Numbers are those of linux/netfilter/nf_tables.h.

pub(super) mod expression;
pub(super) mod message;
pub(super) mod socket;
