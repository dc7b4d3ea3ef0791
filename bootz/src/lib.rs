//! OpenConfig Bootz as a library: how a device that has only an identity and its owner come to trust each
//! other.
//!
//! **Problem.** A device leaves its crate with a key that its manufacturer vouches for, and nothing else. It must not take
//! orders from anybody who happens to reply on the network. Its owner must not give a certificate to anybody who happens to
//! know a serial number. And the owner's data contains secrets.
//!
//! **Model.** There are three parties. The [`device`] knows its IDevID key (IEEE 802.1AR) and its manufacturer. The [`owner`] has a
//! voucher from the manufacturer for each device (RFC 8366), and an owner's key that the vouchers lead to; an [`authority`] signs
//! certificates for devices. Between them, a Bootz server speaks with devices and has no key of either party: it makes a nonce,
//! passes the device's signature on to the owner, and the owner's reply back to the device.
//!
//! ```text
//! device                                Bootz server             owner (the controller)
//!   | request: IDevID certificate, nonce A |                        |
//!   |------------------------------------->|                        |
//!   |               challenge: nonce B     |                        |
//!   |<-------------------------------------|                        |
//!   | transport key, B, request for a      |                        |
//!   | certificate; signed with the IDevID  |                        |
//!   |------------------------------------->|----------------------->| proof::check, binding,
//!   |                                      |                        | authority::issue, owner::seal
//!   | voucher, owner's certificate,        |                        |
//!   | encrypted data with A, signed        |<-----------------------|
//!   |<-------------------------------------|                        |
//! device::accept
//! ```
//!
//! **Invariants.**
//! - Nothing from a device is used before its signature over the server's nonce has been verified and a trusted manufacturer vouches
//!   for the key ([`proof::check`]).
//! - Nothing from a server is used before these are verified: the voucher is from the manufacturer and for this device, the owner's
//!   certificate leads to the voucher, the signature over the encrypted octets is right, and the nonce is the one of this exchange
//!   ([`device::Device::accept`]).
//! - Bootstrap data is never sent unencrypted; only the holder of the transport key of this exchange can read it.
//! - Only the public key of a certificate request is used: names come from the inventory.
//!
//! [`client`] is a complete device, with its files. [`token`] is a device without an IDevID, which has a one-time token
//! from its owner instead. `enrol` (a feature) is a complete owner, without its inventory.
//!
//! **Cost.** An enrolment costs some public-key operations on either side, and one durable write for the binding. It
//! happens once for a device, and again when the device renews its certificate or reports. Nothing here is on the path
//! of packets.
//!
//! **What it does not do.** TPM 2.0 without IDevID and TPM 1.2; vouchers in XML; revocation lists.
//!
//! Sources: OpenConfig Bootz (bootz.proto and README, streaming version 1.0), IEEE 802.1AR-2018, RFC 2986, 5652, 8366, 8572,
//! 9180.

pub mod authority;
pub mod client;
pub mod data;
pub mod device;
pub mod dial;
#[cfg(feature = "enrol")]
pub mod enrol;
mod error;
pub mod idevid;
pub mod owner;
pub mod proof;
pub mod signer;
#[cfg(feature = "testing")]
pub mod testing;
pub mod token;
pub mod transport;
pub mod voucher;
pub mod x509;

pub use error::BootzError;
