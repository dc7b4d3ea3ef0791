//! The provisioning server: what a switch needs between power-on and its first session with the controller.
//!
//! **Problem.** A white box leaves its crate with ONIE and no configuration. It needs an address, the right
//! installer image, and a first-boot file, and no other machine may get them. This server speaks to machines that have
//! not proven anything yet, on a network where anybody may send anything. So it is a separate process with few rights: it
//! reads the inventory, and neither changes it nor holds a key of a device.
//!
//! **Model.** [`directory`] is the part of the inventory that matters here: which machine is which switch. [`client`] reads
//! what a machine says about itself. [`dhcp`] is a DHCPv4 server (RFC 2131) whose leases belong to switches, not to MAC
//! addresses, so that installer and installed system get the same address. [`dhcp6`] is the same for DHCPv6 (RFC 8415). [`image`] serves installer images whose SHA-256
//! digests are right. [`template`] renders first-boot files for each model. [`http`] and [`tftp`] send them.
//! In [`bootz`] a device proves who it is and gets what it needs to become a switch; the module asks the controller, which has
//! the keys. [`board`] keeps a timeline of each switch for the operator.
//!
//! **Invariants.**
//! - A machine that the inventory does not name gets no reply, unless an operator has opened the enrolment window. The
//!   window closes when its time is up, or when the process ends.
//! - A machine may send junk about itself: unreadable fields are ignored. A readable contradiction (a serial number that differs
//!   from the inventory's for that MAC address) is refused; the server never guesses.
//! - A lease is on the disk before it is acknowledged. If it cannot be written, no address is given.
//! - One address belongs to one holder; the address of a switch's P4Runtime server goes only to that switch.
//! - Requests meant for another DHCP server get no reply.
//! - No secret is served: templates see only the inventory and the settings, and a rendered file that seems to contain
//!   a private key or a password hash is refused.
//! - Every table that outsiders can fill is bounded.
//!
//! **Cost.** A DISCOVER costs a look-up and no disk access. Requests that arrive together are written with one `fdatasync`. An
//! image is hashed once after each change of its file.
//!
//! **Not here.** Configuration (gNMI) and checks of cables: this server only sends the files and options for them.
//!
//! Sources: RFC 2131, 2132, 3004, 3046, 3396, 3527, 3925, 5970, 6939, 8357, 8415, 8572 (DHCP), 1350, 2347 to 2349 (TFTP), 9110 (HTTP), and the
//! design specification of ONIE (opencomputeproject.github.io/onie).
//!
//! # Example
//! ```
//! use fabric_provision::directory::{Directory, Refusal};
//! use vfabric_api::topology::Topology;
//!
//! let topology = Topology::from_yaml(
//!     r#"
//! fabric: { name: lab }
//! switches:
//!   - { name: leaf1, role: leaf, device_id: 1, loopback_ipv4: 10.255.0.1, loopback_ipv6: "fd00:255::1", p4runtime: "192.0.2.11:9559", serial: AF40, mac: "02:aa:00:00:00:02" }
//! "#,
//! )
//! .unwrap();
//! let directory = Directory::new(topology);
//! let mac = Some("02:aa:00:00:00:02".parse().unwrap());
//! assert_eq!(directory.recognise(mac, None).unwrap().name.as_str(), "leaf1");
//!
//! // The MAC address is known, but the serial number contradicts the inventory.
//! let serial = "ZZ99".parse().unwrap();
//! let refusal = directory.recognise(mac, Some(&serial)).unwrap_err();
//! assert!(matches!(refusal, Refusal::Serial { .. }), "{refusal}");
//! ```

pub mod bench;
pub mod board;
pub mod bootz;
pub mod client;
pub mod command;
pub mod control;
pub mod dhcp;
pub mod dhcp6;
pub mod directory;
pub mod error;
pub mod http;
pub mod image;
pub mod redirects;
pub mod rights;
pub mod settings;
pub mod source;
pub mod template;
#[cfg(feature = "testing")]
pub mod testing;
pub mod tftp;
pub mod theirs;
