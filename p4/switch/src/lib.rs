//! A software P4 target that executes BMv2 JSON and serves P4Runtime and gNMI.
//!
//! **Problem.** Controllers, labs and tests need a P4Runtime switch that runs on any Linux host from one binary.
//!
//! **Model.** The library `p4-engine` runs the program. Around it are the ports ([`port`], [`links`]), the threads that forward
//! between them ([`forwarding`]), egress queues ([`queues`]), and the servers: P4Runtime ([`p4runtime`]), gNMI ([`gnmi`]) and the
//! commands of `simple_switch_CLI` ([`commands`]). [`device`] joins servers and data plane; [`serve`] puts the servers behind one
//! gRPC port, and [`access`] decides by certificate which calls a peer may make.
//!
//! **Invariants.** Every lost frame is counted. A P4Runtime `Write` takes effect for packets as a whole. Packets never wait for a
//! server, nor a server for a slow client.
//!
//! **Cost.** Without queues, traces and captures a packet pays only for tests of flags. An entry is held twice, as a
//! row for control planes and as a record for packets; `docs/adr/switch-3` and `docs/p4-switch.md` have the octets per
//! entry, and the packets and updates per second. A change of a table is made in two copies, one after the other.
//!
//! # Example
//! ```
//! use p4_switch::p4runtime::derive;
//!
//! let json = include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/crossover.json"));
//! let program = bmv2_json::Program::from_slice(json).unwrap();
//! let info = derive::p4info(&program);
//! assert_eq!(info.tables[0].preamble.as_ref().unwrap().name, "ingress.wires");
//! ```
pub mod access;
pub mod commands;
pub mod device;
pub mod forwarding;
pub mod gnmi;
pub mod gnoi;
pub mod links;
pub mod p4runtime;
pub mod port;
pub mod queues;
pub mod serve;
pub mod startup;
