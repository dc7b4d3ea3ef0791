//! A P4Runtime client for controllers that keep many switches in a desired state.
//!
//! # Problem
//! A controller must keep the entities of hundreds of switches equal to its
//! intent, over a protocol in which servers reorder batches, reply partially,
//! restart empty, and deviate from the specification, each in a different way.
//!
//! # Model
//! - [`session::Session`]: one stream to one switch, with mastership, events and a
//!   heartbeat. It lives until the first fault; its owner then opens another.
//! - [`entity::Entity`]: an object of a switch in a canonical, comparable, compact
//!   form; its key is hashable. Everything above the wire works with these.
//! - [`pipeline::Pipeline`]: program and P4Info with a cookie, pushed only to switches
//!   that run another one.
//! - [`mod@write`]: bounded batches with one outcome per change. [`read`]: everything
//!   that can be reconciled. [`diff`]: the changes from one state to another, pure.
//! - [`names::Names`], [`packet::PacketCodec`], [`order::Order`]: names, packet headers, and references between tables,
//!   all taken from the P4Info.
//! - [`target::Target`]: the capabilities of a server. No other module distinguishes between products.
//!
//! # Invariants
//! - Equal entities are equal values, whatever their wire forms were.
//! - A change is reported as made only if the switch confirmed it. Where the
//!   outcome is unknown the call fails, and repeating it is harmless.
//! - Changes that depend on each other never share a Write.
//! - Every call has a time limit; every queue is bounded, and overflow
//!   is counted.
//!
//! # Cost
//! An entry takes two small shared allocations; two entries are compared byte by byte. A Write costs one round trip per
//! batch. The cost of a read-back is linear in the size of the tables.
//!
//! # Not here
//! The controller decides what to write and when to try again. Architecture-specific
//! externs, string-translated ports and role configurations are not supported.
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
//! // Leading zeros do not matter.
//! assert_eq!(entry(&[0, 5]), entry(&[5]));
//! // Encoding and decoding change nothing.
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
