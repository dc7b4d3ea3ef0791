//! The project's own tasks: lab, test, bench.
fn main() {}
