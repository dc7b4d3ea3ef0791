//! The CNI plugin of the fabric.
//!
//! **Problem.** Container runtimes start a program for each interface of a container (Container Network Interface 1.1).
//! It must be quick, must say the truth about what is in place, and must leave nothing behind however it ends.
//!
//! **Model.** The program holds no state. [`config`] reads what the runtime wants, [`command`] turns each verb into one
//! request to the host's VTEP agent over a unix socket ([`protocol`]), and [`result`] words the reply in the version of
//! CNI that was asked for. The agent keeps the journal, asks the controller, and makes the interface.
//!
//! **Invariants.** ADD succeeds only if host and leaf have applied the attachment. DEL of what is gone succeeds. No error
//! of DEL has words that runtimes take for "it is gone" ([`error`]). No input makes it panic.
//!
//! **Several networks for one pod.** The meta plugin ([`multi`], program `vfabric-multi`) runs any CNI plugins, this one among
//! them.

pub mod command;
pub mod config;
pub mod error;
pub mod exec;
pub mod ipam;
pub mod multi;
pub mod protocol;
pub mod result;
