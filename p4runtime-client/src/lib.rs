//! A P4Runtime client for controllers that hold many switches at a wanted state.
//!
//! # Problem
//! A controller must keep the entities of hundreds of switches equal to its
//! intent, over a protocol in which servers reorder batches, answer partially,
//! restart empty, and depart from the specification each in their own way.
//!
//! # Model
//! - [`session::Session`]: one stream to one switch, with mastership, events and a
//!   heartbeat. It lives until the first fault; its owner then opens another.
//! - [`entity::Entity`]: an object of a switch in a canonical, comparable, compact
//!   form; its key is hashable. Everything above the wire works with these.
//! - [`pipeline::Pipeline`]: program and P4Info with a cookie, pushed only where
//!   another one runs.
//! - [`mod@write`]: bounded batches with one outcome per change. [`read`]: everything
//!   that can be reconciled. [`diff`]: from one state to another, pure.
//! - [`names::Names`], [`packet::PacketCodec`], [`order::Order`]: what P4Info says
//!   about names, packet headers and references between tables.
//! - [`target::Target`]: what a server can do. No other module knows products.
//!
//! # Invariants
//! - Equal entities are equal values, whatever their wire forms were.
//! - A change is reported as made only if the switch confirmed it. Where the
//!   outcome is unknown the call fails, and repeating it is harmless.
//! - Changes that depend on each other never share a Write.
//! - Every call has a limit of time; every queue is bounded, and what overflows
//!   is counted.
//!
//! # Cost
//! An entry costs two small shared allocations; comparing two is comparing
//! bytes. A Write costs one round trip per batch. A read-back costs the tables.
//!
//! # Not here
//! What to write and when to try again: that is the controller's. Architecture
//! specific externs, string-translated ports, and role configurations.
//!
//! Source: P4Runtime Specification 1.4.
//!
//! # Example
//! ```
//! use p4runtime_client::entity::{ActionCall, Entity, Match, TableKey};
//!
//! let entry = |octets: &[u8]| {
//!     let key = TableKey::new(7, Match::builder().exact(1, octets));
//!     Entity::table(key, ActionCall::bare(9))
//! };
//! // Leading zeros do not matter, and the way over the wire changes nothing.
//! assert_eq!(entry(&[0, 5]), entry(&[5]));
//! assert_eq!(Entity::from_proto(&entry(&[5]).to_proto()).unwrap(), entry(&[5]));
//! ```

pub mod canonical;
pub mod diff;
pub mod entity;
pub mod error;
pub mod names;
pub mod order;
pub mod packet;
pub mod pipeline;
pub mod read;
pub mod session;
pub mod target;
pub mod write;

pub use error::{Error, Result};
