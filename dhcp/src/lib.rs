//! DHCPv4 and [DHCPv6](six) for a switch that has no configuration: it knows its MAC address, its model and its serial number, and asks
//! for an address and for the server that lets it join the fabric (the Bootz server, options 143 and 136).
//!
//! **Problem.** A switch that boots has no address, so it cannot use an ordinary socket: with a strict `rp_filter` the kernel
//! drops replies to an interface without an address. The switches of a rack that is powered on at once must not all ask
//! at the same moments. A switch that is restarted while the server is away must come back with the address that it
//! had.
//!
//! **Model.** [`machine`] is the client's state machine (RFC 2131 section 4.4): it takes a time or a message and
//! returns actions, without I/O. [`message`] writes requests and reads replies, [`frame`] puts them into Ethernet
//! frames, [`interface`] has the packet socket, the addresses and the route of one network interface. [`client`] is the
//! task that joins them. [`option`] has the numbers of options and reads them; the DHCP part of the provisioning server
//! uses it too.
//!
//! **Invariants.**
//! - A reply is used only if its transaction id, its hardware address and, for a chosen offer, its server are right,
//!   and if it has a lease time and a subnet mask.
//! - An address is on the interface no longer than its lease lasts: the kernel knows when the lease ends and removes
//!   the address even if this process is dead.
//! - The packet socket is open only while the client asks for an address, so a switch that works does not read its own
//!   traffic twice.
//! - No message makes it panic, and no message makes its memory grow.
//!
//! **Cost.** While the lease lasts, one timer and no packet socket; a renewal is one message, and one write of the
//! lease's file.
//!
//! **Where it differs from RFC 2131.** The first message is sent at once, not after one to ten seconds: later ones have
//! the jitter of section 4.1, so only the first messages of a rack coincide. An address is not probed by ARP before it
//! is used: the server gives each switch an address of its own. No RELEASE is sent: a restart keeps the address.
//!
//! **What it does not do.** It sets up no name servers, because a Bootz server is given by its address and not by its
//! name.
//!
//! Sources: RFC 2131, 2132, 3396, 8572 section 8.
//!
//! # Example
//! A client without an address broadcasts its first request at once, from address 0.0.0.0:
//! ```
//! use std::net::Ipv4Addr;
//! use std::time::Duration;
//!
//! use fabric_dhcp::machine::{Action, Listen, Machine};
//! use fabric_dhcp::message::Identity;
//!
//! let who = Identity {
//!     mac: [2, 0, 0, 0, 0, 1],
//!     model: "vs32".into(),
//!     serial: "SN7".into(),
//! };
//! let now = Duration::ZERO;
//! let mut client = Machine::new(who, None, now);
//! assert_eq!((client.due(), client.listen()), (now, Listen::Frames));
//! let actions = client.timer(now, &mut || 7);
//! let [Action::Broadcast(Ipv4Addr::UNSPECIFIED, discover)] = actions.as_slice() else {
//!     panic!("expected one broadcast, got {actions:?}");
//! };
//! assert!(discover.windows(3).any(|octets| octets == b"SN7"), "option 61 has the serial number");
//! assert!(client.due() > now, "then it waits for offers");
//! ```

pub mod client;
mod error;
pub mod frame;
pub mod interface;
pub mod machine;
mod memory;
pub mod message;
pub mod option;
pub mod six;

pub use error::DhcpError;
