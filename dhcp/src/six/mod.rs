//! DHCPv6 for the same switch, on a management network that may have only IPv6.
//!
//! **Model.** [`machine`] is the state machine (RFC 8415, section 18.2), without I/O; [`message`] writes and reads messages; [`client`]
//! is the task with socket, timers and lease file. The router and the prefix of the network are not in DHCPv6: the kernel knows them
//! from router advertisements.
//!
//! **Where it differs from RFC 8415.** The first SOLICIT is sent at once; later ones have the jitter of section 15.
//! After a restart it sends REBIND and not CONFIRM, because a reply to CONFIRM names no Bootz server. While no server
//! replies, the switch uses its earlier address until the lease ends. The address is not probed before it is used: the
//! server gives each switch an address of its own. No RELEASE is sent: a restart keeps the address.
//!
//! Sources: RFC 8415, 8572 section 8.2.

pub mod client;
pub mod machine;
pub mod message;
