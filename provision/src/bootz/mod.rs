//! The Bootz server. It gives a device what it needs to become a switch of this fabric, but only after the device has
//! proven who it is.
//!
//! **Model.** A stream (`BootstrapStreamV1`) is a conversation: the device names itself, gets a challenge, signs it, gets its
//! bootstrap data, and reports. This server has no key of the fabric's owner and no authority: [`owner`] passes the proof on to
//! the controller, which decides, and passes the controller's answer back. That answer is encrypted to the device, so
//! this process never sees its contents. [`tell`] reports the steps on the board to the controller.
//!
//! **Invariants.**
//! - A challenge is used once, in the stream that it was made for.
//! - A device whose serial number is not in the inventory gets no challenge. A device that sends two different serial
//!   numbers, or whose address was leased to another switch, is refused; the log says what does not match.
//! - Every wait is bounded: a device does not wait for ever for the controller, and a stream not for its device.
//! - Asking again is harmless: the controller binds a device once, and sends it its data whenever it asks.
//!
//! **What it does not do.** Unary calls need the IDevID in the TLS handshake, so devices make them to the controller
//! itself ([`fabric_bootz::enrol::unary`]). Unary calls and version 0.6 of the stream are refused here as not
//! implemented.

pub mod owner;
pub mod serve;
pub mod tell;
