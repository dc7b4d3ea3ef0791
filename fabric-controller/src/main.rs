//! The fabric controller: store, model, render, reconcile, drivers.
fn main() {}
