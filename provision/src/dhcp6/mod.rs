//! DHCPv6 for the switches of the inventory (RFC 8415), stateful and stateless.
//!
//! The parts are those of [`crate::dhcp`], whose leases, journal and shell it shares: [`server`] decides, [`reply`] chooses options,
//! [`packet`] reads and writes messages, [`run`] opens the sockets, [`settings`] is its part of the settings.
//!
//! **Who is who.** A DUID does not name the management port: it may have the hardware address of another port, or none. So a
//! machine is recognised by the first of these hardware addresses that the inventory has: the one that its relay saw
//! (RFC 6939), the one in its link-local address, the one in its DUID; and by its serial number if it says one. A machine
//! without any hardware address gets no reply.
//!
//! **What is left out.** Prefixes and temporary addresses are not given. Rapid commit and reconfiguration are not used.

pub mod packet;
pub mod reply;
pub mod run;
pub mod server;
pub mod settings;
