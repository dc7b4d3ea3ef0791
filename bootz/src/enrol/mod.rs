//! The owner's decisions: which device is which switch.
//!
//! **Model.** The Bootz server passes a device's proof on ([`serve`]). The serial number in the device's IDevID certificate names
//! one switch of the inventory ([`serve::Roster`]). A switch is *bound* to the key of the first device that proves that serial
//! number ([`book`]); from then on, no other key can be that switch. The binding ends when the inventory gives the
//! switch another serial number (a machine was replaced), or when the switch leaves the inventory: its identity is
//! never reused, so the old key is worthless.
//!
//! **Invariants.**
//! - Every proof is checked here, not only where it arrived.
//! - A certificate names the switch that the inventory has for the serial number; of the device's request only the key is used.
//! - The binding is on the disk before the certificate leaves.
//! - Asking again gives the same device a certificate for the same switch, and changes no binding.
//! - Only `spiffe://<fabric>/provision` may ask for others; a device asks for itself with its IDevID in the TLS handshake
//!   ([`unary`]).
//!
//! **Cost.** A bootstrap costs a look-up in the inventory by serial number, five signatures, and one write of the disk.

pub mod book;
pub mod kept;
pub mod serve;
pub mod unary;
