//! The packet engine: executes BMv2 programs on octets.
//!
//! This is a library: it opens no port or socket, and knows no control plane protocol. `p4-switch` is built around it.
//!
//! # Problem
//! A program is known only when a controller loads it, and it must run at millions of packets a second on one core, while
//! control planes change its tables.
//!
//! # Model
//! `lower` turns the JSON document into a flat program once: names become indexes, fields become
//! slots of words, expressions become trees over machine words, keys become lists of slots.
//! A [`Pipeline`] is such a program with its state. Any number of [`Worker`]s, one per thread,
//! run packets through it. They share only counters, meters, registers and the tables
//! ([`tables`]), which they read without waiting.
//!
//! | file | what |
//! | --- | --- |
//! | `layout`, `wire` | the place of headers in a packet's arena and on the wire |
//! | `term`, `expr`, `value`, `pick` | expressions of any width, of machine words, their destinations, elements by index |
//! | `program`, `lower` | the program, and how it is made from JSON |
//! | `parse`, `control`, `action`, `hash`, `deparse` | the interpreter, in this order |
//! | `native` | machine code that does the same (feature `native`, on by default) |
//! | `worker`, `packet` | the path of a packet, its copies and its buffers |
//! | `externs`, `counts` | counters, meters, registers; the counts of a burst |
//! | [`tables`], [`trace`] | the data that control planes write and packets read; packets as text |
//! | `sink`, `trace::hooks`, `names` | output, hooks for observers, and names |
//!
//! # Invariants
//! - A field is always cut to its width. Fields of invalid headers read as 0 in keys, and a header
//!   that becomes valid starts with zeros: no packet ever shows data of another one.
//! - Slots come only from `lower`, so no frame and no table entry can produce an index
//!   that does not exist.
//! - Every frame ends: states, steps, passes and waiting copies are bounded by constants.
//!
//! # Cost
//! A packet causes no allocation and no look-up by name. Buffers of copies are reused. The
//! exceptions are arithmetic on values wider than 128 bits, and actions that lock registers.
//!
//! # What it does not do
//! It has no queues; they belong to the sink. A packet for a port without a queue leaves as soon as it is processed,
//! and its queueing metadata are 0. The caller keeps the order of a flow.
//!
//! # Example
//! ```
//! use p4_engine::{DigestFields, Pipeline, Sink, Worker};
//!
//! #[derive(Default)]
//! struct Frames(Vec<(u32, Vec<u8>)>);
//!
//! impl Sink for Frames {
//!     fn frame(&mut self, port: u32, data: &[u8]) {
//!         self.0.push((port, data.to_vec()));
//!     }
//!     fn digest(&mut self, _: u32, _: DigestFields<'_>) {}
//! }
//!
//! // A program with one table, whose default action drops.
//! let json = include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/../switch/tests/data/crossover.json"));
//! let program = bmv2_json::Program::from_slice(json).unwrap();
//! let (pipeline, _) = Pipeline::new(&program, None, 511).unwrap();
//! let mut out = Frames::default();
//! Worker::new(&pipeline, "example").batch().process(1, &[0; 64], 0, &mut out);
//! assert!(out.0.is_empty(), "no control plane has put in an entry yet");
//! ```
mod action;
mod control;
mod core;
mod counts;
mod deparse;
mod expr;
mod externs;
mod hash;
mod layout;
mod lower;
mod names;
#[cfg(feature = "native")]
mod native;
#[cfg(not(feature = "native"))]
#[path = "native_off.rs"]
mod native;
mod packet;
mod parse;
mod pick;
mod pipeline;
mod program;
mod refused;
mod sink;
pub mod tables;
mod term;
pub mod trace;
mod value;
mod wire;
mod word;
mod worker;

pub use lower::LowerError;
pub use names::{FieldName, KeyName};
pub use pipeline::Pipeline;
pub use sink::{DigestFields, Sink};
pub use trace::{Dropped, NoTrace, Trace};
pub use worker::{Batch, Waiting, Worker};
