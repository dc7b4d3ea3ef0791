//! The provisioning server: what a switch needs between power-on and its first session with the controller.
//!
//! **Problem.** A white box leaves its crate with ONIE and no configuration. Somebody has to give it an address, an
//! installer image that fits it, and a first-boot file; and to nobody else. This server speaks to machines that have
//! proven nothing yet, on a network where anybody may send anything, so it is a process of its own with few rights: it
//! reads the inventory, and neither changes it nor holds a key of a device.
//!
//! **Model.** [`directory`] is the inventory as far as it matters here: which machine is which switch. [`client`] reads
//! what a machine says of itself. [`dhcp`] is a DHCPv4 server (RFC 2131) whose leases belong to switches, not to MAC
//! addresses, so that installer and installed system get one address. [`image`] serves installer images whose SHA-256
//! digests are right. [`template`] renders first-boot files for each model. [`http`] and [`tftp`] hand them out.
//! [`bootz`] is where a device proves who it is and gets what it needs to become a switch; it asks the controller, which has the
//! keys. [`board`] keeps a time line of each switch for the operator.
//!
//! **Invariants.**
//! - A machine that the inventory does not name gets no answer, unless an operator has opened the enrolment window. The
//!   window closes after its time, at the latest when the process ends.
//! - What a machine says of itself may be junk: unreadable fields count as not said. A readable contradiction (another
//!   serial number than the inventory has for that MAC address) is refused, never resolved by a guess.
//! - A lease is on the disk before it is acknowledged. If it cannot be written, no address is given.
//! - One address belongs to one holder; the address of a switch's P4Runtime server is its own and is given to nobody else.
//! - Requests meant for another DHCP server are not answered.
//! - No secret is served: templates see the inventory and the settings alone, and a rendered file that looks like it holds
//!   a private key or a password hash is refused.
//! - Every table that outsiders can fill is bounded.
//!
//! **Cost.** A DISCOVER costs a look-up and no disk. Requests that arrive together are written with one `fdatasync`. An
//! image is hashed once after each change of its file.
//!
//! **Not here.** Configuration (gNMI), checks of cables: the files and options for them are handed out, what speaks them is
//! elsewhere. DHCPv6 is not there yet.
//!
//! Sources: RFC 2131, 2132, 3004, 3046, 3396, 3527, 3925, 8357, 8572 (DHCP), 1350, 2347 to 2349 (TFTP), 9110 (HTTP), and the
//! design specification of ONIE (opencomputeproject.github.io/onie).

pub mod bench;
pub mod board;
pub mod bootz;
pub mod client;
pub mod command;
pub mod control;
pub mod dhcp;
pub mod directory;
pub mod error;
pub mod http;
pub mod image;
pub mod rights;
pub mod settings;
pub mod source;
pub mod template;
#[cfg(feature = "testing")]
pub mod testing;
pub mod tftp;
