//! P4Runtime server (specification 1.4; additions of 1.5 where noted).
//!
//! # Model
//! [`server::Server`] is one device: sessions, streams, a running and perhaps a saved [`pipeline::Pipeline`]. A pipeline
//! is a P4Info resolved ([`info`]), all its entities as plain data under their keys ([`state`]), and a
//! [`target::Target`] that executes them. [`write`](mod@write) checks updates against the state and collects operations
//! for the target; [`read`] plans and pages; [`session`] is arbitration; [`digest`] builds digest lists; [`packet`]
//! converts controller headers. [`service`] only wraps it in gRPC.
//!
//! # Invariants
//! - The state holds what clients wrote, in canonical form; reads are served from it (read-write symmetry). The target is asked only
//!   for values that the data plane changes: counters, registers, ages.
//! - An update changes everything that it should, or nothing. A whole `Write` becomes visible to packets at once.
//! - A pipeline replaces another only after it was loaded completely.
//! - No message of a client can cause a panic, allocate without bound or delay another client.
//!
//! # Cost
//! A write costs the same however full a table is. A read of n entries takes n references at the start, and then builds
//! one page of messages at a time.
//!
//! # Not supported
//! Group actions of one-shots, random selection, registers of structs: `UNIMPLEMENTED`.

pub mod action;
pub mod array;
pub mod bind;
pub mod bytestring;
pub mod derive;
pub mod device_config;
pub mod digest;
pub mod entries;
pub mod error;
pub mod info;
pub mod key;
pub mod memory;
pub mod octets;
pub mod packet;
pub mod pipeline;
pub mod ports;
mod pre;
mod profile;
pub mod read;
pub mod request;
pub mod role;
pub mod server;
pub mod service;
pub mod session;
pub mod state;
pub mod streams;
pub mod table;
pub mod target;
pub mod translation;
pub mod unnamed;
mod value_set;
pub mod write;
