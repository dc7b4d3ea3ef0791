//! Devices: what they hold, how they are reached, and the actor that keeps each at what it
//! should hold.

pub mod driver;
pub mod entity;
