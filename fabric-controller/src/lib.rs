//! The fabric controller: store, model, render, reconcile, drivers.

pub mod bench;
pub mod controller;
pub mod device;
pub mod driver;
pub mod engine;
pub mod model;
pub mod reconcile;
pub mod render;
pub mod store;
#[cfg(test)]
mod testing;
pub mod topology;
