//! The reference evaluator: executes a BMv2 program on octets, without any I/O, in the plainest way.
mod bits;
mod expr;
mod hash;
mod lower;
mod meter;
mod phv;
mod program;
mod run;
mod switch;
mod table;

pub use lower::LowerError;
pub use meter::{Meter, Rates};
pub use run::Output;
pub use switch::{CloneSession, Group, Replica, Switch, Tables};
pub use table::{ActionCall, Counter, Entry, Match, Target};
