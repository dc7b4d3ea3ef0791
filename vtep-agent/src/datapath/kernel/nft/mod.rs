//! Packet filters of the kernel (nf_tables), over netlink.
//!
//! [`message`] is the wire format, [`expression`] the parts of rules, [`socket`] the exchange with the kernel. The two
//! tables that the agent keeps are in [`super::filter`] (what workloads may send) and [`super::shield`] (packets that
//! must not change a tunnel).
//!
//! Numbers are those of linux/netfilter/nf_tables.h.

pub(super) mod expression;
pub(super) mod message;
pub(super) mod socket;
