//! DHCPv4 for the switches of the inventory.
//!
//! [`server`] decides: from a message and the time it makes a reply, a change of leases and notes. [`leases`] knows the holder of
//! each address, [`journal`] keeps that on the disk, [`reply`] chooses options, [`packet`] reads and writes messages.
//! [`run`] does the I/O: sockets, batches, first the disk and then the wire.

pub mod address;
pub mod journal;
pub mod leases;
pub mod packet;
pub mod reply;
pub mod run;
pub mod server;
pub(crate) mod socket;
