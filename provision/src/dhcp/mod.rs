//! DHCPv4 for the switches of the inventory.
//!
//! [`server`] decides: a message and the time in; a reply, a change of leases and notes out. [`leases`] holds who has
//! which address, [`journal`] keeps that on the disk, [`reply`] chooses options, [`packet`] reads and writes messages.
//! [`run`] is the shell: sockets, batches, the order of disk and wire.

pub mod journal;
pub mod leases;
pub mod packet;
pub mod reply;
pub mod run;
pub mod server;
