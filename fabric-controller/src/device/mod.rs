//! Devices: what they hold, how they are reached, and the actor that keeps each at what it
//! should hold.

pub mod actor;
pub mod driver;
pub mod entity;
mod shared;

pub use shared::{Device, Edit, Standing};
