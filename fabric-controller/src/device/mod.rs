//! Devices: what they hold, how they are reached, and the actor that keeps each at what it
//! should hold.

mod absence;
pub mod actor;
mod askers;
pub mod claim;
pub mod driver;
pub mod handover;
pub mod launch;
mod ledger;
pub mod machine;
pub mod pace;
pub mod packets;
pub mod ports;
mod registry;
pub mod reports;
mod rows;
pub mod settings;
mod shared;
pub(crate) mod waits;

pub use ledger::Failure;
pub use registry::Registry;
pub use shared::{Device, Edit, Lag, Numbers, Standing};
