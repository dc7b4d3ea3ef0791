//! The Bootz server: what a device needs to become a switch of this fabric, and only after it has proven who it is.
//!
//! **Model.** A stream (`BootstrapStreamV1`) is a conversation: the device names itself, gets a challenge, signs it, gets its
//! bootstrap data, and reports. This server has no key of the fabric's owner and no authority: [`owner`] passes the proof on to
//! the controller, which decides, and passes the controller's answer back. That answer is encrypted to the device, so what a
//! device is given never is in this process in the clear. [`tell`] passes on to it what the board says of machines.
//!
//! **Invariants.**
//! - A challenge is used once, in the stream that it was made for.
//! - A device whose serial number is not in the inventory gets no challenge. One that says two serial numbers, or whose address
//!   was leased to another switch, is refused, with a line that says what does not fit.
//! - Everything waits for a bounded time: the device for the controller, a stream for its device.
//! - Asking again is harmless: the controller binds a device once and gives it its data as often as it asks.
//!
//! **What it does not do.** The unary calls, which need the IDevID in the TLS handshake, go to the controller itself
//! ([`fabric_bootz::enrol::unary`]). They and version 0.6 of the stream are refused here as not implemented.

pub mod owner;
pub mod serve;
pub mod tell;
